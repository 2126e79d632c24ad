"""Whole runs of MetaGenRL in several environments: exact after kills, evaluated, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import metarl
import train
from metarl.errors import UserError
from tests.programs import ROOT, Forks, Whole, assert_same_state, lines, write_config
from tests.training.test_training import kill_ten_times

RUN: dict[str, Any] = {
    "algorithm": Whole(
        {
            "name": "metagenrl",
            "population": 3,
            "random_steps": 6,
            "anneal_steps": 20,
            "lifetime": 15,
            "hidden_sizes": [8],
            "sequence": 3,
            "batch": 4,
            "capacity": 24,
            "objective_width": 4,
        }
    ),
    "further_envs": {"cheetah": {"name": "half_cheetah_dir", "horizon": 5}},
}


def words(folder: Path, run: Path, **changes: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    return ["--config", str(write_config(folder, **(RUN | changes))), "--run-dir", str(run)]


@pytest.mark.slow
def test_the_config_is_sound(tmp_path: Path) -> None:
    """It loads, and an iteration in all its environments runs."""
    path = ROOT / "configs/metagenrl_half_cheetah_pendulum.yaml"
    small = ["--iterations", "1", "--env.horizon", "5", "--further_envs.pendulum.horizon", "3"]
    small += ["--further_envs.double_pendulum.horizon", "4", "--tracking.wandb", "disabled"]
    small += ["--validation.enabled", "false", "--rollout.workers", "1"]
    run = tmp_path / "run"
    assert train.main(["--config", str(path), "--run-dir", str(run), *small]) == 0
    assert lines(run)[-1]["env_steps"] == 2 * (5 + 4 + 3)


@pytest.mark.slow
def test_ten_kills_leave_no_trace(
    forks: Forks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rings go round several times between them, and two checkpoints are kept."""
    few = {"interval": 3, "keep": 2}
    kill_ten_times(forks, tmp_path, 30, **RUN, checkpoint=few)
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


def test_a_run_in_parts_is_the_run_in_one_and_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    validation = {"enabled": True, "interval": 4, "episodes": 1, "adaptation_steps": 1}
    common = {"validation": validation}
    assert train.main(words(tmp_path, straight, iterations=4, **common)) == 0
    said = capsys.readouterr().out
    assert "Training metagenrl on point_navigation, half_cheetah_dir in" in said
    assert "The replay buffers take up to" in said
    for iterations in (2, 4):
        resume = ["--resume"] if iterations > 2 else []
        assert train.main([*words(tmp_path, parts, iterations=iterations, **common), *resume]) == 0
    assert_same_state(straight, parts)
    assert {"return/env", "return/cheetah", "objective/gain"} <= lines(straight)[-1].keys()
    result = metarl.evaluate(straight, split="validation", episodes=2, adaptation_steps=1)
    assert (result.x, result.headline.action_mode) == ("env_steps", "deterministic")
    assert result.episodes_used == [0, 2]
    assert result.headline.env_steps_used[1] > 0.0

    other = tmp_path / "other.yaml"
    other.write_text("""\
env: {name: half_cheetah_vel, horizon: 4}
algorithm: {name: metagenrl, hidden_sizes: [6, 6], random_steps: 2, sequence: 2, batch: 3}
evaluation: {episodes: 1, adaptation_steps: 1, split: validation}
""")
    found = metarl.evaluate(straight, config=other, mode="stochastic")
    assert (found.env, found.checkpoint, found.algorithm) == ("half_cheetah_vel", 4, "metagenrl")
    assert found.headline.env_steps_used == [0.0, 4.0]
    assert found.missing_references["td3"].startswith(f"metarl references {other} --kind td3 ")
    for env, algorithm, why in (
        ("point_navigation", "maml", "so its algorithm must be metagenrl"),
        ("bandit", "metagenrl", "metagenrl on bandit: its actions are numbers"),
    ):
        other.write_text(f"env: {{name: {env}}}\nalgorithm: {{name: {algorithm}}}\n")
        with pytest.raises(UserError, match=why):
            metarl.evaluate(straight, config=other)
