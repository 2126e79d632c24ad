"""Model-agnostic meta-learning for policies (MAML-RL, Finn, Abbeel and Levine 2017).

Find parameters θ whose gradient steps on a new task's own episodes go far:

    min_θ  E_task [ L_task(θ_K) ],   θ_0 = θ,   θ_{k+1} = θ_k − α_k ∇L_task(θ_k; episodes of π_θk)

The inner losses are policy gradients; the outer loss is the adapted policies' surrogate, with the
exact second-order gradient ∇_θ = Π_k (I − α_k H_k) ∇L(θ_K), see
:mod:`metarl.adaptation.inner_loop`.
First-order MAML takes ∇L(θ_K) in its place (Finn et al. 2017, section 5.2).

The file goes the way of an iteration: :meth:`MAML.collect` plays and adapts, :meth:`MAML.terms`
says what the adapted policies are judged by, :meth:`MAML.update` moves θ. The variants (ANIL,
E-MAML, Meta-SGD, ProMP, Reptile) are subclasses, each with what it does differently.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation, Rates
from metarl.adaptation.meta_objective import MetaObjective, Term, surrogate
from metarl.agents.gradient_agent import GradientAgent
from metarl.algorithms.settings.gradient import (
    AdaptationSettings,
    FOMAMLSettings,
    MAMLSettings,
    SurrogateSettings,
)
from metarl.algorithms.settings.outer import AdamSettings, PPOSettings, TRPOSettings
from metarl.envs.spaces import is_image
from metarl.experience.advantages import AdvantageEstimator
from metarl.experience.scale import first_look, warn_of_scale
from metarl.maths.adam import Adam, AdamState
from metarl.maths.finite import check_finite
from metarl.maths.params import MetaParams, Params, check_state, detach, stack, to_device
from metarl.maths.running_moments import RunningMoments
from metarl.maths.samples import Samples
from metarl.maths.trpo import TRPO
from metarl.networks.images import ImageEncoder, feedforward_policy
from metarl.networks.mlp import PolicyActor
from metarl.networks.spaces import Sizes, space_sizes
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource


@dataclass(frozen=True)
class GradientBatch:
    """The data of one meta-iteration.

    Attributes:
        iteration: The meta-iteration.
        tasks: The meta-batch ``[M, d]``.
        data: D_0, …, D_K: the samples of the policies after 0..K steps, on the update device.
        env_steps: Valid steps of all trajectories.
        metrics: Mean returns after 0..K steps, over episodes and then tasks, and the shares of
            clipped actions and of successful episodes.
        returns: Every task's mean return after 0..K steps, ``[M]`` each, on the update device.
        moments: Of the observations up to these; None where they are not normalised.
    """

    iteration: int
    tasks: np.ndarray
    data: list[Samples]
    env_steps: int
    metrics: dict[str, float]
    returns: tuple[Tensor, ...]
    moments: RunningMoments | None = None


class MAML:
    """MAML-RL, a :class:`metarl.types.Algorithm`.

    Args:
        config: See :mod:`metarl.algorithms.settings.gradient`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.

    Attributes:
        meta: The meta-parameters: the policy's, and the inner steps' rates where they are learned.
        moments: Of the observations so far, which normalise them; None where they are not. They
            hold still within an iteration, so that its rollouts and its update see the same.
    """

    config_class: ClassVar[type[AdaptationSettings]] = MAMLSettings
    optimiser_state: ClassVar[tuple[str, ...]] = ("adam", "adam_step")

    def __init__(
        self,
        config: SurrogateSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        sizes = space_sizes(observation_space, action_space)
        self.policy = self.make_policy(sizes, ImageEncoder.of(observation_space))
        self.advantages = AdvantageEstimator(
            config.discount,
            config.gae_lambda,
            config.normalize_advantages,
            self.policy.observation_dim,
        )
        normalize = config.normalize_observations and not is_image(observation_space)
        self.moments = RunningMoments.empty(self.policy.observation_dim) if normalize else None
        params = self.policy.init(Key(seed).generator("init"))
        self.meta = self.initial_meta(to_device(params, self.device))
        self.adam = AdamState.fresh(self.meta.vector())

    @property
    def params(self) -> Params:
        """θ, the policy's parameters before adaptation."""
        return self.meta.policy

    def make_policy(self, sizes: Sizes, encoder: ImageEncoder | None) -> Any:
        """The policy for :func:`metarl.networks.spaces.space_sizes`; of images upon an encoder."""
        return feedforward_policy(sizes, encoder, **self.network_settings())

    def network_settings(self) -> dict[str, Any]:
        """Those of the policy."""
        config = self.config
        return {
            "hidden_sizes": config.hidden_sizes,
            "activation": config.activation,
            "initial_std": config.initial_std,
            "min_std": config.min_std,
            "noise": config.action_noise,
        }

    def initial_meta(self, params: Params) -> MetaParams:
        """The meta-parameters before training, from the policy's."""
        return MetaParams(params)

    # ---- the inner loop

    @property
    def adaptation(self) -> Adaptation:
        """The inner gradient step of training."""
        return self._adaptation_with(self.config.inner_lr)

    def rates(self) -> Rates | None:
        """Factors on the inner steps of each parameter; None: all 1."""
        return self.meta.rates

    def collect(self, source: EpisodeSource, key: Key) -> GradientBatch:
        """Sample tasks; play, adapt, play again, K times: data before and after every step."""
        config, adaptation = self.config, self.adaptation
        tasks = source.sample_tasks(config.tasks, key)
        theta = stack(self.params, config.tasks)
        data: list[Samples] = []
        returns: list[Tensor] = []  # [M, B] each
        shares: dict[str, float] = {}
        env_steps = 0
        moments = self.moments
        if moments is not None and moments.count == 0:
            actor = self._actor(theta, moments)
            unused = key.at(config.adaptation_steps + 1)
            look = first_look(source, actor, tasks, config.episodes, unused)
            moments, env_steps = look.observed, look.env_steps
        so_far = moments
        for k in range(config.adaptation_steps + 1):
            actor = self._actor(theta, moments)
            trajectory = source.collect(actor, tasks, config.episodes, key.at(k))
            if so_far is not None and trajectory.observed is not None:
                so_far = so_far.join(trajectory.observed)
            env_steps += trajectory.env_steps
            returns.append(trajectory.returns())
            if (share := trajectory.clipped_share()) is not None:
                shares[f"actions/clipped_step_{k}"] = share
            if trajectory.success is not None:
                shares[f"success/step_{k}"] = float(trajectory.success.mean())
            data.append(self.advantages.samples(trajectory.to(self.device)))
            if k < config.adaptation_steps:
                theta = adaptation.step(theta, data[k], k).adapted
        if moments is None and key.iteration == 1:
            warn_of_scale(trajectory, "normalize_observations")
        metrics = {f"return/step_{k}": float(x.mean()) for k, x in enumerate(returns)}
        of_tasks = tuple(x.mean(1).to(self.device) for x in returns)
        metrics |= shares
        return GradientBatch(key.iteration, tasks, data, env_steps, metrics, of_tasks, so_far)

    def _actor(self, theta: Params, moments: RunningMoments | None) -> PolicyActor:
        """The policies of stacked parameters, which act on the CPU."""
        return PolicyActor(self.policy, to_device(detach(theta), "cpu"), self._shown_by(moments))

    def _shown_by(self, moments: RunningMoments | None) -> RunningMoments | None:
        """By which policies are shown their observations."""
        return None if moments is None else moments.with_std(self.config.observation_std)

    # ---- the objective

    def terms(self, batch: GradientBatch) -> list[Term]:
        """The losses that judge the policies after 0..K steps: MAML's is of the last alone."""
        weights, clip = self.config.objective_weights(), self.config.outer.clip
        return [
            Term(k, samples, surrogate(weight, clip), kl_weight=weight)
            for k, (samples, weight) in enumerate(zip(batch.data, weights, strict=True))
            if weight > 0
        ]

    def objective(self, batch: GradientBatch) -> MetaObjective:
        """The objective on a meta-iteration's data, as a function of the meta-parameters."""
        return MetaObjective(
            self.adaptation,
            self.meta,
            batch.data[:-1],
            self.terms(batch),
            second_order=not self.config.first_order,
            curvature_every=self.config.outer.curvature_every,
        )

    # ---- the outer loop

    def update(self, batch: GradientBatch) -> dict[str, float]:
        """Move the meta-parameters by the outer optimiser, and after them the moments.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        objective = self.objective(batch)
        losses, gradient = self._loss_and_gradient(objective, batch)
        metrics = {
            "loss/outer_before": float(losses.mean()),
            "gradient_norm": float(gradient.norm()),
        }
        outer = self.config.outer
        if isinstance(outer, TRPOSettings):
            metrics |= self._trust_region_step(outer, objective, batch, losses.mean(), gradient)
        else:
            metrics |= self._adam_steps(outer, objective, batch, gradient)
        self.moments = batch.moments or self.moments
        return metrics | self.after_update(objective)

    def after_update(self, objective: MetaObjective) -> dict[str, float]:
        """Whatever is left to do once the meta-parameters have moved; returns its metrics."""
        return self._policy_metrics()

    def _loss_and_gradient(
        self, objective: MetaObjective, batch: GradientBatch, x: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        losses, gradient = objective.loss_and_gradient(x)
        check_finite("the loss is", losses, batch.tasks)
        check_finite("the meta-gradient is", gradient)
        return losses, gradient

    def _trust_region_step(
        self,
        outer: TRPOSettings,
        objective: MetaObjective,
        batch: GradientBatch,
        loss: Tensor,
        gradient: Tensor,
    ) -> dict[str, float]:
        """A step of TRPO within a mean KL of the policies that are judged."""
        limit = outer.max_kl * outer.max_kl_decay ** (batch.iteration - 1)
        settings = {field.name: getattr(outer, field.name) for field in fields(TRPO)}
        result = TRPO(**settings | {"max_kl": limit}).step(
            self.meta.vector(), gradient, objective.curvature_product, objective.evaluate, loss
        )
        if result.accepted:
            self.meta = self.meta.unflatten(result.x).map(detach)
        return {
            "loss/outer_after": result.loss,
            "kl/outer": result.kl,
            "kl/limit": limit,
            "line_search/tries": float(result.tries),
            "line_search/accepted": float(result.accepted),
        }

    def _adam_steps(
        self,
        outer: AdamSettings | PPOSettings,
        objective: MetaObjective,
        batch: GradientBatch,
        gradient: Tensor,
    ) -> dict[str, float]:
        """One step of Adam, or PPO's several on the same data."""
        x, self.adam = Adam().step(self.meta.vector(), gradient, self.adam, outer.lr)
        for _ in range(1, outer.steps):
            _, gradient = self._loss_and_gradient(objective, batch, x)
            x, self.adam = Adam().step(x, gradient, self.adam, outer.lr)
        self.meta = self.meta.unflatten(x).map(detach)
        loss, kl = objective.evaluate(x)
        return {"loss/outer_after": float(loss), "kl/outer": float(kl)}

    def _policy_metrics(self) -> dict[str, float]:
        """Metrics of the policy before adaptation."""
        if "log_std" not in self.params:
            return {}
        std = self.params["log_std"].exp().clamp(min=self.config.min_std)
        return {"policy/std": float(std.mean())}

    # ---- agents and checkpoints

    def agent(self, mode: ActionMode, key: Key) -> GradientAgent:
        """The agent as it stands."""
        adaptation = self._adaptation_with(self.config.evaluation_inner_lr or self.config.inner_lr)
        params = to_device(detach(self.params), "cpu")
        made_of = (adaptation, self.advantages, params, mode, key, self.device)
        return GradientAgent(*made_of, moments=self._shown_by(self.moments))

    def _adaptation_with(self, step_sizes: tuple[float, ...]) -> Adaptation:
        return Adaptation(self.policy, step_sizes, self.config.inner_estimator, self.rates())

    def state_dict(self) -> dict[str, Any]:
        """The meta-parameters, the moments, and Adam's memory where it is the optimiser."""
        meta = self.meta.map(lambda params: to_device(params, "cpu"))
        state: dict[str, Any] = {"params": meta.policy}
        if meta.rates is not None:
            state["rates"] = meta.rates
        if self.moments is not None:
            state["observation_moments"] = self.moments.state_dict()
        adam = isinstance(self.config.outer, AdamSettings | PPOSettings)
        return state | self.adam.state_dict() if adam else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: it is no state of this algorithm and this policy.
        """
        check_state(state, MAML.state_dict(self))
        saved = MetaParams(state["params"], state.get("rates"))
        self.meta = saved.map(lambda params: to_device(params, self.device))
        if self.moments is not None:
            self.moments = RunningMoments.from_state(state["observation_moments"])
        if "adam" in state:
            self.adam = AdamState.from_state(state, self.device)


class FOMAML(MAML):
    """First-order MAML: its settings say so, and that is all."""

    config_class = FOMAMLSettings
