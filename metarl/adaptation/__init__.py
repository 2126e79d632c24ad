"""Adaptation by gradient steps, and the objective that is seen through it."""
