"""Where on a map of the tasks an agent takes its task to be: a reading of its belief.

It serves those who look at an agent, and nothing else: no gradient reaches what it reads. It is
trained by maximum likelihood on training tasks, so it says what can be known of the task from the
belief, whatever the belief's decoder makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.adam import Adam, AdamState
from metarl.maths.params import Params, flatten, unflatten
from metarl.networks.layers import perceptron, perceptron_params

CELLS = {1: 60, 2: 20}
"""Dimensions of a task ↦ cells along each axis."""
_MOST_TASKS = 128  # of a finite distribution, each of which then is a cell
_HIDDEN = (64,)
_STEPS, _ROWS, _LR = 8, 2048, 3e-3  # of Adam an iteration, and the beliefs of each


@dataclass(frozen=True)
class TaskMap:
    """(belief) → the probability of each cell of a map of the tasks.

    Attributes:
        points: The cells' middles, or all tasks where there are few, float64 ``[C, d]``.
        belief_size: Numbers of a belief.
    """

    points: Tensor
    belief_size: int

    @classmethod
    def of(cls, tasks: np.ndarray, belief_size: int) -> TaskMap | None:
        """One of the region that a large sample of tasks ``[n, d]`` fills.

        Returns:
            None where tasks have more than two dimensions, of which there is no picture.
        """
        if tasks.shape[1] not in CELLS:
            return None
        different = np.unique(tasks, axis=0)
        if len(different) <= _MOST_TASKS:
            return cls(torch.from_numpy(different), belief_size)
        low, high, cells = tasks.min(axis=0), tasks.max(axis=0), CELLS[tasks.shape[1]]
        axes = low + (high - low) * (np.arange(cells)[:, None] + 0.5) / cells  # [cells, d]
        points = np.stack(np.meshgrid(*axes.T, indexing="ij"), axis=-1)
        return cls(torch.from_numpy(points.reshape(-1, tasks.shape[1])), belief_size)

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters: every cell is as probable as every other."""
        sizes = (self.belief_size, *_HIDDEN, len(self.points))
        return perceptron_params(rng, "map", sizes, math.sqrt(2.0), 0.01)

    def log_probs(self, params: Mapping[str, Tensor], beliefs: Tensor) -> Tensor:
        """log p of each cell, ``[..., C]``, for beliefs ``[..., b]``."""
        return F.log_softmax(perceptron(params, "map", len(_HIDDEN), beliefs, torch.tanh), dim=-1)

    def loss(self, params: Mapping[str, Tensor], beliefs: Tensor, tasks: Tensor) -> Tensor:
        """−E[log p] of the cells that tasks ``[n, d]`` lie in, for beliefs ``[n, b]``."""
        size = self.points.amax(0) - self.points.amin(0)
        unit = torch.where(size > 0, size, 1.0)
        nearest = torch.cdist(tasks / unit, self.points / unit).argmin(1)
        return F.nll_loss(self.log_probs(params, beliefs), nearest)


@dataclass(frozen=True)
class TrainedMap:
    """A map with its parameters, fitted a little at every iteration; never changed in place.

    Attributes:
        map: The function.
        params: Its parameters, on the CPU.
        adam: Adam's memory of them.
    """

    map: TaskMap
    params: Params
    adam: AdamState

    @classmethod
    def fresh(cls, task_map: TaskMap, rng: np.random.Generator) -> TrainedMap:
        """Before it has seen a belief."""
        params = task_map.init(rng)
        return cls(task_map, params, AdamState.fresh(flatten(params)))

    def fitted(
        self, rng: np.random.Generator, beliefs: Tensor, tasks: Tensor, valid: Tensor
    ) -> tuple[TrainedMap, float]:
        """After a few steps on some of the beliefs, and the mean loss of these steps, nats.

        Args:
            rng: Chooses the beliefs.
            beliefs: ``[n, S, b]``.
            tasks: That they are about, ``[n, d]``.
            valid: bool ``[n, S]``.
        """
        of_lane, step = valid.nonzero(as_tuple=True)
        x, adam, losses = flatten(self.params), self.adam, []
        for _ in range(_STEPS):
            rows = torch.from_numpy(rng.integers(len(step), size=_ROWS))
            lanes = of_lane[rows]
            leaf = x.detach().requires_grad_()
            params = unflatten(leaf, self.params)
            loss = self.map.loss(params, beliefs[lanes, step[rows]].detach(), tasks[lanes])
            (gradient,) = torch.autograd.grad(loss, leaf)
            x, adam = Adam().step(x, gradient, adam, _LR)
            losses.append(float(loss.detach()))
        fitted = replace(self, params=unflatten(x, self.params), adam=adam)
        return fitted, sum(losses) / len(losses)

    @torch.no_grad()
    def probabilities(self, beliefs: Tensor) -> Tensor:
        """Of each cell ``[..., C]``, for beliefs ``[..., b]``."""
        return self.map.log_probs(self.params, beliefs).exp()

    def state_dict(self) -> dict[str, Any]:
        """The cells, the parameters, Adam's memory."""
        return {"points": self.map.points, "params": self.params, **self.adam.state_dict()}

    def restored(self, state: Mapping[str, Any]) -> TrainedMap:
        """What :meth:`state_dict` returned, of the same cells."""
        return replace(self, params=dict(state["params"]), adam=AdamState.from_state(state, "cpu"))
