"""What the README and the pages show works: every command is run, shortened, or is known as long
and has its options read by the program's own parser; every Python and YAML block runs.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from tests.programs import tiny

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Their commands made the figures beside them, and run for minutes to hours.
LONG_PAGES = ("docs/results/", "docs/speed.md")
LONG = (
    "metarl references maml_navigation --kind from_scratch,fine_tuned",
    "metarl references my_pendulum.yaml",
    "metarl evaluate runs/maml_half_cheetah_vel --video",
    "metarl evaluate runs/my_pendulum --forget true --trust-code",
    "metarl evaluate runs/few_shot_sinusoid",
    "metarl train metagenrl_half_cheetah_pendulum",
    "metarl references metagenrl_hopper --kind reinforce,td3,ddpg,ppo",
    "metarl evaluate runs/metagenrl_half_cheetah_pendulum --config metagenrl_hopper",
    "metarl train pearl_half_cheetah_vel",
    "metarl train recurrent_sac_half_cheetah_vel",
    "metarl train maml_half_cheetah_vel --rollout.shard-tasks 4 --rollout.backend ray "
    "--rollout.backend.workers 8",
    "metarl suite run my_suite.yaml",
    "metarl suite run my_suite.yaml --ray",
    "metarl evaluate runs/maml_navigation --evaluation-seeds 10 --rollout.backend ray "
    "--rollout.backend.workers 8",
    "metarl evaluate runs/maml_navigation --rollout.backend ray",
    "metarl references maml_half_cheetah_vel --rollout.backend ray --rollout.shard-tasks 4",
    "metarl suite run my_suite.yaml --time-limit 03:50:00",
    "metarl suite run rl2_navigation",
)
# Run by .ci/run and the tests of the wheel, or only with an account.
SET_UP = ("python3 -m venv", "pip install", "pip wheel", "python -m pytest", "wandb sweep")

# The shell runs a block with these in place of the programs, so that loops and quotes are its own.
RECORDER = r"""
set -eu
record() { printf '%s\0' "$@" '' >> "$RECORD"; }
srun() { "$@"; }
exec() { "$@"; }
for name in metarl python python3 pip wandb; do
  eval "$name() { record $name \"\$@\"; }"
done
"""


@dataclass(frozen=True)
class Command:
    """A command as the shell would start it, and the page that shows it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def is_set_up(self) -> bool:
        return str(self).startswith(SET_UP)

    @property
    def is_long(self) -> bool:
        return str(self) in LONG or self.page.startswith(LONG_PAGES)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page, without those it includes from elsewhere."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if "--8<--" not in block]


def block(page: Path, language: str, containing: str) -> str:
    """The one block of a page that contains a text."""
    (found,) = [b for b in blocks(page, language) if containing in b]
    return found


def shown_files() -> dict[str, str]:
    """The files whose text a page shows, "this is `scout.py`:", by their names."""
    shown = re.compile(
        r"`(\w+\.(?:py|yaml))`[^\n]*:\n\n(?:<!--.*?-->\n)?```(?:python|yaml)\n(.*?)^```",
        re.DOTALL | re.MULTILINE,
    )
    return {name: text for page in PAGES for name, text in shown.findall(page.read_text())}


def commands_of(page: Path, record: Path) -> list[Command]:
    """The commands of all shell blocks of a page, as the shell expands them."""
    script = RECORDER + "\n".join(blocks(page, "bash")).replace(".venv/bin/", "")
    record.write_text("")
    subprocess.run(["bash", "-c", script], env={"RECORD": str(record)}, check=True, cwd=ROOT)
    words = record.read_text().split("\0\0")[:-1]
    return [Command(str(page.relative_to(ROOT)), tuple(w.split("\0"))) for w in words]


def all_commands() -> list[Command]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = [c for page in PAGES for c in commands_of(page, Path(folder, "record"))]
    return list({str(c): c for c in reversed(found)}.values())[::-1]


COMMANDS = all_commands()
SHORT = [c for c in COMMANDS if not c.is_set_up and not c.is_long]


@pytest.mark.parametrize("name", ["first", "tests"])
def test_the_commands_that_ci_takes_from_the_readme_are_there(name: str) -> None:
    readme = PAGES[0].read_text()
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)\n```", readme, re.DOTALL)
    assert "\n" not in command
    last = {"first": "metarl train quickstart", "tests": "-m pytest -n auto"}
    assert command.endswith(last[name])


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_bytes()) <= 12 * 1024


def test_the_list_of_long_commands_has_none_that_no_page_shows() -> None:
    assert not set(LONG) - {str(c) for c in COMMANDS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of work as the pages tell of it: files of one's own, and small runs."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("configs", "results", "train.py", "evaluate.py"):
        (folder / name).symlink_to(ROOT / name)
    for name, text in shown_files().items():
        (folder / name).write_text(text)
    for suffix in (".py", ".yaml"):
        shutil.copy(ROOT / f"metarl/templates/my_algorithm{suffix}", folder)
    (folder / "my_config.yaml").write_text((ROOT / "configs/quickstart.yaml").read_text())
    (folder / "my_goals.csv").write_text("goal_x,goal_y\n0.1,0.2\n-0.3,0.4\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        maml = {"name": "maml", "hidden_sizes": [8], "tasks": 2, "episodes": 2}
        for seed, name in enumerate("abc", start=1):
            train_a_run(name, tiny(iterations=2, seed=seed, algorithm=maml))
        pendulum = yaml.safe_load((folder / "my_pendulum.yaml").read_text())
        train_a_run("my_pendulum", tiny(algorithm=maml) | {"env": pendulum["env"]})
        rl2 = {"name": "rl2", "width": 4, "minibatches": 1, "tasks": 2, "episodes": 2}
        train_a_run("rl2_navigation_sparse", tiny() | {"algorithm": rl2})
        learned = {"name": "metagenrl", "population": 1, "hidden_sizes": [4], "batch": 4}
        train_a_run("metagenrl_half_cheetah_pendulum", tiny(iterations=1) | {"algorithm": learned})
    for name in ("quickstart", "maml_navigation", "maml_half_cheetah_vel", "few_shot_sinusoid"):
        shutil.copytree(folder / "runs/a", folder / f"runs/{name}")
    shutil.copytree(folder / "runs/b", folder / "runs/slower")
    with_memory = folder / "runs/rl2_navigation_sparse"
    shutil.copytree(with_memory, folder / "runs/varibad_grid_world")
    return folder


def train_a_run(name: str, config: dict[str, object]) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert metarl_command(["train", "config.yaml", "--run-dir", f"runs/{name}"]) == 0
    Path("config.yaml").unlink()


@pytest.fixture
def work(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared folder, to be in."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def metarl_command(words: list[str]) -> int:
    """`metarl …` in this process."""
    from metarl.cli import main

    try:
        return main.main(words)
    except SystemExit as end:  # --help
        return int(end.code or 0)


def program(words: tuple[str, ...]) -> list[str]:
    """The words after `metarl` of a command, whichever door it takes."""
    if words[0] == "metarl":
        return list(words[1:])
    assert words[:2] in {("python", "train.py"), ("python", "evaluate.py")}, words
    return [words[1].removesuffix(".py"), *words[2:]]


def shortened(words: list[str]) -> list[str]:
    """A training command that takes a second."""
    if words[0] != "train" or "--help" in words:
        return words
    options = {
        "--iterations": "1",
        "--algorithm.tasks": "2",
        "--algorithm.episodes": "2",
        "--validation.enabled": "false",
        "--evaluation.at-end": "false",
        "--tracking.wandb": "disabled",
        "--rollout.workers": "1",
    }
    if any("few_shot" in w or "_sinusoid" in w for w in words):
        del options["--algorithm.episodes"]
    if any("rl2" in w or "varibad" in w for w in words):
        options["--algorithm.minibatches"] = "1"
    if "--resume" in words and "auto" not in words:  # what it trains is settled
        options = {"--iterations": "3"}
    elif "--run-dir" not in words:
        options["--run-dir"] = "runs/shortened"
    for name, value in options.items():
        if name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return words


@pytest.mark.parametrize("command", SHORT, ids=str)
def test_a_command_runs(command: Command, work: Path) -> None:
    if command.words[:2] == ("metarl", "new"):  # writes what is not there yet
        for suffix in (".py", ".yaml"):
            Path(command.words[3]).with_suffix(suffix).unlink(missing_ok=True)
    assert metarl_command(shortened(program(command.words))) == 0


class Parsed(Exception):
    """A program has read its command line."""


@pytest.mark.parametrize("page", sorted({c.page for c in COMMANDS if c.is_long}))
def test_the_long_commands_of_a_page_are_understood(
    page: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in COMMANDS:
        if command.page == page and command.is_long:
            if command.words[:2] == ("python", "-m"):
                reads_its_options(command, monkeypatch)
            else:
                parse(program(command.words))


def parse(words: list[str]) -> None:
    """A program reads its command line: it is understood, and files that it names are there."""
    from metarl.cli import command_line, suite

    parsers = {
        "train": command_line.parse_train_arguments,
        "evaluate": command_line.parse_evaluate_arguments,
        "references": command_line.parse_references_arguments,
        "suite": suite.parse_suite_arguments,
    }
    parsers[words[0]](words[1:])


def reads_its_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark's parser knows every option."""
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, argv: list[str]) -> NoReturn:
        _, rest = parse_known_args(self, argv)
        assert not rest
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
    module = importlib.import_module(command.words[2])
    with pytest.raises(Parsed):
        module.run(list(command.words[3:]))


PYTHON = [(p, n) for p in PAGES for n in range(len(blocks(p, "python")))]


@pytest.mark.parametrize(
    ("page", "number"), PYTHON, ids=[f"{p.relative_to(ROOT)}-{n + 1}" for p, n in PYTHON]
)
def test_a_python_block_runs(page: Path, number: int, work: Path) -> None:
    exec(compile(blocks(page, "python")[number], str(page), "exec"), {"__name__": page.stem})


YAML = [(p, b) for p in PAGES for b in blocks(p, "yaml") if "env:" in b and "algorithm:" in b]


@pytest.mark.parametrize(("page", "text"), YAML, ids=[p.name for p, _ in YAML])
def test_a_config_on_a_page_is_valid(page: Path, text: str, work: Path) -> None:
    Path("shown.yaml").write_text(text)
    parse(["train", "shown.yaml"])


def test_the_example_of_driving_a_trained_agent_shows_adaptation(
    capsys: pytest.CaptureFixture[str], work: Path
) -> None:
    exec(block(ROOT / "docs/your-agent.md", "python", "load_run"), {})
    returns = re.findall(r"after (\d) gradient steps: (-?[\d.]+)", capsys.readouterr().out)
    assert [k for k, _ in returns] == ["0", "1", "2", "3"]
    assert float(returns[0][1]) < -30.0  # the goal is 0.36 m away, and unknown
    assert float(returns[3][1]) > -10.0


def test_the_example_of_an_own_environment_trains_and_evaluates(work: Path) -> None:
    options = ["--iterations", "2", "--algorithm.tasks", "2", "--algorithm.episodes", "2"]
    options += ["--evaluation.episodes", "1", "--tracking.wandb", "disabled"]
    assert metarl_command(["train", "maml_pendulum_length", "--run-dir", "run", *options]) == 0
    metrics = [yaml.safe_load(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    # 2 × 2 episodes × 200 steps × 2, and in the first the look at the observations
    assert [m["env_steps"] for m in metrics] == [2400, 4000]
    evaluation = yaml.safe_load(Path("run/evaluation/held_out/evaluation.json").read_text())
    assert evaluation["task_columns"] == ["length"]
    assert len(evaluation["tasks"]) == 40


def test_the_example_of_an_own_agent_is_evaluated_and_adapts(work: Path) -> None:
    words = ["evaluate", "--agent", "scout:Scout", "--config", "maml_navigation"]
    words += ["--episodes", "9", "--adaptation-steps", "2", "--output", "scouted"]
    assert metarl_command(words) == 0
    evaluation = yaml.safe_load(Path("scouted/evaluation.json").read_text())
    assert evaluation["adaptation_helps"]["ci95"][0] > 0.0
