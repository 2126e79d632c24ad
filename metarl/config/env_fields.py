"""The fields of the section ``env``: those of :class:`EnvConfig` and the environment's parameters.

A parameter's default is taken as it stands: no annotation is held against it. What a config gives
in its place is checked against the annotation.

A parameter whose name the section has for itself, such as ``name`` or ``tasks``, stands in
``env.params``; there every name is free.
"""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PydanticUserError,
    TypeAdapter,
    WrapValidator,
    create_model,
)
from pydantic_core import to_jsonable_python

from metarl.config.fields import Config, EnvConfig, Section
from metarl.config.messages import Path, sub_model
from metarl.config.validation import as_plain
from metarl.errors import UserError

if TYPE_CHECKING:
    from metarl.envs import ConstructorField

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _OpenEnvConfig(EnvConfig):
    """Of an environment that takes any keyword."""

    model_config = ConfigDict(extra="allow")


@functools.cache
def env_model(maker: Callable[..., Any]) -> type[EnvConfig]:
    """``EnvConfig`` with the parameters of what makes the environment.

    Raises:
        UserError: A parameter without a default has a name that no config can hold.
    """
    from metarl import envs  # late: it loads Gymnasium

    fields: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for name, parameter in envs.constructor_fields(maker).items():
        field = _field(parameter)
        if field is None:
            continue
        if name.startswith("_") or (name.startswith("model_") and hasattr(BaseModel, name)):
            if parameter.default is envs.REQUIRED:
                raise UserError(
                    f"The environment {maker.__name__} has a parameter {name!r}, which a config "
                    f"cannot name; give it another name, or a default."
                )
            continue
        taken = name == "params" or name in EnvConfig.model_fields or hasattr(EnvConfig, name)
        (apart if taken else fields)[name] = field
    if apart:
        required = any(parameter.is_required() for _, parameter in apart.values())
        section = _model(f"{maker.__name__}Params", Section, apart)
        meaning = "parameters whose names env has for itself"
        default = ... if required else section.model_validate({})
        fields["params"] = (section, Field(default, description=meaning))
    base = _OpenEnvConfig if envs.takes_any(maker) else EnvConfig
    return _model(f"{maker.__name__}Config", base, fields)


def env_parameters(config: Config, which: str = "env") -> dict[str, Any]:
    """The keywords that make a config's environment of that name, presets already filled in."""
    section = config.envs[which]
    apart = dict(getattr(section, "params", ()))
    own = {name: value for name, value in section if name not in EnvConfig.model_fields}
    return {name: value for name, value in own.items() if name != "params"} | apart


def fill_preset(
    model: type[EnvConfig], preset: Mapping[str, Any], data: dict[str, Any], path: Path
) -> list[Path]:
    """Adds a preset's parameters to a section, where they are not given; names these."""
    filled: list[Path] = []
    apart: Any = model.model_fields.get("params")
    for name, value in preset.items():
        own = apart is None or name not in apart.annotation.model_fields
        place = data if own else data.setdefault("params", {})
        if name not in place:
            place[name] = _written(value)
            filled.append((*path, name) if own else (*path, "params", name))
    return filled


def _model(name: str, base: type[Any], fields: dict[str, Any]) -> Any:
    with warnings.catch_warnings():  # a field `copy` hides a method that nobody calls
        warnings.filterwarnings("ignore", "Field name", UserWarning)
        return create_model(name, __base__=base, **fields)


def _field(parameter: ConstructorField) -> tuple[Any, Any] | None:
    """Type and field of a parameter; None where its default is no plain value."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is Any:
        annotation = _type_of(default)
    description = " ".join(parameter.doc.split())
    adapter, annotation = _adapter(_with_names(annotation))
    as_text, infinite, notes = None, False, dict[str, Any]()
    if default is inspect.Parameter.empty:
        default = ...
    else:
        try:
            held = _written(default)
            as_text, infinite = json.dumps(held, allow_nan=False), _has_infinity(held)
            notes = {"default": held, "infinite": infinite}  # for the help, for reading
        except Exception:  # the constructor's alone
            return None

    def read(value: Any, _: Any) -> Any:
        text = json.dumps(value)
        if text == as_text:
            return default
        return adapter.validate_json(json.dumps(_numbers(value)) if infinite else text)

    if sub_model(annotation) is None:
        written = PlainSerializer(_written, return_type=Any)
        annotation = Annotated[annotation, WrapValidator(read), written]
    return annotation, Field(default, description=description, json_schema_extra=notes)


def _adapter(annotation: Any) -> tuple[TypeAdapter[Any], Any]:
    """What checks values of a type, and the type: any, where YAML cannot hold it."""
    try:
        try:
            adapter = TypeAdapter[Any](annotation, config=_STRICT | {"allow_inf_nan": True})
        except PydanticUserError:  # a type with a config of its own
            adapter = TypeAdapter(annotation)
        adapter.json_schema()
    except Exception:  # such as a NumPy array: the constructor checks it
        return TypeAdapter(Any), Any
    return adapter, annotation


def _type_of(default: Any) -> Any:
    """The type of a parameter that is not annotated, from its default."""
    if isinstance(default, tuple):
        rows = default and all(isinstance(item, tuple) for item in default)
        return tuple[_type_of(default[0]) if rows else Any, ...]  # type: ignore[misc]
    return type(default) if isinstance(default, bool | float | str | Enum) else Any


def _with_names(annotation: Any) -> Any:
    """A type in which enumerations are written by the names of their members."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        kind: Any = annotation
        values = {member.name: to_jsonable_python(member.value) for member in kind}

        def name(value: Any) -> Any:
            by_value = [name for name, known in values.items() if known == value]
            return value if value in values or not by_value else by_value[0]

        return Annotated[
            Literal[tuple(values)], BeforeValidator(name), AfterValidator(lambda name: kind[name])
        ]
    parts = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return Union[tuple(map(_with_names, parts))]  # noqa: UP007
    return origin[tuple(map(_with_names, parts))] if origin in (tuple, list) else annotation


def _written(value: Any) -> Any:
    """A parameter's value as a config holds it."""
    return to_jsonable_python(as_plain(value))


def _has_infinity(plain_value: Any) -> bool:
    if isinstance(plain_value, list):
        return any(map(_has_infinity, plain_value))
    return plain_value in ("inf", "-inf")


def _numbers(value: Any) -> Any:
    """A plain value with infinity as a number."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf") else value
