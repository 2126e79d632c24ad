"""MetaGenRL: its outer gradient, whose task is whose, that it learns an objective, and is exact."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.algorithms.metagenrl import MetaGenRL
from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.envs import TaskVectorEnv, UniformInterval
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.rollout import RolloutWorker
from metarl.maths.adam import Learned
from metarl.maths.params import flatten, unflatten
from metarl.random import Key
from tests.toy_envs import Arms, Line

SMALL: dict[str, Any] = {
    "population": 3,
    "lanes": 2,
    "random_steps": 10,
    "anneal_steps": 15,
    "hidden_sizes": (8,),
    "sequence": 3,
    "batch": 4,
    "capacity": 60,
    "objective_width": 4,
}


class Plane(TaskVectorEnv):
    """Two actions and three numbers to see: a ← is judged by −‖a − g‖₁, the goal is not seen."""

    def __init__(self, num_envs: int, horizon: int = 4) -> None:
        tasks = UniformInterval(-0.8, 0.8, "goal", "")
        box, action = spaces.Box(-1.0, 1.0, (3,), np.float64), spaces.Box(-1.0, 1.0, (2,))
        super().__init__(num_envs, tasks, horizon, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        pass

    def _advance(self, actions: Any, live: Any) -> Any:
        return -np.abs(actions - self._tasks).sum(-1), None

    def _observe(self) -> Any:
        return np.tile(self._steps[:, None] / self.horizon, 3)


class Late(TaskVectorEnv):
    """The first of two actions is judged by −|a − target|, and that is paid with the second."""

    def __init__(self, num_envs: int) -> None:
        self._first = np.zeros(num_envs)
        tasks = UniformInterval(-0.8, 0.8, "target", "")
        box, action = spaces.Box(-1.0, 1.0, (2,), np.float64), spaces.Box(-1.0, 1.0, (1,))
        super().__init__(num_envs, tasks, 2, box, action)

    def _reset_lanes(self, lanes: Any) -> None:
        self._first[lanes] = 0.0

    def _advance(self, actions: Any, live: Any) -> Any:
        first = self._steps == 0
        self._first = np.where(first, np.clip(actions[:, 0], -1.0, 1.0), self._first)
        return np.where(first, 0.0, -np.abs(self._first - self._tasks[:, 0])), ~first

    def _observe(self) -> Any:
        return np.stack([self._steps / 2.0, self._first], axis=-1)


def make(**changes: Any) -> tuple[MetaGenRL, RolloutWorker]:
    """A population in two environments of different spaces."""
    worker = RolloutWorker(Line)
    worker.others["plane"] = RolloutWorker(Plane)
    settings = MetaGenRLSettings(**(SMALL | changes))
    return MetaGenRL(settings, *worker.spaces, 1, further=[worker.others["plane"].spaces]), worker


def train(algorithm: MetaGenRL, worker: RolloutWorker, *iterations: int) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for iteration in iterations:
        batch = algorithm.collect(worker, Key(1, iteration))
        metrics = batch.metrics | algorithm.update(batch)
    return metrics


def doubled(algorithm: MetaGenRL) -> None:
    """Everything that its gradients depend on in float64, with last layers that matter."""
    parts: list[Learned] = [algorithm.objective]
    for group in algorithm.groups:
        parts += group.learned.values()
    for part in parts:
        large = {n: 30.0 if p.abs().max() < 0.0031 else 1.0 for n, p in part.params.items()}
        part.params = {n: large[n] * p.double() for n, p in part.params.items()}


def test_the_outer_gradient_is_that_of_the_unrolled_update() -> None:
    algorithm, worker = make(inner_lr=0.5)
    train(algorithm, worker, 1)
    doubled(algorithm)
    rng = np.random.default_rng(0)
    inner, outer = (
        [
            type(b)(*(x.double() if x.is_floating_point() else x for x in b))
            for b in (group.sample(rng) for group in algorithm.groups)
        ]
        for _ in range(2)
    )
    found = algorithm.look_ahead(inner, outer)

    alpha = flatten(algorithm.objective.params).requires_grad_()
    objective = partial(algorithm.network, unflatten(alpha, algorithm.objective.params))
    worth = []
    for group, read, judged in zip(algorithm.groups, inner, outer, strict=True):
        phi = group.phi.requires_grad_()
        steps = group.steps(read, phi)
        own = sum(
            objective([steps])[0][m][steps.valid[m]].mean() for m in range(group.count)
        )  # one policy after the other
        (gradient,) = torch.autograd.grad(own, phi, create_graph=True)
        mean = group.worth(judged, phi - 0.5 * gradient)
        worth += list(mean / group.deviation(judged))
    (unrolled,) = torch.autograd.grad(-torch.stack(worth).mean(), alpha)
    assert unrolled.norm() > 0.0
    assert (found.outer - unrolled).norm() / unrolled.norm() < 1e-6


def test_every_agent_keeps_its_environment_and_its_task() -> None:
    algorithm, worker = make()
    assert [group.count for group in algorithm.groups] == [2, 1]
    assert [group.policy.action_dim for group in algorithm.groups] == [1, 2]
    first, second = (algorithm.collect(worker, Key(1, i)) for i in (1, 2))
    assert first.env_steps == 3 * 2 * 5 - 1 * 2 * 1
    assert first.metrics.keys() == {"return/env", "return/plane"}
    goals = [worker.sample_tasks(2, Key(1)), worker.others["plane"].sample_tasks(1, Key(1).at(1))]
    for batch in (first, second):
        for m, rows in enumerate(batch.episodes[0]):
            shown = rows["next_observations"][..., 0]
            torch.testing.assert_close(
                rows["rewards"], -(shown - float(goals[0][m, 0])).abs(), atol=1e-5, rtol=0
            )
        (rows,) = batch.episodes[1]
        missed = (rows["actions"] - float(goals[1][0, 0])).abs().sum(-1)
        torch.testing.assert_close(rows["rewards"], -missed, atol=1e-5, rtol=0)
    assert not torch.equal(first.episodes[0][0]["actions"], second.episodes[0][0]["actions"])
    assert not torch.equal(first.episodes[0][0]["actions"], first.episodes[0][1]["actions"])


def test_at_first_policies_follow_the_critic() -> None:
    algorithm, worker = make(anneal_steps=1000)
    train(algorithm, worker, 1)
    group = algorithm.groups[0]
    rng = np.random.default_rng(0)
    gradient, ascent = torch.from_numpy(rng.standard_normal((2, *group.phi.shape))).float()
    group.steps_kept = 250.0
    mixed = group._policies(algorithm._mixed(group, gradient, 1e-3 * ascent))
    ours, critics = (group._policies(x) for x in (gradient, ascent))
    for m in range(group.count):
        one, other, found = (
            torch.cat([p[m].flatten() for p in x.values()]) for x in (ours, critics, mixed)
        )
        expected = 0.25 * one / one.norm() - 0.75 * other / other.norm()
        torch.testing.assert_close(found, expected)
    group.steps_kept = 1000.0
    assert algorithm._mixed(group, gradient, ascent) is gradient


def test_in_every_second_life_the_critic_leads_in_turns() -> None:
    algorithm, worker = make(anneal_steps=15, lifetime=40)
    train(algorithm, worker, 1)
    group = algorithm.groups[0]
    rng = np.random.default_rng(0)
    gradient, ascent = torch.from_numpy(rng.standard_normal((2, *group.phi.shape))).float()
    for steps_kept, led in ((39.0, 0), (40.0, 1), (80.0, 0)):
        group.steps_kept = steps_kept
        found = algorithm._mixed(group, gradient, ascent)
        torch.testing.assert_close(group.cosines(-found, ascent)[led], torch.tensor(1.0))
        for name, part in group._policies(found).items():
            torch.testing.assert_close(part[1 - led], group._policies(gradient)[name][1 - led])


def test_units_of_an_environments_rewards_do_not_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, worker = make()
    train(algorithm, worker, 1)
    doubled(algorithm)
    rng = np.random.default_rng(0)
    batches = [
        type(b)(*(x.double() if x.is_floating_point() else x for x in b))
        for b in (group.sample(rng) for group in algorithm.groups)
    ]
    before = algorithm.look_ahead(batches, batches).outer
    dear = algorithm.groups[1]
    critic = dear.learned["critic"]
    critic.params = {n: 1e3 * p if n.startswith("critic1") else p for n, p in critic.params.items()}
    batches[1] = batches[1]._replace(rewards=1e3 * batches[1].rewards)
    torch.testing.assert_close(algorithm.look_ahead(batches, batches).outer, before)


def test_a_restored_run_goes_on_to_the_same_bits() -> None:
    straight, worker = make()
    train(straight, worker, 1, 2)
    saved = straight.state_dict()
    rings = {
        name: b"".join(part.tobytes() for part in ring.unsaved())
        for name, ring in straight.buffers.items()
    }
    again, _ = make()
    again.load_state_dict(saved)
    for name, ring in again.buffers.items():
        ring.load({"file": name}, np.frombuffer(rings[name], dtype=np.uint8))
    for algorithm in (straight, again):
        train(algorithm, worker, 3)
    for (name, a), b in zip(
        straight.state_dict()["params"].items(), again.state_dict()["params"].values(), strict=True
    ):
        assert torch.equal(a, b), name
    with pytest.raises(ValueError, match="params"):
        again.load_state_dict(saved | {"params": {}})


def test_what_it_cannot_live_in_is_refused() -> None:
    box, choice = spaces.Box(-1.0, 1.0, (2,)), Arms(1).single_action_space
    with pytest.raises(ValueError, match="its actions are numbers"):
        MetaGenRL(MetaGenRLSettings(), box, choice, 1)
    with pytest.raises(ValueError, match="its actions are numbers"):
        MetaGenRL(MetaGenRLSettings(), box, box, 1, further=[(box, choice)])
    with pytest.raises(ValueError, match="a population of 1 cannot live in 2 environments"):
        MetaGenRL(MetaGenRLSettings(population=1), box, box, 1, further=[(box, box)])


def test_its_agent_is_a_fresh_policy_in_any_environment() -> None:
    algorithm, worker = make()
    train(algorithm, worker, 1, 2)
    plan = EvaluationPlan("validation", 2, 2)
    for place, own in ((worker, None), (worker.others["plane"], worker.others["plane"].spaces)):
        tasks = place.sample_tasks(3, Key(7))
        found = []
        for _ in range(2):
            agent = algorithm.agent("deterministic", Key(4, evaluation=True), own)
            found.append(evaluate(agent, place.env(6), tasks, plan))
        assert np.array_equal(found[0].returns, found[1].returns)
        assert found[0].adaptation_axis == "env_steps"
        horizon = place.env(6).horizon
        assert found[0].env_steps_used.tolist() == [0.0, 2.0 * horizon, 4.0 * horizon]
        assert found[0].episodes_used == [0, 2, 4]
        # The policy has learned from noise, and all lanes of a task play one policy without it.
        assert not np.array_equal(found[0].returns[0], found[0].returns[-1])
        assert np.array_equal(found[0].returns[:, :, 0], found[0].returns[:, :, 1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_it_learns_an_objective_that_trains_fresh_policies(seed: int) -> None:
    """On tasks that the population did not have; the optimum is 0. Without an objective nothing."""
    worker = RolloutWorker(Late)
    settings = MetaGenRLSettings(
        population=8,
        lanes=8,
        random_steps=64,
        anneal_steps=600,
        lifetime=400,
        exploration_noise=0.3,
        hidden_sizes=(16,),
        sequence=2,
        capacity=2000,
        objective_width=16,
        critic_lr=1e-2,
        objective_lr=3e-3,
        target_rate=0.05,
        target_noise=0.0,
        discount=1.0,
    )
    algorithm = MetaGenRL(settings, *worker.spaces, seed)
    tasks, plan = np.array([[-0.7], [-0.3], [0.2], [0.6]]), EvaluationPlan("validation", 16, 20)

    def earned(**changes: float) -> np.ndarray:
        recipe = algorithm.recipe._replace(**changes)
        agent = algorithm.agent("deterministic", Key(5, evaluation=True), recipe=recipe)
        return evaluate(agent, worker.env(64), tasks, plan).task_returns

    train(algorithm, worker, *range(1, 151))
    learned = earned()
    params = algorithm.objective.params
    algorithm.objective.params = {n: torch.zeros_like(p) for n, p in params.items()}
    zeroed = earned(saturation_weight=0.0)
    assert zeroed[0].mean() == zeroed[-1].mean() < -0.4
    assert learned[-1].mean() > -0.2, learned[-1]
