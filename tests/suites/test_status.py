"""How far a suite is, read from its folders."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from metarl.storage.lock import LOCK_FILE, Holder
from metarl.suites.jobs import LOG, Job, Record, write_record
from metarl.suites.status import LiveStatus, print_status, suite_status, summary, table

GONE = replace(Holder.of(os.getpid()), process_start="0")


def job(folder: Path, name: str, iterations: int | None = None, **budget: int) -> Job:
    """A job, whose run has finished so many of 40 iterations, each of 50 env steps and 2 s."""
    made = Job(name, folder / name, ("train", name))
    made.folder.mkdir()
    if iterations is not None:
        lines = [f"{key}: {value}\n" for key, value in ({"iterations": 40} | budget).items()]
        (made.folder / "config.yaml").write_text("".join(lines))
        with open(made.folder / "metrics.jsonl", "w") as metrics:
            for i in range(1, iterations + 1):
                row = {"iteration": i, "env_steps": 50 * i, "wall_time_s": 2.0 * i}
                row |= {"env_steps_per_s": 1250.4, "return/step_0": -9.0, "return/step_1": -i / 4}
                metrics.write(json.dumps(row) + "\n")
            metrics.write('{"iteration": 99, "env')  # being written
    return made


def record(of: Job, exit_code: int | None = None, process: Holder = GONE) -> None:
    write_record(of.folder, Record(list(of.words), process, {}, exit_code))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """One in each state."""
    running = job(tmp_path, "running", 10)
    record(running, process=Holder.of(os.getpid()))
    elsewhere = job(tmp_path, "elsewhere", 30, max_env_steps=3000)
    holder = replace(GONE, host="node7", machine="another")
    (elsewhere.folder / LOCK_FILE).write_text(json.dumps(asdict(holder)))
    failed = job(tmp_path, "failed", 3)
    (failed.folder / LOG).write_text("iteration 3/40\nerror: no space [left]\n")
    record(failed, 1)
    killed = job(tmp_path, "killed", 7)
    record(killed)
    finished, by_hand = job(tmp_path, "finished", 40), job(tmp_path, "by_hand", 40)
    record(finished, 0)
    return [running, elsewhere, failed, killed, finished, by_hand, job(tmp_path, "waiting")]


def test_every_state_and_the_time_left(jobs: list[Job], capsys: pytest.CaptureFixture) -> None:
    found = suite_status(jobs)
    print_status(found)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:-1] == [
        ["running", "10/40", "1,250", "-2.50", "0:01:00", "running"],
        ["elsewhere", "30/40", "1,250", "-7.50", "0:00:20", "running"],
        ["failed", "3/40", "1,250", "-0.75", "failed:", "exit", "1:", "no", "space", "[left]"],
        ["killed", "7/40", "1,250", "-1.75", "0:01:06", "stopped"],
        ["finished", "40/40", "1,250", "-10.00", "finished"],
        ["by_hand", "40/40", "1,250", "-10.00", "finished"],
        ["waiting", "waiting"],
    ]
    assert summary(found) == "2 running, 1 failed, 1 stopped, 1 waiting, 2 finished"


def test_the_budget_that_ends_first_counts(tmp_path: Path) -> None:
    (status,) = suite_status([job(tmp_path, "a", 10, max_env_steps=1000)])
    assert status.cells()[0] == "10/20"


def test_a_lock_whose_holder_is_silent_is_nobodys(jobs: list[Job]) -> None:
    overdue = time.time() - 1000.0
    os.utime(jobs[1].folder / LOCK_FILE, (overdue, overdue))
    assert suite_status(jobs)[1].state == "stopped"


def test_reading_leaves_the_folders_as_they_were(jobs: list[Job], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    suite_status(jobs)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_terminal_shows_what_fits_those_at_work_first(jobs: list[Job]) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table(suite_status(jobs), height=8))
    lines = [line for line in console.export_text().splitlines() if line.strip()]
    assert [line.split()[0] for line in lines[1:-1]] == ["running", "elsewhere", "failed"]
    assert "no space [left]" in lines[3]
    assert lines[-1].strip() == "2 running, 1 failed, 1 stopped, 1 waiting, 2 finished"


def test_without_a_terminal_there_are_plain_lines(
    jobs: list[Job], capsys: pytest.CaptureFixture
) -> None:
    with LiveStatus(jobs, time.monotonic) as live:
        live.say("a begins")
        live.watch()
    assert capsys.readouterr().out == "a begins\n"
