"""Rules of operators that move elements, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gradient.helpers import agrees, reasons

LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("body", "opset", "constants"),
    [
        ("y = Reshape(x, s)", 13, {"s": [4, -1]}),
        ("y = Reshape(x, s)", 7, {"s": [0, 12]}),
        ("y = Flatten(x)", 13, {}),
        ("y = Flatten <axis = 2> (x)", 9, {}),
        ("y = Transpose(x)", 13, {}),
        ("y = Transpose <perm = [1, 2, 0]> (x)", 13, {}),
        ("y = Transpose <perm = [2, 0, 1]> (x)", 7, {}),
        ("h = Unsqueeze(x, a)  y = Squeeze(h, a)", 13, {"a": [1, -1]}),
        ("h = Unsqueeze <axes = [0, 2]> (x)  y = Squeeze(h)", 11, {}),
        ("y = Unsqueeze <axes = [0, 2]> (x)", 11, {}),
        ("y = Tile(x, r)", 13, {"r": [2, 1, 3]}),
        ("y = Trilu(x)", 14, {}),
        ("y = Trilu <upper = 0> (x, k)", 14, {"k": 1}),
        ("y = CumSum(x, a)", 14, {"a": 1}),
        ("y = CumSum <reverse = 1, exclusive = 1> (x, a)", 14, {"a": -1}),
        ("h = Shape(x)  y = Reshape(x, h)", 13, {}),
        ("h, i = Split <axis = 1> (x)  y = Mul(h, i)", 11, {}),
    ],
    ids=str,
)
def test_elements_move_back(body: str, opset: int, constants: dict[str, Any]) -> None:
    agrees(body, opset, constants=constants, x=(2, 4, 3))


@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_operand_of_a_concat_gets_its_part(axis: int, opset: int) -> None:
    shapes = {"a": [2, 3, 4], "b": [2, 3, 4], "c": [2, 3, 4]}
    shapes["b"][axis] = 1
    agrees(f"y = Concat <axis = {axis}> (a, b, c)", opset, **{name: tuple(shape) for name, shape in shapes.items()})


def test_a_concat_counts_axes_from_the_back() -> None:
    agrees("y = Concat <axis = -2> (a, b)", 13, a=(2, 3, 4), b=(2, 2, 4))


def test_a_concat_of_a_tensor_with_itself() -> None:
    agrees("y = Concat <axis = 1> (a, a)", 13, a=(2, 3))


@pytest.mark.parametrize(
    ("body", "opset", "constants"),
    [
        ("p, q = Split <axis = -1> (x, s)  y = Concat <axis = -1> (q, p)", 13, {"s": [1, 3]}),
        ("p, q = Split <axis = 1, split = [3, 1]> (x)  y = Relu(q)", 11, {}),
        ("p, q = Split <axis = 1, num_outputs = 2> (x)  y = Relu(p)", 18, {}),
        ("p, q = Split <axis = 1> (x)  r = Mul(p, p)  y = Add(r, q)", 13, {}),
    ],
    ids=str,
)
def test_a_split_comes_together_with_zeros_where_nobody_reads(body: str, opset: int, constants: dict[str, Any]) -> None:
    agrees(body, opset, constants=constants, x=(2, 4))


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([1, 0], [3, 2], [1, 0], [1, 1]),
        ([-2], [LAST], [1], [1]),
        ([0], [-1], [-1], [1]),
        ([-100], [100], [1], [1]),
        ([0], [LAST], [1], [2]),
        ([1], [LAST], [1], [2]),
        ([1, 0], [5, 4], [1, 2], [3, 2]),
        ([-1], [-LAST], [1], [-1]),
        ([3], [0], [1], [-2]),
        ([100, 1], [-LAST, 3], [-2, 2], [-3, 1]),
        ([4], [1], [1], [-1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("opset", [11, 13])
def test_a_slice_is_put_back_among_zeros(
    starts: list[int], ends: list[int], axes: list[int], steps: list[int], opset: int
) -> None:
    constants = {"s": starts, "e": ends, "a": axes, "t": steps}
    agrees("y = Slice(x, s, e, a, t)", opset, constants=constants, x=(3, 5, 4))


def test_a_slice_may_leave_out_its_axes_and_steps() -> None:
    agrees("y = Slice(x, s, e)", 13, constants={"s": [1, 2], "e": [3, 4]}, x=(3, 5, 4))


@pytest.mark.parametrize("opset", [7, 9])
def test_a_slice_with_attributes(opset: int) -> None:
    agrees("y = Slice <axes = [1], starts = [1], ends = [-1]> (x)", opset, dynamic=False, x=(3, 5, 4))


def test_a_slice_whose_bounds_are_computed() -> None:
    body = "n = Shape(x)  e = Slice(n, two, three)  s = Sub(e, two)  y = Slice(x, s, e, two)"
    agrees(body, 13, constants={"two": [2], "three": [3]}, x=(3, 5, 4))


def test_an_old_slice_over_sizes_of_the_run_ends_the_path() -> None:
    ended = reasons("y = Slice <axes = [1], starts = [-2], ends = [9]> (x)", 9, x=(3, 4))
    assert ended == ["Slice: opset 9 has no Pad of sizes known only at run time"]


@pytest.mark.parametrize(
    ("body", "opset", "constants"),
    [
        ("y = Pad(x, p)", 13, {"p": [0, 1, 2, 0]}),
        ("y = Pad(x, p)", 11, {"p": [0, -1, 2, 1]}),
        ("y = Pad(x, p, v)", 13, {"p": [1, 1, 1, 1], "v": np.array(0.5)}),
        ("y = Pad(x, p, , a)", 18, {"p": [1, 2], "a": [1]}),
        ("y = Pad <pads = [0, 1, 2, 0], value = 3.0> (x)", 9, {}),
        ("n = Shape(x)  p = Concat <axis = 0> (n, n)  y = Pad(x, p)", 13, {}),
    ],
    ids=str,
)
def test_padding_is_cut_off(body: str, opset: int, constants: dict[str, Any]) -> None:
    agrees(body, opset, constants=constants, x=(2, 3))


def test_padding_by_reflection_ends_the_path() -> None:
    ended = reasons('y = Pad <mode = "reflect"> (x, p)', 13, constants={"p": [0, 1, 0, 1]}, x=(2, 3))
    assert ended == ["Pad: no rule for mode reflect"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    agrees(f'y = DepthToSpace <blocksize = 2, mode = "{mode}"> (x)', 13, x=(2, 8, 2, 3))


def test_space_to_depth() -> None:
    agrees("y = SpaceToDepth <blocksize = 2> (x)", 13, x=(2, 2, 4, 6))


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (3,), ()], ids=str)
@pytest.mark.parametrize("opset", [8, 13])
def test_expand_sums_what_it_repeated(shape: tuple[int, ...], opset: int) -> None:
    agrees("y = Expand(x, s)", opset, constants={"s": [4, 2, 3]}, x=shape)
