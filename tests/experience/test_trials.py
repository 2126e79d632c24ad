"""Trials: episodes one after the other on a lane, and what an actor is shown of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.algorithms import algorithm_class
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import Decision, Inputs, Trial
from tests.experience.test_rollout import HORIZON, Scripted, Stairs
from tests.toy_envs import Arms

LANES = 4
EPISODES = 3
TASKS = np.array([[2.0], [4.0], [9.0]])  # the last one outlasts the horizon


class Witness(Scripted):
    """Keeps what it is shown, and carries the number of the step."""

    def __init__(self) -> None:
        self.shown: list[Inputs] = []
        self.carries: list[Any] = []

    def act(self, inputs: Inputs, noise: torch.Tensor, carry: Any) -> Decision:
        self.shown.append(Inputs(*(x.clone() for x in inputs)))
        self.carries.append(carry)
        step = 0 if carry is None else carry + 1
        return Decision(3.0 * noise, noise.sum(-1), torch.full(noise.shape[:2], float(step)), step)


def collect(
    actor: Any, tasks: np.ndarray = TASKS, episodes: int = EPISODES, seed: int = 1
) -> Trial:
    return RolloutWorker(Stairs).collect(actor, tasks, LANES, Key(seed), episodes)


def lengths(trial: Trial) -> torch.Tensor:
    """Of every lane's episodes ``[M, L, E]``."""
    index = trial.episode_start.long().cumsum(-1) - 1
    steps = torch.zeros(*index.shape[:2], EPISODES, dtype=torch.long)
    return steps.scatter_add(-1, index, trial.valid.long())


def test_every_lane_plays_all_its_episodes_without_a_gap() -> None:
    trial = collect(Scripted())
    assert trial.episode_start.sum(-1).eq(EPISODES).all()
    total = trial.valid.sum(-1, keepdim=True)
    assert torch.equal(trial.valid, torch.arange(trial.valid.shape[-1]) < total)  # tail only
    assert len(total.unique()) > 3
    assert trial.valid.shape[-1] == int(total.max()) == EPISODES * HORIZON
    ends = trial.terminated | trial.truncated
    assert ends.sum(-1).eq(EPISODES).all()
    after = torch.nn.functional.pad(ends[..., :-1], (1, 0), value=True) & trial.valid
    assert torch.equal(after, trial.episode_start)  # an end, and the next start at once
    assert trial.env_steps == int(total.sum())
    wanted = torch.from_numpy(TASKS).long().unsqueeze(-1)
    assert ((lengths(trial) == wanted.clamp(max=HORIZON)) | (lengths(trial) == wanted - 1)).all()


def test_the_first_observation_of_every_episode_is_shown() -> None:
    """The number of the step, from 0 on in every episode, and a draw that each reset makes anew."""
    trial = collect(Scripted())
    step, draw = trial.observations[..., 0], trial.observations[..., 1]
    assert step[trial.episode_start].eq(0).all()
    going_on = trial.valid & ~trial.episode_start
    assert torch.equal(step[going_on], (step.roll(1, -1) + 1)[going_on])
    assert len(draw[trial.episode_start].unique()) == trial.episode_start.sum()
    assert torch.equal(draw[going_on], draw.roll(1, -1)[going_on])


def test_the_next_observation_of_an_episodes_last_step_is_where_it_ended() -> None:
    """Not the first one of the next episode, whose step number is 0 and whose draw is another."""
    trial = collect(Scripted())
    before, after = trial.observations, trial.next_observations()
    assert trial.final_observations is not None
    assert trial.final_observations.shape == (3, LANES, EPISODES, 2)
    assert torch.equal(after[..., 0][trial.valid], (before[..., 0] + 1)[trial.valid])
    assert torch.equal(after[..., 1][trial.valid], before[..., 1][trial.valid])
    normalising = Scripted()
    normalising.moments = RunningMoments.of(torch.tensor([[3.0, 0.0], [7.0, 1.0]]))
    shown = collect(normalising)
    wanted = normalising.moments.normalize(after.double()).float()
    assert torch.allclose(shown.next_observations()[trial.valid], wanted[trial.valid])


def test_returns_of_the_episodes() -> None:
    trial = collect(Scripted())  # the reward is the number of the step
    n = lengths(trial)
    assert torch.equal(trial.episode_returns(), (n * (n + 1) / 2).float())
    assert torch.equal(trial.episode_returns().sum(-1), trial.returns())


def test_a_lane_depends_on_no_other_lane_and_not_on_how_many_episodes_follow() -> None:
    among, alone = collect(Scripted()), collect(Scripted(), TASKS[:1])
    steps = alone.valid.shape[-1]
    one = collect(Scripted(), episodes=1)
    first = (among.episode_start.long().cumsum(-1) == 1) & among.valid
    for name in ("observations", "actions", "rewards", "terminated", "valid"):
        assert torch.equal(getattr(alone, name), getattr(among, name)[:1, :, :steps]), name
        assert torch.equal(getattr(one, name)[one.valid], getattr(among, name)[first]), name
    assert not torch.equal(collect(Scripted(), seed=2).actions[:, :, 0], among.actions[:, :, 0])


def test_the_actor_is_shown_what_the_trial_says_it_was() -> None:
    actor = Witness()
    trial = collect(actor)
    inputs = shown_in(trial)
    for name, rows in inputs._asdict().items():
        shown = torch.stack([getattr(step, name) for step in actor.shown], dim=2)
        assert torch.equal(shown[trial.valid], rows[trial.valid]), name


def test_previous_action_and_reward_cross_the_ends_of_episodes() -> None:
    """Nothing before the trial; clipped; and the last step's at the start of a later episode."""
    trial = collect(Scripted())
    action, reward = shown_in(trial).previous_actions, shown_in(trial).previous_rewards
    assert not action[:, :, 0].any()
    assert not reward[:, :, 0].any()
    assert shown_in(trial).episode_start[:, :, 0].all()
    later = trial.episode_start.clone()
    later[:, :, 0] = False
    assert later.sum() == 3 * LANES * (EPISODES - 1)
    assert torch.equal(reward[later], trial.rewards.roll(1, -1)[later])
    assert reward[later].gt(0).all()
    played = trial.actions.clamp(-1, 1).roll(1, 2)
    assert torch.equal(action[later], played[later])
    assert trial.actions.abs().max() > 1.0 == action.abs().max()


def test_the_share_of_clipped_actions_is_of_the_entries_of_valid_steps() -> None:
    trial = collect(Scripted(), TASKS[:1])
    actions = torch.full((*trial.valid.shape, 2), 1.0)  # the edge is inside
    actions[~trial.valid] = 7.0
    actions[0, 1, :3, 0] = -1.01
    actions[0, 2, 1] = 2.0
    entries = 2 * int(trial.valid.sum())
    assert not trial.valid.all()
    found = Trial(**vars(trial) | {"actions": actions}).clipped_share()
    assert found == pytest.approx(5 / entries, rel=1e-6)
    choices = torch.full(trial.valid.shape, 3)
    assert Trial(**vars(trial) | {"actions": choices}).clipped_share() is None


class Telling(Stairs):
    """An episode succeeds that ends before the horizon."""

    def _advance(self, actions: Any, live: Any) -> Any:
        reward, over = super()._advance(actions, live)
        before = np.zeros(self.num_envs) if self.success is None else self.success
        self.success = np.where(True if live is None else live, over, before).astype(float)
        return reward, over


def test_success_is_of_every_episode_of_every_lane() -> None:
    trial = RolloutWorker(Telling).collect(Scripted(), TASKS, LANES, Key(1), EPISODES)
    index = trial.episode_start.long().cumsum(-1) - 1
    terminated = torch.zeros(*index.shape[:2], EPISODES)
    terminated.scatter_add_(-1, index, trial.terminated.float())
    assert trial.success is not None
    assert torch.equal(trial.success, terminated.clamp(max=1.0))
    assert 0 < float(trial.success.mean()) < 1
    assert collect(Scripted()).success is None


@pytest.mark.parametrize("name", ["maml", "rl2"])
def test_metrics_tell_the_success_of_what_they_tell_the_return_of(name: str) -> None:
    """And not of the look at the observations that is played before."""
    played: list[Trial] = []

    class Witnessed(RolloutWorker):
        def collect(self, *args: Any) -> Trial:
            played.append(super().collect(*args))
            return played[-1]

    worker, cls = Witnessed(Telling), algorithm_class(name)
    env = worker.env(1)
    algorithm = cls(
        cls.config_class(tasks=4, minibatches=1) if name == "rl2" else cls.config_class(tasks=4),
        env.single_observation_space,
        env.single_action_space,
        1,
    )
    metrics = algorithm.collect(worker, Key(1, 1)).metrics
    returns = [key for key in metrics if key.startswith("return/")]
    assert len(played) == (3 if name == "maml" else 2)
    shares = [t.success.mean((0, 1)) for t in played[1:] if t.success is not None]
    found = [metrics[key.replace("return/", "success/")] for key in returns]
    assert found == pytest.approx(torch.cat(shares).tolist())


def test_a_carry_goes_on_to_the_end_of_the_trial() -> None:
    actor = Witness()
    trial = collect(actor)
    assert actor.carries == [None, *range(trial.valid.shape[-1] - 1)]
    assert trial.values is not None
    assert torch.equal(trial.values[0, 0], torch.arange(trial.valid.shape[-1]).float())
    again = collect(actor)
    assert actor.carries[trial.valid.shape[-1]] is None  # the next trial knows nothing
    assert torch.equal(again.actions, trial.actions)


def test_no_action_is_minus_one_where_actions_are_discrete() -> None:
    class Chooser(Witness):
        def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            return rng.integers(5, size=(*shape, 1)).astype(np.float32)

        def act(self, inputs: Inputs, noise: torch.Tensor, carry: Any) -> Decision:
            return super().act(inputs, noise, carry)._replace(action=noise[..., 0].long())

    actor = Chooser()
    worker = RolloutWorker(lambda n: Arms(n, horizon=2))
    trial = worker.collect(actor, np.array([[0.0], [3.0]]), LANES, Key(1), EPISODES)
    actions = shown_in(trial).previous_actions
    assert actions[:, :, 0].eq(-1).all()
    assert torch.equal(actions[:, :, 1:], trial.actions[:, :, :-1])
    shown = torch.stack([step.previous_actions for step in actor.shown], dim=2)
    assert torch.equal(shown, actions)
