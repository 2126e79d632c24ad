"""Workers of a vector environment in the test's own process: no second is spent on starting any."""

from __future__ import annotations

import os
import pickle
from typing import Any

from metarl.envs.process_pool import Pool
from metarl.envs.process_worker import Start, _Slice
from metarl.envs.watch import Place


class LocalPool(Pool):
    def employ(self, count: int) -> None:
        self.workers += [LocalWorker() for _ in range(count - len(self.workers))]  # type: ignore[misc]


class LocalWorker:
    def __init__(self) -> None:
        self.slice = _Slice()
        self.place, self.pid = Place(), os.getpid()
        self.place.hand_over()

    def send(self, message: Any) -> None:
        if isinstance(message, Start):  # which ends the worker's process with its parent
            message = message._replace(parent=os.getppid())
        self.reply = pickle.loads(self.slice.answer(message))

    def receive(self) -> Any:
        return self.reply

    def hang_up(self) -> None: ...
    def close(self) -> None: ...
