"""The command `metarl`: its subcommands, its lists, and what it writes to begin with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.cli import listing
from metarl.cli.main import SUBCOMMANDS, main
from metarl.storage.places import config_names
from tests.programs import ENVIRONMENT, ROOT

SHORT = ["--algorithm.tasks", "2", "--algorithm.episodes", "2", "--evaluation.episodes", "1"]
SHORT += ["--rollout.workers", "1", "--rollout.torch_threads", "1"]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which the command refuses its words."""
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_the_help_answers_at_once() -> None:
    started = time.monotonic()
    code = (
        "import sys; from metarl.cli.main import main; main(['--help'])\n"
        "print(sorted({'torch', 'mujoco', 'wandb', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    assert time.monotonic() - started < 5.0  # under 1 s on a machine with nothing else to do
    assert said.endswith("[]\n")
    for name in SUBCOMMANDS:
        assert f"  {name} " in said


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([name, "--help"])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 0
    assert f"metarl {name}" in capsys.readouterr().out


def test_python_m_is_the_same() -> None:
    words = [sys.executable, "-m", "metarl", "--version"]
    said = subprocess.run(words, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "0.2.0\n")


def test_an_unknown_subcommand_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(["trian", "--seed", "1"], capsys)
    assert "no subcommand 'trian': the nearest is 'train'" in said


# --- list -------------------------------------------------------------------------------------


def test_lists_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert set(config_names()) < set(names)
    assert {"point_navigation", "half_cheetah_vel", "maml", "rl2"} < set(names)
    assert all(len(line.split()) > 3 for line in lines if line.startswith("  "))
    assert [line for line in lines if line.endswith(":")] == [f"{kind}:" for kind in listing.LISTS]


def test_a_list_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "environments"]) == 0
    assert capsys.readouterr().out.startswith("environments:\n  point_navigation ")
    assert "the nearest is 'configs'" in refusal(["list", "config"], capsys)


def test_a_sentence_ends_where_another_begins() -> None:
    text = "Of Finn et al. 2017, section 5.3:\nat most. tuned"
    assert listing.first_sentence(text) == "Of Finn et al. 2017, section 5.3: at most."


# --- new --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["environment", "agent", "algorithm"])
@pytest.mark.usefixtures("without_plots")
def test_what_is_written_runs_by_the_command_printed(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = f"mine/some_{kind}.py"
    assert main(["new", kind, file]) == 0
    said = capsys.readouterr().out
    command = said.splitlines()[-1].split()
    assert command[0] == "metarl"
    assert f"class Some{kind.title()}" in Path(file).read_text()
    assert "my_" not in Path(file).with_suffix(".yaml").read_text()
    short = ["--iterations", "1", *SHORT] if command[1] == "train" else ["--episodes", "2"]
    assert main([*command[1:], *short]) == 0
    assert list(Path("runs").rglob("report.html"))
    assert f"{file} is there already" in refusal(["new", kind, file], capsys)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["agnet", "mine.py"], "the nearest is 'agent'"),
        (["agent"], "metarl new agent my_agent.py"),
        (["agent", "a.py", "b.py"], "metarl new agent my_agent.py"),
        (["agent", "mine"], "must be a .py file"),
        (["agent", "../mine.py"], "in the working folder"),
        (["agent", "my-agent.py"], "letters, digits and _"),
        (["agent", "class.py"], "no word of the language"),
    ],
)
def test_mistakes_about_something_new(
    words: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refusal(["new", *words], capsys)
    assert list(tmp_path.iterdir()) == []
