"""The help lists the fields of what is chosen."""

from __future__ import annotations

import pytest

from metarl.cli.command_line import parse_evaluate_arguments, parse_train_arguments
from metarl.config.help import config_lines
from metarl.config.validation import split_options
from tests.config.fakes import FAKE


def test_help_describes_the_chosen_classes() -> None:
    text = "\n".join(config_lines(None, split_options(FAKE)))
    line = next(x for x in text.splitlines() if "--env.length" in x)
    assert "NUMBER" in line
    assert "Of the corridor, in m" in line
    assert "default 1" in line
    line = next(x for x in text.splitlines() if "--algorithm.steps" in x)
    assert "gradient steps (default 1; >= 1; <= 10)" in line
    assert "--env.radius" not in text  # of another environment
    for word in ("half_cheetah_vel", "point_navigation", "maml", "narrow, wide", "trpo|ppo"):
        assert word in text
    assert text.count("--validation.enabled true|false") == 1


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_exits_with_0(flag: str, capsys) -> None:  # type: ignore[no-untyped-def]
    for parse, word in (
        (parse_train_arguments, "--max-env-steps"),
        (parse_evaluate_arguments, "--adaptation-steps"),
    ):
        with pytest.raises(SystemExit) as info:
            parse([flag])
        assert info.value.code == 0
        assert word in capsys.readouterr().out
