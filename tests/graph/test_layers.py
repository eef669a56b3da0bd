"""What is a Layer: the Gemm and MatMul forms that are found, what is taken as their bias, how they are named."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.graph.handle import MAIN, Handle
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import initializers, layers_of, model, only_layer, values, with_constant_nodes

GEMM = "g (float[N,6] x) => (float[N,8] y) {{ [fc] y = Gemm <{}> (x, W, b) }}"


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
def test_the_matrix_of_a_gemm_is_what_multiplies_a_row_from_the_left(trans_b: int, alpha: float) -> None:
    W = values("W", (8, 6))
    proto = model(GEMM.format(f"alpha = {alpha}, transB = {trans_b}"), W=W if trans_b else W.T.copy(), b=(8,))
    layer = only_layer(proto)
    assert (layer.name, layer.op, layer.weight, layer.m, layer.n) == ("fc", "Gemm", "W", 8, 6)
    assert (layer.params, layer.dtype) == (48, np.float32)
    np.testing.assert_allclose(matrix(Model(proto), layer), alpha * W, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (8,), (1, 8), (1, 1)], ids=str)
def test_a_constant_row_is_the_bias_of_a_gemm(shape: tuple[int, ...]) -> None:
    (use,) = only_layer(model(GEMM.format("beta = 2.0"), W=(6, 8), b=shape)).uses
    assert (use.bias, use.bias_scale, use.loose_bias) == ("b", 2.0, None)


@pytest.mark.parametrize("shape", [(5, 8), (5, 1)], ids=str)
def test_a_bias_that_differs_from_row_to_row_stays_loose(shape: tuple[int, ...]) -> None:
    proto = model("g (float[5,6] x) => (float[5,8] y) { y = Gemm(x, W, b) }", W=(6, 8), b=shape)
    (use,) = only_layer(proto).uses
    assert (use.bias, use.loose_bias) == (None, "b")


def test_a_bias_that_is_computed_stays_loose() -> None:
    proto = model("g (float[N,6] x, float[8] b) => (float[N,8] y) { y = Gemm(x, W, b) }", W=(6, 8))
    (use,) = only_layer(proto).uses
    assert (use.bias, use.loose_bias) == (None, "b")


@pytest.mark.parametrize("inputs", ["x, W", "x, W, "])
def test_a_gemm_needs_no_bias(inputs: str) -> None:
    proto = model(f"g (float[N,6] x) => (float[N,8] y) {{ y = Gemm({inputs}) }}", W=(6, 8))
    (use,) = only_layer(proto).uses
    assert (use.bias, use.loose_bias) == (None, None)


def test_a_bias_times_zero_is_no_bias() -> None:
    (use,) = only_layer(model(GEMM.format("beta = 0.0"), W=(6, 8), b=(8,))).uses
    assert (use.bias, use.loose_bias) == (None, None)


def test_the_rows_of_a_transposed_gemm_input_are_its_columns() -> None:
    proto = model("g (float[6,N] x) => (float[N,8] y) { y = Gemm <transA = 1> (x, W) }", W=(6, 8))
    x = values("x", (6, 3))
    np.testing.assert_array_equal(only_layer(proto).uses[0].rows(x), x.T)


@pytest.mark.parametrize("leading", ["", "N,", "2,N,", "2,3,N,"], ids=["1-D", "2-D", "3-D", "4-D"])
@pytest.mark.parametrize("add", ["p, b", "b, p"])
def test_a_matmul_of_any_rank_takes_the_bias_of_the_add_that_follows(leading: str, add: str) -> None:
    proto = model(
        f"g (float[{leading}6] x) => (float[{leading}8] y) {{ p = MatMul(x, W)  y = Add({add}) }}", W=(6, 8), b=(8,)
    )
    layer = only_layer(proto)
    assert (layer.op, layer.m, layer.n) == ("MatMul", 8, 6)
    assert (layer.uses[0].bias, layer.uses[0].add) == ("b", Handle(MAIN, 1))


@pytest.mark.parametrize(
    "text",
    {
        "no Add": "g (float[N,6] x) => (float[N,8] p) { p = MatMul(x, W) }",
        "product read by two nodes": "g (float[N,6] x) => (float[N,8] y, float[N,8] z)"
        "{ p = MatMul(x, W)  y = Add(p, b)  z = Relu(p) }",
        "product is an output": "g (float[N,6] x) => (float[N,8] p, float[N,8] y) { p = MatMul(x, W)  y = Add(p, b) }",
        "product added to itself": "g (float[N,6] x) => (float[N,8] y) { p = MatMul(x, W)  y = Add(p, p) }",
        "computed addend": "g (float[N,6] x, float[8] c) => (float[N,8] y) { p = MatMul(x, W)  y = Add(p, c) }",
        "addend of many rows": "g (float[5,6] x) => (float[5,8] y) { p = MatMul(x, W)  y = Add(p, rows) }",
        "something between": "g (float[N,6] x) => (float[N,8] y) { p = MatMul(x, W)  r = Relu(p)  y = Add(r, b) }",
        "not an Add": "g (float[N,6] x) => (float[N,8] y) { p = MatMul(x, W)  y = Sub(p, b) }",
        "read in a body": """g (float[N,6] x, bool c) => (float[N,8] y, float[N,8] z) {
            p = MatMul(x, W)
            y = Add(p, b)
            z = If (c) <then_branch = t () => (float[N,8] a) { a = Relu(p) },
                        else_branch = e () => (float[N,8] d) { d = Neg(p) }>
        }""",
        "handed on by a body": """g (float[N,6] x, bool c) => (float[N,8] y, float[N,8] z) {
            p = MatMul(x, W)
            y = Add(p, b)
            z = If (c) <then_branch = t () => (float[N,8] p) {}, else_branch = e () => (float[N,8] d) { d = Neg(y) }>
        }""",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_matmul_has_no_bias_unless_one_add_alone_reads_it(text: tuple[str, str]) -> None:
    proto = model(text[1], checked=False, W=(6, 8), b=(8,), rows=(5, 8))
    (layer,) = [layer for layer in layers_of(proto) if layer.weight == "W"]
    assert (layer.uses[0].bias, layer.uses[0].add) == (None, None)


@pytest.mark.parametrize("shape", [(), (1,), (8,), (1, 8), (1, 1, 8)], ids=str)
def test_the_row_added_to_a_matmul_has_any_rank(shape: tuple[int, ...]) -> None:
    proto = model("g (float[2,5,6] x) => (float[2,5,8] y) { p = MatMul(x, W)  y = Add(p, b) }", W=(6, 8), b=shape)
    assert only_layer(proto).uses[0].bias == "b"


def test_an_add_may_be_read_by_many() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y, float[N,8] a, float[N,8] r)"
        "{ p = MatMul(x, W)  y = Add(p, b)  a = Abs(y)  r = Relu(y) }",
        W=(6, 8),
        b=(8,),
    )
    assert only_layer(proto).uses[0].bias == "b"


def test_constants_in_constant_nodes_are_constants() -> None:
    stored = model("g (float[N,6] x) => (float[N,8] y) { p = MatMul(x, W)  y = Add(p, b) }", W=(6, 8), b=(8,))
    proto = with_constant_nodes(stored, "W", "b")
    layer = only_layer(proto)
    assert (layer.weight, layer.uses[0].bias) == ("W", "b")
    np.testing.assert_array_equal(matrix(Model(proto), layer), initializers(stored)["W"].T)


def test_one_weight_of_three_nodes_is_one_layer() -> None:
    proto = model(
        """g (float[N,6] x, float[2,N,6] s) => (float[N,8] y, float[N,8] z, float[2,N,8] t) {
            y = Gemm(x, W, b)
            r = Relu(x)
            z = Gemm(r, W)
            t = MatMul(s, W)
        }""",
        W=(6, 8),
        b=(8,),
    )
    layer = only_layer(proto)
    assert layer.weight == "W"
    assert [(use.op, use.output, use.bias) for use in layer.uses] == [
        ("Gemm", "y", "b"),
        ("Gemm", "z", None),
        ("MatMul", "t", None),
    ]


def test_equal_weights_of_two_names_are_two_layers() -> None:
    W = values("W", (6, 8))
    proto = model("g (float[N,6] x) => (float[N,8] y, float[N,8] z) { y = MatMul(x, V)  z = MatMul(x, W) }", W=W, V=W)
    assert [layer.weight for layer in layers_of(proto)] == ["V", "W"]


def test_layers_come_in_graph_order() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,6] y) { h = MatMul(x, W2)  r = Relu(h)  y = Gemm(r, W1) }", W1=(8, 6), W2=(6, 8)
    )
    assert [layer.weight for layer in layers_of(proto)] == ["W2", "W1"]


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("[a] h = MatMul(x, V)  [b] y = MatMul(h, W)", ["a", "b"]),
        ("h = MatMul(x, V)  y = MatMul(h, W)", ["V", "W"]),
        ("[a] h = MatMul(x, V)  [a] y = MatMul(h, W)", ["V", "W"]),
        ("[W] h = MatMul(x, V)  [b] y = MatMul(h, W)", ["V", "b"]),
        ("[W] h = MatMul(x, V)  [V] y = MatMul(h, W)", ["V", "W"]),
        ("[W] h = MatMul(x, V)  y = MatMul(h, W)", ["V", "W"]),
    ],
)
def test_a_layer_is_named_after_its_node_where_that_tells_it_apart_and_after_its_weight_else(
    nodes: str, names: list[str]
) -> None:
    proto = model(f"g (float[N,6] x) => (float[N,6] y) {{ {nodes} }}", V=(6, 8), W=(8, 6))
    assert [layer.name for layer in layers_of(proto)] == names


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double_weights_are_layers(dtype: type) -> None:
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    proto = model(
        f"g ({kind}[N,6] x) => ({kind}[N,8] y) {{ y = Gemm(x, W) }}", W=values("W", (6, 8), dtype), checked=True
    )
    assert only_layer(proto).dtype == dtype


def test_finding_changes_nothing() -> None:
    proto = model(GEMM.format("transB = 1"), W=(8, 6), b=(8,))
    before = proto.SerializeToString(deterministic=True)
    find(Model(proto))
    assert proto.SerializeToString(deterministic=True) == before
