"""Configs of earlier versions load, and say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from metarl.config.loading import changes, load_config
from tests.config.fakes import refused

RESULTS = Path(__file__).parents[2] / "results"
CLIMB = ["--algorithm.name", "tests.config.test_migration:Climb"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class TRPO(Frozen):
    name: Literal["trpo"] = "trpo"
    max_kl: float = 0.01
    cg_steps: int = 10


class PPO(Frozen):
    name: Literal["ppo"] = "ppo"
    lr: float = 1e-3
    clip: float = 0.2
    steps: int = 5


class ClimbConfig(BaseModel):
    outer: TRPO | PPO = TRPO()
    tasks: int = 3


class Climb:
    config_class: ClassVar[type[BaseModel]] = ClimbConfig

    def collect(self) -> None: ...
    def update(self) -> None: ...
    def state_dict(self) -> None: ...
    def load_state_dict(self) -> None: ...
    def agent(self) -> None: ...


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("config.yaml")), ids=lambda p: p.parent.name)
def test_every_stored_run_loads(path: Path) -> None:
    config = load_config(path, [])
    if "normalize_observations" not in path.read_text():  # as it was trained
        assert not getattr(config.algorithm, "normalize_observations", False)
    for manifest in path.parent.glob("checkpoints/*/manifest.json"):
        made_with = json.loads(manifest.read_text())["config_fingerprint"]
        assert changes(made_with, config) == []


def test_a_config_that_is_no_record_takes_todays_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("algorithm: {name: maml, tasks: 3, inner_lr: [0.3]}\n")
    assert load_config(path, []).algorithm.normalize_observations  # type: ignore[attr-defined]
    old = RESULTS / "maml_navigation" / "seed_1" / "config.yaml"
    options = ["--algorithm.normalize_observations", "true"]
    assert load_config(old, options).algorithm.normalize_observations  # type: ignore[attr-defined]


RECORD = """\
env:
  name: half_cheetah_vel
  preset: maml_2017
  velocity_low: 0.0
  velocity_high: 2.0
  horizon: 200
  observe_position: true
  held_out: maml_2017
"""


def test_a_record_of_a_preset_keeps_the_physics_of_its_time(tmp_path: Path) -> None:
    """When its frame skip and its velocity were no parameters yet; a config that names the preset
    gets today's."""
    path = tmp_path / "config.yaml"
    path.write_text(RECORD)
    recorded = load_config(path, [])
    path.write_text("env: {name: half_cheetah_vel, preset: maml_2017}\n")
    chosen = load_config(path, [])
    found = [(c.env.frame_skip, c.env.velocity_of) for c in (recorded, chosen)]  # type: ignore[attr-defined]
    assert found == [(5, "torso"), (1, "whole_body")]
    path.write_text(RECORD + "  frame_skip: 2\n")
    assert load_config(path, []).env.frame_skip == 2  # type: ignore[attr-defined]
    names = ("env.name", "env.preset", "env.velocity_low", "env.velocity_high", "env.horizon")
    values = ("half_cheetah_vel", "maml_2017", 0.0, 2.0, 200)
    made_with = dict(zip(names, values, strict=True))
    made_with |= {"env.observe_position": True, "env.held_out": "maml_2017"}
    assert changes(made_with | {"name": recorded.name}, recorded) == []


def load(folder: Path, section: str, *words: str) -> Any:
    path = folder / "old.yaml"
    path.write_text(f"seed: 1\nalgorithm:\n  {section.replace('; ', chr(10) + '  ')}\n")
    return load_config(path, [*CLIMB, *words]).algorithm


@pytest.mark.parametrize(
    ("section", "outer"),
    [
        ("outer: trpo; max_kl: 0.02; lr: 0.001; clip: 0.2; outer_steps: 5", TRPO(max_kl=0.02)),
        ("outer: ppo; max_kl: 0.01; lr: 0.01; outer_steps: 7", PPO(lr=0.01, steps=7)),
        ("max_kl: 0.02", TRPO(max_kl=0.02)),
        ("outer: ppo; lr: null", PPO()),
        ("action_scale: 1.0; std_rate: 1.0", TRPO()),
        ("outer: {name: ppo, steps: 2}", PPO(steps=2)),
    ],
)
def test_flat_settings_become_the_outer_optimisers(
    section: str, outer: Frozen, tmp_path: Path
) -> None:
    assert load(tmp_path, section).outer == outer


@pytest.mark.parametrize(
    ("section", "words", "outer"),
    [
        ("tasks: 2", "--algorithm.max_kl 0.02", TRPO(max_kl=0.02)),
        ("outer: trpo; max_kl: 0.5", "--algorithm.cg-steps 3", TRPO(max_kl=0.5, cg_steps=3)),
        ("outer: {name: trpo, max_kl: 0.5}", "--algorithm.max-kl 0.1", TRPO(max_kl=0.1)),
        ("outer: trpo; cg_steps: 3", "--algorithm.outer.max_kl 1", TRPO(max_kl=1, cg_steps=3)),
        ("outer: trpo; max_kl: 0.5", "--algorithm.outer.max_kl 0.1", TRPO(max_kl=0.1)),
        ("clip: 0.3", "--algorithm.outer ppo --algorithm.outer_steps 2", PPO(clip=0.3, steps=2)),
    ],
)
def test_old_options(section: str, words: str, outer: Frozen, tmp_path: Path) -> None:
    assert load(tmp_path, section, *words.split()).outer == outer


@pytest.mark.parametrize(
    ("section", "words", "sentence"),
    [
        (
            "outer: trpo; clip: 0.3",
            "",
            "{path}, line 4: algorithm.clip is 0.3, but the outer optimiser trpo has no such "
            "setting: leave it out.",
        ),
        (
            "std_rate: 0.5",
            "",
            "{path}, line 3: algorithm.std_rate is 0.5, but that setting is gone and always 1.0: "
            "leave it out.",
        ),
        (
            "outer: trop; clip: 0.3",
            "",
            "{path}, line 3: algorithm.outer is 'trop', but must be one of trpo, ppo (the nearest "
            "is trpo).",
        ),
        (
            "outer: trpo; max_kl: much",
            "",
            "{path}, line 4: algorithm.outer.max_kl is 'much', but must be a number.",
        ),
        (
            "tasks: 1",
            "--algorithm.clip 0.3",
            "command line: there is no field algorithm.outer.clip with outer trpo; there are: "
            "cg_steps, max_kl, name.",
        ),
        (
            "outer: trpo; max_kl: 0.5",
            "--algorithm.outer ppo",
            "{path}, line 4: algorithm.max_kl is 0.5, but the outer optimiser ppo has no such "
            "setting: leave it out.",
        ),
        (
            "outer: {name: trpo, max_kl: 0.1}; max_kl: 0.5",
            "",
            "{path}, line 4: there is no field algorithm.max_kl; the nearest is "
            "algorithm.outer.max_kl.",
        ),
        (
            "tasks: 1",
            "--algorithm.max_kl x",
            "command line: algorithm.outer.max_kl is 'x', but must be a number.",
        ),
    ],
)
def test_what_cannot_be_migrated(section: str, words: str, sentence: str, tmp_path: Path) -> None:
    message = refused(lambda: load(tmp_path, section, *words.split()))
    assert message == sentence.format(path=tmp_path / "old.yaml")


def test_flat_settings_stay_where_the_outer_optimiser_is_no_union() -> None:
    config = load_config(None, ["--algorithm.name", "rl2", "--algorithm.lr", "0.01"])
    assert config.algorithm.lr == 0.01


def test_a_checkpoint_of_earlier_is_compared_under_todays_names() -> None:
    made_with = {"algorithm.name": CLIMB[1], "algorithm.outer": "ppo", "algorithm.outer_steps": 7}
    made_with |= {
        "algorithm.max_kl": 0.01,
        "algorithm.std_rate": 1.0,
        "env.name": "half_cheetah_vel",
    }
    words = ["--env.name=half_cheetah_vel", "--algorithm.outer=ppo", "--algorithm.outer.steps"]
    assert changes(made_with, load_config(None, [*CLIMB, *words, "7"])) == []
    found = changes(made_with, load_config(None, [*CLIMB, *words, "8"]))
    assert found == ["algorithm.outer.steps was 7 and is 8 now"]
    found = changes(made_with, load_config(None, [*CLIMB, words[0]]))
    assert "algorithm.outer.name was 'ppo' and is 'trpo' now" in found


def test_a_field_that_did_not_exist_counts_as_its_default() -> None:
    made_with = {"algorithm.name": CLIMB[1]}
    assert changes(made_with, load_config(None, CLIMB)) == []
    found = changes(made_with, load_config(None, [*CLIMB, "--algorithm.tasks", "4"]))
    assert found == ["algorithm.tasks was 3 and is 4 now"]
    found = changes(made_with | {"algorithm.tasks": 4}, load_config(None, CLIMB))
    assert found == ["algorithm.tasks was 4 and is 3 now"]
    made_with |= {"algorithm": 3, "algorithm.tasks": {}}
    assert "algorithm.tasks" in refused(lambda: changes(made_with, load_config(None, CLIMB)))
