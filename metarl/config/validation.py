"""Plain data as a model, whatever is wrong with them as one sentence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from metarl.config.messages import (
    Origins,
    Path,
    at,
    dotted,
    shown,
    sub_model,
    unknown_field,
    validation_error,
)
from metarl.config.overrides import Option, Word, meaning, merged
from metarl.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def validated(
    model: type[Model],
    data: Mapping[str, Any],
    options: Sequence[Option] = (),
    origins: Origins | None = None,
) -> Model:
    """Plain data and options, which win, as a model.

    Args:
        model: Of the fields that there are; without tagged unions.
        data: As YAML has it: lists are good for tuples, yet "1" is no number and true no integer.
        options: Of a command line; see :func:`metarl.config.overrides.split_options`.
        origins: Where the values of ``data`` were given.

    Raises:
        UserError: An unknown field, a value of the wrong type or out of its bounds.
    """
    plain, origins = merged(data, options, origins)
    read_fields(model, plain, origins)
    check_values(plain, origins)
    try:
        return model.model_validate_json(json.dumps(plain, default=_as_json), strict=True)
    except ValidationError as error:
        raise validation_error(error, plain, origins) from None


def read_fields(
    model: type[BaseModel],
    data: dict[str, Any],
    origins: Origins,
    path: Path = (),
    root: type[BaseModel] | None = None,
) -> None:
    """Refuses keys that no field has, and turns words into what they mean to their fields.

    Raises:
        UserError: Names the key, the nearest field and where it stands.
    """
    for key, value in data.items():
        here = (*path, key)
        where = at(here, origins)
        if key not in model.model_fields:
            raise unknown_field(here, root or model, model, where)
        field = model.model_fields[key]
        section = sub_model(field.annotation)
        if isinstance(value, Word):
            if section is not None and not get_args(field.annotation):
                raise whole_section(here, next(iter(section.model_fields)), where)
            data[key] = meaning(value, field, dotted(here))
        elif section is not None and isinstance(value, dict):
            read_fields(section, value, origins, here, root or model)
        elif isinstance(value, dict) and any(isinstance(x, Word) for x in value.values()):
            unknown = next(k for k, x in value.items() if isinstance(x, Word))
            wrong = f"there is no field {dotted((*here, unknown))}: {dotted(here)} is one value"
            raise UserError(f"command line: {wrong}.")


def whole_section(path: Path, example: str, where: str) -> UserError:
    """A section given as one value on the command line."""
    name = dotted(path)
    return UserError(
        f"{where}{name} is a section; give one of its fields, such as --{name}.{example}."
    )


def check_values(value: object, origins: Origins, path: Path = ()) -> None:
    """Refuses NaN, infinity, broken text and objects wherever they stand.

    Raises:
        UserError: Names the field.
    """
    must = ""
    if isinstance(value, dict | list | tuple):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            check_values(child, origins, (*path, key))
    elif isinstance(value, float) and not math.isfinite(value):
        must = "a finite number"
    elif isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            must = "UTF-8 text"  # it holds half a character: bytes of the command line
    elif not (value is None or isinstance(value, int | float | os.PathLike)):
        must = "" if hasattr(value, "tolist") else "a plain value"
    if must:
        given = f"{value}" if isinstance(value, float) else shown(value)
        raise UserError(f"{at(path, origins)}{dotted(path)} is {given}, but must be {must}.")


def _as_json(value: Any) -> Any:
    """What Python may give beside YAML's values: a NumPy array or scalar, a path."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
