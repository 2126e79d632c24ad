"""PPO on each task: the agent's own experience to the sample, and results that never go stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from metarl.errors import UserError
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from metarl.references import storage
from metarl.references.measurement import measure_references
from metarl.references.per_task import PerTaskAgent
from metarl.references.per_task_results import PerTaskReference
from metarl.references.settings import PerTaskSettings
from tests.references.test_references import LINE, Recorder, train
from tests.toy_envs import Arms, Line

SETTINGS = PerTaskSettings(
    hidden_sizes=(16,), learning_rate=0.03, batch_size=64, gamma=0.9, log_std_init=0.0
)
KEY = Key(2, evaluation=True)
TASKS = np.array([[-0.8], [0.8]])


def make_agent(env: Any, axis: Any = "gradient_step", key: Key = KEY, **changes: Any) -> Any:
    spaces = (env.single_observation_space, env.single_action_space)
    return PerTaskAgent(replace(SETTINGS, **changes), *spaces, axis, key)


class _Counting(Line):
    """Ends on its own at different steps, and counts its live steps."""

    live_steps = 0

    def _advance(self, actions: Any, live: Any) -> Any:
        reward, _ = super()._advance(actions, live)
        self.live_steps += self.num_envs if live is None else int(live.sum())
        return reward, np.abs(self._x[:, 0]) > 0.15


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each update of PPO has."""
    sizes: list[int] = []
    train = PPO.train

    def counting(ppo: PPO) -> None:
        sizes.append(ppo.rollout_buffer.buffer_size)
        train(ppo)

    monkeypatch.setattr(PPO, "train", counting)
    return sizes


def test_it_learns_from_the_experience_of_the_rounds_and_nothing_else(sizes: list[int]) -> None:
    env = _Counting(12)
    agent = make_agent(env)
    result = evaluate(agent, env, TASKS, EvaluationPlan("held_out", 6, 3, seed=2))
    # The protocol's own count, of both tasks; the fourth round is measured and not learned from.
    learned = [sum(sizes[i : i + 2]) for i in range(0, len(sizes), 2)]
    assert learned == (np.diff(result.env_steps_used) * 2).astype(int).tolist()
    assert sum(learned) < env.live_steps < 4 * 12 * 5
    assert result.episodes_used == [0, 6, 12, 18]


@pytest.mark.parametrize("env_class", [Line, Arms])
def test_each_agent_learns_its_own_task(env_class: Any) -> None:
    """By reward only: towards −0.8 on the left and +0.8 on the right; one of five arms."""
    env = env_class(80)
    tasks = TASKS if env_class is Line else np.array([[1.0], [4.0]])
    result = evaluate(make_agent(env), env, tasks, EvaluationPlan("held_out", 40, 4, seed=2))
    assert (result.task_returns[-1] > result.task_returns[0] + 0.3).all()


def test_agents_of_lanes_learn_apart(sizes: list[int]) -> None:
    env = Line(6)
    agent = make_agent(env, "episode")
    evaluate(agent, env, TASKS, EvaluationPlan("held_out", 3, 1, seed=2))
    assert sizes == [5] * 6
    assert len(np.unique(agent._policy.act(np.zeros((6, 1, 2)), None))) == 6


def test_the_same_seed_gives_the_same_and_leaves_the_global_generators_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = np.random.rand(), torch.rand(1)  # noqa: NPY002
    results = []
    for key in (KEY, KEY, Key(3, evaluation=True)):
        np.random.seed(5)  # noqa: NPY002
        torch.manual_seed(5)
        env = Line(8)
        plan = EvaluationPlan("held_out", 4, 2, seed=2)
        results.append(evaluate(make_agent(env, key=key), env, TASKS, plan).returns)
        assert (np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


# --- measured beside an evaluation ------------------------------------------------------------

PLAN = EvaluationPlan("held_out", episodes=3, adaptation_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two references of the line."""
    folder = tmp_path_factory.mktemp("references")
    for kind in ("oracle", "multitask"):
        assert train(folder / LINE.key / kind, Recorder())
    return folder


def measured(folder: Path, **changes: Any) -> Any:
    env = Line(6)
    options: dict[str, Any] = {
        "env_config": LINE.fields | {"preset": None},
        "plan": PLAN,
        "axis": "gradient_step",
        "config": ["configs/line.yaml"],
        "folder": folder,
    }
    worker = RolloutWorker(lambda lanes: env)
    return measure_references(worker, TASKS, **(options | changes))


def kept(folder: Path, kind: Any, tasks: np.ndarray = TASKS) -> Path:
    """Results of PPO on each task, made as the command makes them."""
    multitask = None
    if kind == "fine_tuned":
        place = folder / LINE.key / "multitask"
        multitask = storage.load(place)
    reference = PerTaskReference(kind, LINE, PLAN, "gradient_step", tasks, multitask)
    return reference.write(folder, reference.measure(Line(6)), {"versions": {}})


def test_what_is_there_is_measured_and_what_is_missing_is_named(folder: Path) -> None:
    found = measured(folder)
    assert list(found.returns) == ["oracle", "multitask", "random"]
    assert all(returns.shape == (2,) for returns in found.returns.values())
    assert found.missing == {
        kind: f"metarl references configs/line.yaml --kind {kind} "
        f"--axis gradient_step --split held_out --episodes 3 --adaptation-steps 2 --seed 0 "
        f"--folder {folder}"
        for kind in ("from_scratch", "fine_tuned")
    }
    again = measured(folder)
    for name, returns in found.returns.items():
        np.testing.assert_array_equal(returns, again.returns[name])


def test_nothing_is_trained_unasked(tmp_path: Path) -> None:
    found = measured(tmp_path / "none")
    assert list(found.returns) == ["random"]
    assert list(found.missing) == ["oracle", "multitask", "from_scratch", "fine_tuned"]
    assert "--kind multitask,fine_tuned " in found.missing["fine_tuned"]
    assert not (tmp_path / "none").exists()


def test_results_of_each_task_are_taken_until_they_are_stale(folder: Path) -> None:
    for kind in ("from_scratch", "fine_tuned"):
        path = kept(folder, kind)
        after = json.loads(path.read_text())["returns"]
        assert np.shape(after) == (3, 2)
        np.testing.assert_array_equal(measured(folder).returns[kind], after[-1])
    assert measured(folder).missing == {}
    # Another seed, number of rounds or episodes, another list of tasks: missing, not mistaken.
    for other in ({"seed": 1}, {"adaptation_steps": 1}, {"split": "validation"}):
        found = measured(folder, plan=replace(PLAN, **other))
        assert {"from_scratch", "fine_tuned"} <= set(found.missing)
    kept(folder, "from_scratch", TASKS / 2)
    assert "from_scratch" in measured(folder).missing
    # A multitask policy trained anew has not been fine-tuned.
    assert train(folder / LINE.key / "multitask", seed=4)
    assert "fine_tuned" in measured(folder).missing


def test_a_user_s_list_of_tasks_has_none_of_them(folder: Path) -> None:
    found = measured(folder, plan=replace(PLAN, task_file=Path("mine.csv")))
    assert not {"from_scratch", "fine_tuned"} & {*found.missing, *found.returns}


def test_a_reference_that_observes_something_else_is_refused(folder: Path) -> None:
    class Wider(Line):
        def __init__(self, num_envs: int) -> None:
            super().__init__(num_envs)
            box = type(self.single_observation_space)(-1.0, 1.0, (3,), np.float64)
            self.single_observation_space = box

    options = {"config": ["x.yaml"], "folder": folder}
    worker = RolloutWorker(Wider)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="observes 3 numbers, and the environment has 4"):
        measure_references(worker, TASKS, LINE.fields, PLAN, "gradient_step", **options)


def test_an_agent_that_does_not_adapt_has_none_beside_it(folder: Path) -> None:
    found = measured(folder, plan=replace(PLAN, adaptation_steps=0))
    assert not {"from_scratch", "fine_tuned"} & {*found.returns, *found.missing}
