"""metarl: meta-reinforcement learning on torch, gymnasium and mujoco.

``metarl.train``, ``evaluate``, ``compare``, ``load_run``, ``load_objective``, ``make_env`` and
``as_gymnasium_trial`` are those of :mod:`metarl.api`, which is imported when one of them is first
asked for.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

from metarl import envs as envs  # its ids are known to Gymnasium from here on

if TYPE_CHECKING:
    from metarl.api import as_gymnasium_trial as as_gymnasium_trial
    from metarl.api import compare as compare
    from metarl.api import evaluate as evaluate
    from metarl.api import load_objective as load_objective
    from metarl.api import load_run as load_run
    from metarl.api import make_env as make_env
    from metarl.api import train as train

_API = (
    "as_gymnasium_trial",
    "compare",
    "evaluate",
    "load_objective",
    "load_run",
    "make_env",
    "train",
)


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'metarl' has no attribute {name!r}")
    from metarl import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
