"""Few-shot agents are measured on the same query sets before and after every adaptation step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.cli.main import main
from metarl.envs.supervised import Sinusoid
from metarl.errors import UserError
from metarl.evaluation import few_shot
from metarl.evaluation.evaluation_seeds import evaluate_over_seeds
from metarl.evaluation.few_shot import evaluate_few_shot, fitted
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.result import EvaluationResult
from metarl.experience.few_shot import FewShotSource
from metarl.maths.distributions import Categorical
from metarl.random import Key
from metarl.references.few_shot import measure_few_shot_references, nearest
from tests.few_shot_agents import NearestMean, Squares, Waves

PLAN = EvaluationPlan("validation", 6, 3)


@pytest.fixture(scope="module")
def sinusoids() -> FewShotSource:
    return FewShotSource(Sinusoid(shots=4))


@pytest.fixture(scope="module")
def squares() -> FewShotSource:
    return FewShotSource(Squares())


def tasks_of(source: FewShotSource, n: int = 5) -> np.ndarray:
    return source.task_distribution.validation()[:n]


def test_errors_by_hand_on_the_same_queries_at_every_step(sinusoids: FewShotSource) -> None:
    """Half of the way to f at every step: the error is f²/4^k, exactly on the same queries."""
    tasks = tasks_of(sinusoids)
    found = evaluate_few_shot(Waves(), sinusoids, tasks, PLAN)
    query = sinusoids.examples(tasks, 6, Key(0, evaluation=True)).query
    squared = query.actions.double().square().sum(-1).numpy()
    assert found.returns.shape == (4, 5, 6)
    np.testing.assert_allclose(found.returns, squared / 4.0 ** np.arange(4)[:, None, None], 1e-3)
    assert found.episodes_used == [0, 4, 4, 4]
    assert found.step_sizes == [0.5, 0.25, 0.25]
    assert (found.measure, found.action_mode, found.confidence) == ("error", "deterministic", None)
    assert found.few_shot is not None
    assert found.few_shot.transductive is False


def test_blocks_and_the_number_of_tasks_change_nothing(
    sinusoids: FewShotSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_few_shot(Waves(), sinusoids, tasks_of(sinusoids), PLAN)
    monkeypatch.setattr(few_shot, "NUMBERS_AT_ONCE", 20)  # two tasks of 4 + 6 points
    parts = evaluate_few_shot(Waves(), sinusoids, tasks_of(sinusoids), PLAN)
    np.testing.assert_allclose(parts.returns, whole.returns, rtol=1e-5)
    few = evaluate_few_shot(Waves(), sinusoids, tasks_of(sinusoids, 3), PLAN)
    np.testing.assert_allclose(few.returns, whole.returns[:, :3], rtol=1e-5)


def test_several_seeds_draw_other_examples(sinusoids: FewShotSource) -> None:
    plan = replace(PLAN, num_seeds=2)
    both = evaluate_over_seeds(lambda seed: Waves(), sinusoids, tasks_of(sinusoids), plan)
    second = evaluate_few_shot(Waves(), sinusoids, tasks_of(sinusoids), replace(PLAN, seed=1))
    assert both.returns.shape == (4, 5, 12)
    assert not np.allclose(both.returns[..., :6], both.returns[..., 6:])
    np.testing.assert_array_equal(both.returns[..., 6:], second.returns)
    assert both.episodes == 6
    assert both.shown is not None


def test_accuracy_and_confidence_of_classes(squares: FewShotSource) -> None:
    tasks, plan = tasks_of(squares, 4), replace(PLAN, adaptation_steps=1)
    found = evaluate_few_shot(NearestMean(), squares, tasks, plan)
    assert found.confidence is not None
    assert found.returns.shape == (2, 4, 18)  # 6 queries of each of 3 ways
    assert set(np.unique(found.returns)) <= {0.0, 1.0}
    assert found.returns[0].mean() == pytest.approx(1 / 3)  # all alike: the first class
    np.testing.assert_allclose(found.confidence[0], 1 / 3, rtol=1e-6)
    assert found.returns[1].mean() > 0.9
    assert (found.confidence[1] > 0.9).any()
    assert found.episodes_used == [0, 6]
    assert found.adaptation_axis == "support_set"
    assert found.measurement_keys == ["step_0", "step_1"]


def test_what_is_kept_for_pictures(sinusoids: FewShotSource, squares: FewShotSource) -> None:
    shown = evaluate_few_shot(Waves(), sinusoids, tasks_of(sinusoids), PLAN).shown
    assert shown is not None
    assert shown.grid is not None
    assert shown.curves is not None
    assert shown.truth is not None
    assert (shown.curves.shape, shown.truth.shape) == ((4, 4, 200), (4, 200))
    np.testing.assert_allclose(shown.curves[3], 0.875 * shown.truth, atol=1e-3)
    images = evaluate_few_shot(NearestMean(), squares, tasks_of(squares), PLAN).shown
    assert images is not None
    assert images.grid is None
    assert images.inputs.shape == (4, 6, 1, 16, 16)
    assert images.predictions.shape == (4, 4, 18)


def test_the_plan_is_fitted_or_refused() -> None:
    both = replace(PLAN, default_steps=True)
    found = fitted(both, NearestMean(), "mine")
    assert (found.adaptation_steps, found.modes) == (1, ("deterministic",))
    assert fitted(found, NearestMean(), "mine") == found
    assert fitted(both, Waves(), "mine").adaptation_steps == 3
    for plan, said in (
        (PLAN, "mine reads the support set whole in one adaptation step, and 3 are asked for"),
        (replace(both, forget=True), "--forget leaves nothing to measure"),
        (replace(both, modes=("stochastic",)), "leave --mode stochastic out"),
    ):
        with pytest.raises(UserError, match=said):
            fitted(plan, NearestMean(), "mine")


class Broken(Waves):
    """Its predictions are of a wrong shape, or not finite."""

    def __init__(self, damage: Any) -> None:
        self.damage = damage

    def predict(self, inputs: torch.Tensor) -> Any:
        return self.damage(super().predict(inputs))


def test_wrong_predictions_are_told(sinusoids: FewShotSource) -> None:
    tasks = tasks_of(sinusoids)
    with pytest.raises(ValueError, match=r"shape \[5, 6\]; these query sets need \[5, 6, 1\]"):
        evaluate_few_shot(
            Broken(lambda p: Categorical(p.mean.expand(-1, -1, 3))), sinusoids, tasks, PLAN
        )

    def third(predicted: Any) -> Any:
        predicted.mean[2, 4] = np.nan
        return predicted

    with pytest.raises(FloatingPointError, match=r"^Task 2, after 0 .* query example 4"):
        evaluate_few_shot(Broken(third), sinusoids, tasks, PLAN)


def test_references_of_numbers(sinusoids: FewShotSource) -> None:
    tasks, plan = tasks_of(sinusoids), replace(PLAN, num_seeds=2)
    found = measure_few_shot_references(sinusoids, tasks, plan, lambda seed: Waves())
    assert set(found) == {"oracle", "nearest_neighbour", "from_scratch"}
    assert found["oracle"].max() < 1e-8
    assert found["from_scratch"].max() < 1e-8  # by 100 steps of its own
    by_hand = []
    for seed in (0, 1):
        support, query = sinusoids.examples(tasks, 6, Key(seed, evaluation=True))
        for m in range(5):
            for x, y in zip(query.observations[m], query.actions[m], strict=True):
                at = (support.observations[m] - x).abs().argmin()
                by_hand.append(float((support.actions[m, at] - y) ** 2))
    mean = np.reshape(by_hand, (2, 5, 6)).mean(axis=(0, 2))
    np.testing.assert_allclose(found["nearest_neighbour"], mean, rtol=1e-5)


def test_references_of_images(squares: FewShotSource) -> None:
    tasks, plan = tasks_of(squares, 3), replace(PLAN, adaptation_steps=1)
    found = measure_few_shot_references(squares, tasks, plan, None)
    assert set(found) == {"nearest_neighbour", "random_features", "chance"}
    np.testing.assert_allclose(found["chance"], 1 / 3)
    assert 0.5 < found["nearest_neighbour"].mean() <= 1.0
    assert 0.4 < found["random_features"].mean() <= 1.0
    sets = squares.examples(tasks, 6, Key(0, evaluation=True))
    itself = sets._replace(query=sets.support)
    assert torch.equal(nearest(itself, lambda x: x), sets.support.actions)


def config_of(folder: Path, name: str, env: dict[str, Any], **fields: Any) -> list[str]:
    """The arguments of a training of two iterations in a folder."""
    settings: dict[str, Any] = {
        "name": name,
        "env": env,
        "algorithm": {"name": "tests.few_shot_agents:Untrained"},
        "validation": {"interval": 2, "episodes": 3},
        "evaluation": {"episodes": 4},
        "tracking": {"wandb": "disabled"},
        "rollout": {"torch_threads": 1},
        "device": "cpu",
        "iterations": 2,
        "run_dir": str(folder / name),
    }
    for key, value in fields.items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    (folder / f"{name}.yaml").write_text(json.dumps(settings))
    return ["train", str(folder / f"{name}.yaml")]


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out sets of six tasks."""
    from metarl.envs.supervised import SinusoidDistribution

    everything = SinusoidDistribution.held_out
    monkeypatch.setattr(SinusoidDistribution, "held_out", lambda self: everything(self)[:6])


def test_a_run_is_trained_evaluated_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(monkeypatch)
    sinusoid = {"name": "sinusoid", "shots": 4}
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(config_of(tmp_path, "one", sinusoid)) == 0
    line = json.loads((one / "validation.jsonl").read_text())
    assert [key for key in line if "/" in key] == [f"error/step_{k}" for k in range(4)]
    result = EvaluationResult.read(one / "evaluation/held_out/evaluation.json")
    assert (result.measure, result.episodes_used) == ("error", [0, 4, 4, 4])
    assert result.headline.adaptation_helps is not None
    assert result.headline.adaptation_helps.verdict.startswith("adaptation helps: -")
    assert result.missing_references == {}
    assert (result.other, result.headline.settling_step) == (None, None)
    said = capsys.readouterr().out
    assert "error/step_1 0.500" in said
    assert "Adaptation helps: -" in said
    page = (one / "evaluation/held_out/report.html").read_text()
    for words in ("Squared error", "support examples used", "Not transductive", "oracle"):
        assert words in page
    pictures = {path.stem for path in (one / "evaluation/held_out").glob("*.png")}
    assert pictures == {"adaptation_curve", "functions", "error_by_task", "training_curve"}
    for words in ("Returns", "episodes used", "env steps", "deterministic actions"):
        assert words not in page
    # A run that is whole says so, and does not measure again.
    assert main(["train", "--run-dir", str(one), "--resume", "--trust-code"]) == 0
    assert "is finished" in capsys.readouterr().out

    other = {"name": "tests.few_shot_agents:Half"}
    unmeasured = {"at_end": False}
    assert main(config_of(tmp_path, "two", sinusoid, algorithm=other, evaluation=unmeasured)) == 0
    arguments = ["evaluate", str(one), str(two), "--trust-code", "--output", str(tmp_path / "c")]
    assert main([*arguments, "--evaluation-seeds", "2"]) == 0
    data = json.loads((tmp_path / "c/comparison.json").read_text())
    assert (data["measure"], data["groups"][0]["transductive"]) == ("error", False)
    assert "no clear difference" in data["pairs_after_the_last_step"][0]["difference"]["verdict"]
    page = (tmp_path / "c/report.html").read_text()
    assert "Squared error" in page
    assert "eturn" not in page
    for more, words in (
        (["--mode", "stochastic"], "leave --mode stochastic out"),
        (["--forget", "true"], "--forget leaves nothing to measure"),
        (["--video"], "no environment to act in"),
    ):
        assert main(["evaluate", str(one), "--trust-code", *more]) == 2
        assert words in capsys.readouterr().err


def test_classes_are_trained_on_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"name": "tests.few_shot_agents:Squares"}
    assert main(config_of(tmp_path, "three", env)) == 0
    folder = tmp_path / "three/evaluation/held_out"
    result = EvaluationResult.read(folder / "evaluation.json")
    assert result.adaptation_steps == 1  # of the default, 3, an agent that reads whole takes one
    assert result.calibration is not None
    assert sum(result.calibration[0].counts) == len(result.tasks) * 12
    assert result.calibration[0].error == pytest.approx(0.0, abs=1e-6)  # 1/3 sure, 1/3 right
    page = (folder / "report.md").read_text()
    for words in ("calibration error", "after reading the support set", "6 support examples"):
        assert words in page
    pictures = {path.stem for path in folder.glob("*.png")}
    known = {"adaptation_curve", "predictions", "reliability", "tasks", "training_curve"}
    assert pictures == known  # and no map of tasks, which are indices of classes
    tasks = tmp_path / "mine.csv"
    names = ",".join(result.task_columns)
    tasks.write_text(f"{names}\n{','.join(str(int(x)) for x in result.tasks[0])}\n")
    assert main(["evaluate", str(tmp_path / "three"), "--trust-code", "--tasks", str(tasks)]) == 0
    assert "1 task of mine.csv" in " ".join(capsys.readouterr().out.split())
    again = ["evaluate", str(tmp_path / "three"), "--trust-code"]
    assert main([*again, "--adaptation-steps", "3"]) == 2
    assert "in one adaptation step, and 3 are asked for" in capsys.readouterr().err
