"""The lock of a run folder: one holder, who is named, and no dead one in the way."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from metarl.errors import EnvironmentFailure
from metarl.storage import lock
from metarl.storage.files import read_regular
from metarl.storage.lock import LOCK_FILE, Holder, RunLock
from tests.storage.sentences import refused


def enter(run: Path, by_force: bool = False) -> RunLock:
    return RunLock(run, by_force, say=lambda line: None).__enter__()


def leave(run_lock: RunLock) -> None:
    run_lock.__exit__(None, None, None)


def left_by(run: Path, *, age: float = 0.0, **changes: object) -> Holder:
    """A lock as another process has left it, whose last heartbeat was so many seconds ago."""
    holder = dataclasses.replace(RunLock(run).own, **{"token": "another"} | changes)  # type: ignore[arg-type]
    (run / LOCK_FILE).write_text(json.dumps(dataclasses.asdict(holder)))
    beat = time.time() - age
    os.utime(run / LOCK_FILE, (beat, beat))
    return holder


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    first = enter(tmp_path)
    message = refused(lambda: enter(tmp_path), EnvironmentFailure)
    for part in (f"process {os.getpid()} on {first.own.host}", f"since {first.own.since}"):
        assert part in message
    assert "last heartbeat 0 s ago" in message
    assert "--break-lock" in message
    first.confirm()
    leave(first)
    assert list(tmp_path.iterdir()) == []
    leave(enter(tmp_path))


def race(run: Path, contenders: int = 8) -> tuple[list[RunLock], list[str]]:
    """Who of many that ask at once gets the lock, and what the others are told."""
    winners, losers = [], []
    barrier = threading.Barrier(contenders)

    def contend() -> None:
        barrier.wait()
        try:
            winners.append(enter(run))
        except EnvironmentFailure as error:
            losers.append(str(error))

    threads = [threading.Thread(target=contend) for _ in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners, losers


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("stale", [False, True])
def test_one_of_many_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool, stale: bool
) -> None:
    """Of a free lock, and of one that a dead process has left."""

    def refuse(*_: object) -> None:
        raise PermissionError

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    for attempt in range(5):
        run = tmp_path / str(attempt)
        run.mkdir()
        if stale:
            left_by(run, pid=dead_pid())
        winners, losers = race(run)
        assert len(winners) == 1
        assert len(losers) == 7
        assert all("Another process writes" in said for said in losers)
        winners[0].confirm()
        leave(winners[0])
        assert list(run.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": None},  # gone
        {"process_start": "1"},  # its number is another's now
        {"machine": "another", "age": 1000.0},
    ],
)
def test_a_dead_process_does_not_block(tmp_path: Path, changes: dict) -> None:
    if changes.get("pid", 0) is None:
        changes = {"pid": dead_pid()}
    left_by(tmp_path, **changes)
    leave(enter(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_whose_parent_has_not_looked(tmp_path: Path) -> None:
    zombie = subprocess.Popen(["true"])
    while Path(f"/proc/{zombie.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.001)
    left_by(tmp_path, pid=zombie.pid)
    leave(enter(tmp_path))
    zombie.wait()


def test_a_holder_elsewhere_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its next heartbeat, or until that is overdue."""
    monkeypatch.setattr(lock, "_POLL_S", 0.001)
    left_by(tmp_path, machine="another", host="node7", age=30.0)
    said: list[str] = []

    def beat_once_told(line: str) -> None:
        said.append(line)
        os.utime(tmp_path / LOCK_FILE)

    with pytest.raises(EnvironmentFailure, match="on node7"):
        RunLock(tmp_path, say=beat_once_told).__enter__()
    assert ["waiting up to 90 s" in line for line in said] == [True]

    monkeypatch.setattr(lock, "STALE_S", 0.05)
    leave(enter(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_and_who_loses_by_it(tmp_path: Path) -> None:
    first = enter(tmp_path)
    second = enter(tmp_path, by_force=True)
    second.confirm()
    message = refused(first.confirm, EnvironmentFailure)
    assert f"taken over by process {os.getpid()}" in message
    leave(first)  # and takes nothing with it
    second.confirm()
    leave(second)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_is_made_again(tmp_path: Path) -> None:
    first = enter(tmp_path)
    (tmp_path / LOCK_FILE).unlink()
    first.confirm()
    refused(lambda: enter(tmp_path), EnvironmentFailure)
    leave(first)


def test_a_lock_that_is_not_whole_blocks_no_longer_than_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_POLL_S", 0.001)
    monkeypatch.setattr(lock, "STALE_S", 0.05)
    (tmp_path / LOCK_FILE).write_text('{"host": "no')
    leave(enter(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        *({"pid": 10**30}, {"pid": "1"}, {"pid": -1}, {"host": 5}, {"process_start": []}),
        {"token": "/../../precious"},
    ],
)
def test_a_lock_that_a_stranger_wrote_is_nobodys(changes: dict, tmp_path: Path) -> None:
    """Its token is part of a file's name, and what has that name is deleted once it is old."""
    run, precious = tmp_path / "run", tmp_path / "precious"
    precious.touch()
    os.utime(precious, (1.0, 1.0))
    (run / f"{lock._DRAFT}over-").mkdir(parents=True)
    left_by(run, age=1000.0, **changes)
    said: list[str] = []
    leave(RunLock(run, say=said.append).__enter__())
    assert said == [
        f"The lock of {run} was left by process 0 on an unknown machine, since an unknown time, "
        "which is gone."
    ]
    assert precious.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "", "null"])
def test_a_lock_that_is_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    os.utime(tmp_path / LOCK_FILE, (1.0, 1.0))
    leave(enter(tmp_path))


def test_a_lock_without_end(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).symlink_to("/dev/null")  # /dev/zero has no end
    assert "it is no regular file" in refused(lambda: enter(tmp_path), EnvironmentFailure)


def test_a_heartbeat_from_the_future_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_POLL_S", 0.001)
    monkeypatch.setattr(lock, "STALE_S", 0.05)
    left_by(tmp_path, machine="another", age=-1e6)
    nap, polls = time.sleep, iter(range(3000))

    def sleep(seconds: float) -> None:
        next(polls)
        nap(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    leave(enter(tmp_path))


def test_a_holder_is_named_in_printable_letters() -> None:
    holder = Holder("\x1b[2Jnode", 1, "now", "", None, "a")
    assert str(holder).isprintable()


def test_a_lock_that_is_released_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when that was asked, and is gone."""
    monkeypatch.setattr(Path, "exists", lambda path: True)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / LOCK_FILE)


def test_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    first = enter(tmp_path)
    os.utime(tmp_path / LOCK_FILE, (1.0, 1.0))
    deadline = time.monotonic() + 10
    while (tmp_path / LOCK_FILE).stat().st_mtime == 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    leave(first)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    message = refused(lambda: enter(tmp_path / "gone"), EnvironmentFailure)
    assert "cannot be written: No such file" in message


def test_who_writes_is_seen_without_waiting(tmp_path: Path) -> None:
    assert lock.live_holder(tmp_path) is None
    first = enter(tmp_path)
    assert lock.live_holder(tmp_path) == first.own
    leave(first)
    for age, changes, lives in (
        (0.0, {"pid": dead_pid()}, False),
        (0.0, {"machine": "another"}, True),
        (lock.STALE_S + 9.0, {"machine": "another"}, False),
        (-1e6, {"machine": "another"}, False),  # of a copy, from the future
        (0.0, {"machine": ""}, True),  # where nobody can be asked for
    ):
        left = left_by(tmp_path, age=age, **changes)
        assert lock.live_holder(tmp_path) == (left if lives else None)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
