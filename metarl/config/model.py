"""The concrete config model: its fields follow from the environment and the algorithm chosen.

Tagged unions are one of several models, chosen by its ``name``, as in

    outer: {name: trpo, max_kl: 0.02}      or, all else at its defaults,      outer: trpo

Before anything is checked the union gives way to the variant chosen. So keys, nearest names, help
and the types of options see one plain model, and no message speaks of a variant that is not there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from metarl import algorithms
from metarl.config.env_fields import env_model
from metarl.config.fields import Config, RolloutConfig, Section
from metarl.config.messages import Origins, Path, at, dotted, rule, shown
from metarl.config.validation import Model, Word, named, whole_section
from metarl.config.yaml_text import parse_scalar
from metarl.errors import UserError, message_of

FURTHER = "further_envs"


def known_names(section: str) -> list[str]:
    """The environments (of the section ``env``) or the algorithms known by a short name."""
    if section == "env":
        from metarl.envs.registry import NAMES  # late: it loads MuJoCo

        return sorted(NAMES)
    return sorted(algorithms.ALGORITHMS)


def chosen_class(path: Path, default: str, data: dict[str, Any], origins: Origins) -> Any:
    """The class of the environment that ``data`` name, or the algorithm's settings; sets its name.

    Args:
        path: Of the section.
        default: The name where none is given.
        data: Hold the section under the path's last part.
        origins: Where values were given.

    Raises:
        UserError: Anything wrong with the name, or the module where it leads.
    """
    section, where = str(path[0]), at((*path, "name"), origins)
    given = data.setdefault(str(path[-1]), {})
    if isinstance(given, Word):
        raise whole_section(path, "name", where)
    if not isinstance(given, dict):
        must = f"must be a mapping of fields, such as {{name: {default}}}"
        raise UserError(f"{where}{dotted(path)} is {shown(given)}, but {must}.")
    name: Any = given.get("name", default)
    name = given["name"] = parse_scalar(name) if isinstance(name, Word) else name
    if not isinstance(name, str):
        must = f"must be a name, such as {default}"
        raise UserError(f"{where}{dotted(path)}.name is {shown(name)}, but {must}.")
    try:
        from metarl import envs

        find = algorithms.settings_class if section == "algorithm" else envs.env_maker
        cls = find(name)
        if section == "algorithm" and not (isinstance(cls, type) and issubclass(cls, BaseModel)):
            raise ValueError(f"the config_class of {name} is no pydantic BaseModel")
    except ValueError as error:
        said = message_of(error).rstrip(".")
        said = said[:1].lower() + said[1:]  # it has the name
        raise UserError(f"{where}{dotted(path)}.name: {said}.") from error
    return cls


def further_classes(data: dict[str, Any], origins: Origins) -> dict[str, Any]:
    """The classes of the further environments that ``data`` name, by their names there.

    Raises:
        UserError: One of the names is none that a field can have, or as :func:`chosen_class`.
    """
    given = data.get(FURTHER)
    if not given:  # an empty section, or none
        data.pop(FURTHER, None)
        return {}
    where = at((FURTHER,), origins)
    if not isinstance(given, dict):
        must = "must be a mapping of names of yours to sections like env"
        raise UserError(f"{where}{FURTHER} is {shown(given)}, but {must}.")
    for name in given:
        if not re.fullmatch(r"[a-zA-Z]\w*", str(name)) or hasattr(Config, str(name)):
            raise UserError(
                f"{where}{FURTHER} has an environment called {shown(name)}, but must call it by "
                "letters, digits and '_', and by no name that a config has itself."
            )
    return {
        name: chosen_class((FURTHER, name), "point_navigation", given, origins) for name in given
    }


@functools.cache
def config_model(
    env: Callable[..., Any],
    further: tuple[tuple[str, Callable[..., Any]], ...],
    settings: type[BaseModel],
    algorithm_name: str,
    rollout: type[RolloutConfig],
) -> type[Config]:
    """``Config`` for an environment, and an algorithm of these settings known by this name.

    Args:
        env: The environment's class.
        further: Names and classes of the further environments.
        settings: Of the algorithm.
        algorithm_name: Its name in the config.
        rollout: The section, with the backend chosen.
    """
    # Section comes last for its settings: of several bases pydantic lets the last one's win.
    algorithm = create_model(
        settings.__name__,
        __base__=(settings, Section),
        name=(str, Field(algorithm_name, description="algorithm, or package.module:Class")),
    )
    sections: dict[str, Any] = {name: (env_model(maker), ...) for name, maker in further}
    several = create_model("FurtherEnvs", __base__=Section, **sections)
    return create_model(
        "Config",
        __base__=Config,
        env=(env_model(env), ...),
        further_envs=(several, ... if further else several()),
        algorithm=(algorithm, ...),
        rollout=(rollout, ...),
    )


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
    model: type[Model], data: dict[str, Any], origins: Origins, path: Path
) -> type[Model]:
    """``model`` with the variant that the data choose in the place of every tagged union.

    In ``data`` every variant becomes a mapping with its name.

    Raises:
        UserError: There is no such variant.
    """
    chosen: dict[str, type[BaseModel]] = {}
    for key, field in model.model_fields.items():
        if variants := variants_of(field.annotation):
            here = (*path, key)
            data[key] = _choose(field, variants, data.get(key, {}), origins, here)
            variant = variants[data[key]["name"]]
            chosen[key] = resolve_variants(variant, data[key], origins, here)
    return _narrowed(model, tuple(chosen.items())) if chosen else model


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
def _narrowed(model: type[Model], chosen: tuple[tuple[str, type[BaseModel]], ...]) -> type[Model]:
    """``model`` with fields of these types; what restricted the choice has done its work."""
    fields: dict[str, Any] = {}
    for key, kind in chosen:
        field = model.model_fields[key]
        extra: dict[str, Any] = {"variants": list(variants_of(field.annotation))}
        fields[key] = (kind, Field(description=field.description, json_schema_extra=extra))
    return create_model(model.__name__, __base__=model, **fields)
