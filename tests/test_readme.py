"""What the README says works: its two commands exist, and its examples run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import evaluate
import train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The README's one code block of a language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [b for b in blocks if containing in b]
    return found


@pytest.mark.parametrize("name", ["first", "tests"])
def test_the_commands_that_ci_takes_from_the_readme_are_there(name: str) -> None:
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert "\n" not in command
    assert command.endswith(
        {"first": "--config configs/quickstart.yaml", "tests": "-m pytest"}[name]
    )


def test_the_example_of_an_own_environment_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pendulum_length.py").write_text(block("python", "class PendulumLength"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--config", str(ROOT / "configs/maml_pendulum_length.yaml"), "--iterations", "2"]
    options += ["--algorithm.tasks", "2", "--algorithm.episodes", "2", "--evaluation.episodes", "1"]
    options += ["--tracking.wandb", "disabled", "--run-dir", "run", "--rollout.workers", "1"]
    assert train.main(options) == 0
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [m["env_steps"] for m in metrics] == [1600, 3200]  # 2 × 2 episodes × 200 steps × 2
    evaluation = json.loads(Path("run/evaluation/held_out/evaluation.json").read_text())
    assert evaluation["task_columns"] == ["length"]
    assert len(evaluation["tasks"]) == 40


def test_the_example_of_driving_a_trained_agent_shows_adaptation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    exec(block("python", "load_run"), {})
    returns = re.findall(r"after (\d) gradient steps: (-?[\d.]+)", capsys.readouterr().out)
    assert [k for k, _ in returns] == ["0", "1", "2", "3"]
    assert float(returns[0][1]) < -30.0  # the goal is 0.36 m away, and unknown
    assert float(returns[3][1]) > -10.0


def test_the_example_of_an_own_agent_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scout.py").write_text(block("python", "class Scout"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--config", str(ROOT / "configs/maml_navigation.yaml"), "--agent", "scout:Scout"]
    assert evaluate.main([*options, "--episodes", "9", "--adaptation-steps", "2"]) == 0
    (found,) = Path("runs").rglob("evaluation.json")
    evaluation = json.loads(found.read_text())
    assert evaluation["adaptation_helps"]["ci95"][0] > 0.0
