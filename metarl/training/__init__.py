"""Training: from a config to its parts, the loop, and runs that are loaded again."""
