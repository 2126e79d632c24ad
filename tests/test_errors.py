"""Whatever an exception says becomes one line of bounded length; what is cut is marked."""

from __future__ import annotations

import io

import numpy as np
import pytest

from metarl.envs.faults import in_words, value_in_words
from metarl.errors import LONGEST, EnvironmentFailure, UserError, message_of, one_line, warn


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyError("even this fails")

    __repr__ = __str__


SAID: list[tuple[BaseException, str]] = [
    (ValueError("a\n  b\r\n\tc"), "a b c"),
    (ValueError("\x1b[1;31mred\x1b[0m \x1b]0;title\x07here"), "red here"),
    (
        ValueError("beep\x07 null\x00 half \ud800 turn\u202e after"),
        "beep\ufffd null\ufffd half \ufffd turn\ufffd after",
    ),
    (ValueError(), ""),
    (ValueError(np.zeros((2, 2))), "[[0. 0.] [0. 0.]]"),
    (Mute(), "its message cannot be shown"),
]


@pytest.mark.parametrize(("error", "said"), SAID, ids=lambda x: type(x).__name__)
def test_one_printable_line(error: BaseException, said: str) -> None:
    assert message_of(error) == said


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "lane\n" * 20_000, "\x1b[31mx" * 20_000, "\x00" * 600]
)
def test_a_long_one_keeps_both_ends_and_says_how_much_is_cut(text: str) -> None:
    line = one_line(f"begin {text} end")
    assert line.startswith("begin ")
    assert line.endswith(" end")
    assert "characters ...]" in line
    assert len(line) < LONGEST + 50
    assert line.isprintable()


def test_the_place_in_the_users_code_is_not_cut_off() -> None:
    try:
        raise ValueError(np.array2string(np.zeros(9_000), threshold=10_000))
    except ValueError as error:
        said = in_words(error)
    assert "characters ...]" in said
    assert "tests/test_errors.py, line" in said
    assert len(said) < LONGEST + 150


@pytest.mark.parametrize("kind", [UserError, EnvironmentFailure])
def test_a_sentence_is_one_line_whatever_it_quotes(kind: type[Exception]) -> None:
    assert str(kind("The file a  b is wrong:\n it ends.")) == "The file a b is wrong: it ends."
    assert str(kind("The file a  b is wrong.")) == "The file a  b is wrong."
    assert len(str(kind("y" * 10**6))) < 2100


def test_a_warning_that_nobody_reads_ends_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warn("it is late.")
    assert capsys.readouterr().err == "warning: it is late.\n"

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    warn("it is late.")


def test_values_that_cannot_be_shown() -> None:
    assert value_in_words(Mute()) == "a Mute"
    assert value_in_words({"a\nb": 1}) == r"a dict with the keys 'a\nb'"
