"""What is asked, cell by cell: reused, measured, kept."""
