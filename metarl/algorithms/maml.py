"""Model-agnostic meta-learning for policies (MAML-RL, Finn, Abbeel and Levine 2017).

Find parameters θ whose gradient steps on a new task's own episodes go far:

    min_θ  E_task [ L_task(θ_K) ],   θ_0 = θ,   θ_{k+1} = θ_k − α_k ∇L_task(θ_k; episodes of π_θk)

The inner losses are policy gradients; the outer update is TRPO on the adapted policies' surrogate,
with the exact second-order gradient: ∇_θ = Π_k (I − α_k H_k) ∇L(θ_K), see :mod:`metarl.inner_loop`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from metarl.gradient_learner import GradientLearner
from metarl.inner_loop import Adaptation
from metarl.losses import Samples
from metarl.meta_objective import MetaObjective
from metarl.networks import Activation, MLPPolicy, PolicyActor
from metarl.outer import TRPO
from metarl.params import check_shapes, detach, flatten, stack, to_device, unflatten
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource


class MAMLConfig(BaseModel):
    """What can be set of MAML. Defaults are those most used (see the README's protocols)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["maml"] = "maml"
    tasks: int = Field(40, ge=1, description="tasks of a meta-batch")
    episodes: int = Field(20, ge=1, description="episodes a task, before and after each step")
    adaptation_steps: int = Field(1, ge=0, description="inner gradient steps in training")
    inner_lr: tuple[float, ...] = Field(
        (0.1,), description="size of each inner step; the last repeats for later steps"
    )
    evaluation_inner_lr: tuple[float, ...] | None = Field(
        None, description="step sizes at evaluation; null: those of training"
    )
    inner_estimator: Literal["log_prob", "ratio"] = Field(
        "log_prob", description="inner objective: log-probability or likelihood ratio"
    )
    outer_weights: tuple[float, ...] | None = Field(
        None, description="weights of the returns after 0..K steps; null: the last alone counts"
    )
    first_order: bool = Field(False, description="drop the second-order term of the meta-gradient")
    discount: float = Field(0.99, ge=0, le=1, description="discount γ")
    gae_lambda: float = Field(1.0, ge=0, le=1, description="λ of the advantage estimator")
    normalize_advantages: bool = Field(True, description="per task, over its valid steps")
    hidden_sizes: tuple[int, ...] = Field((64, 64), description="widths of the policy's layers")
    activation: Activation = Field("tanh", description="of the policy's hidden layers")
    initial_std: float = Field(1.0, gt=0, description="action noise before training, of [-1, 1]")
    min_std: float = Field(1e-6, gt=0, description="floor under the action noise")
    action_scale: float = Field(1.0, gt=0, description="actions per unit of network output")
    std_rate: float = Field(
        1.0, gt=0, description="log σ per unit of its parameter: its inner steps go as the square"
    )
    max_kl: float = Field(0.01, gt=0, description="TRPO's trust region, nats")
    max_kl_decay: float = Field(
        1.0, gt=0, le=1, description="factor on max_kl from one iteration to the next"
    )
    cg_steps: int = Field(10, ge=1, description="conjugate-gradient steps")
    cg_damping: float = Field(1e-5, ge=0, description="added to the Fisher diagonal")
    curvature_every: int = Field(
        1, ge=1, description="estimate the curvature, and only it, from every n-th step"
    )
    line_search_steps: int = Field(15, ge=1, description="line-search candidates at most")
    line_search_ratio: float = Field(0.8, gt=0, lt=1, description="shrinkage between candidates")

    @model_validator(mode="after")
    def _check(self) -> MAMLConfig:
        for name in ("inner_lr", "evaluation_inner_lr"):
            sizes = getattr(self, name)
            if sizes is not None and (not sizes or any(not 0 < x < float("inf") for x in sizes)):
                raise ValueError(f"{name} must be one or more positive numbers, not {list(sizes)}")
        if any(n < 1 for n in self.hidden_sizes):
            raise ValueError(f"hidden_sizes must be positive, not {list(self.hidden_sizes)}")
        weights = self.outer_weights
        if weights is not None and (
            len(weights) != self.adaptation_steps + 1 or min(weights) < 0 or weights[-1] <= 0
        ):
            raise ValueError(
                f"outer_weights must be {self.adaptation_steps + 1} numbers >= 0, one for the "
                f"return before and after each step, the last > 0, not {list(weights)}"
            )
        return self

    def objective_weights(self) -> list[float]:
        """w_0, …, w_K of the objective, which sum to 1."""
        weights = self.outer_weights or (0.0,) * self.adaptation_steps + (1.0,)
        return [w / sum(weights) for w in weights]


@dataclass(frozen=True)
class MAMLBatch:
    """The data of one meta-iteration.

    Attributes:
        iteration: The meta-iteration.
        tasks: The meta-batch ``[M, d]``.
        data: D_0, …, D_K: the samples of the policies after 0..K steps, on the update device.
        env_steps: Valid steps of all trajectories.
        metrics: Mean returns after 0..K steps, over episodes and then tasks.
    """

    iteration: int
    tasks: np.ndarray
    data: list[Samples]
    env_steps: int
    metrics: dict[str, float]


class MAML:
    """MAML-RL with a TRPO outer step.

    Args:
        config: See :class:`MAMLConfig`.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.
    """

    config_class: ClassVar[type[BaseModel]] = MAMLConfig

    def __init__(
        self,
        config: MAMLConfig,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.policy = MLPPolicy.for_spaces(
            observation_space,
            action_space,
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            initial_std=config.initial_std,
            min_std=config.min_std,
            action_scale=config.action_scale,
            std_rate=config.std_rate,
        )
        self.adaptation = self._adaptation(config.inner_lr)
        self.trpo = TRPO(
            config.max_kl,
            config.cg_steps,
            config.cg_damping,
            config.line_search_steps,
            config.line_search_ratio,
        )
        params = self.policy.init(Key(seed).generator("init"))
        self.params = to_device(params, self.device)

    def collect(self, source: EpisodeSource, key: Key) -> MAMLBatch:
        """Sample tasks; play, adapt, play again, K times: data before and after every step."""
        config = self.config
        tasks = source.sample_tasks(config.tasks, key)
        theta = stack(self.params, config.tasks)
        data: list[Samples] = []
        returns: list[float] = []
        env_steps = 0
        for k in range(config.adaptation_steps + 1):
            actor = PolicyActor(self.policy, to_device(detach(theta), "cpu"))
            trajectory = source.collect(actor, tasks, config.episodes, key.at(k))
            env_steps += trajectory.env_steps
            returns.append(float(trajectory.returns().mean()))
            data.append(self.adaptation.samples(trajectory.to(self.device)))
            if k < config.adaptation_steps:
                theta = self.adaptation.step(theta, data[k], k).adapted
        names = ["pre", *(f"step_{k}" for k in range(1, config.adaptation_steps)), "post"]
        metrics = {f"return/{name}": value for name, value in zip(names, returns, strict=False)}
        return MAMLBatch(key.iteration, tasks, data, env_steps, metrics)

    def update(self, batch: MAMLBatch) -> dict[str, float]:
        """One TRPO step on the adapted policies' surrogate, within a KL between them.

        Raises:
            FloatingPointError: a loss or the gradient is not finite.
        """
        config = self.config
        objective = MetaObjective(
            self.adaptation,
            self.params,
            batch.data,
            config.objective_weights(),
            second_order=not config.first_order,
            curvature_every=config.curvature_every,
        )
        losses, gradient = objective.loss_and_gradient()
        check_finite(losses, gradient, batch.tasks)
        max_kl = config.max_kl * config.max_kl_decay**batch.iteration
        result = replace(self.trpo, max_kl=max_kl).step(
            flatten(self.params),
            gradient,
            objective.curvature_product,
            objective.evaluate,
            losses.mean(),
        )
        if result.accepted:
            self.params = detach(unflatten(result.x, self.params))
        metrics = {
            "loss/outer_before": float(losses.mean()),
            "loss/outer_after": result.loss,
            "kl/outer": result.kl,
            "kl/limit": max_kl,
            "gradient_norm": float(gradient.norm()),
            "line_search/tries": float(result.tries),
            "line_search/accepted": float(result.accepted),
        }
        if "log_std" in self.params:
            metrics["policy/std"] = float((config.std_rate * self.params["log_std"]).exp().mean())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """The meta-parameters: TRPO has no memory of its own."""
        return {"params": to_device(self.params, "cpu")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: if the parameters are not those of this policy.
        """
        check_shapes(state["params"], self.params)
        self.params = to_device(state["params"], self.device)

    def learner(self, mode: ActionMode, key: Key) -> GradientLearner:
        """The agent as it stands."""
        adaptation = self._adaptation(self.config.evaluation_inner_lr or self.config.inner_lr)
        params = to_device(detach(self.params), "cpu")
        return GradientLearner(adaptation, params, mode, key, self.device)

    def _adaptation(self, step_sizes: tuple[float, ...]) -> Adaptation:
        config = self.config
        return Adaptation(
            self.policy,
            step_sizes,
            config.inner_estimator,
            config.discount,
            config.gae_lambda,
            config.normalize_advantages,
        )


def check_finite(losses: Tensor, gradient: Tensor, tasks: np.ndarray) -> None:
    """Stop before a number that is not finite reaches the parameters.

    Raises:
        FloatingPointError: names the tensor, and for a loss the tasks.
    """
    bad = ~torch.isfinite(losses).cpu().numpy()
    if bad.any():
        raise FloatingPointError(f"the loss is not finite for the tasks {tasks[bad].tolist()}")
    if not torch.isfinite(gradient).all():
        raise FloatingPointError("the meta-gradient is not finite")
