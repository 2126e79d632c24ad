"""PEARL: where gradients go, what its context is, that it adapts, and that it is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.algorithms.pearl import PEARL, training_tasks
from metarl.algorithms.settings.pearl import PEARLSettings
from metarl.envs import FiniteTasks, TaskVectorEnv
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.maths.gaussian_product import Factors
from metarl.random import Key
from metarl.types import Inputs
from tests.toy_envs import Arms, Line


class Side(TaskVectorEnv):
    """Which side pays cannot be seen: reward −|a − g|, g = ±0.8; 0.8 a step is lost by who cannot
    know. On the left an episode terminates a step earlier, so lanes are out of step."""

    def __init__(self, num_envs: int, horizon: int = 4) -> None:
        self._t = np.zeros(num_envs)
        tasks = FiniteTasks([[-0.8], [0.8]], ("side",), ("",))
        box, action = spaces.Box(0.0, 1.0, (1,), np.float64), spaces.Box(-1.0, 1.0, (1,))
        super().__init__(num_envs, tasks, horizon, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        self._t[lanes] = 0

    def _advance(self, actions: Any, live: Any) -> Any:
        self._t += 1
        over = (self._t == self.horizon - 1) & (self._tasks[:, 0] < 0)
        return -np.abs(actions[:, 0] - self._tasks[:, 0]), over

    def _observe(self) -> Any:
        return self._t[:, None] / self.horizon


TINY: dict[str, Any] = {
    "training_tasks": 6,
    "tasks": 4,
    "initial_episodes": 3,
    "posterior_episodes": 1,
    "updates": 2,
    "batch_tasks": 3,
    "transitions": 8,
    "context": 6,
    "replay_capacity": 100,
    "context_capacity": 8,
    "latent": 2,
    "encoder_sizes": (16,),
    "hidden_sizes": (32, 32),
}


def make_pearl(make: Any = Side, **changes: Any) -> tuple[PEARL, RolloutWorker]:
    worker = RolloutWorker(make)
    return PEARL(PEARLSettings(**(TINY | changes)), *worker.spaces, seed=1), worker


def train(pearl: PEARL, worker: RolloutWorker, iterations: int, begin: int = 1) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for iteration in range(begin, begin + iterations):
        metrics = pearl.update(pearl.collect(worker, Key(1, iteration)))
    return metrics


# --- what it learns from ------------------------------------------------------------------------


def test_every_task_is_played_first_and_then_each_once_in_a_round() -> None:
    pearl, worker = make_pearl()
    first = pearl.collect(worker, Key(1, 1))
    assert first.played[0][0].tolist() == list(range(6))
    assert first.played[0][1].episode_index().max() == 2
    assert first.env_steps == sum(trial.env_steps for _, trial, _ in first.played)
    turns = [pearl.collect(worker, Key(1, i)).played[-1][0] for i in (1, 2, 3)]
    together = np.concatenate(turns)
    assert sorted(together[:6]) == sorted(together[6:]) == list(range(6))
    assert together[:6].tolist() != together[6:].tolist()


def test_training_tasks_are_drawn_once() -> None:
    pearl, worker = make_pearl(Line, training_tasks=50)
    played = [pearl.collect(worker, Key(1, i)) for i in (1, 2)]
    tasks = worker.sample_tasks(50, Key(1))
    for batch in played:
        chosen, trial, _ = batch.played[-1]
        goals = torch.from_numpy(tasks[chosen, 0]).float()
        x = trial.next_observations()[..., 0]
        expected = torch.where(trial.valid, -(x - goals.view(-1, 1, 1)).abs(), 0.0)
        torch.testing.assert_close(trial.rewards, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [1, 4, 6, 15])
def test_of_a_finite_set_no_training_task_is_drawn_twice_before_all_are(seed: int, n: int) -> None:
    class Six:
        def sample_tasks(self, n: int, key: Key) -> np.ndarray:
            return key.generator("tasks").integers(6, size=(n, 1)).astype(float)

    source: Any = Six()
    numbers, counts = np.unique(training_tasks(source, n, Key(seed)), return_counts=True)
    assert len(numbers) == min(n, 6)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= (n > 6)


def test_context_is_of_the_prior_episodes_and_recent_replay_of_all() -> None:
    pearl, worker = make_pearl()
    batch = pearl.collect(worker, Key(1, 1))
    pearl.update(batch)
    lengths = np.where(training_tasks(worker, 6, Key(1))[:, 0] < 0, 3, 4)
    visited = np.bincount(batch.played[-1][0], minlength=6)
    assert pearl.replay.counts.tolist() == (lengths * (3 + 3 * visited)).tolist()
    assert pearl.context.counts.tolist() == (lengths * (3 + 2 * visited)).tolist()
    chosen, trial, prior_episodes = batch.played[-1]
    assert prior_episodes == 2
    recent = trial.rewards[0][trial.valid[0] & (trial.episode_index()[0] < 2)]
    kept = pearl.context.sample(chosen[:1], 200, np.random.default_rng(0))["rewards"]
    assert set(recent.tolist()) <= set(kept.flatten().tolist())


# --- gradients ----------------------------------------------------------------------------------


def test_the_encoder_learns_from_the_critics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the critics' errors and the KL out of the loss nothing reaches it, whatever the actor's
    loss and the targets are."""
    pearl, worker = make_pearl(kl_weight=0.0)
    train(pearl, worker, 1)
    monkeypatch.setattr("metarl.algorithms.pearl.critic_errors", lambda q, y: 0.0 * q[0] + y)
    before = pearl.state_dict()["params"]
    encoder = {n: p for n, p in before.items() if n.startswith("encoder")}
    pearl.value._memory = type(
        pearl.value._memory
    )(  # Adam without a memory of former gradients
        0, *(torch.zeros_like(part) for part in pearl.value._memory[1:])
    )
    pearl._step(np.random.default_rng(0))
    after = pearl.state_dict()["params"]
    assert all(torch.equal(p, after[n]) for n, p in encoder.items())
    assert any(not torch.equal(p, after[n]) for n, p in before.items() if n.startswith("actor"))


def test_the_kl_alone_draws_the_belief_to_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    pearl, worker = make_pearl(kl_weight=1.0, lr=0.02)
    train(pearl, worker, 1)
    monkeypatch.setattr("metarl.algorithms.pearl.critic_errors", lambda q, y: 0.0 * q[0])
    rng = np.random.default_rng(0)
    kls = [float(pearl._step(rng)["kl/belief"]) for _ in range(80)]
    assert np.mean(kls[-10:]) < 0.2 * np.mean(kls[:10])


def test_targets_by_hand() -> None:
    """Scaled rewards; terminals are worth nothing more, whatever the networks say."""
    pearl, worker = make_pearl(temperature=0.3, discount=0.9)
    train(pearl, worker, 1)
    rows = pearl.replay.sample(np.arange(6), 40, np.random.default_rng(0))
    z, noise = torch.randn(6, 40, 2), torch.randn(6, 40, 1)
    y = pearl._targets(rows, z, noise, pearl.alpha)
    over = rows["terminated"].bool()
    assert over.any()
    torch.testing.assert_close(y[over], 5.0 * rows["rewards"][over])
    pi = pearl.policy(pearl.actor.params, rows["next_observations"], z)
    action, log_prob = pi.sample_and_log_prob(noise)
    q = pearl.critics(pearl.target, rows["next_observations"], action, z).amin(0)
    expected = 5.0 * rows["rewards"] + 0.9 * (q - 0.3 * log_prob)
    torch.testing.assert_close(y[~over], expected[~over])
    last = rows["next_observations"].flatten(1) == 1.0  # the time limit's
    assert last.any()
    assert not over[last].any()


# --- acting -------------------------------------------------------------------------------------


def test_a_trial_is_what_the_belief_makes_of_its_past() -> None:
    """The rollout's running product, lane by lane, against all transitions so far at once."""
    pearl, worker = make_pearl(posterior_episodes=2)
    train(pearl, worker, 2)
    actor = pearl._actor(2)
    tasks = np.array([[-0.8], [0.8]])
    trial = worker.collect(actor, tasks, 3, Key(1, 9), 4)
    inputs, memory = shown_in(trial), actor.initial_memory(6)
    index = trial.episode_index()
    for t in range(trial.valid.shape[-1]):
        noise = torch.full((2, 3, 2), 0.5)
        _, memory = actor.step(Inputs(*(part[:, :, t] for part in inputs)), memory, noise)
        for lane in range(6):
            m, b = divmod(lane, 3)
            if not trial.valid[m, b, t]:
                continue
            past = slice(0, t)
            told = actor.encoder(
                actor.params,
                trial.observations[m, b, past],
                trial.actions[m, b, past],
                trial.rewards[m, b, past],
            ).product(0)
            torch.testing.assert_close(memory.precision[lane], told.precision.detach())
            if trial.episode_start[m, b, t]:
                prior = Factors(torch.zeros(2), torch.zeros(2))
                belief = (told if index[m, b, t] >= 2 else prior).gaussian()
                torch.testing.assert_close(memory.latent[lane], belief.sample(torch.tensor(0.5)))


def test_the_agent_in_deployment_is_the_one_of_training() -> None:
    """Driven step by step it does what a rollout of the same key does."""
    pearl, worker = make_pearl(posterior_episodes=2)
    train(pearl, worker, 2)
    tasks, key = np.array([[-0.8], [0.8]]), Key(5, 0, evaluation=True)
    trial = worker.collect(pearl._actor(2), tasks, 3, key, 4)
    agent = pearl.agent("stochastic", key)
    plan = EvaluationPlan("held_out", episodes=3, adaptation_steps=3, seed=5)
    found = evaluate(agent, worker.env(6), tasks, plan)
    expected = trial.episode_returns().mean(1).T.numpy()  # [E, M]
    np.testing.assert_allclose(found.task_returns, expected, rtol=1e-5)


def test_an_agent_goes_on_from_what_it_has_become() -> None:
    pearl, worker = make_pearl()
    train(pearl, worker, 2)
    agents = [pearl.agent("deterministic", Key(3, evaluation=True)) for _ in range(2)]
    observation, active = np.zeros((1, 2, 1)), np.ones((1, 2), dtype=bool)
    over = np.ones((1, 2), dtype=bool)
    agents[0].begin(1, 2)
    for _ in range(2):
        action = agents[0].act(observation, active)
        agents[0].observe(action, np.ones((1, 2)), over, ~over, observation)
        agents[0].adapt()
    agents[1].load_state_dict(agents[0].state_dict())
    first, second = (agent.act(observation, active) for agent in agents)
    assert np.array_equal(first, second)
    assert (np.abs(first) < 1).all()


# --- exactness ----------------------------------------------------------------------------------


def test_a_restored_run_goes_on_to_the_same_bits() -> None:
    straight, worker = make_pearl()
    train(straight, worker, 3)
    broken, _ = make_pearl()
    train(broken, worker, 2)
    resumed, _ = make_pearl()
    resumed.load_state_dict(broken.state_dict())
    resumed.replay, resumed.context = broken.replay, broken.context
    train(resumed, worker, 1, begin=3)
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)
    other, _ = make_pearl(latent=3)
    with pytest.raises(ValueError, match="belongs"):
        other.load_state_dict(straight.state_dict())


def test_automatic_and_fixed_temperature() -> None:
    fixed, worker = make_pearl(temperature=0.2)
    assert train(fixed, worker, 2)["alpha"] == pytest.approx(0.2)
    assert float(fixed.temperature.params["log_alpha"]) == 0.0
    learned, worker = make_pearl(lr=0.01, updates=20)
    assert train(learned, worker, 1)["alpha"] < 0.97  # an untrained policy has entropy to spare


# --- refusals -----------------------------------------------------------------------------------


def test_discrete_actions_and_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a flat Box, and not Discrete\(5\)"):
        make_pearl(Arms)
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="not images"):
        PEARL(PEARLSettings(), image, spaces.Box(-1.0, 1.0, (2,)), seed=1)
    with pytest.raises(ValueError, match="tasks must be at most training_tasks, 3, not 5"):
        PEARLSettings(training_tasks=3)


# --- learning to adapt --------------------------------------------------------------------------

LEARN: dict[str, Any] = {
    "temperature": 0.02,
    "discount": 0.5,
    "updates": 60,
    "batch_tasks": 6,
    "transitions": 16,
    "lr": 1e-2,
    "target_rate": 0.05,
    "kl_weight": 0.01,
}


def third_episode(pearl: PEARL, worker: RolloutWorker) -> float:
    plan = EvaluationPlan("held_out", episodes=20, adaptation_steps=2, seed=5)
    agent = pearl.agent("deterministic", Key(5, evaluation=True))
    tasks = np.array([[-0.8], [0.8]])
    found = evaluate(agent, worker.env(40), tasks, plan).task_returns
    return float((found[2] / np.array([3, 4])).mean())  # of a step


def test_it_learns_to_adapt_and_without_its_belief_it_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of the third episode costs 0 at best; 0.8 whoever does not know the side, of which it
    is to save a half and more."""
    pearl, worker = make_pearl(**LEARN)
    train(pearl, worker, 8)
    assert third_episode(pearl, worker) > -0.4
    blind = Factors.gaussian
    monkeypatch.setattr(Factors, "gaussian", lambda self: blind(Factors(*(0.0 * x for x in self))))
    assert third_episode(pearl, worker) < -0.6
    never, worker = make_pearl(**LEARN)
    train(never, worker, 4)
    assert third_episode(never, worker) < -0.6
