"""Environments by name or import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from metarl.envs import REQUIRED, constructor_fields, env_maker, make
from metarl.envs.locomotion.half_cheetah import HalfCheetahVel
from metarl.envs.navigation import PointNavigation
from metarl.envs.registry import NAMES
from metarl.envs.tasks import UniformInterval
from tests.envs.user_envs import Reach


def test_names_and_import_paths() -> None:
    assert env_maker("point_navigation") is PointNavigation
    assert env_maker("metarl.envs.locomotion.half_cheetah:HalfCheetahVel") is HalfCheetahVel
    assert env_maker("tests.envs.user_envs:Reach") is Reach
    env = make("metarl.envs.navigation:PointNavigation", 3, horizon=7)
    assert (env.num_envs, env.horizon) == (3, 7)


def test_a_preset_sets_parameters_and_explicit_ones_win() -> None:
    env = make("point_navigation", 1, preset="pearl")
    assert env.horizon == 20
    assert np.allclose(np.hypot(*env.task_distribution.held_out().T), 1.0)
    assert make("point_navigation", 1, preset="pearl", horizon=30).horizon == 30
    assert PointNavigation.presets.keys() == {"maml_2017", "varibad", "pearl"}
    assert HalfCheetahVel.presets.keys() == {"maml_2017", "promp", "varibad", "pearl"}


def test_threads_reach_the_environments_that_have_them() -> None:
    env: Any = make("half_cheetah_vel", 4, num_threads=2)
    assert env._batch.nthread == 2
    make("point_navigation", 4, num_threads=2)


def test_tasks_by_import_path() -> None:
    env = make("half_cheetah_vel", 2, tasks="tests.envs.user_envs:Velocities")
    assert isinstance(env.task_distribution, UniformInterval)
    assert env.task_distribution.low == 5.0
    assert (env.tasks > 5.0).all()


def test_a_class_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_navigation.py").write_text(
        "from metarl.envs.navigation import PointNavigation\n"
        "class Mine(PointNavigation):\n    presets = {}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    env = make("my_navigation:Mine", 2, radius=2.0)
    assert type(env).__name__ == "Mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"name": "point_navigatoin"},
            r"Unknown environment 'point_navigatoin': did you mean 'point_navigation'\? there are "
            r"point_navigation, half_cheetah_vel, half_cheetah_dir, .*; or an import",
        ),
        ({"name": "reacher"}, "Unknown environment 'reacher': there are point_navigation, half_ch"),
        (
            {"name": "no.such:Thing"},
            "environment 'no.such:Thing' cannot be imported: .*No module named 'no'",
        ),
        (
            {"name": "sinusoid"},
            "sinusoid is few-shot learning: it has examples, and no environment to act in",
        ),
        (
            {"name": "metarl.envs.navigation:PointNavigaton"},
            r"Unknown class or function 'PointNavigaton': did you mean 'PointNavigation'\?",
        ),
        (
            {"name": "metarl.envs.tasks:GoalRegion"},
            "neither a TaskVectorEnv nor a gymnasium.Env with a m",
        ),
        ({"name": "tests.envs.user_envs:NotMeta"}, "neither a TaskVectorEnv nor"),
        ({"preset": "varibat"}, r"Unknown preset 'varibat': did you mean 'varibad'\? Point.* has"),
        ({"name": "half_cheetah_dir", "preset": "promp"}, "HalfCheetahDir has none"),
        ({"radus": 1.0}, r"Unknown parameter 'radus': did you mean 'radius'\? PointNavigation ha"),
        ({"num_lanes": 1}, "Unknown parameter 'num_lanes'"),
        ({"tasks": "Velocities"}, 'distribution of tasks .*Velocities.* import path "package.modu'),
        ({"tasks": "tests.envs.user_envs:Reach"}, "not a subclass of TaskDistribution"),
        ({"tasks": "metarl.envs.tasks:UniformInterval"}, "cannot be built: .*missing 2 required"),
        ({"tasks": "metarl.envs.tasks:TaskDistribution"}, "cannot be built: .*abstract"),
    ],
)
def test_wrong_names_get_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        make(**{"name": "point_navigation", "num_envs": 1, **arguments})
    assert "\n" not in str(caught.value)


def test_constructor_fields_are_read_from_signature_and_docstring() -> None:
    fields = constructor_fields(PointNavigation)
    assert list(fields) == [
        "region",
        "radius",
        "start",
        "step_size",
        "horizon",
        "reward",
        "sparse_radius",
        "terminate",
        "held_out",
    ]
    assert fields["horizon"] == (int, 100, "Steps in an episode.")
    assert fields["region"].annotation == Literal["square", "disc", "circle", "semicircle"]
    assert fields["radius"].doc == "Half the square's side, or the radius, in m."
    assert "num_threads" not in constructor_fields(HalfCheetahVel)
    assert constructor_fields(Reach)["fail_at"] == (
        int,
        -1,
        "Step at which lanes with a goal on the right raise.",
    )
    assert constructor_fields(UniformInterval)["low"].default is REQUIRED


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_documented(name: str) -> None:
    for field in constructor_fields(env_maker(name)).values():
        assert field.doc
        assert field.annotation is not Any
        assert field.default is not REQUIRED
