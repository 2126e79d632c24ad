"""The global generators of a worker process: a lane at work draws from its own.

An environment may draw from `random`, `numpy.random` or torch, whose generators the whole process
shares. What a lane drew would then depend on which lanes are its neighbours, hence on the number of
workers, and a resumed run would draw anew. So every lane has streams of its own, seeded with it.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_at_work: list[random.Random] = [random.Random()]
"""The one that Python's functions draw from."""


class GlobalStreams:
    """One lane's stand-ins for the global generators, the same for every lane until seeded."""

    def __init__(self) -> None:
        self._python, self._numpy = random.Random(), np.random.MT19937()
        self._torch: Any = None  # a seed, then a state
        with self.at_work(0):
            pass

    @contextlib.contextmanager
    def at_work(self, seed: int | None = None) -> Iterator[None]:
        """Stand in while the lane is at work, seeded first unless its streams go on."""
        _at_work[0] = self._python
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
        if seed is not None:
            words = np.random.SeedSequence(seed).generate_state(3).tolist()
            self._python.seed(words[0])
            np.random.seed(words[1])  # noqa: NPY002
            self._torch = words[2]
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(self._torch, int):
            torch.default_generator.manual_seed(self._torch)
        elif torch is not None:
            torch.default_generator.set_state(self._torch)
        try:
            yield
        finally:
            if torch is not None:
                self._torch = torch.default_generator.get_state()


def redirect_random() -> None:
    """Have the functions of Python's module `random` draw from the lane at work."""
    for name in random.__all__:
        method = getattr(random, name)
        if getattr(method, "__self__", None) is random._inst:
            setattr(random, name, _redirected(name, method))


def _redirected(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(_at_work[0], name)(*args, **kwargs)

    return function
