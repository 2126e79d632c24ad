"""What an environment's name may lead to: a class, a function, an id, a wrapper."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metarl
from metarl.config.env_fields import env_parameters
from metarl.config.help import config_lines
from metarl.config.loading import config_from
from metarl.config.validation import Option
from metarl.envs import constructor_fields, env_maker, make
from metarl.envs.process_vector import ProcessVectorEnv
from tests.envs import faulty_envs
from tests.envs.local_pool import LocalPool

HERE = "tests.envs.faulty_envs"
MAZE = f"{HERE}:tests/Maze-v0"


@pytest.mark.parametrize(
    ("name", "horizon"),
    [("make_flat", 3), ("Flat", 5), ("tests/Maze-v0", 2)],
    ids=["function", "wrapper", "id"],
)
def test_all_are_played_alike(name: str, horizon: int) -> None:
    env = ProcessVectorEnv(env_maker(f"{HERE}:{name}"), 2, num_workers=1, pool=LocalPool())
    assert env.horizon == horizon
    env.set_tasks([[0.25], [0.75]])
    env.reset(seed=0)
    for _ in range(horizon):
        assert not env.finished.any()
        _, reward, _, truncated, _ = env.step(np.zeros((2, 1)))
    assert reward.tolist() == [0.5, 0.5]
    assert truncated.all()
    pool: Any = env._pool
    goals = [instance.unwrapped.goal for instance in pool.workers[0].slice.envs]
    assert goals == [0.25, 0.75]


def test_parameters_of_all_are_fields() -> None:
    fields = constructor_fields(env_maker(f"{HERE}:make_flat"))
    assert fields["limit"] == (int, 3, "Of its steps.")
    maze = constructor_fields(env_maker(MAZE))["size"]
    assert maze == (int, 4, "Of its side."), "as registered"
    config = config_from({"env": {"name": MAZE, "size": 5}})
    assert env_parameters(config) == {"size": 5, "render_mode": None}
    assert "--env.limit INT" in "\n".join(
        config_lines(None, [Option("env.name", f"{HERE}:make_flat")])
    )
    env: Any = env_maker(MAZE)(size=6)
    assert env.unwrapped.size == 6


def test_a_function_is_given_as_it_is_in_python() -> None:
    made = metarl.make_env(faulty_envs.make_flat, 1, num_workers=1, limit=4)
    assert made.horizon == 4
    made.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Pendulm-v1", r"'Pendulm-v1' is not registered: .*[Pp]endulum.*; name the module that"),
        (f"{HERE}:Maze-v7", r"Maze-v7' is not registered: "),
        ("no.such:Maze-v0", r"'no\.such:Maze-v0' cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:make_flt", r"Unknown class or function 'make_flt': did you mean 'make_flat'\?"),
        (f"{HERE}:HERE", r"Unknown class or function 'HERE'"),
    ],
)
def test_what_is_not_there_is_said(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        make(name, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "import sys\nsys.exit(2)",
            r"cannot be imported: it called sys\.exit\(2\) \(.*, line 2\); what is to run as a "
            r"program belongs under if __name__ == '__main__'\.$",
        ),
        (
            "import argparse\nargparse.ArgumentParser().parse_args(['x'])",
            r"sys\.exit\(2\) .*line 2",
        ),
        ("x = 1\n1 / 0", r"ZeroDivisionError: division by zero \(.*broken\.py, line 2\)\.$"),
        ("def f(:", r"SyntaxError: .*line 1\)\.$"),
        ("raise KeyboardInterrupt", None),
    ],
    ids=["exit", "arguments", "error", "syntax", "interrupt"],
)
def test_a_module_that_fails_is_told_with_its_line(
    text: str, sentence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    if sentence is None:
        with pytest.raises(KeyboardInterrupt):  # the user's own, who wants to stop
            make("broken:Env", 1)
        return
    with pytest.raises(ValueError, match=sentence):
        make("broken:Env", 1)


class Exits(metarl.envs.TaskVectorEnv):
    def __init__(self, num_envs: int) -> None:
        sys.exit("no model")


def test_a_batched_environment_that_cannot_be_built_is_told_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"^Exits cannot be built: it called sys\.exit\('no mod"):
        make("tests.envs.test_makers:Exits", 1)
