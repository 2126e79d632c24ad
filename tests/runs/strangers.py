"""Run folders as a stranger may send them, and the trap that tells whether they were executed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from metarl.storage.tensors import write_plain

TRAP = """
from pathlib import Path
from metarl.algorithms.maml import MAML as Algorithm
from metarl.envs.navigation import PointNavigation as Env
from metarl.envs.tasks import UniformInterval

class Tasks(UniformInterval):
    pass

Path({marker!r}).touch()
"""
State = dict[str, Any]
StateChange = Callable[[State], Any]


def stranger(honest: Path, folder: Path, **changes: Any) -> Path:
    """The honest run with a config that a stranger changed; sections are merged."""
    shutil.copytree(honest, folder)
    rewrite_config(folder, **changes)
    return folder


def rewrite_config(run: Path, **changes: Any) -> None:
    """Change a run's config; sections are merged."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for name, value in changes.items():
        merged = isinstance(value, dict) and isinstance(config.get(name), dict)
        config[name] = config[name] | value if merged else value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def reseal(run: Path, change: StateChange) -> None:
    """Change the state of the last checkpoint as one who knows its hashes."""
    path = run / "checkpoints/1"
    state = torch.load(path / "state.pt", weights_only=True)
    changed = change(state)
    data = write_plain(state if changed is None else changed)
    (path / "state.pt").write_bytes(data)
    rewrite_manifest(run, sha256=hashlib.sha256(data).hexdigest())


def rewrite_manifest(run: Path, **changes: Any) -> None:
    """Change the manifest of the last checkpoint, which then has no hash of its own."""
    path = run / "checkpoints/1/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    path.write_text(json.dumps(manifest | changes))


def _parameters(make: Callable[[torch.Tensor], Any]) -> StateChange:
    def change(state: State) -> None:
        params = state["algorithm"]["params"]
        params |= {name: make(value) for name, value in params.items()}

    return change


def _without(name: str) -> StateChange:
    return lambda state: {key: value for key, value in state.items() if key != name}


STATES: dict[str, tuple[StateChange, str]] = {
    "no algorithm": (_without("algorithm"), "'algorithm'"),
    "an algorithm of text": (lambda s: s | {"algorithm": "x"}, "state is str"),
    "no time": (_without("wall_time_s"), "'wall_time_s' is missing"),
    "a time of text": (lambda s: s | {"wall_time_s": "1"}, "wall_time_s is str"),
    "an endless time": (lambda s: s | {"wall_time_s": float("inf")}, "no finite number"),
    "nothing": (lambda s: {}, "is missing"),
    "no parameters": (lambda s: s | {"algorithm": {}}, "'params' is missing"),
    "a list of parameters": (lambda s: s["algorithm"].update(params=[1]), "params is a list of 1"),
    "parameters of text": (_parameters(lambda x: "x"), "is str, where float32"),
    "whole parameters": (_parameters(torch.Tensor.int), "is int32"),
    "complex parameters": (_parameters(lambda x: x + 1j), "is complex64"),
    "long parameters": (_parameters(torch.Tensor.double), "is float64"),
    "wide parameters": (_parameters(lambda x: x.repeat(2, *[1] * (x.ndim - 1))), "float32 ["),
    "sparse parameters": (_parameters(torch.Tensor.to_sparse), "is sparse float32 ["),
    "more parameters": (lambda s: s["algorithm"]["params"].update(x=1), "params has"),
}
"""What the state of a checkpoint may be, re-sealed: its change, and words of the sentence."""
