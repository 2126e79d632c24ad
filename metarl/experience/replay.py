"""Replay: what was experienced before, kept in bounded memory, to be learned from again.

A :class:`Replay` has N buffers, of tasks, agents, or one alone, each a ring of C rows of one kind:
transitions, or whole trials. What is new since the last checkpoint is known by counting, so that a
checkpoint writes that and no more, see :mod:`metarl.storage.segments`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.types import Trial

Fields = Mapping[str, tuple[int, ...]]
"""What a row consists of: names, and the shape of each."""
Rows = dict[str, Tensor]


class Replay:
    """N rings of C rows; the newest overwrite the oldest.

    Rows are float32, in memory and on the disk; the memory is taken when the first row comes.

    Args:
        fields: Of a row.
        buffers: N.
        capacity: C, rows of each buffer.
        setting: The algorithm's setting that says so, for the refusal of one too large.

    Attributes:
        counts: Rows ever added to each buffer, int64 ``[N]``.
        segments: See :class:`metarl.storage.segments.Buffer`.
    """

    def __init__(
        self, fields: Fields, buffers: int, capacity: int, setting: str | None = None
    ) -> None:
        self.fields = dict(fields)
        self.capacity = capacity
        self.setting = setting
        self.counts = np.zeros(buffers, dtype=np.int64)
        self.segments: list[dict[str, Any]] = []
        self._ends: list[np.ndarray] = []  # counts at the end of each segment
        self._widths = [math.prod(shape) for shape in self.fields.values()]
        self._rows: Tensor | None = None  # [N, C, W]

    @property
    def nbytes(self) -> int:
        """Of memory, once there is a row."""
        return 4 * len(self.counts) * self.capacity * sum(self._widths)

    @property
    def sizes(self) -> np.ndarray:
        """Rows that each buffer holds, int64 ``[N]``."""
        return np.minimum(self.counts, self.capacity)

    def add(self, buffer: int, rows: Mapping[str, Tensor]) -> None:
        """Give a buffer rows ``[n, ...]`` of every field, oldest first."""
        flat = [
            rows[name].flatten(1) if shape else rows[name].unsqueeze(1)
            for name, shape in self.fields.items()
        ]
        self._put(buffer, torch.cat([part.to("cpu", torch.float32) for part in flat], dim=1))

    def sample(self, buffers: np.ndarray, n: int, rng: np.random.Generator) -> Rows:
        """n rows of each of M buffers ``[M, n, ...]``, uniform and with replacement.

        Args:
            buffers: Which, int ``[M]``.
            n: Rows of each.
            rng: Draws them.

        Raises:
            ValueError: one of them is empty.
        """
        sizes = self.sizes[buffers]
        if self._rows is None or not sizes.all():
            raise ValueError("there is nothing to sample from")
        slots = rng.integers(0, sizes[:, None], size=(len(buffers), n))
        index = torch.from_numpy(buffers).unsqueeze(1) * self.capacity + torch.from_numpy(slots)
        flat = self._rows.flatten(0, 1).index_select(0, index.flatten())
        parts = flat.view(len(buffers), n, -1).split(self._widths, dim=-1)
        named = zip(self.fields.items(), parts, strict=True)
        return {name: part.reshape(len(buffers), n, *shape) for (name, shape), part in named}

    def _put(self, buffer: int, rows: Tensor) -> None:
        if self._rows is None:
            self._rows = torch.empty(len(self.counts), self.capacity, sum(self._widths))
        count = int(self.counts[buffer])
        numbers = torch.arange(count, count + len(rows))[-self.capacity :]
        self._rows[buffer, numbers % self.capacity] = rows[-self.capacity :]
        self.counts[buffer] = count + len(rows)

    # A segment is int64 [2, N], the number of each buffer's first row in it and how many there are,
    # and then these rows, buffer by buffer, float32 [Σ n, W].

    def unsaved(self) -> list[np.ndarray]:
        """The parts of the next segment: what was added since the last one and is still there."""
        saved = self._ends[-1] if self._ends else np.zeros_like(self.counts)
        first = np.maximum(saved, self.counts - self.capacity)
        if self._rows is None or not (self.counts - saved).any():
            return []
        parts = [np.stack([first, self.counts - first]).astype("<i8")]
        for n, rows in enumerate(self._rows.numpy()):
            begin, size = first[n] % self.capacity, self.counts[n] - first[n]
            before_the_end = min(size, self.capacity - begin)
            parts += [rows[begin : begin + before_the_end], rows[: size - before_the_end]]
        return [part for part in parts if part.size]

    def saved(self, segment: dict[str, Any]) -> None:
        """What was unsaved lies in this segment; those that are overwritten whole are dropped."""
        self.segments.append(segment)
        self._ends.append(self.counts.copy())
        oldest = self.counts - self.capacity
        needed = [i for i, ends in enumerate(self._ends) if (ends > oldest).any()]
        self.segments = [self.segments[i] for i in needed]
        self._ends = [self._ends[i] for i in needed]

    def load(self, segment: dict[str, Any], content: np.ndarray) -> None:
        """Take back a segment, after those that were written before it.

        Raises:
            ValueError: it is not of such buffers.
        """
        size = 16 * len(self.counts)
        if len(content) < size:
            raise ValueError(f"it has {len(content)} bytes, fewer than its beginning")
        first, added = content[:size].view("<i8").reshape(2, -1)
        width = sum(self._widths)
        if (added < 0).any() or (first < self.counts).any():
            raise ValueError("it does not follow those before it")
        if len(content) - size != 4 * width * added.sum() or (added > self.capacity).any():
            raise ValueError(f"it does not hold rows of {width} numbers, {self.capacity} at most")
        rows = content[size:].view("<f4").reshape(-1, width)
        for n, block in enumerate(np.split(rows, np.cumsum(added)[:-1])):
            self.counts[n] = first[n]
            if len(block):
                self._put(n, torch.from_numpy(block.copy()))
        self.saved(segment)


# ---------------------------------------------------------------------------------------------
# Transitions


def transition_fields(observation_dim: int, action_dim: int) -> Fields:
    """Of a transition (s, a, r, s′), and whether the task ended with it."""
    return {
        "observations": (observation_dim,),
        "actions": (action_dim,),
        "rewards": (),
        "next_observations": (observation_dim,),
        "terminated": (),
    }


def transitions(trial: Trial) -> list[Rows]:
    """Of each task the transitions, lane after lane, ``[n, ...]``, and their ``episode`` too.

    The last step of an episode leads to its final observation; where a time limit ended it, it did
    not terminate.
    """
    rows = {
        "observations": trial.observations,
        "actions": trial.actions,
        "rewards": trial.rewards,
        "next_observations": trial.next_observations(),
        "terminated": trial.terminated,
        "episode": trial.episode_index(),
    }
    return [
        {name: part[task][valid] for name, part in rows.items()}
        for task, valid in enumerate(trial.valid)
    ]


# ---------------------------------------------------------------------------------------------
# Whole trials

_FLAGS = ("terminated", "truncated", "valid", "episode_start")


def trial_fields(
    steps: int, episodes: int, observation_dim: int, action_shape: tuple[int, ...]
) -> Fields:
    """Of a trial of E episodes, padded to S steps."""
    return {
        "observations": (steps, observation_dim),
        "actions": (steps, *action_shape),
        "rewards": (steps,),
        **dict.fromkeys(_FLAGS, (steps,)),
        "final_observations": (episodes, observation_dim),
    }


def trial_rows(trial: Trial, task: int, steps: int) -> Rows:
    """The trials of a task's lanes ``[L, ...]``, padded to S steps with zeros."""
    missing = steps - trial.valid.shape[-1]
    assert missing >= 0, "a trial is longer than the replay's"
    rows = {}
    for name in ("observations", "actions", "rewards", *_FLAGS):
        part = getattr(trial, name)[task]
        rows[name] = torch.cat([part, part.new_zeros(len(part), missing, *part.shape[2:])], dim=1)
    assert trial.final_observations is not None
    return rows | {"final_observations": trial.final_observations[task]}


def as_trial(rows: Mapping[str, Tensor], *, discrete: bool = False) -> Trial:
    """Sampled trials as a :class:`Trial` ``[M, n, S]`` again.

    Who acted then is not known any more: log-probabilities are 0.

    Args:
        rows: ``[M, n, ...]``.
        discrete: Actions are choices.
    """
    parts: dict[str, Any] = {name: rows[name] for name in rows.keys() & _TRIAL_FIELDS}
    parts |= {name: rows[name].bool() for name in _FLAGS}
    if discrete:
        parts["actions"] = rows["actions"].long()
    return Trial(**parts, log_probs=torch.zeros_like(rows["rewards"]), values=None)


_TRIAL_FIELDS = {field.name for field in fields(Trial)}
