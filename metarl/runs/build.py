"""From a config to its parts: what there is to learn from, and the algorithm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from metarl import envs
from metarl.algorithms import ALGORITHMS, algorithm_class
from metarl.config.env_fields import env_parameters
from metarl.config.fields import RayBackend
from metarl.config.loading import refused_environment, resolve_device
from metarl.config.messages import at, named_origins
from metarl.config.model import FURTHER
from metarl.envs.contract import Success
from metarl.envs.source import source_hash
from metarl.errors import UserError, message_of, warn
from metarl.experience.few_shot import FewShotSource
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import check_state
from metarl.process import enough_memory, say
from metarl.types import Algorithm, DataKind

if TYPE_CHECKING:
    from metarl.config.fields import Config

SOURCE = "environment_source"
"""In a checkpoint's state, see :func:`environment_source`."""
Source = RolloutWorker | FewShotSource
"""What there is to learn from: episodes in environments, or the examples of few-shot tasks."""


def make_worker(config: Config) -> Source:
    """The rollout worker of a config's environments, or the source of its few-shot tasks.

    Raises:
        UserError: an environment refuses its parameters, or they do not go together.
    """
    worker = _worker(config, "env")
    for which, section in dict(config.further_envs).items():
        if envs.is_few_shot(envs.env_maker(section.name)) or isinstance(worker, FewShotSource):
            raise UserError(
                f"{at((FURTHER, which), config.origins)}{FURTHER}.{which} is {section.name} beside "
                f"{config.env.name}, but few-shot tasks stand alone."
            )
        if isinstance(config.rollout.backend, RayBackend):
            raise UserError(
                f"{at(('rollout', 'backend'), config.origins)}rollout.backend is ray, but a run in "
                "several environments plays on this machine: local."
            )
        worker.others[which] = _worker(config, which)
    return worker


def _worker(config: Config, which: str) -> Source:
    """The worker of the environment whose section has this name."""
    section, params = config.envs[which], env_parameters(config, which)
    name, tasks = section.name, section.tasks
    rollout, backend = config.rollout, config.rollout.backend

    def made_on(cores: tuple[int, int]) -> partial[envs.TaskVectorEnv]:
        """What makes the environment, with so many threads and worker processes."""
        return partial(
            envs.make,
            name,
            num_threads=cores[0],
            num_workers=cores[1],
            step_timeout=rollout.step_timeout,
            success=Success(config.evaluation.success_key, config.evaluation.success),
            tasks=tasks,
            params=params,
        )

    def make_env(num_lanes: int) -> envs.TaskVectorEnv:
        with _refusals(config, which):
            return made_on((rollout.physics_threads, rollout.workers))(num_lanes)

    if envs.is_few_shot(envs.env_maker(name)):
        with _refusals(config, which):
            return FewShotSource(envs.make_tasks(name, tasks=tasks, params=params))
    if isinstance(backend, RayBackend):
        from metarl.experience.ray_rollout import RayRolloutWorker, RaySettings

        settings = RaySettings(**{n: getattr(backend, n) for n in RaySettings._fields})
        remote = made_on((backend.cores, backend.cores))
        # A program's or notebook's own classes cannot be imported elsewhere.
        paths = [path.partition(":") for path in (name, tasks or "")]
        program = sys.modules["__main__"]
        main = {own: getattr(program, own) for module, _, own in paths if module == "__main__"}
        worker: RolloutWorker = RayRolloutWorker(
            make_env, rollout.shard_tasks, remote, settings, main, config.device == "cpu"
        )
    else:
        worker = RolloutWorker(make_env, rollout.shard_tasks)
    worker.say = say
    return worker


@contextlib.contextmanager
def _refusals(config: Config, which: str) -> Iterator[None]:
    """Within, what an environment's constructor refuses is a sentence about its section."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise refused_environment(which, error, config.origins) from error


@enough_memory("The algorithm", "take smaller networks")
def make_algorithm(config: Config, worker: Source) -> Algorithm:
    """The untrained algorithm of a config, on its device.

    Raises:
        UserError: it learns from something else, or cannot serve the environment's spaces.
        EnvironmentFailure: it does not fit into memory.
    """
    cls = algorithm_class(config.algorithm.name)
    if (wanted := _learns_from(cls)) != worker.gives:
        fitting = [n for n in ALGORITHMS if _learns_from(algorithm_class(n)) == worker.gives]
        said = (
            f"{config.algorithm.name} learns from {wanted} and {config.env.name} gives "
            f"{worker.gives}, from which there learn {', '.join(fitting) or 'none'}."
        )
        raise UserError(at(("algorithm", "name"), config.origins) + said)
    told: dict[str, Any] = {}
    if getattr(cls, "takes_further_envs", False):
        told["further"] = [other.spaces for other in worker.others.values()]
    elif worker.others:
        said = f"{config.algorithm.name} is trained in one environment: leave {FURTHER} out."
        raise UserError(at((FURTHER,), config.origins) + said)
    if getattr(cls, "takes_horizon", False) and isinstance(worker, RolloutWorker):
        told["horizon"] = worker.env(1).horizon
    try:
        return cls(
            config.algorithm,
            *worker.spaces,
            config.seed,
            resolve_device(config.device),
            **told,
        )
    except ValueError as error:
        said = f"{config.algorithm.name} on {config.env_names}: {message_of(error)}."
        raise UserError(named_origins(said, ("algorithm",), config.origins) + said) from error


def _learns_from(algorithm: Any) -> DataKind:
    """What an algorithm's class says of it; of those that say nothing, episodes."""
    kind: DataKind = getattr(algorithm, "learns_from", "episodes")
    return kind


def environment_source(config: Config, worker: Source) -> str | None:
    """The hash of the environments' sources, and of the data that few-shot tasks are made of.

    See :func:`metarl.envs.source.source_hash`.
    """
    sources = [source_hash(section.name, section.tasks) for section in config.envs.values()]
    hashes = (*sources, worker.data_hash)
    return "-".join(part for part in hashes if part) or None


def restore(algorithm: Algorithm, state: Mapping[str, Any], config: Config, worker: Source) -> None:
    """Load an algorithm's saved state, and see that the rest of a checkpoint's is there.

    A line on stderr says if it was trained on another source of the environment.

    Raises:
        UserError: it is not a state of this algorithm.
    """
    try:
        check_state(state, {"algorithm": state.get("algorithm"), "wall_time_s": 0.0})
        algorithm.load_state_dict(state["algorithm"])
    except Exception as error:  # a user's algorithm can fail in any way
        said = message_of(error) or type(error).__name__
        said += " is missing" if isinstance(error, KeyError) else ""
        raise UserError(
            f"The checkpoint in {config.run_folder} does not fit its config: {said}."
        ) from error
    saved, now = state.get(SOURCE), environment_source(config, worker)
    if isinstance(saved, str) and now is not None and saved != now:
        warn(
            f"{config.env_names} has changed since the checkpoint in {config.run_folder} "
            "was written: its numbers are of another environment than those from here on."
        )
