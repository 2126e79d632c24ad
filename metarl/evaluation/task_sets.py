"""A user's own list of tasks: a CSV or JSON file with the names of the task vector's columns."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.errors import UserError

if TYPE_CHECKING:
    from metarl.envs.tasks import TaskDistribution

LEAST, MOST = 2, 10_000
"""An interval over tasks needs two; more than so many are a mistake."""


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
            there are fewer than two tasks, or the environment refuses one.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".json"):
        raise UserError(f"--tasks {path}: the file's name must end in .csv or .json.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before the text
    except UnicodeDecodeError:
        raise UserError(f"--tasks {path} is not a text file in UTF-8.") from None
    except OSError as error:
        raise UserError(f"--tasks {path} cannot be read: {error.strerror}.") from error
    wanted = list(distribution.columns)
    columns, rows = _csv_rows(text, path) if kind == ".csv" else _json_rows(text, path, wanted)
    if sorted(columns) != sorted(wanted):
        raise UserError(
            f"--tasks {path} has the columns {', '.join(map(str, columns)) or '(none)'}; the tasks "
            f"of this environment have {', '.join(wanted)}."
        )
    order = [columns.index(name) for name in wanted]
    tasks = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise UserError(
                f"--tasks {path}: task {number} has {len(row)} entries; it must have "
                f"{len(columns)} ({', '.join(columns)})."
            )
        tasks.append([_finite(row[i], path, number, columns[i]) for i in order])
    if not LEAST <= len(tasks) <= MOST:
        raise UserError(
            f"--tasks {path} has {len(tasks)} tasks; an evaluation needs at least {LEAST} and "
            f"takes at most {MOST:,}."
        )
    try:
        return distribution.check(np.array(tasks))
    except ValueError as error:
        raise UserError(f"--tasks {path}: {error}") from error


def split_of(path: Path) -> str:
    """What results call the tasks of a file."""
    return f"tasks of {path.name}"


def folder_of(path: Path) -> str:
    """The folder of an evaluation on the tasks of a file."""
    return "tasks_" + re.sub(r"[^\w.-]", "_", path.stem)


def _csv_rows(text: str, path: Path) -> tuple[list[str], list[list[Any]]]:
    try:
        lines = [line for line in csv.reader(text.splitlines(), strict=True) if line]
    except csv.Error as error:
        raise UserError(f"--tasks {path} is no CSV file: {error}.") from None
    if not lines:
        raise UserError(f"--tasks {path} is empty; its first line must name the columns.")
    return [name.strip() for name in lines[0]], [list(line) for line in lines[1:]]


def _json_rows(text: str, path: Path, wanted: list[str]) -> tuple[list[str], list[list[Any]]]:
    form = f'a list of objects such as {{"{wanted[0]}": 0.5}}, or have "task_columns" and "tasks"'
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--tasks {path} is not JSON: {error}.") from None
    if isinstance(data, dict):
        columns, rows = data.get("task_columns"), data.get("tasks")
        if not (isinstance(columns, list) and isinstance(rows, list)):
            columns, rows = [None], []
        if not (_are(columns, str) and _are(rows, list)):
            raise UserError(f"--tasks {path} must hold {form}.")
        return columns, rows
    if not _are(data, dict):
        raise UserError(f"--tasks {path} must hold {form}.")
    columns = list(data[0]) if data else wanted
    for number, task in enumerate(data, 1):
        if set(task) != set(columns):
            raise UserError(
                f"--tasks {path}: task {number} names {', '.join(task) or 'nothing'}; "
                f"task 1 names {', '.join(columns)}."
            )
    return columns, [[task[name] for name in columns] for task in data]


def _are(items: Any, kind: type) -> bool:
    return isinstance(items, list) and all(isinstance(item, kind) for item in items)


def _finite(cell: Any, path: Path, number: int, column: str) -> float:
    try:
        value = math.nan if isinstance(cell, bool | list | dict) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"--tasks {path}: {column} of task {number} is {cell!r}; it must be a finite number."
        )
    return value
