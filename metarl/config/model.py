"""The concrete config model: its fields follow from the environment and the algorithm chosen."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import to_jsonable_python

from metarl import algorithms
from metarl.config.fields import Config, EnvConfig, Section
from metarl.config.messages import Origins, at, names_there_are, shown
from metarl.config.overrides import Word
from metarl.config.validation import whole_section
from metarl.config.yaml_text import parse_scalar
from metarl.errors import UserError


def known_names(section: str) -> list[str]:
    """The environments (of the section ``env``) or the algorithms known by a short name."""
    if section == "env":
        from metarl.envs.registry import NAMES  # late: it loads MuJoCo

        return sorted(NAMES)
    return sorted(algorithms.ALGORITHMS)


def chosen_class(section: str, default: str, data: dict[str, Any], origins: Origins) -> Any:
    """The class of the environment that ``data`` name, or the algorithm's settings; sets its name.

    Raises:
        UserError: Anything wrong with the name, or the module where it leads.
    """
    where = at((section, "name"), origins)
    given = data.setdefault(section, {})
    if isinstance(given, Word):
        raise whole_section((section,), "name", where)
    if not isinstance(given, dict):
        must = f"must be a mapping of fields, such as {{name: {default}}}"
        raise UserError(f"{where}{section} is {shown(given)}, but {must}.")
    name: Any = given.get("name", default)
    name = given["name"] = parse_scalar(name) if isinstance(name, Word) else name
    wrong = f"{where}{section}.name is {shown(name)}, but"
    if not isinstance(name, str):
        raise UserError(f"{wrong} must be a name, such as {default}.")
    kind, known = "environment" if section == "env" else section, known_names(section)
    if ":" not in name and name not in known:
        there_are = names_there_are(name, known)
        raise UserError(
            f"{wrong} no {kind} has that name: {there_are} (your own: package.module:Class)."
        )
    try:
        from metarl import envs

        cls = envs.env_class(name) if section == "env" else algorithms.settings_class(name)
        if section == "algorithm" and not (isinstance(cls, type) and issubclass(cls, BaseModel)):
            raise ValueError(f"the config_class of {name} is no pydantic BaseModel")
    except Exception as error:  # a user's module may raise anything while it is imported
        said = " ".join(str(error).split()).rstrip(".")
        reason = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        raise UserError(f"{where}{section}.name: {reason}.") from error
    return cls


def _plain_field(annotation: Any, default: Any) -> tuple[Any, Any] | None:
    """Annotation and default of a config field; None where the default is no plain value."""
    required = default is inspect.Parameter.empty
    if annotation is Any and isinstance(default, bool | float | str):  # not annotated
        annotation = type(default)
    try:
        TypeAdapter(annotation).json_schema()
    except Exception:  # a type that YAML cannot hold, e.g. a NumPy array: its class checks it
        annotation = Any
    if required:
        return annotation, ...
    try:
        to_jsonable_python(default)
    except Exception:
        return None
    return annotation, default


@functools.cache
def _env_model(env: type) -> type[EnvConfig]:
    """``EnvConfig`` with the parameters of an environment's constructor."""
    from metarl import envs

    fields: dict[str, Any] = {}
    for name, (annotation, default, doc) in envs.constructor_fields(env).items():
        if name in EnvConfig.model_fields:
            continue
        if name.startswith("_") or hasattr(EnvConfig, name):
            raise UserError(
                f"The environment {env.__name__} has a parameter {name!r}, which a config cannot "
                f"name; give it another name."
            )
        plain = _plain_field(annotation, default)
        if plain is not None:
            fields[name] = (plain[0], Field(plain[1], description=" ".join(doc.split())))
    return create_model(f"{env.__name__}Config", __base__=EnvConfig, **fields)


@functools.cache
def config_model(env: type, settings: type[BaseModel], algorithm_name: str) -> type[Config]:
    """``Config`` for an environment, and an algorithm of these settings known by this name."""
    # Section comes last for its settings: of several bases pydantic lets the last one's win.
    algorithm = create_model(
        settings.__name__,
        __base__=(settings, Section),
        name=(str, Field(algorithm_name, description="algorithm, or package.module:Class")),
    )
    return create_model(
        "Config", __base__=Config, env=(_env_model(env), ...), algorithm=(algorithm, ...)
    )
