"""What a config accepts and what it means: files, command lines, plain data."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from pydantic import BaseModel, Field, ValidationError

from metarl.config.loading import (
    config_from,
    config_to_yaml,
    differences,
    env_parameters,
    load_config,
)
from metarl.config.validation import split_options, validated
from metarl.config.yaml_text import dump_yaml, parse_scalar, parse_yaml
from tests.config.fakes import ALGORITHM, ENV, FAKE, FakeConfig, FakeEnv, load, refused


def test_defaults_and_concrete_sections(write) -> None:  # type: ignore[no-untyped-def]
    config = load("seed: 7", write)
    assert (config.seed, config.name, config.iterations) == (7, "exp", 200)
    assert isinstance(config.algorithm, FakeConfig)
    assert config.algorithm.name == ALGORITHM
    assert env_parameters(config) == {
        "length": 1.0,
        "start": (0.0, 0.0),
        "mode": "dense",
        "label": "x",
        "path": (1.0, 2.0),  # as it stands in the signature
        "anything": True,
    }


def test_the_command_line_wins_over_the_file(write) -> None:  # type: ignore[no-untyped-def]
    config = load("algorithm: {steps: 2, rule: ppo}", write, "--algorithm.steps=3", "--seed", "4")
    assert (config.algorithm.steps, config.algorithm.rule, config.seed) == (3, "ppo", 4)


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("algorithm.inner_lr", "1e-3", 0.001),
        ("algorithm.inner_lr", "[0.5, 0.25]", (0.5, 0.25)),
        ("algorithm.inner_lr", "0.5,0.25", (0.5, 0.25)),
        ("algorithm.limit", "null", None),
        ("algorithm.limit", "None", None),
        ("algorithm.first_order", "true", True),
        ("validation.enabled", "false", False),
        ("max_env_steps", "16e6", 16_000_000),
        ("max-env-steps", "1_000", 1000),
        ("tracking.tags", "a", ("a",)),
        ("tracking.tags", "a,2", ("a", "2")),
        ("tracking.tags", "[]", ()),
        ("tracking.group", "none", None),
        ("tracking.group", "a,b", "a,b"),
        ("tracking.group", "2024", "2024"),
        ("tracking.group", "true", "true"),
        ("tracking.group", "[a]", "[a]"),
        ("tracking.group", '"a"', "a"),
        ("env.length", "-3", -3.0),
        ("env.start", "1,-2", (1.0, -2.0)),
        ("env.label", "x=1: y", "x=1: y"),
    ],
)
def test_command_line_values(option: str, text: str, expected: object) -> None:
    for words in ([f"--{option}", text], [f"--{option}={text}"]):
        value: Any = load_config(None, [*FAKE, *words])
        for part in option.replace("-", "_").split("."):
            value = getattr(value, part)
        assert value == expected
        assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1E+2", 100),
        ("1_000", 1000),
        ("-2", -2),
        (".5", 0.5),
        ("16e6", 16_000_000),
        ("1:30", "1:30"),
        ("no", "no"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("1e", "1e"),
        ("e5", "e5"),
        ("-", "-"),
    ],
)
def test_plain_scalars(text: str, expected: object) -> None:
    value = parse_scalar(text)
    assert value == expected
    assert type(value) is type(expected)
    assert parse_yaml(f"x: {text}" if text != "-" else "x: '-'", "t")[0] == {"x": expected}


def test_presets_fill_and_given_values_win(write) -> None:  # type: ignore[no-untyped-def]
    config = load("env: {preset: narrow, length: 9.0}", write)
    assert config.env.length == 9.0
    assert config.env.start == (1.0, 2.0)
    config = load_config(None, [*FAKE, "--env.preset", "wide", "--env.start", "1,1"])
    assert (config.env.length, config.env.start) == (5.0, (1.0, 1.0))
    assert (config.env.preset, config.env.mode) == ("wide", "dense")


def test_frozen(write) -> None:  # type: ignore[no-untyped-def]
    config = load("seed: 1", write)
    with pytest.raises(ValidationError):
        config.seed = 2
    with pytest.raises(ValidationError):
        config.algorithm.steps = 2


def test_environment_variables_are_not_config(write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = load("seed: 1", write)
    for name in ("SEED", "METARL_SEED", "ITERATIONS", "ENV__LENGTH", "NAME", "DEVICE"):
        monkeypatch.setenv(name, "99")
    assert load("seed: 1", write) == before


NASTY = [
    "1e-3",
    "no",
    "null",
    "1_0",
    "a: b",
    "# x",
    "ä€",
    "tab\there",
    "'q'",
    '"',
    " s ",
    "[1]",
    "-",
]


def test_round_trip(write) -> None:  # type: ignore[no-untyped-def]
    words = ["--algorithm.inner_lr", "1e-7,3", "--env.preset", "narrow", "--max-env-steps", "16e6"]
    config = load(f"tracking: {{tags: {json.dumps(NASTY)}, group: '1e5'}}", write, *words)
    text = config_to_yaml(config)
    again = load_config(write(text, "again.yaml"), [])
    assert again == config
    assert type(again) is type(config)
    assert config_to_yaml(again) == text
    assert again.tracking.tags == tuple(NASTY)
    assert next(iter(parse_yaml(text, "t")[0]["algorithm"])) == "name"


@pytest.mark.parametrize("text", NASTY)
def test_text_survives_yaml(text: str) -> None:
    data = {"x": text, text: 1.0e22}
    assert parse_yaml(dump_yaml(data), "t")[0] == data


def test_the_real_names_load() -> None:
    config = load_config(None, ["--env.preset", "pearl", "--algorithm.inner_lr", "0.1"])
    assert (config.env.name, config.algorithm.name) == ("point_navigation", "maml")
    assert env_parameters(config)["horizon"] == 20
    assert config.algorithm.inner_lr == (0.1,)


def test_classes_in_the_working_directory(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "my_corridor.py").write_text(
        "from tests.config.fakes import FakeEnv\nclass Mine(FakeEnv):\n"
        "    def __init__(self, num_envs, width: int = 3): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["--env.name", "my_corridor:Mine", "--algorithm.name", ALGORITHM])
    assert env_parameters(config) == {"width": 3}


class Wind(TypedDict):
    speed: float


@dataclass
class Start:
    x: float


class Windy(FakeEnv):
    def __init__(self, num_envs: int, wind: Wind, start: Start | None = None) -> None: ...


def test_a_mapping_on_the_command_line(tmp_path: Path) -> None:
    words = ["--env.name", "tests.config.test_loading:Windy", "--env.wind", "{speed: 2.5}"]
    assert env_parameters(load_config(None, words)) == {"wind": {"speed": 2.5}, "start": None}
    config = load_config(None, [*words, "--env.start", "{x: 1}"])
    assert env_parameters(config)["start"] == Start(1.0)
    path = tmp_path / "windy.yaml"
    path.write_text("env: {wind: {speed: 1.0}, start: {x: 2.0}}")
    config = load_config(path, [*words, "--env.start", "null"])
    assert env_parameters(config) == {"wind": {"speed": 2.5}, "start": None}
    message = refused(lambda: load_config(None, [*words, "--env.wind.speed", "1"]))
    assert message.endswith("there is no field env.wind.speed: env.wind is one value.")


def test_a_config_from_plain_data(tmp_path: Path) -> None:
    data = {"env": {"name": ENV, "start": np.ones(2), "length": np.float64(2)}, "run_dir": tmp_path}
    data |= {"algorithm": {"name": ALGORITHM, "inner_lr": (0.1, 0.2)}, "seed": np.int64(5)}
    before = copy.deepcopy(data)
    config = config_from(data, split_options(["--env.label", "7"]))
    assert (config.env.start, config.env.length, config.env.label) == ((1.0, 1.0), 2.0, "7")
    assert (config.seed, config.name, config.run_dir) == (5, "run", str(tmp_path))
    assert config.algorithm.inner_lr == (0.1, 0.2)
    assert repr(data) == repr(before)
    message = refused(lambda: config_from(data | {"seed": object}))
    assert message == "seed is <class 'object'>, but must be a plain value."
    assert refused(lambda: config_from({"seeed": 1})).endswith("the nearest is seed.")


class Arguments(BaseModel):
    run: tuple[str, ...] = ()
    seed: int = Field(0, ge=0)
    video: bool = Field(False, json_schema_extra={"switch": True})


def test_any_model_is_validated_alike() -> None:
    options = split_options(["--video", "--seed", "3"], switches=("video",))
    found = validated(Arguments, {"run": ["a"]}, options)
    assert found == Arguments(run=("a",), seed=3, video=True)
    options = split_options(["--seed", "-3"])
    message = refused(lambda: validated(Arguments, {}, options))
    assert message == "command line: seed is -3, but must be at least 0."


def test_classes_of_the_program_that_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from metarl.config.loading import config_from\n"
        "from tests.config.fakes import FakeEnv\n"
        "class Mine(FakeEnv):\n"
        "    def __init__(self, num_envs, width: int = 3): ...\n"
        "config = config_from({'env': {'name': '__main__:Mine', 'width': 4}})\n"
        "print(config.env.name, config.env.width)\n"
    )
    root = str(Path(__file__).parents[2])
    said = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "__main__:Mine 4\n"


def test_differences_between_environments() -> None:
    a = load_config(None, FAKE)
    b = load_config(None, ["--algorithm.name", ALGORITHM])
    clauses = differences(a, b)
    assert f"env.name was '{ENV}' and is 'point_navigation' now" in clauses
    assert "env.length was 1 and is absent now" in clauses
    assert differences(a, a) == []


def test_settings_of_an_algorithm_for_evaluation_alone_do_not_change_a_run() -> None:
    a = load_config(None, [])
    assert differences(a, load_config(None, ["--algorithm.evaluation-inner-lr", "0.3"])) == []
    assert differences(a, load_config(None, ["--algorithm.inner-lr", "0.3"])) != []
