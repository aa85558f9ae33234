"""Time, memory and work of a prefill and of new tokens."""
