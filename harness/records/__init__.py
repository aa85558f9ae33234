"""What was measured: its type, its identity, its file, its origin."""
