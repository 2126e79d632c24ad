"""Recurrent off-policy learning: what soft actor-critic and DQN on whole trials have in common.

A trial of E episodes is one long episode of which the task is a hidden part. It is remembered as in
RL², and learned from many times, whole, from replay; targets come from networks that follow slowly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.algorithms.settings.recurrent_off_policy import WholeTrialSettings
from metarl.experience.metrics import means
from metarl.experience.scale import warn_of_scale
from metarl.experience.whole_trials import Play, Sequences, TrialBatch, TrialMemory
from metarl.maths.adam import Learned, load_states, states
from metarl.maths.distributions import Choices
from metarl.maths.params import Params, check_state, to_device
from metarl.maths.running_moments import RunningMoments
from metarl.networks.history import History, HistoryActor, all_normalized
from metarl.networks.input_features import InputFeatures
from metarl.networks.memory_cores import core_maker
from metarl.networks.spaces import number_sizes
from metarl.random import Key
from metarl.types import EpisodeSource


class RecurrentOffPolicy(ABC):
    """An algorithm that learns critics, and whatever else, from whole trials in replay.

    A subclass says which actions it knows, names its networks, and takes a gradient step.

    Args:
        config: Its settings.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
        horizon: Steps of an episode, at most.

    Raises:
        ValueError: actions are none that it knows, or images are observed.

    Attributes:
        learned: The networks by name; ``critic`` has targets.
        target: The parameters of these.
        buffers: The replay of trials.
    """

    optimiser_state: ClassVar[tuple[str, ...]] = ("optimisers",)
    takes_horizon: ClassVar[bool] = True
    choices: ClassVar[bool]
    actions_are: ClassVar[str]
    config: Any  # a subclass has more settings
    policy: Any

    def __init__(
        self,
        config: WholeTrialSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        horizon: int,
    ) -> None:
        observed, acted, choices = number_sizes(observation_space, action_space)
        if choices is not self.choices:
            raise ValueError(
                f"its actions are {self.actions_are}, and not {action_space}, for which there is "
                f"{_fitting(choices)}"
            )
        self.config = config
        self.device = torch.device(device)
        features = InputFeatures(observed, acted, choices, config.embeddings)
        core = core_maker(**config.core.model_dump())(features.size, config.width)
        networks = self._networks(History(features, core), acted, Key(seed).generator("init"))
        self.learned = {
            name: Learned(params, self.device, max_norm=config.max_gradient_norm)
            for name, params in networks.items()
        }
        self.target: Params = dict(self.learned["critic"].params)
        self.play = Play(config.tasks, config.lanes, config.episodes, config.initial_trials)
        shape, steps = self.policy.action_shape, config.episodes * horizon
        self.trials = TrialMemory(observed, shape, steps, config.episodes, config.capacity)
        self.buffers = {"replay": self.trials.replay}

    @abstractmethod
    def _networks(
        self, memory: History, action_dim: int, rng: np.random.Generator
    ) -> dict[str, Params]:
        """Make the policy and all else; their fresh parameters by the networks' names."""

    @abstractmethod
    def _actors(self, iteration: int) -> tuple[HistoryActor, HistoryActor]:
        """Who plays an iteration's trials, and who the initial ones."""

    @abstractmethod
    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step of everything, on whole trials; its metrics."""

    def collect(self, source: EpisodeSource, key: Key) -> TrialBatch:
        """Sample tasks, and play one trial on every lane; before the first, random ones."""
        batch = self.play.collect(source, *self._actors(key.iteration), key)
        if not self.config.normalize_inputs and key.iteration == 1:
            warn_of_scale(batch.trials[0], "normalize_inputs")
        return batch

    def update(self, batch: TrialBatch) -> dict[str, float]:
        """Keep what was played, then take the iteration's gradient steps; means over them.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        self.trials.add(batch.trials)
        rng = batch.key.generator("minibatch")
        return means([self._step(rng) for _ in range(self.config.updates)])

    def state_dict(self) -> dict[str, Any]:
        """Parameters, targets, moments, Adam's memories; the trials are saved beside it."""
        return states(self.learned) | {
            "target": to_device(self.target, "cpu"),
            "input_moments": self.trials.moments.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these networks.
        """
        check_state(state, RecurrentOffPolicy.state_dict(self))
        load_states(self.learned, state)
        self.target = to_device(state["target"], self.device)
        self.trials.moments = RunningMoments.from_state(state["input_moments"])

    def _sample(self, rng: np.random.Generator) -> Sequences:
        """The trials of a gradient step, normalised by the moments as they are now."""
        data = self.trials.sample(self.config.batch_trials, rng, bootstrap=self.config.bootstrap)
        inputs = all_normalized(data.inputs, self._moments)
        return data._replace(inputs=inputs).to(self.device)

    @property
    def _moments(self) -> RunningMoments | None:
        return self.trials.moments if self.config.normalize_inputs else None


def _fitting(choices: Choices) -> str:
    """The algorithm that knows such actions."""
    if not choices:
        return "recurrent_sac"
    return "recurrent_dqn" if choices is True else "rl2"
