"""Agents: what acts, observes and adapts."""
