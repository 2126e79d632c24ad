"""What all settings are: frozen, of known fields only, with the reason for each restriction."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """Frozen, and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def because(reason: str) -> WrapValidator:
    """Last in a field's ``Annotated`` type: why its values are restricted, told with a refusal."""

    def check(value: Any, accept: ValidatorFunctionWrapHandler) -> Any:
        try:
            return accept(value)
        except ValidationError as error:
            rule = error.errors()[0]
            told = rule.get("ctx", {}) | {"because": reason}
            raise PydanticCustomError(rule["type"], rule["msg"], told) from None

    return WrapValidator(check)


def check_widths(name: str, widths: tuple[int, ...]) -> None:
    """Refuse layers without units.

    Raises:
        ValueError: a width is below 1.
    """
    if any(n < 1 for n in widths):
        raise ValueError(f"{name} must be positive, not {list(widths)}")
