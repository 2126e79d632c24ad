"""Calibration: whether predictions come true as often as their probabilities say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """The reliability of predictions, by bins of equal width of their confidence.

    Bin b of :data:`BINS` holds confidences in (b / BINS, (b + 1) / BINS].

    Attributes:
        error: Expected calibration error, see :func:`calibration`.
        counts: Predictions in each bin.
        confidence: Their mean confidence; None, like what follows, in an empty bin.
        accuracy: The share of them that is right.
    """

    error: float
    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def pooled(parts: Sequence[Calibration]) -> Calibration:
    """The calibration of all their predictions together."""
    counts = np.array([part.counts for part in parts])  # [S, bins]
    known = [[[x or 0.0 for x in row] for row in (p.confidence, p.accuracy)] for p in parts]
    sums = (np.array(known) * counts[:, None]).sum(axis=0)  # [2, bins]
    return _of_sums(counts.sum(axis=0), *sums)


def calibration(confidence: np.ndarray, correct: np.ndarray) -> Calibration:
    """The expected calibration error Σ_b (n_b / n) |acc_b − conf_b| and what it is made of.

    Predictions are sorted into 15 bins by their confidence, the probability of the class that was
    predicted; conf_b is its mean over the n_b predictions of a bin, and acc_b the share of them
    that is right (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 5).

    Args:
        confidence: In [0, 1], any shape.
        correct: 1 where the predicted class is the right one, else 0, of the same shape.
    """
    confidence, correct = np.ravel(confidence).astype(np.float64), np.ravel(correct)
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts, confidence, correct = (
        np.bincount(place, weights, BINS) for weights in (None, confidence, correct)
    )
    return _of_sums(counts, confidence, correct)


def _of_sums(counts: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> Calibration:
    """From the number of predictions, and the sums of both, in each bin."""
    means = [
        [float(total / n) if n else None for total, n in zip(sums, counts, strict=True)]
        for sums in (confidence, correct)
    ]
    error = float(np.abs(correct - confidence).sum() / counts.sum())
    return Calibration(error, counts.astype(int).tolist(), *means)
