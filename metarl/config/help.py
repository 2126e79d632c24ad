"""The help of a command line: every field with its type, meaning, default and bounds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from metarl.config.loading import concrete_model
from metarl.config.messages import sub_model
from metarl.config.model import known_names, variants_of
from metarl.config.trust import NOTHING, Trust
from metarl.config.validation import Option, merged
from metarl.config.yaml_text import dump_yaml, read_yaml

_WIDTH, _INDENT = 110, 42
_TYPES = {
    "boolean": "true|false",
    "integer": "INT",
    "number": "NUMBER",
    "string": "TEXT",
    "array": "LIST",
    "null": "null",
}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def config_lines(path: Path | None, options: Sequence[Option], trust: Trust = NOTHING) -> list[str]:
    """A line for every field of the environment and the algorithm that a config chooses.

    Raises:
        UserError: The config cannot be read, or names an unknown environment or algorithm, or
            code that nobody trusts.
    """
    data, origins = read_yaml(path) if path else ({}, {})
    model, makers = concrete_model(*merged(data, options, origins), trust.in_file(path))
    env = makers["env",]
    notes = {
        "env": f" ({', '.join(known_names('env'))}, or package.module:Class; "
        f"presets of {env.__name__}: {', '.join(getattr(env, 'presets', {})) or 'none'})",
        "algorithm": f" ({', '.join(known_names('algorithm'))}, or package.module:Class)",
    }
    single, sections = [], []
    schema = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        if (section := sub_model(field.annotation)) is None:
            single += _field_line((name,), schema[name])
        else:
            sections += ["", name + notes.get(name, ""), *field_lines(section, (name,))]
    return single + sections


def field_lines(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """A line of help for every field of a model; of a tagged union those of the variant chosen."""
    schema = model.model_json_schema()["properties"]
    # Names first: the algorithm's stands last in its model.
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "name")
    lines = []
    for name, field in fields:
        path = (*prefix, name)
        section = sub_model(field.annotation)
        if section is None:
            if name != "name" or not variants_of(model):  # which has its line already
                lines += _field_line(path, schema[name])
            continue
        if variants := schema[name].get("variants"):
            chosen = next(iter(variants_of(section)))
            meaning = f"{field.description or ''} (here {chosen})"
            lines += _lines(f"{'.'.join(path)} {'|'.join(variants)}", meaning.strip())
        lines += field_lines(section, path)
    return lines


def _field_line(path: tuple[str, ...], schema: dict[str, Any]) -> list[str]:
    """``--seed INT   of all random streams (default 1; >= 0)``, on several lines if it is long."""
    # As in the config file where dotted; single words as command lines have them.
    option = ".".join(path) if len(path) > 1 else path[0].replace("_", "-")
    if not schema.get("switch"):
        option += f" {_type_name(schema)}"
    notes = [f"default {_text(schema['default'])}" if "default" in schema else "required"]
    for part in (schema, *schema.get("anyOf", [])):
        notes += [f"{sign} {part[bound]}" for bound, sign in _BOUNDS.items() if bound in part]
    meaning = schema.get("description", "").rstrip(".")
    return _lines(option, f"{meaning} ({'; '.join(notes)})".strip())


def _lines(option: str, meaning: str) -> list[str]:
    option = f"  --{option}"
    text = textwrap.wrap(meaning, _WIDTH - _INDENT)
    if len(option) > _INDENT - 2:
        text.insert(0, "")
    first = f"{option:<{_INDENT}}{text[0]}".rstrip()
    return [first, *(" " * _INDENT + line for line in text[1:])]


def _text(value: object) -> str:
    return dump_yaml({"x": value}).removeprefix("x:").strip()


def _type_name(schema: dict[str, Any]) -> str:
    """How a type is written in the help: INT, NUMBER, TEXT, LIST, a|b, ...|null."""
    if kinds := schema.get("anyOf"):
        return "|".join(dict.fromkeys(map(_type_name, kinds)))
    if choices := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return "|".join(map(_text, choices))
    return _TYPES.get(schema.get("type", ""), "VALUE")
