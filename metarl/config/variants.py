"""Tagged unions in the config: one of several models, chosen by its ``name``, as in

    outer: {name: trpo, max_kl: 0.02}      or, all else at its defaults,      outer: trpo

Before anything is checked the union gives way to the variant chosen. So keys, nearest names, help
and the types of options see one plain model, and no message speaks of a variant that is not there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from metarl.config.messages import Origins, at, dotted, rule, shown, sub_model
from metarl.config.overrides import Option
from metarl.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


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
    model: type[Model],
    data: dict[str, Any],
    options: Sequence[Option],
    origins: Origins,
    path: tuple[str, ...] = (),
) -> type[Model]:
    """``model`` with the variant that data and options choose in the place of every tagged union.

    A bare name in ``data`` becomes a mapping. A variant chosen on the command line replaces another
    one of the file together with its settings.

    Raises:
        UserError: There is no such variant.
    """
    chosen: dict[str, type[BaseModel]] = {}
    for key, field in model.model_fields.items():
        here = (*path, key)
        if variants := variants_of(field.annotation):
            variant = _choose(field, variants, data, options, origins, here)
            chosen[key] = resolve_variants(variant, data[key], options, origins, here)
        elif (section := sub_model(field.annotation)) is not None:
            inner = data.get(key, {})
            if isinstance(inner, dict):  # else it is refused later
                concrete = resolve_variants(section, inner, options, origins, here)
                if concrete is not section:
                    chosen[key], data[key] = concrete, inner
    return _concrete(model, tuple(chosen.items())) if chosen else model


def _choose(
    field: FieldInfo,
    variants: dict[str, type[BaseModel]],
    data: dict[str, Any],
    options: Sequence[Option],
    origins: Origins,
    path: tuple[str, ...],
) -> type[BaseModel]:
    """The variant chosen for a field, whose value in ``data`` becomes a mapping with its name."""
    default = field.get_default(call_default_factory=True)
    given = data.get(path[-1], {})
    given = given if isinstance(given, dict) else {"name": given}
    name = given.setdefault("name", getattr(default, "name", next(iter(variants))))
    for option in options:
        if option.path == (*path, "name"):
            name = option.text
    if not isinstance(name, str) or name not in variants:
        context = {"expected": ", ".join(map(repr, variants)), "because": _reason(field, name)}
        must = rule({"type": "literal_error", "ctx": context}, name)
        where = at((*path, "name"), origins)
        raise UserError(f"{where}{dotted(path)} is {shown(name)}, but must {must}.")
    data[path[-1]] = given if given["name"] == name else {"name": name}
    return variants[name]


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


def with_full_names(model: type[BaseModel], options: Sequence[Option]) -> list[Option]:
    """``--algorithm.outer trpo`` as ``--algorithm.outer.name trpo``."""
    full = []
    for option in options:
        inner: type[BaseModel] | None = model
        field = None
        for key in option.path:
            field = inner.model_fields.get(key) if inner else None
            inner = sub_model(field.annotation) if field else None
        tagged = field is not None and variants_of(field.annotation)
        full.append(Option(f"{option.name}.name", option.text) if tagged else option)
    return full
