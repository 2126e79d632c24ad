"""As many instances of a user's environment as the largest number of lanes, and no more."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs import SimulationFailure, make
from metarl.experience.rollout import RolloutWorker
from tests.envs.test_process_vector import trajectory

COUNTED = "tests.envs.used_envs:Counted"


def test_there_are_as_many_instances_as_the_largest_number_of_lanes(tmp_path: Path) -> None:
    """And what was played in them leaves no trace in what is played next."""
    log = tmp_path / "log"
    worker = RolloutWorker(lambda n: make(COUNTED, n, num_workers=2, log=str(log)))
    processes: list[Any] = []
    for lanes in (1, 3, 5, 4):
        env: Any = worker.env(lanes)
        trajectory(env, seed=lanes)
        processes += [w for w in env._workers if w not in processes]
    assert log.read_text().count("built") == 5
    assert len(processes) == 2
    used = trajectory(worker.env(4))
    worker.close()
    assert all(w._process.returncode == 0 for w in processes)
    fresh = make(COUNTED, 4, num_workers=1, log=str(log))
    for a, b in zip(used, trajectory(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    fresh.close()


def test_one_plays_at_a_time(tmp_path: Path) -> None:
    """Steps in the other's episode would be taken for steps in one's own."""
    first: Any = make(COUNTED, 3, num_workers=1, log=str(tmp_path / "log"))
    second = first.with_lanes(2)
    first.reset(seed=0)
    second.reset(seed=0)
    with pytest.raises(SimulationFailure, match=r"Counted with 3 lanes .* reset all lanes first"):
        first.step(np.zeros((3, 2)))
    assert second.step(np.zeros((2, 2)))[0].shape == (2, 4)
    first.reset(seed=0)
    first.step(np.zeros((3, 2)))
    first.close()
    with pytest.raises(SimulationFailure, match="Counted is closed"):
        second.reset(seed=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_line_says_how_many_instances_there_will_be_before_they_are_built(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    said: list[tuple[str, int]] = []
    worker = RolloutWorker(lambda n: make(COUNTED, n, num_workers=1, log=str(log), size=3e6))
    worker.say = lambda line: said.append((line, log.read_text().count("built")))
    worker.expect(np.zeros((4, 1)), 3)
    for lanes in (1, 8, 12, 3, 13):
        worker.env(lanes)
    worker.close()
    assert [built for _, built in said] == [5, 12]
    sentence = r"Counted: one instance a lane, (\d+) in 1 worker process, about (.*) MB: (.*) MB "
    (planned, total, each), (more, *_) = [re.match(sentence, line).groups() for line, _ in said]  # type: ignore[union-attr]
    assert (planned, more) == ("12", "13")
    assert 2.5 < float(each) < 6.0
    assert float(total) > 12 * float(each)
    assert said[0][0].endswith("each, beside what a process takes (resident memory, measured on 5)")
    assert log.read_text().count("built") == 13
