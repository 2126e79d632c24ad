"""Jobs on a cluster: replayed when lost, given up on in a sentence; on a stand-in for Ray."""

from __future__ import annotations

import builtins
import socket
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

import metarl.envs
from metarl.config.loading import load_config
from metarl.envs.faults import SimulationFailure
from metarl.errors import EnvironmentFailure, UserError
from metarl.experience import ray_pool
from metarl.experience.ray_pool import CPU, Job, RayPool, RaySettings, Work, differences
from metarl.experience.ray_rollout import RayRolloutWorker
from metarl.experience.ray_worker import RayWorker, Setup, circumstances, packed, unpacked
from metarl.experience.rollout import RolloutWorker
from metarl.experience.shards import Shard
from metarl.random import Key
from metarl.runs.build import make_worker
from tests.experience.test_rollout import Stairs
from tests.experience.test_shards import EPISODES, LANES, TASKS, Witness

SETUP = Setup([], ".", b"", b"")


class RayError(Exception): ...


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class OutOfMemoryError(RayError): ...


class Reply:
    def __init__(self, value: Any) -> None:
        self.value = value


class FakeRay:
    """Ray's calls that the pool makes; every reply is ready at once, in the reverse order.

    Args:
        script: What becomes of the n-th call of a job: an error, or None for its result.
        theirs: The workers' circumstances; an error: they do not start; None: they never reply.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, script: list[Exception | None] | None = None, theirs: Any = 0) -> None:
        self.script, self.calls, self.killed, self.made = list(script or []), [], 0, 0
        self.theirs = circumstances() if theirs == 0 else theirs

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        return lambda cls: SimpleNamespace(remote=self._worker)

    def _worker(self) -> Any:
        self.made += 1
        number = self.made

        def play(*arguments: Any) -> Any:
            self.calls.append((number, *arguments))
            end = self.script.pop(0) if self.script else None
            return Reply(arguments[0] * 10 if end is None else end)

        start = SimpleNamespace(remote=lambda setup: Reply(self.theirs))
        return SimpleNamespace(start=start, play=SimpleNamespace(remote=play))

    def wait(self, replies: list[Any], timeout: float) -> Any:
        return [r for r in reversed(replies) if r.value is not None], []

    def get(self, reply: Any) -> Any:
        if isinstance(reply.value, Exception):
            raise reply.value
        return reply.value

    def kill(self, handle: Any) -> None:
        self.killed += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}


def pool_of(ray: FakeRay, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> RayPool:
    monkeypatch.setattr(ray_pool, "_connected", lambda settings: (ray, False))
    return RayPool(SETUP, RaySettings(**settings))


JOBS = [Job("play", (i,)) for i in range(5)]


def test_results_come_in_the_order_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    pool = pool_of(ray, monkeypatch)
    assert pool.run(JOBS) == [0, 10, 20, 30, 40]
    assert ray.made == 3  # as many as there is room for
    assert pool.run(JOBS[3:]) == [30, 40]
    assert ray.made == 3  # and kept
    pool.close()
    assert ray.killed == 3


def test_what_is_lost_is_done_again_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([None, RayError("gone"), RayError("gone")])
    pool, begun = pool_of(ray, monkeypatch, workers=1, retries=2), []  # type: ignore[var-annotated]
    assert pool.run(JOBS, begins=begun.append) == [0, 10, 20, 30, 40]
    assert [call[1] for call in ray.calls] == begun == [0, 1, 1, 1, 2, 3, 4]
    assert [call[0] for call in ray.calls] == [1, 1, 2, 3, 3, 3, 3]
    assert (ray.made, ray.killed) == (3, 2)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayError("the node\ndied"), "lost with 3 Ray workers, one after the other.*the node died"),
        (OutOfMemoryError("x"), "ran out of memory on 3 Ray workers.*rollout.shard_tasks"),
        (RayError("exit: NODE_OUT_OF_MEMORY"), "ran out of memory on 3 Ray workers"),
    ],
)
def test_a_job_that_is_lost_every_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    pool = pool_of(FakeRay([error] * 9), monkeypatch, workers=1, retries=2)
    with pytest.raises(EnvironmentFailure, match=f"^A shard of the rollout.* {said}"):
        pool.run(JOBS)
    pool = pool_of(FakeRay([error] * 9), monkeypatch, workers=1, retries=2)
    said = said.replace("rollout.shard_tasks", "take fewer episodes")
    with pytest.raises(EnvironmentFailure, match=f"^An evaluation.* {said}"):
        pool.run(JOBS, Work("An evaluation", "fewer episodes"))


@pytest.mark.parametrize(
    ("cause", "raised"),
    [
        (FloatingPointError("rewards of task 3"), FloatingPointError),
        (SimulationFailure("lane 3"), SimulationFailure),
        (UserError("env: no module"), UserError),
        (MemoryError("a"), EnvironmentFailure),
    ],
)
def test_what_a_job_raises_is_raised_here(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, raised: type[Exception]
) -> None:
    pool = pool_of(FakeRay([None, RayTaskError(cause)]), monkeypatch, workers=1)
    with pytest.raises(raised, match=str(cause)):
        pool.run(JOBS)


def test_workers_that_do_not_start_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(FakeRay(theirs=RayError("no such file")), monkeypatch, retries=2)
    with pytest.raises(EnvironmentFailure, match=r"start was lost with 3 .* no such file"):
        pool.run(JOBS)
    pool = pool_of(FakeRay(theirs=None), monkeypatch, timeout=0.01, cores=2)
    with pytest.raises(EnvironmentFailure, match=r"within 0.01 s.* 2 free core\(s\).* has 3 in"):
        pool.run(JOBS)


def test_other_versions_are_refused_and_other_processors_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert differences(circumstances(), circumstances()) is None
    theirs = circumstances() | {"torch": "1.0"}
    with pytest.raises(EnvironmentFailure, match=rf"torch 1\.0 there and {torch.__version__[:4]}"):
        pool_of(FakeRay(theirs=theirs), monkeypatch).run(JOBS)
    pool = pool_of(FakeRay(theirs=circumstances() | {CPU: "VSX"}), monkeypatch)
    assert pool.run(JOBS)[1] == 10
    assert capsys.readouterr().err.count("computes with VSX") == 1


def test_ray_absent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"not installed: pip install 'metarl-lab\[ray\]'"):
        RayPool(SETUP, RaySettings())


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFailure, match=f"cluster {address} .* cannot be reached"):
            RayPool(SETUP, RaySettings(address=address, timeout=5.0))


def test_a_trial_is_sent_whole() -> None:
    trial = RolloutWorker(Stairs).collect(Witness(), TASKS, LANES, Key(1), EPISODES)
    sent = packed(trial)
    assert all(not isinstance(part, torch.Tensor) for part in sent.values())
    for part in sent.values():
        if isinstance(part, np.ndarray):
            part.setflags(write=False)  # as Ray's memory is
    arrived = unpacked(sent)
    for name, part in vars(trial).items():
        other = getattr(arrived, name)
        if isinstance(part, torch.Tensor):
            assert torch.equal(part, other), name
        elif name == "observed":
            assert torch.equal(part.mean, other.mean)
            assert torch.equal(part.squares, other.squares)
            assert part.count == other.count
        else:
            assert part == other, name


def test_the_backend_needs_shards(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shard_tasks must be given where the backend is ray"):
        load_config(None, ["--rollout.backend", "ray"])
    with pytest.raises(UserError, match=r"rollout\.backend\.address"):
        load_config(None, ["--rollout.backend", "ray", "--rollout.backend.address", "nowhere"])
    with pytest.raises(UserError, match=r"no field rollout.backend.workers with backend local"):
        load_config(None, ["--rollout.backend.workers", "3"])
    words = ["--rollout.backend", "ray", "--rollout.backend.workers", "3"]
    config = load_config(None, [*words, "--rollout.shard-tasks", "4"])
    assert config.rollout.backend.model_dump()["workers"] == 3


def test_a_worker_makes_an_environment_that_only_the_program_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It finds the program's modules, and plays what is played here."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_module_of_ray.py").write_text("")
    monkeypatch.setattr(sys.modules["__main__"], "Hidden", Stairs, raising=False)
    words = ["--rollout.backend", "ray", "--rollout.shard-tasks", "2", "--device", "cpu"]
    ours = make_worker(load_config(None, ["--env.name", "__main__:Hidden", *words]))
    assert isinstance(ours, RayRolloutWorker)
    main, make_env = cloudpickle.dumps(ours._main), cloudpickle.dumps(ours._make_remote_env)
    monkeypatch.delattr(sys.modules["__main__"], "Hidden")
    worker, threads = RayWorker(), torch.get_num_threads()
    try:
        assert worker.start(Setup([str(tmp_path)], "/", main, make_env)) == circumstances()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert str(tmp_path) in sys.path
    shard = Shard(TASKS[2:4], 2, LANES, Key(1), EPISODES)
    there, here = (
        unpacked(worker.play(Witness(), shard)),
        RolloutWorker(Stairs).play(Witness(), shard),
    )
    assert torch.equal(there.rewards, here.rewards)


def test_an_environment_that_a_worker_cannot_make_is_the_users_error() -> None:
    worker, threads = RayWorker(), torch.get_num_threads()
    make_env = cloudpickle.dumps(partial(metarl.envs.make, "absent:Env"))
    try:
        worker.start(Setup([], ".", cloudpickle.dumps({}), make_env))
    finally:
        torch.set_num_threads(threads)
    with pytest.raises(UserError, match=r"on the Ray worker .* cannot be imported"):
        worker.play(Witness(), Shard(TASKS, 0, LANES, Key(1), 1))
