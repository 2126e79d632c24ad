"""The kinds of memory, each with settings of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metarl.algorithms.settings.base import Settings
from metarl.algorithms.settings.outer import by_name


class LSTMSettings(Settings):
    """Long short-term memory."""

    name: Literal["lstm"] = "lstm"


class GRUSettings(Settings):
    """Gated recurrent unit."""

    name: Literal["gru"] = "gru"


class TransformerSettings(Settings):
    """A causal Transformer over the steps of the trial."""

    name: Literal["transformer"] = "transformer"
    layers: int = Field(2, ge=1, description="of attention and perceptron")
    heads: int = Field(2, ge=1, description="of an attention; they share the width")
    context: int | None = Field(
        None, ge=1, description="steps that a step sees, with itself; null: all of the trial"
    )


MemorySettings = Annotated[
    LSTMSettings | GRUSettings | TransformerSettings, Field(discriminator="name"), by_name
]
"""The kind of memory; a bare name stands for it with its defaults."""


def check_width(core: LSTMSettings | GRUSettings | TransformerSettings, width: int) -> None:
    """Refuses a width that the heads of a Transformer cannot share.

    Raises:
        ValueError: says what would do.
    """
    if isinstance(core, TransformerSettings) and width % (2 * core.heads):
        raise ValueError(
            f"width must be a multiple of 2 × core.heads, {2 * core.heads}, not {width}: a "
            "Transformer's heads share it, and turn its numbers in pairs"
        )
