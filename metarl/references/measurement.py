"""What the references earn on the very tasks, episodes and resets of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl.envs.faults import SimulationFailure, defined, users_code
from metarl.envs.knowledge import named_agents
from metarl.envs.vector import TaskVectorEnv
from metarl.errors import UserError
from metarl.evaluation.evaluation_seeds import evaluate_all, evaluate_over_seeds
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import BadAction
from metarl.evaluation.reference_kinds import PER_TASK, TRAINED, TrainedKind
from metarl.evaluation.result import AdaptiveReference
from metarl.evaluation.summary import adaptive_reference, is_trial
from metarl.experience.rollout import RolloutWorker
from metarl.process import command_line
from metarl.random import Key
from metarl.references import storage
from metarl.references.per_task_results import PerTaskReference
from metarl.references.policy import PolicyAgent, RandomAgent, ReferencePolicy
from metarl.references.storage import Definition
from metarl.types import AdaptationAxis, Agent


class References(NamedTuple):
    """Name ↦ mean return on each task, float64 [n]; name ↦ the command that makes a missing one."""

    returns: dict[str, np.ndarray]
    missing: dict[str, str]


def measure_references(
    worker: RolloutWorker,
    tasks: np.ndarray,
    env_config: Mapping[str, Any],
    plan: EvaluationPlan,
    axis: AdaptationAxis,
    config: Sequence[str],
    folder: Path | None = None,
) -> References:
    """Measure the stored references, and random actions, by the protocol of the evaluation.

    The oracle and the multitask policy act deterministically, whatever the mode of the agent beside
    them: they have nothing left to explore. They and random actions face the tasks and the reset
    seeds of the agent's first round, by every evaluation seed. Those that learn each task were
    measured before, with stochastic actions and the first evaluation seed alone, and stand here as
    they were after as many rounds as the agent adapted.

    Args:
        worker: Has the environments, and evaluations made.
        tasks: [n, d].
        env_config: The section ``env`` of the resolved config.
        plan: The evaluation.
        axis: Of the agent beside.
        config: A config file of the run, and what else the commands need to read it.
        folder: Searched first, instead of ``references``.

    Raises:
        UserError: a stored reference is damaged, or does not fit the environment.
    """
    definition = Definition.of(env_config)
    folders = storage.search_path(folder)
    found = {kind: storage.find(kind, definition, folders) for kind in TRAINED}
    absent = [kind for kind in TRAINED if found[kind] is None]
    missing: dict[str, str] = {kind: _command([kind], config, folder) for kind in absent}
    once = replace(plan, adaptation_steps=0)
    agents = _agents(worker.env(len(tasks) * plan.episodes), found)
    measured = evaluate_all(agents, worker, tasks, once)
    returns = {name: evaluation.task_returns[0] for name, evaluation in measured.items()}
    multitask = found["multitask"]
    # A user's own list of tasks has none of those that learn each task, nor has an agent that does
    # not adapt: they would have learned nothing. Beside trainings there are others.
    learn = plan.task_file is None and plan.adaptation_steps > 0 and axis != "env_steps"
    for per_task in PER_TASK if learn else ():
        start = multitask if per_task == "fine_tuned" else None
        kept = PerTaskReference(per_task, definition, plan, axis, tasks, start).read(folders)
        if kept is not None:
            returns[per_task] = kept[-1]
        else:
            needed = ["multitask"] if per_task == "fine_tuned" and multitask is None else []
            size = ["--axis", axis, *plan.arguments(without=("modes", "num_seeds", "forget"))]
            missing[per_task] = _command([*needed, per_task], config, folder, size)
    order = (*TRAINED, *PER_TASK, "random")
    return References({name: returns[name] for name in order if name in returns}, missing)


def measure_adaptive_references(
    env: TaskVectorEnv, headline: Evaluation, plan: EvaluationPlan
) -> dict[str, AdaptiveReference] | None:
    """Measure the agents that the environment names, by the whole protocol of the evaluation.

    They play the same trials as the agent beside them: the same tasks, resets and evaluation seeds.
    None where there are none, or the agent beside plays no trials.

    Args:
        env: n·B lanes.
        headline: Of the agent beside.
        plan: The evaluation.

    Raises:
        SimulationFailure: an agent of the environment's failed, or acts in another shape.
    """
    if not is_trial(headline):
        return None
    found = {}
    for name, agent in named_agents(env, plan.adaptation_steps + 1).items():
        try:
            with users_code():
                evaluation = evaluate_over_seeds(agent, env, headline.tasks, plan)
        except BadAction as error:
            place = defined(env, "reference_agents")
            raise SimulationFailure(f"Of {place}, {name!r}: {error}") from error
        found[name] = adaptive_reference(headline, evaluation)
    return found or None


def _agents(
    env: TaskVectorEnv, found: Mapping[TrainedKind, storage.StoredReference | None]
) -> dict[str, Callable[[int], Agent]]:
    """Random actions and what is stored: evaluation seed ↦ agent."""

    def random(seed: int) -> Agent:
        return RandomAgent(env.single_action_space, Key(seed, evaluation=True))  # type: ignore[arg-type]

    agents: dict[str, Callable[[int], Agent]] = {"random": random}
    for kind, stored in found.items():
        if stored is not None:
            agents[kind] = _always(_policy_agent(stored, env, sees_task=kind == "oracle"))
    return agents


def _always(agent: Agent) -> Callable[[int], Agent]:
    """The agent, whatever the evaluation seed: it has no randomness of its own."""
    return lambda seed: agent


def _policy_agent(
    stored: storage.StoredReference, env: TaskVectorEnv, sees_task: bool
) -> PolicyAgent:
    try:
        policy = ReferencePolicy.from_state(stored.state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The reference {stored.place} holds no policy: {error}.") from None
    observed = math.prod(env.single_observation_space.shape or (0,))
    wanted = observed + (env.task_distribution.dim if sees_task else 0)
    if policy.observed != wanted:
        raise UserError(
            f"The reference {stored.place} observes {policy.observed} numbers, and the "
            f"environment has {wanted}."
        )
    return PolicyAgent(policy, sees_task=sees_task)


def _command(
    kinds: Sequence[str], config: Sequence[str], folder: Path | None, size: Sequence[str] = ()
) -> str:
    """The command that makes references of these kinds."""
    words = ["metarl", "references", *config, "--kind", ",".join(kinds), *size]
    return command_line(words + (["--folder", str(folder)] if folder else []))
