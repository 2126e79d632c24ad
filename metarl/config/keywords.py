"""A config with fields that a program gives as keywords, sections or dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from metarl.config.fields import Config
from metarl.config.loading import config_from, default_name
from metarl.config.model import FURTHER
from metarl.config.trust import Trust, named_code
from metarl.config.yaml_text import read_yaml
from metarl.storage.places import find_config


def config_of(
    config: str | Path | Mapping[str, Any], fields: Mapping[str, Any], trust_code: bool
) -> Config:
    """The validated config with the fields that win over it.

    Args:
        config: The name of a config that comes with metarl, a YAML file, or the fields themselves.
        fields: Sections, or dotted names; classes in the place of names.
        trust_code: Of a config in a run folder, see :class:`metarl.config.trust.Trust`.

    Raises:
        UserError: anything is wrong with either.
    """
    origins: dict[Any, str] = {}
    path = None
    if isinstance(config, Mapping):
        data = dict(config)
    else:
        path = find_config(config)
        data, origins = read_yaml(path)
        data.setdefault("name", default_name(path))
    own: dict[str, Any] = {}
    for name, value in fields.items():
        *sections, last = name.split(".")
        for section in reversed(sections):
            value, last = {last: value}, section
        own = _merged(own, {last: value})
        data = _merged(data, {last: value})
    for given in (own, data):
        given.update({name: _named(given[name]) for name in ("env", "algorithm") if name in given})
        if isinstance(further := given.get(FURTHER), Mapping):
            given[FURTHER] = {name: _named(section) for name, section in further.items()}
    trust = Trust(trust_code, frozenset(named_code(own).values()))
    given = _keyword_origins(fields)
    kept = {
        path: origin
        for path, origin in origins.items()
        if not any(path[: len(own_path)] == own_path for own_path in given)
    }
    return config_from(data, origins=kept | given, trust=trust.in_file(path))


def _named(section: Any) -> Any:
    """A section with an import path where it names a class."""
    if not isinstance(section, Mapping) or "name" not in section:
        return section
    return {**section, "name": import_path(section["name"])}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested fields, the second ones winning; another name makes a section anew."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, type | FunctionType):
            value = {"name": value}
        own = merged.get(key)
        if isinstance(own, dict) and isinstance(value, Mapping):
            anew = "name" in value and value["name"] != own.get("name")
            value = dict(value) if anew else _merged(own, value)
        merged[key] = value
    return merged


def _keyword_origins(fields: Mapping[str, Any]) -> dict[Any, str]:
    """Where the values of keyword arguments were given, by their places in the config."""

    def places(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(value, Mapping) and value:
            for key, child in value.items():
                yield from places(child, (*path, key))
        else:
            yield (*path, "name") if isinstance(value, type | FunctionType) else path

    return {
        place: f"keyword {name}"
        for name, value in fields.items()
        for place in places(value, tuple(name.split(".")))
    }


def import_path(name: Any) -> Any:
    """The import path of a class or a function; names stay."""
    made_here = isinstance(name, type | FunctionType)
    return f"{name.__module__}:{name.__qualname__}" if made_here else name
