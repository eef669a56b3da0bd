"""What quantities are relative to: which axis holds channels, and the scale of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.quality.scales import channel_axis, learned_scales
from tests.quality.cases import Array, loss, mask_of, normals, seen_of, task_of

WIDE = np.array([1.0, 1.0, 100.0, 100.0])


def axis(*batches: Array, **about: Any) -> int | None:
    return channel_axis(seen_of(*batches, **about))


# Where the channels are


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (normals(8, 4), None),
        (normals(8, 4) * [1, 1, 5, 9], None),  # of one scale
        (normals(8, 4) * WIDE, 1),
        (normals(8, 30, 4) * WIDE, 2),
        (normals(8, 4, 30) * WIDE[:, None], 1),
        (normals(8, 4, 6, 6) * WIDE[:, None, None], 1),
        (normals(8, 6, 6, 4) * WIDE, 3),
        (normals(2, 40, 6, 6) * np.repeat([1, 100], 20)[:, None, None], 1),  # more channels than pixels on a side
        (normals(8, 4) * [0, 0, 1, 1], None),  # dead channels have no scale
        (normals(8, 1), None),
        (normals(8), None),
        (np.zeros((8, 4)), None),
    ],
)
def test_channels_lie_where_entries_differ_by_more_than_ten_times(y: Array, expected: int | None) -> None:
    assert axis(y) == expected


def test_a_free_axis_is_one_of_positions() -> None:
    y = normals(8, 4) * WIDE
    assert axis(y, dims=("N", 4)) == axis(y, dims=("N", None)) == 1
    assert axis(y, dims=("N", "frames")) is None


def test_an_axis_whose_length_varies_is_one_of_positions() -> None:
    assert axis(normals(8, 4) * WIDE, normals(8, 4) * WIDE) == 1
    assert axis(normals(8, 4) * WIDE, normals(8, 3) * WIDE[:3]) is None


def test_an_axis_that_a_mask_goes_over_is_one_of_positions() -> None:
    y, kept = normals(8, 4) * WIDE, mask_of([4, 2, 3, 1, 4, 4, 2, 3], 4)
    assert axis(y, kept=kept) is None
    assert axis(y, kept=kept, dims=("N", 4), any_length=True) == 1


def test_padding_makes_no_channels() -> None:
    y, kept = normals(8, 5, 3), mask_of([5, 2, 3, 1, 4, 5, 2, 3], 5)
    y[~kept] = [0, 0, 1000]
    assert (axis(y), axis(y, kept=kept)) == (2, None)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([290, 1013]) + normals(50, 2) * [5, 10], 1),
        (np.array([290, 1013]) + normals(50, 2) * [50, 100], None),  # a constant would not look good
        (290 + 5 * normals(50, 2), None),  # of one mean, about which all are centred
        (np.linspace(60, 120, 10) + 3 * normals(50, 10), 1),
        (np.tile([290.0, 1013.0], (50, 1)), None),  # nothing moves at all
        (np.array([290, 1013]) + normals(5, 2) * [5, 10], None),  # too few to tell
    ],
)
def test_channels_that_stay_near_means_of_their_own_are_different_things(y: Array, expected: int | None) -> None:
    assert axis(y) == expected


# Their scales


def scales_of(y: Array, kept: Any = None) -> Any:
    return learned_scales([y if y.ndim == 3 else y[:, None]], [kept])


def test_groups_begin_where_scales_are_more_than_ten_times_apart() -> None:
    found = scales_of(normals(400, 6) * [300, 0.1, 200, 0.5, 900, 0.02]).scales
    assert found.field.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.scale == pytest.approx([300, 0.1, 200, 0.5, 900, 0.03], rel=0.1)
    assert not found.centre.any()


def test_a_channel_that_is_dead_goes_with_the_smallest_and_counts_as_much_as_a_tenth_of_them() -> None:
    found = scales_of(normals(400, 4) * [0, 100, 1, 1]).scales
    assert found.field.tolist() == [0, 1, 0, 0]
    assert found.scale[0] == pytest.approx(found.scale[[0, 2, 3]].max() / 10, rel=0.3)


def test_a_channel_that_hardly_varies_is_relative_to_what_it_does_vary_by() -> None:
    y = np.array([290.0, 0.5]) + normals(400, 2) * [5, 0.2]
    found = scales_of(y)
    assert found.scales.centre == pytest.approx([290, 0], rel=0.01)
    assert found.scales.scale == pytest.approx([5, 0.54], rel=0.1)
    assert found.power == pytest.approx([1, 1], rel=0.01)


def test_what_varies_by_rounding_alone_is_taken_for_a_constant() -> None:
    found = scales_of(7 + 1e-7 * normals(50, 1)).scales
    assert found.scale == pytest.approx([7e-3])
    exact = scales_of(np.full((50, 1), 7.0)).scales
    assert (exact.scale.tolist(), exact.centre.tolist()) == ([1], [0])


def test_values_stand_out_where_few_are_far_from_the_mean() -> None:
    y = np.sign(normals(400, 50))  # of two values, neither stands out
    assert np.isinf(scales_of(y).scales.far).all()
    y[::40, 3] = 50
    assert scales_of(y).scales.far == pytest.approx(4 * y.std(axis=0))
    y[:8] = 50  # two in a hundred are no longer few
    assert np.isinf(scales_of(y).scales.far).all()


def test_padding_is_of_no_size() -> None:
    y, kept = normals(8, 5, 3), mask_of([5, 2, 3, 1, 4, 5, 2, 3], 5)
    real = scales_of(np.where(kept[..., None], y, 0), kept)
    garbage = scales_of(np.where(kept[..., None], y, 1e6), kept)
    np.testing.assert_array_equal(real.power, garbage.power)
    np.testing.assert_array_equal(real.scales.scale, garbage.scales.scale)
    assert real.power.sum() == pytest.approx(np.sum((y[kept] / real.scales.scale) ** 2) / 8)


def test_the_power_is_that_of_a_sample_by_group() -> None:
    y = normals(40, 30, 4) * WIDE
    found = learned_scales([y[:25], y[25:]])
    assert found.power == pytest.approx([60, 60], rel=1e-6)


# What comes of it


def test_neither_pixels_nor_shares_hide_each_other() -> None:
    y = np.concatenate([300 + 80 * normals(50, 4, 20), np.clip(0.3 + 0.2 * normals(50, 3, 20), 0, 1)], axis=1)
    asked = task_of(y)
    boxes, scores = y.copy(), y.copy()
    boxes[:, :4] *= 1.2
    scores[:, 4:] *= 1.2
    assert loss(asked, y, boxes) == pytest.approx(0.2)
    assert loss(asked, y, scores) == pytest.approx(0.2)
