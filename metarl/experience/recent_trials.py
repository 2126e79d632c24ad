"""The trials of the last iterations, in memory: a model learns from more than the newest ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.experience.shards import trimmed
from metarl.types import Trial

_STEPS = ("observations", "actions", "rewards", "terminated", "truncated", "valid", "episode_start")
_KEPT = (*_STEPS, "final_observations")


class RecentTrials:
    """The newest trials, each a lane with its task; the oldest make room.

    They are kept as blocks, one an iteration, and never written to. Log-probabilities and values,
    which are of the policy that played, are not kept.

    Args:
        capacity: Trials, at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return sum(len(block["rewards"]) for block in self._blocks)

    @staticmethod
    def step_bytes(observation_dim: int, action_bytes: int) -> int:
        """Of one step of one trial."""
        return 4 * observation_dim + action_bytes + 4 + 4  # the reward, and four flags

    def add(self, trial: Trial, tasks: np.ndarray) -> None:
        """All lanes of a trial ``[M, L, S]`` of tasks ``[M, d]``, on the CPU."""
        block = {name: getattr(trial, name).flatten(0, 1) for name in _KEPT}
        lanes = trial.rewards.shape[1]
        block["tasks"] = torch.from_numpy(np.repeat(tasks, lanes, axis=0))
        self._blocks.append(block)
        while (over := len(self) - self._capacity) > 0:
            oldest = self._blocks.pop(0)
            if over < len(oldest["rewards"]):
                self._blocks.insert(0, {name: x[over:].clone() for name, x in oldest.items()})

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Trial, Tensor]:
        """So many different trials as ``[n, 1, S]``, or all there are; their tasks ``[n, d]``.

        Any set of them is as probable as any other.
        """
        chosen = np.sort(rng.permutation(len(self))[:count])
        found: list[dict[str, Tensor]] = []
        first = 0
        for block in self._blocks:
            end = first + len(block["rewards"])
            own = torch.from_numpy(chosen[(chosen >= first) & (chosen < end)] - first)
            if len(own):
                found.append({name: x[own] for name, x in block.items()})
            first = end
        longest = max(part["rewards"].shape[1] for part in found)
        rows = {
            name: torch.cat(
                [_padded(p[name], longest) if name in _STEPS else p[name] for p in found]
            )
            for name in (*_KEPT, "tasks")
        }
        tasks = rows.pop("tasks")
        parts = {name: x.unsqueeze(1) for name, x in rows.items()}
        none = torch.zeros_like(parts["rewards"])
        return trimmed(Trial(log_probs=none, values=None, **parts)), tasks

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The blocks, oldest first."""
        return list(self._blocks)

    def load_state_dict(self, state: Any) -> None:
        """What :meth:`state_dict` returned.

        Raises:
            ValueError: it is something else.
        """
        for block in state:
            if set(block) != {*_KEPT, "tasks"}:
                raise ValueError(f"the recent trials hold {sorted(block)}")
            if len({len(x) for x in block.values()}) > 1:
                raise ValueError("the recent trials have parts of several lengths")
        self._blocks = [dict(block) for block in state]


def _padded(x: Tensor, steps: int) -> Tensor:
    """Rows ``[n, S, ...]`` with zeros behind them, up to so many steps."""
    return F.pad(x, (*(0, 0) * (x.ndim - 2), 0, steps - x.shape[1]))
