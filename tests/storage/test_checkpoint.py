"""Checkpoints: whole or absent, nothing in them executed, every fault a sentence."""

from __future__ import annotations

import builtins
import errno
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.errors import EnvironmentFailure
from metarl.storage.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from metarl.storage.manifest import FORMAT, digest
from metarl.storage.tensors import plain_state
from tests.storage.sentences import refused

FINGERPRINT = {"seed": 1, "algorithm.inner_lr": [0.1]}


def save(run: Path, iteration: int, state: dict[str, Any] | None = None, keep: int = 3) -> Path:
    state = {"x": torch.full((3,), float(iteration))} if state is None else state
    return save_checkpoint(
        run, iteration, state, env_steps=10 * iteration, fingerprint=FINGERPRINT, keep=keep
    )


def there(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


# --- what is saved ----------------------------------------------------------------------------


def test_round_trip_to_the_bit(tmp_path: Path) -> None:
    weights = torch.randn(4, 5, requires_grad=True)
    state = {
        "policy": {"w": weights, "half": torch.randn(3).half(), "n": torch.tensor(7)},
        "optimizer": [{"step": 3, "lr": 0.1, "betas": (0.9, 0.999)}, None, True, "text", b"raw"],
        3: -0.0,
    }
    save(tmp_path, 5, state)
    loaded = load_checkpoint(tmp_path)
    assert loaded.iteration == 5
    assert loaded.manifest["env_steps"] == 50
    assert loaded.manifest["format"] == FORMAT
    assert torch.equal(loaded.state["policy"]["w"], weights)
    assert not loaded.state["policy"]["w"].requires_grad
    assert torch.equal(loaded.state["policy"]["half"], state["policy"]["half"])  # type: ignore[index]
    assert loaded.state["policy"]["n"].dtype == torch.int64
    assert loaded.state["optimizer"] == state["optimizer"]
    assert str(loaded.state[3]) == "-0.0"


def test_saving_does_not_alias_or_carry_a_whole_storage(tmp_path: Path) -> None:
    big = torch.zeros(1_000_000)
    path = save(tmp_path, 1, {"view": big[:3]})
    assert (path / "state.pt").stat().st_size < 10_000
    live = torch.zeros(2)
    copy = plain_state({"x": live})
    live += 1
    assert torch.equal(copy["x"], torch.zeros(2))


def test_numpy_scalars_become_builtins(tmp_path: Path) -> None:
    state = {"a": np.float64(0.1), "b": [np.int64(3), np.bool_(True)], "c": OrderedDict(d=1)}
    save(tmp_path, 1, state)
    loaded = load_checkpoint(tmp_path).state
    assert loaded == {"a": 0.1, "b": [3, True], "c": {"d": 1}}
    assert [type(x) for x in (loaded["a"], *loaded["b"], loaded["c"])] == [float, int, bool, dict]


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"norm": {"mean": np.zeros(3)}}, "state['norm']['mean'] is a ndarray"),
        ({"a": [1, {2}]}, "state['a'][1] is a set"),
        ({"rng": np.random.default_rng(0)}, "state['rng'] is a Generator"),
        ({"f": print}, "state['f']"),
        ({"a": {(1, 2): 3}}, "state['a'] has the key (1, 2)"),
    ],
)
def test_what_a_checkpoint_cannot_hold(tmp_path: Path, state: dict, place: str) -> None:
    with pytest.raises(TypeError) as info:
        save(tmp_path, 1, state)
    assert place in str(info.value)
    assert not (tmp_path / "checkpoints").exists()


def test_latest_and_keep(tmp_path: Path) -> None:
    for iteration in (9, 10, 11, 100):
        save(tmp_path, iteration, keep=2)
    assert there(tmp_path) == ["100", "11", "latest"]
    assert (tmp_path / "checkpoints/latest").read_text() == "100\n"
    assert load_checkpoint(tmp_path).iteration == 100
    assert load_checkpoint(tmp_path, 11).state["x"][0] == 11
    assert newest_checkpoint(tmp_path) == 100


def test_leftovers_of_killed_writes_go_with_the_next_save(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    (folder / ".pending-2-123").mkdir()
    (folder / ".pending-2-123/state.pt").write_bytes(b"half")
    (folder / ".pending-latest-123").write_text("2")
    assert load_checkpoint(tmp_path).iteration == 1
    save(tmp_path, 2)
    assert there(tmp_path) == ["1", "2", "latest"]


def test_a_whole_checkpoint_is_not_written_twice_and_a_damaged_one_is(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    inode = (path / "state.pt").stat().st_ino
    save(tmp_path, 1)
    assert (path / "state.pt").stat().st_ino == inode
    (path / "state.pt").write_bytes(b"broken")
    save(tmp_path, 1)
    assert load_checkpoint(tmp_path).state["x"][0] == 1
    assert there(tmp_path) == ["1", "latest"]


def test_an_abandoned_future_does_not_push_out_the_present(tmp_path: Path) -> None:
    for iteration in (10, 20, 30):
        save(tmp_path, iteration)
    for iteration in (20, 30):
        (tmp_path / f"checkpoints/{iteration}/state.pt").write_bytes(b"broken")
    save(tmp_path, 15, keep=2)
    assert there(tmp_path) == ["10", "15", "latest"]
    assert load_checkpoint(tmp_path).iteration == 15


# --- what is refused --------------------------------------------------------------------------


def test_no_run_and_no_checkpoint(tmp_path: Path) -> None:
    assert "there is no" in refused(lambda: load_checkpoint(tmp_path / "none"))
    assert "holds no checkpoint" in refused(lambda: load_checkpoint(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert "holds no checkpoint" in refused(lambda: load_checkpoint(tmp_path))
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 1)
    save(tmp_path, 4)
    message = refused(lambda: load_checkpoint(tmp_path, 3))
    assert "no checkpoint of iteration 3; there are: 1, 4" in message


def _flip_a_byte(path: Path) -> None:
    data = bytearray((path / "state.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "state.pt").write_bytes(data)


def _grow(path: Path, **changes: Any) -> None:
    """A file beside the state, described in the manifest; the changes make that wrong."""
    (path / "replay.bin").write_bytes(b"12345")
    told = {"bytes": 5, "sha256": hashlib.sha256(b"12345").hexdigest()} | changes
    _edit(path, files={"replay.bin": told})


def _edit(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    kept = {key: value for key, value in manifest.items() if value is not None}
    if kept.pop("manifest_sha256", None):  # as one would who is up to no good
        kept["manifest_sha256"] = digest(kept)
    (path / "manifest.json").write_text(json.dumps(kept))


def _replace(path: Path, text: str, by: str) -> None:
    manifest = (path / "manifest.json").read_text()
    assert text in manifest
    (path / "manifest.json").write_text(manifest.replace(text, by))


DAMAGE = {
    "a flipped bit": (_flip_a_byte, "SHA-256"),
    "half a state": (lambda p: os.truncate(p / "state.pt", 100), "SHA-256"),
    "an empty state": (lambda p: os.truncate(p / "state.pt", 0), "SHA-256"),
    "no state": (lambda p: (p / "state.pt").unlink(), "no state.pt"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "no manifest.json"),
    "half a manifest": (lambda p: os.truncate(p / "manifest.json", 30), "not JSON"),
    "a binary manifest": (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "a nested manifest": (lambda p: (p / "manifest.json").write_text("[" * 99999), "not JSON"),
    "a list as manifest": (lambda p: (p / "manifest.json").write_text("[]"), "no JSON object"),
    "no digest": (lambda p: _edit(p, sha256=None), "'sha256'"),
    "no fingerprint": (lambda p: _edit(p, config_fingerprint=None), "'config_fingerprint'"),
    "a digest that is a number": (lambda p: _edit(p, sha256=3), "'sha256'"),
    "another length": (lambda p: _grow(p, bytes=4), "replay.bin does not match the length"),
    "another digest": (lambda p: _grow(p, sha256="0"), "replay.bin does not match the length"),
    "a missing file": (lambda p: _edit(p, files={"replay.bin": {}}), "replay.bin does not match"),
    "files as a list": (lambda p: _edit(p, files=[]), "'files'"),
    "no format": (lambda p: _edit(p, format=None), "'format'"),
    "another iteration": (lambda p: _edit(p, iteration=7), "iteration 7"),
    "more env steps": (
        lambda p: _replace(p, '"env_steps": ', '"env_steps": 1'),
        "its own SHA-256",
    ),
    "another seed": (lambda p: _replace(p, '"seed": 1', '"seed": 2'), "its own SHA-256"),
    "endless env steps": (lambda p: _edit(p, env_steps=10**300), "'env_steps'"),
    "negative env steps": (lambda p: _edit(p, env_steps=-1), "'env_steps'"),
    "a file elsewhere": (lambda p: _edit(p, files={"/dev/zero": {"bytes": 1}}), "/dev/zero does"),
    "a pipe": (lambda p: ((p / "state.pt").unlink(), os.mkfifo(p / "state.pt")), "no regular file"),
    "a folder as state": (
        lambda p: ((p / "state.pt").unlink(), (p / "state.pt").mkdir()),
        "Is a directory",
    ),
    "an empty folder": (lambda p: (shutil.rmtree(p), p.mkdir()), "no manifest.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage(tmp_path: Path, damage: str, capsys) -> None:  # type: ignore[no-untyped-def]
    harm, words = DAMAGE[damage]
    for iteration in (10, 20, 30):
        save(tmp_path, iteration)
    harm(tmp_path / "checkpoints/30")
    # An evaluation is told which one is good ...
    message = refused(lambda: load_checkpoint(tmp_path))
    assert words in message
    assert "checkpoints/30" in message
    assert "newest good one is that of iteration 20" in message
    assert "iteration 20" in refused(lambda: load_checkpoint(tmp_path, 30, fall_back=True))
    # ... a resumed run takes it and says so.
    assert load_checkpoint(tmp_path, fall_back=True).iteration == 20
    warning = capsys.readouterr().err
    assert words in warning
    assert "Going on from iteration 20" in warning
    assert warning.count("\n") == 1
    for iteration in (20, 10):
        shutil.rmtree(tmp_path / f"checkpoints/{iteration}")
    assert "no other good checkpoint" in refused(lambda: load_checkpoint(tmp_path, fall_back=True))


def test_a_manifest_without_a_hash_of_its_own_is_of_before(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest.pop("manifest_sha256")
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert load_checkpoint(tmp_path).manifest["env_steps"] == manifest["env_steps"]


def test_an_endless_fingerprint(tmp_path: Path) -> None:
    def changes(made: Any) -> list[str]:
        return changes(made)

    save(tmp_path, 1)
    assert "endless config" in refused(lambda: load_checkpoint(tmp_path, changes=changes))


def test_a_file_beside_the_state_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    _grow(save(tmp_path, 1))
    assert load_checkpoint(tmp_path).manifest["files"]["replay.bin"]["bytes"] == 5
    assert newest_checkpoint(tmp_path) == 1


@pytest.mark.parametrize(
    "text", ["", "x", "99", "../../evil", "\x00", "9" * 300, "1_0", "-1", None]
)
def test_a_broken_pointer(tmp_path: Path, text: str | None, capsys) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path, 1)
    pointer = tmp_path / "checkpoints/latest"
    pointer.unlink() if text is None else pointer.write_text(text)
    message = refused(lambda: load_checkpoint(tmp_path))
    assert "checkpoints/latest" in message
    assert "newest good one is that of iteration 1" in message
    assert load_checkpoint(tmp_path, fall_back=True).iteration == 1
    assert "checkpoints/latest" in capsys.readouterr().err


@pytest.mark.parametrize("version", [FORMAT + 1, 0, "new"])
def test_another_format(tmp_path: Path, version: object) -> None:
    _edit(save(tmp_path, 1), format=version)
    message = refused(lambda: load_checkpoint(tmp_path, fall_back=True))
    assert f"has format {version}" in message
    assert f"reads format {FORMAT}" in message


def test_another_config(tmp_path: Path) -> None:
    save(tmp_path, 1)
    seen: list[Any] = []
    assert load_checkpoint(tmp_path, changes=lambda made: seen.append(made) or []).iteration == 1
    assert seen == [FINGERPRINT]
    message = refused(
        lambda: load_checkpoint(
            tmp_path, changes=lambda made: [f"seed was {made['seed']} and is 2 now"], fall_back=True
        )
    )
    assert "belongs to another config: seed was 1 and is 2 now." in message


class Malicious:
    """Writes the marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.marker,))


class MaliciousState(Malicious):
    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.marker}",))


def _torch_bytes(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [Malicious, MaliciousState])
@pytest.mark.parametrize("wrapping", ["zip", "legacy", "pickle", "nested"])
def test_a_malicious_pickle_executes_nothing(tmp_path: Path, kind: type, wrapping: str) -> None:
    marker = tmp_path / "executed"
    value: Any = kind(marker)
    data = {
        "zip": lambda: _torch_bytes(value),
        "legacy": lambda: _torch_bytes(value, _use_new_zipfile_serialization=False),
        "pickle": lambda: pickle.dumps(value),
        "nested": lambda: _torch_bytes({"x": torch.zeros(2), "y": [value]}),
    }[wrapping]()
    # The trap works: a careless load would have sprung it.
    if wrapping == "zip":
        torch.load(io.BytesIO(data), weights_only=False)
        assert marker.exists()
        marker.unlink()
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    (path / "state.pt").write_bytes(data)
    _edit(path, sha256=hashlib.sha256(data).hexdigest())
    for fall_back in (False, True):
        message = refused(lambda: load_checkpoint(tmp_path, fall_back=fall_back))  # noqa: B023
        assert "refused" in message
        assert "checkpoints/2" in message
        assert not marker.exists()
    newest_checkpoint(tmp_path)
    save(tmp_path, 2)
    assert not marker.exists()


@pytest.mark.parametrize("state", [[1, 2], torch.zeros(3), "text", None])
def test_a_state_that_is_no_dict(tmp_path: Path, state: object) -> None:
    path = save(tmp_path, 1)
    data = _torch_bytes(state)
    (path / "state.pt").write_bytes(data)
    _edit(path, sha256=hashlib.sha256(data).hexdigest())
    assert "not a dict" in refused(lambda: load_checkpoint(tmp_path))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04garbage", b"\x80\x04N.", os.urandom(500)])
def test_garbage_with_a_matching_digest(tmp_path: Path, data: bytes) -> None:
    path = save(tmp_path, 1)
    (path / "state.pt").write_bytes(data)
    _edit(path, sha256=hashlib.sha256(data).hexdigest())
    assert "is refused" in refused(lambda: load_checkpoint(tmp_path))


# --- when the disk or the process fails -------------------------------------------------------


class _FailingCalls:
    """Fails the n-th call of the system that a save makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
        self.calls, self.number, self.code = 0, number, code
        for module, name in [
            (os, "fsync"),
            (os, "rename"),
            (os, "replace"),
            (os, "mkdir"),
            (builtins, "open"),
        ]:
            monkeypatch.setattr(module, name, self._wrap(getattr(module, name)))

    def _wrap(self, call):  # type: ignore[no-untyped-def]
        def wrapped(*args: Any, **options: Any) -> Any:
            writes = len(args) < 2 or args[1] != "rb"
            if writes:
                self.calls += 1
                if self.calls == self.number:
                    raise OSError(self.code, os.strerror(self.code))
            return call(*args, **options)

        return wrapped


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_at_any_point(tmp_path: Path, code: int) -> None:
    failures = 0
    for number in range(1, 40):
        run = tmp_path / str(number)
        save(run, 1)
        with pytest.MonkeyPatch.context() as patch:
            calls = _FailingCalls(patch, number, code)
            try:
                save(run, 2, keep=1)
                message = None
            except EnvironmentFailure as failure:
                message = str(failure)
        if calls.calls < number:  # past the last call: every point has been tried
            break
        loaded = load_checkpoint(run)
        assert torch.equal(loaded.state["x"], torch.full((3,), float(loaded.iteration)))
        if message is not None:
            failures += 1
            assert "iteration 2 cannot be written" in message
            assert os.strerror(code) in message
            assert f"newest good one is of iteration {newest_checkpoint(run)}" in message
            assert loaded.iteration in (1, newest_checkpoint(run))
        save(run, 3, keep=1)  # room again
        assert there(run) == ["3", "latest"]
    else:
        pytest.fail("a save makes more calls than were tried")
    assert failures >= 8


def test_a_state_cut_off_by_the_kernel(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refused(lambda: save(tmp_path, 2, {"x": torch.ones(100_000)}), EnvironmentFailure)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "iteration 2 cannot be written" in message
    assert "newest good one is of iteration 1" in message
    assert there(tmp_path) == ["1", "latest"]
    assert load_checkpoint(tmp_path).iteration == 1


def test_the_first_checkpoint_fails(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    message = refused(lambda: save(tmp_path, 1), EnvironmentFailure)
    assert "there is no other" in message


def _save_for_ever(run: Path, first: int) -> None:
    iteration = first
    while True:
        save(run, iteration, {"x": torch.full((20_000,), float(iteration))}, keep=2)
        iteration += 1


def test_killed_in_the_middle_of_saves(tmp_path: Path) -> None:
    save(tmp_path, 1, {"x": torch.full((20_000,), 1.0)})
    chance = random.Random(0)
    fork = multiprocessing.get_context("fork")
    last = 1
    for _ in range(12):
        process = fork.Process(target=_save_for_ever, args=(tmp_path, last + 1))
        process.start()
        while int((tmp_path / "checkpoints/latest").read_text()) == last:
            time.sleep(0.005)  # until one is saved, however busy the machine is
        time.sleep(chance.uniform(0.0, 0.1))
        process.kill()
        process.join()
        loaded = load_checkpoint(tmp_path)  # no falling back: `latest` itself is good
        assert loaded.iteration >= last
        assert torch.equal(loaded.state["x"], torch.full((20_000,), float(loaded.iteration)))
        assert newest_checkpoint(tmp_path) in (loaded.iteration, loaded.iteration + 1)
        last = loaded.iteration
    assert last > 12
    save(tmp_path, last + 2, keep=1)
    assert there(tmp_path) == [str(last + 2), "latest"]


def test_a_checkpoint_folder_that_cannot_be_read(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path, 1)

    def denied(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", denied)
    assert "Permission denied" in refused(lambda: load_checkpoint(tmp_path))
    monkeypatch.setattr(os, "fsync", denied)
    assert "there is no other" in refused(lambda: save(tmp_path, 2), EnvironmentFailure)
