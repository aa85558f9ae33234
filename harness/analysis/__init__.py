"""What follows from records: rows, intervals, tests, floors. No text."""
