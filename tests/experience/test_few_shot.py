"""Few-shot tasks by name or import path, where their examples come from, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn.functional import interpolate

import train
from metarl import envs
from metarl.algorithms import ALGORITHMS
from metarl.cli.main import main
from metarl.config.loading import config_from, config_to_yaml, resolve
from metarl.envs.example_contract import check_supervised
from metarl.envs.supervised import Sinusoid
from metarl.errors import UserError
from metarl.experience.distortion import HIGH, LOW, distorted
from metarl.experience.few_shot import FewShotSource
from metarl.random import Key
from metarl.runs.build import make_algorithm, make_worker
from metarl.runs.trained_run import load_run
from tests.few_shot_toys import Mean, Slopes
from tests.programs import tiny
from tests.synthetic_glyphs import draw_glyphs

SLOPES = {"name": "tests.few_shot_toys:Slopes"}
MEAN = {"name": "tests.few_shot_toys:Mean"}


def config(env: dict[str, Any], algorithm: dict[str, Any]) -> Any:
    return config_from(tiny(iterations=4) | {"env": env, "algorithm": algorithm})


def written(folder: Path, env: dict[str, Any], algorithm: dict[str, Any]) -> str:
    path = folder / "config.yaml"
    path.write_text(config_to_yaml(config(env, algorithm)))
    return str(path)


def test_a_config_makes_the_source_and_the_algorithm_of_few_shot_tasks() -> None:
    known = config({"name": "sinusoid", "shots": 5, "amplitude": [1.0, 2.0]}, MEAN)
    source = make_worker(known)
    assert isinstance(source, FewShotSource)
    assert isinstance(source.tasks, Sinusoid)
    assert source.tasks.shots == 5
    assert source.sample_tasks(50, Key(1))[:, 0].min() >= 1.0
    algorithm: Any = make_algorithm(known, source)
    assert isinstance(algorithm, Mean)
    assert algorithm.spaces == (source.tasks.input_space, source.tasks.target_space)
    own = make_worker(config(SLOPES, MEAN))
    assert isinstance(own, FewShotSource)
    assert isinstance(own.tasks, Slopes)


def test_tasks_of_another_distribution() -> None:
    tasks = "tests.envs.user_envs:Velocities"
    made = envs.make_tasks("tests.few_shot_toys:Slopes", tasks=tasks)
    assert made.task_distribution.held_out().min() > 5.0
    with pytest.raises(ValueError, match=r"have 1 numbers: Sinusoid needs 2 \(amplitude, phase\)"):
        envs.make_tasks("sinusoid", tasks=tasks)


def test_a_wrong_parameter_is_refused_before_there_is_a_run_folder() -> None:
    with pytest.raises(UserError, match=r"env: shots is 0: it must be an integer of at least 1"):
        resolve(config({"name": "sinusoid", "shots": 0}, MEAN))


def test_training_on_a_users_tasks_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, SLOPES, MEAN)
    for run, words in (("whole", []), ("halves", ["--iterations", "2"])):
        command = ["--config", path, "--run-dir", str(tmp_path / run)]
        assert train.main([*command, *words]) == 0
    assert train.main([*command, "--resume"]) == 0
    whole, halves = (
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()]
        for run in ("whole", "halves")
    )
    assert [line["mean"] for line in whole] == [line["mean"] for line in halves]
    assert [line["env_steps"] for line in whole] == [20, 40, 60, 80]


def test_an_algorithm_is_not_given_what_it_does_not_learn_from() -> None:
    sinusoid = config({"name": "sinusoid"}, {"name": "maml"})
    said = "maml learns from episodes and sinusoid gives examples, from which there learn "
    with pytest.raises(UserError, match=said):
        make_algorithm(sinusoid, make_worker(sinusoid))
    navigation = config({"name": "point_navigation"}, MEAN)
    said = "Mean learns from examples and point_navigation gives episodes.* there learn anil,"
    with pytest.raises(UserError, match=said):
        make_algorithm(navigation, make_worker(navigation))


def test_what_needs_an_environment_to_act_in_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["references", written(tmp_path, {"name": "sinusoid"}, {"name": "maml"})]) == 2
    assert "Sinusoid is few-shot learning, which has examples and no" in capsys.readouterr().err
    for name, said in (
        ("point_navigation", "point_navigation is an environment: it has no examples"),
        ("metarl.envs:SupervisedTasks", "SupervisedTasks cannot be built: TypeError: Can't insta"),
        ("tests.few_shot_toys:Slope", "Unknown class or function 'Slope': did you mean 'Slopes'"),
    ):
        with pytest.raises(ValueError, match=said):
            envs.make_tasks(name)


def test_the_list_has_few_shot_tasks_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "few-shot"]) == 0
    assert "  sinusoid " in (few_shot := capsys.readouterr().out)
    assert main(["list", "environments"]) == 0
    assert not set(few_shot.split()) & {"point_navigation"}
    assert "sinusoid" not in capsys.readouterr().out


def test_examples_of_a_task_are_its_own() -> None:
    """They do not depend on the other tasks of the batch; support and query are one stream's."""
    source = FewShotSource(Sinusoid(shots=4))
    tasks = source.sample_tasks(3, Key(1, 2))
    three, one = (source.examples(tasks[:n], 6, Key(1, 2)) for n in (3, 1))
    assert three.support.observations.shape == (3, 4, 1)
    assert three.query.actions.shape == (3, 6, 1)
    for a, b in zip(three, one, strict=True):
        assert torch.equal(a.observations[:1], b.observations)
        torch.testing.assert_close(a.weights.sum(1), torch.ones(3))
    amplitude, phase = torch.tensor(tasks).unsqueeze(-1).unbind(1)
    x, y = three.query.observations[..., 0], three.query.actions[..., 0]
    torch.testing.assert_close(y, (amplitude * torch.sin(x - phase)).float())


class Restless(Slopes):
    """Has a stream of its own."""

    rng = np.random.default_rng(0)

    def draw(self, tasks: Any, rngs: Any, queries: int) -> Any:
        return super().draw(tasks, [self.rng] * len(rngs), queries)


def test_a_look_before_training() -> None:
    assert FewShotSource(Slopes()).probe("Slopes") == []
    (warning,) = FewShotSource(Restless()).probe("Restless")
    assert "Restless drew other examples when one task and stream were drawn from a sec" in warning


def broken(change: Callable[[Any, Any], Any]) -> Any:
    """Slopes whose support set is changed after it was drawn."""

    class Broken(Slopes):
        def draw(self, tasks: Any, rngs: Any, queries: int) -> Any:
            (x, y), query = super().draw(tasks, rngs, queries)
            return change(x, y), query

    return Broken()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, y: None, "returned a tuple of 2: it must return two Examples"),
        (
            lambda x, y: (x[:, :2], y),
            r"shape \[1, 2, 1\] as inputs of the support.*\[1, 3, 1\]",
        ),
        (lambda x, y: (x, y[..., 0]), r"shape \[1, 3\] as targets of the support.*\[1, 3, 1\]"),
        (lambda x, y: (x / 0, y), "returned inputs that are not all finite"),
        (lambda x, y: (x, y / "2"), "The environment failed: .*test_few_shot.py, line"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_a_users_class_draws_is_held_against_its_spaces(change: Any, sentence: str) -> None:
    source = FewShotSource(broken(change))
    with pytest.raises(envs.SimulationFailure, match=sentence):
        source.examples(np.zeros((1, 1)), 2, Key(0))


def test_targets_are_classes_where_there_are_classes() -> None:
    class Signs(Slopes):
        measure: Any = "accuracy"
        target_space = spaces.Discrete(3)

        def draw(self, tasks: Any, rngs: Any, queries: int) -> Any:
            x = np.zeros((len(tasks), 3 * (self.shots + queries), 1))
            targets = np.arange(x.shape[1]) - 1
            return (x[:, :9], targets[None, :9]), (x[:, 9:], targets[None, 9:])

    with pytest.raises(envs.SimulationFailure, match=r"that are not whole numbers from 0 to 2\."):
        FewShotSource(Signs()).examples(np.zeros((1, 1)), 2, Key(0))
    Signs.measure = "error"
    with pytest.raises(ValueError, match=r"Signs \(.*\) has a target_space Discrete: its mea"):
        check_supervised(Signs())
    Signs.target_space = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"Signs .* has None as target_space: give it Disc"):
        check_supervised(Signs())


class Discs(Slopes):
    """White discs of one size in the middle of 20 × 20 pixels, in two colours."""

    augment = True
    input_space = spaces.Box(0.0, 1.0, (2, 20, 20))

    def draw(self, tasks: Any, rngs: Any, queries: int) -> Any:
        (_, y), (_, query_y) = super().draw(tasks, rngs, queries)
        at = np.abs(np.arange(20) - 9.5)
        disc = np.hypot(at, at[:, None]) < 4.0
        images = [np.broadcast_to(disc, (*part.shape[:2], 2, 20, 20)) for part in (y, query_y)]
        return (images[0], y), (images[1], query_y)


def test_training_images_are_distorted_by_their_tasks_own_stream() -> None:
    source, tasks = FewShotSource(Discs()), np.linspace(-1, 1, 3)[:, None]
    plain, again = (source.examples(tasks, 150, Key(1)) for _ in range(2))
    assert torch.equal(plain.query.observations, again.query.observations)
    changed = source.examples(tasks, 150, Key(1), augment=True)
    alone = source.examples(tasks[:1], 150, Key(1), augment=True)
    torch.testing.assert_close(changed.query.observations[:1], alone.query.observations)
    images = changed.query.observations.view(450, 2, 20, 20)
    assert torch.equal(images[:, 0], images[:, 1]), "channels are distorted alike"
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert len(torch.unique(images.flatten(1), dim=0)) == 450
    ink = images[:, 0].sum((1, 2)) / plain.query.observations.view(450, 2, 400)[0, 0].sum()
    assert 0.4 < ink.min() < 0.7
    assert 1.6 < ink.max() < 2.4
    where = torch.arange(20) - 9.5
    middle = torch.stack([(images[:, 0].sum(axis) * where).sum(1) for axis in (1, 2)])
    middle /= images[:, 0].sum((1, 2))
    assert middle.mean().abs() < 0.2
    assert 0.5 < middle.std() < 1.0  # uniform within ±1.5 pixels
    assert torch.equal(changed.query.actions, plain.query.actions)
    Discs.augment = False
    off = source.examples(tasks, 150, Key(1), augment=True)
    assert torch.equal(off.query.observations, plain.query.observations)


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if "few_shot" in ALGORITHMS[n][1]])
def test_training_asks_for_distortions(name: str, tmp_path: Path) -> None:
    data = draw_glyphs(tmp_path, {"Ada": 2, "Bel": 3, "Cid": 3}, images=2)
    shares = {"training": ["Ada"], "validation": ["Bel"], "held_out": ["Cid"]}
    env = {"name": "few_shot_images", "ways": 2, "size": 16, "data": str(data)} | shares
    known = config(env, {"name": name, "network": {"name": "conv", "filters": 2}, "queries": 1})
    source = make_worker(known)
    assert isinstance(source, FewShotSource)
    asked: list[bool] = []
    examples = source.examples

    def noted(*args: Any, augment: bool = False) -> Any:
        asked.append(augment)
        return examples(*args, augment=augment)

    source.examples = noted  # type: ignore[method-assign]
    make_algorithm(known, source).collect(source, Key(1))
    assert asked == [True]


def test_distortions_are_affine_maps_smooth_shifts_and_one_neighbour_of_ink() -> None:
    """Against a slow loop over pixels, in float64."""
    rng = np.random.default_rng(3)
    images = torch.from_numpy(rng.uniform(0, 1, (1, 3, 1, 9, 9)).astype(np.float32))
    got = distorted(images, [np.random.default_rng(5)])[0, :, 0]
    numbers = np.random.default_rng(5).uniform(LOW, HIGH, (3, len(LOW)))
    for image, result, (turn, shear, a, b, dx, dy, stroke, *shifts) in zip(
        images[0, :, 0].double().numpy(), got.numpy(), numbers, strict=True
    ):
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = torch.tensor(shifts, dtype=torch.float64).view(1, 4, 4, 2).permute(0, 3, 1, 2)
        bent = interpolate(points, (9, 9), mode="bicubic", align_corners=True)[0].numpy()
        linear = np.diag([1 / a, 1 / b]) @ rotation @ np.array([[1.0, shear], [0.0, 1.0]])
        moved = np.zeros((9, 9))
        for i, j in np.ndindex(9, 9):
            x, y = (2 * np.array([j, i]) + 1) / 9 - 1
            u, v = ((linear @ [x, y] + [dx, dy] + bent[:, i, j] + 1) * 9 - 1) / 2
            for row, column in np.ndindex(9, 9):
                weight = max(0.0, 1 - abs(u - column)) * max(0.0, 1 - abs(v - row))
                moved[i, j] += weight * image[row, column]
        padded = np.pad(moved, 1, mode="edge")
        cross = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1]]
        cross += [padded[1:-1, :-2], padded[1:-1, 2:]]
        extreme = np.max(cross, axis=0) if stroke > 0 else np.min(cross, axis=0)
        np.testing.assert_allclose(result, moved + abs(stroke) * (extreme - moved), atol=2e-5)


def test_data_may_lie_elsewhere_and_other_data_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = draw_glyphs(tmp_path / "glyphs", {"Ada": 3, "Bel": 3, "Cid": 3})
    shares = {"training": ["Ada"], "validation": ["Bel"], "held_out": ["Cid"]}
    env = {"name": "few_shot_images", "ways": 2, "size": 8, "data": str(data)} | shares
    run = tmp_path / "run"
    words = ["--config", written(tmp_path, env, MEAN), "--run-dir", str(run)]
    assert train.main([*words, "--iterations", "1"]) == 0
    moved = data.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"env: data is .*glyphs.*no such folder\. Omniglot's ima"):
        load_run(run, trust_code=True)
    loaded = load_run(run, trust_code=True, data=moved)
    assert loaded.arguments()[3:5] == ["--data", str(moved)]
    capsys.readouterr()
    other = tmp_path / "other"
    shutil.copytree(moved, other)
    shutil.copy(other / "Ada/character01/0001_01.png", other / "Cid/character01/0001_02.png")
    load_run(run, trust_code=True, data=other)
    warning = f"few_shot_images has changed since the checkpoint in {run} was written"
    assert warning in capsys.readouterr().err
    assert train.main([*words, "--resume", "--iterations", "2", "--env.data", str(moved)]) == 0
    assert "has changed" not in capsys.readouterr().err
    assert train.main([*words, "--resume", "--env.shots", "2"]) == 2
    assert "env.shots was 1 and is 2 now." in capsys.readouterr().err
    with pytest.raises(UserError, match=r"command line: there is no field env\.data"):
        load_run("results/maml_navigation/seed_1", data=moved)
