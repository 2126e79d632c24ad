"""The trials of the last iterations: which are kept, and what is drawn of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.experience.recent_trials import RecentTrials
from metarl.storage.tensors import read_plain, write_plain
from metarl.types import Trial


def trial(first: int, lanes: int, steps: int, episodes: int = 2) -> Trial:
    """Of one task; lane l earns first + l at every step, and its observations say so too."""
    number = torch.arange(first, first + lanes).float().view(1, -1, 1)
    valid = torch.ones(1, lanes, steps, dtype=torch.bool)
    start = torch.zeros_like(valid)
    start[..., 0] = start[..., steps // 2] = True
    return Trial(
        observations=number.unsqueeze(-1).expand(-1, -1, steps, 3),
        actions=torch.zeros(1, lanes, steps, dtype=torch.int64),
        log_probs=torch.zeros(1, lanes, steps),
        rewards=number.expand(-1, -1, steps),
        terminated=torch.zeros_like(valid),
        truncated=start.roll(-1, 2),
        valid=valid,
        episode_start=start,
        values=torch.zeros(1, lanes, steps),
        final_observations=-number.unsqueeze(-1).expand(-1, -1, episodes, 3),
    )


def numbers(recent: RecentTrials) -> list[float]:
    everything, tasks = recent.sample(np.random.default_rng(0), 1000)
    assert torch.equal(everything.rewards[:, 0, 0].double(), tasks[:, 0])
    return everything.rewards[:, 0, 0].tolist()


def add(recent: RecentTrials, first: int, lanes: int, steps: int = 4) -> None:
    """Trials of as many tasks, each with the number that its lane has."""
    one = trial(first, lanes, steps)
    swapped = {n: x.transpose(0, 1) for n, x in vars(one).items() if isinstance(x, torch.Tensor)}
    recent.add(Trial(**vars(one) | swapped), np.arange(first, first + lanes)[:, None].astype(float))


def test_the_newest_are_kept() -> None:
    recent = RecentTrials(5)
    add(recent, 0, 3)
    assert numbers(recent) == [0, 1, 2]
    add(recent, 3, 3)
    assert numbers(recent) == [1, 2, 3, 4, 5]
    add(recent, 6, 7)
    assert numbers(recent) == [8, 9, 10, 11, 12]


def test_trials_of_several_lengths_stand_side_by_side() -> None:
    recent = RecentTrials(10)
    add(recent, 0, 2, steps=4)
    add(recent, 2, 2, steps=6)
    everything, _ = recent.sample(np.random.default_rng(0), 10)
    assert everything.valid.sum(-1).flatten().tolist() == [4, 4, 6, 6]
    assert everything.rewards.shape == (4, 1, 6)
    assert not everything.rewards[:2, :, 4:].any()
    following = everything.next_observations()
    assert torch.equal(following[2, 0, 2], torch.full((3,), -2.0))  # of an episode's end


def test_any_trial_may_be_drawn_once() -> None:
    recent, rng = RecentTrials(10), np.random.default_rng(1)
    add(recent, 0, 2)
    add(recent, 2, 3)
    drawn = [tuple(recent.sample(rng, 2)[0].rewards[:, 0, 0].tolist()) for _ in range(2000)]
    assert all(a < b for a, b in drawn)
    counts = [drawn.count(pair) / 2000 for pair in set(drawn)]
    assert len(counts) == 10
    assert max(abs(share - 0.1) for share in counts) < 0.03


def test_they_are_saved_and_taken_back() -> None:
    recent, again = RecentTrials(4), RecentTrials(4)
    add(recent, 0, 3)
    add(recent, 3, 2)
    again.load_state_dict(read_plain(write_plain({"x": recent.state_dict()}), "state")["x"])
    assert numbers(again) == numbers(recent) == [1, 2, 3, 4]
    state = again.state_dict()
    state[0] = {name: x[:1] if name == "tasks" else x for name, x in state[0].items()}
    state[1] = dict(state[1])
    with pytest.raises(ValueError, match="parts of several lengths"):
        again.load_state_dict([state[1], {**state[1], "tasks": state[1]["tasks"][:1]}])
    with pytest.raises(ValueError, match="the recent trials hold"):
        again.load_state_dict([{"rewards": torch.zeros(1)}])


def test_what_a_step_costs_is_what_it_takes() -> None:
    recent = RecentTrials(10)
    add(recent, 0, 2, steps=50)
    block = recent.state_dict()[0]
    per_step = {"final_observations", "tasks"}
    size = sum(x.numel() * x.element_size() for n, x in block.items() if n not in per_step)
    assert size == 2 * 50 * RecentTrials.step_bytes(3, 8)
