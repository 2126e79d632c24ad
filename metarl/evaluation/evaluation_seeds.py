"""One evaluation repeated with several evaluation seeds: the same tasks, fresh resets and noise.

What an agent earns on a task depends on the resets and on its action noise; averaged over N seeds
that noise is N times smaller in variance. The seeds are repetitions within a task, and nothing of a
seed is shared between tasks (every task has streams of its own). So each task's return is averaged
over seeds first, and the statistics over tasks are those of one seed: as the noise is each task's
own, what is left of it is part of the spread between tasks, and so of every interval over tasks.
The standard deviation of the seeds' means says how far a single evaluation strays from the mean of
many; divided by √N it is the evaluation's own noise in the quoted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from metarl.evaluation.few_shot import evaluate_few_shot
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.protocol import evaluate
from metarl.experience.few_shot import FewShotSource
from metarl.experience.rollout import RolloutWorker, in_turn

if TYPE_CHECKING:
    from metarl.envs.vector import TaskVectorEnv
    from metarl.evaluation.plan import EvaluationPlan

    Place = TaskVectorEnv | FewShotSource

Name = TypeVar("Name", bound=str)


def place(worker: RolloutWorker | FewShotSource, tasks: np.ndarray, plan: EvaluationPlan) -> Place:
    """Where agents are measured: as many environments as are needed, or the source of examples."""
    if isinstance(worker, FewShotSource):
        return worker
    return worker.env(len(tasks) * plan.episodes)


def evaluate_over_seeds(
    agent: Callable[[int], Any],
    env: Place,
    tasks: np.ndarray,
    plan: EvaluationPlan,
    begins: Callable[[int], None] = lambda seed: None,
) -> Evaluation:
    """Measure with each evaluation seed of a plan, and join what was measured.

    Whatever the number of seeds, only the first one's paths, states, recordings and beliefs
    are kept.

    Args:
        agent: Evaluation seed ↦ the agent, whose own randomness is of that seed.
        env: Environments as for :func:`metarl.evaluation.protocol.evaluate`; or the examples of
            few-shot learning, which the agent then is of.
        tasks: Task vectors [n, d].
        plan: Names the seeds.
        begins: Told each seed before it is measured.

    Raises:
        BadAction, ValueError, FloatingPointError: As of one seed.
    """

    def measured(seed: int) -> Evaluation:
        begins(seed)
        return _measured(agent(seed), env, tasks, plan, seed)

    return joined(map(measured, plan.seeds))


def evaluate_all(
    agents: Mapping[Name, Callable[[int], Any]],
    worker: RolloutWorker | FewShotSource,
    tasks: np.ndarray,
    plan: EvaluationPlan,
    begins: Callable[[int], None] = lambda number: None,
) -> dict[Name, Evaluation]:
    """Measure agents as :func:`evaluate_over_seeds` does, wherever the worker has evaluations made.

    Args:
        agents: Name ↦ (evaluation seed ↦ agent).
        worker: Has the environments or the examples.
        tasks: Task vectors [n, d].
        plan: Names the seeds.
        begins: Told the number of each evaluation before it is made, one agent's seeds after the
            other's.

    Raises:
        BadAction, ValueError, FloatingPointError: As of one agent and seed.
    """
    calls = (
        partial(_measured_there, made(seed), tasks, plan, seed)
        for made in agents.values()
        for seed in plan.seeds
    )
    each = worker.each if isinstance(worker, RolloutWorker) else partial(in_turn, worker)
    found = each(calls, begins)
    return {name: joined(islice(found, plan.num_seeds)) for name in agents}


def _measured_there(
    agent: Any,
    tasks: np.ndarray,
    plan: EvaluationPlan,
    seed: int,
    worker: RolloutWorker | FewShotSource,
) -> Evaluation:
    return _measured(agent, place(worker, tasks, plan), tasks, plan, seed)


def _measured(
    agent: Any, env: Place, tasks: np.ndarray, plan: EvaluationPlan, seed: int
) -> Evaluation:
    """By one of the plan's evaluation seeds; pictures' data are the first one's alone."""
    own = replace(plan, seed=seed, num_seeds=1)
    if isinstance(env, FewShotSource):
        one = evaluate_few_shot(agent, env, tasks, own)
    else:
        one = evaluate(agent, env, tasks, own)
    if seed == plan.seed:
        return one
    return replace(one, paths=None, states=None, recordings=(), shown=None, beliefs=None)


def joined(evaluations: Iterator[Evaluation]) -> Evaluation:
    """Evaluations that differ in nothing but the seed as one: returns side by side, means.

    Paths and states are the first one's. An evaluation alone stays as it is, to the bit.
    """
    first = next(evaluations)
    seeds, returns = list(first.seeds), [first.returns]
    rewards, env_steps_used = first.rewards, first.env_steps_used
    success, confidence = [first.success], [first.confidence]
    own = {name: [values] for name, values in first.episode_measures.items()}
    for other in evaluations:
        seeds += other.seeds
        returns.append(other.returns)
        success.append(other.success)
        confidence.append(other.confidence)
        for name, values in other.episode_measures.items():
            own[name].append(values)
        if rewards is not None and other.rewards is not None:
            rewards = rewards + other.rewards
        env_steps_used = env_steps_used + other.env_steps_used
    return replace(
        first,
        seeds=tuple(seeds),
        returns=np.concatenate(returns, axis=2),
        rewards=None if rewards is None else rewards / len(seeds),
        env_steps_used=env_steps_used / len(seeds),
        success=_side_by_side(success),
        episode_measures={name: np.concatenate(values, axis=2) for name, values in own.items()},
        confidence=_side_by_side(confidence),
    )


def _side_by_side(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """What each seed has of every episode, [K+1, n, B]; None where one has none."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known, axis=2) if len(known) == len(parts) else None
