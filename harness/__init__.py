"""Runs pruning methods on tasks, records what really happened, and makes tables from records."""
