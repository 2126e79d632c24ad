"""Jobs of a cluster: killed, requeued, started twice, and told to end."""

from __future__ import annotations

import os
import pty
import random
import re
import select
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import evaluate
import train
from metarl.algorithms.maml import MAML
from metarl.config.loading import config_from
from metarl.process import run_program, stop_requests
from metarl.runs import build
from metarl.storage.checkpoint import load_checkpoint
from metarl.storage.lock import RunLock
from metarl.training import pace
from metarl.training.pace import Pace
from tests.programs import (
    ENVIRONMENT,
    ROOT,
    Forks,
    assert_same_run,
    files,
    lines,
    tiny,
    write_config,
)
from tests.training.test_training import LINE, one_sentence, trained

# --- one writer at a time ---------------------------------------------------------------------


def race(forks: Forks, folder: Path, kind: str, **changes: object) -> None:
    """Two processes on one folder: one trains, the other is told, and nothing is mixed."""
    config = write_config(folder, iterations=40)
    run = folder / "run"
    begin: list[str | Path] = ["--config", config, "--run-dir", run]
    go_on: list[str | Path] = ["--run-dir", run, "--resume"]
    auto: list[str | Path] = [*begin, "--resume", "auto"]
    if kind == "resume/resume":
        assert forks("train", *begin, "--iterations", "2").code == 0
        pair = [[*go_on, "--iterations", "40"]] * 2
    else:
        pair = [{"start": begin, "auto": auto}[word] for word in kind.split("/")]
    outcomes = forks.race("train", *pair)
    winner, loser = sorted(outcomes, key=lambda outcome: outcome.code)
    assert winner.code == 0, winner.output
    assert loser.code == 1, loser.output
    assert "Another process writes to" in one_sentence(loser.output)
    assert not (run / "lock.json").exists()
    assert [row["iteration"] for row in lines(run)] == list(range(1, 41))
    assert_same_run(folder.parent / "alone", run)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("races")
    config = write_config(folder, iterations=40)
    assert train.main(["--config", str(config), "--run-dir", str(folder / "alone")]) == 0
    return folder


KINDS = ["start/start", "start/auto", "resume/resume", "auto/auto"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attempt", range(6))
def test_of_two_processes_one_trains(forks: Forks, alone: Path, kind: str, attempt: int) -> None:
    folder = alone / f"{kind.replace('/', '_')}_{attempt}"
    folder.mkdir()
    race(forks, folder, kind)


def test_a_folder_at_work_is_left_alone_and_can_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], without_plots: None
) -> None:
    run = trained(tmp_path / "a")
    with RunLock(run):
        before = files(run)
        for words in (["--resume"], ["--resume", "auto"]):
            assert train.main(["--run-dir", str(run), *words, "--iterations", "9"]) == 1
            said = one_sentence(capsys.readouterr().err)
            assert f"process {os.getpid()}" in said
            assert "--break-lock" in said
        assert files(run) == before
        assert evaluate.main(["--run", str(run), "--episodes", "1"]) == 0
        assert files(run) == before
        words = ["--run-dir", str(run), "--resume", "--iterations", "9", "--break-lock"]
        assert train.main(words) == 0
    assert len(lines(run)) == 9


def test_a_run_that_lost_its_folder_writes_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    run = tmp_path / "run"
    calls = []
    collect = MAML.collect

    def collect_and_lose(self: MAML, *args: object) -> object:
        calls.append(None)
        if len(calls) == 4:
            RunLock(run, by_force=True).__enter__()
        return collect(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(MAML, "collect", collect_and_lose)
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 1
    assert "was taken over by process" in one_sentence(capsys.readouterr().err)
    assert len(lines(run)) == 3
    assert (run / "lock.json").exists()  # the other's


# --- one command that begins or goes on -------------------------------------------------------


def kill_a_job_again_and_again(forks: Forks, folder: Path, kills: int) -> list[int]:
    """One command, started after every kill; its environment is on worker processes."""
    env = {"name": "tests.envs.user_envs:Reach"}
    config = write_config(folder, iterations=3 * kills, rollout={"workers": 2}, env=env)
    config.write_text(config.read_text().replace("  horizon: 10\n", ""))  # its own
    alone, run = folder / "alone", folder / "killed"
    assert forks("train", "--config", config, "--run-dir", alone).code == 0
    words = ["--config", config, "--run-dir", run, "--resume", "auto"]
    rng, codes = random.Random(kills), []
    stops = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
    metrics = run / "metrics.jsonl"
    for kill in range(kills):
        number = rng.choice(stops)
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        due = min(done + rng.randrange(5), 3 * kills - 2)  # 0: while it starts
        watched = {"lines_of": str(metrics), "lines": due}
        outcome = forks("train", *words, signal=number, delay=rng.uniform(0, 0.05), **watched)
        codes.append(outcome.code)
        # Before anybody could install a handler, any signal kills.
        assert outcome.code in {-number, 130} - ({130} if number == signal.SIGKILL else set())
        assert "Traceback" not in outcome.output, (kill, number, outcome.output)
    assert forks("train", *words).code == 0
    assert_same_run(alone, run)
    assert len(lines(run)) == 3 * kills
    return codes


@pytest.mark.slow
def test_fifty_kills_with_worker_processes_leave_no_trace(forks: Forks, tmp_path: Path) -> None:
    codes = kill_a_job_again_and_again(forks, tmp_path, 50)
    print(sorted(codes))
    assert {-signal.SIGKILL, 130} <= set(codes)


@pytest.mark.parametrize("words", [[], ["--resume", "auto"]])
def test_a_start_that_failed_is_not_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    env = LINE["env"] | {"bad": "reward", "bad_reset": 1}
    config = write_config(tmp_path, env=env)
    begin = ["--config", str(config), "--run-dir", str(tmp_path / "run"), *words]
    assert train.main(begin) == 1
    assert "in iteration 1" in one_sentence(capsys.readouterr().err)
    write_config(tmp_path, env=LINE["env"])  # mended: another config
    assert train.main(begin) == 0
    assert_same_run(trained(tmp_path / "alone", env=LINE["env"]), tmp_path / "run")


def test_the_same_command_begins_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    begin = ["--config", str(config), "--run-dir", str(tmp_path / "run"), "--resume", "auto"]
    collect, calls = MAML.collect, []

    def collect_or_fail(self: MAML, *args: object) -> object:
        calls.append(None)
        if len(calls) == 5:
            raise FloatingPointError("made up")
        return collect(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(MAML, "collect", collect_or_fail)
    assert train.main(begin) == 1
    assert len(lines(tmp_path / "run")) == 4
    assert train.main(begin) == 0
    assert len(calls) == 5 + 3  # from the checkpoint of iteration 3
    capsys.readouterr()
    assert train.main(begin) == 0
    assert "is finished: 6 iterations" in capsys.readouterr().out
    assert_same_run(trained(tmp_path / "alone"), tmp_path / "run")


# --- told to end ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_what_a_signal_waits_for_is_told(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    def program() -> int:
        with stop_requests(lambda: "iteration 7 to end, about 3 s") as stop:
            os.kill(os.getpid(), number)
            assert stop == [number]
            said = capfd.readouterr().err
            assert said.startswith(f"{number.name}: waiting for iteration 7 to end, about 3 s")
            assert said.endswith("; a second signal drops it.\n")
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        return 0

    assert run_program(program) == 0


@pytest.mark.parametrize("callers_own", [signal.SIG_IGN, lambda number, frame: None])
def test_a_lost_terminal_that_the_caller_takes_care_of(callers_own: Any) -> None:
    """As nohup starts a program, or a program that trains in Python."""
    before = signal.signal(signal.SIGHUP, callers_own)
    try:

        def program() -> int:
            with stop_requests() as stop:
                os.kill(os.getpid(), signal.SIGHUP)
                assert stop == []
            return 0

        assert run_program(program) == 0
        assert signal.getsignal(signal.SIGHUP) is callers_own
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_run_outlives_its_terminal_until_it_is_saved(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=20000, checkpoint={"interval": 10000})
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if pid == 0:
        words = ["train.py", "--config", str(config), "--run-dir", str(run)]
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, *words], ENVIRONMENT | {"TERM": "xterm"})
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 3):
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert load_checkpoint(run).iteration == len(lines(run)) > 3


def test_the_pace_of_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now))
    it = Pace(deadline=100.0)
    assert it.fits()  # of the first nobody knows
    assert it.under_way() == "what is under way to end"
    it.begin(1)
    assert it.under_way() == "iteration 1 to end"
    now = 30.0
    it.end()
    now = 60.0
    assert it.fits()  # 60 + 1.2 · 30 < 100
    now = 65.0
    assert not it.fits()
    assert Pace().fits()
    it.begin(2)
    now = 75.0
    assert it.under_way() == "iteration 2 to end, about 20 s"
    now = 99.0
    assert it.under_way() == "iteration 2 to end, any moment now"


def test_a_time_limit_ends_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is saved, the exit code is that of an interrupt, and the run goes on."""
    config = write_config(tmp_path, checkpoint={"interval": 50})
    run = tmp_path / "run"
    monkeypatch.setattr(pace, "_CAUTION", 1e9)  # no room for a second iteration
    words = ["--config", str(config), "--run-dir", str(run), "--resume", "auto"]
    assert train.main([*words, "--time-limit", "1-00:00:00"]) == 130
    captured = capsys.readouterr()
    assert "no room for another iteration" in captured.out
    assert "Stopped at iteration 1; go on: metarl train" in captured.out
    assert load_checkpoint(run).iteration == len(lines(run)) == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert train.main(words) == 0
    assert_same_run(trained(tmp_path / "alone"), run)


def test_what_outlasts_the_time_limit_is_ended_by_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first iteration is longer than anybody could know: it ends, and the run with it."""
    collect = MAML.collect

    def collect_for_long(self: MAML, *args: object) -> object:
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 1000
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # until the limit, so long a step is this
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            time.sleep(0.001)
        return collect(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(MAML, "collect", collect_for_long)
    config = write_config(tmp_path)
    words = ["--config", str(config), "--run-dir", str(tmp_path / "run")]
    assert train.main([*words, "--time-limit", "30h"]) == 130
    captured = capfd.readouterr()
    assert "The time limit: waiting for iteration 1 to end" in captured.err
    assert "Stopped at iteration 1;" in captured.out
    assert len(lines(tmp_path / "run")) == 1


# --- an environment that hangs ----------------------------------------------------------------


def test_the_limit_of_a_step_reaches_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(build.envs, "make", lambda *args, **options: given.update(options))
    make_env = build.make_worker(config_from(tiny(rollout={"step_timeout": 5.0})))._make_env
    make_env(1)
    assert given["step_timeout"] == 5.0


@pytest.mark.slow
def test_a_run_whose_environment_hangs_fails_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"name": "tests.envs.stuck_envs:Stuck"}
    config = write_config(tmp_path, env=env, rollout={"step_timeout": 2.0})
    config.write_text(config.read_text().replace("  horizon: 10\n", ""))
    words = ["--config", str(config), "--run-dir", str(tmp_path / "run")]
    assert train.main(words) == 1
    sentence = one_sentence(capsys.readouterr().err)
    assert re.search(r"Training failed in iteration \d\. Stuck failed in lane ", sentence)
    assert "(task: best 6)" in sentence
    assert "it has not returned within 2 s, which is step_timeout" in sentence
    assert not (tmp_path / "run" / "lock.json").exists()
