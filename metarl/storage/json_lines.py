"""Records as lines of JSON: `metrics.jsonl` and `validation.jsonl` of a run folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.storage.files import read_regular, writing


def plain(value: Any) -> Any:
    """Turn a value into what strict JSON can hold.

    Scalars and arrays of numpy and torch become numbers and lists, and numbers that are not finite
    become None: JSON has no NaN, and one would make the whole line unreadable for other programs.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text; ValueError also where it is nested too deeply for Python."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: It cannot be read, or is no regular file.
        ValueError: It is no JSON.
    """
    return parse_json(read_regular(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of such a file; a last one that is half-written is left out.

    Raises:
        OSError: It cannot be read, or is no regular file.
        ValueError: A line is no JSON object.
    """
    records = []
    for number, line in enumerate(read_regular(path).splitlines(keepends=True), start=1):
        if line.endswith(b"\n") and line.strip():
            try:
                record = parse_json(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise ValueError(f"line {number} is no JSON object")
            records.append(record)
    return records


def last_json_lines(path: Path, size: int = 1 << 16) -> list[dict[str, Any]]:
    """The whole lines in the last ``size`` bytes of such a file that is being written to.

    One that is no JSON object is left out, and of a file that cannot be read there are none.
    """
    try:
        with open(path, "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(start)
            lines = file.read(size).splitlines(keepends=True)
    except OSError:
        return []
    records = []
    for line in lines[1:] if start else lines:
        with contextlib.suppress(ValueError):
            record = parse_json(line) if line.endswith(b"\n") else None
            if isinstance(record, dict):
                records.append(record)
    return records


class JsonLines:
    """A file to which each `write` adds one line, handed to the system before it returns.

    The file is opened at the first write, so a run that never validates leaves no empty file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record`.

        Raises:
            EnvironmentFailure: The line cannot be written whole. The file may then end in half a
                line, which a resume cuts away.
        """
        line = (json.dumps(plain(record), allow_nan=False) + "\n").encode()
        with writing(self.path):
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(self.path, flags, 0o644)
            while line:
                # A disk that is nearly full takes a part first, and fails at the rest.
                line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
