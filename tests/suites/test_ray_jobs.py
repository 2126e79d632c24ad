"""Jobs on Ray: what the driver makes of what happens there, and a real cluster of one machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metarl.errors import UserError
from metarl.suites import ray_jobs
from metarl.suites.jobs import LOG, Job
from metarl.suites.ray_jobs import LOST, RayJobs, RayTask, Runner
from metarl.suites.scheduler import REFUSED, how_it_failed
from metarl.suites.suite import Resources


class RayError(Exception):
    pass


class FakeRay:
    """Ray, whose actors answer what they are told to; "later" is no answer yet."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *answers: Any, nodes: list[dict[str, float]] = ()) -> None:  # type: ignore[assignment]
        self.answers, self.killed, self.stopped = list(answers), 0, 0
        self._nodes = nodes
        self.poll = SimpleNamespace(remote=lambda: "asked")
        self.stop = SimpleNamespace(remote=self._stop)

    def _stop(self) -> None:
        self.stopped += 1

    def init(self, **options: Any) -> None:
        if self.answers:
            raise self.answers.pop()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes]

    def wait(self, refs: list[str], timeout: float) -> tuple[list[str], list[str]]:
        if self.answers[0] == "later":
            self.answers.pop(0)
            return [], refs
        return refs, []

    def get(self, ref: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: object) -> None:
        self.killed += 1


def test_a_job_waits_runs_and_ends() -> None:
    ray = FakeRay("later", None, None, 0)
    task = RayTask(ray, ray, Path("job.log"))
    assert [task.poll() for _ in range(4)] == [None, None, None, 0]
    assert ray.killed == 1  # which gives its place back


def test_a_lost_node_is_a_failure_that_is_tried_again(tmp_path: Path) -> None:
    ray = FakeRay(None, RayError("the actor died"))
    job = Job("a", tmp_path, ("train",))
    task = RayTask(ray, ray, tmp_path / LOG)
    assert [task.poll(), task.poll()] == [None, LOST]
    assert how_it_failed(job, LOST) == "exit 1: lost by Ray: the actor died"
    assert LOST != REFUSED


def test_a_job_finds_the_paths_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the actor began is no matter: the cluster may have been started elsewhere."""
    seen = []

    def start(folder: Path, words: list[str], needs: object, variables: dict[str, str]) -> None:
        seen.append((Path.cwd(), folder, words, variables.get("CUDA_VISIBLE_DEVICES")))

    monkeypatch.chdir("/")
    monkeypatch.setattr(ray_jobs, "start_process", start)
    Runner((str(tmp_path), "runs/s/a"), ["train"], {}, 1, 0.0)
    Runner((str(tmp_path), "runs/s/a"), ["train"], {}, 1, 0.5)
    assert seen[0] == (tmp_path, Path("runs/s/a"), ["train"], "")
    assert seen[1][3] is None  # as Ray has set it


def test_a_stop_reaches_a_job_at_work_and_takes_one_that_waits_out_of_the_queue() -> None:
    for answers, stopped, killed in (((None,), 1, 0), (("later",), 0, 1)):
        ray = FakeRay(*answers)
        task = RayTask(ray, ray, Path("job.log"))
        task.poll()
        task.stop()
        assert (ray.stopped, ray.killed) == (stopped, killed)


def test_a_cluster_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    nodes = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}]
    monkeypatch.setitem(sys.modules, "ray", FakeRay(nodes=nodes))
    RayJobs(Resources(cores=4))
    RayJobs(Resources(cores=2, gpus=0.5))
    with pytest.raises(UserError, match=r"No node of the Ray cluster has 4 cores and 0\.5 GPUs"):
        RayJobs(Resources(cores=4, gpus=0.5))


def test_ray_that_is_not_there_or_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--ray needs Ray: pip install 'metarl-lab"):
        RayJobs(Resources())
    monkeypatch.setitem(sys.modules, "ray", FakeRay(RuntimeError("Version mismatch\nby far.")))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"of this machine cannot be reached: Version mismatch by"):
        RayJobs(Resources())
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"at RAY_ADDRESS 127\.0\.0\.1:1 cannot be reached: .*refu"):
        RayJobs(Resources())


@pytest.mark.slow
def test_jobs_on_a_real_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    place = RayJobs(Resources())
    monkeypatch.chdir(tmp_path)  # after the cluster was started
    Path("s.yaml").write_text("configs: [rl2_navigation]")
    try:
        words = (("suite", "commands", "s.yaml"), ("trian",))
        jobs = [Job(w[0], Path(w[0]), w) for w in words]
        tasks = [place.start(job, {}) for job in jobs]
        deadline = time.monotonic() + 300
        codes: list[int | None] = [None, None]
        while None in codes:
            assert time.monotonic() < deadline
            codes = [c if c is not None else t.poll() for c, t in zip(codes, tasks, strict=True)]
            time.sleep(0.2)
        assert codes == [0, 2]
        assert "rl2_navigation" in (tmp_path / "suite/job.log").read_text()
    finally:
        place._ray.shutdown()
