"""Configs of earlier versions as this version has them, before they are checked.

Earlier the settings of all outer optimisers stood beside its name, ``outer: trpo`` and
``max_kl: 0.02`` and ``lr: 0.001`` in one section; now the optimiser is a mapping of its own,
``outer: {name: trpo, max_kl: 0.02}``. And two settings, always 1, are gone. MAML's family did not
normalise its observations: a run of that time goes on without. A preset that now sets what once was
no parameter stays what it was in the record of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from metarl.config.messages import Origins, at, shown
from metarl.config.model import variants_of
from metarl.config.validation import Word, named
from metarl.errors import UserError

_FLAT: dict[str, Any] = {
    "max_kl": 0.01,
    "max_kl_decay": 1.0,
    "cg_steps": 10,
    "cg_damping": 1e-5,
    "curvature_every": 1,
    "line_search_steps": 15,
    "line_search_ratio": 0.8,
    "lr": 1e-3,
    "clip": 0.2,
    "outer_steps": 5,
}
"""What stood beside ``outer``, with the defaults of that time."""
_RENAMED = {"outer_steps": "steps"}
_GONE = {"action_scale": 1.0, "std_rate": 1.0}
_NEW = {"normalize_observations": False}
"""What MAML's family did before there was a setting, which has another default."""
_ALL_OLD = (
    "tasks",
    "episodes",
    "adaptation_steps",
    "inner_lr",
    "inner_estimator",
    "discount",
    "gae_lambda",
    "normalize_advantages",
    "hidden_sizes",
    "activation",
    "initial_std",
    "min_std",
)
"""The family's settings in every version. A run records them all, nobody writes them all out."""


def migrate(settings: type[BaseModel], section: dict[str, Any], origins: Origins) -> None:
    """Brings the section ``algorithm`` up to date, in place, and ``origins`` with it.

    Raises:
        UserError: A setting that is gone, or of another outer optimiser, has not its default.
    """

    def drop(key: str, default: object, why: str) -> None:
        value = section.pop(key)
        if value not in (default, None):
            where = at(("algorithm", key), origins)
            raise UserError(f"{where}algorithm.{key} is {shown(value)}, but {why}: leave it out.")

    def moved(key: str) -> bool:
        return key in section and key not in settings.model_fields

    if section.keys() >= set(_ALL_OLD):
        for key, value in _NEW.items():
            if key in settings.model_fields:
                section.setdefault(key, value)
    for key, only in _GONE.items():
        if moved(key):
            drop(key, only, f"that setting is gone and always {only}")
    field = settings.model_fields.get("outer")
    outer = section.get("outer")
    flat = list(filter(moved, _FLAT))
    if field is None or not flat or not (variants := variants_of(field.annotation)):
        return
    optimiser = outer if isinstance(outer, dict) else named(outer)
    name = optimiser.setdefault("name", field.get_default(call_default_factory=True).name)
    known = isinstance(outer, str | dict | None) and isinstance(name, str) and name in variants
    if not known:
        return  # to be refused
    for key in flat:
        new, value = _RENAMED.get(key, key), section[key]
        over = optimiser.get(new)
        if isinstance(value, Word) or (
            new in variants[name].model_fields and over is None and value is not None
        ):
            optimiser[new] = section.pop(key)
            origins["algorithm", "outer", new] = origins.get(("algorithm", key), "")
        elif over is None:
            drop(key, _FLAT[key], f"the outer optimiser {name} has no such setting")
        elif isinstance(over, Word):
            del section[key]  # else a file gives it twice, which is refused
    section["outer"] = optimiser


def as_recorded(env: Any, preset: Mapping[str, Any], section: dict[str, Any]) -> None:
    """Gives a record's section ``env`` what the environment was before it had a parameter for it.

    A record names all that its preset sets, and nobody writes that out beside the preset.

    Args:
        env: The environment's class; its ``earlier`` has the former values by parameter.
        preset: What the section's preset sets.
        section: Changed in place.
    """
    earlier: Mapping[str, Any] = getattr(env, "earlier", {})
    if preset.keys() - earlier.keys() <= section.keys():
        for name in preset.keys() & earlier.keys():
            section.setdefault(name, earlier[name])
