"""Words become a request; a result becomes output and an exit status."""
