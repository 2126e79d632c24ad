"""Tasks that are chosen: a user's own list in a file, and a few that lie far apart to be shown.

A list is a CSV or JSON file with the names of the task vector's columns.
"""

from __future__ import annotations

import contextlib
import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.errors import UserError
from metarl.storage.json_lines import parse_json

if TYPE_CHECKING:
    from metarl.envs.tasks import TaskDistribution

MOST = 10_000
"""More tasks than so many are a mistake."""


def read_tasks(path: Path, distribution: TaskDistribution) -> np.ndarray:
    """The tasks in a file, float64 [n, d], in its order.

    CSV: a line with the names of the columns, in any order, then a line a task. JSON: a list of
    objects {column: number}, or an object with "task_columns" and "tasks", such as any
    `evaluation.json`.

    Args:
        path: Ends in .csv or .json.
        distribution: Whose tasks they must be.

    Raises:
        UserError: The file cannot be read, its columns are others, a cell is no finite number,
            there are no tasks or too many, or the environment refuses one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before the text
        return distribution.check(_read(text, path.suffix.lower(), list(distribution.columns)))
    except OSError as error:
        raise UserError(f"--tasks {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UserError(f"--tasks {path} is not a text file in UTF-8.") from None
    except ValueError as error:
        raise UserError(f"--tasks {path}: {error}") from error


def _read(text: str, kind: str, wanted: list[str]) -> np.ndarray:
    """The tasks [n, d] in a text, columns as wanted; ValueError says what is wrong with it."""
    if kind not in (".csv", ".json"):
        raise ValueError("the file's name must end in .csv or .json.")
    columns, rows = _csv_rows(text) if kind == ".csv" else _json_rows(text, wanted)
    if sorted(columns) != sorted(wanted):
        raise ValueError(
            f"it has the columns {', '.join(columns) or '(none)'}; the tasks of this environment "
            f"have {', '.join(wanted)}."
        )
    if not 1 <= len(rows) <= MOST:
        raise ValueError(
            f"it has {len(rows)} tasks; an evaluation takes at least 1 and at most {MOST:,}."
        )
    tasks = np.full((len(rows), len(wanted)), np.nan)
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise ValueError(
                f"task {number} has {len(row)} entries; it must have {len(columns)} "
                f"({', '.join(columns)})."
            )
        for column, cell in zip(columns, row, strict=True):
            place = number - 1, wanted.index(column)
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                tasks[place] = math.nan if isinstance(cell, bool) else float(cell)
            if not np.isfinite(tasks[place]):
                raise ValueError(
                    f"{column} of task {number} is {cell!r}; it must be a finite number."
                )
    return tasks


def _csv_rows(text: str) -> tuple[list[str], list[list[Any]]]:
    try:
        lines = [line for line in csv.reader(text.splitlines(), strict=True) if line]
    except csv.Error as error:
        raise ValueError(f"it is no CSV file: {error}.") from None
    if not lines:
        raise ValueError("it is empty; its first line must name the columns.")
    return [name.strip() for name in lines[0]], [list(line) for line in lines[1:]]


def _json_rows(text: str, wanted: list[str]) -> tuple[list[str], list[list[Any]]]:
    try:
        data = parse_json(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}.") from None
    if isinstance(data, dict):
        found: tuple[Any, Any] = data.get("task_columns"), data.get("tasks")
        if _are(found[0], str) and _are(found[1], list):
            return found
    if not _are(data, dict):
        raise ValueError(
            f'it must hold a list of objects such as {{"{wanted[0]}": 0.5}}, or have '
            '"task_columns" and "tasks".'
        )
    columns = list(data[0]) if data else wanted
    for number, task in enumerate(data, 1):
        if set(task) != set(columns):
            raise ValueError(
                f"task {number} names {', '.join(task) or 'nothing'}; task 1 names "
                f"{', '.join(columns)}."
            )
    return columns, [[task[name] for name in columns] for task in data]


def _are(items: Any, kind: type) -> bool:
    return isinstance(items, list) and all(isinstance(item, kind) for item in items)


def spread_tasks(tasks: np.ndarray, count: int) -> np.ndarray:
    """Indices of a few tasks [n, d] that lie far apart; chosen by the tasks alone, not by returns.

    Starts with the task farthest from the middle, then takes the farthest from those taken.
    """
    distance = np.linalg.norm(tasks - tasks.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < min(count, len(tasks)):
        chosen.append(int(distance.argmax()))
        to_last = np.linalg.norm(tasks - tasks[chosen[-1]], axis=1)
        distance = to_last if len(chosen) == 1 else np.minimum(distance, to_last)
        distance[chosen] = -1.0
    return np.array(chosen)
