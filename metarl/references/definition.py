"""What an environment is, so that all runs on it share its references."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metarl import envs


@dataclass(frozen=True)
class Definition:
    """An environment's name and the parameters of its constructor.

    A parameter at its default says nothing: neither the key nor a comparison has it, so a new
    parameter of an environment loses none of its references.

    Attributes:
        fields: The name and all parameters, as JSON has them, whatever preset they came from.
        defaults: Of the parameters that have one.
    """

    fields: dict[str, Any]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, env_config: Mapping[str, Any]) -> Definition:
        """From the section ``env`` of a resolved config.

        Raises:
            ValueError: There is no such environment.
        """
        fields = {name: value for name, value in env_config.items() if name != "preset"}
        parameters = envs.constructor_fields(envs.env_class(fields["name"])).items()
        defaults = {n: p.default for n, p in parameters if p.default is not envs.REQUIRED}
        return cls(_as_json(fields), _as_json({"tasks": None, **defaults}))

    @property
    def name(self) -> str:
        """Of the environment: a short one or an import path."""
        return str(self.fields["name"])

    @property
    def stem(self) -> str:
        """The name as a folder's may be: what every key of this environment begins with."""
        return re.sub(r"[^\w.-]+", "_", self.name).lstrip(".-")

    @property
    def key(self) -> str:
        """Names the environment's folder, e.g. ``half_cheetah_vel-1f0a2b3c``."""
        text = json.dumps(self._differing(self.fields), sort_keys=True)
        return f"{self.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def describes(self, fields: Any) -> bool:
        """Whether stored fields mean this environment."""
        return isinstance(fields, dict) and self._differing(fields) == self._differing(self.fields)

    def _differing(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        known = self.defaults
        return {n: v for n, v in fields.items() if n not in known or v != known[n]}


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))  # tuples as lists
