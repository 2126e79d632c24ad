"""The help of a command line: every field with its type, meaning, default and bounds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metarl.config.loading import concrete_model
from metarl.config.messages import sub_model
from metarl.config.model import known_names, variants_of
from metarl.config.validation import Option, merged
from metarl.config.yaml_text import dump_yaml, read_yaml

_WIDTH, _INDENT = 110, 42
_TYPES = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", NoneType: "null"}
_BOUNDS = {Ge: ("ge", ">="), Gt: ("gt", ">"), Le: ("le", "<="), Lt: ("lt", "<")}


def config_lines(path: Path | None, options: Sequence[Option]) -> list[str]:
    """A line for every field of the environment and the algorithm that a config chooses.

    Raises:
        UserError: The config cannot be read, or names an unknown environment or algorithm.
    """
    data, origins = read_yaml(path) if path else ({}, {})
    model, env = concrete_model(*merged(data, options, origins))
    notes = {
        "env": f" ({', '.join(known_names('env'))}, or package.module:Class; "
        f"presets of {env.__name__}: {', '.join(getattr(env, 'presets', {})) or 'none'})",
        "algorithm": f" ({', '.join(known_names('algorithm'))}, or package.module:Class)",
    }
    single, sections = [], []
    for name, field in model.model_fields.items():
        if (section := sub_model(field.annotation)) is None:
            single += _field_line((name,), field)
        else:
            sections += ["", name + notes.get(name, ""), *field_lines(section, (name,))]
    return single + sections


def field_lines(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """A line of help for every field of a model; of a tagged union those of the variant chosen."""
    # Names first: the algorithm's stands last in its model.
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "name")
    lines = []
    for name, field in fields:
        path = (*prefix, name)
        section = sub_model(field.annotation)
        if section is None:
            if name != "name" or not variants_of(model):  # which has its line already
                lines += _field_line(path, field)
            continue
        if variants := _extra(field).get("variants"):
            chosen = next(iter(variants_of(section)))
            meaning = f"{field.description or ''} (here {chosen})"
            lines += _lines(f"{'.'.join(path)} {'|'.join(variants)}", meaning.strip())
        lines += field_lines(section, path)
    return lines


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _field_line(path: tuple[str, ...], field: FieldInfo) -> list[str]:
    """``--seed INT   of all random streams (default 1; >= 0)``, on several lines if it is long."""
    # As in the config file where dotted; single words as command lines have them.
    option = ".".join(path) if len(path) > 1 else path[0].replace("_", "-")
    if not _extra(field).get("switch"):
        option += f" {_type_name(field.annotation)}"
    notes = ["required"]
    if not field.is_required():
        notes = [f"default {_text(field.get_default(call_default_factory=True))}"]
    for item in field.metadata:
        if type(item) in _BOUNDS:
            attribute, sign = _BOUNDS[type(item)]
            notes.append(f"{sign} {getattr(item, attribute)}")
    meaning = (field.description or "").rstrip(".")
    return _lines(option, f"{meaning} ({'; '.join(notes)})".strip())


def _lines(option: str, meaning: str) -> list[str]:
    option = f"  --{option}"
    text = textwrap.wrap(meaning, _WIDTH - _INDENT)
    if len(option) > _INDENT - 2:
        text.insert(0, "")
    first = f"{option:<{_INDENT}}{text[0]}".rstrip()
    return [first, *(" " * _INDENT + line for line in text[1:])]


def _text(value: object) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return dump_yaml({"x": value}).removeprefix("x:").strip()


def _type_name(annotation: Any) -> str:
    """How a type is written in the help: INT, NUMBER, TEXT, LIST, a|b, ...|null."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in _TYPES:
        return _TYPES[annotation]
    if origin is Literal:
        return "|".join(map(_text, parts))
    if origin in (Union, UnionType):
        return "|".join(dict.fromkeys(map(_type_name, parts)))
    if origin is Annotated:
        return _type_name(parts[0])
    return "LIST" if (origin or annotation) in (tuple, list) else "VALUE"
