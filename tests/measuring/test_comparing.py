"""evaluate.py on several runs and on a user's own tasks, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evaluate
import train
from metarl.config.loading import load_config
from metarl.errors import UserError
from metarl.measuring.comparing import RunFolder, check_comparable, default_output, group_runs
from metarl.measuring.options import EvaluationOptions
from tests.programs import files, write_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one config with seeds 1 and 2, of another step size, and of another environment."""
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(folder, iterations=2, name="tiny")
    options = {
        "seed_1": ["--seed", "1"],
        "seed_2": ["--seed", "2", "--rollout.workers", "2"],
        "larger": ["--algorithm.inner_lr", "0.7"],
        "wider": ["--env.radius", "1.0"],
        "other": ["--env.name", "half_cheetah_dir"],
    }
    for name, words in options.items():
        assert train.main(["--config", str(config), "--run-dir", str(folder / name), *words]) == 0
    return folder


def words(runs: Path, *names: str) -> list[str]:
    return [word for name in names for word in ("--run", str(runs / name))]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert evaluate.main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_a_comparison_repeats_and_leaves_the_runs_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(runs, without="")
    argv = [*words(runs, "seed_1", "seed_2", "larger"), "--episodes", "3"]
    texts = []
    for name in ("a", "b", "b"):
        output = tmp_path / name
        assert evaluate.main([*argv, "--output", str(output)]) == 0
        texts.append((output / "comparison.json").read_bytes())
        assert files(runs, without="") == before
    assert texts[0] == texts[1] == texts[2]
    assert {path.name for path in output.iterdir()} == {
        "comparison.json",
        "report.md",
        "report.html",
        "adaptation_curves.png",
        "returns_by_group.png",
        "return_by_task.png",
        "training_curves.png",
    }
    data = json.loads(texts[0])
    assert [len(group["runs"]) for group in data["groups"]] == [2, 1]
    assert "inner_lr [0.7]" in data["groups"][1]["label"]
    assert [run["seed"] for run in data["groups"][0]["runs"]] == [1, 2]
    assert all(run["training_env_steps"] > 0 for run in data["groups"][0]["runs"])
    assert data["groups"][0]["episodes_used"] == [0, 3]
    printed = capsys.readouterr().out
    assert "probability of improvement" in printed
    assert f"Report: {output / 'report.md'}" in printed


def test_a_run_compared_measures_what_it_measures_alone(runs: Path, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert evaluate.main([*words(runs, "seed_2"), "--output", str(alone)]) == 0
    assert evaluate.main([*words(runs, "seed_1", "seed_2"), "--output", str(both)]) == 0
    own = json.loads((alone / "evaluation.json").read_text())
    group = json.loads((both / "comparison.json").read_text())["groups"][0]
    assert [at_k[1] for at_k in group["returns"]] == own["returns"]
    assert [at_k[1] for at_k in group["other_mode"]["returns"]] == own["other_mode"]["returns"]


def test_own_tasks(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "my goals.csv"
    path.write_text("goal_y,goal_x\n0.1,0.3\n-0.2,0.0\n0.4,0.4\n")
    output = tmp_path / "alone"
    assert (
        evaluate.main([*words(runs, "seed_1"), "--tasks", str(path), "--output", str(output)]) == 0
    )
    content = json.loads((output / "evaluation.json").read_text())
    assert content["tasks"] == [[0.3, 0.1], [0.0, -0.2], [0.4, 0.4]]
    assert content["split"] == "tasks of my goals.csv"
    page = (output / "report.md").read_text()
    assert "evaluated on 3 tasks of my goals.csv" in page
    assert "the user's own, from my goals.csv" in page
    assert f"--tasks '{path}'" in page
    # An evaluation.json is a file of tasks too, and several runs take it as one does.
    again = [*words(runs, "seed_1", "seed_2"), "--tasks", str(output / "evaluation.json")]
    assert evaluate.main([*again, "--output", str(tmp_path / "both")]) == 0
    compared = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert compared["tasks"] == content["tasks"]
    assert compared["split"] == "tasks of evaluation.json"


def test_own_tasks_in_the_runs_folder(runs: Path, tmp_path: Path) -> None:
    here = tmp_path / "run"
    for name, data in files(runs / "seed_1", without="").items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(data)
    path = tmp_path / "near.json"
    path.write_text('[{"goal_x": 0.1, "goal_y": 0}, {"goal_x": 0, "goal_y": 0.1}]')
    assert evaluate.main(["--run", str(here), "--tasks", str(path)]) == 0
    assert (here / "evaluation" / "tasks_near" / "report.html").exists()


def test_mistakes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(words(runs, "seed_1", "wider"), capsys)
    assert f"env.radius is 0.5 in {runs / 'seed_1'} and 1.0 in {runs / 'wider'}" in said
    said = refusal(words(runs, "seed_1", "seed_2", "other"), capsys)
    assert "env.name is 'point_navigation'" in said
    assert "'half_cheetah_dir'" in said
    assert "given twice" in refusal(words(runs, "seed_1", "seed_1"), capsys)
    assert "no run in" in refusal(words(runs, "seed_1", "gone"), capsys)

    bad = tmp_path / "bad.csv"
    bad.write_text("velocity\n1\n2\n")
    for names in (["seed_1"], ["seed_1", "seed_2"]):
        argv = [*words(runs, *names), "--tasks", str(bad), "--output", str(tmp_path / "out")]
        assert "has the columns velocity; the tasks" in refusal(argv, capsys)
        argv = [*words(runs, *names), "--output", str(bad)]
        assert f"--output {bad} cannot be written" in refusal(argv, capsys)
        argv = [*words(runs, *names), "--output", str(bad / "below")]
        assert "cannot be written: Not a directory" in refusal(argv, capsys)
        argv = [*words(runs, *names), "--output", str(runs / "seed_1")]
        assert "is the folder of a run" in refusal(argv, capsys)
    argv = [*words(runs, "seed_1"), "--tasks", str(bad), "--split", "held_out"]
    assert "give one of them" in refusal(argv, capsys)


def test_a_run_without_checkpoints_is_refused_before_anything_is_measured(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = (runs / "seed_1" / "config.yaml").read_text().replace("seed: 1", "seed: 5")
    (empty / "config.yaml").write_text(text)
    argv = [*words(runs, "seed_1"), "--run", str(empty), "--output", str(tmp_path / "out")]
    said = refusal(argv, capsys)
    assert str(empty) in said
    assert "checkpoint" in said


def folder_of(path: Path, config_file: Path) -> RunFolder:
    config = load_config(config_file, [])
    return RunFolder(path, config, EvaluationOptions.model_validate({}).plan(config.evaluation))


def named(runs: Path, *names: str) -> list[RunFolder]:
    return [folder_of(runs / name, runs / name / "config.yaml") for name in names]


def test_grouping(runs: Path) -> None:
    groups = group_runs(named(runs, "seed_1", "larger", "seed_2"))
    assert [[f.path.name for f in group] for group in groups.values()] == [
        ["seed_1", "seed_2"],
        ["larger"],
    ]
    assert all(label.startswith("tiny (inner_lr ") for label in groups)
    assert list(group_runs(named(runs, "seed_1", "seed_2"))) == ["tiny"]
    (first,) = named(runs, "seed_1")
    twin = RunFolder(runs / "twin", first.config, first.plan)
    with pytest.raises(UserError, match="same config and the same seed 1"):
        group_runs([first, twin])


def test_all_runs_are_measured_with_as_many_evaluation_seeds(runs: Path) -> None:
    first, other = named(runs, "seed_1", "seed_2")
    evaluation = other.config.evaluation.model_copy(update={"seeds": 3})
    config = other.config.model_copy(update={"evaluation": evaluation})

    def own(count: int | None) -> RunFolder:
        options = EvaluationOptions.model_validate({"evaluation_seeds": count})
        return RunFolder(other.path, config, options.plan(config.evaluation))

    with pytest.raises(UserError, match=r"evaluation\.seeds is 1 in .* 3 in .*--evaluation-seeds"):
        check_comparable([first, own(None)])
    check_comparable([first, own(1)])
    assert len(group_runs([first, own(1)])) == 1


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({"device": "cuda", "run_dir": "elsewhere", "name": "second"}, True),
        ({"checkpoint": {"keep": 9}, "validation": {"enabled": True}}, True),
        ({"iterations": 7}, False),
        ({"evaluation": {"episodes": 9}}, False),
        ({"algorithm": {"discount": 0.5}}, False),
    ],
    ids=str,
)
def test_seeds_of_one_config(
    changes: dict[str, Any], together: bool, runs: Path, tmp_path: Path
) -> None:
    (first,) = named(runs, "seed_1")
    config = write_config(tmp_path, **({"iterations": 2, "name": "tiny", "seed": 2} | changes))
    second = folder_of(tmp_path, config)
    assert len(group_runs([first, second])) == (1 if together else 2)


def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path("results/maml/seed_1"), Path("results/maml/seed_2")]
    assert default_output(paths, "held_out") == Path("results/maml/comparison/held_out")
    paths.append(Path("results/rl2/seed_1"))
    assert default_output(paths, "tasks_my") == Path("results/comparison/tasks_my")
