"""Environments by name or import path: `make`, and what the configuration needs to know of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium

from metarl.envs.constructor import constructor_fields, takes_any
from metarl.envs.faults import in_words
from metarl.envs.importing import import_class, unknown
from metarl.envs.task_contract import check_distribution
from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import TaskVectorEnv

NAMES: dict[str, str] = {
    "point_navigation": "metarl.envs.navigation:PointNavigation",
    "half_cheetah_vel": "metarl.envs.half_cheetah:HalfCheetahVel",
    "half_cheetah_dir": "metarl.envs.half_cheetah:HalfCheetahDir",
}


def make(  # noqa: PLR0913  # what a config says of it
    name: str,
    num_envs: int,
    *,
    preset: str | None = None,
    num_threads: int = 0,
    num_workers: int = 0,
    step_timeout: float | None = None,
    tasks: str | TaskDistribution | None = None,
    params: Mapping[str, Any] | None = None,
    **named: Any,
) -> TaskVectorEnv:
    """A vector environment of `num_envs` lanes.

    Args:
        name: point_navigation, half_cheetah_vel, half_cheetah_dir, or the import path
            "package.module:Class" (the working directory is searched too) of a TaskVectorEnv, or
            of a gymnasium.Env with a method set_task(task), which then runs on worker processes.
        num_envs: Number of lanes N.
        preset: One of the class's presets; parameters given override its values.
        num_threads: Physics threads where the class has such, 0 for all cores.
        num_workers: Worker processes of a gymnasium.Env, 0 for all cores.
        step_timeout: Seconds after which its reset or step has failed; None for never.
        tasks: A task distribution, or the import path of its class, in place of the class's own.
        params: Parameters of the class's constructor, whatever their names.
        **named: The same, for names that are none of the above.

    Raises:
        ValueError: an unknown name, preset or parameter (naming those there are), or a value that
            the constructor refuses.
    """
    cls = env_class(name)
    presets = getattr(cls, "presets", {})
    if preset is not None and preset not in presets:
        raise ValueError(unknown("preset", preset, presets, f"{cls.__name__} has"))
    keywords = dict({} if preset is None else presets[preset]) | dict(params or {}) | named
    _check_params(cls, keywords)
    distribution = _task_distribution(tasks) if isinstance(tasks, str) else tasks
    if distribution is not None:
        check_distribution(distribution)
    if not issubclass(cls, TaskVectorEnv):
        from metarl.envs.process_vector import ProcessVectorEnv  # native ones do without

        return ProcessVectorEnv(
            cls,
            num_envs,
            keywords,
            num_workers=num_workers,
            task_distribution=distribution,
            step_timeout=step_timeout,
        )
    if "num_threads" in inspect.signature(cls).parameters:
        keywords["num_threads"] = num_threads
    env = cls(num_envs, **keywords)
    if distribution is not None:
        _give_tasks(env, distribution)
    return env


def _give_tasks(env: TaskVectorEnv, distribution: TaskDistribution) -> None:
    """Put a distribution in place of the environment's own."""
    if distribution.dim != env.task_distribution.dim:
        raise ValueError(
            f"The tasks of {type(distribution).__name__} have {distribution.dim} numbers: "
            f"{type(env).__name__} needs {env.task_distribution.dim} "
            f"({', '.join(env.task_distribution.columns)})."
        )
    env.task_distribution = distribution


def env_class(name: str) -> type[TaskVectorEnv] | type[gymnasium.Env]:
    """The class behind a short name or an import path "package.module:Class".

    Raises:
        ValueError: there is none, or it is no environment that this framework can run.
    """
    cls = import_class("environment", NAMES.get(name, name), NAMES)
    if issubclass(cls, TaskVectorEnv):
        return cls
    if not issubclass(cls, gymnasium.Env) or not callable(getattr(cls, "set_task", None)):
        raise ValueError(
            f"The environment {name!r} is neither a TaskVectorEnv "
            "nor a gymnasium.Env with a method set_task(task)."
        )
    return cls


def _task_distribution(path: str) -> TaskDistribution:
    """The task distribution whose class has this import path, built without arguments."""
    cls = import_class("task distribution", path, ())
    if not issubclass(cls, TaskDistribution):
        raise ValueError(f"The task distribution {path!r} is not a subclass of TaskDistribution.")
    try:
        return cls()
    except (Exception, SystemExit) as error:  # a user's class can fail in any way
        reason = in_words(error, cls, "__init__")
        raise ValueError(f"The task distribution {path!r} cannot be built: {reason}.") from error


def _check_params(maker: type, params: Iterable[str]) -> None:
    """Refuse parameters that the constructor does not take, unless it takes any."""
    if not takes_any(maker):
        fields = constructor_fields(maker)
        for name in params:
            if name not in fields:
                raise ValueError(unknown("parameter", name, fields, f"{maker.__name__} has"))
