"""The regression gate: what changed between two sets of records, each quantity by its nature."""
