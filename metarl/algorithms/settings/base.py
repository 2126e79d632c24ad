"""What all settings are: frozen, of known fields only, with the reason for each restriction."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

Widths = tuple[Annotated[int, Field(ge=1)], ...]
"""Of a network's hidden layers."""


class Settings(BaseModel):
    """Frozen, and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def because(reason: str) -> WrapValidator:
    """A validator that adds to a refusal why the values are restricted; last in ``Annotated``."""

    def check(value: Any, accept: ValidatorFunctionWrapHandler) -> Any:
        try:
            return accept(value)
        except ValidationError as error:
            rule = error.errors()[0]
            told = rule.get("ctx", {}) | {"because": reason}
            raise PydanticCustomError(rule["type"], rule["msg"], told) from None

    return WrapValidator(check)
