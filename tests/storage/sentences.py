"""What an error says."""

from __future__ import annotations

import pytest

from metarl.errors import UserError


def refused(action, error: type[Exception] = UserError) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as info:
        action()
    message = str(info.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message
