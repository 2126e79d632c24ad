"""The algorithms, one file each, found by name or by import path.

An algorithm is a :class:`metarl.types.Algorithm` class with a ``config_class``, a frozen
pydantic model of its settings. It is built as ``Algorithm(config, observation_space, action_space,
seed, device)``.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """Where an algorithm and its settings are, as import paths "package.module:Class"."""

    algorithm: str
    settings: str


def _entry(module: str, cls: str, settings: str) -> Entry:
    rooms = "metarl.algorithms"
    return Entry(f"{rooms}.{module}:{cls}", f"{rooms}.settings.{settings}:{cls}Settings")


ALGORITHMS: dict[str, Entry] = {
    "anil": _entry("anil", "ANIL", "gradient"),
    "e_maml": _entry("e_maml", "EMAML", "gradient"),
    "fomaml": _entry("maml", "FOMAML", "gradient"),
    "maml": _entry("maml", "MAML", "gradient"),
    "meta_sgd": _entry("meta_sgd", "MetaSGD", "gradient"),
    "promp": _entry("promp", "ProMP", "gradient"),
    "reptile": _entry("reptile", "Reptile", "gradient"),
    "rl2": _entry("rl2", "RL2", "rl2"),
}


def algorithm_class(name: str) -> Any:
    """The class behind a short name or an import path "package.module:Class".

    Raises:
        ValueError: there is none, or it is no algorithm.
    """
    from metarl.envs.registry import import_class  # here, since it loads the environments

    path = ALGORITHMS[name].algorithm if name in ALGORITHMS else name
    cls = import_class("algorithm", path, ALGORITHMS)
    missing = [a for a in ("config_class", "collect", "update", "agent") if not hasattr(cls, a)]
    if missing:
        raise ValueError(f"The algorithm {name!r} lacks {', '.join(missing)}.")
    return cls


def settings_class(name: str) -> Any:
    """The settings of an algorithm; those of a short name are found without loading torch.

    Raises:
        ValueError: as :func:`algorithm_class`.
    """
    if name not in ALGORITHMS:
        return algorithm_class(name).config_class
    module, _, cls = ALGORITHMS[name].settings.partition(":")
    return getattr(importlib.import_module(module), cls)
