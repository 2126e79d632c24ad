"""Tagged unions in the config: one of several models, chosen by its ``name``, as in

    outer: {name: trpo, max_kl: 0.02}      or, all else at its defaults,      outer: trpo

Before anything is checked the union gives way to the variant chosen. So keys, nearest names, help
and the types of options see one plain model, and no message speaks of a variant that is not there.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from metarl.config.messages import Origins, Path, at, dotted, rule, shown, sub_model
from metarl.config.overrides import Word, named
from metarl.config.validation import Model
from metarl.errors import UserError


def variants_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models of a tagged union (or of one) by their names; {} for any other type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return variants_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        parts = [variants_of(part) for part in get_args(annotation)]
        return {name: part for found in parts for name, part in found.items()} if all(parts) else {}
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return {}
    tag = annotation.model_fields.get("name")
    tags = get_args(tag.annotation) if tag and get_origin(tag.annotation) is Literal else ()
    return {name: annotation for name in tags if isinstance(name, str)}


def resolve_variants(
    model: type[Model], data: dict[str, Any], origins: Origins, path: Path = ()
) -> type[Model]:
    """``model`` with the variant that the data choose in the place of every tagged union.

    In ``data`` every variant becomes a mapping with its name. One chosen on the command line
    replaces another one of the file together with its settings.

    Raises:
        UserError: There is no such variant.
    """
    chosen: dict[str, type[BaseModel]] = {}
    for key, field in model.model_fields.items():
        here = (*path, key)
        section = sub_model(field.annotation)
        if variants := variants_of(field.annotation):
            data[key] = _choose(field, variants, data.get(key, {}), origins, here)
            variant = variants[data[key]["name"]]
            chosen[key] = resolve_variants(variant, data[key], origins, here)
        elif section is not None and isinstance(inner := data.get(key, {}), dict):
            concrete = resolve_variants(section, inner, origins, here)
            if concrete is not section:
                chosen[key], data[key] = concrete, inner
    return _concrete(model, tuple(chosen.items())) if chosen else model


def _choose(
    field: FieldInfo, variants: Collection[str], given: Any, origins: Origins, path: Path
) -> dict[str, Any]:
    """The settings given for a field of several variants, with the name of one of them."""
    default = getattr(field.get_default(call_default_factory=True), "name", next(iter(variants)))
    settings = given if isinstance(given, dict) else named(given) or {"name": given}
    name = settings.setdefault("name", default)
    if not isinstance(name, str) or name not in variants:
        context = {"expected": ", ".join(map(repr, variants)), "because": _reason(field, name)}
        must = rule({"type": "literal_error", "ctx": context}, name)
        where = at((*path, "name"), origins)
        raise UserError(f"{where}{dotted(path)} is {shown(name)}, but must {must}.")
    if isinstance(name, Word) and name != (name.beneath or default):
        settings = {key: value for key, value in settings.items() if isinstance(value, Word)}
    return settings | {"name": str(name)}


def _reason(field: FieldInfo, name: object) -> str | None:
    """Why a field's variants are restricted, where its settings say so."""
    annotation: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(annotation).validate_python({"name": name})
    except ValidationError as error:
        reasons = [item.get("ctx", {}).get("because") for item in error.errors()]
        return next(filter(None, reasons), None)
    return None


@functools.cache
def _concrete(model: type[Model], chosen: tuple[tuple[str, type[BaseModel]], ...]) -> type[Model]:
    """``model`` with fields of these types; what restricted the choice has done its work."""
    fields: dict[str, Any] = {}
    for key, kind in chosen:
        field = model.model_fields[key]
        names = list(variants_of(field.annotation))
        extra: dict[str, Any] = {"variants": names} if names else {}
        described = Field(description=field.description, json_schema_extra=extra)
        fields[key] = (kind, described)
    return create_model(model.__name__, __base__=model, **fields)
