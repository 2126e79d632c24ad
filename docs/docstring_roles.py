"""The docstrings' cross-references, `:func:` and the like, as plain code in the API pages."""

from __future__ import annotations

import re
from typing import Any

import griffe


class DocstringRoles(griffe.Extension):
    """Rewrites every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Roles become code, `::` before an indented block a colon, and `] [` no link."""
        if obj.docstring is not None:
            text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", obj.docstring.value)
            text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
            obj.docstring.value = text.replace("] [", r"] \[")
