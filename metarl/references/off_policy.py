"""TD3 and DDPG of stable-baselines3, trained on experience that is handed to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG, TD3
from stable_baselines3.common.logger import Logger
from torch import Tensor

from metarl.adaptation.actor_critic import Recipe
from metarl.experience.replay import Rows
from metarl.maths.params import Params
from metarl.networks.critics import DeterministicActor
from metarl.references.per_task import global_generators

BATCH = 256
"""Transitions of an update, stable-baselines3's default."""


class OffPolicyPolicies:
    """M agents of stable-baselines3, see :class:`metarl.agents.fresh_agent.Policies`.

    Sizes of networks, step sizes, discount, target networks and exploration are the recipe's.

    Args:
        kind: "td3" or "ddpg".
        recipe: How they learn, as far as it concerns them.
        sizes: Numbers of an observation and of an action.
        rngs: Of each one's initial parameters.
    """

    def __init__(
        self,
        kind: Literal["td3", "ddpg"],
        recipe: Recipe,
        sizes: tuple[int, int],
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self.recipe = recipe
        self.policy = DeterministicActor(*sizes, recipe.hidden_sizes)
        self.steps_kept = 0.0
        self._models = []
        for rng in rngs:
            with global_generators(rng):
                self._models.append(_model(kind, recipe, *sizes))

    @property
    def actors(self) -> Params:
        """Their parameters ``[M, ...]``."""
        stacked: Params = {}
        for i in range(len(self.recipe.hidden_sizes) + 1):
            # An activation follows every layer, so layers have even places.
            layers: list[Any] = [model.actor.mu[2 * i] for model in self._models]
            weights = [layer.weight.detach().T.clone() for layer in layers]
            biases = [layer.bias.detach().clone().unsqueeze(0) for layer in layers]
            name = f"{self.policy.name}{i}"
            stacked |= {f"{name}.weight": torch.stack(weights), f"{name}.bias": torch.stack(biases)}
        return stacked

    def keep(self, episodes: Sequence[Rows]) -> None:
        """Put each one's episodes ``[L, S, ...]`` into its replay."""
        for model, rows in zip(self._models, episodes, strict=True):
            valid = rows["valid"]
            steps = {name: _numpy(part[valid]) for name, part in rows.items()}
            buffer: Any = model.replay_buffer
            for t in range(int(valid.sum())):
                buffer.add(
                    steps["observations"][t],
                    steps["next_observations"][t],
                    steps["actions"][t].clip(-1.0, 1.0),
                    steps["rewards"][t],
                    steps["terminated"][t],  # a time limit is no end
                    [{}],
                )
            self.steps_kept += float(valid.sum()) / len(self._models)

    def learn(self, rng: np.random.Generator) -> None:
        """As many critic updates of each as there are to one of the recipe's policies."""
        with global_generators(rng):
            for model in self._models:
                model.train(self.recipe.policy_delay, BATCH)


def _model(kind: str, recipe: Recipe, observed: int, acted: int) -> TD3:
    """One of them, which never steps an environment."""
    own: dict[str, Any] = {}
    if kind == "td3":
        own = {
            "policy_delay": recipe.policy_delay,
            "target_policy_noise": recipe.target_noise,
            "target_noise_clip": recipe.target_noise_clip,
        }
    model = {"td3": TD3, "ddpg": DDPG}[kind](
        "MlpPolicy",
        None,  # its spaces are set as stable-baselines3's load() does
        learning_rate=recipe.critic_lr,
        buffer_size=recipe.capacity * recipe.sequence,
        batch_size=BATCH,
        tau=recipe.target_rate,
        gamma=recipe.discount,
        policy_kwargs={"net_arch": list(recipe.hidden_sizes)},
        device="cpu",
        _init_setup_model=False,
        **own,
    )
    model.observation_space = spaces.Box(-np.inf, np.inf, (observed,), np.float32)
    model.action_space = spaces.Box(-1.0, 1.0, (acted,), np.float32)
    model.n_envs = 1
    model._setup_model()
    model.set_logger(Logger(None, []))
    return model


def _numpy(x: Tensor) -> np.ndarray:
    """Rows ``[n, ...]``, each with an axis of one environment."""
    return x.numpy()[:, None]
