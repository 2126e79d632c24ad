"""`evaluate.py --agent`: an agent of a user's own is measured like a trained run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evaluate
from tests.cli.test_end_to_end import refusal
from tests.programs import write_config

SCOUT = "tests.user_agents:Scout"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    env = {"horizon": 30, "preset": "maml_2017"}
    return write_config(
        tmp_path, env=env, evaluation={"episodes": 8, "adaptation_steps": 2}, name="nav"
    )


def measured(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return content


@pytest.mark.usefixtures("without_plots")
def test_an_agent_is_measured_by_the_same_protocol(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(config), "--agent", SCOUT]
    assert evaluate.main(words) == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name == "tests.user_agents.Scout_on_nav"
    content = measured(folder / "evaluation" / "held_out")
    assert (content["algorithm"], content["env"]) == (SCOUT, "point_navigation")
    assert (content["seeds"], content["checkpoint"]) == ([], None)
    assert content["episodes_used"] == [0, 8, 16]
    assert content["step_sizes"] == []
    assert len(content["tasks"]) == 40
    assert "optimum" in content["references"]
    before, first, second = content["mean"]
    assert before < first < second
    assert content["adaptation_helps"]["ci95"][0] > 0
    # It does not look at its mode: what it adapts on is the same, so are the returns.
    assert content["other_mode"]["returns"] == content["returns"]
    page = (folder / "evaluation" / "held_out" / "report.md").read_text()
    assert f"metarl evaluate --config {config} --agent {SCOUT} --split held_out" in page
    assert "no training seed" in page
    assert "Adaptation helps" in capsys.readouterr().out

    again = (folder / "evaluation" / "held_out" / "evaluation.json").read_bytes()
    assert evaluate.main([*words, "--output", "again"]) == 0
    assert Path("again/evaluation.json").read_bytes() == again
    assert evaluate.main([*words, "--seed", "1", "--output", "other"]) == 0
    assert Path("other/evaluation.json").read_bytes() != again


@pytest.mark.usefixtures("without_plots")
def test_lists_are_actions_too(config: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("Scout", "Lister"):
        folders.append(tmp_path / name)
        words = ["--config", str(config), "--agent", f"tests.user_agents:{name}"]
        assert evaluate.main([*words, "--output", str(folders[-1]), "--mode", "stochastic"]) == 0
    assert measured(folders[0])["returns"] == measured(folders[1])["returns"]


@pytest.mark.usefixtures("without_plots")
def test_an_agent_that_is_told_the_task_is_marked(config: Path, tmp_path: Path) -> None:
    words = ["--config", str(config), "--agent", "tests.user_agents:Told"]
    assert evaluate.main([*words, "--output", str(tmp_path / "out")]) == 0
    content = measured(tmp_path / "out")
    assert content["algorithm"] == "tests.user_agents:Told (told the task)"
    assert content["mean"][0] > content["references"]["optimum"]["mean"] - 0.5


LINE = "tests/user_agents.py, line "
MISTAKES: list[tuple[str, list[str]]] = [
    ("no.such.module:Agent", ["no.such.module:Agent", "cannot be imported"]),
    ("tests.user_agents:Scuot", ["Scuot", "Scout"]),
    ("Scout", ["package.module:Class"]),
    ("tests.user_agents:Raising", ["Raising", "act()", "ValueError", "user_agents.py, line"]),
    ("tests.user_agents:Flat", ["shape [40, 8]", "[40, 8, 2]"]),
    ("tests.user_agents:Wordy", ["act()", "numbers"]),
    ("tests.user_agents:Forgetful", ["act()", "shape []"]),
    ("tests.user_agents:Deaf", ["the method observe, the method adapt, the attribute mode"]),
    ("tests.user_agents:Heir", ["the method begin, the method act"]),
    ("tests.user_agents:Needy", ["Needy(observation_space, action_space, seed)"]),
    ("tests.user_agents:Odd", ["epoch", "gradient_step", "episode"]),
    ("tests.user_agents:Stiff", ["failed in mode"]),
    ("tests.user_agents:Graded", [".act (", LINE, "Tensor of shape [40, 8, 2] that needs a grad"]),
    ("tests.user_agents:Uneven", ["Uneven.act (", LINE, "a list of 2: it must be an array of num"]),
    ("tests.user_agents:Quitting", ["adapt(): it called sys.exit('enough') (", LINE]),
    ("tests.user_agents:QuittingEarly", ["seed): it called sys.exit(1) (", LINE]),
    ("tests.user_agents:Hasty", ["'rewards', in Hasty.adapt (", LINE]),
    ("tests.user_agents:Unsized", ["step_sizes None: it must be a list of numbers, [] where"]),
    ("tests.user_agents:Sized", ["step_sizes ['small']: it must be a list of numbers"]),
    ("tests.user_agents:Greedy", ["has the mode 'greedy' after 'stochastic' was set"]),
    ("tests.user_agents:Secretive", ["the privileged 'no': it must be True or False"]),
    ("tests.user_agents:Shy", ["failed in adaptation_axis: RuntimeError: not built yet (", LINE]),
    ("tests.user_agents:Flat", ["Flat.act (", LINE]),
]


@pytest.mark.parametrize(("agent", "parts"), MISTAKES, ids=lambda x: str(x)[-12:])
def test_what_is_wrong_with_an_agent_is_said(
    agent: str,
    parts: list[str],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal(evaluate.main, ["--config", config, "--agent", agent], capsys)
    for part in parts:
        assert part in said
    assert not Path("runs").exists()


def test_actions_that_are_no_numbers_are_a_failure_with_the_task(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(config), "--agent", "tests.user_agents:Wild"]
    assert evaluate.main(words) == 1
    said = capsys.readouterr().err
    assert "goal_x" in said
    assert "action" in said


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--agent", SCOUT], "--config"),
        (["--config", "x.yaml"], "--agent"),
        (["--config", "x.yaml", "--agent", SCOUT], "x.yaml"),
        (["--config", "x.yaml", "--agent", SCOUT, "--run", "runs/x"], "not both"),
        (["--config", "x.yaml", "--agent", SCOUT, "--checkpoint", "3"], "--checkpoint"),
        (["--config", "x.yaml", "--agent", SCOUT, "--video", "--agnt", "y"], "agent"),
        (["--video=yes"], "switch"),
        ([], "--run"),
    ],
)
def test_mistakes_in_the_command_line(
    words: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refusal(evaluate.main, list(words), capsys)


def test_the_help_names_the_switch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    shown = capsys.readouterr().out
    assert "  --video   " in shown
    assert "--video true" not in shown
    assert "--agent" in shown
