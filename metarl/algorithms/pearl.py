"""PEARL: probabilistic embeddings for actor-critic reinforcement learning (Rakelly et al. 2019).

What is believed of a task is a product of Gaussian factors, one a transition of its context c,

    q(z | c) ∝ Π_n N(z; μ(c_n), σ²(c_n)),   c_n = (s, a, r)_n,

and soft actor-critic acts and learns on (s, z). With z ~ q(z | c), reparameterised,

    critics and encoder:  E Σ_i (Q_i(s, a, z) − y)² + w Σ_tasks KL(q(z | c) ‖ N(0, I)),
                          y = r + γ (1 − terminated) (min_i Q̄_i(s′, a′, z) − α log π(a′ | s′, z)),
    actor:                E [α log π(a | s, z) − min_i Q_i(s, a, z)],

where neither y nor the actor's loss reaches the encoder. Context is drawn from a task's recent
data, s, a, r, s′ from all that is kept of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.posterior_agent import PosteriorAgent
from metarl.algorithms.settings.pearl import PEARLSettings
from metarl.experience.metrics import by_episode, means
from metarl.experience.replay import Replay, Rows, transition_fields, transitions
from metarl.maths.adam import Learned
from metarl.maths.gaussian_product import standard_normal
from metarl.maths.params import Params, check_state, to_device
from metarl.maths.soft_q import (
    actor_losses,
    critic_errors,
    polyak,
    soft_targets,
    target_entropy,
    temperature_losses,
)
from metarl.maths.squashed_gaussian import SquashedGaussian
from metarl.networks.critics import Critics, SquashedActor
from metarl.networks.posterior import ContextEncoder, PosteriorActor
from metarl.networks.spaces import number_sizes
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource, Trial


@dataclass(frozen=True)
class PEARLBatch:
    """The data of one meta-iteration.

    Attributes:
        key: The meta-iteration's.
        played: Trials ``[m, L, S]``, each with the numbers of its training tasks ``[m]`` and how
            many of its episodes had z from the prior.
        metrics: Mean return of the first, second, … episode of the iteration's trials.
        env_steps: Valid steps.
    """

    key: Key
    played: list[tuple[np.ndarray, Trial, int]]
    metrics: dict[str, float]
    env_steps: int


class PEARL:
    """PEARL on soft actor-critic with two critics and their targets.

    Args:
        config: See :class:`PEARLSettings`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.

    Raises:
        ValueError: actions are discrete, or images are observed.

    Attributes:
        buffers: Replay of each training task: all that is kept, and recent context.
    """

    config_class: ClassVar[type[PEARLSettings]] = PEARLSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("optimisers",)

    def __init__(
        self,
        config: PEARLSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        observed, acted, choices = number_sizes(observation_space, action_space)
        if choices:
            raise ValueError(f"its actions are numbers, a flat Box, and not {action_space}")
        self.config = config
        self.device = torch.device(device)
        self.encoder = ContextEncoder(observed, acted, config.latent, config.encoder_sizes)
        self.critics = Critics(observed + acted + config.latent, config.hidden_sizes)
        self.policy = SquashedActor(observed + config.latent, acted, config.hidden_sizes)
        rng = Key(seed).generator("init")
        value = self.encoder.init(rng) | self.critics.init(rng)
        actor, log_alpha = self.policy.init(rng), {"log_alpha": torch.zeros(())}
        self.value, self.actor, self.temperature = (
            Learned(params, self.device) for params in (value, actor, log_alpha)
        )
        self.target = self._critics_of(self.value.params)
        fields = transition_fields(observed, acted)
        of_context = {name: fields[name] for name in ("observations", "actions", "rewards")}
        tasks = config.training_tasks
        self.replay = Replay(fields, tasks, config.replay_capacity, "replay_capacity")
        self.context = Replay(of_context, tasks, config.context_capacity, "context_capacity")
        self.buffers = {"replay": self.replay, "context": self.context}

    def collect(self, source: EpisodeSource, key: Key) -> PEARLBatch:
        """Play trials with the next training tasks, as an agent does that meets them anew.

        Before the first of them every training task is played for some episodes.
        """
        config = self.config
        tasks = training_tasks(source, config.training_tasks, Key(key.seed))
        episodes = config.prior_episodes + config.posterior_episodes
        played = []
        if key.iteration == 1:
            first, every = config.initial_episodes, np.arange(len(tasks))
            actor = self._actor(first)
            # Streams of no other episode: a trial's follow one another from its key's on.
            trial = source.collect(actor, tasks, 1, key.at(episodes), first)
            played.append((every, trial, first))
        chosen = self._in_turn(key)
        actor = self._actor(config.prior_episodes)
        trial = source.collect(actor, tasks[chosen], config.lanes, key, episodes)
        played.append((chosen, trial, config.prior_episodes))
        metrics = by_episode(trial)
        return PEARLBatch(key, played, metrics, sum(trial.env_steps for _, trial, _ in played))

    def update(self, batch: PEARLBatch) -> dict[str, float]:
        """Keep what was played, then take the iteration's gradient steps; means over them.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        for tasks, trial, prior_episodes in batch.played:
            for task, rows in zip(tasks, transitions(trial), strict=True):
                recent = rows["episode"] < prior_episodes
                self.replay.add(task, rows)
                self.context.add(task, {n: rows[n][recent] for n in self.context.fields})
        rng = batch.key.generator("minibatch")
        return means([self._step(rng) for _ in range(self.config.updates)])

    def _step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One gradient step of everything, on M tasks × n transitions."""
        config = self.config
        tasks = rng.integers(0, config.training_tasks, size=config.batch_tasks)
        context = self._to_device(self.context.sample(tasks, config.context, rng))
        rows = self._to_device(self.replay.sample(tasks, config.transitions, rng))
        of_latent = self._noise(rng, config.batch_tasks, 1, config.latent)
        of_action, of_next = self._noise(rng, 2, *rows["actions"].shape)
        alpha = self.alpha
        seen: dict[str, Tensor] = {}

        def value_loss(params: Params) -> Tensor:
            belief = self.encoder(params, *context.values()).product(1).gaussian()
            z = belief.sample(of_latent.squeeze(1)).unsqueeze(1).expand(-1, config.transitions, -1)
            y = self._targets(rows, z.detach(), of_next, alpha)
            q = self.critics(params, rows["observations"], rows["actions"], z)
            errors = critic_errors(q, y).mean()
            kl = belief.kl(standard_normal(belief)).sum()
            seen.update(z=z.detach(), **{"loss/critic": errors.detach(), "kl/belief": kl.detach()})
            return errors + config.kl_weight * kl

        self.value.step("the critics' loss", value_loss, config.lr)
        z, critics = seen.pop("z"), self.value.params

        def actor_loss(params: Params) -> Tensor:
            pi = self.policy(params, rows["observations"], z)
            action, log_probs = pi.sample_and_log_prob(of_action)
            q = self.critics(critics, rows["observations"], action, z)
            seen.update({"log_probs": log_probs.detach(), "q/mean": q.detach().mean()})
            return actor_losses(q, log_probs, alpha).mean()

        self.actor.step("the actor's loss", actor_loss, config.lr)
        log_probs = seen.pop("log_probs")
        if config.temperature is None:
            entropy = target_entropy(self.policy.action_dim)
            self.temperature.step(
                "the temperature's loss",
                lambda params: temperature_losses(params["log_alpha"], log_probs, entropy).mean(),
                config.lr,
            )
        self.target = polyak(self.target, self.value.params, config.target_rate)
        return seen | {"policy/entropy": -log_probs.mean(), "alpha": alpha}

    @property
    def alpha(self) -> Tensor:
        """α, the temperature of the entropy."""
        if self.config.temperature is not None:
            return torch.tensor(self.config.temperature, device=self.device)
        return self.temperature.params["log_alpha"].exp()

    @torch.no_grad()
    def _targets(self, rows: Rows, z: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """y ``[M, n]``, of the actor and the target critics as they are."""
        following = rows["next_observations"]
        pi = self.policy(self.actor.params, following, z)
        action, log_probs = pi.sample_and_log_prob(noise)
        q = self.critics(self.target, following, action, z)
        rewards = self.config.reward_scale * rows["rewards"]
        return soft_targets(rewards, rows["terminated"], q, log_probs, alpha, self.config.discount)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, target critics, Adam's memories; the buffers are saved beside it."""
        learned = {"value": self.value, "actor": self.actor, "temperature": self.temperature}
        states = {name: part.state_dict() for name, part in learned.items()}
        params = {name: p for state in states.values() for name, p in state.pop("params").items()}
        return {"params": params, "target": to_device(self.target, "cpu"), "optimisers": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these networks.
        """
        check_state(state, PEARL.state_dict(self))
        for name, own in (
            ("value", self.value),
            ("actor", self.actor),
            ("temperature", self.temperature),
        ):
            params = {part: state["params"][part] for part in own.params}
            own.load_state_dict({"params": params, **state["optimisers"][name]})
        self.target = to_device(state["target"], self.device)

    def agent(self, mode: ActionMode, key: Key) -> PosteriorAgent:
        """The agent as it stands."""
        return PosteriorAgent(self._actor(self.config.prior_episodes), mode, key)

    def _actor(self, prior_episodes: int) -> PosteriorActor:
        params = to_device(self.value.params | self.actor.params, "cpu")
        return PosteriorActor(self.encoder, self.policy, params, prior_episodes)

    def _in_turn(self, key: Key) -> np.ndarray:
        """The training tasks of an iteration: each once in a round, in a new order every round."""
        config = self.config
        places = (key.iteration - 1) * config.tasks + np.arange(config.tasks)
        rounds, place = np.divmod(places, config.training_tasks)
        orders = {
            # Beside the stream 0, from which the training tasks themselves were drawn.
            r: Key(key.seed, int(r)).generator("tasks", 1).permutation(config.training_tasks)
            for r in np.unique(rounds)
        }
        return np.array([orders[r][p] for r, p in zip(rounds, place, strict=True)])

    def _critics_of(self, params: Params) -> Params:
        return {n: p.clone() for n, p in params.items() if n.startswith(self.critics.name)}

    def _to_device(self, rows: Rows) -> Rows:
        return {name: part.to(self.device) for name, part in rows.items()}

    def _noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        return torch.from_numpy(SquashedGaussian.noise(rng, shape)).to(self.device)


def training_tasks(source: EpisodeSource, n: int, key: Key) -> np.ndarray:
    """n training tasks ``[n, d]``, none twice; where there are fewer, each as often as another."""
    drawn = _once(source.sample_tasks(n, key))
    if len(drawn) < n:  # of a finite set; of n tasks this misses each with probability e⁻³²
        drawn = _once(np.concatenate([drawn, source.sample_tasks(32 * n, key.at(1))]))[:n]
    return drawn[np.arange(n) % len(drawn)]


def _once(tasks: np.ndarray) -> np.ndarray:
    """Without repeats, in the order in which each comes first."""
    _, first = np.unique(tasks, axis=0, return_index=True)
    return tasks[np.sort(first)]
