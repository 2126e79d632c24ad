"""Suites: many runs from one file, scheduled on a machine or a cluster, and compared at the end."""
