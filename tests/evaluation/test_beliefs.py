"""What an agent believes as a trial goes on: recorded as it was told, and drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from metarl.evaluation.beliefs import Beliefs, held_by
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.report import belief_plots
from tests.evaluation.fakes import CountingAgent, StairEnv, navigation_evaluation
from tests.evaluation.test_plots import pixels, share_of, velocities


class Told(NamedTuple):
    points: np.ndarray
    probabilities: np.ndarray | None


class Believer(CountingAgent):
    """With a memory: it is the surer of its first point, the more often it has acted."""

    acted, tells = 0, True

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.acted += 1
        return super().act(observation, active)

    def belief(self, which: Any) -> Told:
        sure = np.full((3, 2), self.acted / 100)[which]
        probabilities = np.stack([sure, 1 - sure], axis=-1)
        return Told(np.array([[1.0, 2.0], [3.0, 4.0]]), probabilities if self.tells else None)


def believed(agent: Any) -> Evaluation:
    plan = EvaluationPlan("held_out", 2, 1, seed=3)
    env: Any = StairEnv(6)
    return evaluate(agent, env, env.task_distribution.held_out(), plan)


def test_beliefs_are_those_that_were_acted_on_and_end_with_the_episode() -> None:
    beliefs = believed(Believer("episode")).beliefs
    assert beliefs is not None
    assert sorted(beliefs.tasks.tolist()) == [0, 1, 2]
    assert beliefs.points.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert beliefs.probabilities.shape == (2, 3, 4, 2)
    by_task = beliefs.lengths[:, beliefs.tasks.argsort()]
    assert by_task.tolist() == [[2, 3, 4]] * 2  # steps of the tasks' episodes
    longest = int(beliefs.tasks.argmax())
    first, second = beliefs.probabilities[:, longest, :, 0]
    np.testing.assert_allclose(first, [0.01, 0.02, 0.03, 0.04])
    np.testing.assert_allclose(second, [0.05, 0.06, 0.07, 0.08])


def test_who_tells_nothing_has_none() -> None:
    silent = Believer("episode")
    silent.tells = False
    assert believed(silent).beliefs is None
    assert believed(CountingAgent()).beliefs is None


def test_few_cells_hold_what_is_sure() -> None:
    cells = np.array([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.45, 0.05, 0.0]])
    assert held_by(cells, 0.95).tolist() == [4, 1, 2]


def narrowing(points: np.ndarray, lengths: tuple[int, ...]) -> Beliefs:
    """Uniform at first, and after each step the surer of the first cell."""
    cells = len(points)
    sure = np.linspace(1 / cells, 0.9, 10)[:, None]
    one = np.concatenate([sure, np.repeat((1 - sure) / (cells - 1), cells - 1, axis=1)], axis=1)
    rows = np.tile(one.astype(np.float32), (len(lengths), 2, 1, 1))
    for k, length in enumerate(lengths):
        rows[k, :, length:] = np.nan
    return Beliefs(np.array([0, 1]), points, rows)


@pytest.mark.usefixtures("drawn_pictures")
def test_a_number_is_drawn_over_time_and_a_place_as_maps() -> None:
    line = narrowing(np.linspace(0.0, 3.0, 30)[:, None], (10, 6))
    over_time = belief_plots.plot_beliefs(replace(velocities(), beliefs=line))
    assert share_of(pixels(over_time), "#08306B") > 0 or pixels(over_time).min() < 80
    axis = np.linspace(-0.5, 0.5, 4)
    square = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    places = narrowing(square, (10, 6))
    maps = belief_plots.plot_beliefs(replace(navigation_evaluation(5), beliefs=places))
    assert pixels(maps).shape[1] > pixels(maps).shape[0]


def test_the_maps_are_spread_over_the_first_episode() -> None:
    assert belief_plots.moments([15, 15]) == [*((0, t) for t in (0, 4, 7, 10, 14)), (1, 0)]
    assert belief_plots.moments([3]) == [(0, 0), (0, 1), (0, 2)]


def test_no_beliefs_no_picture() -> None:
    draw: Any = belief_plots.plot_beliefs
    with pytest.raises(ValueError, match="tells no beliefs"):
        draw.__wrapped__(velocities())
