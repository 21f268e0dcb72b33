"""Training: the loop, and what serves it."""
