"""Where shipped configs and references are found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.storage.places import (
    config_names,
    find_config,
    shipped_configs,
    shipped_references,
)

ROOT = Path(__file__).parents[1]


def test_in_the_repository_they_lie_at_its_top_level() -> None:
    assert shipped_configs() == ROOT / "configs"
    assert shipped_references() == ROOT / "references"


def test_a_config_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("quickstart") == ROOT / "configs/quickstart.yaml"
    assert "quickstart" in config_names()
    assert not [name for name in config_names() if name.startswith("sweep")]


def test_a_file_of_the_users_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "quickstart"
    mine.write_text("seed: 2\n")
    assert find_config("quickstart") == Path("quickstart")
    assert find_config(mine) == mine


@pytest.mark.parametrize("given", ["quikstart", "configs/quikstart.yaml"])
def test_an_unknown_config_gets_one_sentence(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=f"There is no config '{given}': did you mean 'quickstart'\\? it"
    ):
        find_config(given)


def test_the_package_holds_nothing_else_of_the_repository() -> None:
    for name in ("train", "evaluate", "tests", "benchmarks", "results"):
        assert importlib.util.find_spec(f"metarl.{name}") is None
