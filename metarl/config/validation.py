"""Plain data and the words of a command line, ``--a.b value`` or ``--a.b=value``, as a model.

A word stays text among the data until its field is known: what it means depends on the type.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

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
from metarl.config.yaml_text import parse_scalar, parse_yaml
from metarl.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
_NULLS = ("null", "none")
_MOST = 2**63 - 1  # what arrays hold


class Option(NamedTuple):
    """One option as given: its name without dashes, and its text (None for a switch)."""

    name: str
    text: str | None


class Word(str):
    """A value of the command line among the data."""


def split_options(
    words: Sequence[str],
    switches: Collection[str] | Mapping[str, Collection[str]] = (),
    positional: str | None = None,
) -> list[Option]:
    """Splits command-line words into options.

    Args:
        words: As in ``sys.argv[1:]``.
        switches: Names that need no value, such as ``video``; with those that they may take.
        positional: The option that words without a name belong to, such as ``config``.

    Raises:
        UserError: A word that is no option, an option without its value, a switch with one.
    """
    options = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-h" and "help" in switches:
            word = "--help"
        if positional is not None and not word.startswith("-"):
            options.append(Option(positional, word))
            continue
        if not word.startswith("--") or len(word) < 3:
            raise UserError(
                f"The argument {shown(word)} is out of place: fields are given as --field value."
            )
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in switches:
            values = switches[name] if isinstance(switches, Mapping) else ()
            if equals and text not in values:
                takes = f"no value but {', '.join(values)}" if values else "no value"
                raise UserError(f"--{name} is a switch and takes {takes}, but got {shown(text)}.")
            if rest and not equals and rest[0] in values:
                equals, text = "=", rest.pop(0)
            options.append(Option(name, text if equals else None))
        elif equals:
            options.append(Option(name, text))
        elif not rest or rest[0].startswith("--"):
            raise UserError(f"--{word[2:]} needs a value, as in --{word[2:]} VALUE.")
        else:
            options.append(Option(name, rest.pop(0)))
    return options


def merged(
    data: Mapping[str, Any], options: Sequence[Option], origins: Origins | None
) -> tuple[dict[str, Any], Origins]:
    """A copy of ``data`` with every option's :class:`Word` in its place, and all origins."""
    plain: dict[str, Any] = copy.deepcopy(dict(data))
    origins = dict(origins or {})
    # The whole before its parts: a variant's name decides what its settings are laid over.
    for name, text in sorted(options, key=lambda o: o.name.removesuffix(".name").count(".")):
        put(plain, name, True if text is None else Word(text))
        path = tuple(name.split("."))
        for given in [p for p in origins if p[:-1] == path]:
            if given[-1] == "name" or isinstance(given[-1], int):  # of a variant; of a list
                del origins[given]
        origins[path] = "command line"
    return plain, {path: origin for path, origin in origins.items() if _holds(plain, path)}


def _holds(data: Any, path: Path) -> bool:
    """Whether there is a value at this place; a variant may have replaced it."""
    for part in path:
        if isinstance(part, int):
            return True
        if not isinstance(data, dict):
            return part == "name"  # of a variant that is a bare name
        if part not in data:
            return False
        data = data[part]
    return True


def put(data: dict[str, Any], name: str, value: object) -> None:
    """Sets the value of a dotted name in nested data.

    A variant's name joins the settings that are there, unless they are of a variant with another
    name: then it takes their place. Below a section's own: many settings fit several algorithms.
    """
    *sections, last = name.split(".")
    for key in sections:
        if not isinstance(data.get(key), dict):
            data[key] = named(data.get(key))
        data = data[key]
    there = data.get(last)
    is_name = isinstance(value, str) and value.isidentifier() and value.lower() not in _NULLS
    if sections and is_name and isinstance(there, dict):
        data, sections, last = there, [*sections, last], "name"
    if last == "name" and len(sections) > 1 and data.get("name", value) != value:
        data.clear()
    data[last] = value


def named(value: object) -> dict[str, Any]:
    """A bare name as a mapping."""
    return {"name": str(value)} if isinstance(value, str) else {}


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
        options: Of a command line; see :func:`split_options`.
        origins: Where the values of ``data`` were given.

    Raises:
        UserError: An unknown field, a value of the wrong type or out of its bounds.
    """
    merged_data, origins = merged(data, options, origins)
    read_fields(model, merged_data, origins)
    plain = _plain(merged_data, origins)
    try:
        model_of_it = model.model_validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        raise validation_error(error, plain, origins) from None
    _plain(plain, origins, most=_MOST)  # where a field has no bound of its own
    return model_of_it


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
            if model.model_config.get("extra") == "allow":
                if isinstance(value, Word):
                    data[key] = _meaning(value, FieldInfo(annotation=Any), dotted(here))
                continue
            raise unknown_field(here, root or model, model, where)
        field = model.model_fields[key]
        section = sub_model(field.annotation)
        if isinstance(value, Word):
            if section is not None and not get_args(field.annotation):
                raise whole_section(here, next(iter(section.model_fields)), where)
            data[key] = _meaning(value, field, dotted(here))
        elif section is not None and isinstance(value, dict):
            if get_origin(field.annotation) is dict:  # sections, by names of the user's
                for name, one in value.items():
                    if isinstance(one, dict):
                        read_fields(section, one, origins, (*here, name), section)
            else:
                read_fields(section, value, origins, here, root or model)
        elif isinstance(value, dict) and any(isinstance(x, Word) for x in value.values()):
            unknown = next(k for k, x in value.items() if isinstance(x, Word))
            wrong = f"there is no field {dotted((*here, unknown))}: {dotted(here)} is one value"
            raise UserError(f"command line: {wrong}.")
        if isinstance(extra := field.json_schema_extra, dict) and extra.get("infinite"):
            data[key] = as_plain(data[key])


def whole_section(path: Path, example: str, where: str) -> UserError:
    """A section given as one value on the command line."""
    name = dotted(path)
    return UserError(
        f"{where}{name} is a section; give one of its fields, such as --{name}.{example}."
    )


def _meaning(word: Word, field: FieldInfo, name: str) -> Any:
    """The plain value that a word means for its field: the first reading that the field accepts.

    Null, a YAML value (``1e-3``, ``false``, ``[0.5, 0.25]``), the text itself (``--name 7``), a
    list without brackets (``0.5,0.25``). Where the field accepts none, the likeliest reading, for
    the config's validation to refuse.
    """
    text = str(word)
    parts = [part.strip() for part in text.split(",")]
    bracketed = [parse_scalar(part) for part in parts]
    if not text:  # such as an unset shell variable: not a null
        readings: list[Any] = [""]
    elif text.startswith(("[", "{", '"', "'")):
        readings = [parse_yaml(text, f"--{name}")[0], text]
    else:
        readings = [None if text.lower() == "none" else parse_scalar(text), text, bracketed, parts]
    own_types = ConfigDict(arbitrary_types_allowed=True)  # an environment may have such
    typed: Any = (field.annotation, field)
    alone = create_model("Alone", __config__=own_types, x=typed)
    likeliest = readings[0]
    for reading in readings:
        try:
            alone.model_validate_json(json.dumps({"x": reading}), strict=True)
        except ValidationError as error:
            within = any(isinstance(part, int) for e in error.errors() for part in e["loc"])
            number = not isinstance(likeliest, str)
            if reading is bracketed and within and (parts[1:] or number):
                likeliest = reading  # a list is right, one of its values is not
        else:
            return reading
    return likeliest


def as_plain(value: Any) -> Any:
    """A value as a config and JSON hold it.

    Tuples are lists, members of an enumeration their names, and infinity is the text "inf", since
    JSON has no number for it. Whatever else stays.
    """
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, dict):
        return {as_plain(key): as_plain(item) for key, item in value.items()}
    return value


def _plain(value: Any, origins: Origins, path: Path = (), most: int = 10**300) -> Any:
    """A value as YAML has it; Python may give arrays and scalars of NumPy, and paths.

    Raises:
        UserError: NaN, infinity, a larger integer, broken text or an object stands somewhere in it;
            names the field.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(child, origins, (*path, key), most) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child, origins, (*path, index), most) for index, child in enumerate(value)]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    must = ""
    if isinstance(value, float) and not math.isfinite(value):
        must = "a finite number"
    elif isinstance(value, int) and abs(value) > most:
        must = f"at most {_MOST} in size"
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        must = "UTF-8 text"  # it holds half a character: bytes of the command line
    elif not (value is None or isinstance(value, int | float | str)):
        must = "a plain value"
    if must:
        given = f"{value}" if isinstance(value, float) else shown(value)
        raise UserError(f"{at(path, origins)}{dotted(path)} is {given}, but must be {must}.")
    return value
