"""Whole trials to learn from off-policy: what follows on what, and where nothing does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.experience.inputs import as_played, shown_in, shown_through
from metarl.experience.whole_trials import TrialMemory, sequences
from tests.experience.test_replay import two_episodes


@pytest.mark.parametrize("discrete", [False, True])
def test_behind_its_last_step_a_trial_is_shown_where_it_led(discrete: bool) -> None:
    """At the ends between its episodes it is shown the next one's first observation."""
    trial = two_episodes(discrete)
    found, before = shown_through(trial), shown_in(trial)
    for longer, plain in zip(found, before, strict=True):
        assert longer.dtype == plain.dtype
        assert torch.equal(longer[0, 0, :5], plain[0, 0])
        assert torch.equal(longer[0, 1, :3], plain[0, 1, :3])
    assert found.observations[0, 0].flatten().tolist() == [0, 1, 2, 3, 4, 105]
    assert found.observations[0, 1, :4].flatten().tolist() == [10, 11, 12, 113]
    for lane, end in ((0, 5), (1, 3)):
        last = as_played(trial.actions)[0, lane, end - 1]
        assert torch.equal(found.previous_actions[0, lane, end], last)
        assert found.previous_rewards[0, lane, end] == trial.rewards[0, lane, end - 1]
        assert not found.episode_start[0, lane, end]
    with pytest.raises(ValueError, match="does not hold the final observations"):
        shown_through(replace(trial, final_observations=None))


def test_only_the_end_of_a_trial_is_an_end() -> None:
    """Lane 0 ends by a time limit, after an episode that terminated; lane 1 by the task's rule."""
    ends = [sequences(two_episodes(), bootstrap=b).ended.T.int().tolist() for b in (True, False)]
    assert ends[0] == [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert ends[1] == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]


def test_a_mean_knows_no_padding() -> None:
    data = sequences(two_episodes(), bootstrap=True)
    losses = torch.where(data.valid, 2.0, np.nan)
    losses[0, 0] = 10.0
    assert float(data.mean(losses)) == pytest.approx((7 * 2 + 10) / 8)


def test_trials_come_back_as_they_were_as_long_as_the_longest() -> None:
    memory = TrialMemory(1, (1,), steps=8, episodes=2, capacity=3)
    memory.add([two_episodes()])
    assert memory.replay.nbytes == 4 * 3 * (8 * (1 + 1 + 1 + 4) + 2)
    data = memory.sample(50, np.random.default_rng(0), bootstrap=True)
    assert data.rewards.shape == (5, 50)
    assert data.inputs.observations.shape == (6, 50, 1)
    whole = sequences(two_episodes(), bootstrap=True)
    lanes = data.inputs.observations[0, :, 0].div(10).long()  # which of the two it is
    assert set(lanes.tolist()) == {0, 1}
    for found, expected in zip((*data.inputs, *data[1:]), (*whole.inputs, *whole[1:]), strict=True):
        rows = expected[:, lanes]
        if len(rows) == 6:  # up to where each leads to
            keep = torch.nn.functional.pad(data.valid, (0, 0, 1, 0), value=True)
        else:
            keep = data.valid
        assert torch.equal(found[keep], rows[keep])


def test_moments_are_those_of_what_was_shown() -> None:
    memory = TrialMemory(1, (1,), steps=8, episodes=2, capacity=1)
    memory.add([two_episodes()])
    memory.add([two_episodes()])  # the ring holds one trial, the moments all that was
    observed = torch.tensor([0.0, 1, 2, 3, 4, 10, 11, 12])
    rewards = torch.tensor([0.0, 0, -1, -2, -3, 0, -10, -11])
    assert memory.moments.count == 16
    for column, values in enumerate((observed, rewards)):
        assert float(memory.moments.mean[column]) == pytest.approx(float(values.mean()))
        std = float(values.std(correction=0))
        assert float(memory.moments.std[column]) == pytest.approx(std)
