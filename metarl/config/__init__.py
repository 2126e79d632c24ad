"""The configuration of a run: YAML and command line, validated as one model."""

from __future__ import annotations

from metarl.config.fields import Config
from metarl.config.loading import (
    changes,
    config_from,
    config_to_dict,
    config_to_yaml,
    differences,
    env_parameters,
    fingerprint,
    load_config,
    resolve_device,
)
from metarl.config.validation import validated

__all__ = [
    "Config",
    "changes",
    "config_from",
    "config_to_dict",
    "config_to_yaml",
    "differences",
    "env_parameters",
    "fingerprint",
    "load_config",
    "resolve_device",
    "validated",
]
