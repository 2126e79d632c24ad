"""VariBAD: a policy that is shown a belief about the task (Zintgraf et al. 2020).

An encoder with a memory revises a Gaussian belief q_t = q(m | τ_:t) of a latent m at every step of
a trial. What a belief is about, decoders say: from a sample of m they must predict the rewards (or
next observations, or the task) of *all* H steps of the trial, past and future. Encoder and decoders
maximise, at every step t, the evidence lower bound whose prior is the belief before,

    ELBO_t = E_{m ~ q_t} [ Σ_{s < H} log p(r_s | o_s, a_s, o_{s+1}, m) ] − w KL(q_t ‖ q_{t−1}),

q_{−1} = N(0, I), summed over t. The policy π(a | o_t, μ_t, log σ²_t) maximises the return of the
whole trial by PPO, as RL²'s does, and its loss does not reach the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.belief_agent import BeliefAgent
from metarl.algorithms.rl2 import RL2, RL2Batch
from metarl.algorithms.settings.varibad import VariBADSettings
from metarl.envs.spaces import is_image
from metarl.experience.inputs import as_played, shown_in, time_first
from metarl.experience.recent_trials import RecentTrials
from metarl.maths.adam import Adam, AdamState
from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.finite import check_finite
from metarl.maths.params import Params, check_state, flatten, to_device, unflatten
from metarl.maths.ppo import Evaluated
from metarl.maths.running_moments import RunningMoments
from metarl.maths.variational import Subset, chain_kl, draw_subset
from metarl.networks.belief import BeliefActor, BeliefEncoder, BeliefPolicy
from metarl.networks.decoders import DecodedSteps, Decoders
from metarl.networks.input_features import InputFeatures, one_hot_actions
from metarl.networks.memory_cores import core_maker
from metarl.networks.recurrent import normalized
from metarl.networks.spaces import space_sizes
from metarl.networks.task_map import TaskMap, TrainedMap
from metarl.random import Key
from metarl.types import ActionMode, Inputs, Trial

_SAMPLED_TASKS = 4096  # to know the region of tasks by


class VariBAD(RL2):
    """VariBAD, its policy trained by PPO.

    Args:
        config: See :class:`VariBADSettings`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.

    Raises:
        ValueError: images are observed, or rewards are to be decoded by the state reached and
            observations are not one-hot.
    """

    config: VariBADSettings  # type: ignore[assignment]
    config_class: ClassVar[type[VariBADSettings]] = VariBADSettings  # type: ignore[assignment]
    optimiser_state: ClassVar[tuple[str, ...]] = (
        *RL2.optimiser_state,
        *("model_adam", "recent", "tasks"),
    )

    def __init__(
        self,
        config: VariBADSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_space(config, observation_space)
        super().__init__(config, observation_space, action_space, seed, device)  # type: ignore[arg-type]
        features = self.encoder.features
        self.decoders = Decoders(
            config.latent,
            features.observation_dim,
            features.action_dim,
            config.decoder_sizes,
            config.decode_rewards,
            config.decode_states,
        )
        self._seed = seed
        rng = Key(seed).generator("init", 1)
        model = self.encoder.init(rng) | self.decoders.init(rng)
        self.model_params = to_device(model, self.device)
        self.model_adam = AdamState.fresh(flatten(self.model_params))
        self.recent = RecentTrials(config.recent_trials)
        self.task_moments: RunningMoments | None = None  # until the first iteration
        self.map: TrainedMap | None = None

    @property
    def encoder(self) -> BeliefEncoder:
        """What revises the belief."""
        encoder: BeliefEncoder = self.policy.encoder
        return encoder

    def _make_policy(self, observation_space: spaces.Space, action_space: spaces.Space) -> Any:
        config = self.config
        embeddings = (
            config.observation_embedding,
            config.action_embedding,
            config.reward_embedding,
        )
        features = InputFeatures(*space_sizes(observation_space, action_space), embeddings)
        encoder = BeliefEncoder(
            features, core_maker(**config.core.model_dump()), config.width, config.latent
        )
        return BeliefPolicy(
            encoder,
            config.policy_embeddings,
            config.head_sizes,
            config.initial_std,
            config.min_std,
        )

    def collect(self, source: Any, key: Key) -> RL2Batch:
        """Sample tasks, and play one trial on every lane; the trial holds (o, μ, log σ²)."""
        if self.task_moments is None:
            sample = source.sample_tasks(_SAMPLED_TASKS, key.at(1))
            found = TaskMap.of(sample, 2 * self.config.latent)
            moments = RunningMoments.of(torch.from_numpy(sample))
            self._know_tasks(moments, None if found is None else found.points)
            source.say(self._memory_line(source.horizon))
        return super().collect(source, key)

    def update(self, batch: RL2Batch) -> dict[str, float]:
        """PPO on the trials; then encoder and decoders learn from recent ones, these among them.

        Raises:
            FloatingPointError: a loss or a gradient is not finite.
        """
        moments = self.input_moments  # those of the rollout, as the trials are
        metrics = super().update(batch)
        beliefs = batch.trial.observations[..., self.encoder.features.observation_dim :]
        self.recent.add(self._as_shown(batch.trial), batch.tasks)
        rng = batch.key.at(1).generator("minibatch")
        lr = self._lr(batch.key.iteration) / self.config.lr * self.config.model_lr
        found = [self._learn_beliefs(rng, lr, moments) for _ in range(self.config.model_updates)]
        metrics |= {name: sum(x[name] for x in found) / len(found) for name in found[0]}
        if self.map is not None:
            told = np.repeat(batch.tasks, batch.trial.rewards.shape[1], axis=0)
            rows = beliefs.flatten(0, 1), torch.from_numpy(told), batch.trial.valid.flatten(0, 1)
            self.map, loss = self.map.fitted(rng, *rows)
            metrics["loss/task_map"] = loss
        return metrics

    def _learn_beliefs(
        self, rng: np.random.Generator, lr: float, moments: RunningMoments
    ) -> dict[str, float]:
        """One step of encoder and decoders on some of the recent trials."""
        trial, tasks = self.recent.sample(rng, self.config.model_trials)
        x = flatten(self.model_params)
        leaf = x.detach().requires_grad_()
        params = unflatten(leaf, self.model_params)
        of_reward = moments.columns(slice(-1, None)) if self.config.normalize_inputs else None
        loss, metrics = self.negative_elbo(params, trial.to(self.device), tasks, rng, of_reward)
        gradient = torch.autograd.grad(loss, leaf)[0]
        check_finite("the loss of the belief's model is", loss)
        check_finite("the gradient of the belief's model is", gradient.norm())
        x, self.model_adam = Adam().step(x, gradient, self.model_adam, lr)
        self.model_params = unflatten(x, self.model_params)
        return metrics

    def negative_elbo(
        self,
        params: Params,
        trial: Trial,
        tasks: Tensor,
        rng: np.random.Generator,
        of_reward: RunningMoments | None,
    ) -> tuple[Tensor, dict[str, float]]:
        """−Σ_t ELBO_t, the mean over trials, and what it consists of.

        Where ``elbo_terms`` or ``decoded_steps`` are set, the double sum over t and s is estimated
        from some of each, drawn for each trial, without bias. The KL is always summed over all t.

        Args:
            params: Of encoder and decoders.
            trial: ``[n, 1, S]``.
            tasks: ``[n, d]``.
            rng: Draws the subsets, then the noise of m.
            of_reward: By which rewards are normalised; None: they are not.
        """
        config, valid = self.config, time_first(trial.valid)
        inputs = Inputs(*map(time_first, shown_in(trial)))
        if of_reward is not None:
            inputs = normalized(inputs, of_reward)
        beliefs = self.encoder.sequence(params, inputs)  # [S, n, k]
        lengths = valid.sum(0).cpu()
        terms, decoded = (
            Subset(*(x.to(self.device) for x in draw_subset(rng, lengths, count)))
            for count in (config.elbo_terms, config.decoded_steps)
        )
        q = DiagonalGaussian(*map(terms.take, beliefs))
        noise = rng.standard_normal(tuple(q.mean.shape), dtype=np.float32)
        m = q.sample(torch.from_numpy(noise).to(q.mean))  # one of each belief [T, n, k]

        steps = self._decoded(trial, decoded, of_reward)
        errors = self.decoders.negative_log_prob(params, m, steps)
        weights = [subset.weight.to(q.mean) for subset in (terms, decoded)]
        sums = {name: torch.einsum("tn,kn,tkn->n", *weights, x) for name, x in errors.items()}
        if self.decoders.tasks and self.task_moments is not None:
            error = self.decoders.task_error(params, m, self.task_moments.normalize(tasks).to(m))
            sums["tasks"] = (weights[0] * error).sum(0)
        kl = (chain_kl(beliefs) * valid).sum(0)  # [n]
        loss = (torch.stack([*sums.values()]).sum(0) + config.kl_weight * kl).mean()

        pairs, steps_taken = lengths.square().sum(), lengths.sum()
        counts = {name: steps_taken if name == "tasks" else pairs for name in sums}
        metrics = {f"loss/{n}": float(x.detach().sum() / counts[n]) for n, x in sums.items()}
        return loss, metrics | {"kl/belief": float(kl.detach().mean())}

    def _decoded(
        self, trial: Trial, which: Subset, of_reward: RunningMoments | None
    ) -> DecodedSteps:
        """Those steps of the trials, as the decoders want them."""
        features = self.encoder.features
        actions = one_hot_actions(
            which.take(time_first(as_played(trial.actions))), features.discrete, features.action_dim
        )
        observed = which.take(time_first(trial.observations))
        rewards = which.take(time_first(trial.rewards))
        told = rewards
        if of_reward is not None:
            told = of_reward.normalize(rewards.unsqueeze(-1)).squeeze(-1)
        reached = which.take(time_first(trial.next_observations()))
        return DecodedSteps(observed, actions.to(observed), reached, told, rewards > 0)

    def _evaluation(
        self, trial: Trial, moments: RunningMoments | None
    ) -> Callable[[Tensor, Tensor], Evaluated]:
        """The policy alone, on the beliefs of the rollout: no gradient reaches the encoder."""
        seen, actions = time_first(trial.observations), time_first(trial.actions)
        sizes = [self.encoder.features.observation_dim, 2 * self.config.latent]

        def evaluate(x: Tensor, lanes: Tensor) -> Evaluated:
            observed, belief = seen[:, lanes].split(sizes, dim=-1)
            distribution, values = self.policy(unflatten(x, self.params), observed, belief)
            log_probs = distribution.log_prob(actions[:, lanes])
            return Evaluated(log_probs, distribution.entropy(), values)

        return evaluate

    def state_dict(self) -> dict[str, Any]:
        """What RL² has, encoder and decoders, the recent trials, and what is known of the tasks."""
        tasks = {}
        if self.task_moments is not None:
            map_state = {} if self.map is None else self.map.state_dict()
            tasks = {"moments": self.task_moments.state_dict(), "map": map_state}
        return super().state_dict() | {
            "model_params": to_device(self.model_params, "cpu"),
            "model_adam": self.model_adam.state_dict(),
            "recent": self.recent.state_dict(),
            "tasks": tasks,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and these spaces.
        """
        if known := state["tasks"]:
            moments = RunningMoments.from_state(known["moments"])
            self._know_tasks(moments, known["map"].get("points"))
        own = self.state_dict()
        check_state(state, {name: x for name, x in own.items() if name != "recent"})
        super().load_state_dict(state)
        self.model_params = to_device(state["model_params"], self.device)
        self.model_adam = AdamState.from_state(state["model_adam"], self.device)
        self.recent.load_state_dict(state["recent"])
        if self.map is not None:
            self.map = self.map.restored(known["map"])

    def agent(self, mode: ActionMode, key: Key) -> BeliefAgent:
        """The agent as it stands."""
        moments = self.input_moments if self.config.normalize_inputs else None
        return BeliefAgent(self._actor(moments), mode, key, self.map)

    def _actor(self, moments: RunningMoments | None) -> BeliefActor:
        encoder = {n: p for n, p in self.model_params.items() if n.startswith("encoder.")}
        return BeliefActor(self.policy, to_device(self.params | encoder, "cpu"), moments)

    def _as_shown(self, trial: Trial) -> Trial:
        """Without the beliefs behind the observations."""
        own = trial.observations[..., : self.encoder.features.observation_dim]
        return replace(trial, observations=own.contiguous())

    def _know_tasks(self, moments: RunningMoments, points: Tensor | None) -> None:
        """What tasks are like is known once the first ones are drawn: their decoder, their map."""
        self.task_moments = moments
        rng = Key(self._seed).generator("init", 2)
        if self.config.decode_tasks and not self.decoders.tasks:
            self.decoders = replace(self.decoders, tasks=len(moments.mean))
            self.model_params |= to_device(self.decoders.init_tasks(rng), self.device)
            self.model_adam = AdamState.fresh(flatten(self.model_params))
        if points is not None:
            self.map = TrainedMap.fresh(TaskMap(points, 2 * self.config.latent), rng)

    def _memory_line(self, horizon: int) -> str:
        """How large the recent trials may become."""
        features, steps = self.encoder.features, self.config.episodes * horizon
        numbers = 4 * features.action_dim if not features.discrete else 8
        if isinstance(features.discrete, tuple):
            numbers = 8 * len(features.discrete)
        trial = steps * RecentTrials.step_bytes(features.observation_dim, numbers)
        size = self.config.recent_trials * trial / 1e6
        return (
            f"Beliefs are learned from up to {self.config.recent_trials} recent trials of {steps} "
            f"steps, {size:,.0f} MB of memory and of every checkpoint"
        )


def _check_space(config: VariBADSettings, observation_space: spaces.Space) -> None:
    if is_image(observation_space):
        raise ValueError("its belief is about numbers and not about images, which rl2 can see")
    if config.decode_rewards == "bernoulli_by_state":
        box = isinstance(observation_space, spaces.Box)
        if not box or (observation_space.low != 0).any() or (observation_space.high != 1).any():  # type: ignore[attr-defined]
            raise ValueError(
                "decode_rewards: bernoulli_by_state needs one-hot observations, of the states that "
                f"rewards depend on, and these are {observation_space}"
            )
