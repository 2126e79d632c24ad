"""VariBAD: its lower bound, where gradients flow and where not, and that it learns to believe."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from metarl import envs
from metarl.algorithms.rl2 import RL2, time_first
from metarl.algorithms.settings.varibad import VariBADSettings
from metarl.algorithms.varibad import VariBAD
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.maths.distributions import DiagonalGaussian
from metarl.maths.params import flatten, unflatten
from metarl.networks.belief import BeliefActor, BeliefEncoder
from metarl.networks.recurrent import normalized
from metarl.random import Key
from metarl.types import Inputs
from tests.experience.test_rollout import Stairs
from tests.image_grid import ImageGrid
from tests.toy_envs import Arms, Line, Recall

SMALL: dict[str, Any] = {
    "tasks": 3,
    "lanes": 2,
    "episodes": 2,
    "width": 8,
    "minibatches": 2,
    "latent": 2,
    "head_sizes": (8,),
    "decoder_sizes": (6, 5),
    "model_updates": 2,
    "model_trials": 4,
}


def make(env: Any = Stairs, seed: int = 1, **changes: Any) -> tuple[VariBAD, RolloutWorker]:
    worker = RolloutWorker(env)
    return VariBAD(VariBADSettings(**(SMALL | changes)), *worker.spaces, seed), worker


def train(
    varibad: VariBAD, worker: RolloutWorker, iterations: int, first: int = 1
) -> list[dict[str, float]]:
    found = []
    for iteration in range(first, first + iterations):
        batch = varibad.collect(worker, Key(1, iteration))
        found.append(batch.metrics | varibad.update(batch))
    return found


def small_grid(num_lanes: int) -> Any:
    return envs.make("grid_world", num_lanes, size=3, horizon=6)


# --- the lower bound --------------------------------------------------------------------------


class Noise:
    """A generator whose normal draws are given."""

    def __init__(self, noise: Tensor) -> None:
        self._noise = noise.numpy()

    def standard_normal(self, shape: Any, dtype: Any) -> np.ndarray:
        return self._noise[: shape[0], : shape[1]].astype(dtype)


def doubled(varibad: VariBAD) -> dict[str, Tensor]:
    """Its model's parameters in float64, moved from where symmetric weights would hide an error."""
    rng = np.random.default_rng(5)
    return {
        name: p.double() + 0.1 * torch.from_numpy(rng.standard_normal(p.shape))
        for name, p in varibad.model_params.items()
    }


def recent_double(varibad: VariBAD) -> tuple[Any, Tensor]:
    trial, tasks = varibad.recent.sample(np.random.default_rng(3), 3)
    rows = {n: x for n, x in vars(trial).items() if isinstance(x, Tensor)}
    double = {n: x.double() if x.dtype == torch.float32 else x for n, x in rows.items()}
    return type(trial)(**vars(trial) | double), tasks


def log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (-0.5 * ((x - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)).sum()


def of_pair(varibad: VariBAD, p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A decoder's output for one m and one step, layer by layer."""
    depth = len(varibad.config.decoder_sizes)
    for i in range(depth + 1):
        x = x @ p[f"{name}{i}.weight"] + p[f"{name}{i}.bias"]
        x = x if i == depth else x.clamp(min=0)
    return x


def slow_negative_elbo(varibad: VariBAD, p: dict[str, Tensor], noise: Tensor) -> Tensor:
    """The bound as its formula says it: a loop over trials, over t and over s."""
    trial, tasks = recent_double(varibad)
    config, of_reward = varibad.config, varibad.input_moments.columns(slice(-1, None))
    inputs = normalized(Inputs(*map(time_first, shown_in(trial))), of_reward)
    beliefs = varibad.encoder.sequence(p, inputs)
    reached = trial.next_observations()
    losses = []
    for n in range(len(tasks)):
        length, loss = int(trial.valid[n].sum()), torch.zeros((), dtype=torch.float64)
        mean, std = torch.zeros(2).double(), torch.ones(2).double()
        for t in range(length):
            mu, sigma = beliefs.mean[t, n], beliefs.log_std[t, n].exp()
            m = mu + sigma * noise[t, n]
            kl = (std / sigma).log() + (sigma**2 + (mu - mean) ** 2) / (2 * std**2) - 0.5
            loss = loss + config.kl_weight * kl.sum()
            for s in range(length):
                o, after, r = (x[n, 0, s] for x in (trial.observations, reached, trial.rewards))
                a = trial.actions[n, 0, s].clamp(-1, 1) if not varibad.policy.discrete else None
                if a is None:
                    a = torch.eye(varibad.policy.action_dim).double()[trial.actions[n, 0, s]]
                if config.decode_rewards == "bernoulli_by_state":
                    logit = of_pair(varibad, p, "rewards", m)[after.argmax()]
                    chance = torch.sigmoid(logit)
                    loss = loss - (chance if r > 0 else 1 - chance).log()
                elif config.decode_rewards == "bernoulli":
                    logit = of_pair(varibad, p, "rewards", torch.cat([m, o, a, after]))[0]
                    chance = torch.sigmoid(logit)
                    loss = loss - (chance if r > 0 else 1 - chance).log()
                elif config.decode_rewards == "squared_error":
                    told = of_pair(varibad, p, "rewards", torch.cat([m, o, a, after]))[0]
                    r = (r - of_reward.mean[0]) / of_reward.std[0]
                    loss = loss + 0.5 * (told - r) ** 2
                if config.decode_states:
                    told = of_pair(varibad, p, "states", torch.cat([m, o, a]))
                    loss = loss + 0.5 * ((told - after) ** 2).sum()
            if config.decode_tasks:
                assert varibad.task_moments is not None
                task = (tasks[n] - varibad.task_moments.mean) / varibad.task_moments.std
                loss = loss + 0.5 * ((of_pair(varibad, p, "tasks", m) - task) ** 2).sum()
            mean, std = mu, sigma
        losses.append(loss)
    return torch.stack(losses).mean()


KINDS = [
    (Stairs, {}),  # episodes, and so trials, of uneven lengths
    (Stairs, {"decode_states": True, "decode_tasks": True, "decode_rewards": "none"}),
    (lambda n: Arms(n, horizon=2), {"decode_rewards": "bernoulli", "kl_weight": 0.3}),
    (small_grid, {"decode_rewards": "bernoulli_by_state", "core": "gru"}),
]


@pytest.mark.parametrize(("env", "changes"), KINDS, ids=["rewards", "states", "pays", "by_state"])
def test_the_loss_is_the_bound_by_its_formula(env: Any, changes: dict[str, Any]) -> None:
    varibad, worker = make(env, **changes)
    train(varibad, worker, 1)
    params, (trial, tasks) = doubled(varibad), recent_double(varibad)
    noise = torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(1)).double()
    noise = noise.float().double()
    of_reward = varibad.input_moments.columns(slice(-1, None))
    rng: Any = Noise(noise)
    found, _ = varibad.negative_elbo(params, trial, tasks, rng, of_reward)
    expected = slow_negative_elbo(varibad, params, noise)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(("env", "changes"), KINDS, ids=["rewards", "states", "pays", "by_state"])
def test_its_gradient_is_that_of_finite_differences(env: Any, changes: dict[str, Any]) -> None:
    varibad, worker = make(env, **changes)
    train(varibad, worker, 1)
    params, (trial, tasks) = doubled(varibad), recent_double(varibad)
    of_reward = varibad.input_moments.columns(slice(-1, None))

    def loss(x: Tensor) -> Tensor:
        options = trial, tasks, np.random.default_rng(7), of_reward
        return varibad.negative_elbo(unflatten(x, params), *options)[0]

    x = flatten(params).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    rng = np.random.default_rng(2)
    for _ in range(3):
        direction = torch.from_numpy(rng.standard_normal(len(x)))
        step = 1e-6 * direction
        with torch.no_grad():
            slope = (loss(x + step) - loss(x - step)) / 2e-6
        assert float(gradient @ direction) == pytest.approx(float(slope), rel=1e-4, abs=1e-5)


def test_some_terms_and_steps_estimate_all_of_them() -> None:
    """The mean over many draws of the subsets, at a belief without spread, is the full sum."""
    varibad, worker = make(Stairs)
    train(varibad, worker, 1)
    params, (trial, tasks) = doubled(varibad), recent_double(varibad)
    params["encoder.belief.weight"][:, 2:] = 0.0
    params["encoder.belief.bias"][2:] = -40.0  # log σ²: m is the mean
    of_reward = varibad.input_moments.columns(slice(-1, None))
    full, _ = varibad.negative_elbo(params, trial, tasks, np.random.default_rng(0), of_reward)
    some = varibad.config.model_copy(update={"elbo_terms": 3, "decoded_steps": 2})
    varibad.config = some
    rng = np.random.default_rng(1)
    drawn = torch.stack(
        [varibad.negative_elbo(params, trial, tasks, rng, of_reward)[0] for _ in range(200)]
    )
    error = float(drawn.std()) / math.sqrt(len(drawn))
    assert error > 0.0
    assert abs(float(drawn.mean() - full)) < 4 * error


def test_the_first_belief_is_what_the_encoder_says_of_an_empty_memory() -> None:
    """It is no standard normal, and the KL from that one is counted."""
    varibad, worker = make()
    batch = varibad.collect(worker, Key(1, 1))
    seen = batch.trial.observations[:, :, 0]
    belief = seen[..., 2:].flatten(0, 1)
    inputs = Inputs(*(x[:1] for x in map(time_first, shown_in(varibad._as_shown(batch.trial)))))
    assert batch.moments is not None
    shown = normalized(inputs, batch.moments.columns(slice(-1, None)))
    expected = varibad.encoder.sequence(varibad.model_params, shown)
    both = torch.cat([expected.mean[0], 2 * expected.log_std[0]], dim=-1)
    torch.testing.assert_close(belief, both, rtol=1e-5, atol=1e-6)
    assert belief.abs().max() > 0.01


# --- where gradients flow ---------------------------------------------------------------------


def test_the_policys_loss_reaches_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the belief's own learning cut out, PPO moves all of the policy and none of the model."""
    monkeypatch.setattr(VariBAD, "_learn_beliefs", lambda *args: {})
    varibad, worker = make()
    batch = varibad.collect(worker, Key(1, 1))
    model = {name: p.clone() for name, p in varibad.model_params.items()}
    policy = {name: p.clone() for name, p in varibad.params.items()}
    evaluation = varibad._evaluation(batch.trial, batch.moments)
    for part in evaluation(flatten(varibad.params), torch.arange(2)):
        assert not part.requires_grad
    varibad.update(batch)
    assert all(torch.equal(p, model[name]) for name, p in varibad.model_params.items())
    assert [n for n, p in varibad.params.items() if not torch.equal(p, policy[n])] == list(policy)


def test_the_bound_reaches_no_policy_and_all_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RL2, "update", lambda self, batch: {})
    varibad, worker = make(decode_states=True, decode_tasks=True)
    batch = varibad.collect(worker, Key(1, 1))
    model = {name: p.clone() for name, p in varibad.model_params.items()}
    policy = {name: p.clone() for name, p in varibad.params.items()}
    varibad.update(batch)
    assert all(torch.equal(p, policy[name]) for name, p in varibad.params.items())
    moved = [n for n, p in varibad.model_params.items() if not torch.equal(p, model[n])]
    assert moved == list(model)


def test_the_map_of_tasks_changes_nothing_but_itself() -> None:
    states = []
    for with_map in (True, False):
        varibad, worker = make(lambda n: Line(n, horizon=4))
        batch = varibad.collect(worker, Key(1, 1))
        assert varibad.map is not None
        varibad.map = varibad.map if with_map else None
        varibad.update(batch)
        states.append(varibad)
    for name in ("params", "model_params"):
        a, b = (getattr(varibad, name) for varibad in states)
        assert all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("core", ["lstm", "gru"])
@pytest.mark.parametrize("env", [Stairs, lambda n: Arms(n, horizon=2)], ids=["normal", "discrete"])
def test_the_ratio_is_one_before_an_update(
    env: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    varibad, worker = make(env, epochs=1, minibatches=1, core=core)
    first: list[dict[str, float]] = []
    loss = type(varibad.ppo).loss

    def spy(self: Any, new: Any, old: Any) -> Any:
        found = loss(self, new, old)
        first.append({name: float(x) for name, x in found[1].items()})
        return found

    monkeypatch.setattr(type(varibad.ppo), "loss", spy)
    train(varibad, worker, 3)
    assert len(first) == 3
    for parts in first:
        assert abs(parts["kl/update"]) < 1e-9
        assert parts["clip_fraction"] == 0.0


def test_beliefs_of_the_rollout_are_those_of_the_sequence() -> None:
    """In every iteration, although the statistics of the inputs move on in between."""
    varibad, worker = make()
    for iteration in (1, 2):
        batch = varibad.collect(worker, Key(1, iteration))
        assert batch.moments is not None
        inputs = Inputs(*map(time_first, shown_in(varibad._as_shown(batch.trial))))
        shown = normalized(inputs, batch.moments.columns(slice(-1, None)))
        q = varibad.encoder.sequence(varibad.model_params, shown)
        held = time_first(batch.trial.observations)[..., 2:]
        valid = time_first(batch.trial.valid)
        both = torch.cat([q.mean, 2 * q.log_std], dim=-1)
        torch.testing.assert_close(held[valid], both[valid], rtol=1e-4, atol=1e-5)
        varibad.update(batch)


# --- exactness --------------------------------------------------------------------------------


def test_a_restored_run_goes_on_to_the_same_bits() -> None:
    """Recent trials, Adam's two memories, the decoder of tasks and the map among what is saved."""
    options = {"decode_tasks": True, "recent_trials": 10}
    varibad, worker = make(**options)
    train(varibad, worker, 2)
    file = io.BytesIO()
    torch.save(varibad.state_dict(), file)
    expected = train(varibad, worker, 2, first=3)
    file.seek(0)
    again, worker = make(seed=7, **options)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert len(again.recent) == 10
    assert train(again, worker, 2, first=3) == expected
    torch.testing.assert_close(again.state_dict(), varibad.state_dict(), rtol=0.0, atol=0.0)


def test_a_state_of_another_model_is_refused() -> None:
    varibad, worker = make()
    train(varibad, worker, 1)
    state = varibad.state_dict()
    with pytest.raises(ValueError, match="model_params"):
        make(decoder_sizes=(7, 5))[0].load_state_dict(state)
    with pytest.raises(ValueError, match="recent trials"):
        make()[0].load_state_dict(state | {"recent": [{"rewards": torch.zeros(1)}]})


def test_two_runs_of_one_seed_are_equal_and_of_two_differ() -> None:
    found = [train(*make(seed=seed), 2)[-1] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_the_memory_that_trials_take_is_said_once_before_any_is_played() -> None:
    varibad, worker = make(lambda n: Line(n, horizon=50), recent_trials=1000)
    said: list[str] = []
    worker.say = said.append
    train(varibad, worker, 2)
    (line,) = said
    # 1,000 trials of 2 × 50 steps: observation 8 bytes, action 4, reward 4, flags 4
    assert line.startswith("Beliefs are learned from up to 1000 recent trials of 100 steps, 2 MB")


def test_a_belief_is_of_every_lane_and_told_once_it_acted() -> None:
    varibad, worker = make(lambda n: Line(n, horizon=3))
    train(varibad, worker, 1)
    agent = varibad.agent("deterministic", Key(1, evaluation=True))
    agent.begin(3, 4)
    with pytest.raises(ValueError, match="call act"):
        agent.belief()
    agent.act(np.zeros((3, 4, 2)), np.ones((3, 4), dtype=bool))
    belief = agent.belief()
    assert belief.mean.shape == belief.std.shape == (3, 4, 2)
    assert belief.points is not None
    assert belief.points.shape == (60, 1)
    assert np.abs(belief.points).max() < 1.0
    assert belief.probabilities is not None
    np.testing.assert_allclose(belief.probabilities.sum(-1), np.ones((3, 4)), rtol=1e-5)
    assert np.array_equal(agent.belief((2, 0)).mean, belief.mean[2, 0])


# --- settings and refusals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decode_rewards": "none"}, "nothing to decode"),
        ({"tasks": 2, "lanes": 1, "minibatches": 3}, "at most tasks × lanes"),
        ({"decode_rewards": "exact"}, "squared_error"),
        ({"policy_embeddings": (0, -1)}, "0 or more"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        VariBADSettings(**changes)


def test_images_and_observations_that_are_no_states_are_refused() -> None:
    with pytest.raises(ValueError, match="about numbers and not about images"):
        make(ImageGrid)
    with pytest.raises(ValueError, match="needs one-hot observations"):
        make(Line, decode_rewards="bernoulli_by_state")


# --- learning to believe ----------------------------------------------------------------------

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
    "head_sizes": (16,),
    "decoder_sizes": (16,),
    "latent": 2,
    "kl_weight": 0.1,
    "model_lr": 0.005,
    "model_updates": 4,
}


def recalled(varibad: VariBAD, worker: RolloutWorker) -> Evaluation:
    """Three episodes of a trial, stochastic."""
    agent = varibad.agent("stochastic", Key(5, evaluation=True))
    plan = EvaluationPlan("held_out", episodes=100, adaptation_steps=2, seed=5)
    return evaluate(agent, worker.env(200), np.array([[1.0], [2.0]]), plan)


def recall_returns(varibad: VariBAD, worker: RolloutWorker) -> np.ndarray:
    """Mean returns of these episodes."""
    return recalled(varibad, worker).task_returns.mean(1)


def without_memory(patch: pytest.MonkeyPatch) -> None:
    """The same agent, its memory emptied before every step, in rollouts and in learning."""
    step = BeliefActor.step

    def single_steps(self: BeliefEncoder, params: Any, inputs: Inputs) -> DiagonalGaussian:
        x = self.fed(params, inputs)
        rows = x.flatten(0, 1).unsqueeze(0)  # [1, S·N, ·]: every step is a trial's first
        hidden, _ = self.core.sequence(params, rows, self.core.initial(rows.shape[1], rows))
        mean, log_variance = self.belief(params, hidden).view(*x.shape[:2], -1).chunk(2, -1)
        return DiagonalGaussian(mean, 0.5 * log_variance)

    patch.setattr(BeliefActor, "step", lambda self, inputs, memory: step(self, inputs, None))
    patch.setattr(BeliefEncoder, "sequence", single_steps)


def test_it_learns_to_believe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimum is 0, 1, 1; who forgets has 0 in every episode at best."""
    varibad, worker = make(Recall, **RECALL)
    train(varibad, worker, 60)
    found = recalled(varibad, worker)
    first, second, third = found.task_returns.mean(1)
    assert abs(first) < 0.3
    assert min(second, third) > 0.8
    # And what it believes can be read: which side pays is open until the first choice was paid.
    assert found.beliefs is not None
    of_truth = [found.beliefs.probabilities[:, i, :, i] for i in found.beliefs.tasks.argsort()]
    assert of_truth[0][0, 0] + of_truth[1][0, 0] == pytest.approx(1.0)  # one belief of both
    for sure in of_truth:  # [K+1, T]
        assert sure[0].max() < 0.9 < sure[1:].min()
    without_memory(monkeypatch)
    assert max(recall_returns(varibad, worker)) < 0.3


@pytest.mark.slow
def test_without_memory_it_cannot_learn_that(monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(monkeypatch)
    varibad, worker = make(Recall, **RECALL)
    train(varibad, worker, 60)
    assert max(recall_returns(varibad, worker)) < 0.3
