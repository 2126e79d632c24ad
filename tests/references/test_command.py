"""The command that makes references as a user meets it, and what an evaluation makes of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

import evaluate
import train
from metarl.cli.main import main
from metarl.evaluation.plan import EvaluationPlan
from metarl.measuring.evaluating import measure
from metarl.runs.trained_run import load_run
from tests.programs import start, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"), iterations=2)


def run_command(config: Path, folder: Path, kinds: str, *options: str) -> int:
    words = ["--config", str(config), "--kind", kinds, "--folder", str(folder)]
    return main(["references", *words, "--env-steps", "1280", *options])


def test_from_the_command_to_the_normalised_score(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Evaluated without references a run names them; with them, they stand in the JSON."""
    monkeypatch.chdir(tmp_path)
    assert train.main(["--config", str(config), "--run-dir", "run"]) == 0
    assert evaluate.main(["--run", "run"]) == 0
    place = Path("run/evaluation/held_out")
    bare = json.loads((place / "evaluation.json").read_text())
    assert set(bare["references"]) == {"random", "optimum"}
    assert bare["normalised"] is None
    for name in ("report.md", "report.html"):
        report = (place / name).read_text()
        assert all(command in report for command in bare["missing_references"].values())

    commands = bare["missing_references"]
    assert list(commands) == ["oracle", "multitask", "from_scratch", "fine_tuned"]
    for kind in ("oracle", "fine_tuned", "from_scratch"):  # the second makes the multitask too
        words = commands[kind].split()
        assert words[:2] == ["metarl", "references"]
        assert main([*words[1:], "--env-steps", "1280"]) == 0
    assert "fine_tuned after 0 to 1 rounds: " in capsys.readouterr().out

    assert evaluate.main(["--run", "run"]) == 0
    full = json.loads((place / "evaluation.json").read_text())
    assert full["missing_references"] == {}
    assert set(full["references"]) == {*commands, "random", "optimum"}
    floor, oracle = (full["references"][name]["mean"] for name in ("multitask", "oracle"))
    if oracle > floor:
        expected = [(mean - floor) / (oracle - floor) for mean in full["mean"]]
        assert full["normalised"] == pytest.approx(expected)
    assert full["returns"] == bare["returns"]  # the references have streams of their own


def test_what_is_there_is_not_trained_again_unless_asked(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(config, tmp_path, "oracle") == 0
    (weights,) = tmp_path.rglob("weights.pt")
    made_at = weights.stat().st_mtime_ns
    assert run_command(config, tmp_path, "oracle") == 0
    assert "--again" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == made_at
    assert run_command(config, tmp_path, "oracle", "--again", "--seed", "1") == 0
    told = json.loads(weights.with_name("reference.json").read_text())
    assert told["seed"] == 1
    assert told["command"].startswith("metarl references --config ")
    assert {"stable_baselines3", "torch", "mujoco"} <= set(told["versions"])


def test_the_config_is_found_by_name_and_what_is_shipped_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["references", "quickstart"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" already")[0].rpartition("/")[2] for line in said] == [
        "oracle",
        "multitask",
    ]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "oracle"], "Give a config"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--kind", "oracel"], "oracle"),
        (["--env-step", "5"], "env_steps"),
        (["--env-steps", "0"], "1"),
        (["--env.horizn", "5"], "horizon"),
        (["--kind", "fine_tuned"], "--kind multitask,fine_tuned"),
    ],
)
def test_wrong_input_gets_a_sentence(
    config: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words != ["--kind", "oracle"] and "--config" not in words:
        words = ["--config", str(config), *words]
    assert main(["references", *words, "--folder", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_damaged_reference_is_named_by_the_evaluation(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metarl.errors import UserError

    monkeypatch.chdir(tmp_path)  # where `references` is searched first
    assert train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")]) == 0
    assert run_command(config, tmp_path / "references", "oracle") == 0
    (weights,) = tmp_path.rglob("weights.pt")
    weights.write_bytes(weights.read_bytes()[:-1])
    run = load_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"oracle is damaged or tampered with: weights\.pt"):
        measure(run, EvaluationPlan("held_out", 1, 1, modes=("stochastic",)))
    run.worker.close()


@pytest.mark.slow
def test_a_signal_leaves_nothing_half(config: Path, tmp_path: Path) -> None:
    words = ["-m", "metarl", "references", "--config", str(config), "--folder"]
    process = start("-u", *words, tmp_path, "--env-steps", "2000000000", "--kind", "oracle")
    assert process.stdout is not None
    process.stdout.readline()  # after the first rollouts
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in output
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["oracle.training.pt"]
