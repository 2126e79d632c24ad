"""A suite that is killed again and again ends with the comparison that its runs by hand give."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from metarl.cli.command_line import parse_evaluate_arguments
from metarl.cli.main import main
from metarl.storage.lock import Holder
from metarl.suites import processes, scheduler
from metarl.suites.jobs import Record, read_record, write_record
from metarl.suites.suite import load_suite
from tests.programs import ENVIRONMENT, tiny

SUITE = "configs: [a.yaml, b.yaml]\nseeds: {seeds}\ncomparison: {{mode: stochastic}}\n"


def write_suite(seeds: list[int], **changes: Any) -> None:
    for name, algorithm in (("a", "maml"), ("b", "reptile")):
        config = tiny(**changes)
        config["algorithm"]["name"] = algorithm
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    Path("s.yaml").write_text(SUITE.format(seeds=seeds))


class Finished:
    """In the place of a process that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


def test_a_suite_runs_and_has_nothing_to_do_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training runs in this process; of the comparison the command line alone is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, "POLL_S", 0.0)
    write_suite([1], iterations=1)
    started = []

    def start(folder: Path, words: list[str], needs: dict[str, str], _: object) -> Finished:
        started.append(words[0])
        folder.mkdir(parents=True, exist_ok=True)
        code = 0
        if words[0] == "train":
            code = main(words)
        else:
            assert len(parse_evaluate_arguments(words[1:]).run) == 2
        gone = replace(Holder.of(os.getpid()), process_start="0")
        write_record(folder, Record(words, gone, dict(needs)))
        return Finished(code)

    monkeypatch.setattr(processes, "start_process", start)
    assert main(["suite", "run", "s.yaml"]) == 0
    assert started == ["train", "train", "evaluate"]
    assert "3 of 3 jobs of s.yaml are finished; all lies in runs/s." in capsys.readouterr().out
    assert main(["suite", "resume", "s.yaml"]) == 0
    assert len(started) == 3
    capsys.readouterr()
    assert main(["suite", "status", "s.yaml"]) == 0
    assert capsys.readouterr().out.endswith("3 finished\n")


def test_a_failure_is_the_suites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, "POLL_S", 0.0)
    write_suite([1], iterations=1)
    monkeypatch.setattr(processes, "start_process", lambda *_: Finished(2))
    assert main(["suite", "run", "s.yaml"]) == 1
    said = capsys.readouterr().err
    assert said == "error: 0 of 3 jobs of s.yaml are finished, 2 failed: a/seed_1 with exit 2.\n"


def suite_run(*more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "metarl", "suite", "run", "s.yaml", *more]
    return subprocess.Popen(words, env=ENVIRONMENT, start_new_session=True)


def wait_for(progress: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not progress():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def iterations() -> int:
    """Of all runs together."""
    found = 0
    for path in Path("runs/s").glob("*/*/metrics.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # a run that begins anew
            found += path.read_text().count("\n")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ray", [(), ("--ray",)], ids=["processes", "ray"])
def test_a_suite_that_is_killed_twice_ends_with_the_comparison_of_its_runs_by_hand(
    ray: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ray:
        pytest.importorskip("ray", reason="Ray is not installed")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)  # Ray of its own, which ends with it
    monkeypatch.chdir(tmp_path)
    write_suite([1, 2, 3], iterations=150)
    suite = load_suite(Path("s.yaml"))

    killed = suite_run(*ray)  # its runs are orphans, which train on, or end with Ray
    wait_for(lambda: iterations() > 20)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    begun = [record for job in suite.runs if (record := read_record(job)) is not None]
    assert begun
    assert ray or any(record.process.alive() for record in begun)

    stopped = suite_run(*ray)
    wait_for(lambda: iterations() > 350)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(120) == 130
    started = [read_record(job) for job in suite.runs]
    assert not any(record.process.alive() for record in started if record is not None)
    assert iterations() < 6 * 150

    assert suite_run(*ray).wait(600) == 0
    records = [read_record(job) for job in suite.jobs]
    assert suite_run(*ray).wait(120) == 0
    assert [read_record(job) for job in suite.jobs] == records  # nothing was done again

    by_hand = []
    for job in suite.runs:
        words = list(job.words)
        words[words.index("--run-dir") + 1] = by_hand_folder = f"by_hand/{job.name}"
        by_hand.append(by_hand_folder)
        run_program("train", *words[1:])
    run_program("evaluate", *by_hand, "--mode", "stochastic", "--output", "by_hand/comparison")
    for name, folder in zip((job.folder for job in suite.runs), by_hand, strict=True):
        assert returns_of(name) == returns_of(Path(folder))
    assert compared("runs/s") == compared("by_hand")


def run_program(*words: str) -> None:
    program = [sys.executable, "-m", "metarl", *words]
    subprocess.run(program, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


def returns_of(run: Path) -> list[dict[str, Any]]:
    """What a run's metrics say but for times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("time/", "wall_time_s", "env_steps_per_s")
    return [{k: v for k, v in row.items() if not k.startswith(times)} for row in rows]


def compared(folder: str) -> str:
    """A comparison, but for where it was made."""
    text = Path(folder, "comparison/comparison.json").read_text()
    return text.replace(f"{folder}/", "")
