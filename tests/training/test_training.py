"""Whole runs: exact after kills, independent of what must not matter, sound when things fail."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from metarl.algorithms.maml import MAML
from metarl.errors import EnvironmentFailure
from metarl.process import enough_memory, run_program, stop_requests
from metarl.storage.checkpoint import load_checkpoint
from tests.programs import (
    Forks,
    assert_same_run,
    files,
    lines,
    parameters,
    start,
    write_config,
)

CHEETAH = {
    "env": {"name": "half_cheetah_vel", "horizon": 10},
    "algorithm": {"tasks": 2, "episodes": 2, "hidden_sizes": [8]},
}
LINE = {"env": {"name": "tests.toy_envs:Line", "horizon": 5}}


def trained(folder: Path, *argv: str, **changes: Any) -> Path:
    """A run of the tiny config in this process, in a folder of its own."""
    folder.mkdir()
    config = write_config(folder, **changes)
    run = folder / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run), *argv]) == 0
    return run


def one_sentence(output: str) -> str:
    """The error that a program printed, which has no traceback with it."""
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    return errors[0]


# --- exactness: kills -------------------------------------------------------------------------


def kill_ten_times(forks: Forks, folder: Path, iterations: int, **changes: Any) -> None:
    config = write_config(folder, iterations=iterations, **changes)
    alone, run = folder / "alone", folder / "killed"
    assert forks("train", "--config", config, "--run-dir", alone).code == 0

    rng = random.Random(iterations)
    # Not among the last: a run of fast iterations would end before it is killed.
    when = sorted(rng.randrange(iterations * 3 // 4) for _ in range(10))
    pause = 0.9 / iterations  # s, about an iteration
    words: list[str | Path] = ["--config", config, "--run-dir", run]
    for line in when:
        options = {"lines_of": str(run / "metrics.jsonl"), "lines": line}
        outcome = forks(
            "train", *words, signal=signal.SIGKILL, delay=rng.uniform(0, pause), **options
        )
        assert outcome.code == -signal.SIGKILL, outcome.output
        if (run / "config.yaml").exists():
            words = ["--run-dir", run, "--resume"]
    assert forks("train", *words).code == 0
    assert_same_run(alone, run)
    assert len(lines(run)) == iterations


def test_ten_kills_leave_no_trace(forks: Forks, tmp_path: Path) -> None:
    kill_ten_times(forks, tmp_path, 30)


@pytest.mark.slow
def test_ten_kills_leave_no_trace_on_half_cheetah(forks: Forks, tmp_path: Path) -> None:
    kill_ten_times(forks, tmp_path, 30, **CHEETAH)


def kill_at_writes(forks: Forks, folder: Path, sample: int | None) -> None:
    """Kill a run at moments of its writing to the disk: during, before and after each of them."""
    validation = {"enabled": True}
    config = write_config(folder, checkpoint={"interval": 2, "keep": 2}, validation=validation)
    counts = folder / "counts"
    alone = folder / "alone"
    watched = {"counts": str(counts)}
    assert forks("train", "--config", config, "--run-dir", alone, kill_at=-1, **watched).code == 0
    moments = list(range(1, int(counts.read_text()) + 1))
    assert len(moments) > 100
    for moment in moments if sample is None else random.Random(0).sample(moments, sample):
        run = folder / str(moment)
        words: list[str | Path] = ["--config", config, "--run-dir", run]
        assert forks("train", *words, kill_at=moment, **watched).code == -signal.SIGKILL
        if (run / "config.yaml").exists():
            words = ["--run-dir", run, "--resume"]
        outcome = forks("train", *words)
        assert outcome.code == 0, (moment, outcome.output)
        assert_same_run(alone, run)
        assert lines(alone, "validation.jsonl") == lines(run, "validation.jsonl"), moment


@pytest.mark.slow
def test_kills_during_writes(forks: Forks, tmp_path: Path) -> None:
    kill_at_writes(forks, tmp_path, 8)


@pytest.mark.slow
def test_kills_during_every_write(forks: Forks, tmp_path: Path) -> None:
    kill_at_writes(forks, tmp_path, None)


# --- exactness: resuming ----------------------------------------------------------------------


def test_resume_of_a_run_without_a_checkpoint_starts_it(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    run = tmp_path / "run"
    (run / "checkpoints" / ".pending-0-123").mkdir(parents=True)
    (run / "config.yaml").write_bytes((alone / "config.yaml").read_bytes())
    assert train.main(["--run-dir", str(run), "--resume"]) == 0
    assert_same_run(alone, run)


def test_resume_never_throws_metrics_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its checkpoints a run cannot go on, and its metrics are all that is left of it."""
    run = trained(tmp_path / "a")
    before = (run / "metrics.jsonl").read_bytes()
    for path in (run / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    assert train.main(["--run-dir", str(run), "--resume"]) == 2
    assert "holds no checkpoint" in one_sentence(capsys.readouterr().err)
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.usefixtures("without_plots")
def test_resume_of_a_finished_run_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path / "a", evaluation={"at_end": True}, validation={"enabled": True})
    state = files(run, without="")
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train.main(["--run-dir", str(run), "--resume"]) == 0
    assert "is finished: 6 iterations" in capsys.readouterr().out
    assert files(run, without="") == state
    assert {path: path.stat().st_mtime_ns for path in times} == times
    lost = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lost[:2] + lost[4:]))
    assert train.main(["--run-dir", str(run), "--resume"]) == 0
    assert "has no line of iterations 3 to 4;" in capsys.readouterr().err
    (run / "metrics.jsonl").write_text("".join(lost))
    report = run / "evaluation/held_out/report.html"
    os.truncate(report, 5000)  # as after a full disk: no report, so it is made anew
    assert train.main(["--run-dir", str(run), "--resume"]) == 0
    assert report.read_text().endswith("</html>\n")


def test_resume_with_more_iterations(tmp_path: Path) -> None:
    """To the very numbers of a run that had them from the start."""
    validation = {"enabled": True, "interval": 4}
    alone = trained(tmp_path / "a", iterations=8, validation=validation)
    run = trained(tmp_path / "b", iterations=4, validation=validation)
    assert train.main(["--run-dir", str(run), "--resume", "--iterations", "8"]) == 0
    assert_same_run(alone, run)
    assert lines(alone, "validation.jsonl") == lines(run, "validation.jsonl")


def test_budget_of_env_steps(tmp_path: Path) -> None:
    """Training ends before the iteration that would begin past it, and counts steps, not lines."""
    run = trained(tmp_path / "a", iterations=50, max_env_steps=350)  # 180, then 120 an iteration
    assert [row["env_steps"] >= 350 for row in lines(run)] == [False, False, True]
    assert load_checkpoint(run).manifest["env_steps"] == lines(run)[-1]["env_steps"]
    assert train.main(["--run-dir", str(run), "--resume", "--max-env-steps", "500"]) == 0
    assert [row["iteration"] for row in lines(run)] == [1, 2, 3, 4]


# --- exactness: threads and processes ---------------------------------------------------------


def test_physics_threads_change_nothing(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path / str(n), **CHEETAH, rollout={"physics_threads": n}, iterations=3)
        for n in (1, 2)
    ]
    assert_same_run(*runs)


@pytest.mark.parametrize("env", ["Chooser", "Reach"])
def test_worker_processes_change_nothing(tmp_path: Path, env: str) -> None:
    runs = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        config = write_config(folder, iterations=2, rollout={"workers": workers})
        text = config.read_text().replace("  horizon: 10\n", "")  # the environment's own
        config.write_text(text.replace("point_navigation", f"tests.envs.user_envs:{env}"))
        run = folder / "run"
        assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
        runs.append(run)
    assert_same_run(*runs)
    steps = lines(runs[0])[-1]["env_steps"]
    full = (1 + 2 * 2) * 2 * 3 * {"Chooser": 3, "Reach": 12}[env]  # with the first look
    assert steps == full if env == "Chooser" else 0 < steps < full  # Reach ends early


# --- independence -----------------------------------------------------------------------------


@pytest.mark.usefixtures("without_plots")
def test_validation_and_held_out_tasks_never_touch_training(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {"validation": {"enabled": False}},
        {"validation": {"enabled": True, "interval": 1, "episodes": 3}},
        {"validation": {"enabled": True, "interval": 4}, "evaluation": {"at_end": True}},
        {"env": {"held_out": "maml_2017"}},
    ]
    runs = [trained(tmp_path / str(i), **variant) for i, variant in enumerate(variants)]
    for run in runs[1:]:
        assert_same_run(runs[0], run)
    assert [row["iteration"] for row in lines(runs[1], "validation.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [row["iteration"] for row in lines(runs[2], "validation.jsonl")] == [4, 6]


def test_global_random_state_does_not_matter(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (the global one is what is tested)
        torch.manual_seed(seed)
        runs.append(trained(tmp_path / str(seed), iterations=3))
    assert_same_run(*runs)
    other = trained(tmp_path / "3", "--seed", "2", iterations=3)
    assert lines(other) != lines(runs[0])


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_the_iteration_and_the_run_goes_on_later(
    forks: Forks, tmp_path: Path, number: signal.Signals
) -> None:
    config = write_config(tmp_path, iterations=12, checkpoint={"interval": 50})
    alone, run = tmp_path / "alone", tmp_path / "run one"
    assert forks("train", "--config", config, "--run-dir", alone).code == 0
    options = {"lines_of": str(run / "metrics.jsonl"), "lines": 4, "delay": 0.005}
    outcome = forks("train", "--config", config, "--run-dir", run, signal=number, **options)
    assert outcome.code == 130
    assert "Traceback" not in outcome.output
    assert f"go on: metarl train --run-dir '{run}' --resume" in outcome.output
    iteration = load_checkpoint(run).iteration
    assert 4 <= iteration == len(lines(run)) < 12  # nothing that was finished is lost
    assert f"Stopped at iteration {iteration};" in outcome.output
    waiting = f"{number.name}: waiting for iteration {iteration} to end, "
    assert waiting in outcome.output or f"{number.name}: waiting for what is" in outcome.output
    assert "then saving; a second signal drops it." in outcome.output
    assert forks("train", "--run-dir", run, "--resume").code == 0
    assert_same_run(alone, run)


def test_a_signal_during_the_last_validation(forks: Forks, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, iterations=2, validation={"enabled": True, "episodes": 400, "interval": 2}
    )
    run = tmp_path / "run"
    options = {"lines_of": str(run / "metrics.jsonl"), "lines": 2, "delay": 0.05}
    words = ["--config", config, "--run-dir", run, "--evaluation.at_end", "true"]
    outcome = forks("train", *words, signal=signal.SIGINT, **options)
    assert outcome.code == 130
    assert "Stopped at iteration 2" in outcome.output
    assert not (run / "evaluation").exists()
    outcome = forks("train", "--run-dir", run, "--resume", "--validation.episodes", "2")
    assert outcome.code == 0
    assert len(lines(run, "validation.jsonl")) == 1
    assert (run / "evaluation" / "held_out" / "report.html").exists()


def test_a_signal_during_the_final_evaluation(forks: Forks, tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=2, evaluation={"at_end": True, "episodes": 500})
    run = tmp_path / "run"
    options = {"lines_of": str(run / "metrics.jsonl"), "lines": 2, "delay": 0.15}
    words = ["--config", config, "--run-dir", run]
    outcome = forks("train", *words, signal=signal.SIGTERM, **options)
    assert outcome.code == 130
    assert "Trained 2 iterations" in outcome.output
    assert "--resume" in outcome.output
    assert "Traceback" not in outcome.output
    assert not (run / "evaluation").exists()
    before = files(run)
    outcome = forks("train", "--run-dir", run, "--resume", "--evaluation.episodes", "2")
    assert outcome.code == 0
    assert (run / "evaluation" / "held_out" / "report.html").exists()
    assert files(run)["metrics.jsonl"] == before["metrics.jsonl"]


@pytest.mark.parametrize("delay", [0.05, 0.7])
def test_a_signal_during_start_up(tmp_path: Path, delay: float) -> None:
    """While the heavy imports are under way: nothing has begun, nothing is left behind."""
    program = start("train.py", "--config", write_config(tmp_path), "--run-dir", tmp_path / "run")
    status = Path(f"/proc/{program.pid}/status")
    while status.exists() and not catches(status.read_text(), signal.SIGTERM):
        assert program.poll() is None
        time.sleep(0.005)
    time.sleep(delay)
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate(timeout=30)
    assert program.returncode == 130
    assert "Traceback" not in output
    assert "interrupted" in output or "--resume" in output


def test_an_interrupt_that_a_library_swallows_still_stops_the_run() -> None:
    """As one in the middle of an import can be: it is seen again where the training would begin."""

    def program() -> int:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as stop:
            assert stop == [signal.SIGTERM]
        return 0

    assert run_program(program) == 130
    assert run_program(lambda: 0) == 0


def catches(status: str, number: int) -> bool:
    """Whether a process has a handler for a signal, by its file in /proc."""
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_process_group(tmp_path: Path) -> None:
    """As a terminal sends it: to the worker processes and to that of W&B as well."""
    config = write_config(
        tmp_path, iterations=5000, rollout={"workers": 2}, tracking={"wandb": "offline"}
    )
    text = config.read_text().replace("  horizon: 10\n", "")
    config.write_text(text.replace("point_navigation", "tests.envs.user_envs:Chooser"))
    run = tmp_path / "run"
    program = start("train.py", "--config", config, "--run-dir", run, start_new_session=True)
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(program.pid, signal.SIGINT)
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 130, output
    assert "Traceback" not in output
    assert "warning" not in output
    assert "go on: metarl train" in output
    assert load_checkpoint(run).iteration == len(lines(run)) >= 3
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(program.pid, 0)


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return trained(folder, validation={"enabled": True})


@pytest.mark.parametrize(
    ("where", "first", "named", "iteration"),
    [
        ("metrics.jsonl", 5, "metrics.jsonl cannot be written", 3),
        (".pending-6-", 1, "checkpoint of iteration 6 cannot be written", 3),
        (".pending-6-", 2, "the newest good one is of iteration 3", 3),
        (".pending-latest", 3, "the newest good one is of iteration 6", 3),
        ("validation.jsonl", 1, "validation.jsonl cannot be written", 0),
        ("evaluation.json", 1, "The report cannot be written", 6),
        ("report.html", 1, "The report cannot be written", 6),
        ("config.yaml", 1, "config.yaml cannot be written", None),
    ],
)
def test_a_full_disk(
    forks: Forks,
    undisturbed: Path,
    tmp_path: Path,
    where: str,
    first: int,
    named: str,
    iteration: int | None,
) -> None:
    """One sentence, exit 1, the last good checkpoint intact; with space again, the run goes on."""
    at_end = "report" in named
    config = write_config(tmp_path, validation={"enabled": True}, evaluation={"at_end": at_end})
    run = tmp_path / "run"
    words: list[str | Path] = ["--config", config, "--run-dir", run]
    outcome = forks("train", *words, full=where, first=first)
    assert outcome.code == 1
    sentence = one_sentence(outcome.output)
    assert named in sentence
    assert "No space left on device" in sentence
    if iteration is not None:
        assert load_checkpoint(run, fall_back=True).iteration >= iteration
        words = ["--run-dir", run, "--resume"]
    assert forks("train", *words).code == 0
    assert_same_run(undisturbed, run)
    assert lines(undisturbed, "validation.jsonl") == lines(run, "validation.jsonl")
    assert (run / "evaluation" / "held_out" / "report.html").exists() == at_end


@pytest.mark.slow
def test_a_disk_that_is_really_full(forks: Forks, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        run = disk / "run"
        config = write_config(tmp_path, iterations=200, checkpoint={"interval": 2, "keep": 100})
        outcome = forks("train", "--config", config, "--run-dir", run)
        assert outcome.code == 1
        assert "No space left on device" in one_sentence(outcome.output)
        assert 2 <= load_checkpoint(run).iteration < 200
        assert subprocess.run(["mount", "-o", "remount,size=1m", str(disk)]).returncode == 0
        words = ["--resume", "--iterations", "30", "--checkpoint.keep", "1"]
        assert forks("train", "--run-dir", run, *words).code == 0
        alone = trained(tmp_path / "alone", iterations=30)
        assert_same_run(alone, run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- divergence -------------------------------------------------------------------------------


def diverged(folder: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    config = write_config(folder, **changes)
    run = folder / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 1
    assert load_checkpoint(run).iteration == 3
    assert len(lines(run)) == 3
    assert all(torch.isfinite(p).all() for p in parameters(run).values())
    return one_sentence(capsys.readouterr().err)


def test_a_reward_that_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = LINE["env"] | {"bad": "reward", "bad_reset": 9}  # the second rollout of iteration 4
    sentence = diverged(tmp_path, capsys, env=env)
    assert "iteration 4" in sentence
    assert "the reward became nan" in sentence
    assert "goal" in sentence


def test_an_observation_that_is_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = LINE["env"] | {"bad": "observation", "bad_reset": 8, "bad_above": 0.0}
    sentence = diverged(tmp_path, capsys, env=env, algorithm={"tasks": 6})
    assert "iteration 4: observations of the rollout are not finite for the tasks [" in sentence
    tasks = json.loads(sentence.partition("for the tasks ")[2].join("[]").replace(".]", "]"))
    assert tasks
    assert all(task[0] > 0 for task in tasks)


def test_an_inner_step_that_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, algorithm={"inner_lr": [1e39]})
    run = tmp_path / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 1
    sentence = one_sentence(capsys.readouterr().err)
    assert "diverged in iteration 1: actions of the rollout are not finite" in sentence
    assert load_checkpoint(run).iteration == 0


def test_a_validation_that_diverges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = LINE["env"] | {"bad": "reward", "bad_reset": 2}  # validation resets twice, training once
    algorithm = {"adaptation_steps": 0, "normalize_observations": False}
    validation = {"enabled": True, "interval": 1}
    config = write_config(tmp_path, env=env, algorithm=algorithm, validation=validation)
    run = tmp_path / "run"
    words = ["--config", str(config), "--run-dir", str(run)]
    assert train.main(words) == 1
    sentence = one_sentence(capsys.readouterr().err)
    assert "validation after iteration 1 failed" in sentence
    assert "the reward became nan" in sentence
    assert load_checkpoint(run).iteration == 0


def out_of_cuda_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("shortage", "place"),
    [
        (out_of_cuda_memory, "the GPU"),
        (lambda: torch.empty(2**60), "this machine"),
        (lambda: torch.empty(2**40, 2**40), "this machine"),
        (lambda: np.empty(2**58), "this machine"),
        (lambda: np.empty(2**62), "this machine"),
        (lambda: bytearray(2**60), "this machine"),
    ],
)
def test_running_out_of_memory_is_a_sentence(shortage: Callable[[], object], place: str) -> None:
    """Each as torch, NumPy or Python tells it; another error of the same type stays itself."""
    with (
        pytest.raises(EnvironmentFailure, match=f"^It needs more memory than {place} has: buy."),
        enough_memory("It", "buy some"),
    ):
        shortage()
    with pytest.raises(ValueError, match="else"), enough_memory("It", "buy some"):
        raise ValueError("something else")


def test_an_iteration_that_needs_too_much_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MAML, "update", lambda self, batch: torch.empty(2**60))
    config = write_config(tmp_path)
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 1
    sentence = one_sentence(capsys.readouterr().err)
    assert "Iteration 1 needs more memory" in sentence
    assert "fewer tasks or episodes" in sentence
    assert load_checkpoint(tmp_path / "run").iteration == 0


def test_a_network_that_needs_too_much_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, algorithm={"hidden_sizes": [2**40, 2**40]})
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 1
    assert "take smaller networks" in one_sentence(capsys.readouterr().err)
