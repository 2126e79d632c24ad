"""The algorithms' settings: found without torch, and what becomes of a bare name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.algorithms import ALGORITHMS, algorithm_class, settings_class
from metarl.algorithms.meta_sgd import MetaSGD
from metarl.algorithms.settings.gradient import MAMLSettings, MetaSGDSettings, ReptileSettings
from metarl.algorithms.settings.outer import AdamSettings


def test_settings_are_found_without_torch() -> None:
    code = (
        "import sys\n"
        "from metarl.algorithms import ALGORITHMS, settings_class\n"
        "for name in ALGORITHMS: settings_class(name)\n"
        "print(sorted({'torch', 'mujoco', 'scipy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_and_its_settings_know_each_other(name: str) -> None:
    settings = settings_class(name)
    assert algorithm_class(name).config_class is settings
    assert settings().name == name
    assert settings.__doc__.splitlines()[0].endswith(").")


def test_a_bare_name_is_an_optimiser_with_its_defaults() -> None:
    by_name = MAMLSettings(outer="adam")  # type: ignore[arg-type]
    assert by_name == MAMLSettings(outer={"name": "adam"})  # type: ignore[arg-type]
    assert by_name == MAMLSettings(outer=AdamSettings(lr=1e-3))
    assert ReptileSettings(outer="adam").outer == AdamSettings(lr=1e-3)  # type: ignore[arg-type]


def test_rates_of_an_earlier_checkpoint_stood_among_the_parameters() -> None:
    box = spaces.Box(-1, 1, (2,), dtype=np.float32)
    config = MetaSGDSettings(hidden_sizes=(3,), normalize_observations=False)
    meta_sgd = MetaSGD(config, box, box, seed=0)
    earlier = {
        "params": {n: torch.rand_like(p) for n, p in meta_sgd.params.items()}
        | {f"rate.{n}": torch.rand_like(p) for n, p in meta_sgd.params.items()}
    }
    meta_sgd.load_state_dict(earlier)
    state = meta_sgd.state_dict()
    for name, p in state["params"].items():
        assert torch.equal(p, earlier["params"][name])
        assert torch.equal(state["rates"][name], earlier["params"][f"rate.{name}"])
    with pytest.raises(ValueError, match="rates has nothing"):
        meta_sgd.load_state_dict({"params": state["params"]})


class NoState:
    """Could be trained, and not saved."""

    config_class = MAMLSettings
    collect = update = agent = None


def test_an_algorithm_must_have_a_state_to_save() -> None:
    with pytest.raises(ValueError, match=r"NoState' lacks state_dict, load_state_dict\.$"):
        algorithm_class(f"{__name__}:NoState")
