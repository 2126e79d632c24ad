"""Learning from pictures: far above what anybody can earn who does not see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metarl.algorithms.maml import MAML
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from tests.image_grid import MOVES, PIXELS, SIDE, ImageGrid

BLIND = 2.25  # the most that an episode brings without sight
EPISODES = 50  # of an evaluation, a task


def returns_of(algorithm: Any, worker: RolloutWorker, iterations: int, mode: Any) -> np.ndarray:
    """Train; mean returns before and after an adaptation step, of all tasks."""
    for iteration in range(1, iterations + 1):
        algorithm.update(algorithm.collect(worker, Key(1, iteration)))
    env = worker.env(4 * EPISODES)
    plan = EvaluationPlan(split="held_out", episodes=EPISODES, adaptation_steps=1, modes=(mode,))
    agent = algorithm.agent(mode, Key(1, evaluation=True))
    tasks = env.task_distribution.held_out()
    result: np.ndarray = evaluate(agent, env, tasks, plan).task_returns.mean(1)
    return result


def test_the_picture_shows_where_one_is_and_not_the_goal() -> None:
    env = ImageGrid(4)
    pictures, _ = env.reset(seed=3)
    assert pictures.shape == (4, 16, 16, 3)
    red = (pictures == (255, 0, 0)).all(-1)
    assert red.sum((1, 2)).tolist() == [PIXELS**2] * 4
    before = env._at.copy()
    after, *_ = env.step(np.array([1, 2, 3, 4]))
    assert (env._at == (before + MOVES[1:]) % SIDE).all()
    for lane, (row, column) in enumerate(PIXELS * env._at):
        assert (after[lane, row : row + PIXELS, column : column + PIXELS] == (255, 0, 0)).all()
    env.set_tasks(env.tasks[::-1])
    np.testing.assert_array_equal(env.reset(seed=3)[0], pictures)


@pytest.mark.slow
def test_rl2_sees_where_it_is_and_remembers_where_it_was_paid() -> None:
    """Seeds 1 to 3 earned 5.0, 5.0, 4.6 in the first episode and 5.8, 6.2, 6.6 in the second."""
    worker = RolloutWorker(ImageGrid)
    settings = RL2Settings(
        tasks=64,
        lanes=2,
        width=64,
        observation_embedding=32,
        discount=0.95,
        gae_lambda=0.9,
        lr=0.003,
        epochs=4,
        entropy_weight=0.01,
        target_kl=None,
    )
    rl2 = RL2(settings, *worker.spaces, seed=1)
    first, second = returns_of(rl2, worker, 150, "deterministic")
    assert first > BLIND + 1.0
    assert second > 5.0  # of 6.94


@pytest.mark.slow
def test_maml_adapts_from_pictures() -> None:
    """Not where the baseline is fitted to pixels: noise makes each picture another, and it
    interpolates the returns."""
    worker = RolloutWorker(ImageGrid)
    settings = MAMLSettings(
        tasks=8,
        inner_lr=(1.0,),
        hidden_sizes=(32,),
        discount=0.95,
        outer={"name": "trpo", "max_kl": 0.02},
    )
    maml = MAML(settings, *worker.spaces, seed=1)
    first, second = returns_of(maml, worker, 20, "stochastic")
    assert first < BLIND
    assert second > BLIND + 1.0
