"""The command lines of training and evaluating."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl.cli.command_line import parse_evaluate_arguments, parse_train_arguments
from metarl.cli.train_options import TrainOptions, seconds
from metarl.config.fields import LocalBackend, RayBackend
from metarl.config.loading import (
    config_to_yaml,
    differences,
    fingerprint,
    load_config,
    resolve,
)
from tests.config.fakes import refused

NAVIGATION = "env: {name: point_navigation}\niterations: 5\n"


def test_train_arguments_are_resolved(write, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    path = write(NAVIGATION, "my exp.yaml")
    config, job = parse_train_arguments([str(path), "--seed", "3", "--device", "cpu"])
    assert job == TrainOptions()
    assert config.run_folder == Path("runs/my_exp")
    assert config.seed == 3
    assert config.rollout.torch_threads >= 1
    config, _ = parse_train_arguments([f"--config={path}", "--run-dir=elsewhere"])
    assert config.device in ("cpu", "cuda")
    assert config.run_folder == Path("elsewhere")
    assert config.run_dir == "elsewhere"


def test_a_config_that_comes_with_metarl_has_a_name(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    for words in (["quickstart", "--seed", "3"], ["--seed", "3", "--config", "quickstart"]):
        config, _ = parse_train_arguments(words)
        assert (config.name, config.seed) == ("quickstart", 3)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["--config CONFIG", "--resume"]),
        (["quickstrat"], ["no config", "'quickstart'"]),
        (["nav.yaml", "seed", "3"], ["nav.yaml, seed, 3"]),
        (["--config", ""], ["--config is empty"]),
        (["--resume=yes"], ["--resume is a switch"]),
        (["--resume"], ["--resume needs --run-dir"]),
        (["--resume", "--run-dir", "none_here"], ["no run", "none_here", "config.yaml"]),
        (["--resume", "--run-dir", "x" * 300], ["no run to resume"]),
        (["--config", "x" * 300], ["There is no config"]),
        (["--config", "nav.yaml", "--run-dir", ""], ["run_dir", "at least 1"]),
        (["--config", "nav.yaml", "--env.radius", "-1"], ["radius is -1", "above 0"]),
        (["--config", "nav.yaml", "--env.horizon", "0"], ["horizon is 0", "at least 1"]),
        (["--config", "nav.yaml", "--env.tasks", "no:Such"], ["no:Such"]),
        (
            ["--config", "nav.yaml", "--algorithm.inner_lr", "-1"],
            ["line: algorithm.inner_lr[0] is -1"],
        ),
        (
            ["--config", "nav.yaml", "--algorithm.tasks", "0"],
            ["algorithm.tasks is 0", "at least 1"],
        ),
    ],
)
def test_broken_train_command_lines(words, parts, write, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    write(NAVIGATION, "nav.yaml")
    monkeypatch.chdir(tmp_path)
    message = refused(lambda: parse_train_arguments(words))
    for part in parts:
        assert part in message, message


def test_inverted_ranges_are_refused(write) -> None:  # type: ignore[no-untyped-def]
    path = write("env: {name: half_cheetah_vel, velocity_low: 3.0, velocity_high: 1.0}")
    message = refused(lambda: parse_train_arguments(["--config", str(path)]))
    assert "velocity_low is 3" in message
    assert "velocity_high is 1" in message


def test_cuda_without_one(write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["--config", str(write(NAVIGATION)), "--device", "cuda"]
    assert "no CUDA device" in refused(lambda: parse_train_arguments(words))
    assert "no CUDA device" in refused(lambda: resolve(load_config(None, ["--device", "cuda"])))


@pytest.fixture
def run(write, tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    """A run folder as training leaves it, and the file that it came from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    source = write(NAVIGATION, "nav.yaml")
    config, _ = parse_train_arguments(["--config", str(source), "--rollout.torch_threads", "3"])
    config.run_folder.mkdir(parents=True)
    (config.run_folder / "config.yaml").write_text(config_to_yaml(config))
    return config


def test_resume_takes_the_runs_own_config(run) -> None:  # type: ignore[no-untyped-def]
    resumed, job = parse_train_arguments(["--run-dir", "runs/nav", "--resume"])
    assert job == TrainOptions(resume=True)
    assert resumed == run
    assert resumed.rollout.torch_threads == 3
    # With the same config file: what it leaves to the machine is taken from the run.
    assert parse_train_arguments(["--config", "nav.yaml", "--resume"]) == (run, job)


def test_resume_after_the_folder_was_moved(run) -> None:  # type: ignore[no-untyped-def]
    Path("runs/nav").rename("moved")
    resumed, _ = parse_train_arguments(["--run-dir", "moved", "--resume"])
    assert resumed.run_folder == Path("moved")
    assert differences(run, resumed) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--iterations", "9"],
        ["--max-env-steps", "100"],
        ["--rollout.physics_threads", "1"],
        ["--rollout.workers", "1"],
        ["--checkpoint.keep", "9"],
        ["--tracking.wandb", "disabled"],
        ["--validation.enabled", "false"],
        ["--evaluation.episodes", "1"],
    ],
)
def test_resume_with_what_may_change(run, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    resumed, _ = parse_train_arguments(["--run-dir", "runs/nav", "--resume", *words])
    assert resumed != run
    assert fingerprint(resumed) == fingerprint(run)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seed", "9"], ["seed was 1 and is 9 now"]),
        (["--env.radius", "0.7"], ["env.radius was 0.5 and is 0.7 now"]),
        (["--algorithm.inner_lr", "0.2"], ["algorithm.inner_lr was [0.1] and is [0.2] now"]),
        (["--rollout.torch_threads", "1"], ["rollout.torch_threads was 3", "sums differ"]),
        (["--device", "cuda"], ["device was 'cpu' and is 'cuda' now", "sums differ"]),
        (["--name", "other"], ["name was 'nav'"]),
    ],
)
def test_resume_with_another_config_is_refused(run, words, parts) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: parse_train_arguments(["--run-dir", "runs/nav", "--resume", *words]))
    for part in ["runs/nav", "cannot be resumed", *parts]:
        assert part in message, message


def test_one_command_that_begins_or_goes_on(run) -> None:  # type: ignore[no-untyped-def]
    folder = run.run_folder
    for words in (["nav.yaml", "--resume", "auto"], ["--resume=auto", "nav.yaml"]):
        config, job = parse_train_arguments([*words, "--rollout.torch_threads", "3"])
        assert (config, job) == (run, TrainOptions(resume="auto"))
    # A run that has finished an iteration is gone on with, under its own config alone.
    (folder / "meta.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"iteration": 1}\n')
    config, _ = parse_train_arguments(["nav.yaml", "--resume", "auto"])
    assert config.rollout.torch_threads == 3
    other = ["nav.yaml", "--resume", "auto", "--seed", "9"]
    assert "cannot be resumed with another config" in refused(lambda: parse_train_arguments(other))
    # One that has not is begun anew, also with another.
    (folder / "metrics.jsonl").write_text("")
    config, _ = parse_train_arguments(other)
    assert config.seed == 9
    config, _ = parse_train_arguments(["--run-dir", str(folder), "--resume", "auto"])
    assert config.seed == 1


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("5400", 5400),
        ("0.5", 0.5),
        ("3h30m", 12600),
        ("90min", 5400),
        ("1d2h3m4s", 93784),
        ("03:30:00", 12600),
        ("30:00", 1800),
        ("1-12:00:00", 129600),
        ("1-12:30", 131400),
        ("2-0", 172800),
    ],
)
def test_a_time_limit_as_people_and_slurm_write_it(text: str, meant: float) -> None:
    assert seconds(text) == meant


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "3h30", "1:2:3:4", "nan", "9" * 5000])
def test_a_time_limit_that_is_none(text: str) -> None:
    message = refused(lambda: seconds(text))
    assert "--time-limit is" in message
    assert "3h30m" in message
    assert len(message) < 300


# --- evaluate -----------------------------------------------------------------------------------


def test_evaluate_arguments(run) -> None:  # type: ignore[no-untyped-def]
    words = "--run runs/nav --split validation --episodes 5 --adaptation-steps 2 --mode both"
    words += " --seed 4 --device cpu --checkpoint 30 --output out"
    arguments = parse_evaluate_arguments(words.split())
    assert arguments.run == ("runs/nav",)
    assert (arguments.split, arguments.episodes, arguments.adaptation_steps) == ("validation", 5, 2)
    assert (arguments.mode, arguments.seed, arguments.device) == ("both", 4, "cpu")
    assert (arguments.checkpoint, arguments.output) == (30, "out")
    assert parse_evaluate_arguments(["--video", "runs/nav"]).run == ("runs/nav",)
    bare = parse_evaluate_arguments(["--run=runs/nav"])
    assert (bare.split, bare.episodes, bare.checkpoint, bare.device) == (
        None,
        None,
        "latest",
        "cpu",
    )
    assert bare.backend == LocalBackend()
    words = "runs/nav --rollout.backend ray --rollout.backend.address auto"
    assert parse_evaluate_arguments(words.split()).backend == RayBackend(address="auto")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["--run", "runs/nav", "--rollout.backend", "ray", "--device", "cuda"],
            ["workers of Ray", "--device cuda"],
        ),
        (["--run", "runs/nav", "--rollout.backend", "rya"], ["rollout.backend is 'rya'", "ray"]),
        (["--run", "runs/nav", "--rollout.shard-tasks", "1"], ["no field rollout"]),
        ([], ["metarl evaluate RUN"]),
        (["--run", "nowhere"], ["no run in nowhere"]),
        (["--run", "runs/nav", "--run", "runs/../runs/nav"], ["given twice"]),
        (["--run", "runs/nav", "--split", "test"], ["split is 'test'", "held_out"]),
        (["--run", "runs/nav", "--episodes", "0"], ["episodes is 0", "at least 1"]),
        (
            ["--run", "runs/nav", "--adaptation-steps", "-1"],
            ["adaptation_steps is -1", "at least 0"],
        ),
        (["--run", "runs/nav", "--mode", "greedy"], ["mode is 'greedy'", "deterministic"]),
        (["--run", "runs/nav", "--checkpoint", "last"], ["checkpoint is 'last'", "latest"]),
        (["--run", "runs/nav", "--checkpoint", "-1"], ["checkpoint is -1", "at least 0"]),
        (["--run", "runs/nav", "--device", "cuda"], ["no CUDA device"]),
        (["--run", "runs/nav", "--episode", "3"], ["episode", "nearest is episodes"]),
        (["--run"], ["--run needs a value"]),
        (["runs/nav", "runs/./nav"], ["given twice"]),
        (["runs/nav", "-x"], ["'-x'", "--field value"]),
    ],
)
def test_broken_evaluate_command_lines(run, words, parts) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: parse_evaluate_arguments(words))
    for part in parts:
        assert part in message, message
