"""MetaGenRL: a population learns the objective by which policies are trained (Kirsch et al. 2020).

Agents i, each with a policy π_φi, critics and replay of its own, live in one of several
environments, for good. Their critics learn as in TD3. Their policies descend one objective that
they share, and which is a network: φ_i by Adam on ∇_φi L_α(τ, π_φi), τ sequences from replay. The
objective in turn ascends what the critics think of the policies after one plain step of it,

    α ascends  (1/n) Σ_i E[Q_i(s, π_φ′i(s))] / σ_i,   φ′_i = φ_i − η ∇_φi L_α(τ, π_φi),

with σ_i the deviation of Q_i over the batch, so that no environment outweighs another by its units.
The outer expectation is over τ's states and as many others. At first policies follow their critics
in the objective's place, and so does every second life of those that begin anew from time to time.

Nothing of an environment's size enters the objective, so it trains policies where it was never
trained; the agent of this algorithm is a fresh policy that knows nothing, with the objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.adaptation.actor_critic import (
    ActorCritics,
    Objective,
    Recipe,
    learn,
    learn_critics,
    summed,
)
from metarl.agents.fresh_agent import Exploration, FreshAgent
from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.experience.chunks import Chunks, steps_of
from metarl.experience.metrics import means
from metarl.experience.replay import Rows
from metarl.experience.rollout import RolloutWorker
from metarl.maths.adam import Learned, load_states, states
from metarl.maths.lookahead import Lookahead, look_ahead
from metarl.maths.params import check_state, flatten, to_device, unflatten
from metarl.networks.objective import ObjectiveNetwork
from metarl.networks.spaces import number_sizes
from metarl.random import Key
from metarl.types import ActionMode

Spaces = tuple[spaces.Space, spaces.Space]


@dataclass(frozen=True)
class PopulationBatch:
    """The data of one meta-iteration.

    Attributes:
        key: The meta-iteration's.
        episodes: In each environment those of its agents, see
            :func:`metarl.experience.chunks.steps_of`.
        metrics: Mean return in each environment.
        env_steps: Valid steps of all agents.
    """

    key: Key
    episodes: list[list[Rows]]
    metrics: dict[str, float]
    env_steps: int


class MetaGenRL:
    """MetaGenRL on deterministic policies with two critics each.

    Args:
        config: See :class:`MetaGenRLSettings`.
        observation_space: Of a single environment of the run's own.
        action_space: Likewise.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
        further: The spaces of the run's further environments.

    Raises:
        ValueError: actions are discrete, or images are observed, in one of them; or they are more
            than there are agents.

    Attributes:
        groups: The agents, by environments.
        buffers: Their replay, by environments.
    """

    config_class: ClassVar[type[MetaGenRLSettings]] = MetaGenRLSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("optimisers",)
    takes_further_envs: ClassVar[bool] = True

    def __init__(
        self,
        config: MetaGenRLSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        further: Sequence[Spaces] = (),
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        own = (observation_space, action_space)
        self._sizes = [network_sizes(*each) for each in (own, *further)]
        if len(self._sizes) > config.population:
            raise ValueError(
                f"a population of {config.population} cannot live in {len(self._sizes)} "
                "environments: each has an agent at least"
            )
        self.recipe = recipe_of(config)
        self.network = ObjectiveNetwork(config.objective_width)
        params = self.network.init(Key(seed).generator("init"))
        norm = config.max_gradient_norm
        self.objective = Learned(params, self.device, max_norm=norm)
        self.groups = [
            ActorCritics(
                self.recipe,
                sizes,
                self._fresh(Key(seed).at(1), k),
                self.device,
            )
            for k, sizes in enumerate(self._sizes)
        ]
        self.buffers = {f"replay_{k}": group.replay for k, group in enumerate(self.groups)}

    def collect(self, source: RolloutWorker, key: Key) -> PopulationBatch:
        """Play every agent in its environment, with the task that is its own."""
        episodes, metrics, env_steps = [], {}, 0
        for k, (name, place) in enumerate({"env": source, **source.others}.items()):
            group = self.groups[k]
            tasks = place.sample_tasks(group.count, Key(key.seed).at(k))
            trial = place.collect(Exploration.of(group), tasks, self.config.lanes, key.at(k))
            episodes.append([steps_of(trial, m) for m in range(group.count)])
            metrics[f"return/{name}"] = float(trial.returns().mean())
            env_steps += trial.env_steps
        return PopulationBatch(key, episodes, metrics, env_steps)

    def update(self, batch: PopulationBatch) -> dict[str, float]:
        """Keep what was played, then take the iteration's gradient steps; means over them.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        for k, (group, episodes) in enumerate(zip(self.groups, batch.episodes, strict=True)):
            lives = self._lives(group)
            group.keep(episodes)
            if self._lives(group) > lives:
                group.begin_policies(self._fresh(batch.key, k))
        rngs = [batch.key.generator("minibatch", k) for k in range(len(self.groups))]
        rounds = self.recipe.rounds(batch.env_steps / self.config.population)
        return means([self._step(rngs) for _ in range(rounds)])

    def _step(self, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """Updates of every critic, then one of every policy and of the objective."""
        batches, error = learn_critics(self.groups, rngs)
        ahead = self.look_ahead(batches[0], list(map(Chunks.join, *batches[:2])))
        along = []
        for group, chunks, gradient, ascent in zip(
            self.groups, batches[0], ahead.inner, ahead.ascent, strict=True
        ):
            along.append(group.cosines(-gradient, ascent))
            group.improve(self._mixed(group, gradient, ascent), chunks)
        self.objective.move("the objective's worth", ahead.outer, self.config.objective_lr)
        return {
            "loss/critic": error,
            "objective/agreement": torch.cat(along).mean(),
            "objective/gain": ahead.gain,
            "objective/gradient": torch.cat(ahead.inner).norm(),
            "objective/worth": ahead.worth,
        }

    def look_ahead(self, inner: Sequence[Chunks], outer: Sequence[Chunks]) -> Lookahead:
        """What the objective does to every policy, and how it should change.

        Args:
            inner: The batch in each environment that the objective reads.
            outer: That of the states in which the changed policies are judged.
        """
        groups, like = self.groups, self.objective.params
        units = [g.deviation(b).clamp(min=1e-6) for g, b in zip(groups, outer, strict=True)]

        def loss(alpha: Tensor, phis: Sequence[Tensor]) -> Tensor:
            return summed(partial(self.network, unflatten(alpha, like)), groups, inner, phis)

        def worth(phis: Sequence[Tensor]) -> Tensor:
            each = [g.worth(b, phi) for g, b, phi in zip(groups, outer, phis, strict=True)]
            return (torch.cat(each) / torch.cat(units)).mean()

        phis = [group.phi for group in groups]
        return look_ahead(loss, worth, flatten(like), phis, self.config.inner_lr)

    def _lives(self, group: ActorCritics) -> int:
        """How often its policies have begun anew."""
        lifetime = self.config.lifetime
        return 0 if lifetime is None else int(group.steps_kept // lifetime)

    def _fresh(self, key: Key, place: int) -> list[np.random.Generator]:
        """Of the initial parameters of the agents that live in one of the environments, in turn."""
        agents = range(place, self.config.population, len(self._sizes))
        return [key.generator("init", i) for i in agents]

    def _mixed(self, group: ActorCritics, gradient: Tensor, ascent: Tensor) -> Tensor:
        """What policies descend: the objective, or their critics; while these leave, directions."""
        share = self._share(group)
        with_critics = share < 1.0
        if not with_critics.any():
            return gradient
        ours, critics = (group.lengths(each).clamp(min=1e-12) for each in (gradient, ascent))
        ours = group.scaled(gradient, torch.where(with_critics, share / ours, 1.0))
        return ours - group.scaled(ascent, (1.0 - share) / critics)

    def _share(self, group: ActorCritics) -> Tensor:
        """The objective's in what moves each policy ``[M]``, from 0 to 1."""
        progress = min(group.steps_kept / max(self.config.anneal_steps, 1), 1.0)
        share = torch.full((group.count,), progress, device=self.device)
        if self.config.lifetime is not None:
            share[self._lives(group) % 2 :: 2] = 0.0
        return share

    def state_dict(self) -> dict[str, Any]:
        """The objective, and all of every agent; what they remember is saved beside it."""
        targets = {str(k): to_device(g.target, "cpu") for k, g in enumerate(self.groups)}
        kept = [group.steps_kept for group in self.groups]
        return states(self._learned) | {"targets": targets, "steps_kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these networks.
        """
        check_state(state, MetaGenRL.state_dict(self))
        load_states(self._learned, state)
        for k, group in enumerate(self.groups):
            group.target = to_device(state["targets"][str(k)], self.device)
            group.steps_kept = state["steps_kept"][k]

    def agent(
        self, mode: ActionMode, key: Key, spaces: Spaces | None = None, recipe: Recipe | None = None
    ) -> FreshAgent[ActorCritics]:
        """A fresh policy, trained by the objective as it stands.

        Args:
            mode: How it acts.
            key: Names its streams.
            spaces: Of observations and actions; None: those of the run's own environment.
            recipe: How it learns; None: as in meta-training.

        Raises:
            ValueError: actions are discrete, or images are observed.
        """
        sizes = self._sizes[0] if spaces is None else network_sizes(*spaces)
        objective = partial(self.network, self.objective.params)
        return trained_by(objective, recipe or self.recipe, sizes, mode, key, self.device)

    @property
    def _learned(self) -> dict[str, Learned]:
        parts = {
            f"{name}_{k}": part
            for k, group in enumerate(self.groups)
            for name, part in group.learned.items()
        }
        return {"objective": self.objective, **parts}


def trained_by(
    objective: Objective,
    recipe: Recipe,
    sizes: tuple[int, int],
    mode: ActionMode,
    key: Key,
    device: torch.device | str = "cpu",
) -> FreshAgent[ActorCritics]:
    """An agent whose policies descend an objective, from random weights, on every task anew."""
    place = torch.device(device)
    return FreshAgent(
        lambda rngs: ActorCritics(recipe, sizes, rngs, place),
        partial(learn, objective=objective),
        mode,
        key,
    )


def recipe_of(config: MetaGenRLSettings) -> Recipe:
    """How agents learn, in meta-training and by the objective alone."""
    own = {name: getattr(config, name) for name in Recipe._fields if name != "capacity"}
    return Recipe(**own, capacity=-(-config.capacity // config.sequence))


def network_sizes(observation_space: spaces.Space, action_space: spaces.Space) -> tuple[int, int]:
    """Numbers of an observation and of an action.

    Raises:
        ValueError: actions are discrete, or images are observed.
    """
    observed, acted, choices = number_sizes(observation_space, action_space)
    if choices:
        raise ValueError(f"its actions are numbers, a flat Box, and not {action_space}")
    return observed, acted
