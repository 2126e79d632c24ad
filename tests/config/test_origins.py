"""The place that a sentence about a wrong value names is the one where it was given."""

from __future__ import annotations

import re
from typing import Any

import pytest

import metarl
from metarl.config.loading import load_config, resolve
from metarl.errors import UserError
from tests.config.fakes import ALGORITHM, ENV, FAKE, load, refused

LOW_2 = "seed: 1\nalgorithm:\n  low: 2.0\n"
PPO = "algorithm:\n  outer:\n    name: ppo\n    clip: 0.3\n"


def place(message: str) -> str:
    """What stands before the sentence proper, without the file's folder."""
    where = re.match(
        r"((?:(?:\S*exp\.yaml, line \d+|command line|preset \w+|keyword \S+)(?:, and )?)*): ",
        message,
    )
    return re.sub(r"\S*exp\.yaml, ", "", where[1]) if where else ""


COMMAND_LINES: list[tuple[str, list[str], str, str]] = [
    # A wrong type, a wrong bound, an unknown field, by the file and by the command line.
    ("seed: abc\n", ["--iterations", "5"], "line 1", "seed is 'abc'"),
    ("seed: 3\n", ["--seed", "abc"], "command line", "seed is 'abc'"),
    ("seed: -3\n", ["--seed", "abc"], "command line", "seed is 'abc'"),
    ("seed: 3\n", ["--seed", "-1"], "command line", "seed is -1"),
    ("env:\n  start: [0.0, x]\n", ["--env.length", "2"], "line 2", "env.start[1] is 'x'"),
    ("env:\n  start: [0.0, x]\n", ["--env.start", "1,y"], "command line", "env.start[1] is 'y'"),
    ("env:\n  length: 1\n", ["--env.lenght", "2"], "command line", "no field env.lenght"),
    ("env:\n  lenght: 1\n", ["--env.length", "2"], "line 2", "no field env.lenght"),
    ("seed: 3\n", ["--seed.x", "1"], "command line", "seed is one value"),
    ("validation: {interval: 0}\n", ["--validation.episodes", "3"], "line 1", "interval is 0"),
    # Values that do not go together: each may be the wrong one.
    (LOW_2, ["--algorithm.steps", "2"], "line 3", "low must be below high"),
    (LOW_2, ["--algorithm.high", "1.5"], "line 3, and command line", "low must be below high"),
    (LOW_2, ["--algorithm.low", "4"], "command line", "low must be below high"),
    ("algorithm:\n  steps: 2\n", ["--algorithm.low", "4"], "command line", "low must be below"),
    ("algorithm:\n  steps: 2\n  high: -1.0\n", [], "line 3", "low must be below high"),
    # A preset's parameters, and what is laid over them.
    ("env:\n  preset: broken\n", [], "preset broken", "env.length is 'x'"),
    ("env:\n  length: y\n", ["--env.preset", "broken"], "line 2", "env.length is 'y'"),
    ("env:\n  preset: wide\n", ["--env.preset", "wid"], "command line", "env.preset is 'wid'"),
]


@pytest.mark.parametrize(("text", "words", "where", "part"), COMMAND_LINES)
def test_a_file_and_a_command_line(
    text: str,
    words: list[str],
    where: str,
    part: str,
    write: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.config.fakes import FakeEnv

    monkeypatch.setitem(FakeEnv.presets, "broken", {"length": "x"})
    message = refused(lambda: load(text, write, *words))
    assert part in message
    assert place(message) == where, message


RL2 = "algorithm:\n  name: rl2\n  tasks: 4\n"
REAL: list[tuple[str, list[str], str, str]] = [
    (RL2, ["--algorithm.minibatches", "9"], "line 3, and command line", "at most tasks × lanes"),
    (f"{RL2}  minibatches: 9\n", ["--seed", "2"], "line 3, and line 4", "at most tasks × lanes"),
    ("algorithm:\n  name: rl2\n", ["--algorithm.minibatches", "999"], "command line", "tasks × l"),
    (PPO, ["--algorithm.outer.clip", "-1"], "command line", "algorithm.outer.clip is -1"),
    (PPO, ["--algorithm.outer", "ppoo"], "command line", "algorithm.outer is 'ppoo'"),
    (PPO, ["--algorithm.outer.max_kl", "1"], "command line", "no field algorithm.outer.max_kl"),
    (RL2, ["--algorithm.outer.name", "ppo"], "command line", "no field algorithm.outer"),
    (
        PPO,
        ["--algorithm.outer.name", "trpo", "--algorithm.outer.clip", "1"],
        "command line",
        "clip",
    ),
    (PPO.replace("0.3", "-2"), ["--algorithm.tasks", "3"], "line 4", "algorithm.outer.clip is -2"),
    (
        "algorithm:\n  outer:\n    curvature_every: 2\n",
        ["--algorithm.inner_estimator", "dice"],
        "line 3, and command line",
        "must be 1 with inner_estimator dice",
    ),
    # Refused by the environment's constructor, which knows nothing of files.
    ("env:\n  horizon: 5\n", ["--env.tasks", "nothing"], "command line", "of tasks is 'nothing'"),
    ("env:\n  horizon: 0\n", ["--seed", "2"], "line 2", "horizon"),
    ("env:\n  horizon: 5\n", ["--env.horizon", "0"], "command line", "horizon"),
    (
        "env:\n  held_out: maml_2017\n",
        ["--env.region", "square", "--env.radius", "2"],
        "line 2, and command line",
        "held_out is 'maml_2017'",
    ),
]


@pytest.mark.parametrize(("text", "words", "where", "part"), REAL)
def test_the_own_environments_and_algorithms(
    text: str, words: list[str], where: str, part: str, write: Any
) -> None:
    message = refused(lambda: resolve(load_config(write(text), words)))
    assert part in message
    assert place(message) == where, message


NAMED = f"algorithm:\n  name: {ALGORITHM}\n  low: 0.5\nenv:\n  name: {ENV}\n"
KEYWORDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("  length: 1\n", {"env.length": "x"}, "keyword env.length", "env.length is 'x'"),
    ("  length: 1\n", {"env": {"length": "y"}}, "keyword env", "env.length is 'y'"),
    ("  length: x\n", {"env": {"start": [0.0, 1.0]}}, "line 6", "env.length is 'x'"),
    ("  length: x\n", {"env.start": [0.0, 1.0]}, "line 6", "env.length is 'x'"),
    ("seed: 1\n", {"seed": -1}, "keyword seed", "seed is -1"),
    ("seed: -1\n", {"iterations": 3}, "line 6", "seed is -1"),
    ("", {"algorithm.high": 0.1}, "line 3, and keyword algorithm.high", "low must be below high"),
    ("", {"algorithm": {"low": 4}}, "keyword algorithm", "low must be below high"),
]


@pytest.mark.parametrize(("text", "fields", "where", "part"), KEYWORDS)
def test_a_file_and_keywords(
    text: str, fields: dict[str, Any], where: str, part: str, write: Any
) -> None:
    message = refused(lambda: metarl.train(write(NAMED + text), **fields))
    assert part in message
    assert place(message) == where, message


def test_where_values_were_given_is_no_part_of_a_config(write: Any) -> None:
    by_file = load_config(write("seed: 7\nname: x\n"), FAKE)
    by_words = load_config(write("name: x\n"), [*FAKE, "--seed", "7"])
    assert by_file == by_words
    assert by_file != load_config(write("name: x\n"), [*FAKE, "--seed", "8"])
    assert by_words.origins["seed",] == "command line"


def test_cuda_asked_for_in_the_file(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"exp.yaml, line 2: device is cuda"):
        resolve(load_config(write("seed: 1\ndevice: cuda\n"), []))
