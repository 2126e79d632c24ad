"""What there is to choose from: ``metarl list``, a line for each config, environment and so on."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from metarl.errors import UserError

_USAGE = """\
What there is, a line each.

  metarl list                                          everything
  metarl list configs | environments | few-shot | algorithms

A config is trained by its name, metarl train NAME; the rest stands in configs: environments and the
tasks of few-shot learning in the section env.
"""


def run(argv: Sequence[str]) -> int:
    """Print the lists asked for, all without a word."""
    from metarl.config.messages import names_there_are

    if set(argv) & {"--help", "-h"}:
        print(_USAGE, end="")
        return 0
    for word in argv:
        if word not in LISTS:
            raise UserError(f"There is no list {word!r}: {names_there_are(word, LISTS)}.")
    for kind in argv or LISTS:
        lines = LISTS[kind]()
        width = max(map(len, lines))
        print(f"{kind}:")
        for name, meaning in lines.items():
            print(f"  {name:<{width}}  {meaning}")
    return 0


def configs() -> dict[str, str]:
    """Name -> the first sentence of the comment at the head of each config."""
    from metarl.storage.places import config_names, shipped_configs

    meanings = {}
    for name in config_names():
        text = (shipped_configs() / f"{name}.yaml").read_text(encoding="utf-8")
        comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        meanings[name] = first_sentence(" ".join(line.lstrip("# ") for line in comment))
    return meanings


def environments() -> dict[str, str]:
    """Name -> the first sentence of the docstring of each environment."""
    from metarl.envs.registry import ENVIRONMENTS, env_maker

    return _docstrings(ENVIRONMENTS, env_maker)


def few_shot() -> dict[str, str]:
    """Name -> the first sentence of the docstring of each distribution of few-shot tasks."""
    from metarl.envs.registry import FEW_SHOT, env_maker

    return _docstrings(FEW_SHOT, env_maker)


def algorithms() -> dict[str, str]:
    """Name -> the first sentence of the docstring of each algorithm's settings."""
    from metarl.algorithms import settings_class
    from metarl.config.model import known_names

    return _docstrings(known_names("algorithm"), settings_class)


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "configs": configs,
    "environments": environments,
    "few-shot": few_shot,
    "algorithms": algorithms,
}


def first_sentence(text: str) -> str:
    """Up to the first full stop that no number follows ("et al. 2017" goes on)."""
    return re.split(r"(?<=\.)\s+(?!\d)", " ".join(text.split()), maxsplit=1)[0]


def _docstrings(names: Iterable[str], find: Callable[[str], Any]) -> dict[str, str]:
    return {name: first_sentence(inspect.getdoc(find(name)) or "") for name in names}
