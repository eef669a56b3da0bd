"""Sizes that a model computes for itself, told before it runs."""

from __future__ import annotations

import onnx
import pytest

from onnx_dalr.gradient.sizes import reshaped_to
from onnx_dalr.graph.shapes import Dims


def told(body: str, x: Dims, **values: list[int]) -> Dims | None:
    text = f'<ir_version: 8, opset_import: ["": 9]> g (float[A] x) => (float[] y) {{ {body} }}'
    return reshaped_to(onnx.parser.parse_model(text).graph.node, values, {"x": x}).get("y")


@pytest.mark.parametrize(
    ("shape", "x", "expected"),
    [
        ([2, 3], (6,), (2, 3)),
        ([2, -1], (6,), (2, 3)),
        ([2, -1], (None,), (2, None)),
        ([0, -1], (None, 4), (None, None)),
        ([0, -1, 2], (3, 4), (3, 2, 2)),
    ],
    ids=str,
)
def test_a_constant_shape(shape: list[int], x: Dims, expected: Dims) -> None:
    assert told("y = Reshape(x, s)", x, s=shape) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("n = Shape(x)  y = Reshape(x, n)", (None, 4, 6)),
        ("n = Shape(x)  s = Slice <starts = [1], ends = [9]> (n)  y = Reshape(x, s)", (4, 6)),
        ("n = Shape(x)  s = Slice(n, one, two)  y = Reshape(x, s)", (4,)),
        ("n = Shape(x)  d = Gather(n, two)  s = Concat <axis = 0> (rest, d)  y = Reshape(x, s)", (None, 6)),
        ("n = Shape(x)  d = Gather(n, one)  e = Mul(d, two)  y = Reshape(x, e)", (8,)),
        ("n = Shape(x)  e = Add(n, two)  y = Reshape(x, e)", (None, 6, 8)),
        ("n = Shape(x)  d = Cast <to = 7> (n)  e = Sub(d, one)  y = Reshape(x, e)", (None, 3, 5)),
    ],
)
def test_a_computed_shape(body: str, expected: Dims) -> None:
    assert told(body, (None, 4, 6), one=[1], two=[2], rest=[-1]) == expected


@pytest.mark.parametrize(
    "body",
    [
        "n = Shape(unknown)  y = Reshape(x, n)",
        "n = NonZero(x)  y = Reshape(x, n)",
        "n = Shape(x)  s = Slice(n, many, many)  y = Reshape(x, s)",
        "n = Shape(x)  s = Slice(n, one, one, zero, two)  y = Reshape(x, s)",
        "n = Shape(x)  s = Add(n, many)  y = Reshape(x, s)",
    ],
)
def test_what_cannot_be_told_is_left_open(body: str) -> None:
    assert told(body, (None, 4, 6), zero=[0], one=[1], two=[2], many=[0, 1]) is None


@pytest.mark.parametrize("op", ["Identity", "Shape", "Gather", "Slice", "Add", "Reshape", "Concat"])
@pytest.mark.parametrize("inputs", [[], ["one"]], ids=str)
@pytest.mark.parametrize("outputs", [[], ["s"]], ids=str)
def test_of_a_damaged_node_nothing_is_told_and_the_others_go_on(op: str, inputs: list[str], outputs: list[str]) -> None:
    nodes = [onnx.helper.make_node(op, inputs, outputs), onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])]
    assert reshaped_to(nodes, {"one": [1], "shape": [2, 3]}, {"x": (6,)})["y"] == (2, 3)
