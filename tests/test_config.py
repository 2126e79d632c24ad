"""Config and command line: what is accepted, what it means, and what bad input is told."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from metarl.envs import TaskVectorEnv
from pydantic import BaseModel, Field, ValidationError, model_validator

from metarl.cli.command_line import parse_evaluate_arguments, parse_train_arguments
from metarl.config import config_from, validated
from metarl.config.help import config_lines
from metarl.config.loading import (
    config_to_yaml,
    differences,
    env_parameters,
    fingerprint,
    load_config,
    resolve,
)
from metarl.config.overrides import split_options
from metarl.config.yaml_text import dump_yaml, parse_scalar, parse_yaml
from metarl.errors import UserError

ALGORITHM = "tests.test_config:FakeAlgorithm"
ENV = "tests.test_config:FakeEnv"


class FakeConfig(BaseModel):
    """Neither strict nor frozen by itself, so that what is tested is the framework's doing."""

    inner_lr: tuple[float, ...] | float = Field(0.1, description="step size of the inner loop")
    steps: int = Field(1, ge=1, le=10, description="gradient steps")
    rule: Literal["trpo", "ppo"] = "trpo"
    low: float = Field(0.0, description="lower bound, rad")
    high: float = 1.0
    first_order: bool = False
    limit: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> FakeConfig:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}, but low must be below high")
        return self


class FakeAlgorithm:
    config_class: ClassVar[type[BaseModel]] = FakeConfig

    def collect(self) -> None: ...
    def update(self) -> None: ...
    def agent(self) -> None: ...


class FakeEnv(TaskVectorEnv):
    """Never built.

    Args:
        num_envs: Lanes.
        length: Of the corridor, in m.
        start: Where episodes begin, in m.
        mode: How it pays.
        anything: Not annotated.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "narrow": {"length": 0.5, "start": (1.0, 2.0)},
        "wide": {"length": 5.0},
    }

    def __init__(  # type: ignore[no-untyped-def]
        self,
        num_envs: int,
        *,
        length: float = 1,
        start: tuple[float, float] = (0.0, 0.0),
        mode: Literal["dense", "sparse"] = "dense",
        label: str = "x",
        path: Sequence[float] = (1.0, 2.0),
        anything=True,
    ) -> None:
        raise AssertionError("a config builds no environment")


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def _write(text: str | bytes, name: str = "exp.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return _write


FAKE = ["--env.name", ENV, "--algorithm.name", ALGORITHM]


def load(text: str, write, *words: str):  # type: ignore[no-untyped-def]
    return load_config(write(text), [*FAKE, *words])


# --- what is accepted -------------------------------------------------------------------------


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
        "path": [1.0, 2.0],  # as YAML has it, so that the config equals itself read again
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
        "from tests.test_config import FakeEnv\nclass Mine(FakeEnv):\n"
        "    def __init__(self, num_envs, width: int = 3): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["--env.name", "my_corridor:Mine", "--algorithm.name", ALGORITHM])
    assert env_parameters(config) == {"width": 3}


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
        "from metarl.config import config_from\n"
        "from tests.test_config import FakeEnv\n"
        "class Mine(FakeEnv):\n"
        "    def __init__(self, num_envs, width: int = 3): ...\n"
        "config = config_from({'env': {'name': '__main__:Mine', 'width': 4}})\n"
        "print(config.env.name, config.env.width)\n"
    )
    root = str(Path(__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "__main__:Mine 4\n"


# --- what is refused --------------------------------------------------------------------------

FILES: list[tuple[str | bytes, list[str]]] = [
    ("", ["exp.yaml", "empty"]),
    ("# only a comment\n", ["exp.yaml", "empty"]),
    ("- 1\n- 2\n", ["exp.yaml", "a list", "mapping"]),
    ("just words\n", ["exp.yaml", "just words", "mapping"]),
    ("seed: 1\n  iterations: 2\n", ["exp.yaml, line 2, column 13", "not valid YAML"]),
    ("env: [1, 2\n", ["exp.yaml, line 2", "not valid YAML"]),
    ("seed: 1\n\tname: x", ["exp.yaml, line 2", "not valid YAML"]),
    ("seed: 1\nname: x\nseed: 2\n", ["line 3, column 1", "seed is given twice", "line 1"]),
    ("env: {length: 1, length: 2}\n", ["env.length is given twice"]),
    (b"name: \xff\xfe\n", ["exp.yaml", "UTF-8", "0xff"]),
    (b"name: a\x00b\n", ["exp.yaml", "line 1", "'\\x00'"]),
    ("seed: 1\n---\nseed: 2\n", ["exp.yaml", "line 2", "document"]),
    ("seed: !!python/object/apply:os.system [id]\n", ["line 1", "python/object", "not allowed"]),
    ("env: &a {x: *a}\n", ["exp.yaml", "alias"]),
    ("seed: *nothing\n", ["exp.yaml, line 1", "nothing"]),
    ("1: 2\n", ["line 1", "'1'", "not a name"]),
    ("? [a, b]\n: 1\n", ["line 1", "key"]),
    ("<<: {seed: 1}\n", ["<<"]),
    ("x: " + "[" * 5000 + "]" * 5000, ["exp.yaml", "nested too deeply"]),
    ("iteratons: 5\n", ["line 1", "iteratons", "the nearest is iterations"]),
    ("seed: 1\nenv:\n  lenght: 5\n", ["line 3", "env.lenght", "the nearest is env.length"]),
    ("algorithm: {stepps: 5}\n", ["algorithm.stepps", "nearest is algorithm.steps"]),
    ("algorithm: {inner_lr: 1, first_ordr: 1}", ["first_ordr", "algorithm.first_order"]),
    ("first_order: true\n", ["first_order", "nearest is algorithm.first_order"]),
    ("validation: {every: 3}\n", ["validation.every", "interval"]),
    ("seed: abc\n", ["line 1", "seed is 'abc'", "whole number"]),
    ("seed: '1'\n", ["seed is '1'", "whole number"]),
    ("seed: true\n", ["seed is true", "whole number"]),
    ("seed: 1.5\n", ["seed is 1.5", "whole number"]),
    ("seed: -1\n", ["seed is -1", "at least 0"]),
    (
        "seed: 99999999999999999999999\n",
        ["seed is 99999999999999999999999", "less than 4294967296"],
    ),
    ("seed: null\n", ["seed is null", "whole number"]),
    ("seed: [1]\n", ["seed is [1]", "whole number"]),
    ("iterations: 0\n", ["iterations is 0", "at least 1"]),
    ("iterations: -5\n", ["iterations is -5", "at least 1"]),
    ("max_env_steps: 0\n", ["max_env_steps is 0", "at least 1"]),
    ("algorithm: {low: .nan}\n", ["algorithm.low is nan", "finite"]),
    ("algorithm: {high: .inf}\n", ["algorithm.high is inf", "finite"]),
    ("env: {start: [0.0, -.inf]}\n", ["env.start[1] is -inf", "finite"]),
    ("algorithm: {high: 1e999}\n", ["algorithm.high is inf", "finite"]),
    ("algorithm: {low: 2.0, high: 1.0}\n", ["algorithm", "low must be below high"]),
    ("algorithm: {steps: 11}\n", ["algorithm.steps is 11", "at most 10"]),
    ("algorithm: {limit: 0}\n", ["algorithm.limit is 0", "greater than 0"]),
    ("algorithm: {rule: trop}\n", ["algorithm.rule is 'trop'", "trpo, ppo", "nearest is trpo"]),
    ("algorithm: {inner_lr: fast}\n", ["algorithm.inner_lr is 'fast'", "list", "number"]),
    ("algorithm: {inner_lr: [0.1, x]}\n", ["algorithm.inner_lr[1] is 'x'", "number"]),
    ("algorithm: {first_order: 1}\n", ["algorithm.first_order is 1", "true or false"]),
    ("validation: {enabled: yes}\n", ["validation.enabled is 'yes'", "true or false"]),
    ("validation: {interval: 0}\n", ["validation.interval is 0", "at least 1"]),
    ("validation: null\n", ["validation is null", "mapping"]),
    ("checkpoint: {keep: 0}\n", ["checkpoint.keep is 0", "at least 1"]),
    ("checkpoint: {interval: -1}\n", ["checkpoint.interval is -1", "at least 1"]),
    ("evaluation: {split: test}\n", ["evaluation.split is 'test'", "held_out"]),
    ("evaluation: {episodes: 0}\n", ["evaluation.episodes is 0", "at least 1"]),
    ("rollout: {workers: -1}\n", ["rollout.workers is -1", "at least 0"]),
    ("tracking: {wandb: of}\n", ["tracking.wandb is 'of'", "offline"]),
    ("tracking: {project: a/b}\n", ["tracking.project is 'a/b'", "W&B project"]),
    ("tracking: {tags: [1]}\n", ["tracking.tags[0] is 1", "text"]),
    ('tracking: {group: "\\ud800"}\n', ["tracking.group", "UTF-8"]),
    ("name: ../evil\n", ["name is '../evil'", "no path"]),
    ("name: ''\n", ["name is ''", "no path"]),
    ("name: ..\n", ["name is '..'", "no path"]),
    (f"name: {'x' * 101}\n", ["name is 'xxx", "at most 100"]),
    ("device: gpu\n", ["device is 'gpu'", "auto, cpu, cuda"]),
    ('run_dir: "a\\0b"\n', ["run_dir", "control characters"]),
    ("env: {start: [1.0, 2.0, 3.0]}\n", ["env.start", "at most 2"]),
    ("env: {start: [1.0]}\n", ["env.start[1] is missing"]),
    ("env: {length: long}\n", ["line 1", "env.length is 'long'", "number"]),
    ("env: {anything: 3}\n", ["env.anything is 3", "true or false"]),
    ("env: {preset: narow}\n", ["env.preset is 'narow'", "'narrow'", "wide"]),
    ("env: {preset: 3}\n", ["env.preset is 3", "narrow, wide"]),
    ("env: {tasks: 3}\n", ["env.tasks is 3", "text"]),
    ("seed: -1\niterations: 0\n", ["seed is -1", "1 more wrong"]),
]


def refused(action) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError) as info:
        action()
    message = str(info.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 500
    return message


@pytest.mark.parametrize(("text", "parts"), FILES, ids=lambda x: str(x)[:30])
def test_broken_files(text: str | bytes, parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write(text), FAKE))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("env: point_navigation\n", ["line 1", "env is 'point_navigation'", "{name: "]),
        ("env: {name: 3}\n", ["env.name is 3", "must be a name"]),
        (
            "env: {name: half_cheeta_vel}\n",
            ["half_cheeta_vel", "'half_cheetah_vel'", "point_navigation"],
        ),
        ("env: {name: 'no.such:Thing'}\n", ["env.name", "no.such", "ModuleNotFoundError"]),
        ("env: {name: 'pathlib:Path'}\n", ["env.name", "pathlib:Path"]),
        ("env: {name: 'tests.test_config:FakEnv'}\n", ["env.name", "FakEnv", "FakeEnv"]),
        ("algorithm: {name: malm}\n", ["line 1", "algorithm.name is 'malm'", "'maml'"]),
        ("algorithm: {name: 'json:JSONDecoder'}\n", ["algorithm.name", "json:JSONDecoder"]),
        ("algorithm: {name: ':'}\n", ["algorithm.name", "':'"]),
        ("algorithm: maml\n", ["algorithm is 'maml'", "{name: maml}"]),
    ],
)
def test_unknown_environments_and_algorithms(text: str, parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write(text), []))
    for part in parts:
        assert part in message, message


def test_a_module_that_fails_to_import_is_a_sentence(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken_module.py").write_text("raise KeyError('boom\\nboom')\n")
    monkeypatch.chdir(tmp_path)
    message = refused(lambda: load_config(None, ["--env.name", "broken_module:Env"]))
    assert "env.name" in message
    assert "KeyError" in message


@pytest.mark.parametrize(
    ("path", "parts"),
    [("missing.yaml", ["no config file", "missing.yaml"]), ("folder", ["folder", "is a folder"])],
)
def test_no_file(path: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    message = refused(lambda: load_config(tmp_path / path, []))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["stray"], ["'stray'", "--field value"]),
        (["-x", "1"], ["'-x'", "--field value"]),
        (["--"], ["'--'"]),
        (["--seed"], ["--seed needs a value"]),
        (["--seed", "--name", "x"], ["--seed needs a value"]),
        (["--seed=x"], ["command line", "seed is 'x'", "whole number"]),
        (["--seed="], ["seed is ''", "whole number"]),
        (["--sed", "1"], ["command line", "sed", "the nearest is seed"]),
        (["--env.lenth", "1"], ["env.lenth", "the nearest is env.length"]),
        (["--lenth", "1"], ["lenth", "the nearest is env.length"]),
        (["--env", "x"], ["env is a section", "--env.name"]),
        (["--env.length.x", "1"], ["env.length.x", "env.length is one value"]),
        (["--algorithm.inner_lr", "0.1,x"], ["command line", "algorithm.inner_lr[1] is 'x'"]),
        (["--algorithm.inner_lr", "[0.1"], ["--algorithm.inner_lr", "not valid YAML"]),
        (["--algorithm.steps", "nan"], ["algorithm.steps is 'nan'", "whole number"]),
        (["--algorithm.low", ".nan"], ["algorithm.low is nan", "finite"]),
        (["--validation.enabled", "no"], ["validation.enabled is 'no'", "true or false"]),
        (["--tracking.group", "\udcff"], ["tracking.group", "UTF-8"]),
        (["--name", "a b"], ["name is 'a b'", "letters"]),
        (["--..", "1"], ["there is no field"]),
        (["--algorithm.name", "null"], ["algorithm.name is null", "must be a name"]),
        (["--env.preset", "nothing"], ["env.preset is 'nothing'", "narrow, wide"]),
        (["--device", "tpu"], ["device is 'tpu'", "auto, cpu, cuda"]),
    ],
)
def test_broken_command_lines(words: list[str], parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write("seed: 1"), [*FAKE, *words]))
    for part in parts:
        assert part in message, message


# --- train.py ---------------------------------------------------------------------------------

NAVIGATION = "env: {name: point_navigation}\niterations: 5\n"


def test_train_arguments_are_resolved(write, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    path = write(NAVIGATION, "my exp.yaml")
    config, resume = parse_train_arguments([str(path), "--seed", "3", "--device", "cpu"])
    assert not resume
    assert config.run_folder == Path("runs/my_exp")
    assert config.seed == 3
    assert config.rollout.torch_threads >= 1
    config, _ = parse_train_arguments([f"--config={path}", "--run-dir=elsewhere"])
    assert config.device in ("cpu", "cuda")
    assert config.run_folder == Path("elsewhere")
    assert config.run_dir == "elsewhere"


def test_a_config_that_comes_with_metarl_has_a_name(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    for words in (["quickstart", "--seed", "3"], ["--seed", "3", "--config", "quickstart"]):
        config, _ = parse_train_arguments(words)
        assert (config.name, config.seed) == ("quickstart", 3)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["--config CONFIG", "--resume"]),
        (["quickstrat"], ["no config", "'quickstart'"]),
        (["nav.yaml", "seed", "3"], ["nav.yaml, seed, 3"]),
        (["--config", ""], ["--config is empty"]),
        (["--resume=yes"], ["--resume is a switch"]),
        (["--resume"], ["--resume needs --run-dir"]),
        (["--resume", "--run-dir", "none_here"], ["no run", "none_here", "config.yaml"]),
        (["--resume", "--run-dir", "x" * 300], ["no run to resume"]),
        (["--config", "x" * 300], ["There is no config"]),
        (["--config", "nav.yaml", "--run-dir", ""], ["run_dir", "at least 1"]),
        (["--config", "nav.yaml", "--env.radius", "-1"], ["radius is -1", "above 0"]),
        (["--config", "nav.yaml", "--env.horizon", "0"], ["horizon is 0", "at least 1"]),
        (["--config", "nav.yaml", "--env.tasks", "no:Such"], ["no:Such"]),
        (["--config", "nav.yaml", "--algorithm.inner_lr", "-1"], ["inner_lr", "positive"]),
        (
            ["--config", "nav.yaml", "--algorithm.tasks", "0"],
            ["algorithm.tasks is 0", "at least 1"],
        ),
    ],
)
def test_broken_train_command_lines(words, parts, write, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    write(NAVIGATION, "nav.yaml")
    monkeypatch.chdir(tmp_path)
    message = refused(lambda: parse_train_arguments(words))
    for part in parts:
        assert part in message, message


def test_inverted_ranges_are_refused(write) -> None:  # type: ignore[no-untyped-def]
    path = write("env: {name: half_cheetah_vel, velocity_low: 3.0, velocity_high: 1.0}")
    message = refused(lambda: parse_train_arguments(["--config", str(path)]))
    assert "velocity_low is 3" in message
    assert "velocity_high is 1" in message


def test_cuda_without_one(write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["--config", str(write(NAVIGATION)), "--device", "cuda"]
    assert "no CUDA device" in refused(lambda: parse_train_arguments(words))
    assert "no CUDA device" in refused(lambda: resolve(load_config(None, ["--device", "cuda"])))


@pytest.fixture
def run(write, tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    """A run folder as training leaves it, and the file that it came from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    source = write(NAVIGATION, "nav.yaml")
    config, _ = parse_train_arguments(["--config", str(source), "--rollout.torch_threads", "3"])
    config.run_folder.mkdir(parents=True)
    (config.run_folder / "config.yaml").write_text(config_to_yaml(config))
    return config


def test_resume_takes_the_runs_own_config(run) -> None:  # type: ignore[no-untyped-def]
    resumed, resume = parse_train_arguments(["--run-dir", "runs/nav", "--resume"])
    assert resume
    assert resumed == run
    assert resumed.rollout.torch_threads == 3
    # With the same config file: what it leaves to the machine is taken from the run.
    assert parse_train_arguments(["--config", "nav.yaml", "--resume"]) == (run, True)


def test_resume_after_the_folder_was_moved(run) -> None:  # type: ignore[no-untyped-def]
    Path("runs/nav").rename("moved")
    resumed, _ = parse_train_arguments(["--run-dir", "moved", "--resume"])
    assert resumed.run_folder == Path("moved")
    assert differences(run, resumed) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--iterations", "9"],
        ["--max-env-steps", "100"],
        ["--rollout.physics_threads", "1"],
        ["--rollout.workers", "1"],
        ["--checkpoint.keep", "9"],
        ["--tracking.wandb", "disabled"],
        ["--validation.enabled", "false"],
        ["--evaluation.episodes", "1"],
    ],
)
def test_resume_with_what_may_change(run, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    resumed, _ = parse_train_arguments(["--run-dir", "runs/nav", "--resume", *words])
    assert resumed != run
    assert fingerprint(resumed) == fingerprint(run)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seed", "9"], ["seed was 1 and is 9 now"]),
        (["--env.radius", "0.7"], ["env.radius was 0.5 and is 0.7 now"]),
        (["--algorithm.inner_lr", "0.2"], ["algorithm.inner_lr was [0.1] and is [0.2] now"]),
        (["--rollout.torch_threads", "1"], ["rollout.torch_threads was 3", "sums differ"]),
        (["--device", "cuda"], ["device was 'cpu' and is 'cuda' now", "sums differ"]),
        (["--name", "other"], ["name was 'nav'"]),
    ],
)
def test_resume_with_another_config_is_refused(run, words, parts) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: parse_train_arguments(["--run-dir", "runs/nav", "--resume", *words]))
    for part in ["runs/nav", "cannot be resumed", *parts]:
        assert part in message, message


def test_differences_between_environments() -> None:
    a = load_config(None, FAKE)
    b = load_config(None, ["--algorithm.name", ALGORITHM])
    clauses = differences(a, b)
    assert f"env.name was '{ENV}' and is 'point_navigation' now" in clauses
    assert "env.length was 1.0 and is absent now" in clauses
    assert differences(a, a) == []


def test_settings_of_an_algorithm_for_evaluation_alone_do_not_change_a_run() -> None:
    a = load_config(None, [])
    assert differences(a, load_config(None, ["--algorithm.evaluation-inner-lr", "0.3"])) == []
    assert differences(a, load_config(None, ["--algorithm.inner-lr", "0.3"])) != []


# --- evaluate.py ------------------------------------------------------------------------------


def test_evaluate_arguments(run) -> None:  # type: ignore[no-untyped-def]
    words = "--run runs/nav --split validation --episodes 5 --adaptation-steps 2 --mode both"
    words += " --seed 4 --device cpu --checkpoint 30 --output out"
    arguments = parse_evaluate_arguments(words.split())
    assert arguments.run == ("runs/nav",)
    assert (arguments.split, arguments.episodes, arguments.adaptation_steps) == ("validation", 5, 2)
    assert (arguments.mode, arguments.seed, arguments.device) == ("both", 4, "cpu")
    assert (arguments.checkpoint, arguments.output) == (30, "out")
    assert parse_evaluate_arguments(["--video", "runs/nav"]).run == ("runs/nav",)
    bare = parse_evaluate_arguments(["--run=runs/nav"])
    assert (bare.split, bare.episodes, bare.checkpoint, bare.device) == (
        None,
        None,
        "latest",
        "cpu",
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["metarl evaluate RUN"]),
        (["--run", "nowhere"], ["no run in nowhere"]),
        (["--run", "runs/nav", "--run", "runs/../runs/nav"], ["given twice"]),
        (["--run", "runs/nav", "--split", "test"], ["split is 'test'", "held_out"]),
        (["--run", "runs/nav", "--episodes", "0"], ["episodes is 0", "at least 1"]),
        (
            ["--run", "runs/nav", "--adaptation-steps", "-1"],
            ["adaptation_steps is -1", "at least 1"],
        ),
        (["--run", "runs/nav", "--mode", "greedy"], ["mode is 'greedy'", "deterministic"]),
        (["--run", "runs/nav", "--checkpoint", "last"], ["checkpoint is 'last'", "latest"]),
        (["--run", "runs/nav", "--checkpoint", "-1"], ["checkpoint is -1", "at least 0"]),
        (["--run", "runs/nav", "--device", "cuda"], ["no CUDA device"]),
        (["--run", "runs/nav", "--episode", "3"], ["episode", "nearest is episodes"]),
        (["--run"], ["--run needs a value"]),
        (["runs/nav", "runs/./nav"], ["given twice"]),
        (["runs/nav", "-x"], ["'-x'", "--field value"]),
    ],
)
def test_broken_evaluate_command_lines(run, words, parts) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: parse_evaluate_arguments(words))
    for part in parts:
        assert part in message, message


# --- help -------------------------------------------------------------------------------------


def test_help_describes_the_chosen_classes() -> None:
    text = "\n".join(config_lines(None, split_options(FAKE)))
    line = next(x for x in text.splitlines() if "--env.length" in x)
    assert "NUMBER" in line
    assert "Of the corridor, in m" in line
    assert "default 1" in line
    line = next(x for x in text.splitlines() if "--algorithm.steps" in x)
    assert "gradient steps (default 1; >= 1; <= 10)" in line
    assert "--env.radius" not in text  # of another environment
    for word in ("half_cheetah_vel", "point_navigation", "maml", "narrow, wide", "trpo|ppo"):
        assert word in text
    assert text.count("--validation.enabled true|false") == 1


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_exits_with_0(flag: str, capsys) -> None:  # type: ignore[no-untyped-def]
    for parse, word in (
        (parse_train_arguments, "--max-env-steps"),
        (parse_evaluate_arguments, "--adaptation-steps"),
    ):
        with pytest.raises(SystemExit) as info:
            parse([flag])
        assert info.value.code == 0
        assert word in capsys.readouterr().out
