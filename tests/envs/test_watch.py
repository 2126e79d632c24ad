"""Environments that do not return from a call, and such as wait for the keyboard."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metarl.envs import SimulationFailure, make, watch
from tests.toy_envs import Line

STUCK = "tests.envs.stuck_envs:Stuck"
ASKS = "tests.envs.stuck_envs:Asks"


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE_S", 0.02)
    monkeypatch.setattr(watch, "TICK_S", 0.005)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("at", "holds_gil"), [("reset", False), ("step", True)])
def test_a_call_that_hangs_is_told_and_fails(
    at: str, holds_gil: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    env: Any = make(STUCK, 4, num_workers=2, step_timeout=1.0, at=at, holds_gil=holds_gil)
    env.set_tasks([[5.0], [5.0], [5.0], [6.0]])

    capsys.readouterr()

    def play() -> None:
        env.reset(seed=0)
        env.step(np.zeros(4, dtype=int))

    with pytest.raises(SimulationFailure) as caught:
        play()
    assert str(caught.value) == (
        "Stuck failed in lane 3 (task: best 6) at step 0: it has not returned within 1 s, which is "
        "step_timeout."
    )
    told = f"Stuck.{at} in the worker process {env._awaited[0].pid}, lane 3 (task: best 6), has not"
    assert f"{told} returned for 0 s; it fails after 1 s\n" in capsys.readouterr().err


@pytest.mark.usefixtures("_impatient")
def test_a_constructor_that_hangs_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    make(STUCK, 2, num_workers=1, step_timeout=0.01, at="__init__", seconds=0.1).close()
    said = capsys.readouterr().err
    assert "Stuck.__init__ in the worker process " in said
    assert "lane 1, has not returned for 0 s\n" in said  # and has no limit


class Slow:
    """Stands for an environment; its calls get on when they are told to."""

    def __init__(self) -> None:
        self.place = 0

    def under_way(self, what: str) -> tuple[int, str]:
        return self.place, f"Slow.{what}"

    def give_up(self, seconds: float) -> None:
        self.place = -1


def test_lines_come_rarely_and_only_where_nothing_gets_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    slow = Slow()
    watched = watch.Watch(slow, limit_s=1000.0)
    watched._thread = threading.current_thread()  # which looks by itself

    def told(seconds: int, gets_on: bool = False) -> list[str]:
        nonlocal now
        for _ in range(seconds):
            now += 1.0
            slow.place += gets_on
            watched.look()
        return capsys.readouterr().err.splitlines()

    for _ in range(100):  # short ones
        watched.begin("step")
        assert told(1) == []
        watched.end()
    watched.begin("step")
    assert told(1) == []
    assert told(59) == []
    assert told(1) == ["Slow.step has not returned for 60 s; it fails after 1000 s"]
    assert told(59) == []
    assert len(told(1)) == 1
    assert told(119) == []
    assert len(told(1)) == 1
    watched.end()
    assert told(500) == []
    watched.begin("reset")
    assert told(300, gets_on=True) == []  # many lanes, each of which takes its time
    assert len(told(999)) == 5
    assert slow.place > 0
    told(1)
    assert slow.place == -1


@pytest.mark.usefixtures("_impatient")
def test_an_environment_of_this_process_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    class Sleepy(Line):
        def _advance(self, *args: Any) -> Any:
            deadline = time.monotonic() + 10
            while "Sleepy.step" not in (said := capsys.readouterr().err):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert said.startswith("Sleepy.step, of 2 lanes at once, has not returned for 0 s")
            return super()._advance(*args)

    env = Sleepy(2)
    env.reset(seed=0)
    env.step(np.zeros((2, 1)))


@pytest.mark.usefixtures("_impatient")
def test_the_watch_ends_with_its_environment() -> None:
    env = Line(2)
    env.reset(seed=0)
    thread, gone = env._watch._thread, weakref.ref(env)
    assert isinstance(thread, threading.Thread)
    del env
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("by", ["input", "breakpoint"])
def test_who_reads_the_keyboard_is_told_that_there_is_none(by: str) -> None:
    """And does not read the requests of the parent, which would have been its lines."""
    env: Any = make(ASKS, 1, num_workers=1, by=by)
    env.reset(seed=0)
    with pytest.raises(SimulationFailure) as caught:
        env.step(np.zeros(1, dtype=int))
    assert "it reads the standard input (input(), breakpoint()), where there is none (" in str(
        caught.value
    )
    assert "stuck_envs.py, line " in str(caught.value)
