"""A model with its processor, or a sentence that says what is wrong with it."""
