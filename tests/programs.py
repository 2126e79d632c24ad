"""What the tests of whole programs share: a tiny run, ways to start it, ways to compare runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from metarl.storage.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "400",
}
Nested = dict[str, Any]


class Whole(dict[str, Any]):
    """A section that stands in place of the tiny config's, and is not merged with it."""


def tiny(**changes: Nested | Any) -> Nested:
    """A config whose iterations take some ten milliseconds; sections are merged."""
    config: Nested = {
        "iterations": 6,
        "device": "cpu",
        "env": {"name": "point_navigation", "horizon": 10},
        "algorithm": {"name": "maml", "tasks": 2, "episodes": 3, "hidden_sizes": [8]},
        "rollout": {"physics_threads": 1, "workers": 1, "torch_threads": 1},
        "checkpoint": {"interval": 3, "keep": 3},
        "validation": {"enabled": False, "episodes": 2, "adaptation_steps": 1, "interval": 2},
        "evaluation": {"at_end": False, "episodes": 2, "adaptation_steps": 1},
        "tracking": {"wandb": "disabled"},
    }
    for name, value in changes.items():
        if isinstance(value, dict):
            value = dict(value) if isinstance(value, Whole) else config.get(name, {}) | value
        config[name] = value
    return config


def write_config(folder: Path, **changes: Nested | Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tiny(**changes)))
    return path


def start(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    """`python train.py ...` as a user types it."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env=ENVIRONMENT | options.pop("env", {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@dataclass
class Outcome:
    """How a program ended: its exit code (−n if signal n killed it), duration, output."""

    code: int
    seconds: float
    output: str


class Forks:
    """The client of `tests/fork_server.py`."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output.txt"
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, program: str, *argv: str | Path, **job: Any) -> Outcome:
        """Run a program to its end, or to that which the job has in store for it."""
        job |= {"program": program, "argv": list(map(str, argv)), "output": str(self._output)}
        reply = self._ask(job)
        return Outcome(reply["code"], reply["seconds"], self._output.read_text())

    def race(self, program: str, *argvs: Sequence[str | Path]) -> list[Outcome]:
        """Run a program several times at once, each with its own arguments."""
        outputs = [self._output.with_name(f"output_{i}.txt") for i in range(len(argvs))]
        job: Nested = {"program": program, "argvs": [list(map(str, argv)) for argv in argvs]}
        replies = self._ask(job | {"outputs": list(map(str, outputs))})
        return [
            Outcome(reply["code"], reply["seconds"], output.read_text())
            for reply, output in zip(replies, outputs, strict=True)
        ]

    def _ask(self, job: Nested) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(20)


def lines(run: Path, name: str = "metrics.jsonl") -> list[Nested]:
    """The lines of a run's metrics, without what depends on the clock."""
    rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
    return [
        {
            key: value
            for key, value in row.items()
            if key not in ("wall_time_s", "env_steps_per_s") and not key.startswith("time/")
        }
        for row in rows
    ]


def parameters(run: Path) -> dict[str, torch.Tensor]:
    """The meta-parameters of the latest checkpoint."""
    params: dict[str, torch.Tensor] = load_checkpoint(run).state["algorithm"]["params"]
    return params


def assert_same_run(a: Path, b: Path) -> None:
    """The same metrics, line by line, and the same parameters, to the bit."""
    assert lines(a) == lines(b)
    first, second = parameters(a), parameters(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def assert_same_state(a: Path, b: Path) -> None:
    """The same metrics, and all that the algorithm remembers the same, to the bit."""
    assert lines(a) == lines(b)
    first, second = (load_checkpoint(run).state["algorithm"] for run in (a, b))
    torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)


def files(run: Path, without: str = "evaluation") -> dict[str, bytes]:
    """Every file of a run folder, those under one folder apart."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] != without
    }
