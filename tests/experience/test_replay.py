"""Replay: rings of rows, sampled by a key; transitions and whole trials as they were played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.experience.replay import (
    Replay,
    as_trial,
    transition_fields,
    transitions,
    trial_fields,
    trial_rows,
)
from metarl.random import Key
from metarl.types import Trial


def numbered(*numbers: int) -> dict[str, torch.Tensor]:
    x = torch.tensor(numbers, dtype=torch.float32)
    return {"x": x.unsqueeze(1).expand(-1, 2), "r": x}


def held(replay: Replay, buffer: int) -> set[int]:
    drawn = replay.sample(np.array([buffer]), 300, np.random.default_rng(0))
    assert torch.equal(drawn["x"][..., 0], drawn["r"])
    return set(drawn["r"].flatten().int().tolist())


def test_the_newest_rows_overwrite_the_oldest_of_their_own_buffer() -> None:
    replay = Replay({"x": (2,), "r": ()}, buffers=2, capacity=4)
    replay.add(0, numbered(0, 1, 2))
    replay.add(1, numbered(10))
    assert held(replay, 0) == {0, 1, 2}
    replay.add(0, numbered(3, 4, 5))
    assert held(replay, 0) == {2, 3, 4, 5}
    replay.add(1, numbered(*range(20, 31)))  # more than it can hold
    assert held(replay, 1) == {27, 28, 29, 30}
    assert replay.sizes.tolist() == [4, 4]
    assert replay.nbytes == 2 * 4 * 3 * 4


def test_sampling_is_uniform_by_buffer_and_named_by_its_key() -> None:
    replay = Replay({"r": ()}, buffers=3, capacity=10)
    for n in range(3):
        replay.add(n, {"r": 10.0 * n + torch.arange(4 + n)})
    rng = Key(3, 7).generator("minibatch")
    drawn = replay.sample(np.array([2, 0]), 6000, rng)["r"]
    assert drawn.shape == (2, 6000)
    for row, begin, size in ((drawn[0], 20, 6), (drawn[1], 0, 4)):
        counts = torch.bincount(row.long() - begin, minlength=size).double()
        # χ² with size − 1 degrees of freedom: beyond 30 once in 10⁴ draws at most.
        assert counts.shape == (size,)
        assert ((counts - 6000 / size) ** 2 / (6000 / size)).sum() < 30
    again = replay.sample(np.array([2, 0]), 6000, Key(3, 7).generator("minibatch"))["r"]
    assert torch.equal(drawn, again)
    other = replay.sample(np.array([2, 0]), 6000, Key(3, 8).generator("minibatch"))["r"]
    assert not torch.equal(drawn, other)


def test_an_empty_buffer_has_nothing_to_sample() -> None:
    replay = Replay({"r": ()}, buffers=2, capacity=10)
    assert replay.unsaved() == []
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(np.array([0]), 1, np.random.default_rng(0))
    replay.add(0, {"r": torch.ones(1)})
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(np.array([0, 1]), 1, np.random.default_rng(0))


def two_episodes(discrete: bool = False) -> Trial:
    """One task, two lanes of two episodes: lane 0 terminates after 2 and is truncated after 3 more;
    lane 1 is truncated after 1 and terminates after 2 more. Observations count 10·lane + step."""
    valid = torch.tensor([[[True] * 5, [True] * 3 + [False] * 2]])
    flags: dict[str, Any] = {
        name: torch.zeros(1, 2, 5, dtype=torch.bool)
        for name in ("terminated", "truncated", "episode_start")
    }
    flags["terminated"][0, 0, 1] = flags["truncated"][0, 0, 4] = True
    flags["truncated"][0, 1, 0] = flags["terminated"][0, 1, 2] = True
    for lane, step in ((0, 0), (0, 2), (1, 0), (1, 1)):
        flags["episode_start"][0, lane, step] = True
    observed = torch.tensor([[[0.0, 1, 2, 3, 4], [10, 11, 12, 0, 0]]])
    actions = 0.5 * observed.unsqueeze(-1)
    return Trial(
        observations=observed.unsqueeze(-1),
        actions=actions[..., 0].long() if discrete else actions,
        log_probs=torch.zeros(1, 2, 5),
        rewards=-observed,
        valid=valid,
        values=None,
        final_observations=torch.tensor([[[102.0, 105.0], [111.0, 113.0]]]).unsqueeze(-1),
        **flags,
    )


def test_transitions_lead_to_what_followed_and_time_limits_do_not_terminate() -> None:
    (rows,) = transitions(two_episodes())
    replay = Replay(transition_fields(1, 1), 1, 20)
    replay.add(0, rows)
    assert rows["observations"].flatten().tolist() == [0, 1, 2, 3, 4, 10, 11, 12]
    assert rows["next_observations"].flatten().tolist() == [1, 102, 3, 4, 105, 111, 12, 113]
    assert rows["terminated"].int().tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert rows["episode"].tolist() == [0, 0, 1, 1, 1, 0, 1, 1]
    drawn = replay.sample(np.array([0]), 100, np.random.default_rng(0))
    follows = dict(
        zip(*(rows[f"{n}observations"].flatten().tolist() for n in ("", "next_")), strict=True)
    )
    assert {o.item() for o in drawn["observations"].flatten()} == set(follows)
    for o, a, r, o1 in zip(
        *(drawn[n].flatten().tolist() for n in list(replay.fields)[:4]), strict=True
    ):
        assert (a, r, o1) == (0.5 * o, -o, follows[o])


@pytest.mark.parametrize("discrete", [False, True])
def test_whole_trials_come_back_padded(discrete: bool) -> None:
    trial = two_episodes(discrete)
    shape = () if discrete else (1,)
    replay = Replay(trial_fields(7, 2, 1, shape), 1, 2)
    replay.add(0, trial_rows(trial, 0, 7))
    rows = replay.sample(np.array([0]), 12, np.random.default_rng(1))
    back = as_trial(rows, discrete=discrete)
    assert back.valid.shape == (1, 12, 7)
    lanes = [int(first > 5) for first in back.observations[0, :, 0, 0]]
    assert set(lanes) == {0, 1}
    for n, lane in enumerate(lanes):
        for name in ("observations", "actions", "rewards", "terminated", "truncated", "valid"):
            part, played = getattr(back, name)[0, n], getattr(trial, name)[0, lane]
            assert part.dtype == played.dtype
            assert torch.equal(part[:5], played)
            assert not part[5:].any()
    following = back.next_observations()[0][back.valid[0]]
    assert set(following.flatten().tolist()) == {1, 102, 3, 4, 105, 111, 12, 113}
