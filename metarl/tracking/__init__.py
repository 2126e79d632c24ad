"""Tracking of a run: the console, `metrics.jsonl`, Weights & Biases, and `meta.json`'s content."""

from __future__ import annotations

from metarl.tracking.metadata import metadata
from metarl.tracking.tracker import Tracker

__all__ = ["Tracker", "metadata"]
