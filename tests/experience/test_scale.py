"""Observations of any scale: their statistics, what agents are shown of them, and the warning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.rounds import Round
from metarl.experience.inputs import as_shown
from metarl.experience.rollout import RolloutWorker, _Tally
from metarl.experience.scale import first_look, warn_of_scale
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import Decision, Inputs, Trial
from tests.experience.test_rollout import LANES, TASKS, Scripted, Stairs
from tests.toy_envs import Line

OFFSET = 1e6


class Normalizing(Scripted):
    """Scripted, with statistics."""

    def __init__(self, moments: RunningMoments) -> None:
        self.moments = moments  # type: ignore[assignment]


class FarStairs(Stairs):
    offset = OFFSET

    def _observe(self) -> Any:
        return super()._observe() + self.offset


def plain_rows() -> torch.Tensor:
    trial = RolloutWorker(Stairs).collect(Scripted(), TASKS, LANES, Key(1), episodes=2)
    assert trial.observed is None
    assert not trial.valid.all()
    return trial.observations[trial.valid].double()


def test_moments_are_numpys_of_the_valid_steps_far_from_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float64, and of what the environment gave: float32 knows nothing of 1 beside 1e8."""
    monkeypatch.setattr(FarStairs, "offset", 1e8)
    actor = Normalizing(RunningMoments.empty(2))
    trial = RolloutWorker(FarStairs).collect(actor, TASKS, LANES, Key(1), episodes=2)
    rows = plain_rows().numpy()
    assert trial.observed is not None
    assert trial.observed.count == len(rows) == trial.env_steps
    np.testing.assert_allclose(trial.observed.mean - 1e8, rows.mean(0), atol=1e-6)
    std = (trial.observed.squares / trial.observed.count).sqrt()
    np.testing.assert_allclose(std, rows.std(0), rtol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(12, 5, 3, dtype=torch.float64) + OFFSET
    valid = np.random.default_rng(0).random((12, 5)) < 0.7
    monkeypatch.setattr(_Tally, "_BLOCK", 30)
    tally = _Tally()
    for step, of_step in zip(rows, valid, strict=True):
        tally.add(step, of_step)
    whole = RunningMoments.of(rows[torch.from_numpy(valid)])
    assert tally.moments().count == whole.count == valid.sum()
    torch.testing.assert_close(tally.moments().mean, whole.mean, rtol=1e-15, atol=0)
    torch.testing.assert_close(tally.moments().squares, whole.squares, rtol=1e-6, atol=0)


def test_rollout_and_agent_show_the_signal_beside_the_offset() -> None:
    rows = plain_rows()
    moments = RunningMoments.of(rows + OFFSET)
    trial = RolloutWorker(FarStairs).collect(Normalizing(moments), TASKS, LANES, Key(1), 2)
    expected = ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()
    shown = trial.observations[trial.valid]
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-6)
    acting = Round((1, len(rows)), Key(1), moments)
    observation = (rows + OFFSET).numpy()[None]
    seen, _ = acting.shown(observation, np.ones((1, len(rows)), dtype=bool))
    torch.testing.assert_close(seen[0], shown, rtol=0, atol=1e-6)


def test_what_is_not_normalised_is_merely_cast() -> None:
    x = torch.tensor([[-30.0, 1 / 3]], dtype=torch.float64)
    assert torch.equal(as_shown(x, None), x.float())


def test_the_first_look_is_taken_blindfolded() -> None:
    shown: list[Inputs] = []

    class Witness(Normalizing):
        def act(self, inputs: Inputs, noise: torch.Tensor, carry: None) -> Decision:
            shown.append(inputs)
            return super().act(inputs, noise, carry)

    worker, actor = RolloutWorker(FarStairs), Witness(RunningMoments.empty(2))
    look = first_look(worker, actor, TASKS, LANES, Key(1))
    assert look.observed is not None
    assert float(look.observed.mean.min()) > OFFSET - 1
    assert not any(x.observations.any() or x.previous_rewards.any() for x in shown)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused_before_the_clip_hides_it(bad: float) -> None:
    class Broken(Line):
        def _observe(self) -> Any:
            return np.where(self._x[:, 1:] == 2.0, bad, self._x)

    class Mute(Normalizing):
        def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            return rng.standard_normal((*shape, 1), dtype=np.float32)

    actor = Mute(RunningMoments.empty(2))
    with pytest.raises(FloatingPointError, match="observations of the rollout are not finite"):
        RolloutWorker(Broken).collect(actor, np.array([[0.5]]), LANES, Key(1))


def seen_as(rows: torch.Tensor) -> Trial:
    trial = RolloutWorker(Stairs).collect(Scripted(), TASKS[:1], LANES, Key(1))
    shape = (*trial.valid.shape, rows.shape[-1])
    return replace(trial, observations=rows.expand(shape))


def test_the_warning_names_the_column_and_its_magnitude(capsys: Any) -> None:
    warn_of_scale(seen_as(torch.tensor([3.0, -2e5, 11.0, -9.0])), "normalize_observations")
    said = capsys.readouterr().err
    assert "observation column 1 has mean -2e+05 and standard deviation" in said
    assert "1 more are beyond 10" in said
    assert "Set algorithm.normalize_observations to true" in said
    warn_of_scale(seen_as(torch.tensor([3.0, 9.9])), "normalize_observations")
    assert capsys.readouterr().err == ""
