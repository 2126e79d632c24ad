"""What Windows, macOS and odd filesystems do otherwise, imitated here."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metarl import process
from metarl.envs import process_pool, rendering
from metarl.envs.process_pool import Worker
from metarl.storage import files
from metarl.storage.json_lines import JsonLines


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens no folders, writes nothing through by a handle that only reads."""
    real_open, real_sync = os.open, os.fsync

    def opened(path: Any, flags: int, *mode: Any, **at: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *mode, **at)

    def synced(descriptor: int) -> None:
        import fcntl

        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_sync(descriptor)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(files, "ON_WINDOWS", True)


@pytest.mark.usefixtures("windows")
def test_files_and_folders_are_replaced_without_syncing_a_folder(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "a.txt", "RL²\n")
    files.sync_file(tmp_path / "a.txt")
    files.replace_folder(tmp_path / "folder", {"x": b"1"})
    files.replace_folder(tmp_path / "folder", {"x": b"2"})
    assert (tmp_path / "a.txt").read_bytes() == "RL²\n".encode()
    assert (tmp_path / "folder" / "x").read_bytes() == b"2"


@pytest.mark.usefixtures("windows")
def test_a_file_that_another_program_reads_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = os.replace, [1, 2]

    def replace(source: Path, target: Path) -> None:
        if held:
            held.pop()
            raise PermissionError(errno.EACCES, "in use by another process")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    files.write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new"
    assert held == []


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_filesystem_that_cannot_sync_folders(
    number: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if passes:
        files.sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="error"):
            files.sync_folder(tmp_path)


def test_lines_end_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes text, with other ends of lines, unless a file is opened as binary."""
    asked: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "O_BINARY", 1 << 40, raising=False)
    monkeypatch.setattr(
        os, "open", lambda p, flags, mode: asked.append(flags) or real(p, flags & ~(1 << 40), mode)
    )
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write({"iteration": 1})
    lines.close()
    assert asked[0] & os.O_BINARY  # type: ignore[attr-defined]


def test_a_worker_that_ended_where_there_is_no_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = object.__new__(Worker)
    worker._overdue_s = None
    said = {}
    monkeypatch.delattr(signal, "SIGKILL")
    for code in (1, 0xC0000005, -9, -34):
        worker._process = subprocess.Popen.__new__(subprocess.Popen)
        worker._process.returncode, worker._process.pid = code, 7
        monkeypatch.setattr(worker._process, "wait", lambda seconds, code=code: code, raising=False)
        monkeypatch.setattr(worker._process, "_child_created", False, raising=False)
        said[code] = worker.death()
    assert said[1] == "the worker process 7 exited with 1"
    assert said[0xC0000005] == "the worker process 7 exited with 3221225477"
    assert "where memory runs out" in said[-9]
    assert said[-34].startswith("the worker process 7 was killed by ")
    assert process_pool.signal is signal


def test_commands_are_quoted_as_the_systems_shell_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["metarl", "evaluate", "my runs/x"]
    assert process.command_line(words) == "metarl evaluate 'my runs/x'"
    monkeypatch.setattr(process.os, "name", "nt")
    assert process.command_line(words) == 'metarl evaluate "my runs/x"'


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nobody_is_told_to_install_what_his_system_has_not(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(rendering, "_works", lambda name: False)
    with pytest.raises(rendering.RendererMissing) as refused:
        rendering.backend.__wrapped__()
    assert "apt-get" not in str(refused.value)
    assert "comes with" in str(refused.value)
