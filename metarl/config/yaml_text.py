"""YAML read strictly and written so that it reads back as it was.

The stock loader follows YAML 1.1: ``1e-3`` is text to it, ``no`` is false, ``1:30`` is 90, and of
two equal keys the last one wins in silence. Here a plain scalar is null, ``true``/``false``, a
number or text, and a key given twice is an error. Every value remembers its line, so that a message
about it can say where it stands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from metarl.config.messages import Origins
from metarl.errors import UserError

Scalar = None | bool | int | float | str
Lines = dict[tuple[str | int, ...], int]

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9](?:_?[0-9])*")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9](?:_?[0-9])*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,5})?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_MAX_NODES = 10_000  # nested aliases can name 10^9 values in ten lines
_EXACT = 2**53
_LONGEST = 300
"""Characters of a number: beyond 1e308 no float can hold it, beyond 4300 digits int() refuses it,
and with tens of thousands the patterns above take minutes."""


def parse_scalar(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar.

    ``16e6`` is the integer 16000000: budgets are written that way, and an integer is also good for
    a float field.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if len(text) > _LONGEST:
        return str(text)
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(re.sub(r"\.(?=[in])", "", text.lower()))  # float() knows inf, not .inf
        if "e" in text.lower() and value.is_integer() and abs(value) < _EXACT:
            return int(value)
        return value
    return str(text)


class _Loader(yaml.SafeLoader):
    """PyYAML's, of which plain values are made here, with their lines (counted from 1)."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source
        self.lines: Lines = {}
        self._count = 0

    def fail(self, mark: yaml.Mark, problem: str) -> UserError:
        return UserError(
            f"{self.source}, line {mark.line + 1}, column {mark.column + 1}: {problem}."
        )

    def fetch_tag(self) -> None:
        super().fetch_tag()
        token = self.tokens[-1]
        tag = "".join(part or "" for part in token.value)
        raise self.fail(token.start_mark, f"the tag {tag} is not allowed in a config")

    def build(self, node: yaml.Node, path: tuple[str | int, ...] = ()) -> Any:
        self._count += 1
        if self._count > _MAX_NODES:
            problem = "the aliases (*) make this value endless or far too large"
            raise self.fail(node.start_mark, problem)
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):  # text, where it is quoted or a block
            return parse_scalar(node.value) if node.style is None else str(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        value: dict[str, Any] = {}
        for key_node, child in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.fail(mark, "a key must be a plain name")
            key = key_node.value
            if not isinstance(self.build(key_node), str):
                raise self.fail(mark, f"the key {key!r} is not a name")
            here = (*path, key)
            if key in value:
                name, first = ".".join(map(str, here)), self.lines[here]
                raise self.fail(mark, f"{name} is given twice, first in line {first}")
            value[key] = self.build(child, here)
            self.lines[here] = mark.line + 1
        return value


def parse_yaml(text: str, source: str) -> tuple[Any, Lines]:
    """The plain value of one YAML document and the line of each value in it.

    Raises:
        UserError: Malformed text, a key given twice, a tag that would make an object.
    """
    try:
        loader = _Loader(text, source)
        node = loader.get_single_node()
        return (None if node is None else loader.build(node)), loader.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise UserError(f"{source}{where}: this is not valid YAML: {problem}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        problem = f"the character {text[int(error.position)]!r} is not allowed"
        raise UserError(f"{source}, line {line}: this is not valid YAML: {problem}.") from None
    except RecursionError:
        raise UserError(
            f"{source}: its values are nested too deeply, or an alias (*) holds itself."
        ) from None


def read_yaml(path: Path) -> tuple[dict[str, Any], Origins]:
    """The mapping in a YAML file, and where each of its values stands: "x.yaml, line 3".

    Raises:
        UserError: The file is missing, a folder, unreadable, not UTF-8, empty, malformed or not a
            mapping.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; a config is a YAML file.")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no config file {path}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x} at position "
            f"{error.start})."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"The config file {str(path)!r} cannot be read: {reason}.") from None
    data, lines = parse_yaml(text, str(path))
    if data is None:
        raise UserError(f"{path} is empty; a config is a mapping of fields, such as 'seed: 1'.")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"the single value {str(data)[:40]!r}"
        raise UserError(f"{path} holds {kind}; a config is a mapping of fields, such as 'seed: 1'.")
    return data, {key: f"{path}, line {line}" for key, line in lines.items() if key}


class _Dumper(yaml.SafeDumper):
    """Lists on one line, and text quoted wherever parse_scalar would read it as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        plain = isinstance(parse_scalar(text), str) and text.isprintable()
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    def represent_row(self, row: list[Any]) -> yaml.SequenceNode:
        return self.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=True)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_row)


def dump_yaml(data: dict[str, Any]) -> str:
    """YAML text that :func:`parse_yaml` reads back to equal data (finite numbers only)."""
    return yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=99,
    )
