"""From a config to its parts: the environments and the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metarl import envs
from metarl.algorithms import algorithm_class
from metarl.config.env_fields import env_parameters
from metarl.config.loading import resolve_device
from metarl.config.messages import named_origins
from metarl.envs.contract import Success
from metarl.envs.source import source_hash
from metarl.errors import UserError, message_of, warn
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import check_state
from metarl.process import enough_memory, say
from metarl.types import Algorithm

if TYPE_CHECKING:
    from metarl.config.fields import Config

SOURCE = "environment_source"
"""In a checkpoint's state, the hash of the environment's source."""


def make_worker(config: Config) -> RolloutWorker:
    """The rollout worker of a config's environment.

    Raises:
        UserError: the environment refuses its parameters.
    """

    def make_env(num_lanes: int) -> envs.TaskVectorEnv:
        try:
            return envs.make(
                config.env.name,
                num_lanes,
                num_threads=config.rollout.physics_threads,
                num_workers=config.rollout.workers,
                step_timeout=config.rollout.step_timeout,
                success=Success(config.evaluation.success_key, config.evaluation.success),
                tasks=config.env.tasks,
                params=env_parameters(config),
            )
        except (ValueError, TypeError) as error:
            said = f"env: {message_of(error)}"
            raise UserError(named_origins(said, ("env",), config.origins) + said) from error

    worker = RolloutWorker(make_env)
    worker.say = say
    return worker


@enough_memory("The algorithm", "take smaller networks")
def make_algorithm(config: Config, worker: RolloutWorker) -> Algorithm:
    """The untrained algorithm of a config, on its device.

    Raises:
        UserError: it cannot serve the environment's spaces.
        EnvironmentFailure: it does not fit into memory.
    """
    env = worker.env(1)
    cls = algorithm_class(config.algorithm.name)
    try:
        return cls(
            config.algorithm,
            env.single_observation_space,
            env.single_action_space,
            config.seed,
            resolve_device(config.device),
        )
    except ValueError as error:
        said = f"{config.algorithm.name} on {config.env.name}: {message_of(error)}."
        raise UserError(named_origins(said, ("algorithm",), config.origins) + said) from error


def environment_source(config: Config) -> str | None:
    """The hash of the environment's source, see :func:`metarl.envs.source.source_hash`."""
    return source_hash(config.env.name, config.env.tasks)


def restore(algorithm: Algorithm, state: Mapping[str, Any], config: Config) -> None:
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
    saved, now = state.get(SOURCE), environment_source(config)
    if isinstance(saved, str) and now is not None and saved != now:
        warn(
            f"{config.env.name} has changed since the checkpoint in {config.run_folder} "
            "was written: its numbers are of another environment than those from here on."
        )
