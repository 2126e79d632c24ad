"""Jobs are worked off in order, again after failures, never twice, never again when done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.storage.lock import LOCK_FILE, Holder
from metarl.suites import processes, scheduler
from metarl.suites.jobs import LOG, Job, Record, read_record, write_record
from metarl.suites.processes import Processes, shares
from metarl.suites.scheduler import Scheduler
from metarl.suites.suite import Resources

ALIVE = Holder.of(os.getpid())
GONE = replace(ALIVE, process_start="0")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "POLL_S", 0.0)
    monkeypatch.setattr(scheduler, "RETRY_AFTER_S", 0.0)


class FakeTask:
    """A job that ends with a code at the second look, or when it is stopped."""

    def __init__(self, code: int | None) -> None:
        self.code, self.looks, self.stops = code, 0, 0

    def poll(self) -> int | None:
        self.looks += 1
        if self.stops:
            return 130
        return self.code if self.looks > 1 else None

    def stop(self) -> None:
        self.stops += 1


class FakePlace:
    """Room for some jobs; each start of one takes the next of its exit codes."""

    def __init__(self, room: int = 2, **codes: list[int | None]) -> None:
        self.rooms, self.codes = room, codes
        self.started: list[str] = []
        self.tasks: dict[str, FakeTask] = {}
        self.most = 0

    @property
    def room(self) -> int:
        return self.rooms - len(self.tasks)

    def take(self, job: Job) -> None:
        self.tasks[job.name] = FakeTask(None)

    def release(self, job: Job) -> None:
        del self.tasks[job.name]

    def start(self, job: Job, needs: Mapping[str, str]) -> FakeTask:
        self.started.append(job.name)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / LOG).write_text("Training\nerror: no space left\n")
        process = replace(GONE, token=f"start{len(self.started)}")
        write_record(job.folder, Record(list(job.words), process, dict(needs)))
        codes = self.codes.get(job.name, [0])
        self.tasks[job.name] = task = FakeTask(codes.pop(0) if codes else 0)
        self.most = max(self.most, len(self.tasks))
        return task


def jobs(folder: Path) -> list[Job]:
    runs = [Job(name, folder / name, ("train", name)) for name in "abc"]
    return [*runs, Job("compare", folder / "compare", ("evaluate",), ("a", "b", "c"))]


def work(folder: Path, place: FakePlace, retries: int = 2) -> tuple[Scheduler, list[str]]:
    said: list[str] = []
    made = Scheduler(jobs(folder), place, retries, said.append)
    made.run([])
    return made, said


def test_as_many_at_once_as_there_is_room_and_what_is_needed_first(tmp_path: Path) -> None:
    place = FakePlace(room=2)
    made, _ = work(tmp_path, place)
    assert place.started == ["a", "b", "c", "compare"]
    assert place.most == 2
    assert not made.left


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    work(tmp_path, FakePlace())
    again = FakePlace()
    made, _ = work(tmp_path, again)
    assert again.started == []
    assert set(made.done) == {"a", "b", "c", "compare"}


def test_what_was_done_is_done_again_behind_a_run_that_was(tmp_path: Path) -> None:
    work(tmp_path, FakePlace())
    (tmp_path / "b/job.json").unlink()
    stop: list[int] = []
    killed = FakePlace(b=[None])
    made = Scheduler(jobs(tmp_path), killed, 0, lambda line: None)
    made.run(stop, lambda: stop.append(15))
    assert killed.started == ["b"]
    again = FakePlace()
    work(tmp_path, again)
    assert again.started == ["b", "compare"]


def test_other_words_are_another_job(tmp_path: Path) -> None:
    work(tmp_path, FakePlace())
    first, *others = jobs(tmp_path)
    changed = [replace(first, words=("train", "a", "--iterations", "9")), *others]
    place = FakePlace()
    Scheduler(changed, place, 0, lambda line: None).run([])
    assert place.started == ["a", "compare"]


def test_a_failure_is_tried_again_so_often(tmp_path: Path) -> None:
    place = FakePlace(a=[1, -9, 0], b=[1, 1, 1, 0])
    made, said = work(tmp_path, place, retries=2)
    assert [place.started.count(name) for name in "abc"] == [3, 3, 1]
    assert made.failed == {"b": "exit 1: no space left"}
    assert "a failed, SIGKILL: no space left; retry 2 of 2 in 0 s" in said
    assert "compare" not in place.started  # which needs all three
    assert made.left == []


def test_wrong_input_is_never_tried_again(tmp_path: Path) -> None:
    place = FakePlace(a=[2, 0])
    made, _ = work(tmp_path, place)
    assert place.started == ["a", "b", "c"]
    assert made.failed == {"a": "exit 2: no space left"}


def test_a_failed_job_is_tried_again_by_the_next_suite(tmp_path: Path) -> None:
    work(tmp_path, FakePlace(a=[2]))
    place = FakePlace()
    made, _ = work(tmp_path, place)
    assert place.started == ["a", "compare"]
    assert not made.failed


def test_a_stop_is_passed_on_once_and_waited_for(tmp_path: Path) -> None:
    place, stop = FakePlace(a=[None], b=[None]), []
    told: list[FakeTask] = []

    def watch() -> None:
        if not stop:
            told.extend(place.tasks.values())
            stop.append(signal.SIGTERM)

    made = Scheduler(jobs(tmp_path), place, 2, lambda line: None)
    made.run(stop, watch)
    assert [task.stops for task in told] == [1, 1]
    assert place.started == ["a", "b"]  # nothing begins after it
    assert not place.tasks
    assert not made.failed
    assert [job.name for job in made.left] == ["a", "b", "c", "compare"]


def test_a_second_signal_is_passed_on_too(tmp_path: Path) -> None:
    place = FakePlace(a=[None])
    tasks: list[FakeTask] = []

    def interrupt() -> None:
        tasks.extend(place.tasks.values())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scheduler(jobs(tmp_path), place, 2, lambda line: None).run([], interrupt)
    assert [task.stops for task in tasks] == [1, 1]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    orphan = subprocess.Popen(["sleep", "60"])
    yield orphan
    orphan.kill()
    orphan.wait()


def test_a_job_of_a_killed_suite_is_not_started_twice(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    job = jobs(tmp_path)[0]
    job.folder.mkdir()
    write_record(job.folder, Record(list(job.words), Holder.of(process.pid), {}))
    place, rounds = FakePlace(room=1), []

    def watch() -> None:
        rounds.append(list(place.started))
        if len(rounds) == 3:
            process.kill()

    said: list[str] = []
    Scheduler([job], place, 0, said.append).run([], watch)
    assert rounds[:3] == [[], [], []]
    assert place.started == ["a"]  # when it is gone: to see that it is finished
    assert said[0] == "a is at work already; waiting for it"


def test_it_has_its_place_and_a_stop_reaches_it(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    first, second, *_ = jobs(tmp_path)
    first.folder.mkdir()
    write_record(first.folder, Record(list(first.words), Holder.of(process.pid), {}))
    place, stop = FakePlace(room=1), []
    made = Scheduler([first, second], place, 0, lambda line: None)
    made.run(stop, lambda: stop.append(signal.SIGTERM))
    assert process.wait(10) == -signal.SIGTERM
    assert place.started == []


def test_a_run_of_the_users_own_is_waited_for_and_left_alone(tmp_path: Path) -> None:
    job = jobs(tmp_path)[0]
    job.folder.mkdir()
    (job.folder / LOCK_FILE).write_text(json.dumps(asdict(ALIVE)))
    place, stop = FakePlace(), []
    made = Scheduler([job], place, 0, lambda line: None)
    made.run(stop, lambda: stop.append(signal.SIGTERM))  # which would end this very process
    assert place.started == []
    assert made.left == [job]


def test_a_record_that_is_none_is_no_start(tmp_path: Path) -> None:
    job = jobs(tmp_path)[0]
    job.folder.mkdir()
    for text in ("", "{}", '{"words": 3}', "[" * 100_000):
        (job.folder / "job.json").write_text(text)
        assert read_record(job) is None


@pytest.mark.parametrize(
    ("gpus", "each", "seen"),
    [
        (["0", "1"], 0.5, ["0", "1", "0", "1"]),
        (["0", "3"], 1.0, ["0", "3"]),
        (["0", "1", "2", "3", "4"], 2.0, ["0,1", "2,3"]),
        (["0"], 2.0, []),
        (["0"], 0.3, ["0", "0", "0"]),
    ],
)
def test_shares_of_gpus(gpus: list[str], each: float, seen: list[str]) -> None:
    assert shares(gpus, each) == seen


def test_the_room_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "num_cores", lambda: 8)
    monkeypatch.setattr(processes, "_gpus", lambda: ["0", "1"])
    assert Processes(Resources(cores=3)).room == 2
    assert Processes(Resources(cores=1, gpus=0.5)).room == 4
    place = Processes(Resources(cores=4, gpus=0.5))
    a, b, *_ = jobs(tmp_path)
    place.take(a)
    place.take(b)
    assert sorted(place._taken.values()) == ["0", "1"]
    assert place.room == 0
    place.release(a)
    assert place.room == 1
    with pytest.raises(UserError, match=r"resources\.cores is 9, and this machine has 8"):
        Processes(Resources(cores=9))
    with pytest.raises(UserError, match=r"resources\.gpus is 3, and this machine has 2"):
        Processes(Resources(gpus=3.0))
