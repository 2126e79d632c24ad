"""The evaluation protocol: drive any agent through K adaptation steps, record what it earns.

Nothing here knows which algorithm it drives. Every reset is seeded from the keyed streams of an
evaluation, so two evaluations with one seed are identical and training is never disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from metarl.envs.knowledge import measured
from metarl.evaluation.beliefs import BeliefRecord, Beliefs
from metarl.evaluation.measurements import POOLED, Evaluation
from metarl.evaluation.recording import Recording
from metarl.experience.threads import one_torch_thread
from metarl.random import Key

if TYPE_CHECKING:  # metarl.types imports torch, which measuring does not need
    from metarl.envs.vector import TaskVectorEnv
    from metarl.evaluation.plan import EvaluationPlan
    from metarl.types import Agent


class BadAction(ValueError):
    """An agent's actions have a wrong shape or kind; one sentence says what is needed."""


def evaluate(
    agent: Agent,
    env: TaskVectorEnv,
    tasks: np.ndarray,
    plan: EvaluationPlan,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure returns after 0..K adaptation steps, in the agent's own action mode.

    A round lets every lane play one episode from a reset; the agent may adapt after each round but
    the last. So K gradient steps need K+1 rounds, and K+1 rounds are episodes 1..K+1 of a trial.

    Args:
        agent: It is told the tasks only if it is privileged.
        env: An environment of n·B lanes; lane n = m·B + b plays task m.
        tasks: Task vectors [n, d], the plan's or some of them.
        plan: How many rounds and episodes, and the seed of the resets, of several the first; the
            agent's own randomness comes with the agent, as does its mode.
        progress: Called as progress(rounds measured, rounds in all) after each round.

    Raises:
        BadAction: The agent returns actions of a wrong shape or kind.
        ValueError: The sizes do not fit together, or an episode outlives the horizon.
        FloatingPointError: A reward or an action is not finite; names the task.
    """
    tasks = np.asarray(tasks, dtype=np.float64)
    adaptation_steps, episodes, forget = plan.adaptation_steps, plan.episodes, plan.forget
    _check_sizes(env, tasks, adaptation_steps, episodes)
    action_mode, key = agent.mode, Key(plan.seed, evaluation=True)
    env.set_tasks(np.repeat(tasks, episodes, axis=0))
    recorded: list[_Round] = []
    steps = [0.0]  # of experience, all agents together
    begin = partial(agent.begin, len(tasks), episodes, tasks if agent.privileged else None)
    play = partial(_play_round, agent, env, tasks, episodes, key)
    for played, learned_from in _rounds(agent, adaptation_steps + 1, begin, play, forget):
        recorded.append(played)
        steps += [] if learned_from is None else [0.0 if forget else learned_from.env_steps]
        if progress is not None:
            progress(len(recorded), adaptation_steps + 1)
    pooled, distribution = agent.adaptation_axis in POOLED, env.task_distribution
    return Evaluation(
        tasks=tasks,
        task_columns=tuple(distribution.columns),
        task_units=tuple(distribution.units),
        split=plan.split_name(distribution),
        action_mode=action_mode,
        adaptation_axis=agent.adaptation_axis,
        step_sizes=_step_sizes(agent, adaptation_steps),
        seeds=(plan.seed,),
        env_steps_used=np.cumsum(steps) / (len(tasks) if pooled else len(tasks) * episodes),
        forgets=forget,
        recordings=tuple(played.recording for played in recorded if played.recording),
        beliefs=Beliefs.of([played.beliefs for played in recorded]),
        **_stacked(recorded),
    )


def _rounds(
    agent: Agent, count: int, begin: Callable[[], None], play: Callable[[int], _Round], forget: bool
) -> Iterator[tuple[_Round, _Round | None]]:
    """Each round, and the one that the agent then learned from; the last is only measured.

    An agent that learns by gradients needs the noise of its actions to learn from: where it is
    measured in deterministic mode, it adapts on a stochastic round of its own, with the very
    resets and noise of an evaluation in stochastic mode, so that both modes measure one agent.
    """
    mode = agent.mode
    begin()
    for k in range(count):
        played = play(k)
        learned_from: _Round | None = played
        if k == count - 1:
            learned_from = None
        elif forget:
            begin()
        elif agent.adaptation_axis in POOLED and mode == "deterministic":
            agent.mode = "stochastic"
            learned_from = play(k)
            agent.adapt()
            agent.mode = mode
        else:
            agent.adapt()
        yield played, learned_from


def _stacked(rounds: Sequence[_Round]) -> dict[str, Any]:
    """What the rounds recorded, one after the other."""
    stacked = {}
    for name in ("returns", "rewards", "paths", "states", "success"):
        parts = [getattr(played, name) for played in rounds]
        stacked[name] = None if any(part is None for part in parts) else np.stack(parts)
    names = rounds[0].episode_measures
    own = {name: np.stack([played.episode_measures[name] for played in rounds]) for name in names}
    return stacked | {"episode_measures": own}


def _step_sizes(agent: Agent, adaptation_steps: int) -> list[float]:
    """Sizes of the K steps; the agent's last one repeats."""
    sizes = [float(size) for size in agent.step_sizes[:adaptation_steps]]
    return sizes + sizes[-1:] * (adaptation_steps - len(sizes))


@dataclass
class _Round:
    """One episode on every lane: returns [n, B], rewards [n, T], paths [n, T+1, 2], states."""

    returns: np.ndarray
    rewards: np.ndarray
    paths: np.ndarray | None
    states: np.ndarray | None
    env_steps: int
    recording: Recording | None
    beliefs: BeliefRecord | None = None
    success: np.ndarray | None = None
    episode_measures: dict[str, np.ndarray] = field(default_factory=dict)


@one_torch_thread()
def _play_round(
    agent: Agent, env: TaskVectorEnv, tasks: np.ndarray, lanes: int, key: Key, k: int
) -> _Round:
    """Reset all lanes and act until every one is finished; only live lanes count."""
    n = len(tasks)
    seeds = key.at(k).reset_seeds(n, lanes)
    flat_observation, _ = env.reset(seed=seeds)
    by_task = (n, lanes, *flat_observation.shape[1:])
    observation = flat_observation.reshape(by_task)  # [n·B, ...] -> [n, B, ...]
    active = np.ones((n, lanes), dtype=bool)
    recording = None
    if env.picture_fps is not None:  # else nobody will play it again
        recording = Recording.begun(seeds[::lanes], env.single_action_space, env.horizon)
    record = _Round(np.zeros((n, lanes)), np.zeros((n, env.horizon)), None, None, 0, recording)
    record.beliefs = BeliefRecord(agent, tasks, env.horizon)
    columns = env.position_columns
    if columns is not None:
        record.paths = np.full((n, env.horizon + 1, 2), np.nan)
        record.paths[:, 0] = observation[:, 0, list(columns)]
    first_lanes = slice(0, None, lanes)
    state = env.render_states(first_lanes)
    if state is not None:
        record.states = np.full((n, env.horizon + 1, state.shape[1]), np.nan, dtype=np.float32)
        record.states[:, 0] = state

    for t in range(env.horizon):
        action = np.asarray(agent.act(observation, active.copy()))
        _check_action(action, env, active)
        record.beliefs.note(t, active[:, 0])
        _check_finite("action", action, env, tasks, active, k, t)
        flat_observation, flat_reward, flat_terminated, flat_truncated, info = env.step(
            action.reshape(n * lanes, *action.shape[2:])  # [n, B, a] -> [n·B, a]
        )
        observation = flat_observation.reshape(by_task)
        reward = flat_reward.reshape(n, lanes)
        terminated = flat_terminated.reshape(n, lanes)
        truncated = flat_truncated.reshape(n, lanes)
        reward = np.where(active, reward, 0.0)
        _check_finite("reward", reward, env, tasks, active, k, t)
        if recording is not None:
            recording.note(t, active[:, 0], action[:, 0], reward[:, 0])
        record.returns += reward
        record.rewards[:, t] = reward.mean(axis=1)
        record.env_steps += int(active.sum())
        if record.paths is not None and columns is not None:
            record.paths[active[:, 0], t + 1] = observation[active[:, 0], 0][:, list(columns)]
        if record.states is not None and (state := env.render_states(first_lanes)) is not None:
            record.states[active[:, 0], t + 1] = state[active[:, 0]]
        agent.observe(action, reward, terminated, truncated, observation)
        active &= ~(terminated | truncated)
        if not active.any():
            if "success" in info:
                record.success = info["success"].reshape(n, lanes)
            own = measured(env, n * lanes).items()
            record.episode_measures = {name: x.reshape(n, lanes) for name, x in own}
            return record
    raise ValueError(
        f"{int(active.sum())} episodes were still running at the environment's horizon of "
        f"{env.horizon} steps; it must return truncated=True at step {env.horizon}."
    )


def _check_sizes(env: TaskVectorEnv, tasks: np.ndarray, adaptation_steps: int, lanes: int) -> None:
    if adaptation_steps < 0:
        raise ValueError(f"adaptation_steps is {adaptation_steps}; it must be 0 or more.")
    if lanes < 1:
        raise ValueError(f"episodes is {lanes}; it must be 1 or more.")
    if tasks.ndim != 2 or len(tasks) < 1:
        raise ValueError(f"tasks has the shape {list(tasks.shape)}; it must be [n tasks, d].")
    if env.num_envs != len(tasks) * lanes:
        raise ValueError(
            f"The environment has {env.num_envs} lanes; {len(tasks)} tasks × {lanes} episodes "
            f"need {len(tasks) * lanes}."
        )


def _check_action(action: np.ndarray, env: TaskVectorEnv, active: np.ndarray) -> None:
    expected = (*active.shape, *(env.single_action_space.shape or ()))
    if action.shape != expected:
        axes = "[tasks, lanes, action]" if len(expected) == 3 else "[tasks, lanes]"
        raise BadAction(
            f"The agent's act() returned actions of shape {list(action.shape)}; this environment "
            f"needs {list(expected)}, {axes}."
        )
    kinds = "fiu" if isinstance(env.single_action_space, spaces.Box) else "iu"
    if action.dtype.kind not in kinds:
        needs = "integers" if kinds == "iu" else "numbers"
        raise BadAction(
            f"The agent's act() returned actions of type {action.dtype}; this environment needs "
            f"{needs}."
        )


def _check_finite(
    what: str,
    values: np.ndarray,
    env: TaskVectorEnv,
    tasks: np.ndarray,
    active: np.ndarray,
    k: int,
    t: int,
) -> None:
    """Actions or rewards of the live lanes; names the first broken one by its task."""
    broken = ~np.isfinite(values).reshape(*active.shape, -1).all(axis=-1) & active
    if not broken.any():
        return
    m, b = np.argwhere(broken)[0]
    task = env.task_distribution.in_words(tasks[m], "{name} = {value:.6g} {unit}")
    raise FloatingPointError(
        f"Task {m} ({task}), episode {b}, after {k} adaptation steps: the {what} at time step "
        f"{t} is {values[m, b]}; evaluation needs finite numbers, so the agent or the "
        "environment has diverged."
    )
