"""Letters that a terminal or a locale does not have: nothing fails of them, files are UTF-8."""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from metarl.cli.main import main
from metarl.errors import UserError
from metarl.process import any_letters, run_program, say
from metarl.tracking.console import Display
from tests.test_imports import MODULES, ROOT

TEXT = "RL² − ± → × ≤ é ψ 你 \udcff"
READABLE = "RL2 - +/- -> x <= e \\u03c8 \\u4f60 \\udcff"


ENCODINGS = ["ascii", "cp1252", "latin-1"]


def strict_output(encoding: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, io.BytesIO]:
    """Standard output and error in an encoding that lacks letters, strict as pipes are."""
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, buffer in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding))
    return written


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_letter_is_printed(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = strict_output(encoding, monkeypatch)

    def program() -> int:
        say(TEXT)
        display = Display(TEXT, 3, Console(file=sys.stdout, force_terminal=True, width=200))
        display.start()
        display.update({"iteration": 1, "env_steps": 5, "return/step_0": 0.5})
        display.warn(TEXT)
        display.stop()
        plain = Display("run", 3, Console(file=sys.stdout, force_terminal=False))
        plain.print(TEXT)
        raise UserError(f"{TEXT}.")

    assert run_program(program) == 2
    assert (sys.stdout.errors, sys.stderr.errors) == ("strict", "strict")
    sys.stdout.flush()
    sys.stderr.flush()
    written = {name: buffer.getvalue().decode(encoding) for name, buffer in output.items()}
    if encoding == "ascii":
        assert written["stdout"].count(READABLE) >= 4  # twice a bar, two notes, a line
        assert written["stderr"] == "error: RL2 - +/- -> x <= e \\u03c8 \\u4f60 ?.\n"
    else:
        assert "RL² - ± -> ×" in written["stdout"]
        assert written["stderr"].startswith("error: RL² - ±")


def test_lists_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    output = strict_output("ascii", monkeypatch)
    assert main(["list", "algorithms"]) == 0
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    sys.stdout.flush()
    assert b"RL2" in output["stdout"].getvalue()
    assert b"lambda of the advantage" in output["stdout"].getvalue()


def test_a_notebooks_streams_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with any_letters():
        say(TEXT)
    assert sys.stdout.getvalue() == f"{TEXT}\n"


def test_a_closed_stream_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with any_letters():
        pass


def text_without_encoding(path: Path) -> Iterator[str]:
    """Calls that read or write text in the locale's encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        name = ast.unparse(node.func).rpartition(".")[2]
        arguments = [ast.unparse(argument) for argument in node.args]
        if "encoding" in named:
            continue
        text = {
            "read_text": not arguments,
            "write_text": len(arguments) < 2,
            "open": not ast.unparse(node.func).startswith(("os.", "Image."))
            and "b'" not in "".join([*arguments[-1:], named.get("mode", "")]),
            "fdopen": "b'" not in "".join(arguments[1:]),
            "run": named.get("text") == "True",
            "Popen": named.get("text") == "True",
            "check_output": named.get("text") == "True",
        }
        if text.get(name):
            yield f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)[:80]}"


def test_files_are_utf_8_whatever_the_locale() -> None:
    assert [call for path in MODULES for call in text_without_encoding(path)] == []
