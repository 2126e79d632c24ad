"""What all algorithms that adapt by gradient steps share: their settings, collecting, the agent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from torch import Tensor

from metarl.adaptation.inner_loop import Adaptation, Estimator
from metarl.agents.gradient_agent import GradientAgent
from metarl.maths.params import Params, check_shapes, detach, stack, to_device
from metarl.maths.samples import Samples
from metarl.networks.mlp import Activation, MLPPolicy, PolicyActor
from metarl.random import Key
from metarl.types import ActionMode, EpisodeSource


def because(reason: str) -> WrapValidator:
    """Last in a field's ``Annotated`` type: why its values are restricted, told with a refusal."""

    def check(value: Any, accept: ValidatorFunctionWrapHandler) -> Any:
        try:
            return accept(value)
        except ValidationError as error:
            rule = error.errors()[0]
            told = rule.get("ctx", {}) | {"because": reason}
            raise PydanticCustomError(rule["type"], rule["msg"], told) from None

    return WrapValidator(check)


class AdaptationConfig(BaseModel):
    """The policy, its adaptation, and the data of a meta-iteration.

    Defaults are those most used (see the README's protocols).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int = Field(40, ge=1, description="tasks of a meta-batch")
    episodes: int = Field(20, ge=1, description="episodes a task, before and after each step")
    adaptation_steps: int = Field(1, ge=0, description="inner gradient steps in training")
    inner_lr: tuple[float, ...] = Field(
        (0.1,), description="size of each inner step; the last repeats for later steps"
    )
    evaluation_inner_lr: tuple[float, ...] | None = Field(
        None, description="step sizes at evaluation; null: those of training"
    )
    inner_estimator: Estimator = Field(
        "log_prob",
        description="inner objective: log-probability, likelihood ratio (lvc), or dice; their "
        "gradients agree, their Hessians do not",
    )
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

    @model_validator(mode="after")
    def _check_adaptation(self) -> AdaptationConfig:
        for name in ("inner_lr", "evaluation_inner_lr"):
            sizes = getattr(self, name)
            if sizes is not None and (not sizes or any(not 0 < x < float("inf") for x in sizes)):
                raise ValueError(f"{name} must be one or more positive numbers, not {list(sizes)}")
        if any(n < 1 for n in self.hidden_sizes):
            raise ValueError(f"hidden_sizes must be positive, not {list(self.hidden_sizes)}")
        return self


@dataclass(frozen=True)
class GradientBatch:
    """The data of one meta-iteration.

    Attributes:
        iteration: The meta-iteration.
        tasks: The meta-batch ``[M, d]``.
        data: D_0, …, D_K: the samples of the policies after 0..K steps, on the update device.
        env_steps: Valid steps of all trajectories.
        metrics: Mean returns after 0..K steps, over episodes and then tasks.
        returns: Every task's mean return after 0..K steps, ``[M]`` each, on the update device.
    """

    iteration: int
    tasks: np.ndarray
    data: list[Samples]
    env_steps: int
    metrics: dict[str, float]
    returns: tuple[Tensor, ...] = ()


class GradientAlgorithm(ABC):
    """Collects before and after every adaptation step; the update is each algorithm's own.

    Args:
        config: See :class:`AdaptationConfig`, and each algorithm's own.
        observation_space: Of a single environment.
        action_space: Of a single environment.
        seed: Of the initial parameters.
        device: Where updates run; rollouts run on the CPU.

    Attributes:
        params: The meta-parameters: the policy's, and whatever else an algorithm learns.
    """

    config_class: ClassVar[type[BaseModel]] = AdaptationConfig

    def __init__(
        self,
        config: Any,
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
        )
        params = self.initial_params(self.policy.init(Key(seed).generator("init")))
        self.params = to_device(params, self.device)
        self.adaptation = self._adaptation(config.inner_lr)

    @abstractmethod
    def update(self, batch: GradientBatch) -> dict[str, float]:
        """Move the meta-parameters; returns metrics."""

    def initial_params(self, policy_params: Params) -> Params:
        """The meta-parameters before training, from the policy's."""
        return policy_params

    def frozen(self) -> frozenset[str]:
        """The parameters that do not adapt."""
        return frozenset()

    def collect(self, source: EpisodeSource, key: Key) -> GradientBatch:
        """Sample tasks; play, adapt, play again, K times: data before and after every step."""
        config = self.config
        tasks = source.sample_tasks(config.tasks, key)
        theta = stack(self.params, config.tasks)
        data: list[Samples] = []
        returns: list[Tensor] = []  # [M, B] each
        env_steps = 0
        for k in range(config.adaptation_steps + 1):
            actor = PolicyActor(self.policy, to_device(detach(theta), "cpu"))
            trajectory = source.collect(actor, tasks, config.episodes, key.at(k))
            env_steps += trajectory.env_steps
            returns.append(trajectory.returns())
            data.append(self.adaptation.samples(trajectory.to(self.device)))
            if k < config.adaptation_steps:
                theta = self.adaptation.step(theta, data[k], k).adapted
        names = ["pre", *(f"step_{k}" for k in range(1, config.adaptation_steps)), "post"]
        metrics = {f"return/{n}": float(x.mean()) for n, x in zip(names, returns, strict=False)}
        of_tasks = tuple(x.mean(1).to(self.device) for x in returns)
        return GradientBatch(key.iteration, tasks, data, env_steps, metrics, of_tasks)

    def state_dict(self) -> dict[str, Any]:
        """The meta-parameters."""
        return {"params": to_device(self.params, "cpu")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, to the bit.

        Raises:
            ValueError: if the parameters are not those of this policy.
        """
        check_shapes(state["params"], self.params)
        self.params = to_device(state["params"], self.device)

    def agent(self, mode: ActionMode, key: Key) -> GradientAgent:
        """The agent as it stands."""
        adaptation = self._adaptation(self.config.evaluation_inner_lr or self.config.inner_lr)
        params = to_device(detach(self.params), "cpu")
        return GradientAgent(adaptation, params, mode, key, self.device)

    def _adaptation(self, step_sizes: tuple[float, ...]) -> Adaptation:
        config = self.config
        return Adaptation(
            self.policy,
            step_sizes,
            config.inner_estimator,
            config.discount,
            config.gae_lambda,
            config.normalize_advantages,
            self.frozen(),
        )

    def _policy_metrics(self) -> dict[str, float]:
        """What the policy before adaptation is like."""
        if "log_std" not in self.params:
            return {}
        return {"policy/std": float(self.params["log_std"].exp().mean())}
