"""Fixtures of several tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Runs take all cores, as users' do: threads that wait must not hold the other worker's core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if hasattr(signal, "SIGHUP"):  # nohup has it ignored, and programs leave what is ignored as it is
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import pytest
import torch

from tests.pictures import blank, drawn
from tests.programs import Forks


@pytest.fixture(scope="session", autouse=True)
def our_envs_stay_metarls() -> Iterator[None]:
    """No test imports our directory envs/ under the name `envs`, which belongs to users."""
    yield
    assert "envs" not in sys.modules


@pytest.fixture(autouse=True)
def a_test_leaves_torchs_threads_alone() -> Iterator[None]:
    """A run takes the threads of its config; with them the tests after it would wait for cores."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """The programs in processes of their own; it starts once, which takes some seconds."""
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their plots, which take most of a report's time and have their own tests."""
    monkeypatch.setattr("metarl.report.evaluation_report._pictures", lambda *args: [])
    monkeypatch.setattr("metarl.report.evaluation_plots.plot_adaptation_picture", lambda *args: b"")


@pytest.fixture(scope="session", autouse=True)
def figures_are_blank() -> Iterator[None]:
    """See :mod:`tests.pictures`."""
    with blank():
        yield


@pytest.fixture
def drawn_pictures() -> Iterator[None]:
    """Figures as users see them."""
    with drawn():
        yield
