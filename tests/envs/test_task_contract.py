"""Faulty task distributions: what is said of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs import SimulationFailure, UniformInterval, make, task_contract
from metarl.envs.faults import BrokenContract
from metarl.envs.task_contract import check_distribution
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from tests.cli.test_end_to_end import refusal
from tests.envs import faulty_tasks
from tests.programs import write_config
from tests.toy_envs import Line

SAID = {
    "NoColumns": "NoColumns (HERE) has no columns: give it a tuple, one text for each number of a "
    'task, such as columns = ("mass", "length")',
    "OneText": "OneText (HERE) has the str 'mass' as columns: give it a tuple",
    "SameNames": "SameNames (HERE) has the columns ('mass', 'mass'): each number of a task needs a "
    "name of its own",
    "MoreUnits": "MoreUnits (HERE) has 1 columns and 2 units",
    "SampleRaises": "SampleRaises.sample (HERE) failed: AttributeError: 'SampleRaises' object has "
    "no attribute 'scale' (HERE)",
    "SampleExits": "SampleExits.sample (HERE) failed: it called sys.exit('no tasks') (HERE)",
    "SampleOne": "SampleOne.sample (HERE) returned one task of 2 that were asked for",
    "SampleFlat": "SampleFlat.sample (HERE) returned an array of shape [2]: it must be an array of "
    "numbers of shape [n, 1], a row of (mass) a task",
    "SampleNan": "SampleNan.sample (HERE) returned the task [nan] in row 0: its entries (mass) must"
    " be finite",
    "SampleWithout": "SampleWithout.sample (HERE) failed: TypeError: SampleWithout.sample() takes 1"
    " positional argument but 3 were given",
    "SampleText": "SampleText.sample (HERE) returned a list of 2: it must be an array of numbers",
    "SampleRagged": "SampleRagged.sample (HERE) returned a list of 2: it must be an array of numb",
    "ValidationOne": "ValidationOne.validation (HERE) returned one task: an evaluation needs at "
    "least 2, since its intervals are taken over tasks",
    "ValidationNone": "ValidationNone.validation (HERE) returned None: it must be an array of numb",
    "ValidationEmpty": "ValidationEmpty.validation (HERE) returned no task: an evaluation needs",
    "HeldOutTwice": "HeldOutTwice.held_out (HERE) returned the task [0.1] more than once",
    "HeldOutWide": "HeldOutWide.held_out (HERE) returned an array of shape [4, 2]: it must be an "
    "array of numbers of shape [n, 1]",
    "HeldOutMoves": "HeldOutMoves.held_out (HERE) returned other tasks when it was called again",
    "Overlap": "Overlap.held_out (HERE) returned [0.75], which is a validation task, too (row 1)",
}


def located(message: str) -> str:
    assert message.endswith(".")
    return re.sub(r"tests/envs/faulty_tasks\.py, line \d+", "HERE", message)


@pytest.mark.parametrize("name", SAID)
def test_a_faulty_distribution_is_refused_before_anything_is_trained(name: str) -> None:
    env = Line(2)
    with pytest.raises(BrokenContract) as caught:
        env.task_distribution = getattr(faulty_tasks, name)()
    assert SAID[name] in located(str(caught.value))


def test_sound_ones_are_taken_as_they_are() -> None:
    env = Line(2)
    env.task_distribution = faulty_tasks.Masses()
    assert env.tasks.tolist() == [[0.25], [0.75]]
    directions: Any = faulty_tasks.Overlap()
    directions.finite = True  # which is evaluated on what it is trained on
    check_distribution(directions)
    with pytest.raises(ValueError, match="Masses has no out-of-range tasks"):
        env.task_distribution.split("out_of_range")


def test_what_breaks_while_training_is_a_failure_of_the_environment() -> None:
    env = Line(2)
    env.task_distribution = faulty_tasks.LateNan()
    worker = RolloutWorker(lambda lanes: env)
    with pytest.raises(SimulationFailure) as caught:
        worker.sample_tasks(3, Key(0))
    assert located(str(caught.value)) == (
        "LateNan.sample (HERE) returned the task [nan] in row 0: its entries (mass) must be finite."
    )
    np.testing.assert_array_equal(worker.sample_tasks(2, Key(0)), [[1.0], [1.0]])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NoColumns", "NoColumns (HERE) has no columns"),
        ("BuildExits", "cannot be built: it called sys.exit() (HERE)."),
        ("BuildNeeds", "positional argument: 'low', in BuildNeeds.__init__ (HERE)."),
    ],
)
def test_one_that_a_config_names_is_told_of_too(name: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make("point_navigation", 1, tasks=f"tests.envs.faulty_tasks:{name}")
    assert sentence in located(str(caught.value))


def test_the_program_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import train

    tasks = "tests.envs.faulty_tasks:ValidationOne"
    config = write_config(tmp_path, env={"name": "tests.toy_envs:Line", "tasks": tasks})
    words = ["--config", str(config), "--run-dir", str(tmp_path / "run")]
    assert "ValidationOne.validation (HERE) returned one task" in located(
        refusal(train.main, words, capsys).strip()
    )


def test_the_source_of_a_sound_distribution_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every environment that is made asks."""
    monkeypatch.setattr(task_contract, "written_at", None)
    check_distribution(UniformInterval(0.0, 1.0))
