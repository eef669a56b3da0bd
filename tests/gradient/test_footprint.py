"""How much memory the values of a model take, told from what is fed."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from onnx_dalr.gradient import activation_bytes, entries_on, sizes_on
from tests.gradient.helpers import model

X = np.zeros((1, 8, 16, 16), np.float32)


def convolutions(*, dynamic: bool = True) -> ModelProto:
    body = "h = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, K)  y = Relu(h)"
    return model(body, 17, {"x": X}, {"K": np.zeros((64, 8, 3, 3), np.float32)}, dynamic=dynamic)


def test_it_counts_what_nodes_make_at_the_shapes_that_are_fed() -> None:
    assert activation_bytes(convolutions(), {"x": (1, 8, 16, 16)}) == 2 * 4 * 64 * 16 * 16
    assert activation_bytes(convolutions(), {"x": (3, 8, 16, 32)}) == 6 * 2 * 4 * 64 * 16 * 16


def test_an_axis_that_nobody_tells_counts_as_one() -> None:
    assert activation_bytes(convolutions(), {}) == 2 * 4 * 64
    assert activation_bytes(convolutions(dynamic=False), {}) == 2 * 4 * 64 * 16 * 16


def test_element_types_count() -> None:
    proto = model("y = Tanh(x)  i = Cast <to = 7> (y)", 17, {"x": np.zeros((2, 5))}, dynamic=True)
    assert activation_bytes(proto, {"x": (2, 5)}) == 10 * (8 + 8)
    half = model("y = Tanh(x)", 17, {"x": np.zeros((2, 5), np.float16)}, dynamic=True)
    assert activation_bytes(half, {"x": (2, 5)}) == 10 * 2


def test_what_cannot_be_told_counts_as_nothing() -> None:
    proto = model("h = Tanh(x)  u = custom.Mystery(h)  y = Exp(u)", 17, {"x": np.zeros((2, 5))}, dynamic=True)
    assert activation_bytes(proto, {"x": (2, 5)}) < 10 * 8 * 2


def test_the_model_is_left_as_it_is() -> None:
    proto = convolutions()
    before = proto.SerializeToString()
    activation_bytes(proto, {"x": (1, 8, 16, 16)})
    assert proto.SerializeToString() == before


def test_entries_are_told_of_what_is_fed_and_of_what_is_made() -> None:
    found = entries_on(convolutions(), {"x": (2, 8, 16, 16)})
    assert (found["x"], found["h"], found["y"]) == (2 * 8 * 256, 2 * 64 * 256, 2 * 64 * 256)
    unknown = model("h = Tanh(x)  u = custom.Mystery(h)  y = Exp(u)", 17, {"x": np.zeros((2, 5))}, dynamic=True)
    assert "u" not in entries_on(unknown, {"x": (2, 5)})


def test_what_is_damaged_is_no_reason_to_fail() -> None:
    fed = {"x": (3, 4)}
    x = {"x": np.zeros((3, 4), np.float32)}
    refused, empty = (model("y = Relu(x)", 17, x, dynamic=True) for _ in range(2))
    twice = helper.make_function("local", "twice", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    refused.functions.extend([twice, twice])  # shape inference does not take these
    assert sizes_on(refused, fed)["x"] == (3, 4)
    makes_nothing = helper.make_node("Constant", [], [], value=numpy_helper.from_array(np.zeros(2, np.float32)))
    empty.graph.node.append(makes_nothing)
    assert sizes_on(empty, fed)["x"] == (3, 4)
