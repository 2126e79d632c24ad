"""The Python door, as a notebook or a program of a user's own goes through it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metarl
from metarl.errors import UserError
from tests.programs import ENVIRONMENT, files, lines, tiny, write_config
from tests.user_agents import Scout

PROGRAM = """
import sys

import gymnasium
import numpy as np

import metarl

assert not {"torch", "mujoco", "wandb", "ray"} & set(sys.modules)
gymnasium.make("metarl/PointNavigation-v0").close()

from matplotlib.backends.backend_agg import FigureCanvasAgg

from metarl.envs import UniformInterval
from metarl.envs.navigation import PointNavigation

FigureCanvasAgg.draw = FigureCanvasAgg.get_renderer  # nobody looks at the pictures


class Ring(PointNavigation):
    pass  # in this process, like its parent


class Places(UniformInterval):
    def __init__(self):
        super().__init__(-1.0, 1.0, column="place", unit="m")


class Cart(gymnasium.Env):
    # On worker processes, which know no such class.
    task_distribution, horizon = Places(), 5
    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def set_task(self, task):
        self.place = task[0]

    def reset(self, *, seed=None, options=None):
        self.position, self.steps = 0.0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.position, self.steps = self.position + float(action[0]), self.steps + 1
        reward = -abs(self.position - self.place)
        return np.array([self.position], np.float32), reward, False, self.steps == 5, {}


short = {"tasks": 2, "episodes": 2, "hidden_sizes": [4]}
options = {"iterations": 2, "evaluation": {"at_end": False}, "rollout.workers": 1}
options |= {"tracking.wandb": "disabled", "validation.enabled": False}
for name, env in (("Ring", Ring), ("Cart", {"name": Cart})):
    algorithm = {"name": "fomaml", **short}
    run = metarl.train("quickstart", env=env, name=name, algorithm=algorithm, **options)
    assert len(run.metrics["env_steps"]) == 2
    result = metarl.evaluate(run, episodes=2, adaptation_steps=1, mode="stochastic")
    assert result.arrays()["returns"].shape == (2, 40)
    assert "data:image/png;base64," in result._repr_html_()
print(sorted(path.name for path in run.folder.parent.iterdir()))
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    config = write_config(folder, iterations=2)
    for seed in (1, 2):
        metarl.train(config, seed=seed, run_dir=str(folder / f"seed_{seed}"))
    return folder / "seed_1"


def test_a_program_in_an_empty_folder_trains_on_its_own_classes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program)]
    ended = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("['Cart', 'Ring']\n")


def test_a_run_is_the_one_of_the_command_line(run_dir: Path, tmp_path: Path) -> None:
    import train

    folder = tmp_path / "typed"
    config = write_config(tmp_path, iterations=2, seed=1)
    assert train.main(["--config", str(config), "--run-dir", str(folder)]) == 0
    assert lines(folder) == lines(run_dir)
    run = metarl.load_run(run_dir)
    assert run.metrics["iteration"].tolist() == [1, 2]
    shown = run._repr_html_()
    assert "<td>maml</td>" in shown
    assert "data:image/png;base64," in shown


def test_fields_by_section_by_dots_and_as_a_mapping(tmp_path: Path) -> None:
    same: dict[str, Any] = {"run_dir": str(tmp_path / "a"), "iterations": 1}
    dotted: dict[str, Any] = {"algorithm.tasks": 3}
    run = metarl.train(tiny(), env={"horizon": 7}, **dotted, **same)
    assert (run.config.env.horizon, run.config.algorithm.tasks) == (7, 3)
    assert run.config.algorithm.episodes == 3  # the others of the section stay
    with pytest.raises(UserError, match="already holds a run"):
        metarl.train(tiny(), **same)
    wrong: dict[str, Any] = {"algorithm.taks": 3}
    with pytest.raises(UserError, match=r"no field algorithm\.taks"):
        metarl.train(tiny(), **wrong)
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        metarl.train("quickstrat")


def test_an_evaluation_writes_nothing_unless_asked(run_dir: Path, tmp_path: Path) -> None:
    before = files(run_dir, without="")
    result = metarl.evaluate(run_dir, episodes=2, adaptation_steps=2)
    assert files(run_dir, without="") == before
    arrays = result.arrays()
    assert arrays["returns"].shape == (3, 40)
    np.testing.assert_allclose(arrays["returns"].mean(axis=1), arrays["mean"])
    shown = result._repr_html_()
    assert "after 2 gradient steps" in shown
    assert "data:image/png;base64," in shown
    again = metarl.evaluate(run_dir, episodes=2, adaptation_steps=2, output=tmp_path / "out")
    assert again.to_json() == result.to_json() == (tmp_path / "out/evaluation.json").read_text()


def test_evaluation_seeds_are_averaged(tmp_path: Path) -> None:
    config = write_config(tmp_path, evaluation={"episodes": 2, "adaptation_steps": 1, "seeds": 2})
    options: dict[str, Any] = {"config": config, "mode": "stochastic", "seed": 3}
    both = metarl.evaluate(Scout, **options)  # as the config says
    assert both.to_json() == metarl.evaluate(Scout, **options, evaluation_seeds=2).to_json()
    assert both.evaluation_seeds == [3, 4]
    singles = [
        metarl.evaluate(Scout, **options | {"seed": seed}, evaluation_seeds=1) for seed in (3, 4)
    ]
    assert both.headline.evaluation_seed_means == [
        [single.headline.mean[k] for single in singles] for k in range(2)
    ]
    for name, reference in both.references.items():
        each = [single.references[name].returns for single in singles]
        np.testing.assert_allclose(reference.returns, np.mean(each, axis=0), rtol=1e-12)
    random = [single.references["random"].mean for single in singles]
    assert random[0] != random[1]


def test_an_agent_of_ones_own_by_class_and_by_path(tmp_path: Path) -> None:
    config = write_config(tmp_path, evaluation={"episodes": 4, "adaptation_steps": 1})
    by_class = metarl.evaluate(Scout, config=config)
    by_path = metarl.evaluate("tests.user_agents:Scout", config=config)
    assert by_class.to_json() == by_path.to_json()
    with pytest.raises(UserError, match="needs config="):
        metarl.evaluate(Scout)
    with pytest.raises(UserError, match="needs config="):
        metarl.evaluate("tests.user_agents:Scout")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "stochastc"}, "mode is 'stochastc', but must be one of .*nearest is stochastic"),
        ({"episodes": 0}, "episodes is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"evaluation_seeds": 0}, "evaluation_seeds is 0"),
        ({"split": "held_out", "tasks": "own.csv"}, "split and tasks both"),
        ({"tasks": "absent.csv"}, "absent.csv"),
    ],
)
def test_what_is_asked_of_an_evaluation_is_checked(
    options: dict[str, Any], said: str, run_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        metarl.evaluate(run_dir, **options)
    with pytest.raises(UserError, match=said):
        metarl.compare([run_dir, run_dir.with_name("seed_2")], **options)


def test_a_run_that_is_missing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        metarl.evaluate(tmp_path / "absent", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_comparison(run_dir: Path, tmp_path: Path) -> None:
    runs = [run_dir, run_dir.with_name("seed_2")]
    comparison = metarl.compare(runs, episodes=2, adaptation_steps=1, output=tmp_path / "out")
    assert comparison.arrays()["config"].shape == (2, 2, 40)
    assert "data:image/png;base64," in comparison._repr_html_()
    assert (tmp_path / "out/report.html").exists()
    with pytest.raises(UserError, match="at least two runs"):
        metarl.compare([run_dir])


def test_an_environment_by_name_and_by_class() -> None:
    from metarl.envs.navigation import PointNavigation

    for name in ("point_navigation", PointNavigation):
        env = metarl.make_env(name, 3, horizon=7)
        assert (env.num_envs, env.horizon) == (3, 7)
        env.close()
    with pytest.raises(UserError, match="horizn"):
        metarl.make_env("point_navigation", horizn=7)


def test_what_metarl_offers_is_listed() -> None:
    assert {"train", "evaluate", "compare", "load_run", "make_env", "envs"} <= set(dir(metarl))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = metarl.trian  # type: ignore[attr-defined]
