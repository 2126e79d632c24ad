"""What the tasks of few-shot learning must say and draw, and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs.faults import (
    BrokenContract,
    SimulationFailure,
    check_rows,
    defined,
    users_code,
    value_in_words,
    written_at,
)
from metarl.envs.supervised import Examples, SupervisedTasks
from metarl.envs.task_contract import check_distribution
from metarl.envs.tasks import Tasks


def check_supervised(supervised: SupervisedTasks) -> None:
    """Refuse few-shot tasks before anything is trained on them.

    Raises:
        BrokenContract: an attribute is missing or wrong, or the distribution is; one sentence.
    """
    own = type(supervised)
    where = f"{own.__name__}{written_at(own)}"
    wanted: dict[str, tuple[Any, str]] = {
        "input_space": (spaces.Box, "a Box"),
        "target_space": (spaces.Discrete | spaces.Box, "Discrete or a Box"),
        "shots": (int, "a whole number"),
    }
    for name, (kind, must) in wanted.items():
        value = getattr(supervised, name, None)
        if not isinstance(value, kind):
            raise BrokenContract(f"{where} has {value_in_words(value)} as {name}: give it {must}.")
    measure = "accuracy" if isinstance(supervised.target_space, spaces.Discrete) else "error"
    if getattr(supervised, "measure", None) != measure:
        raise BrokenContract(
            f"{where} must have {measure!r} as measure, since its target_space is "
            f"{type(supervised.target_space).__name__}."
        )
    if getattr(supervised, "task_distribution", None) is None:
        raise BrokenContract(f"{where} has no task_distribution.")
    check_distribution(supervised.task_distribution)


def drawn_examples(
    supervised: SupervisedTasks, tasks: Tasks, rngs: Sequence[np.random.Generator], queries: int
) -> tuple[Examples, Examples]:
    """Support and query set of every task by `draw`, whatever a user's class returns.

    Raises:
        SimulationFailure: it failed, or returned something else.
    """
    with users_code():
        drawn = supervised.draw(tasks, rngs, queries)
    where = defined(supervised, "draw")
    try:
        (inputs, targets), (query_inputs, query_targets) = drawn
    except (TypeError, ValueError):
        raise SimulationFailure(
            f"{where} returned {value_in_words(drawn)}: it must return two Examples, the support "
            "and the query set."
        ) from None
    parts: list[Any] = []
    for which, number, pair in (
        ("support", supervised.shots, (inputs, targets)),
        ("query", queries, (query_inputs, query_targets)),
    ):
        rows = (len(tasks), supervised.ways * number)
        spaces_of_it = (supervised.input_space, supervised.target_space)
        for what, value, space in zip(("inputs", "targets"), pair, spaces_of_it, strict=True):
            assert space.shape is not None
            check_rows(supervised, "draw", f"{what} of the {which} set", value, rows + space.shape)
            parts.append(_of_space(np.asarray(value), space, f"{where} returned {what}"))
    return Examples(*parts[:2]), Examples(*parts[2:])


def _of_space(values: NDArray[Any], space: spaces.Space[Any], where: str) -> NDArray[Any]:
    """Finite float32, or int64 below the number of classes."""
    if isinstance(space, spaces.Discrete):
        if values.dtype.kind not in "iu" or ((values < 0) | (values >= space.n)).any():
            raise SimulationFailure(f"{where} that are not whole numbers from 0 to {space.n - 1}.")
        return values.astype(np.int64, copy=False)
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise SimulationFailure(f"{where} that are not all finite numbers.")
    return values.astype(np.float32, copy=False)
