"""Rollouts: what a trajectory holds, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl import envs
from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.envs import TaskVectorEnv, UniformInterval
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import stack
from metarl.networks.mlp import PolicyActor
from metarl.random import Key
from metarl.types import Decision, Inputs
from tests.toy_envs import Arms, Line

LANES = 4
HORIZON = 6
TASKS = np.array([[2.0], [6.0], [9.0]])  # the last ones outlast the horizon


class Stairs(TaskVectorEnv):
    """Ends after as many steps as the task says, less one on the lanes whose seed draws so.

    The reward is the number of the step; the observation is that number and the lane's draw. With
    bad manners it clips the actions where they lie.
    """

    def __init__(self, num_envs: int, rude: bool = True) -> None:
        self._rude = rude
        tasks = UniformInterval(1.0, 6.0, "length", "steps")
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        super().__init__(num_envs, tasks, HORIZON, box, spaces.Box(-1.0, 1.0, (2,), np.float32))
        self.actions: list[np.ndarray] = []
        self.t = np.zeros(num_envs)
        self.draw = np.zeros(num_envs)

    def _reset_lanes(self, lanes: Any) -> None:
        self.t[lanes] = 0
        for lane in lanes:
            self.draw[lane] = self._generator(lane).uniform()

    def _advance(self, actions: Any, live: Any) -> Any:
        self.actions.append(actions.copy())
        if self._rude:
            actions[:] = np.clip(actions, -1, 1)
        self.t += 1 if live is None else live
        return self.t.copy(), self.t >= self._tasks[:, 0] - (self.draw < 0.5)

    def _observe(self) -> Any:
        return np.stack([self.t, self.draw], axis=1)


class Scripted:
    """An actor that plays its noise, three times as wide as the range of actions."""

    moments = None

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal((*shape, 2), dtype=np.float32)

    def act(self, inputs: Inputs, noise: torch.Tensor, carry: None) -> Decision:
        return Decision(3.0 * noise, inputs.observations.sum(-1), None, None)


def agent_of(env: TaskVectorEnv) -> MAML:
    config = MAMLSettings(tasks=3, episodes=LANES, hidden_sizes=(5,), adaptation_steps=1)
    return MAML(config, env.single_observation_space, env.single_action_space, seed=0)


def test_shapes_masks_and_rewards_of_early_ends() -> None:
    worker = RolloutWorker(Stairs)
    trajectory = worker.collect(Scripted(), TASKS, LANES, Key(1))
    draws = worker.env(3 * LANES).draw.reshape(3, LANES)  # type: ignore[attr-defined]
    wanted = torch.from_numpy(TASKS - (draws < 0.5)).long()  # [M, B]
    lengths = wanted.clamp(max=HORIZON)
    assert {1, 2, 5, 6} == set(lengths.flatten().tolist())
    longest = HORIZON

    assert trajectory.observations.shape == (3, LANES, longest, 2)
    assert trajectory.actions.shape == (3, LANES, longest, 2)
    for name in ("log_probs", "rewards", "terminated", "truncated", "valid"):
        assert getattr(trajectory, name).shape == (3, LANES, longest)
    t = torch.arange(longest)
    assert torch.equal(trajectory.valid, t < lengths.unsqueeze(-1))  # False only at the tail
    assert torch.equal(trajectory.terminated, t == wanted.unsqueeze(-1) - 1)  # once, if at all
    at_horizon = (t == HORIZON - 1) & (lengths.unsqueeze(-1) == HORIZON)
    assert bool((trajectory.truncated & ~trajectory.terminated).any())
    assert bool((trajectory.truncated & trajectory.terminated).any())
    assert torch.equal(trajectory.truncated, at_horizon)
    rewards = torch.where(trajectory.valid, (t + 1.0).expand(3, LANES, longest), 0.0)
    assert torch.equal(trajectory.rewards, rewards)
    assert torch.equal(trajectory.returns(), (lengths * (lengths + 1) / 2).float())
    assert trajectory.env_steps == int(lengths.sum())


def test_a_rollout_ends_with_its_longest_episode() -> None:
    trajectory = RolloutWorker(Stairs).collect(Scripted(), TASKS[:1], LANES, Key(1))
    assert trajectory.valid.shape[-1] == 2 < HORIZON


def test_the_first_observation_after_the_reset_is_there() -> None:
    """Observation t is what action t answered to, from the reset on (and each lane's own)."""
    worker = RolloutWorker(Stairs)
    trajectory = worker.collect(Scripted(), TASKS, LANES, Key(1))
    draws = worker.env(3 * LANES).draw.reshape(3, LANES)  # type: ignore[attr-defined]
    assert torch.equal(trajectory.observations[:, :, 0, 0], torch.zeros(3, LANES))
    t = torch.arange(trajectory.valid.shape[-1]).float()
    seen = trajectory.observations[..., 0]
    assert torch.equal(seen[trajectory.valid], t.expand_as(seen)[trajectory.valid])
    assert torch.equal(
        trajectory.observations[..., 1],
        torch.from_numpy(draws).float().unsqueeze(-1).expand_as(seen),
    )
    assert torch.equal(trajectory.log_probs, trajectory.observations.sum(-1))
    assert len(np.unique(draws)) == 3 * LANES


def test_the_raw_action_is_stored_and_lanes_are_task_major() -> None:
    worker = RolloutWorker(Stairs)
    trajectory = worker.collect(Scripted(), TASKS, LANES, Key(1))
    env = worker.env(3 * LANES)
    for t, played in enumerate(env.actions):  # type: ignore[attr-defined]
        stored = trajectory.actions[:, :, t].reshape(3 * LANES, 2)  # n = m·B + b
        assert torch.equal(stored, torch.from_numpy(played))
    assert float(trajectory.actions.abs().max()) > 1.0
    assert np.array_equal(env.tasks, np.repeat(TASKS, LANES, axis=0))


def test_the_environment_clips_what_the_trajectory_keeps() -> None:
    worker = RolloutWorker(Line)
    trajectory = worker.collect(Scripted1D(), np.array([[0.5]]), LANES, Key(1))
    x = trajectory.observations[..., 0]
    moved = x[..., 1:] - x[..., :-1]
    expected = 0.1 * trajectory.actions[..., :-1, 0].clamp(-1, 1)
    assert float(trajectory.actions.abs().max()) > 1.0
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


class Scripted1D(Scripted):
    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal((*shape, 1), dtype=np.float32)


def test_a_tasks_episodes_do_not_depend_on_the_other_tasks() -> None:
    alone = RolloutWorker(Stairs).collect(Scripted(), TASKS[:2], LANES, Key(3, 7, 1))
    among = RolloutWorker(Stairs).collect(Scripted(), TASKS, LANES, Key(3, 7, 1))
    longest = alone.valid.shape[-1]  # the others' episodes may be longer
    for name in ("observations", "actions", "rewards", "terminated", "valid"):
        assert torch.equal(getattr(alone, name), getattr(among, name)[:2, :, :longest]), name
    assert not among.valid[:2, :, longest:].any()


@pytest.mark.parametrize(
    "key", [Key(2, 5), Key(1, 6), Key(1, 5, 1), Key(1, 5, evaluation=True)], ids=str
)
def test_every_part_of_the_key_matters(key: Key) -> None:
    worker = RolloutWorker(Stairs)
    one = worker.collect(Scripted(), TASKS, LANES, Key(1, 5))
    again = worker.collect(Scripted(), TASKS, LANES, Key(1, 5))
    other = worker.collect(Scripted(), TASKS, LANES, key)
    assert torch.equal(one.actions, again.actions)
    assert not torch.equal(one.actions[:, :, 0], other.actions[:, :, 0])
    assert not torch.equal(one.observations[:, :, 0], other.observations[:, :, 0])


def test_tasks_come_from_the_keys_own_stream() -> None:
    worker = RolloutWorker(Stairs)
    tasks = worker.sample_tasks(5, Key(1, 5))
    assert tasks.shape == (5, 1)
    assert np.array_equal(worker.sample_tasks(5, Key(1, 5)), tasks)
    for other in (Key(1, 6), Key(2, 5), Key(1, 5, evaluation=True)):
        assert not np.intersect1d(worker.sample_tasks(5, other), tasks).size
    validation = worker.task_distribution.validation()
    assert not np.intersect1d(worker.sample_tasks(500, Key(1, 5)), validation).size


@pytest.mark.parametrize("make", [Stairs, lambda n: Arms(n, horizon=3)], ids=["normal", "discrete"])
def test_log_probs_are_those_of_the_stored_actions(make: Any) -> None:
    worker = RolloutWorker(make)
    env = worker.env(3 * LANES)
    maml = agent_of(env)
    theta = stack(maml.params, 3)
    tasks = TASKS if isinstance(env, Stairs) else np.array([[0.0], [1.0], [4.0]])
    trajectory = worker.collect(PolicyActor(maml.policy, theta), tasks, LANES, Key(1))
    distribution = maml.policy(theta, trajectory.observations.flatten(1, 2))
    log_probs = distribution.log_prob(trajectory.actions.flatten(1, 2))
    torch.testing.assert_close(trajectory.log_probs.flatten(1), log_probs)
    assert not trajectory.log_probs.requires_grad


def test_acting_shares_nothing_with_learning() -> None:
    """The worker changes no parameter, and a later change of one changes no trajectory."""
    worker = RolloutWorker(Stairs)
    maml = agent_of(worker.env(3 * LANES))
    before = {name: p.clone() for name, p in maml.params.items()}
    agent = maml.agent("stochastic", Key(1))
    batch = maml.collect(worker, Key(1, 1))
    for name, p in maml.params.items():
        assert torch.equal(p, before[name]), name

    actor = PolicyActor(maml.policy, {n: p.clone() for n, p in stack(maml.params, 3).items()})
    trajectory = worker.collect(actor, TASKS, LANES, Key(1))
    kept = {name: x.clone() for name, x in vars(trajectory).items() if x is not None}
    for p in actor.params.values():
        p.zero_()
    worker.collect(actor, TASKS, LANES, Key(2))  # the environment's buffers move on
    for name, x in kept.items():
        assert torch.equal(x, getattr(trajectory, name)), name

    assert maml.update(batch)["line_search/accepted"] == 1.0
    assert any(not torch.equal(p, before[name]) for name, p in maml.params.items())
    for name, p in agent.meta_params.items():  # an agent taken before the update
        assert torch.equal(p, before[name]), name


def test_the_batch_counts_valid_steps_only() -> None:
    worker = RolloutWorker(Stairs)
    maml = agent_of(worker.env(3 * LANES))
    maml.update(maml.collect(worker, Key(1, 1)))
    batch = maml.collect(worker, Key(1, 2))
    valid = [int((samples.weights > 0).sum()) for samples in batch.data]
    assert batch.env_steps == sum(valid) < 2 * 3 * LANES * HORIZON


def test_environments_are_kept_and_closed() -> None:
    made = []

    def make(n: int) -> TaskVectorEnv:
        made.append(envs.make("point_navigation", n, horizon=3))
        return made[-1]

    worker = RolloutWorker(make)
    worker.collect(Scripted(), np.zeros((2, 2)), 2, Key(1))
    worker.collect(Scripted(), np.zeros((1, 2)), 4, Key(1))
    assert [env.num_envs for env in made] == [4]
    worker.close()
    assert made[0].closed


def test_the_threads_of_the_update_come_back() -> None:
    """Also when the environment fails in the middle of a rollout."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        worker = RolloutWorker(lambda n: Line(n, bad="observation"))
        with pytest.raises(FloatingPointError, match="observations"):
            worker.collect(Scripted1D(), np.array([[0.5]]), 2, Key(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


class Broken(Scripted1D):
    """An actor whose second task's policy has gone."""

    def __init__(self, what: str) -> None:
        self.what = what

    def act(self, inputs: Inputs, noise: torch.Tensor, carry: None) -> Decision:
        tensors = {"actions": noise.clone()}
        tensors |= {name: noise[..., 0].clone() for name in ("log-probabilities", "values")}
        tensors[self.what][1, 0] = float("inf")
        return Decision(*tensors.values(), carry=None)


@pytest.mark.parametrize("what", ["actions", "log-probabilities", "values"])
def test_a_number_that_is_none_names_tensor_and_task(what: str) -> None:
    with pytest.raises(FloatingPointError, match=rf"{what} .* tasks \[0\.25\]$"):
        RolloutWorker(Line).collect(Broken(what), np.array([[0.5], [0.25]]), 2, Key(1))


def test_a_long_list_of_tasks_is_cut() -> None:
    worker = RolloutWorker(lambda n: Line(n, bad="observation"))
    with pytest.raises(FloatingPointError, match=r"\[0.0\], \[0.0\], \[0.0\] and 7 more$"):
        worker.collect(Scripted1D(), np.zeros((10, 1)), 2, Key(1))
