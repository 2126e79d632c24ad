"""The adapter to stable-baselines3: autoreset, last observations, keyed tasks, no bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from metarl import envs
from metarl.random import Key
from metarl.references.vec_env import TaskVecEnv
from tests.toy_envs import Arms, Line


def adapter(env: envs.TaskVectorEnv | None = None, show_task: bool = False) -> TaskVecEnv:
    return TaskVecEnv(env or Line(3, horizon=5), Key(7), show_task=show_task)


def play(venv: VecEnv, steps: int) -> list[tuple[np.ndarray, ...]]:
    """Full speed ahead for some steps: (observation, reward, ended, infos, tasks) of each."""
    record = []
    for _ in range(steps):
        observation, reward, ended, infos = venv.step(np.ones((venv.num_envs, 1)))
        record.append((observation, reward, ended, infos, venv._tasks.copy()))  # type: ignore[attr-defined]
    return record


def test_it_is_a_vec_env_with_float32_spaces() -> None:
    venv = adapter(show_task=True)
    first = venv.reset()
    assert first.dtype == np.float32
    assert venv.observation_space.contains(first[0])
    observation, reward, ended, infos = venv.step(np.zeros((3, 1), dtype=np.float32))
    assert (observation.shape, reward.shape, ended.shape, len(infos)) == ((3, 3), (3,), (3,), 3)
    assert observation.dtype == np.float32
    assert ended.dtype == np.bool_
    assert venv.get_attr("horizon") == [5, 5, 5]
    assert venv.env_is_wrapped(VecMonitor, [0, 1]) == [False, False]


def test_an_ended_lane_shows_the_next_episode_and_keeps_the_last_observation() -> None:
    venv = adapter()
    venv.reset()
    *_, before, at_end = play(venv, 5)
    assert not before[2].any()
    assert at_end[2].all()
    np.testing.assert_array_equal(at_end[0], np.zeros((3, 2)))  # x and time of a new episode
    for info in at_end[3]:
        np.testing.assert_allclose(info["terminal_observation"], [0.5, 5.0], rtol=1e-6)
    assert before[3] == [{}, {}, {}]


def test_monitored_returns_are_those_of_the_task() -> None:
    venv = adapter()
    monitored = VecMonitor(venv)
    monitored.reset()
    tasks = venv._tasks.copy()[:, 0]
    for _ in range(5):
        *_, infos = monitored.step(np.ones((3, 1)))
    x = 0.1 * np.arange(1, 6)
    expected = -np.abs(x[None] - tasks[:, None]).sum(axis=1)
    assert [info["episode"]["l"] for info in infos] == [5, 5, 5]
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], expected, rtol=1e-5)


class _TwoLengths(Line):
    """Even lanes terminate at their second step."""

    def _advance(self, actions: Any, live: Any) -> Any:
        reward, _ = super()._advance(actions, live)
        return reward, (self._x[:, 1] == 2) & (np.arange(self.num_envs) % 2 == 0)


def test_tasks_change_at_resets_only_and_come_from_each_lane_s_own_stream() -> None:
    """Whatever the other lanes do: the n-th task of a lane is the n-th of its stream."""
    np.random.seed(0)  # noqa: NPY002
    sequences: dict[str, list[list[float]]] = {}
    for name, env in (("together", Line(2, horizon=5)), ("apart", _TwoLengths(2, horizon=5))):
        venv = adapter(env)
        venv.reset()
        tasks = [venv._tasks.copy()]
        seen: list[list[float]] = [[float(t)] for t in venv._tasks.copy()[:, 0]]
        for _, _, ended, _, after in play(venv, 20):
            unchanged = (after == tasks[-1]).all(axis=1)
            np.testing.assert_array_equal(unchanged, ~ended)
            tasks.append(after)
            for lane in np.flatnonzero(ended):
                seen[lane].append(float(after[lane, 0]))
        sequences[name] = seen
    together, apart = sequences["together"], sequences["apart"]
    assert len(apart[0]) == 11
    assert len(together[0]) == len(together[1]) == len(apart[1]) == 5
    assert apart[0][:5] == together[0]
    assert apart[1] == together[1]
    assert together[0] != together[1]
    stream = Key(7).generator("tasks", 1)
    drawn = Line(1).task_distribution.sample(stream, 64)[:5, 0]
    assert together[1] == drawn.tolist()


def test_the_stream_goes_on_after_a_block() -> None:
    venv = adapter(Line(1, horizon=1))
    venv.reset()
    tasks = [float(record[4][0, 0]) for record in play(venv, 200)]
    assert len(set(tasks)) == 200


def test_resets_are_seeded_by_the_key() -> None:
    def first(key: Key) -> np.ndarray:
        env = envs.make("half_cheetah_vel", 2, num_threads=1)
        return TaskVecEnv(env, key, show_task=False).reset()

    np.testing.assert_array_equal(first(Key(3)), first(Key(3)))
    assert not np.array_equal(first(Key(3)), first(Key(4)))
    lanes = first(Key(3))
    assert not np.array_equal(lanes[0], lanes[1])


def test_the_oracle_sees_its_task_and_the_other_does_not() -> None:
    oracle, blind = adapter(show_task=True), adapter()
    np.testing.assert_allclose(oracle.reset()[:, 2:], oracle._tasks.copy(), rtol=1e-6)
    before = oracle._tasks.copy()
    assert blind.reset().shape == (3, 2)
    for observation, _, ended, infos, tasks in play(oracle, 7):
        np.testing.assert_allclose(observation[:, 2:], tasks, rtol=1e-6)
        if ended.all():  # the last observation shows the task that it belongs to
            assert infos[0]["terminal_observation"][2] == np.float32(before[0, 0])
            assert infos[0]["terminal_observation"][2] != observation[0, 2]
        before = tasks


@pytest.mark.parametrize("horizon", [1, 5])
def test_nothing_is_bootstrapped_past_the_horizon(horizon: int) -> None:
    """With a critic that says 1000 everywhere, the horizon's last advantage is r − 1000."""
    torch.manual_seed(0)
    venv = adapter(Line(2, horizon=horizon))
    model = PPO("MlpPolicy", venv, n_steps=10, batch_size=20, n_epochs=1, gamma=0.9, device="cpu")
    with torch.no_grad():
        model.policy.value_net.weight.zero_()
        model.policy.value_net.bias.fill_(1000.0)
    model.learn(20)
    buffer = model.rollout_buffer
    rewards = buffer.rewards.reshape(2, 10) if buffer.rewards.shape[0] == 20 else buffer.rewards.T
    advantages = buffer.advantages.reshape(2, 10)
    last = np.arange(10) % horizon == horizon - 1
    np.testing.assert_allclose(advantages[:, last], rewards[:, last] - 1000.0, rtol=1e-4)
    assert (np.abs(rewards) < 2.0).all()  # no value hidden in the reward


def test_discrete_actions() -> None:
    venv = TaskVecEnv(Arms(4), Key(1), show_task=True)
    venv.reset()
    tasks = venv._tasks.copy()
    _, reward, ended, _ = venv.step(tasks[:, 0].astype(int))
    assert ended.all()
    np.testing.assert_array_equal(reward, np.ones(4))
