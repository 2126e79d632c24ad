"""Command-line words ``--a.b value`` and ``--a.b=value``, read by the type of their field."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from metarl.config.messages import field_at, shown
from metarl.config.yaml_text import parse_scalar, parse_yaml
from metarl.errors import UserError


class Option(NamedTuple):
    """One option as given: its name without dashes, and its text (None for a switch)."""

    name: str
    text: str | None

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.name.split("."))


def split_options(words: Sequence[str], switches: Collection[str] = ()) -> list[Option]:
    """Splits command-line words into options.

    Args:
        words: As in ``sys.argv[1:]``.
        switches: Names that take no value, such as ``resume``.

    Raises:
        UserError: A word that is no option, an option without its value, a switch with one.
    """
    options = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-h" and "help" in switches:
            word = "--help"
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


def option_value(field: FieldInfo | None, option: Option) -> Any:
    """The plain value that an option's text means for its field.

    The first reading that the field accepts: null, a YAML value (``1e-3``, ``false``,
    ``[0.5, 0.25]``), the text itself (``--name 7``), a list without brackets (``0.5,0.25``).
    Where it accepts none, the likeliest reading, for the config's validation to refuse.
    """
    text = option.text or ""
    readings: list[Any] = [None] if text.lower() == "none" else []
    bracketed: list[Any] | None = None
    if not text:  # such as an unset shell variable: not a null
        readings.append("")
    elif text.startswith(("[", "{", '"', "'")):
        readings += [parse_yaml(text, f"--{option.name}")[0], text]
    else:
        bracketed = [parse_scalar(part.strip()) for part in text.split(",")]
        readings += [
            parse_scalar(text),
            text,
            bracketed,
            [part.strip() for part in text.split(",")],
        ]
    if field is None:
        return readings[0]
    # An Any or plain-text reading comes after the typed ones, so the order decides.
    annotation: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_config(field.annotation))
    inner_error: Any = None
    for reading in readings:
        try:
            adapter.validate_json(json.dumps(reading), strict=True)
        except ValidationError as error:
            if reading is bracketed and "," in text and any(e["loc"] for e in error.errors()):
                inner_error = reading  # a list is right, one of its values is not
        else:
            return reading
    return readings[0] if inner_error is None else inner_error


def _config(annotation: Any) -> ConfigDict | None:
    """Types such as an environment's own classes; a model brings its own settings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None
    return ConfigDict(arbitrary_types_allowed=True)


def apply_option(model: type[BaseModel], data: dict[str, Any], option: Option) -> None:
    """Sets the option's value in the nested data.

    Raises:
        UserError: The option names no field, or a whole section.
    """
    path = option.path
    field = field_at(model, path, "command line: ")
    if (
        field is not None
        and isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
    ):
        example = next(iter(field.annotation.model_fields))
        raise UserError(
            f"command line: {option.name} is a section; give one of its fields, such as "
            f"--{option.name}.{example}."
        )
    section = data
    for key in path[:-1]:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = section[key] = {}
        section = inner
    section[path[-1]] = True if option.text is None else option_value(field, option)
