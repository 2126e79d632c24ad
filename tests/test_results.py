"""What `results/` and `references/` hold: whole runs, nothing twice, nothing of the machine's."""

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from metarl.runs.trained_run import load_run

ROOT = Path(__file__).parents[1]
MOST_BYTES = 30_000_000
MOST_BYTES_OF_A_RUN = 400_000  # beside its weights
# Older than the limit: every iteration of a training, or a GIF that the pages quote.
LARGER_RUNS = {
    "maml_half_cheetah_vel/seed_1": 1_300_000,
    "rl2_half_cheetah_vel/seed_1": 1_050_000,
}
# The first 30.7M env steps of seed_1: one command made both.
ONE_COMMAND = ROOT / "results/rl2_half_cheetah_vel/seed_1_at_30M/meta.json"
OF_A_MACHINE = re.compile(
    r"glibc|Linux-\d|Windows-\d|macOS-\d|Darwin-\d"  # a kernel's or a library's build
    r"|(?<![\w.])/(home|root|tmp|work|Users|mnt|opt|usr|var|srv|data)/|\b[A-Z]:\\"
)


def _kept(folder: str) -> list[Path]:
    """Files of a folder that git tracks: what an evaluation left there since does not count."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", folder], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not in a git work tree")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.exists()]


def _runs() -> list[Path]:
    return sorted({path.parents[1] for path in _kept("results") if path.name == "latest"})


def test_results_stay_small():
    assert sum(path.stat().st_size for path in _kept("results")) <= MOST_BYTES


def test_a_run_adds_little_beside_its_weights():
    kept = _kept("results")
    for run in _runs():
        name = run.relative_to(ROOT / "results").as_posix()
        size = sum(
            path.stat().st_size
            for path in kept
            if path.is_relative_to(run) and path.suffix != ".pt"
        )
        assert size <= LARGER_RUNS.get(name, MOST_BYTES_OF_A_RUN), name


def test_nothing_lies_there_twice():
    seen: dict[str, Path] = {}
    for path in _kept("results") + _kept("references"):
        if path.name == "latest" or path == ONE_COMMAND:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest not in seen, f"{path} is {seen[digest]}"
        seen[digest] = path
    assert not [path for path in seen.values() if path.name == "report.html"]


def test_nothing_names_a_machine():
    for path in _kept("results") + _kept("references"):
        if path.suffix in {".json", ".jsonl", ".md", ".yaml"}:
            found = OF_A_MACHINE.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"


def test_every_run_is_whole_and_loads():
    runs = _runs()
    assert len(runs) >= 51
    kept = set(_kept("results"))
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        names = ["config.yaml", "meta.json", "metrics.jsonl"]
        names += ["validation.jsonl"] * config["validation"].get("enabled", True)
        for name in names:
            assert run / name in kept, run / name
        if config["env"]["name"] == "meta_world" and find_spec("metaworld") is None:
            continue  # an optional part, without which it does not load
        trained = load_run(run)
        last = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        assert trained.iteration == json.loads(last)["iteration"], run


def test_every_picture_is_quoted_and_every_quoted_picture_is_there():
    quoted: set[Path] = set()
    for page in [ROOT / "README.md", *_kept("docs"), *_kept("results")]:
        if page.suffix != ".md":
            continue
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page}: {target}"
                quoted.add((page.parent / target).resolve())
    pictures = {path.resolve() for path in _kept("results") if path.suffix in {".png", ".gif"}}
    assert pictures == {path for path in quoted if path.is_relative_to(ROOT.resolve() / "results")}


def _evaluation(run: str) -> dict[str, Any]:
    path = ROOT / "results" / run / "evaluation/held_out/evaluation.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _groups(result: str) -> list[dict[str, Any]]:
    """The groups of a comparison, which rests on ten evaluation seeds."""
    path = ROOT / "results" / result / "comparison/held_out/comparison.json"
    comparison = json.loads(path.read_text(encoding="utf-8"))
    assert len(comparison["evaluation_seeds"]) >= 10
    groups: list[dict[str, Any]] = comparison["groups"]
    return groups


def _cells(measured: dict[str, Any], digits: int) -> str:
    """Mean [95 % interval] ± standard deviation over evaluation seeds, a cell a step."""
    columns = measured["mean"], measured["ci95"], measured["evaluation_seed_std"]
    return " | ".join(
        f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] ± {std:.{digits}f}"
        for mean, (low, high), std in zip(*columns, strict=True)
    )


def _rows(page: str, table: str) -> list[str]:
    text = (ROOT / "docs/results" / page).read_text(encoding="utf-8").replace("−", "-")
    return text.split(f"[start:{table}]")[1].split(f"[end:{table}]")[0].splitlines()


def test_mamls_tables_are_those_of_their_evaluations():
    rows = _rows("maml.md", "navigation")
    for seed in (1, 2, 3):
        found = _evaluation(f"maml_navigation/seed_{seed}")
        assert len(found["evaluation_seeds"]) >= 10
        figures = zip(found["mean"], found["se95"], found["evaluation_seed_std"], strict=True)
        cells = [f"{mean:.2f} ± {se:.2f} ({std:.2f})" for mean, se, std in figures]
        assert f"| metarl, seed {seed} (15.9M env steps) | {' | '.join(cells)} |" in rows
    comparison = ROOT / "results/maml_navigation/comparison/held_out/comparison.json"
    group = json.loads(comparison.read_text(encoding="utf-8"))["groups"][0]
    figures = zip(group["mean"], group["evaluation_seed_std"], strict=True)
    cells = [f"{mean:.2f} ({std:.2f})" for mean, std in figures]
    assert f"| mean of the three seeds | {' | '.join(cells)} |" in rows
    rows = _rows("maml.md", "velocity")
    found = _evaluation("maml_half_cheetah_vel/seed_1")
    for measured in (found, found["other_mode"]):
        assert f"| {measured['action_mode']} | {_cells(measured, 1)} |" in rows


def test_rl2s_rows_on_navigation_are_those_of_its_evaluations():
    rows = _rows("rl2.md", "navigation")
    for seed in (1, 2, 3, 4, 5):
        found = _evaluation(f"rl2_navigation/seed_{seed}")
        assert len(found["evaluation_seeds"]) >= 10
        assert max(found["evaluation_seed_std"]) < 1e-9  # nothing is drawn
        cells = [f"{mean:.2f}" for mean in found["mean"]]
        assert f"| deterministic, seed {seed} | {' | '.join(cells)} |" in rows
    both = _groups("rl2_navigation")[1]
    for measured in (both, both["other_mode"]):
        assert f"| {measured['action_mode']}, all | {_cells(measured, 2)} |" in rows


def test_rl2s_rows_on_half_cheetah_are_those_of_its_evaluations():
    rows = _rows("rl2.md", "velocity")
    found = _evaluation("rl2_half_cheetah_vel/seed_1")
    assert len(found["evaluation_seeds"]) >= 10
    for measured in (found, found["other_mode"]):
        assert f"| {measured['action_mode']} | {_cells(measured, 1)} |" in rows
    label = "three seeds after 30.7M env steps, deterministic (few seeds)"
    assert f"| {label} | {_cells(_groups('rl2_half_cheetah_vel')[0], 1)} |" in rows


def test_the_sparse_semicircles_table_is_that_of_its_evaluations():
    rows = _rows("rl2.md", "sparse")
    for seed in (1, 2, 3):
        found = _evaluation(f"rl2_navigation_sparse/seed_{seed}")
        assert len(found["evaluation_seeds"]) >= 10
        assert max(found["evaluation_seed_std"]) < 1e-9  # nothing is drawn
        cells = [f"{mean:.1f}" for mean in found["mean"]]
        assert f"| deterministic, seed {seed} | {' | '.join(cells)} |" in rows
    (all_seeds,) = _groups("rl2_navigation_sparse")
    for measured in (all_seeds, all_seeds["other_mode"]):
        assert f"| {measured['action_mode']}, all (few seeds) | {_cells(measured, 1)} |" in rows
    folder = ROOT / "results/rl2_navigation_sparse/seed_1/evaluation/held_out_forgetting"
    wiped = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert wiped["forgets"] is True
    cells = [f"{mean:.1f}" for mean in wiped["mean"]]
    assert f"| seed 1, memory wiped before each episode | {' | '.join(cells)} | | | |" in rows


def test_the_gradient_based_familys_tables_are_those_of_their_comparisons():
    rows = _rows("gradient-family.md", "navigation")
    groups = _groups("gradient_family_navigation")
    assert len(groups) == 7
    for group in groups:
        assert len(group["runs"]) == 5
        start = f"| `{group['algorithm']}` | {_cells(group, 1)} |"
        assert any(row.startswith(start) for row in rows), start
    rows = _rows("gradient-family.md", "velocity")
    for group in _groups("gradient_family_half_cheetah_vel"):
        more = ", trained on" if "anil_longer" in group["runs"][0]["run"] else ""
        steps = f"{group['runs'][0]['training_env_steps'] / 1e6:.1f}M"
        assert f"| `{group['algorithm']}`{more} | {steps} | {_cells(group, 1)} |" in rows


def test_best_speeds_says_what_the_pages_quote():
    script = ROOT / "results/maml_half_cheetah_vel/best_speeds.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == [
        "1 speeds: -105.4",
        "2 speeds: -48.1",
        "4 speeds: -20.0",
        "8 speeds: -7.2",
        "first step minus multitask: +35.4 [21.0, 48.6]",
        "first step minus one speed: +25.8 [8.3, 40.2]",
    ]


def _estimate(mean: float, interval: list[float]) -> str:
    return f"{mean:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _trial(agent: dict[str, Any]) -> str:
    """What another agent earned in each episode of a trial, and the verdict on the difference."""
    cells = [_estimate(each["mean"], each["ci95"]) for each in agent["episodes"]]
    return f"{' | '.join(cells)} | {agent['difference']['verdict']}"


@pytest.mark.parametrize("bandit", ["5x10", "10x100"])
def test_rl2s_rows_on_bandits_are_those_of_its_evaluations(bandit: str) -> None:
    rows = _rows("discrete.md", f"bandit_{bandit}")
    found = _evaluation(f"rl2_bandit_{bandit}/seed_1")
    assert (len(found["tasks"]), len(found["evaluation_seeds"])) == (1000, 10)
    assert found["episodes_per_step"] == 10  # so 100 lanes of each task
    for measured in (found, found["other_mode"]):
        row = f"| RL², {measured['action_mode']} | {_cells(measured, 2)} | |"
        assert row in rows
    agents = found["adaptive_references"]
    assert set(agents) == {"thompson", "ucb1", "bayes_optimal" if bandit == "5x10" else "gittins"}
    for name, agent in agents.items():
        assert any(row.endswith(f"(`{name}`) | {_trial(agent)} |") for row in rows), name
    for name in ("random", "optimum"):
        reference = found["references"][name]
        estimate = _estimate(reference["mean"], reference["ci95"])
        assert any(row.endswith(f"(`{name}`) | {estimate} | |") for row in rows), name


def test_rl2s_rows_on_the_grid_world_are_those_of_its_evaluations() -> None:
    rows = _rows("discrete.md", "grid_world")
    runs = sorted((ROOT / "results/rl2_grid_world").glob("seed_*"))
    assert runs
    for seed in (run.name.removeprefix("seed_") for run in runs):
        found = _evaluation(f"rl2_grid_world/seed_{seed}")
        cells = " | ".join(f"{mean:.2f}" for mean in found["mean"])
        assert f"| RL², deterministic, seed {seed} | {cells} |" in rows
        cells = " | ".join(f"{mean:.2f}" for mean in found["other_mode"]["mean"])
        assert f"| stochastic, seed {seed} | {cells} |" in rows
        line = " | ".join(f"{each['mean']:.2f}" for each in found["bayes_optimal"])
        assert f"| Bayes-optimal | {line} |" in rows


def test_mamls_rows_on_bandits_and_mdps_are_those_of_their_evaluations() -> None:
    rows = _rows("discrete.md", "maml")
    for name in ("bandit", "tabular_mdp"):
        found = _evaluation(f"maml_{name}/seed_1")
        optimum = found["references"]["optimum"]["mean"]
        assert f"| `maml_{name}` | {_cells(found, 2)} | {optimum:.2f} |" in rows


def test_rl2s_rows_on_tabular_mdps_are_those_of_its_evaluation() -> None:
    rows = _rows("discrete.md", "tabular_mdp")
    found = _evaluation("rl2_tabular_mdp/seed_1")
    psrl = found["adaptive_references"]["psrl"]
    measured = {
        "RL², deterministic": found["mean"],
        "RL², stochastic": found["other_mode"]["mean"],
        "PSRL": [each["mean"] for each in psrl["episodes"]],
    }
    for label, means in measured.items():
        cells = " | ".join(f"{mean:.2f}" for mean in means)
        assert f"| {label} | {cells} | {sum(means):.1f} |" in rows
    page = (ROOT / "docs/results/discrete.md").read_text(encoding="utf-8").replace("−", "-")
    assert psrl["difference"]["verdict"] in page


def test_rl2s_rows_on_half_cheetahs_directions_are_those_of_its_evaluation() -> None:
    rows = _rows("rl2.md", "direction")
    found = _evaluation("rl2_half_cheetah_dir/seed_1")
    assert (len(found["tasks"]), len(found["evaluation_seeds"])) == (2, 10)
    for measured in (found, found["other_mode"]):
        assert f"| {measured['action_mode']} | {_cells(measured, 0)} |" in rows
    page = (ROOT / "docs/results/rl2.md").read_text(encoding="utf-8")
    for direction, earned in zip(("backward", "forward"), found["returns"][0], strict=True):
        assert re.search(rf"{direction} (it earns )?{earned:.0f}", page)


@pytest.mark.parametrize("name", ["ant_dir", "ant_goal", "walker_params"])
def test_rl2s_rows_on_ants_and_walkers_are_those_of_its_evaluations(name: str) -> None:
    rows = _rows("locomotion.md", name)
    found = _evaluation(f"rl2_{name}/seed_1")
    assert (len(found["tasks"]), len(found["evaluation_seeds"])) == (40, 10)
    for measured in (found, found["other_mode"]):
        assert f"| RL², {measured['action_mode']} | {_cells(measured, 0)} |" in rows
    for kind in ("oracle", "multitask", "random"):
        reference = found["references"][kind]
        low, high = reference["ci95"]
        estimate = f"{reference['mean']:.0f} [{low:.0f}, {high:.0f}]"
        assert any(f"(`{kind}`) | {estimate} |" in row for row in rows), kind


def test_what_is_said_of_reaching_is_what_was_judged() -> None:
    page = (ROOT / "docs/results/locomotion.md").read_text(encoding="utf-8")
    path = ROOT / "results/rl2_metaworld_reach/seed_0/judged.json"
    judged = json.loads(path.read_text(encoding="utf-8"))
    assert f"{100 * judged['success']:.1f} %" in page
    found = _evaluation("rl2_metaworld_reach/seed_0")
    for measured in (found, found["other_mode"]):
        cells = " | ".join(f"{100 * share:.0f} %" for share in measured["success_rate"])
        assert f"| {measured['action_mode']} | {cells} |" in page


@pytest.mark.parametrize(
    ("name", "split"),
    [("hopper", "held_out"), ("navigation", "validation"), ("swimmer", "held_out")],
)
def test_the_rows_of_a_learned_objective_are_those_of_its_evaluations(
    name: str, split: str
) -> None:
    rows = _rows("learned-objective.md", name)
    place = f"elsewhere/metagenrl_{name}/evaluation/{split}/evaluation.json"
    path = ROOT / "results/metagenrl_half_cheetah_pendulum/seed_1" / place
    found = json.loads(path.read_text(encoding="utf-8"))
    assert len(found["evaluation_seeds"]) == 3
    rounds = [int(cell) for cell in rows[1].split("|")[2:-2]]

    def cells(measured: list[tuple[float, list[float]]]) -> str:
        told = (measured[k] for k in rounds)
        return " | ".join(f"{mean:.0f} [{low:.0f}, {high:.0f}]" for mean, (low, high) in told)

    steps = " | ".join(f"{found['env_steps_used'][k]:,.0f}" for k in rounds)
    learned = list(zip(found["mean"], found["ci95"], strict=True))
    assert rows[3] == f"| env steps | {steps} | |"
    assert rows[4] == f"| learned objective | {cells(learned)} | |"
    beside = found["adaptive_references"]
    assert "reinforce" in beside
    for kind, row in zip(beside, rows[5:-1], strict=True):
        each = [(episode["mean"], episode["ci95"]) for episode in beside[kind]["episodes"]]
        assert row == f"| `{kind}` | {cells(each)} | {beside[kind]['difference']['verdict']} |"


# A sentence that says what was earned, or how far behind something was, by a number.
EARNED = re.compile(
    r"\b(earned|earns|stood|stands?|stays|fell|ended|behind|ahead|times as)\b[^.:]*?\d"
    r"|\d( %| behind)"
)


def test_configs_quote_no_figure_that_nothing_here_holds() -> None:
    """Comments name the result, or say it without the number."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        said = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        for sentence in re.split(r"(?<=\.) |: ", said):
            assert "results/" in sentence or not EARNED.search(sentence), f"{path}: {sentence}"


def test_pages_of_algorithms_quote_results() -> None:
    for page in sorted((ROOT / "docs/algorithms").glob("*.md")):
        if page.stem == "recurrent-off-policy":  # a first look, and said to be no more
            continue
        parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for figures in (part for part in parts if part.startswith("Figures")):
            assert "results/" in figures or not re.search(r"\d\.\d", figures), page
