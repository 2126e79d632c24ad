"""The file of a suite: the jobs that it means, and what it is refused for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metarl.cli.main import main
from metarl.cli.suite import check
from metarl.cli.train_options import SWITCHES, split_train_options
from metarl.config.loading import load_options
from metarl.config.validation import split_options
from metarl.errors import UserError
from metarl.storage.places import find_config, shipped_configs
from metarl.suites.suite import load_suite
from tests.programs import ROOT, write_config

SUITES = sorted((shipped_configs() / "suites").glob("*.yaml"))


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str) -> Path:
    Path("s.yaml").write_text(text)
    return Path("s.yaml")


def test_configs_seeds_and_a_grid_are_runs_in_folders_of_their_own() -> None:
    suite = load_suite(
        written(
            "configs:\n  a: {config: maml_navigation}\n  reptile_navigation: {seeds: [7]}\n"
            "seeds: [1, 2]\ngrid: {env.horizon: [50, 60], algorithm.inner-lr: [0.1]}\n"
            "overrides: {tracking.tags: [x, y], env.preset: null}\nresources: {cores: 2}\n"
        )
    )
    assert [job.name for job in suite.runs] == [
        "a/horizon=50,inner_lr=0.1/seed_1",
        "a/horizon=50,inner_lr=0.1/seed_2",
        "a/horizon=60,inner_lr=0.1/seed_1",
        "a/horizon=60,inner_lr=0.1/seed_2",
        "reptile_navigation/horizon=50,inner_lr=0.1/seed_7",
        "reptile_navigation/horizon=60,inner_lr=0.1/seed_7",
    ]
    assert suite.runs[2].command == (
        "metarl train maml_navigation --run-dir runs/s/a/horizon=60,inner_lr=0.1/seed_1 --name a "
        "--seed 1 --resume auto --rollout.torch_threads 2 --rollout.physics_threads 2 "
        '--rollout.workers 2 --tracking.tags \'["x", "y"]\' --env.preset null --env.horizon 60 '
        "--algorithm.inner_lr 0.1"
    )
    last = suite.jobs[-1]
    assert (last.name, last.folder) == ("comparison", Path("runs/s/comparison"))
    assert last.needs == tuple(job.name for job in suite.runs)
    assert list(last.words) == [
        *["evaluate", *(str(job.folder) for job in suite.runs)],
        *["--output", "runs/s/comparison"],
    ]


def test_a_warm_start_waits_for_the_run_of_the_same_seed() -> None:
    suite = load_suite(
        written(
            "configs:\n  long: {config: a, init_from: short}\n"
            "  short: {config: a, compare: false, overrides: {iterations: 3}}\n"
            "  far: {config: a, init_from: one}\n  one: {config: a, seeds: [9]}\n"
            "seeds: [1, 2]\ncomparison: {mode: deterministic, evaluation_seeds: 3}\n"
        )
    )
    needs = {job.name: job.needs for job in suite.runs}
    assert needs["long/seed_2"] == ("short/seed_2",)
    assert needs["far/seed_2"] == ("one/seed_9",)
    order = list(needs)
    assert all(order.index(n) < order.index(name) for name in order for n in needs[name])
    (long,) = (job for job in suite.runs if job.name == "long/seed_2")
    at = long.words.index("--init-from")
    assert long.words[at + 1] == "runs/s/short/seed_2"
    assert not {"short/seed_1", "short/seed_2"} & set(suite.jobs[-1].needs)
    assert suite.jobs[-1].words[-6:-2] == ("--mode", "deterministic", "--evaluation_seeds", "3")


def test_references_come_first_and_evaluations_after_their_run() -> None:
    suite = load_suite(
        written(
            "configs: [maml_navigation, anil_navigation]\nreferences: [oracle, multitask]\n"
            "overrides: {env.horizon: 50, iterations: 3}\nevaluations: {far: {split: out_of_range}}"
        )
    )
    names = [job.name for job in suite.jobs]
    assert names[:2] == ["references/maml_navigation", "references/anil_navigation"]
    assert suite.jobs[1].needs == (names[0],)  # one after the other: their environment is one
    assert suite.jobs[0].words[:4] == (
        "references",
        "maml_navigation",
        "--kind",
        "oracle,multitask",
    )
    assert "--env.horizon" in suite.jobs[0].words
    assert "--iterations" not in suite.jobs[0].words  # which that command does not have
    assert suite.jobs[3].needs == ("references/anil_navigation",)
    assert names[4:] == ["maml_navigation/seed_1/far", "anil_navigation/seed_1/far", "comparison"]
    assert suite.jobs[4].needs == ("maml_navigation/seed_1",)
    assert suite.jobs[4].words == (
        *("evaluate", "runs/s/maml_navigation/seed_1", "--split", "out_of_range"),
        *("--output", "runs/s/maml_navigation/seed_1/evaluation/far"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("configs: [a]\nseed: [1]", "s.yaml, line 2: there is no field seed; the nearest is seeds"),
        ("configs: {a: {sees: [1]}}", "no field configs.a.sees; the nearest is configs.a.seeds"),
        ("seeds: [1]", "configs is missing"),
        ("configs: []", "configs is {}, but must"),
        ("configs: [[a]]", "line 1: configs is a list of names of configs"),
        ("configs: [a, b/a.yaml]", "line 1: configs names one config twice"),
        ("configs: {a/b: {}}", "'a/b' is no name for an entry"),
        ("configs: {comparison: {}}", "'comparison' is no name for an entry"),
        ("configs: [a]\nseeds: [1, 1]", "two runs would lie in runs/s/a/seed_1"),
        ("configs: [a]\ngrid: {x: [a b, a_b]}", "two runs would lie in runs/s/a/x=a_b/seed_1"),
        ("configs: [a]\ngrid: {x: []}", "line 2: x has no values"),
        ("configs: [a]\ngrid: {x: [1]}\noverrides: {x: 2}", "x stands in overrides and in a grid"),
        ("configs: [a]\noverrides:\n  run-dir: x", "line 2: run_dir cannot stand in overrides"),
        ("configs: [a]\ngrid: {seed: [1, 2]}", "seed cannot stand in grid: give seeds"),
        ("configs: {a: {init_from: c}, b: {}}", "line 1: init_from is 'c', which is no entry"),
        ("configs: {a: {init_from: b}, b: {init_from: a}}", "which has no beginning"),
        ("configs: {a: {init_from: b}, b: {seeds: [2, 3]}}", "several runs with which seed 1 of a"),
        ("configs: [a]\nreferences: [oracel]", "the nearest is 'oracle'"),
        ("configs: [a]\nresources: {cores: 0}", "resources.cores is 0, but must be at least 1"),
        ("configs: [a]\ncomparison: {mod: both}", "no field comparison.mod; the nearest is compar"),
        ("configs: [a]\nevaluations: {x: {splitt: a}}", "the nearest is evaluations.x.split"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_suite(written(text))
    assert said in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("configs: [config.yaml]\noverrides: {iteration: 3}", "there is no field iteration"),
        (
            "configs: [config.yaml]\ngrid: {algorithm.inner_lr: [0.1, -1]}",
            "1 is refused: algo",
        ),
        ("configs: [few.yaml]", "few_shot_maml learns from"),
        ("configs: [config.yaml]\noverrides: {device: cuda}", "cuda"),
        ("configs: [config.yaml]\ngrid: {env.horizon: [10, 20]}", "their environments differ"),
        ("configs: {a: {config: config.yaml}, b: {config: config.yaml}}", "the same seed"),
        ("configs: [confg.yaml]", "There is no config 'confg.yaml'"),
    ],
)
def test_a_run_that_would_be_refused_is_refused_before_anything_starts(
    text: str, said: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(work)
    Path("few.yaml").write_text("algorithm: {name: few_shot_maml}")
    written(text)
    assert main(["suite", "run", "s.yaml"]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_run_that_began_with_another_config_is_refused(
    work: Path, capsys: pytest.CaptureFixture[str], without_plots: None
) -> None:
    write_config(work)
    words = list(load_suite(written("configs: [config.yaml]\nseeds: [1, 2]")).runs[1].words)
    assert main([*words, "--iterations", "1"]) == 0
    written("configs: [config.yaml]\nseeds: [1, 2]\noverrides: {algorithm.inner_lr: 0.7}")
    assert main(["suite", "run", "s.yaml"]) == 2
    said = capsys.readouterr().err
    assert "the run config/seed_2 is refused" in said
    assert "inner_lr was" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum", "s.yaml"], "no action 'rum': the nearest is 'run'"),
        (["run"], "Give one suite, as in metarl suite run SUITE"),
        (["status", "s.yaml", "--ray"], "metarl suite status has no option --ray"),
        (["run", "s.yaml", "--time-limit", "soon"], "--time-limit is 'soon'"),
        (["run", "rl2_navigatio"], "did you mean 'rl2_navigation'?"),
    ],
)
def test_a_wrong_command_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written("configs: [quickstart]")
    assert main(["suite", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_commands_are_those_of_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "commands", "rl2_navigation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[3].startswith("metarl train rl2_navigation --run-dir runs/rl2_navigation/rl2_nav")


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_the_suites_of_the_tables_are_valid(path: Path) -> None:
    configs = {}
    for job in load_suite(path).runs:
        options = split_options(job.words[2:], SWITCHES)
        _, fields = split_train_options(options)
        entry = job.name.rpartition("/")[0]
        if entry not in configs:
            configs[entry] = load_options(find_config(job.words[1]), fields)
    assert {config.rollout.torch_threads for config in configs.values()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_no_run_of_a_tables_suite_would_be_refused(path: Path) -> None:
    check(load_suite(path))


def test_the_suites_that_the_page_shows_are_sound() -> None:
    page = (ROOT / "docs/suites.md").read_text()
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    for text in shown:
        check(load_suite(written(text)))
