"""The end of a file of records that another process writes to."""

from __future__ import annotations

from pathlib import Path

from metarl.storage.json_lines import last_json_lines


def test_only_whole_lines_at_the_end_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"iteration": {i}}}\n' for i in range(100)) + '{"iteration": 10')
    last = [row["iteration"] for row in last_json_lines(path, size=100)]
    assert last == [96, 97, 98, 99]
    assert len(last_json_lines(path)) == 100


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'\xff\n[1]\n{"a": 1}\n{"b"\n')
    assert last_json_lines(path) == [{"a": 1}]
    assert last_json_lines(tmp_path / "missing") == []
