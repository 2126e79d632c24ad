"""Whole runs of the methods that read a support set or infer weights: resumed, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import evaluate
import train
from metarl.config.loading import config_to_dict, load_config
from metarl.random import Key
from metarl.runs.trained_run import load_run
from tests.cli.test_end_to_end import refusal
from tests.programs import ROOT, Forks, Whole, assert_same_state, write_config
from tests.synthetic_glyphs import draw_glyphs
from tests.training.test_training import kill_ten_times, one_sentence, trained

NAMES = ("prototypical_networks", "matching_networks", "versa", "amortized_bayes")
MLP = {"name": "mlp", "hidden_sizes": [6]}
CONV = {"name": "conv", "filters": 3}
SINUSOID = {"name": "sinusoid", "shots": 3}


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The section env of synthetic alphabets."""
    folder = draw_glyphs(tmp_path_factory.mktemp("glyphs"), {"one": 5, "two": 3, "three": 3})
    splits = {"training": ["one"], "validation": ["two"], "held_out": ["three"]}
    images = {"name": "few_shot_images", "data": str(folder), "ways": 2, "size": 16}
    return images | splits


def changes(env: dict[str, Any], name: str, network: Any, **settings: Any) -> dict[str, Any]:
    """Of the tiny config."""
    algorithm = {"name": name, "network": network, "tasks": 2, "queries": 2}
    return {"env": Whole(env), "algorithm": Whole(algorithm | settings)}


@pytest.mark.parametrize("name", [*NAMES, "versa on numbers", "amortized_bayes on numbers"])
def test_a_resume_leaves_no_trace(name: str, glyphs: dict[str, Any], tmp_path: Path) -> None:
    """Of parameters, Adam, noise and the running statistics of batch normalisation."""
    name, _, numbers = name.partition(" on ")
    of_run = changes(SINUSOID, name, MLP) if numbers else changes(glyphs, name, CONV)
    alone = trained(tmp_path / "alone", iterations=3, **of_run)
    run = trained(tmp_path / "resumed", iterations=2, **of_run)
    assert train.main(["--run-dir", str(run), "--resume", "--iterations", "3"]) == 0
    assert_same_state(alone, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["versa", "amortized_bayes"])
def test_ten_kills_leave_no_trace_of_the_noise(name: str, forks: Forks, tmp_path: Path) -> None:
    kill_ten_times(forks, tmp_path, 120, **changes(SINUSOID, name, MLP))
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize(("name", "axis"), [(NAMES[0], "support_set"), (NAMES[3], "gradient_step")])
def test_a_run_is_evaluated(name: str, axis: str, glyphs: dict[str, Any], tmp_path: Path) -> None:
    """And what it says of transduction is so: alone a query is predicted as among others."""
    run = trained(tmp_path / "a", iterations=1, **changes(glyphs, name, CONV))
    words = ["--run", str(run), "--episodes", "2", "--adaptation-steps", "1"]
    assert evaluate.main(words) == 0
    result = json.loads((run / "evaluation" / "held_out" / "evaluation.json").read_text())
    assert (result["x"], result["measure"]) == (axis, "accuracy")
    assert result["episodes_used"] == [0, 2]
    assert result["few_shot"]["transductive"] is (axis == "gradient_step")
    loaded: Any = load_run(run)
    held_out = loaded.worker.task_distribution.held_out()[:2]
    sets = loaded.worker.examples(held_out, 2, Key(0))
    agent = loaded.algorithm.agent("deterministic", Key(0))
    agent.begin(sets.support)
    agent.adapt()
    among = agent.predict(sets.query.observations).logits[:, :1].softmax(-1)
    alone = agent.predict(sets.query.observations[:, :1]).logits.softmax(-1)
    assert torch.allclose(among, alone, atol=1e-6) is (axis == "support_set")


METHODS = ("prototypical", "matching", "versa", "amortized_bayes")
CONFIGS = [("5way1shot", method) for method in METHODS]
CONFIGS += [("5way5shot", "prototypical"), ("20way1shot", "prototypical")]


@pytest.mark.parametrize(("tasks", "method"), CONFIGS)
def test_the_configs_are_evaluated_on_what_mamls_is(tasks: str, method: str) -> None:
    own, mamls = (
        config_to_dict(load_config(ROOT / f"configs/{name}_omniglot_{tasks}.yaml", []))
        for name in (method, "few_shot")
    )
    assert own["env"] == mamls["env"]
    assert own["evaluation"]["episodes"] == mamls["evaluation"]["episodes"]
    assert own["algorithm"]["name"].startswith(method)


REFUSED = {
    "prototypical_networks mlp": "it tells classes apart, and these targets are numbers",
    "matching_networks mlp": "versa, amortized_bayes and the few_shot_ algorithms take them",
    "versa conv": "network conv takes images [channels, height, width]",
    "amortized_bayes conv": "network conv tells classes apart, and these targets are numbers",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_numbers(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, network = case.split()
    config = write_config(tmp_path, **changes(SINUSOID, name, {"name": network}))
    run = tmp_path / "run"
    assert REFUSED[case] in refusal(train.main, ["--config", config, "--run-dir", run], capsys)


def test_matching_networks_train_in_the_tests_ways_and_others_in_what_there_are(
    glyphs: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for name, ways in (("matching_networks", 3), ("prototypical_networks", 6)):
        folder = tmp_path / name
        folder.mkdir()
        config = write_config(folder, **changes(glyphs, name, CONV, training_ways=ways))
        assert train.main(["--config", str(config), "--run-dir", str(folder / "run")]) == 2
        said[name] = one_sentence(capsys.readouterr().err)
    assert "trained in tasks like those of the test" in said["matching_networks"]
    assert "Tasks of 6 ways cannot be had: training has 5 classes" in said["prototypical_networks"]
