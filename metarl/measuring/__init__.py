"""Measuring: agents and runs evaluated beside their references, compared, and published."""
