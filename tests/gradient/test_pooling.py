"""Rules of pools and resized images, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.gradient import differentiate
from tests.gradient.helpers import Array, agrees, model, pulled_back, reasons

POOLS = [
    ("kernel_shape = [2]", (2, 3, 6)),
    ("kernel_shape = [3], strides = [2], pads = [1, 1]", (2, 2, 7)),
    ("kernel_shape = [2, 2], strides = [2, 2]", (2, 2, 4, 6)),
    ("kernel_shape = [2, 2], strides = [2, 2]", (1, 2, 5, 5)),
    ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]", (1, 2, 6, 5)),
    ("kernel_shape = [3, 2], strides = [1, 1], pads = [1, 0, 1, 1]", (1, 2, 4, 4)),
    ("kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1", (1, 2, 6, 6)),
    ("kernel_shape = [2, 2, 2], strides = [2, 1, 2]", (1, 2, 4, 3, 4)),
    ('kernel_shape = [3, 3], auto_pad = "SAME_UPPER"', (1, 2, 4, 4)),
]


@pytest.mark.parametrize(("attributes", "x"), POOLS, ids=str)
@pytest.mark.parametrize("opset", [11, 16])
def test_max_pool_goes_to_the_arg_max(attributes: str, x: Any, opset: int) -> None:
    agrees(f"y = MaxPool <{attributes}> (x)", opset, x=x)


@pytest.mark.parametrize("opset", [12, 16])
def test_max_pool_with_taps_apart(opset: int) -> None:
    agrees("y = MaxPool <kernel_shape = [2, 3], dilations = [2, 1], strides = [1, 2]> (x)", opset, x=(1, 2, 5, 7))


def test_max_pool_of_an_old_opset() -> None:
    agrees("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", 9, x=(1, 2, 4, 4))


TILES = [pool for pool in POOLS if "[2, 2], strides = [2, 2]" in pool[0]] + [
    ("kernel_shape = [3], strides = [3]", (2, 2, 6)),
    ("kernel_shape = [2, 3], strides = [2, 3], ceil_mode = 1", (2, 3, 4, 6)),
    ("kernel_shape = [2, 1, 2], strides = [2, 1, 2]", (1, 2, 4, 3, 4)),
]


@pytest.mark.parametrize(("attributes", "x"), TILES, ids=str)
@pytest.mark.parametrize("opset", [11, 13, 19])
def test_max_pool_of_tiles(attributes: str, x: Any, opset: int) -> None:
    agrees(f"y = MaxPool <{attributes}> (x)", opset, dtype=np.float32, x=x)


def test_in_tiles_equal_maxima_share_the_gradient() -> None:
    x = np.array([[[[1, 1, 3, 2], [0, 1, 2, 2], [5, 5, 0, 0], [5, 5, 0, 4]]]], np.float32)
    proto = model("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", 17, {"x": x}, dynamic=False)
    g = np.array([[[[3, 6], [8, 5]]]], np.float32)
    gradient = pulled_back(differentiate(proto, ["y"], ["x"]), {"x": x}, {"y": g})["x"]
    np.testing.assert_allclose(gradient[0, 0], [[1, 1, 6, 0], [0, 1, 0, 0], [2, 2, 0, 0], [2, 2, 0, 5]], rtol=1e-6)


@pytest.mark.parametrize("opset", [12, 16])
def test_a_tie_sends_each_gradient_once(opset: int) -> None:
    x: Array = np.zeros((1, 1, 5, 5), np.float32)
    proto = model("y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", opset, {"x": x}, dynamic=True)
    gradient = pulled_back(differentiate(proto, ["y"], ["x"]), {"x": x}, {"y": x + 1})["x"]
    assert gradient.sum() == 25


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(("attributes", "x"), [pool for pool in POOLS if "ceil" not in pool[0]], ids=str)
@pytest.mark.parametrize("opset", [11, 19])
def test_average_pool_spreads_over_its_window(attributes: str, x: Any, count: int, opset: int) -> None:
    agrees(f"y = AveragePool <{attributes}, count_include_pad = {count}> (x)", opset, x=x)


@pytest.mark.parametrize(
    "attributes", ["strides = [2, 2]", "strides = [3, 2], pads = [1, 1, 1, 1]", "strides = [4, 3], pads = [2, 0, 2, 1]"]
)
def test_average_pool_with_an_incomplete_last_window(attributes: str) -> None:
    agrees(f"y = AveragePool <kernel_shape = [3, 3], ceil_mode = 1, {attributes}> (x)", 19, x=(1, 2, 6, 7))


def test_average_pool_that_counts_padding_in_an_incomplete_window_ends_the_path() -> None:
    body = "y = AveragePool <kernel_shape = [2], ceil_mode = 1, count_include_pad = 1> (x)"
    assert reasons(body, 13, x=(1, 2, 5)) == ["AveragePool: no rule for ceil_mode with count_include_pad"]


@pytest.mark.parametrize("kind", ["scales", "sizes"])
@pytest.mark.parametrize(
    "attributes",
    [
        'mode = "nearest"',
        'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
        'mode = "linear"',
        'mode = "linear", coordinate_transformation_mode = "align_corners"',
        'mode = "cubic", cubic_coeff_a = -0.5',
    ],
)
@pytest.mark.parametrize("opset", [11, 13, 19])
def test_resize_in_every_mode_that_goes_axis_by_axis(attributes: str, kind: str, opset: int) -> None:
    given = {"k": np.array([1, 1, 2, 1.5], np.float32)} if kind == "scales" else {"k": np.array([1, 2, 6, 7])}
    empty = {"roi": np.zeros(0, np.float32), "none": np.zeros(0, np.float32)}
    operands = "x, roi, k" if kind == "scales" else "x, roi, none, k"
    agrees(f"y = Resize <{attributes}> ({operands})", opset, constants={**given, **empty}, x=(1, 2, 3, 4))


def test_resize_by_one_axis_and_smaller() -> None:
    scales = np.array([1, 1, 0.5], np.float32)
    agrees('y = Resize <mode = "linear"> (x, , k)', 13, constants={"k": scales}, x=(2, 2, 6))


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ('y = Resize <mode = "nearest"> (x, k)', 10),
        ('y = Upsample <mode = "nearest"> (x, k)', 9),
    ],
)
def test_older_names_of_resize(body: str, opset: int) -> None:
    agrees(body, opset, constants={"k": np.array([1, 1, 2, 2], np.float32)}, x=(1, 2, 3, 4))


def test_a_resize_of_channels_ends_the_path() -> None:
    ended = reasons("y = Resize(x, , k)", 13, constants={"k": np.array([1, 2, 1, 1], np.float32)}, x=(1, 2, 3, 4))
    assert ended == ["Resize: it does more than resize one or two axes after the second"]
