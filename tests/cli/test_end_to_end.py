"""The two programs as a user meets them: what they leave behind, and what they say of mistakes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import evaluate
import train
from tests.programs import ENVIRONMENT, ROOT, files, lines, start, write_config

AT_END = {"at_end": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its evaluation; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, iterations=4, evaluation=AT_END, validation={"enabled": True})
    assert train.main(["--config", str(config), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


def evaluation(run: Path, split: str = "held_out") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (run / "evaluation" / split / "evaluation.json").read_text()
    )
    return content


def copy(run: Path, to: Path) -> Path:
    for name, data in files(run, without="").items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to


# --- the way of a user ------------------------------------------------------------------------


def test_train_and_evaluate_as_typed(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=2, evaluation=AT_END)
    run = tmp_path / "my run"
    training = start("train.py", "--config", config, "--run-dir", run)
    output, _ = training.communicate(timeout=60)
    assert training.returncode == 0, output
    assert "iteration 2/2" in output
    assert f"Report: {run / 'evaluation' / 'held_out' / 'report.md'}" in output
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "evaluation",
        "meta.json",
        "metrics.jsonl",
    ]
    before, at_end = files(run), evaluation(run)

    assert evaluate.main(["--run", str(run)]) == 0  # in another process
    assert evaluation(run) == at_end  # what training measured at its end
    assert files(run) == before  # and nothing of the run has changed
    found = {path.name for path in (run / "evaluation" / "held_out").iterdir()}
    assert {"evaluation.json", "report.md", "report.html", "adaptation_curve.png"} <= found


def test_metrics_hold_what_other_programs_read(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    names = {"env_steps", "wall_time_s", "return/step_0", "return/step_1", "env_steps_per_s"}
    names |= {"time/rollout", "time/adapt", "time/update", "kl/outer"}
    for row in rows:
        assert names <= row.keys()
        assert row["time/rollout"] > 0
        assert row["time/adapt"] >= 0
        assert row["time/update"] > 0
    assert all(a["wall_time_s"] < b["wall_time_s"] for a, b in itertools.pairwise(rows))
    meta = json.loads((run / "meta.json").read_text())
    assert meta["versions"]["torch"] == torch.__version__
    assert meta["torch_threads"] == 1


@pytest.mark.usefixtures("without_plots")
def test_evaluations_repeat_and_leave_the_run_alone(run: Path, tmp_path: Path) -> None:
    here = copy(run, tmp_path / "run")
    before = files(here)
    words = ["--run", str(here), "--episodes", "3", "--adaptation-steps", "2"]
    results = []
    for seed in ("5", "5", "6"):
        assert evaluate.main([*words, "--seed", seed]) == 0
        results.append((here / "evaluation" / "held_out" / "evaluation.json").read_bytes())
        assert files(here) == before
    assert results[0] == results[1] != results[2]
    content = json.loads(results[0])
    assert content["episodes_used"] == [0, 3, 6]
    assert content["action_mode"] == "stochastic"
    assert content["checkpoint"] == 4
    assert len(content["returns"]) == 3
    assert len(content["tasks"]) == len(content["returns"][0]) == 40


@pytest.mark.usefixtures("without_plots")
def test_evaluation_of_a_checkpoint_into_another_folder(run: Path, tmp_path: Path) -> None:
    before = files(run, without="")
    words = ["--run", str(run), "--checkpoint", "3", "--output", str(tmp_path / "out")]
    assert evaluate.main([*words, "--split", "out_of_range", "--mode", "deterministic"]) == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (content["checkpoint"], content["split"]) == (3, "out_of_range")
    assert content["action_mode"] == "deterministic"
    assert files(run, without="") == before


@pytest.mark.usefixtures("without_plots")
def test_a_run_that_still_trains_can_be_evaluated(run: Path, tmp_path: Path) -> None:
    here = copy(run, tmp_path / "run")
    with open(here / "metrics.jsonl", "a") as metrics:
        metrics.write('{"iteration": 5, "env_st')
    assert evaluate.main(["--run", str(here), "--episodes", "1"]) == 0


def unwritable(where: str) -> int:
    """A file that takes nothing."""
    if where == "full disk":
        return os.open("/dev/full", os.O_WRONLY)
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("where", ["closed pipe", "full disk"])
def test_output_that_cannot_be_written(where: str) -> None:
    """As after `| head -n 0`: no traceback, not even when Python ends."""
    output = unwritable(where)
    program = subprocess.run(
        [sys.executable, "-m", "metarl", "suite", "commands", "maml_navigation"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(output)
    assert program.stderr == ""
    assert program.returncode == 0


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("where", ["closed pipe", "full disk"])
def test_the_report_is_written_whatever_becomes_of_the_output(
    run: Path, where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    report = run / "evaluation" / "held_out" / "report.html"
    report.unlink()
    with open(unwritable(where), "w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert evaluate.main(["--run", str(run), "--episodes", "1"]) == 0
        output.flush()  # as Python does when it ends
    assert capfd.readouterr().err == ""
    assert report.exists()


@pytest.mark.usefixtures("without_plots")
def test_output_that_is_closed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `>&-`, and for the children of some daemons."""
    monkeypatch.setattr(sys, "stdout", None)
    assert evaluate.main(["--run", str(run), "--episodes", "1"]) == 0


# --- mistakes ---------------------------------------------------------------------------------


def refusal(main: Callable[[list[str]], int], words: list[str | Path], capsys: Any) -> str:
    """The one sentence with which a program refuses a command line."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith(".\n")
    return str(captured.err)


MISTAKES: list[tuple[list[str], list[str]]] = [
    (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ([], ["--config"]),
    (["--algorithm.inner_rl", "0.1"], ["algorithm.inner_rl", "inner_lr"]),
    (["--sead", "1"], ["sead", "seed"]),
    (["--seed", "-1"], ["seed", "-1", "at least 0"]),
    (["--seed", "1.5"], ["seed", "whole number"]),
    (["--iterations", "0"], ["iterations", "0", "at least 1"]),
    (["--iterations", "many"], ["iterations", "many"]),
    (["--algorithm.tasks", "0"], ["algorithm.tasks", "at least 1"]),
    (["--algorithm.episodes", "-3"], ["algorithm.episodes", "-3"]),
    (["--algorithm.inner_lr", "nan"], ["algorithm.inner_lr"]),
    (["--algorithm.inner_lr", "-0.1"], ["inner_lr", "greater than 0"]),
    (["--algorithm.inner_lr", ".inf"], ["algorithm.inner_lr"]),
    (["--algorithm.discount", "1.2"], ["algorithm.discount", "at most 1"]),
    (["--algorithm.hidden_sizes", "0"], ["hidden_sizes", "at least 1"]),
    (["--algorithm.activation", "gelu"], ["algorithm.activation", "gelu", "tanh"]),
    (["--algorithm.name", "mamal"], ["mamal", "maml"]),
    (["--env.name", "half_cheeta_vel"], ["half_cheeta_vel", "half_cheetah_vel"]),
    (["--env.name", "no.such:Env"], ["env.name", "no.such"]),
    (["--env.name", "tests.envs.user_envs:NotMeta"], ["NotMeta", "set_task"]),
    (["--env.name", "tests.envs.user_envs:NoHorizon"], ["horizon"]),
    (["--env.horizon", "0"], ["horizon", "0"]),
    (["--env.radius", "-1"], ["radius", "-1"]),
    (["--env.region", "pentagon"], ["region", "pentagon", "square"]),
    (["--env.preset", "maml"], ["preset", "maml", "maml_2017"]),
    (["--checkpoint.keep", "0"], ["checkpoint.keep", "at least 1"]),
    (["--checkpoint", "3"], ["checkpoint is a section", "--checkpoint.interval"]),
    (["--tracking.wandb", "maybe"], ["tracking.wandb", "maybe", "offline"]),
    (["--evaluation.split", "test"], ["evaluation.split", "test", "held_out"]),
    (["--rollout.workers", "-1"], ["rollout.workers", "-1"]),
    (["--max-env-steps", "0"], ["max_env_steps", "0"]),
    (["--name", "a/b"], ["name", "a/b"]),
    (["seed", "3"], ["seed"]),
    (["--seed"], ["seed"]),
]


@pytest.mark.parametrize(("words", "parts"), MISTAKES, ids=lambda x: " ".join(x)[:40])
def test_mistakes_in_a_command_line(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    if any("user_envs" in word for word in words):
        config.write_text(config.read_text().replace("  horizon: 10\n", ""))
    run = tmp_path / "run"
    given: list[str | Path] = [*words, "--run-dir", run]
    if words and "--config" not in words:
        given = ["--config", config, *given]
    said = refusal(train.main, given, capsys)
    for part in parts:
        assert part in said
    assert not (run / "config.yaml").exists()  # nothing in the way of the next try


def test_cuda_without_a_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["--config", write_config(tmp_path), "--run-dir", tmp_path / "run", "--device", "cuda"]
    assert "no CUDA device" in refusal(train.main, words, capsys)


def test_a_split_that_the_tasks_lack_is_refused_before_training(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"name": "half_cheetah_dir"}
    config = write_config(
        tmp_path, iterations=1, env=env, evaluation=AT_END | {"split": "out_of_range"}
    )
    words: list[str | Path] = ["--config", config, "--run-dir", tmp_path / "run"]
    assert "nothing out of range" in refusal(train.main, words, capsys)
    assert train.main([*map(str, words), "--evaluation.at_end", "false"]) == 0
    words = ["--run", tmp_path / "run", "--split", "out_of_range"]
    assert "nothing out of range" in refusal(evaluate.main, words, capsys)


def test_a_folder_that_holds_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run, without="")
    said = refusal(train.main, ["--config", write_config(tmp_path), "--run-dir", run], capsys)
    assert "already holds a run" in said
    assert "--resume" in said
    assert files(run, without="") == before


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seed", "2"], ["seed was 1 and is 2"]),
        (["--algorithm.inner_lr", "0.3"], ["algorithm.inner_lr", "0.3"]),
        (["--env.horizon", "20"], ["env.horizon was 10 and is 20"]),
        (["--rollout.torch_threads", "2"], ["rollout.torch_threads"]),
        (["--iterations", "0"], ["iterations"]),
    ],
    ids=lambda x: " ".join(x)[:30],
)
def test_resuming_with_another_config(
    run: Path, words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run, without="")
    said = refusal(train.main, ["--run-dir", run, "--resume", *words], capsys)
    for part in parts:
        assert part in said
    assert files(run, without="") == before


def test_a_run_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    assert "no run" in refusal(train.main, ["--run-dir", gone, "--resume"], capsys)
    assert "no run" in refusal(evaluate.main, ["--run", gone], capsys)
    assert "--run" in refusal(evaluate.main, [], capsys)
    assert not gone.exists()


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run / "checkpoints" / "4" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    del manifest["manifest_sha256"]  # and sealed anew, as who means it would
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest | {"manifest_sha256": digest}))


def flip_a_bit(run: Path) -> None:
    path = run / "checkpoints" / "4" / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


class Evil:
    def __init__(self, run: Path) -> None:
        self.run = run

    def __reduce__(self) -> Any:
        return (Path.touch, (self.run / "executed",))


def malicious(run: Path) -> None:
    data = pickle.dumps(Evil(run))
    (run / "checkpoints" / "4" / "state.pt").write_bytes(data)
    rewrite(run, lambda m: m.update(sha256=hashlib.sha256(data).hexdigest()))


def other_config(run: Path) -> None:
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("seed: 1", "seed: 7"))


DAMAGES: list[tuple[Callable[[Path], Any], list[str]]] = [
    (flip_a_bit, ["damaged or tampered"]),
    (malicious, ["refused", "nothing in it was executed"]),
    (lambda run: rewrite(run, lambda m: m.update(format=2)), ["format 2", "reads format 1"]),
    (lambda run: rewrite(run, lambda m: m.update(iteration=9)), ["iteration 9"]),
    (lambda run: (run / "checkpoints/4/state.pt").unlink(), ["incomplete", "state.pt"]),
    (lambda run: (run / "checkpoints/4/manifest.json").write_text("{"), ["manifest"]),
    (other_config, ["another config", "seed was 1 and is 7"]),
    (lambda run: (run / "config.yaml").write_text("seed: [\n"), ["config.yaml"]),
    (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"), ["config.yaml"]),
    (lambda run: (run / "checkpoints/latest").write_text("eleven"), ["latest"]),
]


@pytest.mark.parametrize(("damage", "parts"), DAMAGES, ids=[p[0] for _, p in DAMAGES])
def test_damaged_runs(
    damage: Callable[[Path], Any],
    parts: list[str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = copy(run, tmp_path / "run")
    damage(here)
    said = refusal(evaluate.main, ["--run", here], capsys)
    for part in parts:
        assert part in said
    assert not (here / "executed").exists()


def test_a_damaged_checkpoint_costs_a_resume_its_iterations_only(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = copy(run, tmp_path / "run")
    flip_a_bit(here)
    assert train.main(["--run-dir", str(here), "--resume"]) == 0
    assert "Going on from iteration 3" in capsys.readouterr().err
    assert lines(here) == lines(run)
    assert lines(here, "validation.jsonl") == lines(run, "validation.jsonl")


def test_metrics_that_cannot_be_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = copy(run, tmp_path / "run")
    (here / "metrics.jsonl").write_text("so far so good\n" + (run / "metrics.jsonl").read_text())
    assert "metrics.jsonl" in refusal(evaluate.main, ["--run", here, "--episodes", "1"], capsys)
    said = refusal(train.main, ["--run-dir", here, "--resume"], capsys)
    assert "metrics.jsonl, line 1" in said


@pytest.mark.parametrize(
    ("program", "words", "code", "said"),
    [
        ("train.py", ["--help"], 0, "--algorithm.inner_lr"),
        ("train.py", ["--config", "configs/none.yaml"], 2, "error: "),
        ("evaluate.py", ["--run", "runs/none"], 2, "error: "),
        ("evaluate.py", ["--run", "runs/none", "--episods", "3"], 2, "episodes"),
    ],
)
def test_exit_codes_as_the_shell_sees_them(
    program: str, words: list[str], code: int, said: str
) -> None:
    process = start(program, *words)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert said in output
    assert "Traceback" not in output
