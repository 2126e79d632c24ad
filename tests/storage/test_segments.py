"""What grows is written once, in segments; checkpoints name what they need, to the bit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.errors import EnvironmentFailure, UserError
from metarl.experience.replay import Replay
from metarl.storage import segments
from metarl.storage.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from metarl.storage.segments import check_room, read_segments
from tests.storage.sentences import refused
from tests.storage.test_checkpoint import _FailingCalls

N, C = 3, 5


def fresh() -> dict[str, Replay]:
    return {"large": Replay({"x": (2,), "r": ()}, N, C), "small": Replay({"r": ()}, 1, 2)}


def grow(buffers: dict[str, Replay], iteration: int) -> None:
    """What is added in an iteration depends on nothing else: a resumed run adds the same."""
    rng = np.random.default_rng(iteration)
    for n in range(N):
        size = int(rng.integers(0, 4)) if n else iteration % 7
        rows = torch.from_numpy(rng.standard_normal((size, 3)).astype(np.float32))
        buffers["large"].add(n, {"x": rows[:, :2], "r": rows[:, 2]})
    if iteration % 2:
        buffers["small"].add(0, {"r": torch.full((1,), float(iteration))})


def save(run: Path, iteration: int, buffers: dict[str, Replay], keep: int = 1) -> None:
    save_checkpoint(run, iteration, {}, env_steps=0, fingerprint={}, keep=keep, buffers=buffers)


def load(run: Path, which: int | None = None) -> tuple[int, dict[str, Replay]]:
    saved = load_checkpoint(run, "latest" if which is None else which, fall_back=which is None)
    buffers = fresh()
    read_segments(run, saved.manifest["buffers"], buffers)
    return saved.iteration, buffers


def same(a: dict[str, Replay], b: dict[str, Replay]) -> bool:
    for name in a:
        x, y = a[name], b[name]
        if (x.counts != y.counts).any() or x.segments != y.segments:
            return False
        for n in np.flatnonzero(x.counts):
            drawn = [r.sample(np.array([n]), 60, np.random.default_rng(0)) for r in (x, y)]
            if not all(torch.equal(drawn[0][k], drawn[1][k]) for k in drawn[0]):
                return False
    return True


def files(run: Path) -> set[str]:
    return {path.name for path in (run / "buffers").iterdir()}


def test_every_kept_checkpoint_has_its_own_past(tmp_path: Path) -> None:
    """Saved after any number of iterations, with rings that go round within and between saves."""
    live, past = fresh(), {}
    written: dict[str, int] = {}
    for iteration in range(1, 40):
        grow(live, iteration)
        if iteration % 4 in (0, 3):
            save(tmp_path, iteration, live, keep=3)
            past[iteration] = fresh()
            for i in range(1, iteration + 1):
                grow(past[iteration], i)
            for name in files(tmp_path):  # what lies there is never written again
                at = (tmp_path / "buffers" / name).stat().st_mtime_ns
                assert written.setdefault(name, at) == at
            for kept in sorted(past)[-3:]:
                loaded = load(tmp_path, kept)[1]
                for name in loaded:
                    past[kept][name].segments = loaded[name].segments
                assert same(loaded, past[kept]), (iteration, kept)
    assert same(load(tmp_path)[1], live)
    assert len(files(tmp_path)) < len(written) / 2, "segments that nobody needs are still there"
    needed = [load_checkpoint(tmp_path, i).manifest["buffers"] for i in sorted(past)[-3:]]
    assert files(tmp_path) == {s["file"] for told in needed for of in told.values() for s in of}


def test_a_saved_run_that_is_resumed_writes_the_same_segments(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    live = fresh()
    for iteration in range(1, 13):
        grow(live, iteration)
        save(straight, iteration, live, keep=2)
        begun, buffers = load(broken) if iteration > 1 else (0, fresh())
        assert begun == iteration - 1
        grow(buffers, iteration)
        save(broken, iteration, buffers, keep=2)
    assert files(straight) == files(broken)
    assert same(load(straight)[1], load(broken)[1])


def test_a_checkpoint_that_is_left_as_it_was_keeps_the_segments_in_use(tmp_path: Path) -> None:
    """A run is taken back to 1 and comes to 3 in one stride: 3 names 2's segment and its own, the
    run another one for both."""
    live = fresh()
    for iteration in (1, 2, 3):
        grow(live, iteration)
        save(tmp_path, iteration, live, keep=3)
    _, back = load(tmp_path, 1)
    for iteration in (2, 3):
        grow(back, iteration)
    save(tmp_path, 3, back, keep=3)
    grow(back, 4)
    save(tmp_path, 4, back, keep=3)
    iteration, found = load(tmp_path)
    assert iteration == 4
    assert same(found, back)


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    live = fresh()
    save(tmp_path, 0, live)
    assert not (tmp_path / "buffers").exists()
    grow(live, 1)
    save(tmp_path, 1, live)
    before = files(tmp_path)
    save(tmp_path, 1, live)
    save(tmp_path, 2, live)
    assert files(tmp_path) == before
    assert same(load(tmp_path)[1], live)


def test_what_a_killed_process_left_is_not_read_and_goes(tmp_path: Path) -> None:
    live = fresh()
    grow(live, 1)
    save(tmp_path, 1, live)
    for name in ("large-2-0000", ".pending-large-2-99-1"):
        (tmp_path / "buffers" / name).write_bytes(b"half of a segm")
    _, back = load(tmp_path)
    assert same(back, live)
    grow(back, 2)
    save(tmp_path, 2, back)
    assert not {name for name in files(tmp_path) if "0000" in name or "pending" in name}


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_segment(tmp_path: Path, damage: str, capsys) -> None:  # type: ignore[no-untyped-def]
    """Resuming falls back to the checkpoint before; evaluating needs no segment at all."""
    live = fresh()
    for iteration in (1, 2):
        grow(live, iteration)
        save(tmp_path, iteration, live, keep=2)
    (path,) = (tmp_path / "buffers").glob("large-2-*")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        os.truncate(path, 20)
    else:
        path.write_bytes(b"\xff" + path.read_bytes()[1:])
    assert load_checkpoint(tmp_path).iteration == 2
    iteration, buffers = load(tmp_path)
    assert iteration == 1
    once = fresh()
    grow(once, 1)
    once["large"].segments = buffers["large"].segments
    once["small"].segments = buffers["small"].segments
    assert same(buffers, once)
    assert "can be evaluated and not resumed" in capsys.readouterr().err
    grow(buffers, 2)  # the lost iteration is computed again, and its checkpoint is whole again
    save(tmp_path, 2, buffers, keep=2)
    assert same(load(tmp_path)[1], live)


@pytest.mark.parametrize(
    "told", [[], {"large": 3}, {"large": [{}]}, {"large": [{"file": "../1", "bytes": 0}]}]
)
def test_a_manifest_that_names_no_segments(tmp_path: Path, told: object) -> None:
    assert segments.fault_of(tmp_path, told)


def test_segments_of_other_buffers(tmp_path: Path) -> None:
    live = fresh()
    grow(live, 1)
    save(tmp_path, 1, live)
    told = load_checkpoint(tmp_path).manifest["buffers"]
    other = {"large": Replay({"x": (3,), "r": ()}, N, C), "small": Replay({"r": ()}, 1, 2)}
    assert "rows of 4 numbers" in refused(lambda: read_segments(tmp_path, told, other))
    assert "has the buffers large, small, where none" in refused(
        lambda: read_segments(tmp_path, told, {})
    )


def test_a_full_disk_at_any_point(tmp_path: Path) -> None:
    failures = 0
    for number in range(1, 60):
        run = tmp_path / str(number)
        live = fresh()
        grow(live, 1)
        save(run, 1, live)
        grow(live, 2)
        with pytest.MonkeyPatch.context() as patch:
            calls = _FailingCalls(patch, number, errno.ENOSPC)
            try:
                save(run, 2, live)
                message = None
            except EnvironmentFailure as failure:
                message = str(failure)
        if message is not None:
            failures += 1
            assert "iteration 2 cannot be written" in message
            assert "No space left" in message
        if calls.calls < number:
            break
        iteration, back = load(run)
        for i in range(iteration + 1, 4):  # room again: the run goes on as if nothing had been
            grow(back, i)
        save(run, 3, back)
        once = fresh()
        for i in (1, 2, 3):
            grow(once, i)
        for name in once:
            once[name].segments = back[name].segments
        assert same(load(run)[1], once)
    else:
        pytest.fail("a save makes more calls than were tried")
    assert failures >= 10


def test_a_buffer_that_does_not_fit_is_refused_before_its_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vast = {
        "large": Replay({"x": (1000,)}, 100, 10**9, "replay_capacity"),
        "small": Replay({"x": (1000,)}, 100, 10, "context_capacity"),
    }
    monkeypatch.setattr(segments, "_free_memory", lambda: 4 * 10**9 + 4 * 10**6)
    assert refused(lambda: check_room(vast, tmp_path)) == (
        "algorithm.replay_capacity is 1,000,000,000, with which the replay buffers may take 400.0 "
        "TB of memory, where 4.0 GB are free: it must be at most 10,000 here."
    )
    fitting = vast | {"large": Replay({"x": (1000,)}, 100, 10_000, "replay_capacity")}
    assert check_room(fitting, tmp_path)
    monkeypatch.setattr(segments, "_free_memory", lambda: 2 * 10**15)
    told = refused(lambda: check_room(vast, tmp_path))
    assert f"may take 400.0 TB on the disk of {tmp_path}" in told
    own = {"own": Replay({"x": (1000,)}, 100, 10**9)}  # of a user's algorithm
    assert refused(lambda: check_room(own, tmp_path)).startswith("The capacity of replay is 1,000")
    some = {"large": Replay({"x": (1000,)}, 1, 1000)}
    assert "up to 4.0 MB" in str(check_room(some, tmp_path))
    assert check_room({}, tmp_path) is None
    with pytest.raises(UserError):
        check_room(vast, tmp_path)
    assert newest_checkpoint(tmp_path) is None
