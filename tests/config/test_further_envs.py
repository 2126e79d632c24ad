"""Several environments in one config: sections like env, under names of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metarl.config.env_fields import env_parameters
from metarl.config.loading import (
    config_from,
    config_to_dict,
    config_to_yaml,
    differences,
    load_config,
    resolve,
)
from metarl.config.trust import named_code
from metarl.errors import UserError
from metarl.runs.build import make_algorithm, make_worker
from tests.programs import Whole, tiny

FURTHER = """\
algorithm: {name: metagenrl}
env: {name: point_navigation, horizon: 7}
further_envs:
  fast: {name: half_cheetah_vel, preset: maml_2017}
  near: {name: point_navigation, horizon: 3}
"""


def test_each_has_its_own_fields_and_presets(tmp_path: Path) -> None:
    path = tmp_path / "exp.yaml"
    path.write_text(FURTHER)
    words = ["--further_envs.near.horizon", "4", "--further_envs.fast.velocity_low", "0.5"]
    config = load_config(path, words)
    assert list(config.envs) == ["env", "fast", "near"]
    assert config.env_names == "point_navigation, half_cheetah_vel, point_navigation"
    assert [env_parameters(config, name)["horizon"] for name in ("env", "near")] == [7, 4]
    fast = env_parameters(config, "fast")
    assert (fast["velocity_low"], fast["velocity_high"]) == (0.5, 2.0)
    path.write_text(config_to_yaml(config))
    again = load_config(path, [])
    assert config_to_dict(again) == config_to_dict(config)
    assert differences(config, load_config(path, ["--further_envs.near.horizon", "5"])) == [
        "further_envs.near.horizon was 4 and is 5 now"
    ]


def test_a_run_in_one_environment_records_no_others() -> None:
    config = config_from(tiny())
    assert "further_envs" not in config_to_dict(config)
    assert config_from(tiny() | {"further_envs": {}}) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a b": {}}, "further_envs has an environment called 'a b'"),
        ({"copy": {}}, "further_envs has an environment called 'copy'"),
        (["x"], "further_envs is ['x'], but must be a mapping of names of yours"),
        ({"x": 3}, "further_envs.x is 3, but must be a mapping of fields"),
        ({"x": {"name": "nowhere"}}, "further_envs.x.name: unknown environment 'nowhere'"),
        ({"x": {"horizn": 3}}, "no field further_envs.x.horizn; the nearest is further_envs.x.hor"),
        ({"x": {"preset": "none_such"}}, "further_envs.x.preset is 'none_such', but Point"),
        ({"x": {"horizon": -1}}, "further_envs.x: horizon"),
    ],
)
def test_what_is_wrong_with_one_is_said_of_it(given: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(config_from(tiny() | {"further_envs": given}))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "maml is trained in one environment: leave further_envs out"),
        (
            {"algorithm": Whole({"name": "metagenrl"}), "env": {"name": "sinusoid"}},
            "further_envs.x is point_navigation beside sinusoid, but few-shot tasks stand alone",
        ),
        (
            {
                "algorithm": Whole({"name": "metagenrl"}),
                "rollout": {"backend": "ray", "shard_tasks": 1},
            },
            "rollout.backend is ray, but a run in several environments plays on this machine",
        ),
        (
            {"algorithm": Whole({"name": "metagenrl", "population": 1})},
            "a population of 1 cannot live in 2 environments",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], said: str) -> None:
    further = {"x": {"name": "point_navigation"}}
    env = Whole(changes.pop("env", {"name": "point_navigation"}))
    config = config_from(tiny(**changes, env=env, further_envs=further))
    with pytest.raises(UserError) as refused:
        make_algorithm(config, make_worker(config))
    assert said in str(refused.value)


def test_what_they_name_is_code_as_well() -> None:
    data = {"further_envs": {"x": {"name": "mine:Env", "tasks": "mine:Tasks"}, "y": {}}}
    assert named_code(data) == {
        ("further_envs", "x", "name"): "mine:Env",
        ("further_envs", "x", "tasks"): "mine:Tasks",
    }
