"""Outer optimisers: how the meta-parameters move, given what they need to know of the objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.maths.losses import clipped_surrogate, value_loss
from metarl.maths.solvers import backtracking_line_search, conjugate_gradient


@dataclass(frozen=True)
class TRPO:
    """Trust-region policy optimisation (Schulman et al. 2015).

    maximise improvement subject to mean KL <= max_kl: direction s from F s = −g by conjugate
    gradient, length √(2 max_kl / sᵀF s), then a line search on the true objective and KL.

    Attributes:
        max_kl: The trust region's size, nats.
        cg_steps: Conjugate-gradient steps.
        cg_damping: Added to the Fisher matrix's diagonal.
        line_search_steps: Candidates at most.
        line_search_ratio: Shrinkage between candidates.
    """

    max_kl: float = 0.01
    cg_steps: int = 10
    cg_damping: float = 1e-5
    line_search_steps: int = 15
    line_search_ratio: float = 0.8

    def step(
        self,
        x: Tensor,
        gradient: Tensor,
        fisher_product: Callable[[Tensor], Tensor],
        evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
        loss: Tensor,
    ) -> TRPOResult:
        """One update of the parameters.

        Args:
            x: Parameters ``[P]``.
            gradient: Of the loss at x ``[P]``.
            fisher_product: v ``[P]`` ↦ F v ``[P]`` at x.
            evaluate: Candidate ``[P]`` ↦ (loss, mean KL from the policy at x), scalars.
            loss: The loss at x, a scalar.

        Returns:
            The new parameters; x itself, to the bit, where no candidate both improves the loss
            and stays within ``max_kl``.
        """

        def damped(v: Tensor) -> Tensor:
            return fisher_product(v) + self.cg_damping * v

        direction = -conjugate_gradient(damped, gradient, self.cg_steps)
        curvature = direction.dot(damped(direction))
        step = direction * (2.0 * self.max_kl / curvature).sqrt()
        tried: list[tuple[Tensor, Tensor]] = []
        finite = bool(torch.isfinite(step).all()) and bool(curvature > 0)

        def accept(candidate: Tensor) -> bool:
            tried.append(evaluate(candidate))
            new_loss, kl = tried[-1]
            return bool((new_loss < loss) & (kl <= self.max_kl))

        tries = self.line_search_steps if finite else 0
        result = backtracking_line_search(
            accept, x, step, tries=tries, ratio=self.line_search_ratio
        )
        new_loss, kl = tried[-1] if result.accepted else (loss, torch.zeros_like(loss))
        return TRPOResult(result.x, result.accepted, float(new_loss), float(kl), len(tried))


class TRPOResult(NamedTuple):
    """What one TRPO update brought.

    Attributes:
        x: The parameters after it ``[P]``.
        accepted: Whether the line search took a candidate.
        loss: The loss at x.
        kl: The mean KL from before to after, nats.
        tries: Candidates evaluated.
    """

    x: Tensor
    accepted: bool
    loss: float
    kl: float
    tries: int


class AdamState(NamedTuple):
    """What Adam remembers.

    Attributes:
        step: Updates so far.
        mean: Running mean of the gradient ``[P]``.
        square: Running mean of its square ``[P]``.
    """

    step: int
    mean: Tensor
    square: Tensor

    @classmethod
    def fresh(cls, x: Tensor) -> AdamState:
        """Before the first update of parameters ``[P]``."""
        return cls(0, torch.zeros_like(x), torch.zeros_like(x))

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint holds it, on the CPU."""
        moments = {"mean": self.mean.cpu(), "square": self.square.cpu()}
        return {"adam": moments, "adam_step": self.step}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device | str) -> AdamState:
        """What :meth:`state_dict` returned, which may stand among other things."""
        moments = state["adam"]
        return cls(
            int(state["adam_step"]), moments["mean"].to(device), moments["square"].to(device)
        )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on parameters as one vector.

    Attributes:
        beta1: Decay of the gradient's running mean.
        beta2: Decay of its square's.
        eps: Added to the square root.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-5

    def step(
        self, x: Tensor, gradient: Tensor, state: AdamState, lr: float
    ) -> tuple[Tensor, AdamState]:
        """x − lr · m̂ / (√v̂ + ε) ``[P]``, and the next state; the arguments stay as they are."""
        step = state.step + 1
        mean = torch.lerp(state.mean, gradient, 1.0 - self.beta1)
        square = torch.lerp(state.square, gradient.square(), 1.0 - self.beta2)
        root = (square / (1.0 - self.beta2**step)).sqrt() + self.eps
        return x - lr / (1.0 - self.beta1**step) * mean / root, AdamState(step, mean, square)


class Rows(NamedTuple):
    """What PPO holds fixed during an update: a row a lane, all ``[S, N]``, time first.

    Attributes:
        log_probs: log π_old(a|s).
        values: V_old.
        advantages: Â, normalised or not.
        returns: Targets of the critic.
        valid: Steps that count, bool.
    """

    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    valid: Tensor

    def lanes(self, index: Tensor) -> Rows:
        """Some of the lanes ``[n]``."""
        return Rows(*(x[:, index] for x in self))


class Evaluated(NamedTuple):
    """The present policy and critic on the same steps, all ``[S, n]``."""

    log_probs: Tensor
    entropies: Tensor
    values: Tensor


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimisation (Schulman et al. 2017) over whole rows.

    A minibatch is a set of lanes with all their steps, since a recurrent policy has no loose ones.
    Its loss is the mean over the valid steps of surrogate + c_V · value loss − c_H · entropy.

    Attributes:
        clip: ε of the ratio.
        value_clip: How far the critic's loss follows it from V_old; None: anywhere.
        value_weight: c_V.
        entropy_weight: c_H.
        epochs: Passes over the rows.
        minibatches: Into which a pass cuts the lanes.
        max_gradient_norm: Longer gradients are shortened to it.
        target_kl: End the update when a minibatch finds π this far from π_old, nats; None: never.
        adam: Takes the steps.
    """

    clip: float = 0.2
    value_clip: float | None = None
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    epochs: int = 2
    minibatches: int = 4
    max_gradient_norm: float = 0.5
    target_kl: float | None = None
    adam: Adam = Adam()

    def loss(self, new: Evaluated, old: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one minibatch, and what it consists of, detached."""
        weights = old.valid.to(new.values.dtype) / old.valid.sum()
        surrogate = clipped_surrogate(new.log_probs, old.log_probs, old.advantages, self.clip)
        error = value_loss(new.values, old.values, old.returns, self.value_clip)
        policy, value, entropy = ((weights * x).sum() for x in (surrogate, error, new.entropies))
        log_ratio = (new.log_probs - old.log_probs).detach()
        clipped = (log_ratio.exp() - 1.0).abs() > self.clip
        parts = {
            "loss/policy": policy.detach(),
            "loss/value": value.detach(),
            "policy/entropy": entropy.detach(),
            # An estimate that is never negative, unlike −E[log ratio]: E[ratio − 1 − log ratio].
            "kl/update": (weights * (log_ratio.expm1() - log_ratio)).sum(),
            "clip_fraction": (weights * clipped).sum(),
        }
        return policy + self.value_weight * value - self.entropy_weight * entropy, parts

    def update(
        self,
        x: Tensor,
        state: AdamState,
        rows: Rows,
        evaluate: Callable[[Tensor, Tensor], Evaluated],
        lr: float,
        rng: np.random.Generator,
    ) -> tuple[Tensor, AdamState, dict[str, float]]:
        """All epochs of one update.

        Args:
            x: Parameters ``[P]``.
            state: Adam's.
            rows: The data.
            evaluate: (parameters ``[P]``, lanes ``[n]``) ↦ π and V on their steps.
            lr: Step size.
            rng: Deals the lanes into minibatches.

        Returns:
            The new parameters, Adam's new state, and metrics: means over the steps taken;
            of ``kl/update`` and ``clip_fraction`` over those of the last epoch.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        lanes = rows.valid.shape[1]
        epochs: list[list[dict[str, float]]] = []
        stopped = False
        while len(epochs) < self.epochs and not stopped:
            epochs.append([])
            for chosen in np.array_split(rng.permutation(lanes), self.minibatches):
                index = torch.from_numpy(chosen).to(x.device)
                leaf = x.detach().requires_grad_()
                loss, parts = self.loss(evaluate(leaf, index), rows.lanes(index))
                found = {name: float(part) for name, part in parts.items()}
                if self.target_kl is not None and found["kl/update"] > self.target_kl:
                    stopped = True
                    break
                gradient = torch.autograd.grad(loss, leaf)[0]
                norm = gradient.norm()
                _check_finite(loss, norm)
                shorten = (self.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
                x, state = self.adam.step(x, gradient * shorten, state, lr)
                epochs[-1].append(found | {"gradient_norm": float(norm)})
        epochs = [epoch for epoch in epochs if epoch]
        every = [found for epoch in epochs for found in epoch]
        metrics = {name: _mean(every, name) for name in every[0]}
        metrics |= {name: _mean(epochs[-1], name) for name in ("kl/update", "clip_fraction")}
        return x, state, metrics | {"update_steps": float(len(every))}


def _mean(found: list[dict[str, float]], name: str) -> float:
    return sum(x[name] for x in found) / len(found)


def _check_finite(loss: Tensor, gradient_norm: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError("the loss of PPO is not finite")
    if not torch.isfinite(gradient_norm):
        raise FloatingPointError("the gradient of PPO is not finite")
