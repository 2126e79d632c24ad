"""Whole runs of the supervised family: exact after a resume and after kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import train
from metarl.config.loading import config_to_dict, load_config
from tests.programs import ROOT, Forks, Whole, assert_same_state
from tests.training.test_training import kill_ten_times, trained

NAMES = ("maml", "fomaml", "anil", "meta_sgd", "reptile")


def changes(name: str) -> dict[str, Any]:
    """Of the tiny config."""
    algorithm = {"name": f"few_shot_{name}", "tasks": 3, "queries": 4, "adaptation_steps": 2}
    network = {"name": "mlp", "hidden_sizes": [5]}
    outer = {"name": "adam", "lr_decay_iterations": 5}
    env = {"name": "sinusoid", "shots": 3}
    return {
        "env": Whole(env),
        "algorithm": Whole(algorithm | {"network": network, "outer": outer}),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_resume_leaves_no_trace(name: str, tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", iterations=3, **changes(name))
    run = trained(tmp_path / "resumed", iterations=2, **changes(name))
    assert train.main(["--run-dir", str(run), "--resume", "--iterations", "3"]) == 0
    assert_same_state(alone, run)


@pytest.mark.slow
def test_ten_kills_leave_no_trace_of_reptiles_minibatches(forks: Forks, tmp_path: Path) -> None:
    kill_ten_times(forks, tmp_path, 120, **changes("reptile"))
    assert_same_state(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_configs_on_sinusoids_differ_from_mamls_in_the_method_alone(name: str) -> None:
    paths = (f"configs/few_shot_sinusoid_{name}.yaml", "configs/few_shot_sinusoid.yaml")
    own, mamls = (config_to_dict(load_config(ROOT / path, [])) for path in paths)
    assert own.pop("name") == f"few_shot_sinusoid_{name}"
    assert mamls.pop("name") == "few_shot_sinusoid"
    settings, mamls_settings = own.pop("algorithm"), mamls.pop("algorithm")
    assert own == mamls
    assert settings["name"] == f"few_shot_{name}"
    differing = {n for n in settings.keys() & mamls_settings if settings[n] != mamls_settings[n]}
    steps = {"queries", "adaptation_steps", "inner_lr"}
    of_the_method = {"fomaml": {"first_order"}, "reptile": steps}
    assert differing == {"name"} | of_the_method.get(name, set())


@pytest.mark.parametrize(
    ("name", "ways", "shots"), [("5way1shot", 5, 1), ("5way5shot", 5, 5), ("20way1shot", 20, 1)]
)
def test_the_configs_on_omniglot_are_of_so_many_ways_and_shots(
    name: str, ways: int, shots: int
) -> None:
    config = load_config(ROOT / f"configs/few_shot_omniglot_{name}.yaml", [])
    settings = config_to_dict(config)
    assert (settings["env"]["ways"], settings["env"]["shots"]) == (ways, shots)
    assert settings["evaluation"]["episodes"] + shots <= 20  # images of a character
    assert settings["algorithm"]["network"]["transductive"]
