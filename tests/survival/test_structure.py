"""Graphs as exporters write them: bodies, functions, shared weights, inputs that are constants, odd names and axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

import onnx_dalr
from tests.graph.helpers import initializers, model, ops, values, with_constant_nodes
from tests.survival.helpers import (
    WIDE,
    W,
    checked,
    compressed,
    feeds,
    largest_error,
    optimize,
    reasons,
    rows,
    signature,
    untouched,
)


def expect_same(proto: ModelProto, result: onnx_dalr.Result, layers: set[str], error: float = 0.02, **fed: Any) -> None:
    """The layers and no others are compressed, the model is valid, its callers see the same, results stay close."""
    assert compressed(result) == layers
    made = checked(result)
    assert signature(made) == signature(proto)
    assert largest_error(proto, made, {"x": WIDE[80:], **fed}) < error


# Bodies of control flow and model-local functions.

IF = """g (float[N,64] x, bool c) => (float[N,64] y) {
    [fc] h = MatMul(x, W)
    [branch] y = If (c) <
        then_branch = t () => (float[N,64] a) { [inner] m = MatMul(h, V)  a = Add(m, b) },
        else_branch = e () => (float[N,64] d) { [other] d = Gemm(h, U, b) }
    >
}"""
LOOP = """g (float[N,64] x, int64 count, bool go) => (float[N,64] y) {
    [fc] h = MatMul(x, W)
    [loop] y = Loop (count, go, h) <body = body (int64 i, bool c, float[N,64] s) => (bool k, float[N,64] t) {
        k = Identity(c)
        [step] p = MatMul(s, V)
        t = Tanh(p)
    }>
}"""
SCAN = """g (float[N,64] x, float[64] start) => (float[64] last, float[N,64] y) {
    [fc] h = MatMul(x, W)
    [scan] last, y = Scan <num_scan_inputs = 1, body = body (float[64] s, float[64] r) => (float[64] q, float[64] t) {
        one = Add(s, r)
        axis = Constant <value = int64[1] {0}> ()
        row = Unsqueeze(one, axis)
        [step] p = MatMul(row, V)
        flat = Squeeze(p, axis)
        q = Tanh(flat)
        t = Identity(q)
    }> (start, h)
}"""
BODIES = {
    "If": (
        IF,
        {"c": np.array(True)},
        {"W": W["W"], "V": W["V"], "U": W["U"], "b": (64,)},
        "branch",
        {"inner", "other"},
    ),
    "Loop": (LOOP, {"count": np.array(3), "go": np.array(True)}, {"W": W["W"], "V": W["V"]}, "loop", {"step"}),
    "Scan": (SCAN, {"start": np.zeros(64, np.float32)}, {"W": W["W"], "V": W["V"]}, "scan", {"step"}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_left_byte_for_byte_and_its_layers_are_explained(kind: str) -> None:
    text, fed, weights, node, inner = BODIES[kind]
    proto = model(text, **weights)
    result = optimize(proto, calib=feeds(**fed), rank=12)
    expect_same(proto, result, {"fc"}, error=0.05, **fed)
    assert untouched(proto, result, node)
    assert set(reasons(result)) == inner
    assert all(reason.startswith("inside a subgraph (") for reason in reasons(result).values())


@pytest.mark.parametrize("kind", BODIES)
def test_weights_that_only_bodies_read_stay_as_they_are(kind: str) -> None:
    text, fed, weights, _, _ = BODIES[kind]
    proto = model(text, **weights)
    result = optimize(proto, calib=feeds(**fed), rank=12)
    before, after = initializers(proto), initializers(result.model)
    for name in set(weights) - {"W"}:
        np.testing.assert_array_equal(after[name], before[name])
    assert "W" not in after


@pytest.mark.parametrize("kind", BODIES)
def test_a_weight_shared_between_the_graph_and_a_body_is_left_alone(kind: str) -> None:
    text, fed, weights, node, _ = BODIES[kind]
    text = (
        text.replace(", V)", ", W)")
        .replace("[fc] h", "[free] f = MatMul(x, Z)\n    [fc] h")
        .replace("(x, W)", "(f, W)")
    )
    proto = model(text, **(weights | {"Z": W["Z"]}))
    result = optimize(proto, calib=feeds(**fed), rank=12)
    expect_same(proto, result, {"free"}, error=0.05, **fed)
    assert reasons(result)["fc"].startswith("its weight is also read by a node inside a subgraph")
    assert untouched(proto, result, node, "fc")
    np.testing.assert_array_equal(initializers(result.model)["W"], W["W"])


def test_a_bias_that_a_body_reads_keeps_its_values_there() -> None:
    text = IF.replace("[fc] h = MatMul(x, W)", "[fc] h = Gemm(x, W, b)")
    proto = model(text, **BODIES["If"][2])
    result = optimize(proto, calib=feeds(c=np.array(True)), rank=12)
    expect_same(proto, result, {"fc"}, c=np.array(False))
    np.testing.assert_array_equal(initializers(result.model)["b"], initializers(proto)["b"])


FUNCTION = """<ir_version: 10, opset_import: ["" : 17, "local" : 1]>
g (float[N,64] x) => (float[N,64] y) {
    [fc] h = MatMul(x, W)
    [call] y = local.Linear(h, V)
}
<domain: "local", opset_import: ["" : 17]>
Linear (x, w) => (y) { [inner] p = MatMul(x, w)  y = Tanh(p) }"""


def test_a_model_local_function_is_left_byte_for_byte() -> None:
    proto = model(FUNCTION, W=W["W"], V=W["V"])
    result = optimize(proto, calib=feeds(), rank=12)
    expect_same(proto, result, {"fc"}, error=0.05)
    assert [f.SerializeToString() for f in result.model.functions] == [f.SerializeToString() for f in proto.functions]
    assert untouched(proto, result, "call")
    assert reasons(result) == {"inner": "inside the model-local function 'Linear'"}


def test_a_weight_handed_to_a_function_as_well_is_left_alone() -> None:
    proto = model(
        FUNCTION.replace("(h, V)", "(h, W)")
        .replace("[fc]", "[free] f = MatMul(x, Z)  [fc]")
        .replace("(x, W)", "(f, W)"),
        W=W["W"],
        Z=W["Z"],
    )
    result = optimize(proto, calib=feeds(), rank=12)
    expect_same(proto, result, {"free"}, error=0.05)
    assert reasons(result)["fc"] == "its weight is also read by Linear 'call', so factoring would not remove it"


# Initializers that are graph inputs as well: their values are taken as constants.


def overridable(ir_version: int) -> ModelProto:
    proto = model(
        """g (float[N,64] x) => (float[N,64] y) {
            [fc] h = Gemm(x, W, b)
            t = Tanh(h)
            y = Mul(t, scale)
        }""",
        ir_version=ir_version,
        opset=8 if ir_version == 3 else 17,
        checked=False,
        W=W["W"],
        b=(64,),
        scale=(64,),
    )
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def session_inputs(proto: ModelProto) -> list[str]:
    from tests.graph.helpers import session

    return [value.name for value in session(proto).get_inputs()]


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_initializers_that_are_inputs_are_constants_to_us(ir_version: int) -> None:
    proto = overridable(ir_version)
    result = optimize(proto, calib={"x": WIDE[:80]}, rank=12)
    assert compressed(result) == {"fc"}
    assert largest_error(proto, checked(result), {"x": WIDE[80:]}) < 0.05
    assert session_inputs(result.model) == session_inputs(proto) == ["x"]


def test_before_ir_version_4_the_factors_take_the_old_weights_place_among_the_inputs() -> None:
    result = optimize(overridable(3), calib={"x": WIDE[:80]}, rank=12)
    names = [value.name for value in checked(result).graph.input]
    assert names[:2] == ["x", "scale"]
    assert set(names[2:]) == {"W.dalr_A", "W.dalr_B", "b.dalr"}


@pytest.mark.parametrize("ir_version", [4, 8])
def test_from_ir_version_4_on_the_factors_are_no_inputs_and_the_other_inputs_stay(ir_version: int) -> None:
    result = optimize(overridable(ir_version), calib={"x": WIDE[:80]}, rank=12)
    assert [value.name for value in checked(result).graph.input] == ["x", "scale"]


def test_what_was_overridable_and_is_not_ours_can_still_be_overridden() -> None:
    proto = overridable(8)
    result = optimize(proto, calib={"x": WIDE[:80]}, rank=12)
    fed = {"x": WIDE[80:], "scale": np.full(64, 3, np.float32)}
    assert largest_error(proto, result.model, fed) < 0.05


# Tied weights.


@pytest.mark.parametrize("way", ["MatMul(e, t)", "Gemm <transB = 1> (e, table)"])
def test_an_embedding_that_is_also_the_last_layer_is_left_alone(way: str) -> None:
    transposed = "t = Transpose(table)" if "t)" in way.split(",")[1] and "table" not in way else ""
    proto = model(
        f"""g (int64[N] x) => (float[N,80] y) {{
            e0 = Gather(table, x)
            [fc] e = MatMul(e0, W)
            {transposed}
            [head] y = {way}
        }}""",
        table=values("table", (80, 64)),
        W=W["W"],
    )
    ids = np.random.default_rng(0).integers(0, 80, 96)
    result = optimize(proto, calib=ids[:80], rank=30)
    assert compressed(result) == {"fc"}
    assert "is also read by Gather" in reasons(result)["head"]
    np.testing.assert_array_equal(initializers(checked(result))["table"], initializers(proto)["table"])
    assert largest_error(proto, result.model, {"x": ids[80:]}) < 0.8


@pytest.mark.parametrize("constants", [(), ("W",)], ids=["initializer", "Constant node"])
def test_gemms_that_transpose_a_shared_weight_differently_are_left_alone(constants: tuple[str, ...]) -> None:
    proto = model(
        """g (float[N,64] x) => (float[N,64] y, float[N,64] z) {
            [free] f = MatMul(x, Z)
            [a] y = Gemm(f, W)
            [b] z = Gemm <transB = 1> (f, W)
        }""",
        W=W["W"],
        Z=W["Z"],
    )
    proto = with_constant_nodes(proto, *constants)
    result = optimize(proto, calib=feeds(), rank=12)
    expect_same(proto, result, {"free"})
    assert set(reasons(result).values()) == {"its users transpose, scale or cast the shared weight differently"}
    assert untouched(proto, result, "a", "b")


def test_one_weight_of_three_nodes_is_one_layer() -> None:
    proto = model(
        """g (float[N,64] x) => (float[N,64] y) {
            [a] h = MatMul(x, W)  p = Mul(h, h)
            [b] i = MatMul(h, W)  j = Add(i, d)
            [c] k = Gemm(j, W, b)
            y = Add(k, p)
        }""",
        W=W["W"],
        b=(64,),
        d=(64,),
    )
    result = optimize(proto, calib=feeds(), rank=24)
    (layer,) = result.layers
    assert layer.nodes == ("a", "b", "c")
    expect_same(proto, result, {layer.name}, error=0.1)
    assert ops(result.model).count("MatMul") == 6
    assert sum(name.endswith(("dalr_A", "dalr_B")) for name in initializers(result.model)) == 2


# What is read where.


@pytest.mark.parametrize("output", [False, True], ids=["by a node", "by the caller"])
def test_a_product_read_before_and_after_its_bias_is_added(output: bool) -> None:
    extra = ", float[N,64] p" if output else ""
    proto = model(
        f"""g (float[N,64] x) => (float[N,64] y, float[N,64] z{extra}) {{
            [fc] p = MatMul(x, W)
            y = Add(p, b)
            z = Tanh(p)
        }}""",
        W=W["W"],
        b=(64,),
    )
    expect_same(proto, optimize(proto, calib=feeds(), rank=12), {"fc"})


@pytest.mark.parametrize(
    "graph",
    [
        "[fc] y = MatMul(x, W)  z = Tanh(y)",
        "[fc] y = Gemm <beta = 0.5> (x, W, b)  z = Tanh(y)",
        "[fc] p = MatMul(x, W)  y = Add(b, p)  z = Tanh(y)",
    ],
)
def test_a_layer_whose_result_is_an_output_of_the_graph(graph: str) -> None:
    proto = model(f"g (float[N,64] x) => (float[N,64] y, float[N,64] z) {{ {graph} }}", W=W["W"], b=(64,))
    expect_same(proto, optimize(proto, calib=feeds(), rank=12), {"fc"})


@pytest.mark.parametrize("names", [("", ""), ("V", "W"), ("y", "x"), ("a b/c:0", "ü–ж")], ids=str)
def test_nodes_with_no_names_or_names_of_others(names: tuple[str, str]) -> None:
    proto = model("g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, W)  y = MatMul(h, V) }", W=W["W"], V=W["V"])
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    result = optimize(proto, calib=feeds(), rank=12)
    assert len({layer.name for layer in result.layers}) == 2
    expect_same(proto, result, {layer.name for layer in result.layers})
    made = [node.name for node in result.model.graph.node]
    assert len(set(made)) == len(made)


def test_two_nodes_of_one_name_are_refused_as_onnxruntime_refuses_them() -> None:
    proto = model("g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, W)  y = MatMul(h, V) }", W=W["W"], V=W["V"])
    for node in proto.graph.node:
        node.name = "same"
    with pytest.raises(onnx_dalr.InputError, match="two nodes with same node name"):
        optimize(proto, calib=feeds(), rank=12)


def test_symbolic_axes_that_inputs_share_stay_shared() -> None:
    proto = model(
        """g (float[batch,time,64] x, float[batch,time,64] m) => (float[batch,time,64] y) {
            [fc] h = MatMul(x, W)  b = Add(h, d)
            y = Mul(b, m)
        }""",
        W=W["W"],
        d=(64,),
    )
    x = rows((48, 5, 64))
    result = optimize(proto, calib={"x": x, "m": np.ones_like(x)}, rank=12)
    assert compressed(result) == {"fc"}
    assert signature(checked(result)) == signature(proto)
    for time in (1, 9):
        part = rows((2, time, 64))
        assert largest_error(proto, result.model, {"x": part, "m": np.ones_like(part)}) < 0.05
