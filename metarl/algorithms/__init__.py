"""The algorithms, one file each, found by name or by import path.

An algorithm is a :class:`metarl.types.Algorithm` class with a ``config_class``, a frozen
pydantic model of its settings. It is built as ``Algorithm(config, observation_space, action_space,
seed, device)``.
"""

from __future__ import annotations

from metarl.envs.registry import import_class

NAMES = {
    "anil": "metarl.algorithms.anil:ANIL",
    "e_maml": "metarl.algorithms.e_maml:EMAML",
    "fomaml": "metarl.algorithms.maml:FOMAML",
    "maml": "metarl.algorithms.maml:MAML",
    "meta_sgd": "metarl.algorithms.meta_sgd:MetaSGD",
    "promp": "metarl.algorithms.promp:ProMP",
    "reptile": "metarl.algorithms.reptile:Reptile",
    "rl2": "metarl.algorithms.rl2:RL2",
}


def algorithm_class(name: str) -> type:
    """The class behind a short name or an import path "package.module:Class".

    Raises:
        ValueError: there is none, or it is no algorithm.
    """
    cls = import_class("algorithm", NAMES.get(name, name), NAMES)
    missing = [a for a in ("config_class", "collect", "update", "agent") if not hasattr(cls, a)]
    if missing:
        raise ValueError(f"The algorithm {name!r} lacks {', '.join(missing)}.")
    return cls


def settings_class(name: str) -> type:
    """The settings of an algorithm; errors as :func:`algorithm_class`'s."""
    return algorithm_class(name).config_class
