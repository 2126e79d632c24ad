"""RL²: credit across the episodes of a trial, exactness, and that it learns to learn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarl.algorithms.rl2 import RL2, RL2Batch, _explained_variance
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.envs import TaskVectorEnv
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.advantages import absorbing_advantages
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import flatten
from metarl.maths.ppo import PPOData
from metarl.networks.memory_cores import LSTM, MemoryCore
from metarl.networks.recurrent import RecurrentActor
from metarl.random import Key
from metarl.types import Decision, Inputs, Trial
from tests.experience.test_rollout import HORIZON, Stairs
from tests.toy_envs import Arms, Recall

SMALL: dict[str, Any] = {"tasks": 3, "lanes": 2, "episodes": 3, "width": 8, "minibatches": 2}

TRANSFORMER: dict[str, Any] = {"name": "transformer", "layers": 1}


def make_rl2(make: Any = Stairs, seed: int = 1, **changes: Any) -> tuple[RL2, RolloutWorker]:
    worker = RolloutWorker(make)
    env: TaskVectorEnv = worker.env(1)
    config = RL2Settings(**(SMALL | changes))
    return RL2(config, env.single_observation_space, env.single_action_space, seed), worker


def train(
    rl2: RL2, worker: RolloutWorker, iterations: int, first: int = 1
) -> list[dict[str, float]]:
    found = []
    for iteration in range(first, first + iterations):
        batch = rl2.collect(worker, Key(1, iteration))
        found.append(batch.metrics | rl2.update(batch))
    return found


def advantages(rl2: RL2, trial: Trial) -> torch.Tensor:
    return rl2._credit(trial, HORIZON).advantages.T.reshape(trial.valid.shape)


# --- credit -----------------------------------------------------------------------------------


def test_the_pay_of_episode_two_is_credited_to_episode_one_of_the_same_trial_only() -> None:
    rl2, worker = make_rl2(normalize_rewards=False, normalize_advantages=False)
    trial = rl2.collect(worker, Key(1, 1)).trial
    episode = trial.episode_start.long().cumsum(-1)  # 1, 2, 3
    second = (episode == 2) & trial.valid
    second[1:] = False
    second[0, 1:] = False  # of one lane
    more = Trial(**vars(trial) | {"rewards": trial.rewards + 5.0 * second})
    change = advantages(rl2, more) - advantages(rl2, trial)
    first = (episode[0, 0] == 1) & trial.valid[0, 0]
    assert change[0, 0, first].gt(1.0).all()
    assert change[0, 0, second[0, 0]].gt(1.0).all()
    assert not change[0, 0, episode[0, 0] == 3].any()  # what came later earned nothing of it
    assert not change[0, 1:].any()
    assert not change[1:].any()
    # By hand: the last step before episode 2, n steps long, gains 5 Σ_{k=1..n} (γλ)^k.
    decay, n = 0.99 * 0.95, int(second.sum())
    gain = 5.0 * sum(decay**k for k in range(1, n + 1))
    assert float(change[0, 0, first][-1]) == pytest.approx(gain, rel=1e-5)


def test_the_end_of_the_trial_is_the_end_of_credit() -> None:
    """The last step's advantage is its reward less its value; padding has none."""
    rl2, worker = make_rl2(normalize_rewards=False, normalize_advantages=False)
    trial = rl2.collect(worker, Key(1, 1)).trial
    found = advantages(rl2, trial)
    last = trial.valid.sum(-1, keepdim=True) - 1
    assert len(last.unique()) > 2
    assert trial.values is not None
    expected = (trial.rewards - trial.values).gather(-1, last)
    torch.testing.assert_close(found.gather(-1, last), expected)
    assert not found[~trial.valid].any()


def test_an_early_end_may_be_absorbing() -> None:
    """Then the pay of a later episode is as far away for who ended early as for who did not."""
    changes = {"normalize_rewards": False, "normalize_advantages": False}
    rl2, worker = make_rl2(**changes, absorb_early_ends=True)
    batch = rl2.collect(worker, Key(1, 1))
    trial = batch.trial
    assert batch.horizon == HORIZON
    assert trial.valid.sum(-1).min() < 3 * HORIZON  # some end early
    found = advantages(rl2, trial)
    expected = absorbing_advantages(trial, trial.rewards, 0.99, 0.95, HORIZON)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, advantages(make_rl2(**changes)[0], trial))


def test_advantages_are_normalised_over_all_tasks_together() -> None:
    rl2, worker = make_rl2()
    trial = rl2.collect(worker, Key(1, 1)).trial
    found = advantages(rl2, trial)[trial.valid]
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(found.std(correction=0)) == pytest.approx(1.0, rel=1e-5)
    assert advantages(rl2, trial)[0].sum().abs() > 0.1  # not each task by itself


# --- consistency ------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["lstm", TRANSFORMER | {"layers": 2, "context": 4}])
@pytest.mark.parametrize("make", [Stairs, lambda n: Arms(n, horizon=2)], ids=["normal", "discrete"])
def test_the_ratio_is_one_before_an_update(
    make: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every iteration, although the statistics of the inputs have moved on in between."""
    rl2, worker = make_rl2(make, core=core, epochs=1, minibatches=1)
    first: list[dict[str, float]] = []
    loss = type(rl2.ppo).loss

    def spy(self: Any, new: Any, old: Any) -> Any:
        found = loss(self, new, old)
        first.append({name: float(x) for name, x in found[1].items()})
        return found

    monkeypatch.setattr(type(rl2.ppo), "loss", spy)
    train(rl2, worker, 4)
    assert rl2.input_moments.count > 0
    for parts in first:
        assert abs(parts["kl/update"]) < 1e-9
        assert parts["clip_fraction"] == 0.0


def test_statistics_move_once_an_iteration_and_over_valid_steps_only() -> None:
    rl2, worker = make_rl2()
    batch = rl2.collect(worker, Key(1, 1))
    rl2.update(batch)
    valid = batch.trial.valid
    assert rl2.return_moments.count == valid.sum() < valid.numel()
    assert rl2.input_moments.count == batch.env_steps > valid.sum()  # with the first look
    before = rl2.input_moments
    second = rl2.collect(worker, Key(1, 2))
    assert second.moments is rl2.input_moments is before
    rl2.update(second)
    assert rl2.input_moments.count == batch.env_steps + second.env_steps
    valid = second.trial.valid
    rewards = shown_in(second.trial).previous_rewards[valid].double()
    mean = (before.count * before.mean[-1] + rewards.sum()) / rl2.input_moments.count
    torch.testing.assert_close(rl2.input_moments.mean[-1], mean)


def test_statistics_are_part_of_the_agent() -> None:
    """An agent with others acts differently: they must travel with the parameters."""
    rl2, worker = make_rl2()
    train(rl2, worker, 2)
    other, _ = make_rl2()
    state = rl2.state_dict()
    other.load_state_dict(state)
    key = Key(1, 3)
    assert torch.equal(
        other.collect(worker, key).trial.actions, rl2.collect(worker, key).trial.actions
    )
    fresh, _ = make_rl2()
    fresh.load_state_dict(state | {"input_moments": fresh.input_moments.state_dict()})
    assert not torch.equal(
        fresh.collect(worker, key).trial.actions, rl2.collect(worker, key).trial.actions
    )


@pytest.mark.parametrize("core", ["lstm", "gru", TRANSFORMER])
def test_a_restored_agent_goes_on_to_the_same_bits(core: Any) -> None:
    rl2, worker = make_rl2(core=core)
    train(rl2, worker, 2)
    file = io.BytesIO()
    torch.save(rl2.state_dict(), file)
    expected = train(rl2, worker, 2, first=3)
    file.seek(0)
    again, worker = make_rl2(core=core, seed=7)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert train(again, worker, 2, first=3) == expected
    for name, p in rl2.params.items():
        assert torch.equal(p, again.params[name]), name
    assert torch.equal(rl2.adam.square, again.adam.square)


def test_a_state_of_another_policy_is_refused() -> None:
    rl2, _ = make_rl2()
    with pytest.raises(ValueError, match=r"params\['core.weight_ih'\] is float32"):
        rl2.load_state_dict(make_rl2(width=9)[0].state_dict())


def test_acting_and_learning_share_nothing() -> None:
    rl2, worker = make_rl2()
    agent = rl2.agent("stochastic", Key(1))
    before = {name: p.clone() for name, p in agent.actor.params.items()}
    train(rl2, worker, 1)
    assert not torch.equal(rl2.params["core.weight_hh"], before["core.weight_hh"])
    for name, p in agent.actor.params.items():
        assert torch.equal(p, before[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("core", ["lstm", "gru", TRANSFORMER])
def test_an_update_on_a_gpu_is_that_on_the_cpu(core: Any) -> None:
    rl2, worker = make_rl2(core=core)
    env = worker.env(1)
    spaces = env.single_observation_space, env.single_action_space
    other = RL2(rl2.config, *spaces, 1, "cuda")
    batch = rl2.collect(worker, Key(1, 1))
    ours, theirs = rl2.update(batch), other.update(batch)
    assert theirs == pytest.approx(ours, rel=1e-2, abs=1e-4)
    for name, p in other.params.items():
        assert p.is_cuda
        torch.testing.assert_close(p.cpu(), rl2.params[name], rtol=0, atol=2e-3)
    assert other.collect(worker, Key(1, 2)).trial.values is not None  # rollouts stay on the CPU


# --- scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [-60, -30, 30])
def test_the_scale_of_the_rewards_is_nothing_to_the_update_to_the_last_bit(power: int) -> None:
    """Rewards of 1e-9 teach what rewards of 1 do, once their scale is known."""
    plain, worker = make_rl2(lambda n: Arms(n, horizon=2))
    train(plain, worker, 1)
    state, factor = plain.state_dict(), 2.0**power
    for name, column in (("input_moments", -1), ("return_moments", 0)):
        moments = {k: x.clone() if torch.is_tensor(x) else x for k, x in state[name].items()}
        moments["mean"][column] *= factor
        moments["squares"][column] *= factor**2
        state[name] = moments
    scaled, other = make_rl2(lambda n: Arms(n, horizon=2, pay=factor))
    scaled.load_state_dict(state)
    expected, found = train(plain, worker, 2, first=2), train(scaled, other, 2, first=2)
    for name, value in expected[-1].items():
        returned = factor if name.startswith("return/") else 1.0
        assert found[-1][name] == returned * value, name
    assert torch.equal(flatten(scaled.params), flatten(plain.params))


def test_the_variance_that_a_critic_explains_has_no_scale() -> None:
    g = torch.Generator().manual_seed(0)
    returns, error = torch.randn(2, 50, 3, generator=g)
    valid = torch.ones(50, 3, dtype=torch.bool)
    found = []
    for scale in (1.0, 2.0**-30, 2.0**30):
        x = scale * returns
        found.append(_explained_variance(PPOData(x, x + 0.1 * scale * error, x, x, valid)))
    assert found[0] == found[1] == found[2]
    assert found[0] == pytest.approx(0.99, abs=0.005)
    zeros = torch.zeros(50, 3)
    assert _explained_variance(PPOData(zeros, zeros, zeros, zeros, valid)) == 1.0


# --- settings ---------------------------------------------------------------------------------


def test_metrics_of_an_iteration() -> None:
    rl2, worker = make_rl2(lr=0.01, lr_decay_iterations=4)
    found = train(rl2, worker, 6)
    assert [row["lr"] for row in found] == pytest.approx([0.01, 0.0075, 0.005, 0.0025, 0.0, 0.0])
    names = {f"return/episode_{k}" for k in (1, 2, 3)}
    names |= {"loss/policy", "loss/value", "policy/entropy", "policy/std", "kl/update", "lr"}
    names |= {"clip_fraction", "gradient_norm", "explained_variance", "update_steps"}
    names |= {"actions/clipped"}
    assert set(found[0]) == names
    assert all(np.isfinite(x) for row in found for x in row.values())


def test_the_noise_in_the_metrics_is_the_noise_in_use() -> None:
    rl2, worker = make_rl2(initial_std=0.3, min_std=0.5)  # noise of 0.3 is never played
    assert train(rl2, worker, 1)[0]["policy/std"] == pytest.approx(0.5)


def test_a_step_size_of_zero_changes_no_parameter() -> None:
    rl2, worker = make_rl2(lr_decay_iterations=1)
    train(rl2, worker, 1)
    before = {name: p.clone() for name, p in rl2.params.items()}
    train(rl2, worker, 1, first=2)
    assert all(torch.equal(p, before[name]) for name, p in rl2.params.items())


def test_the_entropy_bonus_falls_to_nothing() -> None:
    bonus = {"entropy_weight": 0.5, "entropy_decay_iterations": 4}
    for iteration, weight in ((1, 0.5), (3, 0.25), (5, 0.0)):
        found = []
        for changes in (bonus, {"entropy_weight": weight}):
            rl2, worker = make_rl2(**changes)
            train(rl2, worker, 1, first=iteration)
            found.append(rl2.params)
        falling, constant = found
        assert all(torch.equal(p, constant[name]) for name, p in falling.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": 2, "lanes": 1, "minibatches": 3}, "at most tasks × lanes, 2 trials, not 3"),
        ({"head_sizes": (8, 0)}, "greater than or equal to 1"),
        ({"core": "rnn"}, "'lstm', 'gru', 'transformer'"),
        ({"core": {"name": "gru", "context": 50}}, "gru.context\n.*not permitted"),
        ({"core": TRANSFORMER | {"context": 0}}, "greater than or equal to 1"),
        ({"core": TRANSFORMER | {"heads": 3}}, "a multiple of 2 × core.heads, 6, not 128"),
        ({"discount": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RL2Settings(**changes)


# --- learning to learn ------------------------------------------------------------------------

RECALL: dict[str, Any] = {
    "tasks": 32,
    "lanes": 4,
    "episodes": 3,
    "width": 16,
    "minibatches": 2,
    "epochs": 4,
    "lr": 0.01,
    "entropy_weight": 0.01,
    "discount": 0.95,
}


def recall_returns(rl2: RL2, worker: RolloutWorker) -> np.ndarray:
    """Mean returns of the three episodes of a trial, stochastic."""
    env = worker.env(2 * 100)
    agent = rl2.agent("stochastic", Key(5, evaluation=True))
    plan = EvaluationPlan("held_out", episodes=100, adaptation_steps=2, seed=5)
    found = evaluate(agent, env, np.array([[1.0], [2.0]]), plan)
    return found.task_returns.mean(1)


def without_memory(patch: pytest.MonkeyPatch, kind: type[MemoryCore] = LSTM) -> None:
    """The same agent, its memory emptied before every step, in rollout, update and evaluation."""
    step, sequence = kind.step, kind.sequence

    def forgetful(self: MemoryCore, prepared: Any, x: torch.Tensor, memory: Any) -> Any:
        return step(self, prepared, x, self.initial(len(x), x))

    def single_steps(self: MemoryCore, params: Any, x: torch.Tensor, memory: Any) -> Any:
        rows = x.flatten(0, 1).unsqueeze(0)  # [1, S·N, ·]: every step is a trial's first
        hidden, _ = sequence(self, params, rows, self.initial(rows.shape[1], x))
        return hidden.view(*x.shape[:2], -1), memory

    patch.setattr(kind, "step", forgetful)
    patch.setattr(kind, "sequence", single_steps)


@pytest.mark.parametrize(
    ("core", "lr", "iterations"),
    [
        ("lstm", 0.01, 60),
        pytest.param("gru", 0.01, 60, marks=pytest.mark.slow),
        (TRANSFORMER, 0.003, 40),
    ],
)
def test_it_learns_to_remember(
    core: Any, lr: float, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimum is 0, 1, 1; who forgets has 0 in every episode at best."""
    rl2, worker = make_rl2(Recall, core=core, **RECALL | {"lr": lr})
    train(rl2, worker, iterations)
    first, second, third = recall_returns(rl2, worker)
    assert abs(first) < 0.3
    assert min(second, third) > 0.8
    without_memory(monkeypatch, type(rl2.policy.core))
    assert max(recall_returns(rl2, worker)) < 0.3


@pytest.mark.slow
def test_without_memory_it_cannot_learn_that(monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(monkeypatch)
    rl2, worker = make_rl2(Recall, **RECALL)
    train(rl2, worker, 60)
    assert max(recall_returns(rl2, worker)) < 0.3


def test_batches_count_valid_steps() -> None:
    rl2, worker = make_rl2()
    train(rl2, worker, 1)
    batch = rl2.collect(worker, Key(1, 2))
    assert isinstance(batch, RL2Batch)
    assert batch.env_steps == int(batch.trial.valid.sum()) < batch.trial.valid.numel()


class Tattler(RecurrentActor):
    """Hands on its memory of the last trial."""

    last: Any = None

    def act(self, inputs: Inputs, noise: torch.Tensor, carry: Any) -> Decision:
        decision = super().act(inputs, noise, Tattler.last if carry is None else carry)
        Tattler.last = decision.carry
        return decision


def test_a_new_trial_knows_nothing_of_the_last_one() -> None:
    """And would be told apart if it did."""
    rl2, worker = make_rl2()
    first = rl2.collect(worker, Key(1, 1)).trial
    rl2.collect(worker, Key(1, 2))
    assert torch.equal(rl2.collect(worker, Key(1, 1)).trial.actions, first.actions)
    actor = Tattler(rl2.policy, rl2.params)
    tasks = worker.sample_tasks(3, Key(1, 1))
    trials = [worker.collect(actor, tasks, 2, Key(1, 1), 3) for _ in range(2)]
    assert not torch.equal(trials[0].actions, trials[1].actions)
