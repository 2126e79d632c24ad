"""Command-line words ``--a.b value`` and ``--a.b=value``, read by the type of their field."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from metarl.config.messages import Origins, shown
from metarl.config.yaml_text import parse_scalar, parse_yaml
from metarl.errors import UserError


class Option(NamedTuple):
    """One option as given: its name without dashes, and its text (None for a switch)."""

    name: str
    text: str | None


class Word(str):
    """A value of the command line among the data: what it means is up to its field.

    Attributes:
        beneath: What a file has in its place.
    """

    beneath: Any = None


def split_options(
    words: Sequence[str], switches: Collection[str] = (), positional: str | None = None
) -> list[Option]:
    """Splits command-line words into options.

    Args:
        words: As in ``sys.argv[1:]``.
        switches: Names that take no value, such as ``resume``.
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
            if equals:
                raise UserError(f"--{name} is a switch and takes no value, but got {shown(text)}.")
            options.append(Option(name, None))
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
    for option in options:
        word = True if option.text is None else Word(option.text)
        before = put(plain, option.name, word)
        if isinstance(word, Word):
            word.beneath = before
        path = tuple(option.name.split("."))
        origins[path] = "command line"
        origins.pop((*path, "name"), None)
    return plain, origins


def put(data: dict[str, Any], name: str, value: object) -> Any:
    """Sets the value of a dotted name in nested data; returns what was there."""
    *sections, last = name.split(".")
    for key in sections:
        if not isinstance(data.get(key), dict):
            data[key] = named(data.get(key))
        data = data[key]
    before = data.get(last)
    data[last] = value
    return before


def named(value: object) -> dict[str, Any]:
    """A bare name as a mapping; a word's lies over the mapping that a file has in its place."""
    if not isinstance(value, str):
        return {}
    if not (isinstance(value, Word) and isinstance(value.beneath, dict)):
        return {"name": str(value)}
    name = Word(value)
    name.beneath = value.beneath.get("name")
    return {**value.beneath, "name": name}


def meaning(word: Word, field: FieldInfo, name: str) -> Any:
    """The plain value that a word means for its field.

    The first reading that the field accepts: null, a YAML value (``1e-3``, ``false``,
    ``[0.5, 0.25]``), the text itself (``--name 7``), a list without brackets (``0.5,0.25``).
    Where it accepts none, the likeliest reading, for the config's validation to refuse.
    """
    text = str(word)
    readings: list[Any] = [None] if text.lower() == "none" else []
    bracketed: list[Any] | None = None
    if not text:  # such as an unset shell variable: not a null
        readings.append("")
    elif text.startswith(("[", "{", '"', "'")):
        readings += [parse_yaml(text, f"--{name}")[0], text]
    else:
        parts = [part.strip() for part in text.split(",")]
        bracketed = [parse_scalar(part) for part in parts]
        readings += [parse_scalar(text), text, bracketed, parts]
    # An Any or plain-text reading comes after the typed ones, so the order decides.
    own_types = ConfigDict(arbitrary_types_allowed=True)  # an environment may have such
    typed: Any = (field.annotation, field)
    alone = create_model("Alone", __config__=own_types, x=typed)
    likeliest = readings[0]
    for reading in readings:
        try:
            alone.model_validate_json(json.dumps({"x": reading}), strict=True)
        except ValidationError as error:
            if reading is bracketed and "," in text and any(e["loc"][1:] for e in error.errors()):
                likeliest = reading  # a list is right, one of its values is not
        else:
            return reading
    return likeliest
