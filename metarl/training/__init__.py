"""Training: the loop, and a whole run with all its files."""
