"""Configs of earlier versions as this version has them, before they are checked.

Earlier the settings of all outer optimisers stood beside its name, ``outer: trpo`` and
``max_kl: 0.02`` and ``lr: 0.001`` in one section; now the optimiser is a mapping of its own,
``outer: {name: trpo, max_kl: 0.02}``. And two settings, always 1, are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from metarl.config.messages import Origins, at, shown, sub_model
from metarl.config.overrides import Option
from metarl.config.variants import variants_of
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


def migrate(
    model: type[BaseModel], data: Mapping[str, Any], options: Sequence[Option], origins: Origins
) -> list[Option]:
    """The options under today's names; the section ``algorithm`` of ``data`` changes in place.

    Args:
        model: Of the whole config, its unions not resolved yet.
        data: The whole config as a file has it.
        options: Of the command line.
        origins: Where each value was given; what moves takes its line along.

    Raises:
        UserError: A setting that is gone, or of another outer optimiser, has not its default.
    """
    settings = sub_model(model.model_fields["algorithm"].annotation)
    assert settings is not None
    flat = {f"algorithm.{key}": key for key in _flat_keys(settings)}
    renamed = [
        option._replace(
            name=f"algorithm.outer.{_RENAMED.get(flat[option.name], flat[option.name])}"
        )
        if option.name in flat
        else option
        for option in options
    ]
    chosen = [o.text for o in options if o.name in ("algorithm.outer", "algorithm.outer.name")]
    if isinstance(section := data.get("algorithm"), dict):
        for key, name in {key: _RENAMED.get(key, key) for key in _FLAT}.items():
            if ("algorithm", key) in origins:
                origins.setdefault(("algorithm", "outer", name), origins["algorithm", key])
        _migrate_section(settings, section, origins, chosen[-1] if chosen else None)
    return renamed


def migrate_fingerprint(settings: type[BaseModel], made_with: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's fingerprint, ``{"algorithm.max_kl": 0.02}``, under today's names."""
    section: dict[str, Any] = {}
    flat: dict[str, Any] = {}
    for name, value in made_with.items():
        of_algorithm = name.startswith("algorithm.")
        (section if of_algorithm else flat)[name.removeprefix("algorithm.")] = value
    _migrate_section(settings, section, {})
    if isinstance(outer := section.get("outer"), dict):
        del section["outer"]
        section |= {f"outer.{key}": value for key, value in outer.items()}
    return flat | {f"algorithm.{key}": value for key, value in section.items()}


def _flat_keys(settings: type[BaseModel]) -> list[str]:
    """Settings that were the algorithm's own and are its outer optimiser's."""
    outer = settings.model_fields.get("outer")
    if outer is None or not variants_of(outer.annotation):
        return []
    return [key for key in _FLAT if key not in settings.model_fields]


def _migrate_section(
    settings: type[BaseModel], section: dict[str, Any], origins: Origins, chosen: str | None = None
) -> None:
    """``chosen`` is the outer optimiser where the section names none."""

    def refuse(key: str, value: object, why: str) -> UserError:
        where = at(("algorithm", key), origins)
        return UserError(f"{where}algorithm.{key} is {shown(value)}, but {why}: leave it out.")

    for key in (_GONE.keys() & section.keys()) - settings.model_fields.keys():
        if (value := section.pop(key)) != _GONE[key]:
            raise refuse(key, value, f"that setting is gone and always {_GONE[key]}")
    field = settings.model_fields.get("outer")
    variants = variants_of(field.annotation) if field else {}
    given = {key: section[key] for key in _flat_keys(settings) if key in section}
    name = section.get("outer", chosen)
    if field is None or not variants or isinstance(name, dict) or (not given and name is None):
        return
    name = name or field.get_default(call_default_factory=True).name
    known = variants[name].model_fields if isinstance(name, str) and name in variants else None
    outer = {"name": name}
    for key, value in given.items():
        del section[key]
        if known and _RENAMED.get(key, key) in known:
            outer |= {} if value is None else {_RENAMED.get(key, key): value}
        elif known and value != _FLAT[key]:
            raise refuse(key, value, f"the outer optimiser {name} has no such setting")
    section["outer"] = outer
