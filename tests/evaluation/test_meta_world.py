"""Agents of ours under Meta-World's own evaluator; skipped where `metaworld` is not installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.algorithms.maml import MAML
from metarl.algorithms.rl2 import RL2
from metarl.cli.main import main
from metarl.evaluation.meta_world import Judgement, metalearning_evaluation
from metarl.random import Key

pytest.importorskip("metaworld", reason="an optional part")

from metarl.envs.meta_world import MetaWorld

SHORT = [
    *("--env.horizon", "10", "--iterations", "2", "--algorithm.epochs", "1"),
    *("--validation.enabled", "false", "--tracking.wandb", "disabled"),
]


class Witnessing:
    """Plays a scripted policy that needs no goal, and keeps what it is told."""

    privileged = False
    step_sizes = ()
    mode = "stochastic"

    def __init__(self, axis: str) -> None:
        from metaworld.policies import SawyerDrawerCloseV3Policy

        self.adaptation_axis = axis
        self._policy = SawyerDrawerCloseV3Policy()
        self.begun: list[tuple[int, int]] = []
        self.acts: list[tuple[str, list[bool]]] = []
        self.rewards: list[np.ndarray] = []
        self.ends: list[tuple[bool, bool]] = []
        self.adapted: list[int] = []  # after so many acts

    def begin(self, num_tasks: int, lanes: int, tasks: Any = None) -> None:
        assert tasks is None
        self.begun.append((num_tasks, lanes))

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        assert (observation[..., -3:] == 0.0).all(), "the goal is hidden"
        assert active.sum() == 1
        self.acts.append((self.mode, active[0].tolist()))
        action = self._policy.get_action(observation[0, 0].copy())
        return np.broadcast_to(action, (*active.shape, 4)).copy()

    def observe(self, action: Any, reward: Any, terminated: Any, truncated: Any, seen: Any) -> None:
        self.rewards.append(reward[0])
        self.ends.append((bool(terminated.any()), bool(truncated.any())))

    def adapt(self) -> None:
        self.adapted.append(len(self.acts))


def judge(agent: Any, **options: Any) -> Judgement:
    options = {
        "goals": 2,
        "adaptation_episodes": 2,
        "evaluation_episodes": 2,
        "horizon": 90,
    } | options
    return metalearning_evaluation(lambda lane: agent, "drawer-close-v3", **options)


@pytest.mark.filterwarnings("ignore:Constant")  # the package's policy says so of itself
@pytest.mark.parametrize("axis", ["episode", "gradient_step"])
def test_their_protocol_reaches_the_agent(axis: str) -> None:
    agent = Witnessing(axis)
    judged = judge(agent)
    assert judged.success == 1.0
    assert judged.success_by_class == {"drawer-close-v3": 1.0}
    remembers = axis == "episode"
    width = 1 if remembers else 2
    assert agent.begun == [(1, width)] * 2
    modes = [mode for mode, _ in agent.acts]
    # Two episodes of 90 steps to adapt to, then two that end with their success, for both goals.
    counted = modes.index("stochastic", 180) - 180
    for start in (0, 180 + counted):
        assert modes[start : start + 180] == ["stochastic"] * 180
        lanes = [active.index(True) for _, active in agent.acts[start : start + 180]]
        assert lanes == [0] * 90 + [0 if remembers else 1] * 90
        assert agent.ends[start + 89] == agent.ends[start + 179] == (False, True)
    assert modes[180 : 180 + counted] == ["deterministic"] * counted
    ended = [i for i, (terminated, _) in enumerate(agent.ends) if terminated]
    assert len(ended) == 4
    assert ended[1] + 1 == 180 + counted
    own = [90, 180] if remembers else [180]
    assert agent.adapted[: len(own)] == own
    # Rewards are told where it counts, too, which their evaluator does not do itself.
    assert min(float(agent.rewards[i].max()) for i in range(180, 180 + counted)) > 0.0
    assert np.mean([agent.rewards[i].max() for i in ended]) > 5.0


@pytest.mark.parametrize(
    ("kind", "benchmark"),
    [
        (RL2, "reach-v3"),
        (MAML, "reach-v3"),
        # Their benchmark takes seconds to draw all its goals.
        pytest.param(RL2, "ML10", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_our_agents_are_judged(kind: Any, benchmark: str) -> None:
    small = {"width": 8} if kind is RL2 else {"hidden_sizes": (8,)}
    spaces = MetaWorld.observation_space, MetaWorld.action_space
    algorithm = kind(kind.config_class(**small), *spaces, seed=0)
    agents = []

    def agent_of(lane: int) -> Any:
        agents.append(algorithm.agent("stochastic", Key(lane)))
        return agents[-1]

    judged = metalearning_evaluation(
        agent_of,
        benchmark,
        goals=1,
        adaptation_episodes=2,
        evaluation_episodes=1,
        horizon=6,
    )
    assert len(agents) == len(judged.success_by_class) == (5 if benchmark == "ML10" else 1)
    assert 0.0 <= judged.success <= 1.0
    assert 0.0 < judged.mean_return < 60.0
    if kind is MAML:
        assert all(agent.adaptation_step == 1 for agent in agents)
    else:
        assert all(agent.episode >= 3 for agent in agents)


@pytest.mark.slow  # two minutes: all classes are built
@pytest.mark.parametrize(
    "name", ["rl2_metaworld_reach", "rl2_metaworld_ml10", "rl2_metaworld_ml45"]
)
def test_the_configs_train_evaluate_and_report(name: str, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert main(["train", name, "--run-dir", run, *SHORT]) == 0
    assert main(["evaluate", run, "--video", "--output", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert len(result["tasks"]) == 50
    assert np.shape(result["success"]) == (4, 50)
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    assert list((tmp_path / "out").glob("*.mp4"))
