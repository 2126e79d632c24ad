"""Evaluation: measure how any agent adapts to tasks, and the statistics of what was found."""
