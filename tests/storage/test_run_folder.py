"""The run folder and its files: made once, replaced whole, cut back on resume."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from metarl.errors import EnvironmentFailure
from metarl.storage.files import write_atomically
from metarl.storage.json_lines import read_json, read_json_lines
from metarl.storage.run_folder import (
    clear_failed_start,
    failed_at_start,
    make_run_dir,
    missing_lines,
    truncate_metrics,
)
from tests.storage.sentences import refused


def test_a_new_run_needs_a_folder_without_one(tmp_path: Path) -> None:
    run = tmp_path / "runs/a"
    make_run_dir(run)
    make_run_dir(run)  # still empty: killed before anything was written
    clear_failed_start(run)
    for name in ("config.yaml", "metrics.jsonl", "checkpoints"):
        (run / name).write_text("")
        message = refused(lambda: clear_failed_start(run))
        assert "already holds a run" in message
        assert name in message
        assert "--resume" in message
        assert "--run-dir" in message
        (run / name).unlink()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/run"):
        assert "a file is in its way" in refused(lambda: make_run_dir(path))  # noqa: B023
    too_long = tmp_path / ("x" * 300)
    assert "too long" in refused(lambda: make_run_dir(too_long))


def test_only_a_start_without_an_iteration_is_cleared(tmp_path: Path) -> None:
    def begun(name: str, metrics: str, *checkpoints: int, meta: bool = True) -> Path:
        run = tmp_path / name
        run.mkdir()
        (run / "config.yaml").write_text("seed: 1")
        (run / "metrics.jsonl").write_text(metrics)
        for iteration in checkpoints:
            (run / "checkpoints" / str(iteration)).mkdir(parents=True)
        if meta:
            (run / "meta.json").write_text("{}")
        return run

    failed = begun("failed", '{"iterat', 0)
    (failed / "notes.txt").write_text("mine")
    clear_failed_start(failed)
    assert [path.name for path in failed.iterdir()] == ["notes.txt"]
    kept = [
        begun("lines", line(1)),
        begun("lines without the last checkpoint", line(1), 0),
        begun("a checkpoint without lines", "", 0, 10),
        begun("the user's own config", "", meta=False),
    ]
    for run in kept:
        assert not failed_at_start(run)
        before = sorted(run.rglob("*"))
        assert "already holds a run" in refused(lambda: clear_failed_start(run))  # noqa: B023
        assert sorted(run.rglob("*")) == before


def test_a_run_dir_that_the_system_refuses(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    message = refused(lambda: make_run_dir(tmp_path / "a"), EnvironmentFailure)
    assert "cannot be made: Read-only" in message


def line(iteration: int) -> str:
    return json.dumps({"iteration": iteration, "return/post": -1.5}) + "\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", []),
        (line(1) + line(2), [1, 2]),
        (line(1) + line(2) + line(3) + line(4), [1, 2]),
        (line(1) + line(2) + line(3)[:9], [1, 2]),
        (line(1) + line(2)[:-1], [1, 2]),  # whole but for the end of its line
        (line(1) + line(2) + "\0\0\0\0", [1, 2]),
        (line(1) + line(2) + '{"iter', [1, 2]),
        (line(1) + line(2) + "12", [1, 2]),
        (line(3), []),
    ],
)
def test_truncate_metrics(tmp_path: Path, text: str, kept: list[int]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    truncate_metrics(path, 2)
    assert path.read_text() == "".join(line(i) for i in kept)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_truncate_metrics_refuses_a_broken_middle(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = line(1) + "{broken\n" + line(2)
    path.write_text(text)
    assert f"{path}, line 2" in refused(lambda: truncate_metrics(path, 1))
    assert path.read_text() == text
    truncate_metrics(tmp_path / "missing.jsonl", 1)
    assert not (tmp_path / "missing.jsonl").exists()


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    write_atomically(path, "old")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(line(1) + line(2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = refused(lambda: write_atomically(path, "new"), EnvironmentFailure)
    assert str(path) in message
    assert "No space left" in message
    assert path.read_text() == "old"
    assert "No space left" in refused(lambda: truncate_metrics(metrics, 1), EnvironmentFailure)
    assert metrics.read_text() == line(1) + line(2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "metrics.jsonl"]


def test_missing_lines_are_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert missing_lines(path, 0) is None
    assert "no line of iterations 1 to 1000000000000000000;" in str(missing_lines(path, 10**18))
    lines = {at: json.dumps({"iteration": at}) + "\n" for at in range(1, 21)}
    path.write_text("".join(lines.values()))
    assert missing_lines(path, 20) is None
    del lines[3], lines[7], lines[8], lines[20]
    path.write_text("".join(lines.values()) + lines[5])
    assert missing_lines(path, 20) == (
        f"{path} has no line of iterations 3, 7 to 8, 20 and several lines of iteration 5; the "
        "checkpoint is of iteration 20."
    )
    path.write_text("".join(line for at, line in lines.items() if at % 2))
    assert "iterations 2 to 4, 6 to 8" in str(missing_lines(path, 20))
    assert "and 3 more" in str(missing_lines(path, 20))


BROKEN = {
    "deep": "[" * 100_000 + "\n",
    "list": "[1]\n",
    "text": "x\n",
    "huge": f'{{"iteration": {"9" * 5000}}}\n',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_lines_that_are_no_records_are_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n' + BROKEN[kind] + '{"iteration": 3}\n')
    with pytest.raises(ValueError, match=r"^line 2 is no JSON object$"):
        read_json_lines(path)
    assert "line 2 is no JSON object" in refused(lambda: truncate_metrics(path, 3))


def test_metrics_without_end_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/null")  # /dev/zero has no end
    with pytest.raises(EnvironmentFailure, match="it is no regular file"):
        truncate_metrics(path, 1)
    with pytest.raises(OSError, match="it is no regular file"):
        read_json(path)
