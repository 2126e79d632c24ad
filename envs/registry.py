"""Environments and few-shot tasks by name or import path, and what a configuration asks of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from metarl.envs.constructor import constructor_fields, is_batched, takes_any
from metarl.envs.contract import ANY_SUCCESS, Success
from metarl.envs.example_contract import check_supervised
from metarl.envs.faults import in_words
from metarl.envs.importing import import_class, import_maker, import_module, unknown
from metarl.envs.supervised import SupervisedTasks
from metarl.envs.task_contract import check_distribution
from metarl.envs.tasks import TaskDistribution
from metarl.envs.vector import TaskVectorEnv
from metarl.errors import message_of

ENVIRONMENTS: dict[str, str] = {
    "point_navigation": "metarl.envs.navigation:PointNavigation",
    "half_cheetah_vel": "metarl.envs.locomotion.half_cheetah:HalfCheetahVel",
    "half_cheetah_dir": "metarl.envs.locomotion.half_cheetah:HalfCheetahDir",
    "half_cheetah_params": "metarl.envs.locomotion.half_cheetah:HalfCheetahParams",
    "ant_vel": "metarl.envs.locomotion.ant:AntVel",
    "ant_dir": "metarl.envs.locomotion.ant:AntDir",
    "ant_goal": "metarl.envs.locomotion.ant:AntGoal",
    "humanoid_dir": "metarl.envs.locomotion.humanoid:HumanoidDir",
    "walker_vel": "metarl.envs.locomotion.planar:WalkerVel",
    "walker_params": "metarl.envs.locomotion.planar:WalkerParams",
    "hopper_vel": "metarl.envs.locomotion.planar:HopperVel",
    "hopper_params": "metarl.envs.locomotion.planar:HopperParams",
    "meta_world": "metarl.envs.meta_world:MetaWorld",
    "bandit": "metarl.envs.discrete.bandit:Bandit",
    "tabular_mdp": "metarl.envs.discrete.tabular_mdp:TabularMDP",
    "grid_world": "metarl.envs.discrete.grid_world:GridWorld",
    "single_task": "metarl.envs.adapters.single_task:SingleTask",
}
FEW_SHOT: dict[str, str] = {
    "few_shot_images": "metarl.envs.few_shot_images:FewShotImages",
    "sinusoid": "metarl.envs.supervised:Sinusoid",
}
NAMES = ENVIRONMENTS | FEW_SHOT
"""What the section `env` of a config may be by a short name."""

Made = TypeVar("Made", bound=TaskVectorEnv | SupervisedTasks)


def make(  # noqa: PLR0913  # what a config says of it
    name: str,
    num_envs: int,
    *,
    preset: str | None = None,
    num_threads: int = 0,
    num_workers: int = 0,
    step_timeout: float | None = None,
    success: Success = ANY_SUCCESS,
    tasks: str | TaskDistribution | None = None,
    params: Mapping[str, Any] | None = None,
    **named: Any,
) -> TaskVectorEnv:
    """A vector environment of `num_envs` lanes.

    Args:
        name: One of `ENVIRONMENTS`, such as point_navigation, or the import path
            "package.module:Class" (the working directory is searched too) of a TaskVectorEnv, or
            of a gymnasium.Env with a method set_task(task), which then runs on worker processes;
            as do the path of a function that makes one, and an id registered with Gymnasium, or
            "package.module:ID" if that module registers it.
        num_envs: Number of lanes N.
        preset: One of the class's presets; parameters given override its values.
        num_threads: Physics threads where the class has such, 0 for all cores.
        num_workers: Worker processes of a gymnasium.Env, 0 for all cores.
        step_timeout: Seconds after which its reset or step has failed; None for never.
        success: What counts as one, of a gymnasium.Env.
        tasks: A task distribution, or the import path of its class, in place of the class's own.
        params: Parameters of the class's constructor, whatever their names.
        **named: The same, for names that are none of the above.

    Raises:
        ValueError: an unknown name, preset or parameter (naming those there are), or a value that
            the constructor refuses.
    """
    maker = env_maker(name)
    if is_few_shot(maker):
        raise ValueError(
            f"{name} is few-shot learning: it has examples, and no environment to act in."
        )
    keywords = _keywords(maker, preset, dict(params or {}) | named)
    distribution = _task_distribution(tasks) if isinstance(tasks, str) else tasks
    if distribution is not None:
        check_distribution(distribution)
    if not is_batched(maker):
        from metarl.envs.process_vector import ProcessVectorEnv  # native ones do without

        return ProcessVectorEnv(
            maker,
            num_envs,
            keywords,
            num_workers=num_workers,
            task_distribution=distribution,
            step_timeout=step_timeout,
            success=success,
        )
    if "num_threads" in inspect.signature(maker).parameters:
        keywords["num_threads"] = num_threads
    env: TaskVectorEnv = _built(maker, num_envs, **keywords)
    return env if distribution is None else _with_tasks(env, distribution)


def make_tasks(
    name: str,
    *,
    preset: str | None = None,
    tasks: str | None = None,
    params: Mapping[str, Any] | None = None,
    **named: Any,
) -> SupervisedTasks:
    """The tasks of few-shot learning, which have examples and no environment to act in.

    Args:
        name: sinusoid, few_shot_images, or the import path of a SupervisedTasks class.
        preset: As for `make`, like all that follow.
        tasks: The import path of a task distribution in place of the class's own.
        params: Parameters of the class's constructor.
        **named: The same.

    Raises:
        ValueError: as `make`, and for an environment.
    """
    maker = env_maker(name)
    if not is_few_shot(maker):
        raise ValueError(f"{name} is an environment: it has no examples of few-shot learning.")
    made: SupervisedTasks = _built(maker, **_keywords(maker, preset, dict(params or {}) | named))
    check_supervised(made)
    if tasks is None:
        return made
    distribution = _task_distribution(tasks)
    check_distribution(distribution)
    return _with_tasks(made, distribution)


def is_few_shot(maker: Callable[..., Any]) -> bool:
    """Whether it makes the tasks of few-shot learning, and no environment."""
    return isinstance(maker, type) and issubclass(maker, SupervisedTasks)


def _keywords(
    maker: Callable[..., Any], preset: str | None, given: dict[str, Any]
) -> dict[str, Any]:
    """A constructor's keywords: the preset's, and those given, which win."""
    presets = getattr(maker, "presets", {})
    if preset is not None and preset not in presets:
        raise ValueError(unknown("preset", preset, presets, f"{maker.__name__} has"))
    keywords = dict({} if preset is None else presets[preset]) | given
    _check_params(maker, keywords)
    return keywords


def _with_tasks(env: Made, distribution: TaskDistribution) -> Made:
    """The same with a distribution in place of its own."""
    if distribution.dim != env.task_distribution.dim:
        raise ValueError(
            f"The tasks of {type(distribution).__name__} have {distribution.dim} numbers: "
            f"{type(env).__name__} needs {env.task_distribution.dim} "
            f"({', '.join(env.task_distribution.columns)})."
        )
    env.task_distribution = distribution
    return env


def _built(maker: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a constructor makes that may be a user's."""
    try:
        return maker(*arguments, **keywords)
    except ValueError:
        raise  # in words, as ours
    except (Exception, SystemExit) as error:  # a user's class can fail in any way
        reason = in_words(error, maker, "__init__")
        raise ValueError(f"{maker.__name__} cannot be built: {reason}.") from error


def env_maker(name: str) -> Callable[..., Any]:
    """What makes the environment of a name: a class, a function, or an id that is registered.

    Raises:
        ValueError: there is none, or it is no environment that this framework can run.
    """
    path = NAMES.get(name, name)
    if re.fullmatch(r".+-v\d+", path):
        return _registered(path)
    maker = import_maker("environment", path, NAMES)
    ours = TaskVectorEnv | SupervisedTasks | gymnasium.Wrapper
    if not isinstance(maker, type) or issubclass(maker, ours):
        return maker  # of a wrapper, what it wraps may have the method
    if not issubclass(maker, gymnasium.Env) or not callable(getattr(maker, "set_task", None)):
        raise ValueError(
            f"The environment {name!r} is neither a TaskVectorEnv nor a gymnasium.Env with a "
            "method set_task(task), nor are they SupervisedTasks."
        )
    return maker


@dataclass(frozen=True)
class RegisteredEnv:
    """An environment that is registered with Gymnasium, with the wrappers of its registration."""

    id: str
    creator: Callable[..., Any]
    spec: EnvSpec = field(compare=False)

    @property
    def __name__(self) -> str:
        return self.id

    @property
    def kwargs(self) -> dict[str, Any]:
        """The parameters that the registration gives."""
        return self.spec.kwargs

    def __call__(self, **params: Any) -> gymnasium.Env:
        # Its checker would speak before ours does, in warnings.
        return gymnasium.make(self.spec, disable_env_checker=True, **params)


def _registered(path: str) -> RegisteredEnv:
    """The environment of an id "Maze-v0", or of "package.module:Maze-v0", which registers it."""
    module, _, env_id = path.rpartition(":")
    if module:
        import_module("environment", path)
    try:
        spec = gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        reason = message_of(error).rstrip(".")
        hint = "" if module else "; name the module that registers it, too: package.module:ID"
        raise ValueError(f"The environment {path!r} is not registered: {reason}{hint}.") from error
    try:
        entry = spec.entry_point
        creator = load_env_creator(entry) if isinstance(entry, str) else entry
    except (Exception, SystemExit) as error:  # a user's module can fail in any way
        raise ValueError(f"The environment {path!r} cannot be made: {in_words(error)}.") from error
    if creator is None:
        raise ValueError(f"The environment {path!r} is registered without an entry point.")
    return RegisteredEnv(env_id, creator, spec)


def _task_distribution(path: str) -> TaskDistribution:
    """The task distribution whose class has this import path, built without arguments."""
    cls = import_class("distribution of tasks", path, ())
    if not issubclass(cls, TaskDistribution):
        raise ValueError(
            f"The distribution of tasks {path!r} is not a subclass of TaskDistribution."
        )
    try:
        return cls()
    except (Exception, SystemExit) as error:  # a user's class can fail in any way
        reason = in_words(error, cls, "__init__")
        raise ValueError(
            f"The distribution of tasks {path!r} cannot be built: {reason}."
        ) from error


def _check_params(maker: Callable[..., Any], params: Iterable[str]) -> None:
    """Refuse parameters that the constructor does not take, unless it takes any."""
    if not takes_any(maker):
        fields = constructor_fields(maker)
        for name in params:
            if name not in fields:
                raise ValueError(unknown("parameter", name, fields, f"{maker.__name__} has"))
