"""Runs: from a config to its environments and its algorithm, and from a run folder to its agent."""
