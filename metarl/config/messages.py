"""A wrong config as one sentence: the field, its value, the rule, and where it stands."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from metarl.errors import UserError

Path = tuple[str | int, ...]
Origins = dict[Path, str]  # where a value was given: "configs/x.yaml, line 3" or "command line"

_RULES = {
    "missing": "be given",
    "none_required": "be null",
    "bool_type": "be true or false",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "string_type": "be text",
    "tuple_type": "be a list, such as [1, 2]",
    "list_type": "be a list, such as [1, 2]",
    "dict_type": "be a mapping of fields",
    "model_type": "be a mapping of fields",
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be less than {lt}",
    "less_than_equal": "be at most {le}",
    "too_short": "have at least {min_length} value(s)",
    "too_long": "have at most {max_length} values",
}


def dotted(path: Iterable[str | int]) -> str:
    """``("algorithm", "inner_lr", 1)`` as ``algorithm.inner_lr[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def nearest(name: str, known: Iterable[str], likeness: float = 0.5) -> str | None:
    """The most similar known name, None where none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


def names_there_are(name: str, known: Iterable[str]) -> str:
    """``nearest: 'a'; there are: a, b`` as the end of a sentence about an unknown name."""
    known = sorted(known)
    near = nearest(name, known)
    listed = f"there are: {', '.join(known)}" if known else "there are none"
    return f"the nearest is {near!r}; {listed}" if near else listed


def shown(value: object) -> str:
    """A value as the user wrote it, cut to a length that leaves the sentence readable."""
    plain = {None: "null", True: "true", False: "false"}
    if isinstance(value, int) and abs(value) > 10**100:  # Python prints none of over 4300 digits
        return f"an integer of {int(value.bit_length() * math.log10(2))} digits or more"
    text = plain[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def at(path: Path, origins: Origins) -> str:
    """``configs/x.yaml, line 3: `` for the given value at ``path``, else within, else around it."""
    # A command line gives values within a section without giving the section.
    within = [given for given in origins if path and given[: len(path)] == path]
    around = [path[:length] for length in range(len(path) - 1, 0, -1)]
    given = next((p for p in (path, *within, *around) if p in origins), None)
    return "" if given is None else f"{origins[given]}: "


def named_origins(sentence: str, section: Path, origins: Origins) -> str:
    """``configs/x.yaml, line 3, and command line: `` for a section's fields that a sentence names.

    Of several values that do not go together each may be the wrong one; "" if it names none.
    """
    words = set(re.findall(r"[^\W\d]\w*", sentence))
    depth = len(section)
    named = [p for p in origins if p[:depth] == section and p[depth:] and p[-1] in words]
    inner = [p for p in named if not any(q[: len(p)] == p and q != p for q in named)]
    places = list(dict.fromkeys(origins[p] for p in inner))
    return f"{', and '.join(places)}: " if places else ""


def sub_model(annotation: Any) -> type[BaseModel] | None:
    """The model in a field's annotation, looking into unions such as ``Sub | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        if (model := sub_model(part)) is not None:
            return model
    return None


def _leaves(model: type[BaseModel], prefix: Path = ()) -> Iterator[Path]:
    """The paths of a model's fields that are no sections, in order."""
    for key, field in model.model_fields.items():
        inner = sub_model(field.annotation)
        yield from [(*prefix, key)] if inner is None else _leaves(inner, (*prefix, key))


def unknown_field(
    path: Path, root: type[BaseModel], section: type[BaseModel], where: str = ""
) -> UserError:
    """An unknown key: the nearest one of its section, else the nearest of the whole config."""
    name = str(path[-1])
    here = {key: dotted((*path[:-1], key)) for key in section.model_fields}
    # A field of another section must resemble it closely: the user forgot the section's name.
    known = {str(leaf[-1]): dotted(leaf) for leaf in _leaves(root)} | here
    near = nearest(name, here, likeness=0.85)  # a letter is missing
    near = near or nearest(name, known, likeness=0.75) or nearest(name, here)
    hint = f"the nearest is {known[near]}" if near else f"there are: {', '.join(sorted(here))}"
    tag = section.model_fields.get("name")
    variant = get_args(tag.annotation) if tag and get_origin(tag.annotation) is Literal else ()
    of = f" with {path[-2]} {variant[0]}" if variant and len(path) > 1 else ""
    return UserError(f"{where}there is no field {dotted(path)}{of}; {hint}.")


def _data_path(loc: tuple[Any, ...], data: Any) -> tuple[Path, Any]:
    """The part of an error's location that is in the data; pydantic adds the tags of unions."""
    path: Path = ()
    for part in loc:
        with contextlib.suppress(LookupError, TypeError):
            data, path = data[part], (*path, part)
    return path, data


def rule(error: Mapping[str, Any], value: object) -> str:
    """The rule that an error broke, as the end of '... but must ...', and why there is one."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("tuple_type", "list_type") and isinstance(value, int | float | str):
        broken = f"be a list, such as [{value}]"
    elif kind == "literal_error":
        expected = context["expected"]
        choices = re.findall(r"'([^']*)'", expected) or [expected.lower()]  # true and false
        near = nearest(value, choices) if isinstance(value, str) and len(choices) > 1 else None
        broken = f"be {'one of ' * (len(choices) > 1)}{', '.join(choices)}"
        broken += f" (the nearest is {near})" if near else ""
    elif kind in _RULES:
        broken = _RULES[kind].format(**context)
    else:
        broken = re.sub(r"^(Input|Value|String|Tuple|List) should ", "", str(error["msg"]))
    reason = context.get("because")  # an algorithm's settings may give it
    return broken + (f": {reason}" if reason else "")


def validation_error(
    error: ValidationError, data: Mapping[str, Any], origins: Origins
) -> UserError:
    """One sentence for the first wrong field, and how many more there are."""
    rules: dict[Path, list[str]] = {}
    sentences: dict[Path, str] = {}
    places: dict[Path, str] = {}
    for item in error.errors():
        loc: Path = tuple(item["loc"])
        path, value = _data_path(loc, data)
        if item["type"] == "missing":
            path, value = (*path, loc[-1]), None
        if item["type"] == "value_error":  # raised by a validator, in its own words
            message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
            given = "" if isinstance(value, dict) else f" is {shown(value)}"
            sentences[path] = f"{dotted(path)}{given}: {message}".removeprefix(": ")
            if isinstance(value, dict):
                places[path] = named_origins(message, path, origins)
            continue
        rules.setdefault(path, []).append(rule(item, value))
        given = "is missing" if item["type"] == "missing" else f"is {shown(value)}"
        alternatives = " or ".join(dict.fromkeys(rules[path]))
        sentences[path] = f"{dotted(path)} {given}, but must {alternatives}"
    # Of a union's errors keep those of the variant that got furthest into the value.
    furthest = [p for p in sentences if not any(q[: len(p)] == p and q != p for q in sentences)]
    first = furthest[0]
    more = f" ({len(furthest) - 1} more wrong)" if len(furthest) > 1 else ""
    place = places.get(first) or at(first, origins)
    return UserError(f"{place}{sentences[first]}{more}.")
