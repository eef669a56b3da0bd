"""What a layer kind owns: its rows, its matrix, its nodes; and that a new one is a file and a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import STRUCTURES, Structure
from onnx_dalr.graph import kinds
from onnx_dalr.graph.contents import contents
from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds import Kind, Refused, Replacement, Use
from onnx_dalr.graph.kinds.conv import Conv
from onnx_dalr.graph.kinds.conv_transpose import ConvTranspose
from onnx_dalr.graph.kinds.gemm import Gemm
from onnx_dalr.graph.kinds.matmul import MatMul
from onnx_dalr.graph.kinds.matrices import MatrixLayout, RightMatrix
from onnx_dalr.graph.kinds.operands import constant_matrix, constant_operand
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.roles import role
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import (
    assert_same_outputs,
    initializers,
    model,
    only_layer,
    ops,
    rewritten,
    run,
    some_feeds,
)

FORMS = {
    "Gemm": "(float[5,6] x) => (float[5,8] y) { y = Gemm(x, W) }",
    "Gemm, alpha": "(float[5,6] x) => (float[5,8] y) { y = Gemm <alpha = -2.0, transB = 1> (x, V) }",
    "Gemm, transA": "(float[6,5] x) => (float[5,8] y) { y = Gemm <transA = 1> (x, W) }",
    "MatMul": "(float[2,5,6] x) => (float[2,5,8] y) { y = MatMul(x, W) }",
    "MatMul of a vector": "(float[6] x) => (float[8] y) { y = MatMul(x, W) }",
    "Conv along one axis": "(float[3,6,7] x) => (float[3,8,5] y) { y = Conv <strides = [2], pads = [1, 2]> (x, K1) }",
    "Conv": "(float[3,6,4,6] x) => (float[3,8,4,3] y) { y = Conv <strides = [1, 2]> (x, K2) }",
    "Conv in space": "(float[1,6,2,3,4] x) => (float[1,8,4,3,4] y) { y = Conv <pads = [1, 0, 0, 1, 0, 0]> (x, K3) }",
}
WEIGHTS = {"W": (6, 8), "V": (8, 6), "K1": (8, 6, 1), "K2": (8, 6, 1, 1), "K3": (8, 6, 1, 1, 1)}


def made(form: str) -> ModelProto:
    weight = next(name for name in WEIGHTS if f", {name})" in FORMS[form])
    return model(f"g {FORMS[form]}", **{weight: WEIGHTS[weight]})


@pytest.mark.parametrize("form", FORMS)
def test_rows_times_the_matrix_are_the_answers(form: str) -> None:
    proto = made(form)
    layer = only_layer(proto)
    (use,) = layer.uses
    W, feeds = matrix(Model(proto), layer), some_feeds(proto)
    rows, answers = use.rows(feeds["x"]), use.answers(run(proto, feeds)["y"])
    assert (rows.shape[-1], answers.shape[-1], W.shape) == (layer.n, layer.m, (layer.m, layer.n))
    np.testing.assert_allclose(rows @ W.T, answers, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_stored_is_the_matrix_and_back(form: str) -> None:
    proto = made(form)
    layer = only_layer(proto)
    ((name, stored),) = initializers(proto).items()
    back = layer.kind.unmatrix(matrix(Model(proto), layer), stored.shape, layer.uses[0])
    np.testing.assert_allclose(back, stored, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_the_count_of_rows_is_that_of_the_rows_without_padding(form: str) -> None:
    proto = made(form)
    layer = only_layer(proto)
    (use,) = layer.uses
    entries = some_feeds(proto)["x"].size
    expected = entries / 6 / (2 if "strides" in FORMS[form] else 1)
    assert use.row_count(entries, layer.shape) == expected
    if "pads" not in FORMS[form]:
        assert expected == use.rows(some_feeds(proto)["x"]).size / 6


def test_padded_convolutions_read_the_zeros_and_step_over_positions() -> None:
    (use,) = only_layer(made("Conv along one axis")).uses
    x = np.tile(np.arange(1.0, 8.0), (1, 6, 1))
    assert use.rows(x)[0, :, 0].tolist() == [0, 2, 4, 6, 0]


@pytest.mark.parametrize(
    ("kind", "shape", "names"),
    [
        (Gemm(), Shape(8, 6), ["pair"]),
        (MatMul(), Shape(8, 6), ["pair"]),
        (Conv(), Shape(8, 6, (1, 1)), ["pair"]),
        (Conv(), Shape(8, 18, (3,)), ["out", "in", "tucker"]),
        (Conv(), Shape(8, 54, (3, 3)), ["out", "in", "v", "h", "tucker"]),
        (Conv(), Shape(8, 18, (1, 3)), ["out", "in", "tucker"]),
        (Conv(), Shape(8, 162, (3, 3, 3)), ["out", "in", "tucker"]),
        (ConvTranspose(), Shape(8, 18, (3,)), ["out", "in"]),
        (ConvTranspose(), Shape(8, 54, (3, 3)), ["out", "in"]),
    ],
)
def test_how_a_kind_can_be_taken_apart(kind: Kind, shape: Shape, names: list[str]) -> None:
    assert [structure.name for structure in kind.structures(shape)] == names
    assert kind in kinds.KINDS


@dataclass(frozen=True)
class Sums(RightMatrix):
    """Einsum "...i,io->...o": what a new kind has to say."""

    ops: ClassVar[tuple[str, ...]] = ("Einsum",)

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        weight = constant_matrix(node, index)
        if isinstance(weight, Refused):
            return weight
        data, output = node.input[0], node.output[0]
        return Use(self, node.op_type, handle, node.name, data, weight.name, MatrixLayout(weight.transposed), output)

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        output = new.tensor("sum") if new.bias else use.output
        made = [
            new.node(node, link.role, "Einsum", [data, link.operand], found, equation="...i,io->...o")
            for link, data, found in new.chain(use.data, output)
        ]
        return [*made, new.node(node, "bias", "Add", [output, new.bias], use.output)] if new.bias else made


EINSUM = model(
    'g (float[2,N,6] x) => (float[2,N,8] y) { [sum] y = Einsum <equation = "...i,io->...o"> (x, W) }', W=(6, 8)
)


def test_a_new_kind_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(Model(EINSUM)) == ([], [])
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, Sums()))
    layer = only_layer(EINSUM)
    assert (layer.name, layer.op, layer.kind, layer.m, layer.n) == ("sum", "Einsum", Sums(), 8, 6)
    made = rewritten(EINSUM, 0.5)
    assert ops(made) == ["Einsum", "Einsum", "Add"]
    assert_same_outputs(EINSUM, made, moved_by=0.5)
    fed, overrides = overridable(Model(EINSUM), [layer])
    feeds = some_feeds(EINSUM)
    feeds |= overrides["sum"].feed(2 * matrix(Model(EINSUM), layer), np.zeros(8))
    np.testing.assert_allclose(run(fed, feeds)["y"], 2 * run(EINSUM)["y"], rtol=1e-5, atol=1e-5)
    (tensor,) = contents(Model(EINSUM)).tensors
    assert role(tensor, {"W"}, {}).reason is None


@dataclass(frozen=True)
class InTwo(Conv):
    """Another kind for Conv, as far as finding goes."""

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        found = constant_operand(node, index)
        if isinstance(found, Refused) or attribute(node, "group", 1) not in (1, 2):
            return Refused("no")
        return Use(self, node.op_type, handle, node.name, node.input[0], found.name, None, node.output[0])

    def structures(self, shape: Shape) -> tuple[Structure, ...]:
        return (STRUCTURES["out"],) if shape.kernel else ()


def test_of_kinds_that_read_one_operator_the_first_that_takes_a_node_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = "[two] y = Conv <group = 2> (x, K)  [three] z = Conv <group = 3> (x, L)  [one] w = Conv(x, M)"
    proto = model(
        f"g (float[N,6,5,5] x) => (float[N,8,3,3] y, float[N,9,3,3] z, float[N,8,3,3] w) {{ {nodes} }}",
        K=(8, 3, 3, 3),
        L=(9, 2, 3, 3),
        M=(8, 6, 3, 3),
    )
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, InTwo()))
    layers, (skipped,) = find(Model(proto))
    assert [(layer.name, layer.kind) for layer in layers] == [("two", InTwo()), ("one", Conv())]
    assert layers[0].shape == Shape(8, 27, (3, 3))
    assert skipped.reason == "grouped convolution (3 groups): only one group is supported"
