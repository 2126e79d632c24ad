"""A user's file of tasks: what is read, and what is said of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metarl.envs.tasks import FiniteTasks, GoalRegion, TaskDistribution, UniformInterval
from metarl.errors import UserError
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.task_sets import read_tasks

GOALS = GoalRegion()
TASKS = np.array([[0.25, -0.5], [0.1, 0.2]])


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "goal_x,goal_y\n0.25,-0.5\n0.1,0.2\n"),
        ("a.CSV", "\ufeffgoal_y, goal_x\n-0.5,0.25\n\n0.2,1e-1\n"),
        ("a.json", '[{"goal_x": 0.25, "goal_y": -0.5}, {"goal_y": 0.2, "goal_x": 0.1}]'),
        ("a.json", json.dumps({"task_columns": ["goal_x", "goal_y"], "tasks": TASKS.tolist()})),
        ("a.json", '{"task_columns": ["goal_y", "goal_x"], "tasks": [[-0.5, 0.25], [0.2, 0.1]]}'),
    ],
)
def test_forms(name: str, text: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_tasks(write(tmp_path, name, text), GOALS), TASKS)


DIRECTIONS = FiniteTasks([[-1.0], [1.0]], ("direction",), ("",))
SPEEDS = UniformInterval(0.0, 3.0)


@pytest.mark.parametrize(
    ("name", "text", "distribution", "said"),
    [
        ("a.txt", "", GOALS, "must end in .csv or .json"),
        ("a.csv", "", GOALS, "is empty"),
        ("a.csv", "x,y\n1,2\n3,4\n", GOALS, "columns x, y; the tasks of this environment have go"),
        ("a.csv", "0.1,0.2\n0.3,0.4\n", GOALS, "has the columns 0.1, 0.2"),
        ("a.csv", "goal_x\n1\n2\n", GOALS, "has the columns goal_x; "),
        ("a.csv", "goal_x,goal_x\n1,2\n2,3\n", GOALS, "has the columns goal_x, goal_x; "),
        ("a.csv", "goal_x,goal_y\n1,2\n3\n", GOALS, "task 2 has 1 entries; it must have 2"),
        ("a.csv", "goal_x,goal_y\n1,2\n3,four\n", GOALS, "goal_y of task 2 is 'four'"),
        ("a.csv", "goal_x,goal_y\n1,2\n3,inf\n", GOALS, "goal_y of task 2 is 'inf'"),
        ("a.csv", "goal_x,goal_y\n", GOALS, "has 0 tasks; an evaluation takes at least 1"),
        ("a.csv", "velocity\n", SPEEDS, "has 0 tasks"),
        ("a.csv", "velocity\n" + "1\n" * 10_001, SPEEDS, "at most 10,000"),
        ("a.csv", "direction\n1\n0.5\n", DIRECTIONS, "[0.5]: it must be one of [[-1.0], [1.0]]"),
        ("a.json", "{", GOALS, "is not JSON"),
        ("a.json", "[" * 100_000, GOALS, "is not JSON"),
        ("a.json", "3", GOALS, "must hold a list of objects"),
        ("a.json", "[[1, 2], [3, 4]]", GOALS, "must hold a list of objects"),
        ("a.json", '{"tasks": [[1, 2]]}', GOALS, 'have "task_columns" and "tasks"'),
        ("a.json", "[]", GOALS, "has 0 tasks"),
        ("a.json", '[{"goal_x": 1, "goal_y": 2}, {"goal_x": 1}]', GOALS, "task 2 names goal_x;"),
        ("a.json", '[{"velocity": true}, {"velocity": 1}]', SPEEDS, "velocity of task 1 is True"),
        ("a.json", '[{"velocity": null}, {"velocity": 1}]', SPEEDS, "velocity of task 1 is None"),
        ("a.json", '[{"velocity": NaN}, {"velocity": 1}]', SPEEDS, "velocity of task 1 is nan"),
    ],
)
def test_mistakes_get_one_sentence(
    name: str, text: str, distribution: TaskDistribution, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(UserError) as caught:
        read_tasks(path, distribution)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read: No such file"):
        read_tasks(tmp_path / "none.csv", GOALS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_tasks(tmp_path / "folder.csv", GOALS)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        read_tasks(tmp_path / "binary.csv", GOALS)


def test_names() -> None:
    plan = EvaluationPlan("held_out", 2, 1, task_file=Path("a/my goals.v2.csv"))
    assert plan.split_name(GOALS) == "tasks of my goals.v2.csv"
    assert plan.folder == "tasks_my_goals.v2"
