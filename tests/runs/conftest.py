"""An honest run, and a module that tells whether it was executed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import train
from tests.programs import write_config
from tests.runs.strangers import TRAP


@pytest.fixture(scope="package")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that names parts of metarl alone; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("honest")
    config = write_config(folder, iterations=1)
    assert train.main(["--config", str(config), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the module `trap` leaves when it is executed; it can be found and imported."""
    marker = tmp_path / "executed"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/trap.py").write_text(TRAP.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.delitem(sys.modules, "trap", raising=False)
    return marker
