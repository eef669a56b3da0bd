"""Rules of convolutions, against central differences."""

from __future__ import annotations

import pytest

from tests.gradient.helpers import agrees, reasons

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("attributes", "x", "w"),
    [
        ("", (2, 3, 6), (4, 3, 3)),
        ("strides = [2]", (2, 3, 6), (4, 3, 3)),
        ("strides = [3], pads = [2, 1], dilations = [2]", (2, 2, 9), (3, 2, 3)),
        ("", (2, 3, 4, 5), (2, 3, 3, 2)),
        ("pads = [1, 1, 1, 1]", (2, 2, 4, 4), (3, 2, 3, 3)),
        ("strides = [2, 2], pads = [1, 1, 1, 1]", (1, 2, 5, 6), (2, 2, 3, 3)),
        ("strides = [2, 3], pads = [0, 1, 2, 0]", (2, 2, 6, 7), (2, 2, 3, 3)),
        ("strides = [2, 2]", (1, 2, 6, 5), (2, 2, 1, 1)),
        ("group = 2", (2, 4, 4, 4), (6, 2, 3, 3)),
        ("group = 4, strides = [2, 2], pads = [1, 1, 1, 1]", (2, 4, 5, 4), (4, 1, 3, 3)),
        ("dilations = [2, 1]", (1, 2, 6, 4), (2, 2, 2, 3)),
        ("strides = [2, 1], dilations = [2, 2], group = 2", (2, 2, 8, 5), (2, 1, 3, 2)),
        ("", (1, 2, 3, 3, 4), (2, 2, 2, 2, 2)),
        ("strides = [2, 1, 2], pads = [1, 0, 1, 1, 0, 0]", (1, 2, 3, 3, 4), (2, 2, 2, 2, 3)),
        ('auto_pad = "VALID"', (1, 2, 4, 4), (2, 2, 3, 3)),
        ('auto_pad = "SAME_UPPER"', (1, 2, 4, 4), (2, 2, 2, 3)),
        ('auto_pad = "SAME_LOWER"', (1, 2, 4, 4), (2, 2, 2, 4)),
        ("strides = [2, 3], pads = [0, 1, 2, 0]", (2, 5, 6, 7), (3, 5, 3, 3)),  # a product for each of few taps
        ("strides = [2, 1], dilations = [1, 2], pads = [1, 0, 0, 1]", (2, 4, 5, 6), (3, 4, 2, 3)),
        ("strides = [2, 1, 2], pads = [1, 0, 1, 1, 0, 0]", (2, 6, 3, 3, 4), (2, 6, 2, 2, 3)),
    ],
    ids=str,
)
def test_conv(attributes: str, x: Shape, w: Shape) -> None:
    agrees(
        f"y = Conv <{attributes}> (x, w, b)" if attributes else "y = Conv(x, w, b)", 13, sized="w", x=x, w=w, b=(w[0],)
    )


@pytest.mark.parametrize("opset", [7, 9, 11])
def test_conv_of_older_opsets_where_strides_leave_a_rest(opset: int) -> None:
    agrees(
        "y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)", opset, dynamic=False, x=(1, 2, 6, 6), w=(2, 2, 3, 3)
    )


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_by_sizes(pad: str) -> None:
    agrees(f'y = Conv <auto_pad = "{pad}", strides = [2, 2]> (x, w)', 13, dynamic=False, x=(1, 2, 5, 6), w=(2, 2, 3, 2))


def test_same_padding_by_sizes_of_the_run_ends_the_path() -> None:
    body = 'y = Conv <auto_pad = "SAME_UPPER", kernel_shape = [3, 3], strides = [2, 2]> (x, w)'
    ended = reasons(body, 13, sized="w", x=(1, 2, 5, 6), w=(2, 2, 3, 3))
    assert ended == ["Conv: its SAME padding depends on sizes not known before the run"]


@pytest.mark.parametrize(
    ("attributes", "x", "w"),
    [
        ("strides = [1]", (2, 3, 4), (3, 2, 3)),
        ("strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]", (1, 2, 3, 3), (2, 3, 3, 3)),
        ("strides = [2, 1], pads = [0, 1, 1, 0]", (2, 2, 3, 3), (2, 2, 3, 2)),
        ("group = 2, dilations = [2, 1]", (1, 4, 3, 3), (4, 2, 2, 2)),
        ("strides = [2, 2], pads = [1, 0, 1, 0], output_padding = [1, 0]", (2, 3, 3, 2), (3, 5, 3, 3)),
    ],
    ids=str,
)
def test_conv_transpose(attributes: str, x: Shape, w: Shape) -> None:
    channels = w[1] * (2 if "group" in attributes else 1)
    agrees(f"y = ConvTranspose <{attributes}> (x, w, b)", 13, sized="w", x=x, w=w, b=(channels,))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("output_shape = [6, 6]", "its padding depends on sizes not known before the run"),
        ("dilations = [3, 3], output_padding = [1, 1]", "its output_padding is not below its stride"),
    ],
)
def test_a_conv_transpose_that_cannot_go_back_ends_the_path(attributes: str, reason: str) -> None:
    body = f"y = ConvTranspose <kernel_shape = [2, 2], {attributes}> (x, w)"
    assert reasons(body, 13, sized="w", x=(1, 2, 3, 3), w=(2, 2, 2, 2)) == [f"ConvTranspose: {reason}"]
