"""What a task distribution must say and return, and what is said of one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.faults import (
    BrokenContract,
    defined,
    in_words,
    numbers,
    value_in_words,
    written_at,
)

if TYPE_CHECKING:
    from metarl.envs.tasks import TaskDistribution

    Tasks = NDArray[np.float64]

_MINIMUM = 2
"""Tasks of an evaluation, whose intervals are taken over tasks. A finite distribution may be of one
task on purpose; its results are then without intervals."""


def check_distribution(distribution: TaskDistribution) -> None:
    """Refuse a distribution before anything is trained on it.

    Raises:
        BrokenContract: its names or units, its fixed sets or what it draws are not what they must
            be; one sentence that names the method, its file and its line.
    """
    _check_names(distribution)
    drawn(distribution, np.random.default_rng(0), 2)
    validation, held_out = (_fixed(distribution, name) for name in ("validation", "held_out"))
    if distribution.finite:
        return
    shared = (validation[:, None] == held_out).all(axis=2)
    if shared.any():
        row, other = np.argwhere(shared)[0]
        raise BrokenContract(
            f"{defined(distribution, 'held_out')} returned {held_out[other].tolist()}, which is a "
            f"validation task, too (row {row}): the sets must be disjoint, unless finite = True."
        )


def drawn(distribution: TaskDistribution, rng: np.random.Generator, n: int) -> Tasks:
    """n training tasks, [n, d]."""
    tasks = _rows(distribution, "sample", lambda: distribution.sample(rng, n))
    if len(tasks) != n:
        raise BrokenContract(
            f"{defined(distribution, 'sample')} returned {_count(len(tasks))} of {n} that were "
            "asked for."
        )
    return tasks


def fixed_set(distribution: TaskDistribution, name: str) -> Tasks:
    """The evaluation set of that name, [n, d]."""
    tasks = _rows(distribution, name, getattr(distribution, name))
    where = f"{defined(distribution, name)} returned"
    if len(tasks) < (1 if distribution.finite else _MINIMUM):
        raise BrokenContract(
            f"{where} {_count(len(tasks))}: an evaluation needs at least {_MINIMUM}, since its "
            "intervals are taken over tasks."
        )
    _, first, counts = np.unique(tasks, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        twice = tasks[first[counts > 1].min()]
        raise BrokenContract(f"{where} the task {twice.tolist()} more than once.")
    return tasks


def _fixed(distribution: TaskDistribution, name: str) -> Tasks:
    """An evaluation set, which must be the same whenever it is asked for."""
    tasks, again = fixed_set(distribution, name), fixed_set(distribution, name)
    if not np.array_equal(tasks, again):
        raise BrokenContract(
            f"{defined(distribution, name)} returned other tasks when it was called again: the set "
            "must be fixed, or results measured on it cannot be compared."
        )
    return tasks


def _rows(distribution: TaskDistribution, method: str, call: Callable[[], Any]) -> Tasks:
    """What a method returned, as rows of finite numbers."""
    where = defined(distribution, method)
    try:
        value = call()
    except (Exception, SystemExit) as error:
        if method == "out_of_range" and isinstance(error, ValueError):
            raise  # there is none
        raise BrokenContract(f"{where} failed: {in_words(error)}.") from error
    tasks = numbers(value)
    columns = ", ".join(distribution.columns)
    if tasks is None or tasks.shape[1:] != (distribution.dim,):
        given = value if tasks is None else tasks
        raise BrokenContract(
            f"{where} returned {value_in_words(given)}: it must be an array of numbers of shape "
            f"[n, {distribution.dim}], a row of ({columns}) a task."
        )
    broken = np.flatnonzero(~np.isfinite(tasks).all(axis=1))
    if len(broken):
        raise BrokenContract(
            f"{where} returned the task {tasks[broken[0]].tolist()} in row {broken[0]}: its "
            f"entries ({columns}) must be finite."
        )
    return tasks.astype(np.float64)


def _check_names(distribution: TaskDistribution) -> None:
    """Of the entries of a task, and their units."""

    def where() -> str:  # reads the source
        own = type(distribution)
        return f"{own.__name__}{written_at(own)}"

    for name, example in (("columns", '("mass", "length")'), ("units", '("kg", "m")')):
        value = getattr(distribution, name, None)
        if not (isinstance(value, tuple | list) and all(isinstance(word, str) for word in value)):
            said = "no" if value is None else f"{value_in_words(value)} as"
            raise BrokenContract(
                f"{where()} has {said} {name}: give it a tuple, one text for each number of a "
                f"task, such as {name} = {example}."
            )
    columns, units = tuple(distribution.columns), tuple(distribution.units)
    if not columns or len(set(columns)) < len(columns):
        raise BrokenContract(
            f"{where()} has the columns {columns}: each number of a task needs a name of its own."
        )
    if len(units) != len(columns):
        raise BrokenContract(f"{where()} has {len(columns)} columns and {len(units)} units.")


def _count(n: int) -> str:
    return {0: "no task", 1: "one task"}.get(n, f"{n} tasks")
