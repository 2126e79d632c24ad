"""Recurrent SAC and DQN: whole trials against slow loops, and that they learn to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.algorithms.recurrent_dqn import RecurrentDQN
from metarl.algorithms.recurrent_sac import RecurrentSAC
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.experience.whole_trials import Sequences, sequences
from metarl.maths.adam import Learned
from metarl.maths.params import flatten
from metarl.networks.history import GreedyPolicy, History, all_normalized
from metarl.random import Key
from metarl.types import Inputs
from tests.algorithms.test_rl2 import without_memory
from tests.experience.test_rollout import Stairs
from tests.toy_envs import Aim, Arms, Line, Recall

SMALL: dict[str, Any] = {
    "tasks": 3,
    "lanes": 2,
    "episodes": 3,
    "initial_trials": 5,
    "capacity": 50,
    "updates": 2,
    "batch_trials": 4,
    "width": 8,
    "observation_embedding": 4,
    "action_embedding": 4,
    "reward_embedding": 4,
    "head_sizes": (8,),
}


def make(cls: Any, env: Any, seed: int = 1, **changes: Any) -> tuple[Any, RolloutWorker]:
    worker = RolloutWorker(env)
    config = cls.config_class(**(SMALL | changes))
    return cls(config, *worker.spaces, seed, horizon=worker.env(1).horizon), worker


def train(algorithm: Any, worker: RolloutWorker, iterations: int) -> list[dict[str, float]]:
    found = []
    for iteration in range(1, iterations + 1):
        batch = algorithm.collect(worker, Key(1, iteration))
        found.append(batch.metrics | algorithm.update(batch))
    return found


def grown(params: Mapping[str, Tensor], scale: float = 40.0) -> dict[str, Tensor]:
    """With last layers that matter: fresh ones are within ±0.003."""
    return {n: p * scale if n.startswith(("critic1", "actor1")) else p for n, p in params.items()}


def with_data(cls: Any, env: Any, **changes: Any) -> tuple[Any, Sequences]:
    """An algorithm whose target differs from its critic, and trials of several lengths."""
    algorithm, worker = make(cls, env, **changes)
    train(algorithm, worker, 1)
    for part in algorithm.learned.values():
        part.params = grown(part.params)
    algorithm.target = {n: 0.7 * p for n, p in grown(algorithm.target).items()}
    trial = algorithm.collect(worker, Key(1, 2)).trials[0]
    data = sequences(trial, bootstrap=algorithm.config.bootstrap)
    return algorithm, data._replace(inputs=all_normalized(data.inputs, algorithm.trials.moments))


def lanes_of(data: Sequences) -> list[Sequences]:
    """Each trial by itself, without padding."""
    found = []
    for n in range(data.valid.shape[1]):
        steps = int(data.valid[:, n].sum())
        inputs = Inputs(*(x[: steps + 1, n : n + 1] for x in data.inputs))
        found.append(Sequences(inputs, *(x[:steps, n : n + 1] for x in data[1:])))
    return found


def read_slowly(memory: History, params: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
    """(h_t, x_t) as in the rollout, step by step."""
    prepared = memory.core.prepare(params)
    state = memory.core.initial(1, inputs.observations)
    found = []
    for t in range(len(inputs.observations)):
        x = memory.features(params, Inputs(*(part[t] for part in inputs)))
        hidden, state = memory.core.step(prepared, x, state)
        found.append(torch.cat([hidden, x], dim=-1))
    return torch.stack(found)


# --- targets and gradients ----------------------------------------------------------------------


def sac_targets(sac: RecurrentSAC, data: Sequences, noise: Tensor) -> Tensor:
    """Of the actor as it is."""
    pi = sac.policy.sequence(sac.learned["actor"].params, data.inputs)
    return sac.targets(data, pi, noise)


@pytest.mark.parametrize("core", ["lstm", {"name": "transformer", "layers": 1}])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_sac_targets_are_those_of_a_slow_loop(core: Any, bootstrap: bool) -> None:
    sac, data = with_data(RecurrentSAC, Stairs, core=core, bootstrap=bootstrap, reward_scale=2.0)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(data.actions.shape)).float()
    found = sac_targets(sac, data, noise)
    assert len({len(lane.rewards) for lane in lanes_of(data)}) > 2
    for n, lane in enumerate(lanes_of(data)):
        steps = len(lane.rewards)
        read = read_slowly(sac.memory, sac.target, lane.inputs)
        of_actor = read_slowly(sac.policy.history, sac.learned["actor"].params, lane.inputs)
        for t in range(steps):
            y = 2.0 * float(lane.rewards[t])
            assert bool(lane.ended[t]) == (t == steps - 1)  # each ends by the task's own rule
            if t < steps - 1:
                pi = sac.policy.actor(sac.learned["actor"].params, of_actor[t + 1])
                action, log_prob = pi.sample_and_log_prob(noise[t, n : n + 1])
                q = sac.critics(sac.target, read[t + 1], action).min()
                y += 0.99 * float(q - sac.alpha * log_prob)
            assert float(found[t, n]) == pytest.approx(y, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_time_limit_is_bootstrapped_from_where_the_trial_led(bootstrap: bool) -> None:
    sac, data = with_data(RecurrentSAC, Line, bootstrap=bootstrap)
    noise = torch.zeros_like(data.actions)
    found, changed = (sac_targets(sac, data, noise) for _ in range(2))
    assert torch.equal(found, changed)
    observations = data.inputs.observations.clone()
    observations[-1] += 1.0  # only the final one
    data = data._replace(inputs=data.inputs._replace(observations=observations))
    changed = sac_targets(sac, data, noise)
    assert torch.equal(found[:-1], changed[:-1])
    if bootstrap:
        assert (found[-1] != changed[-1]).all()
    else:
        assert torch.equal(found[-1], data.rewards[-1])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_dqn_targets_are_those_of_a_slow_loop(steps: int, bootstrap: bool) -> None:
    dqn, data = with_data(
        RecurrentDQN, lambda n: Arms(n, horizon=2), steps=steps, bootstrap=bootstrap
    )
    params = dqn.learned["critic"].params
    found = dqn.targets(data, dqn.policy.values(params, data.inputs))
    for n, lane in enumerate(lanes_of(data)):
        own, target = (
            dqn.policy.critic(p, read_slowly(dqn.policy.history, p, lane.inputs))[0, :, 0]
            for p in (params, dqn.target)
        )
        end = len(lane.rewards)
        assert end == 6
        for t in range(end):
            m = min(steps, end - t)
            y = sum(0.99**k * float(lane.rewards[t + k]) for k in range(m))
            if t + m < end or bootstrap:
                y += 0.99**m * float(target[t + m, own[t + m].argmax()])
            assert float(found[t, n]) == pytest.approx(y, rel=1e-4, abs=1e-4)


def gradients_of_a_step(algorithm: Any, data: Sequences, patch: pytest.MonkeyPatch) -> Any:
    """The gradient of each loss of one step on these data, and what was moved by whom."""
    found: dict[str, Tensor] = {}
    plain = Learned.descend

    def spy(self: Learned, what: str, loss: Tensor, leaf: Tensor, lr: float) -> None:
        found[what] = torch.autograd.grad(loss, leaf, retain_graph=True)[0]
        before = {n: flatten(part.params).clone() for n, part in algorithm.learned.items()}
        plain(self, what, loss, leaf, lr)
        for name, part in algorithm.learned.items():
            assert (part is self) == (not torch.equal(flatten(part.params), before[name]))

    with patch.context() as context:
        context.setattr(Learned, "descend", spy)
        context.setattr(algorithm.trials, "sample", lambda *args, **options: data)
        context.setattr(type(algorithm), "_moments", None)  # they are normalised already
        algorithm._step(np.random.default_rng(0))
    return found


def test_each_gradient_of_sac_is_that_of_its_own_loss_on_whole_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against trials one by one, unpadded, with everything else held constant by hand."""
    sac, data = with_data(RecurrentSAC, Stairs)
    rng = np.random.default_rng(0)
    of_next, of_action = (
        torch.from_numpy(rng.standard_normal(data.actions.shape, dtype=np.float32)) for _ in "ab"
    )
    y, alpha, count = sac_targets(sac, data, of_next), sac.alpha, int(data.valid.sum())
    critic = {n: p.clone().requires_grad_() for n, p in sac.learned["critic"].params.items()}
    actor = {n: p.clone().requires_grad_() for n, p in sac.learned["actor"].params.items()}
    losses = [torch.zeros(()) for _ in range(3)]
    for n, lane in enumerate(lanes_of(data)):
        end = len(lane.rewards)
        read = sac.memory(critic, lane.inputs)[:end]
        q = sac.critics(critic, read, lane.actions)
        losses[0] = losses[0] + (q - y[:end, n : n + 1]).square().sum() / count
        pi = sac.policy.sequence(actor, lane.inputs)
        pi = type(pi)(pi.mean[:end], pi.log_std[:end])
        action, log_probs = pi.sample_and_log_prob(of_action[:end, n : n + 1])
        q = sac.critics({k: p.detach() for k, p in critic.items()}, read.detach(), action)
        losses[1] = losses[1] + (alpha * log_probs - q.min(0).values).sum() / count
        losses[2] = losses[2] - (log_probs.detach() - 2.0).sum() / count  # d/d log α
    expected = {
        "the critics' loss": torch.autograd.grad(losses[0], [*critic.values()]),
        "the actor's loss": torch.autograd.grad(losses[1], [*actor.values()]),
        "the temperature's loss": [losses[2].detach()],
    }
    found = gradients_of_a_step(sac, data, monkeypatch)
    assert found.keys() == expected.keys()
    for name, parts in expected.items():
        whole = torch.cat([p.flatten() for p in parts])
        assert whole.abs().max() > 1e-4
        torch.testing.assert_close(found[name], whole, rtol=1e-3, atol=1e-5)


def test_a_step_of_sac_asks_the_actor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of the steps, and of those after them, is one pass through its memory."""
    sac, data = with_data(RecurrentSAC, Stairs)
    asked: list[Inputs] = []
    sequence = type(sac.policy).sequence

    def spy(self: Any, params: Mapping[str, Tensor], inputs: Inputs) -> Any:
        asked.append(inputs)
        return sequence(self, params, inputs)

    monkeypatch.setattr(type(sac.policy), "sequence", spy)
    monkeypatch.setattr(sac.trials, "sample", lambda *args, **options: data)
    sac._step(np.random.default_rng(0))
    assert [len(inputs.observations) for inputs in asked] == [len(data.rewards) + 1]


def test_the_gradient_of_dqn_does_not_reach_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    dqn, data = with_data(RecurrentDQN, lambda n: Arms(n, horizon=2))
    leaves = {n: p.clone().requires_grad_() for n, p in dqn.learned["critic"].params.items()}
    q = dqn.policy.values(leaves, data.inputs)
    y = dqn.targets(data, q.detach()).clone()
    taken = q[:-1].gather(-1, data.actions.unsqueeze(-1)).squeeze(-1)
    expected = torch.autograd.grad((taken - y).square().mean(), [*leaves.values()])
    found = gradients_of_a_step(dqn, data, monkeypatch)["the critic's loss"]
    whole = torch.cat([p.flatten() for p in expected])
    assert whole.abs().max() > 1e-4
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_targets_follow_slowly_and_start_as_the_critics() -> None:
    sac, worker = make(RecurrentSAC, Line, target_rate=0.25, updates=1)
    start = sac.target
    assert all(torch.equal(p, sac.learned["critic"].params[n]) for n, p in start.items())
    train(sac, worker, 1)
    for name, p in sac.target.items():
        expected = 0.75 * start[name] + 0.25 * sac.learned["critic"].params[name]
        torch.testing.assert_close(p, expected)


@pytest.mark.parametrize("cls", [RecurrentSAC, RecurrentDQN])
def test_the_setting_of_what_is_kept_has_its_name(cls: Any) -> None:
    algorithm, _ = make(cls, Arms if cls is RecurrentDQN else Line, capacity=7)
    (replay,) = algorithm.buffers.values()
    assert getattr(algorithm.config, replay.setting) == replay.capacity == 7


# --- what is shown, and who explores ------------------------------------------------------------


@pytest.mark.parametrize("normalize_inputs", [True, False])
@pytest.mark.parametrize("cls", [RecurrentSAC, RecurrentDQN])
def test_the_update_is_shown_what_the_rollout_was(cls: Any, normalize_inputs: bool) -> None:
    """By the moments of that moment: trials of any age come back to the same actions."""
    discrete = cls is RecurrentDQN
    env = (lambda n: Arms(n, horizon=2)) if discrete else Stairs
    options: dict[str, Any] = {"normalize_inputs": normalize_inputs}
    options |= {"initial_epsilon": 0.0} if discrete else {}
    algorithm, worker = make(cls, env, **options)
    train(algorithm, worker, 3)
    for part in algorithm.learned.values():
        part.params = grown(part.params)
    trial = algorithm.collect(worker, Key(1, 4)).trials[0]
    data = sequences(trial, bootstrap=True)
    moments = algorithm.trials.moments
    assert moments.count > 0
    if normalize_inputs:
        data = data._replace(inputs=all_normalized(data.inputs, moments))
    else:
        assert torch.equal(
            data.inputs.observations[0], shown_in(trial).observations[:, :, 0].flatten(0, 1)
        )
    played = trial.log_probs.flatten(0, 1).T
    if discrete:
        q = algorithm.policy.values(algorithm.learned["critic"].params, data.until_the_last)
        assert torch.equal(q.argmax(-1)[data.valid], data.actions[data.valid])
    else:
        pi = algorithm.policy.sequence(algorithm.learned["actor"].params, data.until_the_last)
        again = pi.log_prob(data.actions)
        torch.testing.assert_close(again[data.valid], played[data.valid], rtol=1e-3, atol=1e-3)


def huge(n: int) -> Line:
    """A line whose observations are of the order of 10⁶."""
    env = Line(n)
    observe = env._observe
    env._observe = lambda: 1e6 * (1.0 + observe())  # type: ignore[method-assign]
    return env


@pytest.mark.parametrize("normalize_inputs", [True, False])
def test_the_first_trials_are_random_whatever_the_scale(normalize_inputs: bool) -> None:
    options = {"initial_trials": 300, "normalize_inputs": normalize_inputs}
    sac, worker = make(RecurrentSAC, huge, **options)
    first, second = sac.collect(worker, Key(1, 1)).trials
    assert first.valid.shape[:2] == (300, 1)
    assert second.valid.shape[:2] == (3, 2)
    actions = first.actions.flatten().sort().values
    uniform = torch.linspace(-1.0, 1.0, len(actions))
    assert (actions - uniform).abs().max() < 0.15  # tanh of N(0, 1): 0.12 at most
    assert len(np.unique(first.rewards[:, 0, 0].numpy())) == 300  # each with a task of its own
    dqn, worker = make(RecurrentDQN, Arms, initial_trials=500, initial_epsilon=0.0)
    first, second = dqn.collect(worker, Key(1, 1)).trials
    share = torch.bincount(first.actions.flatten(), minlength=5) / first.actions.numel()
    assert (share - 0.2).abs().max() < 0.05
    assert dqn.collect(worker, Key(1, 2)).trials[0].actions.unique().numel() < 5


def test_the_first_trials_share_no_task_and_no_stream_with_the_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sac, worker = make(RecurrentSAC, Line)
    played: list[tuple[set[float], set[Key]]] = []
    collect = RolloutWorker.collect

    def spy(self: Any, actor: Any, tasks: np.ndarray, lanes: int, key: Key, episodes: int) -> Any:
        streams = {key.at(key.adaptation_step + e) for e in range(episodes)}
        played.append((set(tasks.ravel().tolist()), streams))
        return collect(self, actor, tasks, lanes, key, episodes)

    monkeypatch.setattr(RolloutWorker, "collect", spy)
    sac.collect(worker, Key(1, 1))
    (first_tasks, first_streams), (tasks, streams) = played
    assert len(first_tasks) == 5
    assert len(streams) == 3
    assert not first_tasks & tasks
    assert not first_streams & streams


def test_epsilon_falls_by_iterations_and_is_played() -> None:
    changes = {"initial_epsilon": 0.9, "final_epsilon": 0.1, "epsilon_iterations": 4}
    dqn, worker = make(RecurrentDQN, Arms, **changes)
    found = [row["epsilon"] for row in train(dqn, worker, 6)]
    assert found == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1, 0.1])
    policy: GreedyPolicy = dqn.policy
    q = {n: p.clone() for n, p in dqn.learned["critic"].params.items()}
    hidden, fed = torch.zeros(1, policy.core.width), torch.zeros(1, policy.features.size)
    best = int(policy.critic(q, hidden, fed).argmax())
    pi, value = policy.decide(q, hidden, fed)
    expected = torch.full((1, 5), 0.1 / 5)
    expected[0, best] = 0.9 + 0.1 / 5
    torch.testing.assert_close(torch.softmax(pi.logits, -1), expected)
    assert int(pi.mode()) == best
    assert float(value) == float(policy.critic(q, hidden, fed).max())
    noise = torch.from_numpy(pi.noise(np.random.default_rng(0), (20_000, 5)))
    assert float((pi.sample(noise) == best).float().mean()) == pytest.approx(0.92, abs=0.01)


def test_iterations_draw_alike_and_other_seeds_do_not() -> None:
    found = []
    for seed in (1, 1, 2):
        sac, worker = make(RecurrentSAC, Line, seed=seed)
        train(sac, worker, 2)
        found.append(flatten(sac.learned["actor"].params))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_long_gradients_are_shortened() -> None:
    for max_norm, expected in ((None, -30.0), (1.5, -1.5)):
        learned = Learned({"x": torch.zeros(1)}, "cpu", max_norm=max_norm)
        learned.step("a loss", lambda params: 30.0 * params["x"].sum(), 0.1)
        mean = learned.state_dict()["adam"]["mean"]
        assert float(mean) == pytest.approx(-0.1 * expected, rel=1e-5)


# --- learning to learn ----------------------------------------------------------------------------

LESSON: dict[str, Any] = {
    "tasks": 16,
    "lanes": 1,
    "initial_trials": 64,
    "capacity": 1000,
    "batch_trials": 32,
    "updates": 20,
    "width": 16,
    "head_sizes": (32,),
    "lr": 0.01,
    "discount": 0.9,
    "target_rate": 0.05,
    "bootstrap": False,
}


def returns(algorithm: Any, worker: RolloutWorker, tasks: list[float], more: int) -> np.ndarray:
    """Mean returns of a trial's episodes, deterministic."""
    agent = algorithm.agent("deterministic", Key(5, evaluation=True))
    plan = EvaluationPlan("held_out", episodes=1, adaptation_steps=more, seed=5)
    found = evaluate(agent, worker.env(len(tasks)), np.array(tasks)[:, None], plan)
    return found.task_returns.mean(1)


def test_sac_learns_to_aim_by_what_it_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who forgets earns −0.6 in every episode at best, who remembers 0."""
    sac, worker = make(RecurrentSAC, Aim, **LESSON | {"episodes": 2, "temperature": 0.05})
    train(sac, worker, 10)
    assert min(returns(sac, worker, [-0.6, 0.6], 1)) > -0.25
    without_memory(monkeypatch)
    assert max(returns(sac, worker, [-0.6, 0.6], 1)) < -0.45


class ShortRecall(Recall):
    """Wait for a step, not three."""

    WAIT = 1


def test_dqn_learns_from_episode_to_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimum is 0, 1, 1; who forgets has 0 in every episode at best."""
    options = {"episodes": 3, "steps": 2, "epsilon_iterations": 15, "final_epsilon": 0.1}
    dqn, worker = make(RecurrentDQN, ShortRecall, **LESSON | options)
    train(dqn, worker, 20)
    assert returns(dqn, worker, [1.0, 2.0], 2).tolist() == [0.0, 1.0, 1.0]
    without_memory(monkeypatch)
    assert max(returns(dqn, worker, [1.0, 2.0], 2)) <= 0.0
