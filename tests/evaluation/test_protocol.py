"""The evaluator against returns added up by hand, and the order in which it does things."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metarl.algorithms.maml import MAML
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.envs.navigation import PointNavigation
from metarl.envs.tasks import FiniteTasks
from metarl.errors import UserError
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.evaluation.seed_statistics import gain_verdict
from metarl.random import Key
from tests.evaluation.fakes import CountingAgent, StairEnv, StairTasks, Surveyor

TASKS = StairTasks().held_out()  # lengths 2, 3, 9 at a horizon of 4; pay 1, -0.5, 2


def run(agent: Any, env: Any, **changes: Any) -> Evaluation:
    plan = EvaluationPlan("held_out", episodes=2, adaptation_steps=2, seed=5)
    return evaluate(agent, env, TASKS, replace(plan, **changes))


def test_returns_are_sums_of_valid_rewards() -> None:
    evaluation = run(CountingAgent(), StairEnv(6))
    # Task by task: steps × (pay + k); the frozen lanes' fortune is not in it.
    by_hand = [[2 * (1 + k), 3 * (-0.5 + k), 4 * (2 + k)] for k in range(3)]
    assert evaluation.returns.shape == (3, 3, 2)
    np.testing.assert_array_equal(evaluation.returns, np.repeat(by_hand, 2).reshape(3, 3, 2))
    np.testing.assert_array_equal(evaluation.task_returns, by_hand)
    # Reward at each time step: finished episodes count 0, so the sum is the return.
    np.testing.assert_array_equal(evaluation.rewards[0], [[1, 1, 0, 0], [-0.5] * 3 + [0], [2] * 4])
    np.testing.assert_array_equal(evaluation.rewards.sum(axis=2), by_hand)


def test_experience_is_counted_per_adapting_agent() -> None:
    pooled = run(CountingAgent(), StairEnv(6))
    assert pooled.episodes_used == [0, 2, 4]
    # 2 lanes × (2 + 3 + 4) steps a round over 3 tasks
    np.testing.assert_array_equal(pooled.env_steps_used, [0, 6, 12])
    assert pooled.step_sizes == [0.5, 0.25]

    in_context = run(CountingAgent("episode"), StairEnv(6))
    assert in_context.episodes_used == [0, 1, 2]
    np.testing.assert_array_equal(in_context.env_steps_used, [0, 3, 6])
    assert in_context.step_sizes == []
    # Every episode of the trial is scored, not the first alone.
    assert in_context.returns.shape[0] == 3
    assert len(np.unique(in_context.returns[:, 0, 0])) == 3


@pytest.mark.parametrize("axis", ["gradient_step", "episode"])
def test_forgetting_begins_anew_where_the_agent_would_adapt(axis: str) -> None:
    agent = CountingAgent(axis)
    evaluation = run(agent, StairEnv(6), forget=True)
    assert evaluation.forgets
    assert agent.log.count("begin") == 3
    assert "adapt" not in agent.log
    np.testing.assert_array_equal(evaluation.task_returns, [[2.0, -1.5, 8.0]] * 3)
    assert evaluation.episodes_used == [0, 0, 0]
    np.testing.assert_array_equal(evaluation.env_steps_used, [0.0, 0.0, 0.0])
    assert not run(CountingAgent(axis), StairEnv(6)).forgets


@pytest.mark.parametrize(
    ("axis", "names"),
    [
        ("gradient_step", ["step_0", "step_1", "step_2"]),
        ("episode", ["episode_1", "episode_2", "episode_3"]),
    ],
)
def test_measurements_are_named_by_what_adapts(axis: str, names: list[str]) -> None:
    assert run(CountingAgent(axis), StairEnv(6)).measurement_keys == names


def test_order_of_calls_and_early_stop() -> None:
    log: list[str] = []
    agent, env = CountingAgent(log=log), StairEnv(4, log=log)
    progress: list[tuple[int, int]] = []
    evaluate(
        agent,
        env,
        TASKS[:2],  # lengths 2 and 3: nothing is left to do at step 4
        EvaluationPlan("held_out", episodes=2, adaptation_steps=1),
        progress=lambda *rounds: progress.append(rounds),
    )
    play = ["reset"] + ["act", "step", "observe"] * 3
    assert log == ["begin", *play, "adapt", *play]
    assert progress == [(1, 2), (2, 2)]


def test_agent_sees_lanes_task_by_task() -> None:
    agent, env = CountingAgent(), StairEnv(6)
    run(agent, env, adaptation_steps=0)
    np.testing.assert_array_equal(env.tasks, np.repeat(TASKS, 2, axis=0))
    observation, _ = agent.seen[2]  # after two steps: both lanes of task 0 are frozen at 2
    assert observation.shape == (3, 2, 2)
    np.testing.assert_array_equal(observation[:, :, 0], [[2, 2], [2, 2], [2, 2]])
    observation, _ = agent.seen[3]
    np.testing.assert_array_equal(observation[:, :, 0], [[2, 2], [3, 3], [3, 3]])


def test_active_marks_live_lanes() -> None:
    class Watcher(CountingAgent):
        def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
            marks.append(active.copy())
            return super().act(observation, active)

    marks: list[np.ndarray] = []
    run(Watcher(), StairEnv(6), adaptation_steps=0)
    assert [mark[:, 0].tolist() for mark in marks] == [
        [True, True, True],
        [True, True, True],
        [False, True, True],
        [False, False, True],
    ]


def test_only_privileged_references_are_told_the_tasks() -> None:
    agent = CountingAgent()
    run(agent, StairEnv(6))
    assert agent.tasks is None
    agent.privileged = True
    run(agent, StairEnv(6))
    np.testing.assert_array_equal(agent.tasks, TASKS)


def test_paths_end_with_the_episode() -> None:
    evaluation = run(CountingAgent(), StairEnv(6), adaptation_steps=0)
    assert evaluation.paths is not None
    assert evaluation.paths.shape == (1, 3, 5, 2)
    np.testing.assert_array_equal(
        evaluation.paths[0, :, :, 0],
        [[0, 1, 2, np.nan, np.nan], [0, 1, 2, 3, np.nan], [0, 1, 2, 3, 4]],
    )
    env = StairEnv(6)
    env.position_columns = None
    assert run(CountingAgent(), env).paths is None


def test_episodes_are_kept_for_playing_again_only_where_they_can_be_drawn() -> None:
    env = StairEnv(6)
    assert run(CountingAgent(), env, adaptation_steps=1).recordings == ()
    env.picture_fps = 20.0
    recorded = run(CountingAgent(), env, adaptation_steps=1).recordings
    assert [recording.lengths.tolist() for recording in recorded] == [[2, 3, 4]] * 2


def test_seeds_are_each_lanes_and_rounds_own() -> None:
    env, again, other = StairEnv(6), StairEnv(6), StairEnv(6)
    run(CountingAgent(), env)
    run(CountingAgent("episode"), again)  # the same resets whoever is evaluated
    run(CountingAgent(), other, seed=6)
    assert len(np.unique(np.concatenate(env.seeds))) == 18
    np.testing.assert_array_equal(env.seeds, again.seeds)
    assert not np.isin(np.concatenate(env.seeds), np.concatenate(other.seeds)).any()


def test_global_random_state_is_neither_read_nor_changed() -> None:
    state = random.getstate()
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, _ = _navigate(seed=2), run(CountingAgent(), StairEnv(6))
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(_navigate(seed=2).returns, first.returns)


def test_training_generator_is_never_asked_for_tasks() -> None:
    # StairTasks.sample raises: neither the split nor the evaluation may call it.
    tasks = EvaluationPlan("held_out", 2, 2).tasks(StairTasks())
    evaluation = run(CountingAgent(), StairEnv(6))
    np.testing.assert_array_equal(evaluation.tasks, tasks)
    assert evaluation.split == "held_out"


def test_a_finite_distribution_owns_up_to_training_tasks() -> None:
    distribution = FiniteTasks([[-1.0], [1.0]], ("direction",), ("",))
    plan = EvaluationPlan("held_out", 2, 2)
    assert plan.split_name(distribution) == "training tasks"
    np.testing.assert_array_equal(plan.tasks(distribution), [[-1.0], [1.0]])
    with pytest.raises(UserError, match="out of range"):
        replace(plan, split="out_of_range").tasks(distribution)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adaptation_steps": -1}, "adaptation_steps is -1"),
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes": 3}, "has 6 lanes; 3 tasks × 3 episodes need 9"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(CountingAgent(), StairEnv(6), **changes)


def test_a_return_that_is_not_finite_names_the_task() -> None:
    class Broken(StairEnv):
        def step(self, action: np.ndarray) -> tuple[Any, ...]:
            observation, reward, *rest = super().step(action)
            reward[(self.steps == 3) & (self.tasks[:, 0] == 3)] = np.nan
            return observation, reward, *rest

    words = r"Task 1 \(length = 3 steps, pay = -0.5\), episode 0, after 0 .* time step 2 is nan"
    with pytest.raises(FloatingPointError, match=words):
        run(CountingAgent(), Broken(6))


def test_actions_are_checked_where_they_count() -> None:
    class Careless(CountingAgent):
        def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
            action = np.where(active[..., None], 0.0, np.nan)  # frozen lanes may hold anything
            action[2, 1, 0] = np.inf if self.adaptations else 0.0
            return action

    class Misshapen(CountingAgent):
        def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
            return np.zeros(active.shape)

    with pytest.raises(FloatingPointError, match=r"Task 2 .* episode 1, after 1 .* action"):
        run(Careless(), StairEnv(6))
    with pytest.raises(ValueError, match=r"shape \[3, 2\]; this environment needs \[3, 2, 1\]"):
        run(Misshapen(), StairEnv(6))


def test_an_episode_that_outlives_the_horizon() -> None:
    env = StairEnv(6)
    env.truncates = False
    with pytest.raises(ValueError, match=r"2 episodes were still running .* horizon of 4 steps"):
        run(CountingAgent(), env)


def _navigate(seed: int) -> Evaluation:
    env = PointNavigation(8 * 3, horizon=30)
    plan = EvaluationPlan("held_out", episodes=3, adaptation_steps=1, seed=seed)
    return evaluate(Surveyor(seed), env, plan.tasks(env.task_distribution)[:8], plan)


def test_an_agent_that_learns_is_seen_to_learn() -> None:
    evaluation = _navigate(seed=0)
    np.testing.assert_array_equal(evaluation.returns, _navigate(seed=0).returns)
    assert not np.array_equal(evaluation.returns, _navigate(seed=1).returns)

    before, after = evaluation.task_returns
    optimum = PointNavigation(1, horizon=30).optimal_returns(evaluation.tasks)
    assert gain_verdict(before[None], after[None]).verdict.startswith("adaptation helps")
    assert (before < optimum - 3).any()
    np.testing.assert_allclose(after, optimum, atol=0.25)
    assert evaluation.paths is not None  # the adapted agent ends at its goals, and stops there
    for path, goal in zip(evaluation.paths[1], evaluation.tasks, strict=True):
        assert np.abs(path[np.isfinite(path).all(axis=1)][-1] - goal).max() < 0.01
    assert np.isnan(evaluation.paths[1]).any()


def test_measuring_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, metarl.evaluation; print({'torch', 'matplotlib'} & set(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("axis", "mode", "rounds"),
    [
        ("gradient_step", "stochastic", "stochastic adapt stochastic"),
        # Measured without noise, a gradient-based agent adapts on a noisy round of its own.
        ("gradient_step", "deterministic", "deterministic stochastic adapt deterministic"),
        ("episode", "deterministic", "deterministic adapt deterministic"),
    ],
)
def test_a_gradient_agent_adapts_on_stochastic_rounds_in_either_mode(
    axis: str, mode: Any, rounds: str
) -> None:
    log: list[str] = []

    class Logging(CountingAgent):
        def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
            log.append(self.mode)
            return super().act(observation, active)

        def adapt(self) -> None:
            log.append("adapt")
            super().adapt()

    evaluation = run(Logging(axis, mode=mode), StairEnv(6), adaptation_steps=1)
    assert log == [word for word in rounds.split() for _ in range(1 if word == "adapt" else 4)]
    assert evaluation.action_mode == mode
    # Only measured rounds are results; only what the agent adapted on is its experience.
    np.testing.assert_array_equal(evaluation.returns[:, 0, 0], [2.0, 4.0])
    assert evaluation.env_steps_used.tolist() == [0, 6 if axis == "gradient_step" else 3]


def test_both_modes_measure_the_same_adapted_agent() -> None:
    adapted = []
    for mode in ("stochastic", "deterministic"):
        env = PointNavigation(6, horizon=12)
        config = MAMLSettings(hidden_sizes=(8,), inner_lr=(0.5, 0.25))
        maml = MAML(config, env.single_observation_space, env.single_action_space, seed=0)
        agent = maml.agent(mode, Key(3, evaluation=True))  # type: ignore[arg-type]
        tasks = env.task_distribution.held_out()[:2]
        plan = EvaluationPlan("held_out", episodes=3, adaptation_steps=2, seed=3)
        evaluation = evaluate(agent, env, tasks, plan)
        adapted.append(agent.params)
        assert evaluation.step_sizes == [0.5, 0.25]
    for name, p in adapted[0].items():
        assert (p == adapted[1][name]).all()
        assert (p != maml.params[name]).any()


def test_the_last_step_size_repeats() -> None:
    assert run(CountingAgent(), StairEnv(6), adaptation_steps=5).step_sizes == [
        0.5,
        0.25,
        0.125,
        0.125,
        0.125,
    ]
