"""A stored policy and the agents that play one, or at random, without stable-baselines3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.spaces import ShownActions, choices
from metarl.maths.distributions import action_family
from metarl.random import Key
from metarl.types import ActionMode, AdaptationAxis

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class ReferencePolicy:
    """A normaliser and an MLP; one for all tasks, or stacked, one for each of M tasks.

    Attributes:
        layers: Weight [o, h] and bias [h] of every layer, or [M, o, h] and [M, 1, h] stacked. The
            last gives means of actions, or logits.
        activation: "tanh" or "relu".
        log_std: Log standard deviation of the actions, [a] or [M, 1, a]; None for discrete ones.
        mean: Of the observations, float64 [o].
        scale: √(variance + ε) of the observations, float64 [o].
        clip: Bound of a normalised observation.
        choices: Where an action is several choices, among how many options each; else None.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    activation: str
    log_std: Tensor | None
    mean: np.ndarray
    scale: np.ndarray
    clip: float
    choices: tuple[int, ...] | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ReferencePolicy:
        """The policy in a stored state, see :func:`metarl.references.storage.save`.

        Raises:
            KeyError, TypeError, ValueError: it is no such state.
        """
        weights, normaliser = state["policy"], state["normaliser"]
        depth = len(state["architecture"]["hidden_sizes"])
        # In torch.nn.Sequential an activation follows every layer: layers have even places.
        names = [f"mlp_extractor.policy_net.{2 * i}" for i in range(depth)] + ["action_net"]
        variance = normaliser["obs_var"].double().numpy()
        activation = state["architecture"]["activation"]
        choices = state["architecture"].get("choices")
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}")
        return cls(
            layers=tuple((weights[f"{n}.weight"].float().T, weights[f"{n}.bias"]) for n in names),
            activation=activation,
            log_std=weights.get("log_std"),
            mean=normaliser["obs_mean"].double().numpy(),
            scale=np.sqrt(variance + float(normaliser["epsilon"])),
            clip=float(normaliser["clip_obs"]),
            choices=None if choices is None else tuple(map(int, choices)),
        )

    @classmethod
    def stack(cls, policies: Sequence[ReferencePolicy]) -> ReferencePolicy:
        """M policies of one shape and one normaliser as one."""
        first = policies[0]
        layers = []
        for own in zip(*(policy.layers for policy in policies), strict=True):
            weights, biases = zip(*own, strict=True)
            layers.append((torch.stack(weights), torch.stack(biases)[:, None]))
        log_std = None
        if first.log_std is not None:
            log_std = torch.stack([p.log_std for p in policies])[:, None]  # type: ignore[misc]
        return replace(first, layers=tuple(layers), log_std=log_std)

    @property
    def observed(self) -> int:
        """Length of the observation, the task vector included where it is seen."""
        return len(self.mean)

    @property
    def discrete(self) -> bool:
        """Whether actions are categories."""
        return self.log_std is None

    def normalise(self, observation: np.ndarray) -> np.ndarray:
        """Observations [..., o] as the network takes them, float32."""
        scaled = (observation.astype(np.float32) - self.mean) / self.scale
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    @torch.no_grad()
    def act(self, observation: np.ndarray, noise: Tensor | None) -> Tensor:
        """Actions: the mode without noise, else a sample; not clipped.

        Args:
            observation: [..., o], [M, B, o] if stacked.
            noise: Standard normal [..., a]; for discrete actions standard Gumbel [..., number].

        Returns:
            float32 [..., a], or int64 [...], or [..., d] of d choices.
        """
        x = torch.from_numpy(self.normalise(observation))
        *hidden, (weight, bias) = self.layers
        for inner_weight, inner_bias in hidden:
            x = ACTIVATIONS[self.activation](x @ inner_weight + inner_bias)
        out = x @ weight + bias  # means of actions, or logits
        if self.log_std is None:
            options = action_family(self.choices or True)(out)
            chosen: Tensor = options.mode() if noise is None else options.sample(noise)
            return chosen
        return out if noise is None else out + self.log_std.exp() * noise

    def draw_noise(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        """Noise for :meth:`act` on B lanes, float32 [B, a]."""
        size = (lanes, self.layers[-1][1].shape[-1])
        noise = rng.gumbel(size=size) if self.discrete else rng.standard_normal(size)
        return noise.astype(np.float32)


class _Unadapting:
    """The parts of a :class:`metarl.types.Agent` of an agent that learns nothing any more."""

    adaptation_axis: AdaptationAxis = "episode"
    privileged = False
    step_sizes: list[float] = []  # noqa: RUF012

    def observe(self, *args: np.ndarray, **named: np.ndarray) -> None:
        """Nothing to remember."""

    def adapt(self) -> None:
        """Nothing to learn."""


class PolicyAgent(_Unadapting):
    """One fixed policy for all tasks, which takes the mode of its distribution.

    Args:
        policy: Not stacked.
        sees_task: Whether its observation ends with the task vector: the oracle's does.
    """

    mode: ActionMode = "deterministic"

    def __init__(self, policy: ReferencePolicy, *, sees_task: bool) -> None:
        self._policy, self.privileged = policy, sees_task

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes, of these task vectors [M, d].

        Raises:
            ValueError: it sees the task, and none are given.
        """
        if self.privileged:
            if tasks is None:
                raise ValueError("The oracle needs the task vectors.")
            self._tasks = np.repeat(np.asarray(tasks)[:, None], lanes, axis=1)  # [M, B, d]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B], for observations [M, B, ...] without the task."""
        observation = observation.reshape(*observation.shape[:2], -1)  # images as rows of pixels
        if self.privileged:
            observation = np.concatenate([observation, self._tasks], axis=2)
        action = self._policy.act(observation, None).numpy()
        return action if self._policy.discrete else np.clip(action, -1.0, 1.0)


class RandomAgent(_Unadapting):
    """Uniform actions.

    Args:
        action_space: Of one lane, as agents are shown it.
        key: Names the stream of actions.
    """

    mode: ActionMode = "stochastic"

    def __init__(self, action_space: ShownActions, key: Key) -> None:
        self._space, self._key = action_space, key

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Expect M tasks × B lanes."""
        self._streams = [self._key.generator("evaluation", m) for m in range(num_tasks)]

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions [M, B, a], or int [M, B]: the next block of every task's own stream."""
        lanes = observation.shape[1]
        return np.stack([self._draw(rng, lanes) for rng in self._streams])

    def _draw(self, rng: np.random.Generator, lanes: int) -> np.ndarray:
        if isinstance(self._space, spaces.Discrete):
            return rng.integers(self._space.n, size=lanes) + self._space.start
        if not isinstance(self._space, spaces.Box):
            options = choices(self._space)[0]
            return rng.integers(options, size=(lanes, len(options)))
        return rng.uniform(self._space.low, self._space.high, size=(lanes, *self._space.shape))
