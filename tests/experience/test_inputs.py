"""What environments give, as agents are shown it."""

from __future__ import annotations

import numpy as np

from metarl.experience.inputs import as_given


def test_images_may_lie_in_memory_in_any_order() -> None:
    """Their axes moved, as where a simulator has the channels first."""
    channels_first = np.arange(6 * 3 * 2 * 4, dtype=np.uint8).reshape(6, 3, 2, 4)
    images = np.moveaxis(channels_first, 1, -1)
    rows = as_given(images, (2, 3))
    np.testing.assert_array_equal(rows.numpy(), images.reshape(2, 3, -1))
