"""What trains fresh policies beside a learned objective: on whose experience, kept and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.algorithms.metagenrl import recipe_of, trained_by
from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.cli.main import main
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.evaluation.reference_kinds import ANEW
from metarl.evaluation.result import EvaluationResult
from metarl.experience.rollout import RolloutWorker
from metarl.networks.objective import reinforce
from metarl.random import Key
from metarl.references.off_policy import OffPolicyPolicies
from metarl.references.storage import Definition
from metarl.references.trained_anew import TrainedAnew
from tests.programs import Whole, write_config
from tests.toy_envs import Line

SMALL: dict[str, Any] = {
    "name": "metagenrl",
    "population": 1,
    "random_steps": 6,
    "hidden_sizes": [8, 6],
    "sequence": 3,
    "batch": 4,
    "capacity": 300,
    "objective_width": 4,
}
RECIPE = recipe_of(MetaGenRLSettings(**SMALL))
PLAN = EvaluationPlan("validation", 2, 2, seed=3, num_seeds=2)
DEFINITION = Definition({"name": "line"}, {})


def trainings(kind: Any, recipe: Any = RECIPE) -> list[TrainedAnew]:
    return list(TrainedAnew.each(kind, DEFINITION, PLAN, np.array([[0.2], [-0.5]]), recipe))


@pytest.mark.parametrize(
    "kind", [k if k == "reinforce" else pytest.param(k, marks=pytest.mark.slow) for k in ANEW]
)
def test_each_kind_is_trained_on_as_many_env_steps_and_kept(kind: Any, tmp_path: Path) -> None:
    worker = RolloutWorker(Line)
    one, other = trainings(kind)
    found = one.measure(worker.env(4))
    assert (found.adaptation_axis, found.action_mode) == ("env_steps", "deterministic")
    assert found.env_steps_used.tolist() == [0.0, 10.0, 20.0]
    assert np.array_equal(found.returns[:, :, 0], found.returns[:, :, 1])  # without noise
    assert not np.array_equal(found.returns[0], found.returns[-1])
    assert np.array_equal(found.returns, one.measure(worker.env(4)).returns)
    assert not np.array_equal(found.returns, other.measure(worker.env(4)).returns)
    one.write(tmp_path, found, {})
    kept = one.read([tmp_path])
    assert kept is not None
    assert np.array_equal(kept, found.task_returns)
    assert other.read([tmp_path]) is None
    changed = trainings(kind, RECIPE._replace(actor_lr=0.5))[0].read([tmp_path])
    assert (changed is None) == (kind != "ppo"), "PPO has settings of its own"


def test_reinforce_is_the_machinery_of_the_objective() -> None:
    worker = RolloutWorker(Line)
    one = trainings("reinforce")[0]
    agent = trained_by(reinforce, RECIPE, (2, 1), "deterministic", Key(3, evaluation=True))
    beside = evaluate(agent, worker.env(4), one.tasks, one.plan)
    assert np.array_equal(one.measure(worker.env(4)).returns, beside.returns)


@pytest.mark.parametrize("kind", ["td3", "ddpg"])
def test_a_policy_of_stable_baselines3_acts_as_its_own_actor(kind: Any) -> None:
    rngs = [np.random.default_rng(i) for i in range(2)]
    policies = OffPolicyPolicies(kind, RECIPE, (2, 1), rngs)
    shown = torch.randn(2, 5, 2)
    found = policies.policy(policies.actors, shown)
    for m, model in enumerate(policies._models):
        expected, _ = model.predict(shown[m].numpy(), deterministic=True)
        np.testing.assert_allclose(found[m].numpy(), expected, atol=1e-6)
    assert not torch.equal(found[0], found[1])


def test_no_time_limit_is_an_end_in_its_replay() -> None:
    policies = OffPolicyPolicies("td3", RECIPE, (2, 1), [np.random.default_rng(0)])
    rows = {
        "observations": torch.randn(2, 3, 2),
        "actions": torch.randn(2, 3, 1),
        "rewards": torch.randn(2, 3),
        "next_observations": torch.randn(2, 3, 2),
        "terminated": torch.tensor([[False, False, False], [False, True, True]]),
        "valid": torch.tensor([[True, True, True], [True, True, False]]),
    }
    policies.keep([rows])
    buffer: Any = policies._models[0].replay_buffer
    assert buffer.pos == 5
    assert buffer.dones[:5, 0].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    np.testing.assert_array_equal(buffer.rewards[:5, 0], rows["rewards"][rows["valid"]].numpy())
    assert np.abs(buffer.actions).max() <= 1.0


@pytest.mark.slow
def test_an_evaluation_stands_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation = {"episodes": 1, "adaptation_steps": 1, "seeds": 2, "split": "validation"}
    env = {"name": "single_task", "id": "Pendulum-v1", "horizon": 6}
    config = write_config(
        tmp_path, iterations=1, env=Whole(env), algorithm=Whole(SMALL), evaluation=evaluation
    )
    assert main(["train", str(config), "--run-dir", "run"]) == 0
    assert main(["references", "run/config.yaml", "--kind", "reinforce,td3"]) == 0
    said = capsys.readouterr().out
    assert "td3, seed 1 after 0 to 1 rounds: " in said
    assert main(["references", "run/config.yaml", "--kind", "td3"]) == 0
    assert capsys.readouterr().out.count("There are results of td3, seed") == 2
    assert main(["evaluate", "run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "metagenrl over the whole training is " in said

    result = EvaluationResult.read(Path("run/evaluation/validation/evaluation.json"))
    assert result.adaptive_references is not None
    assert list(result.adaptive_references) == ["reinforce", "td3"]
    assert {"ddpg", "ppo"} <= result.missing_references.keys()
    assert "--evaluation-seeds 2" in result.missing_references["ppo"]
    assert "from_scratch" not in result.missing_references
    head, td3 = result.headline, result.adaptive_references["td3"]
    assert result.other is None
    assert len(result.tasks) == 1
    # One task and two trainings: intervals are over the trainings.
    for mean, interval in zip(head.mean, head.ci95, strict=True):
        assert interval is not None
        assert interval[0] < mean < interval[1]
    gap = float(np.mean(head.mean) - np.mean([each.mean for each in td3.episodes]))
    assert td3.difference.delta == pytest.approx(gap)
    assert td3.difference.ci95 is not None
    text = Path("run/evaluation/validation/report.md").read_text()
    assert "## Trainings of other kinds" in text
    assert "after 1 round of training" in text
    again = EvaluationResult.from_json(result.to_json())
    assert replace(again) == result
    assert main(["evaluate", "run", "--config", "run/config.yaml", "--evaluation-seeds", "1"]) == 0
    text = Path(f"run/elsewhere/{config.stem}/evaluation/validation/report.md").read_text()
    assert "metarl evaluate run --checkpoint 1 --config run/config.yaml " in text
