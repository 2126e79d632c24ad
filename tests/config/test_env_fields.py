"""Parameters of an environment's constructor as fields of a config."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from metarl.config.env_fields import env_parameters
from metarl.config.fields import Config
from metarl.config.help import config_lines
from metarl.config.loading import config_from, config_to_dict, config_to_yaml, load_config
from metarl.config.validation import Option, split_options
from metarl.errors import UserError
from metarl.references.storage import Definition
from tests.config.fakes import ALGORITHM


class Gait(Enum):
    WALK = 1
    RUN = 2


class Tasked(gymnasium.Env):
    def set_task(self, task: Any) -> None: ...


class Misfits(Tasked):
    """Defaults that their annotations do not allow."""

    def __init__(
        self,
        lim: float = None,  # type: ignore[assignment]  # noqa: RUF013
        n: int = 3.0,  # type: ignore[assignment]
        rows: tuple[float, float] = (0.7, math.inf),
        word: bool = "no",  # type: ignore[assignment]
        nested: dict[str, float] = {"a": None},  # type: ignore[dict-item]  # noqa: B006
    ) -> None: ...


class Bare(Tasked):
    def __init__(self, span=(0.5, math.inf), rows=((0, 1), (2, 3)), top=math.inf, gait=Gait.WALK):  # type: ignore[no-untyped-def]
        ...


class Moody(Tasked):
    def __init__(self, gait: Gait = Gait.WALK, others: tuple[Gait, ...] | None = None) -> None: ...


class Namesake(Tasked):
    """Parameters with names that the framework uses itself."""

    presets = {"sevens": {"tasks": 7, "lane": 7}}  # noqa: RUF012

    def __init__(  # noqa: PLR0913
        self,
        lane: int = 1,
        call: str = "a",
        num_workers: int = 2,
        num_envs: int = 3,
        num_threads: int = 4,
        name: str = "b",
        tasks: int = 5,
        preset: int | None = None,
        params: int = 6,
        copy: bool = True,
        _hidden: int = 0,
        model_dump: int = 0,
    ) -> None: ...


class Open(Tasked):
    def __init__(self, size: int = 1, **kwargs: Any) -> None: ...


class Hopper(HopperEnv):
    def set_task(self, task: Any) -> None: ...


class Humanoid(HumanoidEnv):
    def set_task(self, task: Any) -> None: ...


class Walker(Walker2dEnv):
    def set_task(self, task: Any) -> None: ...


class Pendulum(PendulumEnv):
    def set_task(self, task: Any) -> None: ...


def configured(cls: type, **env: Any) -> Config:
    """The config of an environment, which equals itself written and read again."""
    config = config_from({"env": {"name": path_of(cls), **env}, "algorithm": {"name": ALGORITHM}})
    assert config_from(config_to_dict(config)) == config
    return config


def path_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


@pytest.mark.parametrize("cls", [Hopper, Humanoid, Walker, Pendulum])
def test_gymnasiums_own_environments_can_be_built_upon(cls: Any, tmp_path: Path) -> None:
    config = configured(cls)
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "config.yaml", []).env == config.env
    built = cls(**env_parameters(config))
    assert built.observation_space == cls().observation_space


def test_infinity_is_told_from_text_and_can_be_given() -> None:
    assert env_parameters(configured(Hopper))["healthy_z_range"] == (0.7, math.inf)
    for given in ([0.5, math.inf], (0.5, math.inf), [0.5, "inf"]):
        config = configured(Hopper, healthy_z_range=given)
        assert env_parameters(config)["healthy_z_range"] == (0.5, math.inf)
        assert config_to_dict(config)["env"]["healthy_z_range"] == [0.5, "inf"]  # JSON has none
    words = split_options(["--env.name", path_of(Hopper), "--env.healthy_z_range", "0.5,.inf"])
    config = config_from({"algorithm": {"name": ALGORITHM}}, words)
    assert env_parameters(config)["healthy_z_range"] == (0.5, math.inf)
    with pytest.raises(UserError, match=r"env\.forward_reward_weight is inf, but must be a finite"):
        configured(Hopper, forward_reward_weight=math.inf)
    with pytest.raises(UserError, match=r"env\.healthy_z_range\[1\] is 'far', but must be a numb"):
        configured(Hopper, healthy_z_range=[0.5, "far"])


def test_a_default_is_accepted_as_it_stands() -> None:
    held = env_parameters(configured(Misfits))
    assert held == {
        "lim": None,
        "n": 3.0,
        "rows": (0.7, math.inf),
        "word": "no",
        "nested": {"a": None},
    }
    assert type(held["n"]) is float


def test_what_is_given_in_its_place_is_checked() -> None:
    assert env_parameters(configured(Misfits, lim=2, n=4))["lim"] == 2.0
    with pytest.raises(UserError, match=r"env\.lim is 'x', but must be a number"):
        configured(Misfits, lim="x")
    with pytest.raises(UserError, match=r"env\.n is 3\.5, but must be a whole number"):
        configured(Misfits, n=3.5)


def test_parameters_without_annotations_keep_the_kind_of_their_defaults() -> None:
    held = env_parameters(configured(Bare, span=[0.25, 2], rows=[[4, 5]], gait="RUN"))
    assert held == {"span": (0.25, 2), "rows": ((4, 5),), "top": math.inf, "gait": Gait.RUN}
    assert env_parameters(configured(Bare))["rows"] == ((0, 1), (2, 3))


def test_enumerations_are_given_by_name() -> None:
    config = configured(Moody, gait="RUN", others=["WALK", "RUN"])
    assert env_parameters(config) == {"gait": Gait.RUN, "others": (Gait.WALK, Gait.RUN)}
    assert config_to_dict(config)["env"]["gait"] == "RUN"
    assert env_parameters(configured(Moody, gait=2))["gait"] is Gait.RUN, "as older configs have it"
    with pytest.raises(UserError, match=r"gait is 'RUM', .* one of WALK, RUN \(the nearest is RUN"):
        configured(Moody, gait="RUM")
    lines = "\n".join(config_lines(None, [Option("env.name", path_of(Moody))]))
    assert "--env.gait WALK|RUN" in lines
    assert "(default WALK)" in lines


def test_no_name_of_a_parameter_collides() -> None:
    defaults = env_parameters(configured(Namesake))
    assert defaults == {
        "lane": 1,
        "call": "a",
        "num_workers": 2,
        "num_envs": 3,
        "num_threads": 4,
        "name": "b",
        "tasks": 5,
        "preset": None,
        "params": 6,
        "copy": True,
    }, "and what no config can name is the constructor's alone"
    apart = {"name": "c", "tasks": 15, "preset": 1, "params": 16, "copy": False}
    flat = {"lane": 11, "call": "b", "num_workers": 12, "num_envs": 13, "num_threads": 14}
    assert env_parameters(configured(Namesake, **flat, params=apart)) == flat | apart
    assert env_parameters(configured(Namesake, preset="sevens")) == defaults | {
        "tasks": 7,
        "lane": 7,
    }
    words = split_options(["--env.name", path_of(Namesake), "--env.params.tasks", "8"])
    config = config_from({"algorithm": {"name": ALGORITHM}}, words)
    assert env_parameters(config)["tasks"] == 8
    with pytest.raises(UserError, match=r"no field env\.params\.taks; the nearest is env\.params"):
        configured(Namesake, params={"taks": 1})


def test_references_know_parameters_apart_by_their_defaults() -> None:
    def key(**env: Any) -> str:
        return Definition.of(config_to_dict(configured(Namesake, **env))["env"]).key

    assert key() == key(params={"tasks": 5})
    assert key() != key(params={"tasks": 6})
    hopper = Definition.of(config_to_dict(configured(Hopper))["env"])
    assert hopper.key == Definition.of({"name": path_of(Hopper)}).key
    moody = Definition.of(config_to_dict(configured(Moody))["env"])
    assert moody.key == Definition.of({"name": path_of(Moody)}).key


def test_any_keyword_passes_where_the_constructor_takes_any() -> None:
    config = configured(Open, width=2, rows=[1, 2])
    assert env_parameters(config) == {"size": 1, "width": 2, "rows": [1, 2]}
    words = split_options(["--env.name", path_of(Open), "--env.width", "2.5"])
    config = config_from({"algorithm": {"name": ALGORITHM}}, words)
    assert env_parameters(config) == {"size": 1, "width": 2.5}
    with pytest.raises(UserError, match=r"env\.width is nan, but must be a finite"):
        configured(Open, width=math.nan)
    with pytest.raises(UserError, match=r"no field env\.width"):
        configured(Misfits, width=1)
