"""The fields of a run's config, each with its default, bounds and meaning."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from metarl.algorithms.settings.outer import by_name
from metarl.config.messages import Origins
from metarl.envs.checks import MOST_THREADS

SplitName = Literal["held_out", "validation", "out_of_range"]
DeviceName = Literal["auto", "cpu", "cuda"]

EPISODES = "episodes a task and adaptation step; few-shot: query examples of a task (of each class)"
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""The path of a file or a folder; ``~`` is the user's home."""


class Section(BaseModel):
    """A part of the config: frozen, no unknown fields, finite numbers, no type coerced."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        strict=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )


class LocalBackend(Section):
    """Episodes are played on this machine."""

    name: Literal["local"] = "local"


class RayBackend(Section):
    """Episodes are played by the workers of a Ray cluster, a shard of the tasks at a time."""

    name: Literal["ray"] = "ray"
    address: str | None = Field(
        None,
        pattern=r"^(auto|[^/]+:\d+)$",
        description="of the cluster, auto or host:port; null: this machine alone",
    )
    workers: int = Field(
        0, ge=0, le=MOST_THREADS, description="workers; 0: as many as the cluster has room for"
    )
    cores: int = Field(1, ge=1, le=MOST_THREADS, description="cores of a worker")
    timeout: float = Field(
        120.0, gt=0, description="s within which the cluster answers, and a first worker starts"
    )
    retries: int = Field(
        5, ge=0, description="how often work is done again that was lost with its worker"
    )


Backend = LocalBackend | RayBackend


class RolloutConfig(Section):
    """Threads, processes and machines."""

    physics_threads: int = Field(
        0, ge=0, le=MOST_THREADS, description="threads of the physics; 0: all cores"
    )
    workers: int = Field(
        0,
        ge=0,
        le=MOST_THREADS,
        description="processes for environments without batched physics; 0: all cores",
    )
    step_timeout: float | None = Field(
        None,
        gt=0,
        description="s after which a step or reset on such a process has failed; null: never",
    )
    torch_threads: int = Field(
        0,
        ge=0,
        le=MOST_THREADS,
        description="threads of the update; 0: all cores, recorded as their number",
    )
    shard_tasks: int | None = Field(
        None, ge=1, description="tasks whose episodes are played at once; null: all"
    )
    backend: Annotated[Backend, Field(discriminator="name"), by_name] = Field(
        LocalBackend(), description="where episodes are played"
    )

    @model_validator(mode="after")
    def _check_shards(self) -> Self:
        if self.backend.name == "ray" and self.shard_tasks is None:
            raise ValueError(
                "shard_tasks must be given where the backend is ray: without it the tasks are one "
                "shard, which a single worker plays"
            )
        return self


class CheckpointConfig(Section):
    """When checkpoints are written and how many are kept."""

    interval: int = Field(10, ge=1, description="a checkpoint every so many iterations")
    keep: int = Field(3, ge=1, description="newest checkpoints kept")


class ValidationConfig(Section):
    """The periodic evaluation on the validation tasks; it never touches the training numbers."""

    enabled: bool = Field(True, description="evaluate during training")
    interval: int = Field(20, ge=1, description="an evaluation every so many iterations")
    episodes: int = Field(20, ge=1, description=EPISODES)
    adaptation_steps: int = Field(3, ge=0, description="adaptation steps")


class EvaluationConfig(Section):
    """The final evaluation, also the default of `metarl evaluate`."""

    episodes: int = Field(20, ge=1, description=EPISODES)
    adaptation_steps: int = Field(3, ge=0, description="adaptation steps")
    split: SplitName = Field("held_out", description="which tasks")
    seeds: int = Field(1, ge=1, description="evaluation seeds, which the returns are averaged over")
    at_end: bool = Field(True, description="evaluate when training ends")
    success: Literal["any", "last"] = Field(
        "any", description="an episode succeeds where its info says so at any step, or at the last"
    )
    success_key: str = Field("success", min_length=1, description="what the info calls success")


class TrackingConfig(Section):
    """Weights & Biases; console and metrics.jsonl are always written."""

    wandb: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="auto: online if a key is configured, else offline"
    )
    project: str = Field("metarl", min_length=1, max_length=128, description="W&B project")
    entity: str | None = Field(None, min_length=1, description="W&B team or user; null: yours")
    group: str | None = Field(None, min_length=1, description="W&B group of runs")
    tags: tuple[str, ...] = Field((), description="W&B tags")

    @field_validator("project")
    @classmethod
    def _check_project(cls, project: str) -> str:
        if set(project) & set("/\\#?%:"):
            raise ValueError("a W&B project has none of / \\ # ? % : in its name")
        return project


class EnvConfig(Section):
    """The environment; the parameters of its constructor follow as further fields."""

    name: str = Field(
        "point_navigation", description="environment, few-shot tasks or package.module:Class"
    )
    preset: str | None = Field(None, description="named parameters of a paper; given ones win")
    tasks: str | None = Field(
        None, description="task distribution as package.module:Class; null: the environment's own"
    )


class Config(Section):
    """The whole resolved config of a run; ``env`` and ``algorithm`` have their concrete fields.

    ``further_envs`` has sections like ``env`` under names of the user's, for an algorithm that is
    trained in several environments; it is validated and evaluated in ``env``.
    """

    name: str = Field(
        "run",
        max_length=100,
        description="of the run: letters, digits, '.', '_' and '-'",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="of all random streams")
    device: DeviceName = Field("auto", description="of the update; auto: cuda if there is one")
    run_dir: PathText | None = Field(
        None, min_length=1, description="run folder; null: runs/<name>"
    )
    iterations: int = Field(200, ge=1, description="meta-iterations")
    max_env_steps: int | None = Field(
        None,
        ge=1,
        description="env steps: training ends before the iteration that begins past them",
    )
    env: EnvConfig = EnvConfig.model_validate({})
    further_envs: Any = Section()
    algorithm: Any
    rollout: RolloutConfig = RolloutConfig.model_validate({})
    checkpoint: CheckpointConfig = CheckpointConfig.model_validate({})
    validation: ValidationConfig = ValidationConfig.model_validate({})
    evaluation: EvaluationConfig = EvaluationConfig.model_validate({})
    tracking: TrackingConfig = TrackingConfig.model_validate({})
    _origins: Origins = PrivateAttr(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether they say the same, wherever it was given."""
        return type(self) is type(other) and dict(self) == dict(other)

    @property
    def origins(self) -> Origins:
        """Where values were given, for the sentence about one that turns out to be wrong."""
        return self._origins

    def played_by(self, backend: Backend) -> Self:
        """The same with episodes played elsewhere; a program that does not train has no shards."""
        rollout = self.rollout.model_copy(update={"backend": backend})
        return self.model_copy(update={"rollout": rollout})

    def given_at(self, origins: Origins) -> Self:
        """The same, whose values were given at these places."""
        config = self.model_copy()
        config._origins = origins
        return config

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("a run's name has letters, digits, '.', '_' and '-' and is no path")
        return name

    @field_validator("run_dir")
    @classmethod
    def _check_run_dir(cls, run_dir: str | None) -> str | None:
        if run_dir is not None and not run_dir.isprintable():
            raise ValueError("a path has no control characters")
        return run_dir

    @property
    def envs(self) -> dict[str, EnvConfig]:
        """The sections of all environments: ``env``, and then the further ones by their names."""
        return {"env": self.env, **dict(self.further_envs)}

    @property
    def env_names(self) -> str:
        """In words the environments that it is trained in."""
        return ", ".join(section.name for section in self.envs.values())

    @property
    def run_folder(self) -> Path:
        """Where the run lies."""
        return Path("runs") / self.name if self.run_dir is None else Path(self.run_dir)
