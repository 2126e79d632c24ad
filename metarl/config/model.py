"""The concrete config model: its fields follow from the environment and the algorithm chosen."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import to_jsonable_python

from metarl.config.fields import Config, EnvConfig, Section
from metarl.config.messages import Origins, at, names_there_are, shown
from metarl.errors import UserError


def environment_names() -> list[str]:
    """The environments known by a short name."""
    import metarl.envs.registry  # here, since it loads MuJoCo, which a wrong file need not wait for

    return sorted(metarl.envs.registry.NAMES)


def algorithm_names() -> list[str]:
    """The algorithms known by a short name."""
    from metarl import algorithms

    return sorted(algorithms.ALGORITHMS)


def environment_class(name: str) -> type:
    from metarl import envs

    return envs.env_class(name)


def _settings_class(name: str) -> type:
    from metarl import algorithms

    settings = algorithms.settings_class(name)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise ValueError(f"the config_class of {name} is no pydantic BaseModel")
    return settings


def load_class(kind: str, name: str, origins: Origins) -> type:
    """The class of an environment, of an algorithm its settings'; any failure as one sentence."""
    path = ("env" if kind == "environment" else "algorithm", "name")
    known = environment_names() if kind == "environment" else algorithm_names()
    if ":" not in name and name not in known:
        raise UserError(
            f"{at(path, origins)}{path[0]}.name is {shown(name)}, but no {kind} has that name: "
            f"{names_there_are(name, known)} (your own: package.module:Class)."
        )
    try:
        return environment_class(name) if kind == "environment" else _settings_class(name)
    except Exception as error:  # a user's module may raise anything while it is imported
        said = " ".join(str(error).split()).rstrip(".")
        reason = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        raise UserError(f"{at(path, origins)}{path[0]}.name: {reason}.") from error


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
