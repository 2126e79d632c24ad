"""An algorithm and an environment to configure, and what an error says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from metarl.config.loading import load_config
from metarl.envs import TaskVectorEnv
from tests.storage import sentences

ALGORITHM = "tests.config.fakes:FakeAlgorithm"
ENV = "tests.config.fakes:FakeEnv"


class FakeConfig(BaseModel):
    """Neither strict nor frozen by itself, so that what is tested is the framework's doing."""

    inner_lr: tuple[float, ...] | float = Field(0.1, description="step size of the inner loop")
    steps: int = Field(1, ge=1, le=10, description="gradient steps")
    rule: Literal["trpo", "ppo"] = "trpo"
    low: float = Field(0.0, description="lower bound, rad")
    high: float = 1.0
    first_order: bool = False
    limit: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> FakeConfig:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}, but low must be below high")
        return self


class FakeAlgorithm:
    config_class: ClassVar[type[BaseModel]] = FakeConfig

    def collect(self) -> None: ...
    def update(self) -> None: ...
    def state_dict(self) -> None: ...
    def load_state_dict(self) -> None: ...
    def agent(self) -> None: ...


class FakeEnv(TaskVectorEnv):
    """Never built.

    Args:
        num_envs: Lanes.
        length: Of the corridor, in m.
        start: Where episodes begin, in m.
        mode: How it pays.
        anything: Not annotated.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "narrow": {"length": 0.5, "start": (1.0, 2.0)},
        "wide": {"length": 5.0},
    }

    def __init__(  # type: ignore[no-untyped-def]
        self,
        num_envs: int,
        *,
        length: float = 1,
        start: tuple[float, float] = (0.0, 0.0),
        mode: Literal["dense", "sparse"] = "dense",
        label: str = "x",
        path: Sequence[float] = (1.0, 2.0),
        anything=True,
    ) -> None:
        raise AssertionError("a config builds no environment")


FAKE = ["--env.name", ENV, "--algorithm.name", ALGORITHM]


def load(text: str, write, *words: str):  # type: ignore[no-untyped-def]
    return load_config(write(text), [*FAKE, *words])


def refused(action) -> str:  # type: ignore[no-untyped-def]
    message = sentences.refused(action)
    assert len(message) < 500
    return message
