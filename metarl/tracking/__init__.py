"""Tracking of a run: the console, `metrics.jsonl`, Weights & Biases, and `meta.json`'s content."""

from __future__ import annotations

from metarl.storage.provenance import metadata
from metarl.tracking.tracker import Tracker, copy_evaluation
from metarl.tracking.wandb_run import Media, Table, is_tracked

__all__ = ["Media", "Table", "Tracker", "copy_evaluation", "is_tracked", "metadata"]
