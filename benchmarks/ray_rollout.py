"""What Ray costs: a meta-iteration on its workers against the same shards on as many threads.

    python -m benchmarks.ray_rollout [--shard 4] [--workers 2] [--growth 200] [--json FILE]

The two play the same episodes to the bit, in turns. Beside the time stand the bytes that come from
the workers and go to them, by the bytes of the data themselves; and, over so many iterations of a
small task, the growth of this process, of its workers, and of Ray's object store. The reset of all
lanes says what could be gained at most by resetting them during the update.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measurement import (
    Seconds,
    begin,
    count,
    interleave,
    parser,
    print_parts,
    summarize,
    write_json,
)
from benchmarks.memory import growth
from metarl.algorithms.maml import MAML
from metarl.config.fields import Config
from metarl.config.loading import load_config
from metarl.experience.ray_pool import RayPool
from metarl.experience.ray_rollout import RayRolloutWorker
from metarl.experience.rollout import RolloutWorker
from metarl.process import run_program
from metarl.random import Key
from metarl.runs.build import make_algorithm, make_worker
from metarl.types import Actor, Trial

PAGE = os.sysconf("SC_PAGE_SIZE")


class Counting(RayPool):
    """A pool that counts the bytes of what it puts and of what it is sent."""

    there = back = 0

    def put(self, value: Any) -> Any:
        """Counted as Ray keeps it."""
        reference = super().put(value)
        Counting.there += self._size(reference)
        return reference

    def _settle(self, worker: Any, reply: Any, results: dict[int, Any]) -> Exception | None:
        playing = worker.job is not None
        lost = super()._settle(worker, reply, results)
        if playing and lost is None:
            Counting.back += self._size(reply)
        return lost

    def _size(self, reference: Any) -> int:
        found = self._ray.experimental.get_object_locations([reference])[reference]
        return int(found["object_size"] or 0)

    def pids(self) -> list[int]:
        """Of the workers."""
        replies = [w.handle.__ray_call__.remote(lambda actor: os.getpid()) for w in self._workers]
        return list(map(int, self._ray.get(replies)))

    def store(self) -> float:
        """Bytes of the object store that are taken."""
        total = self._ray.cluster_resources()["object_store_memory"]
        return float(total - self._ray.available_resources()["object_store_memory"])


class CountingWorker(RayRolloutWorker):
    """One on such a pool, which counts the data too."""

    data = env_steps = 0

    def connect(self) -> RayPool:
        """As it does, with a pool that counts."""
        import metarl.experience.ray_rollout as module

        module.RayPool = Counting  # type: ignore[misc]
        return super().connect()

    def collect(
        self, actor: Actor, tasks: np.ndarray, lanes: int, key: Key, episodes: int = 1
    ) -> Trial:
        """Count the tensors of what is played."""
        trial = super().collect(actor, tasks, lanes, key, episodes)
        parts = [part for part in vars(trial).values() if isinstance(part, Tensor)]
        self.data += sum(part.nbytes for part in parts)
        self.env_steps += trial.env_steps
        return trial


class Iterations:
    """The same meta-iteration again and again, on a worker."""

    def __init__(self, config: Config) -> None:
        self.worker: Any = make_worker(config)
        if isinstance(self.worker, RayRolloutWorker):
            self.worker.__class__ = CountingWorker
        made: Any = make_algorithm(config, self.worker)
        self.algorithm: MAML = made
        self.algorithm.moments = self.algorithm.collect(self.worker, Key(0)).moments
        self._initial = self.algorithm.state_dict()

    def parts(self) -> Seconds:
        """Seconds of the rollout, and of the iteration."""
        self.algorithm.load_state_dict(self._initial)
        self.worker.seconds = 0.0
        start = time.perf_counter()
        self.algorithm.update(self.algorithm.collect(self.worker, Key(0)))
        return {"rollout": self.worker.seconds, "iteration": time.perf_counter() - start}


def _resident(pids: Sequence[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


def _growth(config: Config, iterations: int) -> dict[str, float]:
    """Bytes an iteration, over the second half: of this process, its workers, the object store."""
    small = Iterations(config)
    pool: Any = small.worker.connect()
    rows: list[tuple[float, ...]] = []
    for _ in range(iterations):
        small.parts()
        rows.append((_resident([os.getpid()]), _resident(pool.pids()), pool.store()))
    small.worker.close()
    columns = dict(zip(("driver", "workers", "object_store"), zip(*rows, strict=True), strict=True))
    return {name: growth(values) for name, values in columns.items()}


def same(one: MAML, other: MAML) -> bool:
    """Whether they have learned the same, to the bit."""
    return all(torch.equal(p, other.params[name]) for name, p in one.params.items())


def _reset_seconds(worker: RolloutWorker, lanes: int) -> float:
    """Of all lanes."""
    env, seeds = worker.env(lanes), Key(0).reset_seeds(1, lanes)
    env.reset(seed=seeds)
    start = time.perf_counter()
    env.reset(seed=seeds)
    return time.perf_counter() - start


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("ray_rollout", __doc__)
    for name, default in (("tasks", 40), ("episodes", 20), ("horizon", 200), ("shard", 4)):
        arguments.add_argument(f"--{name}", type=count, default=default)
    arguments.add_argument("--workers", type=count, default=2)
    arguments.add_argument("--growth", type=count, default=200, help="small iterations")
    options = begin(arguments, argv)

    def words(tasks: int, episodes: int, horizon: int, shard: int) -> list[str]:
        sizes = {"env.horizon": horizon, "algorithm.tasks": tasks, "algorithm.episodes": episodes}
        sizes |= {"rollout.shard_tasks": shard, "rollout.physics_threads": options.threads}
        sizes |= {"rollout.torch_threads": options.threads}
        return [word for name, size in sizes.items() for word in (f"--{name}", str(size))] + [
            "--env.name", "half_cheetah_vel", "--algorithm.outer.curvature_every", "5",
            "--device", "cpu",
        ]  # fmt: skip

    ray = ["--rollout.backend", "ray", "--rollout.backend.workers", str(options.workers)]
    ray += ["--rollout.backend.timeout", "300"]
    own = words(options.tasks, options.episodes, options.horizon, options.shard)
    local, there = (Iterations(load_config(None, [*own, *more])) for more in ([], ray))
    Counting.there = Counting.back = there.worker.data = there.worker.env_steps = 0
    rows = interleave(
        lambda: local.parts()["iteration"], {"ray_rollout": there.parts}, options.repeats
    )
    summary: dict[str, Any] = {**summarize(rows)}
    of_data = there.worker.data
    summary |= {
        "bytes_of_data_a_step": of_data / there.worker.env_steps,
        "bytes_from_workers_over_data": Counting.back / of_data,
        "bytes_to_workers_over_data": Counting.there / of_data,
        "reset_seconds": _reset_seconds(local.worker, options.tasks * options.episodes),
        "same": same(local.algorithm, there.algorithm),
    }
    for iterations in (local, there):
        iterations.worker.close()
    small = load_config(None, [*words(4, 2, 20, 2), *ray])
    summary["growth_bytes_per_iteration"] = _growth(small, options.growth)
    print_parts(summarize(rows), "local iteration")
    for name, value in summary.items():
        if name not in rows[0]["seconds"] and name != "reference":
            print(name, value)
    write_json("ray_rollout", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
