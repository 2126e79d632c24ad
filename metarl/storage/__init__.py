"""Storage: files that are whole or absent, and safe to read."""
