"""Runs on a Ray cluster: the numbers of one machine, whatever happens to its workers and nodes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import evaluate
import train
from benchmarks import ray_rollout
from metarl.cli.main import main
from tests.programs import Whole, assert_same_state, lines, start, write_config

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed")

RL2 = {"name": "rl2", "tasks": 5, "lanes": 3, "episodes": 2, "width": 8}
MAML = {"name": "maml", "tasks": 5, "episodes": 3, "hidden_sizes": [8]}
PEARL = {
    **{"name": "pearl", "training_tasks": 6, "tasks": 3, "initial_episodes": 2, "updates": 3},
    **{"batch_tasks": 4, "transitions": 8, "context": 8, "hidden_sizes": [8]},
}
REACH = {"name": "tests.envs.user_envs:Reach"}
NAVIGATION = {"name": "point_navigation", "horizon": 10}


class Nodes:
    """A cluster of several raylets on this machine, each with one core."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.others = [self.cluster.add_node(num_cpus=1) for _ in range(count - 1)]

    def words(self, workers: int) -> list[str]:
        backend = {
            "address": self.cluster.address,
            "workers": workers,
            "timeout": 300,
            "retries": 9,
        }
        given = [word for n, x in backend.items() for word in (f"--rollout.backend.{n}", str(x))]
        return ["--rollout.backend", "ray", *given]

    def workers(self) -> list[int]:
        """The processes of the run's workers, children of this cluster's raylets alone."""
        raylets = {
            node.all_processes["raylet"][0].process.pid for node in self.cluster.list_all_nodes()
        }
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent in raylets and name.startswith(b"ray::RayWorker"):
                found.append(int(folder.name))
        return found

    def replace_a_node(self) -> None:
        """Let one die, with its worker, and another come."""
        self.cluster.remove_node(self.others.pop(0), allow_graceful=False)
        self.others.append(self.cluster.add_node(num_cpus=1))


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A node that is added takes SIGTERM for itself, which no thread may.
    monkeypatch.setattr(ray._private.utils, "set_sigterm_handler", lambda handler: None)
    made = Nodes(4)
    yield made
    ray.shutdown()
    made.cluster.shutdown()


def run(folder: Path, config: Path, *words: str) -> Path:
    assert train.main(["--config", str(config), "--run-dir", str(folder), *words]) == 0
    return folder


@pytest.mark.parametrize(
    ("algorithm", "env"),
    [(MAML, NAVIGATION), (RL2, NAVIGATION), (PEARL, NAVIGATION), (MAML, REACH)],
    ids=["maml", "rl2", "pearl", "maml on worker processes"],
)
def test_numbers_are_those_of_one_machine(
    nodes: Nodes, tmp_path: Path, algorithm: dict[str, Any], env: dict[str, Any]
) -> None:
    changes: dict[str, Any] = {"algorithm": Whole(algorithm), "env": Whole(env)}
    config = write_config(tmp_path, iterations=3, rollout={"shard_tasks": 2}, **changes)
    local = run(tmp_path / "local", config)
    for workers in (1, 2, 4):
        there = run(tmp_path / f"ray_{workers}", config, *nodes.words(workers))
        assert_same_state(local, there)


def test_kills_of_workers_and_nodes_leave_no_trace(nodes: Nodes, tmp_path: Path) -> None:
    """Twenty of workers and three of a node, in the middle of iterations."""
    iterations = 50
    algorithm = Whole(MAML) | {"tasks": 6, "episodes": 4, "hidden_sizes": [32]}
    config = write_config(
        tmp_path,
        iterations=iterations,
        rollout={"shard_tasks": 1},
        env={"horizon": 50},
        algorithm=algorithm,
    )
    local, killed = run(tmp_path / "local", config), tmp_path / "killed"
    rng, kills = random.Random(20), {"worker": 0, "node": 0}
    ended = threading.Event()

    def kill() -> None:
        metrics = killed / "metrics.jsonl"
        for number in range(23):
            while not ended.is_set() and not (
                metrics.exists() and metrics.read_bytes().count(b"\n") > 2 * number
            ):
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.2))
            if number in (5, 11, 17):
                nodes.replace_a_node()
                kills["node"] += 1
                continue
            while not ended.is_set():
                if there := nodes.workers():
                    os.kill(rng.choice(there), signal.SIGKILL)
                    kills["worker"] += 1
                    break
                time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run(killed, config, *nodes.words(3))
    finally:
        ended.set()
        killer.join()
    assert kills == {"worker": 20, "node": 3}
    assert_same_state(local, killed)


def test_evaluations_and_references_are_those_of_one_machine(nodes: Nodes, tmp_path: Path) -> None:
    """Whatever is killed meanwhile: three workers of the evaluation, a second after they came."""
    evaluation = {"at_end": False, "seeds": 4, "episodes": 6, "adaptation_steps": 2}
    changes: dict[str, Any] = {"env": {"horizon": 100}, "evaluation": evaluation}
    config = write_config(tmp_path, iterations=2, **changes)
    trained, words = run(tmp_path / "run", config), nodes.words(3)
    killed: set[int] = set()
    ended = threading.Event()

    def kill() -> None:
        while not ended.is_set():
            for process in set(nodes.workers()) - killed if len(killed) < 3 else ():
                time.sleep(1.0)
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            time.sleep(0.01)

    assert evaluate.main(["--run", str(trained), "--output", str(tmp_path / "here")]) == 0
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        there = ["--run", str(trained), "--output", str(tmp_path / "there")]
        assert evaluate.main([*there, *words]) == 0
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 3
    found, expected = (tmp_path / n / "evaluation.json" for n in ("there", "here"))
    assert found.read_bytes() == expected.read_bytes()

    kinds = ["--kind", "oracle,multitask,from_scratch,fine_tuned", "--env-steps", "2000"]
    for name, others in (("here", []), ("there", [*words, "--rollout.shard-tasks", "1"])):
        folder = ["--folder", str(tmp_path / name)]
        assert main(["references", str(config), *kinds, *folder, *others]) == 0
    weights = [sorted((tmp_path / n).rglob("weights.pt")) for n in ("here", "there")]
    assert len(weights[0]) == 2
    for one, other in zip(*weights, strict=True):
        assert one.read_bytes() == other.read_bytes()
    results = [sorted((tmp_path / n).rglob("*-seed_0.json")) for n in ("here", "there")]
    assert len(results[0]) == 2
    for one, other in zip(*results, strict=True):
        assert json.loads(one.read_text())["returns"] == json.loads(other.read_text())["returns"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_killed_goes_on(number: int, tmp_path: Path) -> None:
    """On Ray's own processes of this machine, which end with it."""
    config = write_config(tmp_path, iterations=30, rollout={"shard_tasks": 1})
    local, there = run(tmp_path / "local", config), tmp_path / "killed"
    words = ["train.py", "--config", str(config), "--run-dir", str(there), "--resume", "auto"]
    backend = ["--rollout.backend", "ray", "--rollout.backend.workers", "1"]
    program = start(*words, *backend, "--rollout.backend.timeout", "300", start_new_session=True)
    while not (there / "metrics.jsonl").exists() or len(lines(there)) < 5:
        assert program.poll() is None, program.communicate()
        time.sleep(0.01)
    os.killpg(program.pid, number)  # as a terminal does
    output = program.communicate(timeout=120)[0]
    assert program.returncode == (-number if number == signal.SIGKILL else 130), output
    assert "Traceback" not in output
    assert len(lines(there)) < 30
    if number != signal.SIGKILL:
        assert "Stopped at iteration" in output
    run(there, config, "--resume", "auto")  # here, and without Ray
    assert_same_state(local, there)


def test_workers_that_ray_ends_for_want_of_memory_are_one_sentence(tmp_path: Path) -> None:
    """Ray's own monitor ends them: it is told that a hundredth of the memory is all there is."""
    config = write_config(tmp_path, iterations=5, rollout={"shard_tasks": 1})
    folder = str(tmp_path / "run")
    backend = {"workers": 1, "retries": 1, "timeout": 300}
    words = [word for n, x in backend.items() for word in (f"--rollout.backend.{n}", str(x))]
    monitor = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "20"}
    program = start(
        *("train.py", "--config", str(config), "--run-dir", folder),
        *("--rollout.backend", "ray", *words),
        env=monitor,
    )
    output = program.communicate(timeout=300)[0]
    assert program.returncode == 1, output
    assert "Traceback" not in output
    said = r"error: A (shard of the rollout|Ray worker's start) ran out of memory on 2 Ray workers"
    assert re.search(said, output), output


def test_the_benchmark_plays_the_same_here_and_there(tmp_path: Path) -> None:
    threads, path = torch.get_num_threads(), tmp_path / "measured.json"
    sizes = {"tasks": 4, "episodes": 2, "horizon": 6, "shard": 2, "workers": 1, "growth": 4}
    words = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    try:
        assert (
            ray_rollout.run([*words, "--repeats", "1", "--threads", "1", "--json", str(path)]) == 0
        )
    finally:
        torch.set_num_threads(threads)
    summary = json.loads(path.read_text())["summary"]
    assert summary["same"] is True
    assert 0.9 < summary["bytes_from_workers_over_data"] < 1.5  # tiny shards: names weigh more
    assert summary["growth_bytes_per_iteration"].keys() == {"driver", "workers", "object_store"}
