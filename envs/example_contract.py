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
from metarl.envs.tasks import TaskDistribution, Tasks


def check_supervised(supervised: SupervisedTasks) -> None:
    """Refuse few-shot tasks before anything is trained on them.

    Raises:
        BrokenContract: an attribute is missing or wrong, or the distribution is; one sentence.
    """
    own = type(supervised)
    where = f"{own.__name__}{written_at(own)}"
    wanted: tuple[tuple[str, Any, str], ...] = (
        ("input_space", spaces.Box, "a Box"),
        ("target_space", spaces.Discrete | spaces.Box, "Discrete or a Box"),
        ("shots", int, "a whole number"),
        ("task_distribution", TaskDistribution, "a TaskDistribution"),
    )
    for name, kind, must in wanted:
        value = getattr(supervised, name, None)
        if not isinstance(value, kind):
            raise BrokenContract(f"{where} has {value_in_words(value)} as {name}: give it {must}.")
    measure = "accuracy" if isinstance(supervised.target_space, spaces.Discrete) else "error"
    if getattr(supervised, "measure", None) != measure:
        kind = type(supervised.target_space).__name__
        raise BrokenContract(f"{where} has a target_space {kind}: its measure is {measure!r}.")
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
        support, query = (Examples(*part) for part in drawn)
    except (TypeError, ValueError):
        raise SimulationFailure(
            f"{where} returned {value_in_words(drawn)}: it must return two Examples, the support "
            "and the query set."
        ) from None
    parts: list[Any] = []
    for which, number, part in (("support", supervised.shots, support), ("query", queries, query)):
        for what in ("inputs", "targets"):
            value, space = getattr(part, what), getattr(supervised, f"{what[:-1]}_space")
            shape = (len(tasks), supervised.ways * number, *space.shape)
            check_rows(supervised, "draw", f"{what} of the {which} set", value, shape)
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
