"""Running statistics: equal to those of all rows at once, whatever the pieces."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.maths.running_moments import RunningMoments

ROWS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * 3.0 + 1000.0


def test_pieces_of_any_size_give_the_whole() -> None:
    moments = RunningMoments.empty(3)
    for piece in (ROWS[:1], ROWS[1:20], ROWS[20:]):
        moments = moments.merge(piece)
    rows = ROWS.double()
    assert moments.count == 60
    torch.testing.assert_close(moments.mean, rows.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(moments.std, rows.std(0, correction=0), rtol=1e-10, atol=0)


def test_nothing_seen_changes_nothing_but_the_clip() -> None:
    x = torch.tensor([[-3.0, 0.5, 20.0]])
    assert RunningMoments.empty(3).normalize(x).tolist() == [[-3.0, 0.5, 10.0]]


def test_normalised_rows_by_hand() -> None:
    moments = RunningMoments.empty(1).merge(torch.tensor([[1.0], [5.0]]))  # mean 3, deviation 2
    x = torch.tensor([[4.0], [1e6]])
    assert moments.normalize(x).tolist() == [[0.5], [10.0]]
    assert moments.normalize(x).dtype == torch.float32


def test_a_constant_stays_finite() -> None:
    moments = RunningMoments.empty(1).merge(torch.ones(4, 1))
    assert moments.normalize(torch.ones(1, 1)).tolist() == [[0.0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-6, 1.0, 1e6, 1e20])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_columns_of_any_scale_are_normalised_to_one(scale: float, offset: float) -> None:
    rows = scale * (torch.randn(500, 1, generator=torch.Generator().manual_seed(1)) + offset)
    y = RunningMoments.empty(1).merge(rows).normalize(rows)
    assert float(y.std(correction=0)) == pytest.approx(1.0, rel=1e-4)
    assert float(y.mean()) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("constant", [0.0, 1e-9, -3.1, 1e9])
def test_a_column_that_was_constant_and_moves_stays_within_the_clip(constant: float) -> None:
    moments = RunningMoments.empty(1)
    for n in (7, 64, 5):
        moments = moments.merge(torch.full((n, 1), constant))
    x = torch.full((1, 1), constant)
    assert moments.normalize(x).abs() < 1e-6
    size = abs(constant) or 1.0
    assert moments.normalize(x + 2 * size) == pytest.approx(2.0)
    assert moments.normalize(x + 100 * size).tolist() == [[10.0]]
    moved = moments.merge(x + size * torch.tensor([[1.0], [-1.0]]))
    assert moved.normalize(x + size) == pytest.approx(math.sqrt(78 / 2))  # deviation √(2/78)


def test_rounding_of_a_constant_is_not_normalised_to_one() -> None:
    """cos² + sin² in float32."""
    angle = torch.linspace(0, 7, 1000).unsqueeze(1)
    rows = 250.0 * (angle.cos().square() + angle.sin().square())
    assert rows.std() > 0
    assert RunningMoments.empty(1).merge(rows).normalize(rows).abs().max() < 1e-6


def test_the_old_statistics_stay_as_they_were() -> None:
    before = RunningMoments.empty(3).merge(ROWS[:9])
    kept = before.mean.clone()
    before.merge(ROWS[9:])
    assert before.count == 9
    assert torch.equal(before.mean, kept)


def test_saved_and_restored() -> None:
    moments = RunningMoments.empty(3).merge(ROWS)
    again = RunningMoments.from_state(moments.state_dict())
    assert again.count == moments.count
    assert torch.equal(again.std, moments.std)
    assert torch.equal(again.mean, moments.mean)
