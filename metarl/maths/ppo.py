"""Proximal policy optimisation over whole rows, for policies with a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.maths.adam import Adam, AdamState
from metarl.maths.finite import check_finite
from metarl.maths.losses import clipped_surrogate, value_loss


class PPOData(NamedTuple):
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

    def lanes(self, index: Tensor) -> PPOData:
        """Some of the lanes ``[n]``."""
        return PPOData(*(x[:, index] for x in self))


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
    """

    clip: float
    value_clip: float | None
    value_weight: float
    entropy_weight: float
    epochs: int
    minibatches: int
    max_gradient_norm: float
    target_kl: float | None

    def loss(self, new: Evaluated, old: PPOData) -> tuple[Tensor, dict[str, Tensor]]:
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
        data: PPOData,
        evaluate: Callable[[Tensor, Tensor], Evaluated],
        lr: float,
        rng: np.random.Generator,
    ) -> tuple[Tensor, AdamState, dict[str, float]]:
        """All epochs of one update.

        Args:
            x: Parameters ``[P]``.
            state: Adam's.
            data: Of all lanes.
            evaluate: (parameters ``[P]``, lanes ``[n]``) ↦ π and V on their steps.
            lr: Step size.
            rng: Deals the lanes into minibatches.

        Returns:
            The new parameters, Adam's new state, and metrics: means over the steps taken, or, where
            there was none, of the minibatch that ended the update, without ``gradient_norm``; of
            ``kl/update`` and ``clip_fraction`` over the minibatches of the last epoch, the one that
            ended the update among them.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        lanes = data.valid.shape[1]
        steps: list[dict[str, float]] = []
        stopped = False
        for _ in range(self.epochs):
            epoch: list[dict[str, float]] = []  # of the minibatches looked at
            for chosen in np.array_split(rng.permutation(lanes), self.minibatches):
                index = torch.from_numpy(chosen).to(x.device)
                leaf = x.detach().requires_grad_()
                loss, parts = self.loss(evaluate(leaf, index), data.lanes(index))
                epoch.append({name: float(part) for name, part in parts.items()})
                if self.target_kl is not None and epoch[-1]["kl/update"] > self.target_kl:
                    stopped = True
                    break
                gradient = torch.autograd.grad(loss, leaf)[0]
                norm = gradient.norm()
                check_finite("the loss of PPO is", loss)
                check_finite("the gradient of PPO is", norm)
                shorten = (self.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
                x, state = Adam().step(x, gradient * shorten, state, lr)
                steps.append(epoch[-1] | {"gradient_norm": float(norm)})
            if stopped:
                break
        taken = steps or epoch  # of none: a memory may amplify rounding beyond the target
        metrics = {name: _mean(taken, name) for name in taken[0]}
        metrics |= {name: _mean(epoch, name) for name in ("kl/update", "clip_fraction")}
        return x, state, metrics | {"update_steps": float(len(steps))}


def _mean(metrics: list[dict[str, float]], name: str) -> float:
    return sum(x[name] for x in metrics) / len(metrics)
