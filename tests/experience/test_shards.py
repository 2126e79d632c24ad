"""Shards: a meta-batch played in parts is, step by step, the meta-batch played at once."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from metarl.algorithms import algorithm_class
from metarl.errors import UserError
from metarl.experience.rollout import RolloutWorker
from metarl.experience.scale import first_look
from metarl.experience.shards import Shard, cut
from metarl.maths.params import stack
from metarl.maths.running_moments import RunningMoments
from metarl.networks.mlp import MLPPolicy, PolicyActor
from metarl.random import Key
from metarl.types import Trial
from tests.experience.test_rollout import Scripted, Stairs

LANES, EPISODES, KEY = 4, 3, Key(3, 7, 1)
TASKS = np.array([[2.0], [4.0], [1.0], [9.0], [3.0]])  # so that shards differ in length


class Witness(Scripted):
    """Plays its noise, whatever the shape of its batch; its observations are counted."""

    moments = RunningMoments.empty(2)

    def of_tasks(self, which: slice) -> Witness:
        return self


def collect(size: int | None, actor: Scripted | None = None) -> Trial:
    worker = RolloutWorker(Stairs, size)
    return worker.collect(actor or Witness(), TASKS, LANES, KEY, EPISODES)


@pytest.mark.parametrize(
    ("size", "shards"),
    [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])],
)
def test_a_meta_batch_is_cut_in_order(size: int | None, shards: list[int]) -> None:
    found = cut(5, size)
    assert [len(range(5)[shard]) for shard in found] == shards
    assert [i for shard in found for i in range(5)[shard]] == list(range(5))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shards_play_what_the_whole_plays(size: int) -> None:
    """An actor that adds no numbers up does the same in every batch: so do its episodes."""
    whole, parts = collect(None), collect(size)
    for field in fields(Trial):
        if field.name in ("observed", "values", "success"):
            continue
        one, other = getattr(whole, field.name), getattr(parts, field.name)
        assert one.shape == other.shape, field.name
        assert one.dtype == other.dtype, field.name
        if field.name != "final_observations":
            one, other = one[whole.valid], other[whole.valid]
        assert torch.equal(one, other), field.name
    assert torch.equal(whole.valid, parts.valid)
    ahead = whole.next_observations()[whole.valid]
    assert torch.equal(ahead, parts.next_observations()[whole.valid])
    lengths = whole.valid.sum(-1).amax(-1)
    assert len(lengths.unique()) > 2  # tails of several lengths were padded
    assert not parts.rewards[~parts.valid].any()
    assert not (parts.episode_start | parts.terminated | parts.truncated)[~parts.valid].any()


def test_success_is_joined_too() -> None:
    class Telling(Stairs):
        def _advance(self, actions: np.ndarray, live: np.ndarray | None) -> object:
            reward, terminated = super()._advance(actions, live)
            self.success = (self._tasks[:, 0] < 3.5).astype(np.float64)
            return reward, terminated

    whole, parts = (
        RolloutWorker(Telling, size).collect(Witness(), TASKS, LANES, Key(1), EPISODES)
        for size in (None, 2)
    )
    assert whole.success is not None
    assert parts.success is not None
    assert torch.equal(whole.success, parts.success)
    assert parts.success[:, 0, 0].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_moments_are_merged_in_the_order_of_the_tasks() -> None:
    whole, parts = collect(None).observed, collect(2).observed
    assert whole.count == parts.count
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.squares, whole.squares)
    alone = [RolloutWorker(Stairs).play(Witness(), shard).observed for shard in _shards(2)]
    merged = alone[0].join(alone[1]).join(alone[2])
    assert torch.equal(parts.mean, merged.mean)
    assert torch.equal(parts.squares, merged.squares)


def _shards(size: int) -> list[Shard]:
    return [Shard(TASKS[part], part.start, LANES, KEY, EPISODES) for part in cut(5, size)]


def test_each_task_keeps_its_own_policy() -> None:
    """Its stacked parameters, also of an actor that is shown nothing."""
    policy = MLPPolicy(2, 2, hidden_sizes=(5,))
    params = stack(policy.init(Key(0).generator("init")), 5)
    moved = {n: p + torch.arange(5.0).view(5, *(1,) * (p.ndim - 1)) for n, p in params.items()}
    actor = PolicyActor(policy, moved, RunningMoments.empty(2))
    whole, parts = collect(None, actor), collect(2, actor)  # type: ignore[arg-type]
    torch.testing.assert_close(whole.log_probs[whole.valid], parts.log_probs[whole.valid])
    looks = [
        first_look(RolloutWorker(Stairs, size), actor, TASKS, LANES, Key(1)) for size in (None, 2)
    ]
    valid = looks[0].valid
    torch.testing.assert_close(looks[0].actions[valid], looks[1].actions[valid])
    part = actor.of_tasks(slice(1, 3))
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in part.params.values())


def test_environments_are_of_the_shards_sizes_only() -> None:
    worker = RolloutWorker(Stairs, 2)
    worker.collect(Witness(), TASKS, LANES, Key(1))
    assert sorted(worker._envs) == [LANES, 2 * LANES]


def test_an_actor_that_cannot_be_divided_is_named() -> None:
    with pytest.raises(UserError, match=r"Scripted has no method of_tasks"):
        collect(2, Scripted())
    assert collect(None, Scripted()).valid.any()


@pytest.mark.parametrize("name", ["maml", "cavia", "maesn", "e_maml", "rl2"])
def test_every_algorithm_learns_from_shards(name: str) -> None:
    """One iteration from shards is, but for rounding, the one from the whole."""
    cls = algorithm_class(name)
    counts = {"lanes": LANES} if name == "rl2" else {"episodes": LANES, "hidden_sizes": (5,)}
    settings = cls.config_class(tasks=5, **counts)
    metrics = []
    for size in (None, 2):
        worker = RolloutWorker(Stairs, size)
        algorithm = cls(settings, *worker.spaces, seed=0)
        batch = algorithm.collect(worker, Key(0, 1))
        metrics.append({**batch.metrics, **algorithm.update(batch)})
    assert metrics[0].keys() == metrics[1].keys()
    for key in ("gradient_norm", *batch.metrics):
        assert metrics[1][key] == pytest.approx(metrics[0][key], rel=1e-3, abs=1e-4), key
