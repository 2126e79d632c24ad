"""What is measured: environment, algorithm, sizes, policy and device of one meta-iteration."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from benchmarks.measurement import count
from benchmarks.physics import Recorder
from metarl import envs
from metarl.algorithms import ALGORITHMS, algorithm_class
from metarl.algorithms.maml import MAML
from metarl.config.loading import resolve_device
from metarl.types import Activation

_LOCOMOTION = {"tasks": 40, "episodes": 20, "horizon": 50, "width": 64, "activation": "tanh"}
_SIZES: dict[str, dict[str, Any]] = {
    "half_cheetah": {
        "tasks": 40,
        "episodes": 20,
        "horizon": 200,
        "width": 64,
        "activation": "tanh",
    },
    "navigation": {"tasks": 20, "episodes": 20, "horizon": 100, "width": 100, "activation": "relu"},
    "ant": _LOCOMOTION,
    "walker": _LOCOMOTION,
    "humanoid": _LOCOMOTION,
}
"""The defaults of each environment."""
_NAMES = {
    "half_cheetah": "half_cheetah_vel",
    "ant": "ant_goal",
    "walker": "walker_params",
    "humanoid": "humanoid_dir",
}


@dataclass(frozen=True)
class Setting:
    """One meta-iteration's size.

    Attributes:
        env: HalfCheetah velocity, point navigation with episodes that never end early, Ant goal,
            Walker2d with random parameters or Humanoid direction.
        tasks: M.
        episodes: B, a task and adaptation step.
        horizon: T, env steps.
        width: Of the policy's two hidden layers.
        activation: Of them.
        adaptation_steps: K, inner gradient steps.
        curvature_every: The curvature is estimated from every n-th sample.
        threads: Of the physics.
        device: Where updates run.
        algorithm: Of the gradient-based family.
    """

    env: Literal["half_cheetah", "navigation", "ant", "walker", "humanoid"]
    tasks: int
    episodes: int
    horizon: int
    width: int
    activation: Activation
    adaptation_steps: int
    curvature_every: int
    threads: int
    device: str
    algorithm: str = "maml"

    @property
    def env_steps(self) -> int:
        """Of a meta-iteration whose episodes all last to the horizon."""
        return self.tasks * self.episodes * self.horizon * (self.adaptation_steps + 1)

    def worker(self) -> Recorder:
        """The rollout worker of the environment."""
        return Recorder(self._make_env)

    def meta_learner(self, worker: Recorder) -> MAML:
        """An untrained one of the algorithm for it."""
        env = worker.env(1)  # for its spaces
        algorithm: Any = algorithm_class(self.algorithm)
        settings: dict[str, Any] = {
            "tasks": self.tasks,
            "episodes": self.episodes,
            "adaptation_steps": self.adaptation_steps,
            "hidden_sizes": (self.width, self.width),
            "activation": self.activation,
        }
        if algorithm.config_class().outer.name == "trpo":
            settings["outer"] = {"name": "trpo", "curvature_every": self.curvature_every}
        config = algorithm.config_class.model_validate(settings)
        spaces = env.single_observation_space, env.single_action_space
        found = algorithm(config, *spaces, seed=0, device=self.device)
        assert isinstance(found, MAML)
        return found

    def maml(self, worker: Recorder) -> MAML:
        """An untrained MAML for it."""
        return replace(self, algorithm="maml").meta_learner(worker)

    def _make_env(self, lanes: int) -> envs.TaskVectorEnv:
        if self.env == "navigation":
            return envs.make("point_navigation", lanes, horizon=self.horizon, terminate=False)
        name = _NAMES[self.env]
        return envs.make(name, lanes, num_threads=self.threads, horizon=self.horizon)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a :class:`Setting`; sizes not given are the environment's defaults."""
    parser.add_argument("--env", choices=list(_SIZES), default="half_cheetah")
    parser.add_argument("--tasks", type=count)
    parser.add_argument("--episodes", type=count, help="a task and adaptation step")
    parser.add_argument("--horizon", type=count, help="env steps of an episode")
    parser.add_argument("--width", type=count, help="of the policy's two hidden layers")
    parser.add_argument("--activation", choices=["tanh", "relu"])
    parser.add_argument("--adaptation-steps", type=count, default=1)
    parser.add_argument("--curvature-every", type=count, default=1, metavar="N")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")


def setting(options: argparse.Namespace) -> Setting:
    """The setting that was asked for; the options are completed by what it resolves to.

    Raises:
        UserError: there is no such device.
    """
    options.device = resolve_device(options.device)
    for name, default in _SIZES[options.env].items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    given = vars(options)
    return Setting(**{f.name: given[f.name] for f in fields(Setting) if f.name in given})


def gradient_based() -> list[str]:
    """The names of the algorithms that adapt by gradient steps."""
    return [name for name in ALGORITHMS if issubclass(algorithm_class(name), MAML)]
