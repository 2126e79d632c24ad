"""Tracking of a run: the console, its files, and Weights & Biases."""
