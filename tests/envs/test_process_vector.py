"""Any Gymnasium environment on worker processes: the same numbers for any W, clear failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs import SimulationFailure, TaskEnv, make
from metarl.envs.process_vector import ProcessVectorEnv
from tests.envs.user_envs import Chooser, Reach

USER = "tests.envs.user_envs"


def trajectory(env: Any, seed: int = 0) -> list[np.ndarray]:
    """Everything that comes back from two episodes with partial resets, under one seed."""
    rng = np.random.default_rng(seed)
    n = env.num_envs
    env.set_tasks(env.task_distribution.sample(rng, n))
    rows = [env.reset(seed=rng.integers(2**31, size=n))[0]]
    for step in range(30):
        if step % 8 == 5:
            env.set_tasks(env.task_distribution.sample(rng, n))
            mask = env.finished | (rng.random(n) < 0.2)
            seeds = rng.integers(2**31, size=n) if step % 16 == 5 else None
            rows.append(env.reset(seed=seeds, options={"reset_mask": mask})[0])
        np.random.seed(step)  # noqa: NPY002  # a global generator means nothing to lanes or tasks
        actions = 1.5 * rng.normal(size=env.action_space.shape)
        rows += env.step(actions.astype(np.float32))[:4]
    return rows


def test_the_same_numbers_for_any_number_of_workers() -> None:
    """Also REFERENCE trap: workers that draw tasks from a re-seeded global generator."""
    runs = []
    for workers, seed in ((1, 0), (3, 0), (3, 1)):
        env = make(f"{USER}:Reach", 7, num_workers=workers)
        runs.append(trajectory(env, seed))
        env.close()
    one, three, other_seed = runs
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], other_seed[0])
    flags = np.concatenate([row for row in one if row.dtype == bool])
    assert 0.05 < flags.mean() < 0.95, "the runs are about lanes that end and lanes that live"


def test_native_lanes_and_worker_lanes_are_the_same_environment() -> None:
    """A TaskEnv on workers against the vector environment that it is a lane of."""
    native = make("point_navigation", 4, start="random", horizon=6)
    workers = ProcessVectorEnv(
        TaskEnv,
        4,
        {"name": "point_navigation", "start": "random", "horizon": 6},
        num_workers=2,
    )
    assert workers.position_columns == (0, 1)
    assert workers.horizon == 6
    for a, b in zip(trajectory(native), trajectory(workers), strict=True):
        np.testing.assert_array_equal(a, b)
    workers.close()


def test_observations_are_flattened_and_actions_scaled_to_the_environments_box() -> None:
    env = ProcessVectorEnv(Reach, 5, {"noise": 0.0}, num_workers=2)
    assert env.single_observation_space.shape == (4,)
    assert env.single_action_space.low.tolist() == [-1.0, -1.0]
    env.set_tasks(np.full((5, 2), 0.5))
    np.testing.assert_array_equal(env.reset(seed=0)[0], np.zeros((5, 4)))
    given = np.array([[-1.0, 1.0], [0.0, 0.0], [9.0, -9.0], [0.5, -0.5], [1.0, 1.0]])
    observation, reward, *_ = env.step(given)
    in_box = [[0.0, 3.0], [2.0, 0.0], [4.0, -3.0], [3.0, -1.5], [4.0, 3.0]]
    np.testing.assert_array_equal(observation[:, 2:], in_box)  # rows 1: the action it was given
    np.testing.assert_allclose(observation[:, :2], 0.1 * np.array(in_box), rtol=1e-6)
    np.testing.assert_allclose(
        reward, -np.linalg.norm(0.1 * np.array(in_box) - 0.5, axis=1), rtol=1e-6
    )
    with pytest.raises(SimulationFailure, match=r"Reach failed in lane 3 .*goal_x 0\.5"):
        env.step(np.where(np.arange(5)[:, None] == 3, np.nan, given))
    env.close()


def test_the_environments_own_truncation_counts_before_the_horizon() -> None:
    env = ProcessVectorEnv(Reach, 2, {"noise": 0.0}, num_workers=1)
    env.set_tasks([[0.5, -0.5]] * 2)
    env.reset(seed=0)
    for _ in range(8):
        assert not env.finished.any()
        # 0.4 a step to the right: beyond 3 after 8 of the 12 steps.
        *_, terminated, truncated, _ = env.step([[1.0, 1.0], [-1.0, 1.0]])
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [True, False])
    env.close()


def test_discrete_actions() -> None:
    env = ProcessVectorEnv(Chooser, 3, num_workers=1)
    assert env.single_action_space.n == 3
    env.set_tasks([[5.0], [6.0], [7.0]])
    env.reset(seed=0)
    observation, reward, *_ = env.step(np.array([0, 2, 2]))
    assert observation[:, 0].tolist() == [5.0, 7.0, 7.0]
    assert reward.tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="Actions are float64: they must be integers"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match=r"Action 3 of lane 1: it must be from 0 to 2"):
        env.step(np.array([0, 3, 0]))
    for _ in range(2):
        *_, truncated, _ = env.step(np.zeros(3, dtype=int))
    assert truncated.all()
    env.close()


def test_an_exception_in_the_environment_is_one_error() -> None:
    env = make(f"{USER}:Reach", 5, num_workers=2, fail_at=2)
    env.set_tasks([[-0.1, 0.0]] * 4 + [[0.25, -0.5]])
    env.reset(seed=0)
    env.step(np.zeros((5, 2)))
    with pytest.raises(SimulationFailure) as caught:
        env.step(np.zeros((5, 2)))
    message = str(caught.value)
    assert message.startswith("Reach failed in lane 4 (task: goal_x 0.25, goal_y -0.5) at step 1: ")
    assert "RuntimeError: the arm is stuck (" in message
    assert "user_envs.py, line " in message
    assert "\n" not in message
    assert "in step" in caught.value.__notes__[0], "the traceback goes along as a note"
    with pytest.raises(SimulationFailure, match="Reach is closed"):
        env.step(np.zeros((5, 2)))


def test_a_killed_worker_is_one_error() -> None:
    env: Any = make(f"{USER}:Reach", 5, num_workers=2)
    env.reset(seed=0)
    env.step(np.zeros((5, 2)))
    os.kill(env._workers[1]._process.pid, signal.SIGKILL)
    with pytest.raises(
        SimulationFailure,
        match=r"Reach failed in lane 3 \(task: goal_x .* process \d+ was killed by SIGKILL "
        r"\(as systems do where memory runs out\), which stepped the lanes 3 to 4",
    ):
        env.step(np.zeros((5, 2)))


def test_signals_to_the_process_group_leave_the_workers_to_the_parent() -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process: the parent still wants its step."""
    env: Any = make(f"{USER}:Chooser", 1, num_workers=1)
    env.reset(seed=0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        os.kill(env._workers[0]._process.pid, number)
        observation, *_ = env.step(np.zeros(1, dtype=int))
        assert np.isfinite(observation).all()
        assert env._workers[0]._process.poll() is None  # alive
    env.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "NoHorizon"}, "NoHorizon has no horizon: give it an attribute `horizon`"),
        ({"name": "NoTasks"}, "NoTasks has no attribute task_distribution"),
        ({"name": "UnboundedAction"}, "UnboundedAction has actions of .* only a bounded Box, Disc"),
        ({"name": "Reach", "noise": -1.0}, "Reach cannot be built: .*noise must not be negative"),
        ({"name": "Reach", "nois": -1.0}, r"Unknown parameter 'nois': did you mean 'noise'\?"),
        ({"name": "Reach", "num_workers": -1}, "num_workers is -1: it must be an integer of at le"),
        ({"name": "Reach", "num_workers": 100_000}, "num_workers is 100000: .* be at most 1024"),
        ({"name": "Reach", "noise": (x for x in "")}, "cannot be sent to worker processes"),
    ],
)
def test_unsuitable_environments_get_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    name = arguments.pop("name")
    with pytest.raises(ValueError, match=sentence) as caught:
        make(f"{USER}:{name}", 1, **arguments)
    assert "\n" not in str(caught.value)


def test_tasks_given_to_make_stand_in_for_the_environments_own() -> None:
    env = make(f"{USER}:NoTasks", 1, num_workers=1, tasks=f"{USER}:Velocities")
    assert env.task_distribution.columns == ("velocity",)
    env.close()


def test_closing_ends_the_workers() -> None:
    env: Any = make(f"{USER}:Chooser", 2, num_workers=2)
    processes = [worker._process for worker in env._workers]
    env.close()
    env.close()
    assert [process.returncode for process in processes] == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Also a worker that hangs in the environment's code."""
    (tmp_path / "hanging.py").write_text(
        "import time\nfrom tests.envs.user_envs import Chooser\n"
        "class Hanging(Chooser):\n"
        "    def step(self, action):\n        time.sleep(600)\n"
    )
    program = (
        "import numpy as np; from metarl import envs\n"
        "env = envs.make('hanging:Hanging', 2, num_workers=2)\n"
        "env.reset(seed=0)\n"
        "print(*(worker._process.pid for worker in env._workers), flush=True)\n"
        "env.step(np.zeros(2, dtype=int))\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10.0
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, pids))


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
