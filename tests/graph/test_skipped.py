"""What looks like a Layer and is none: each with its reason in plain words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import layers_of, model, reason, skipped_of


def test_a_weight_that_is_computed() -> None:
    proto = model("g (float[N,6] x, float[6,8] w) => (float[N,8] y) { [fc] y = MatMul(x, w) }")
    assert reason(proto) == "dynamic weight: both operands are computed at run time"


def test_a_constant_on_the_left() -> None:
    proto = model("g (float[6,N] x) => (float[8,N] y) { y = MatMul(W, x) }", W=(8, 6))
    assert reason(proto) == "its constant is on the left: the weight must be the right operand"


def test_two_constants() -> None:
    proto = model("g (float[8] x) => (float[8,8] y) { p = MatMul(V, W)  y = Add(p, x) }", V=(8, 6), W=(6, 8))
    assert reason(proto) == "both operands are constant"


def test_a_vector() -> None:
    proto = model("g (float[N,6] x) => (float[N] y) { y = MatMul(x, W) }", W=(6,))
    assert reason(proto) == "its weight is a vector, not a matrix"


def test_a_stack_of_matrices() -> None:
    proto = model("g (float[2,N,6] x) => (float[2,N,8] y) { y = MatMul(x, W) }", W=(2, 6, 8))
    assert reason(proto) == "its weight is batched (3-D), not a matrix"


@pytest.mark.parametrize("shape", [(6, 0), (0, 8)], ids=str)
def test_an_empty_weight(shape: tuple[int, int]) -> None:
    proto = model(f"g (float[N,{shape[0]}] x) => (float[N,{shape[1]}] y) {{ y = MatMul(x, W) }}", W=shape)
    assert reason(proto) == "its weight is empty"


@pytest.mark.parametrize("kind", ["int32", "int64", "uint64"])
def test_integers(kind: str) -> None:
    W = np.arange(48, dtype=kind).reshape(6, 8)
    proto = model(f"g ({kind}[N,6] x) => ({kind}[N,8] y) {{ y = MatMul(x, W) }}", W=W)
    assert f"dtype {kind} is not supported" in reason(proto)


@pytest.mark.parametrize("shape", [(1, 100), (100, 1), (2, 2)], ids=str)
def test_a_matrix_too_small_for_any_rank_to_gain(shape: tuple[int, int]) -> None:
    n, m = shape
    proto = model(f"g (float[N,{n}] x) => (float[N,{m}] y) {{ y = MatMul(x, W) }}", W=shape)
    assert reason(proto) == f"too small to gain at any rank ({m}×{n})"


@pytest.mark.parametrize("opset", [1, 6])
def test_an_operator_set_before_7(opset: int) -> None:
    proto = model("g (float[5,6] x) => (float[5,8] y) { y = MatMul(x, W) }", opset=opset, ir_version=8, W=(6, 8))
    assert reason(proto) == f"opset {opset} is too old: convert the model to opset 7 or newer first"


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ("[b] z = Gemm <transB = 1> (x, W)", "the shared weight differently"),
        ("[b] z = Gemm <alpha = 2.0> (x, W)", "the shared weight differently"),
        ("[b] z = Gather(W, i)", "its weight is also read by Gather 'b', so factoring would not remove it"),
        ("z = Relu(W)", "its weight is also read by Relu 'z', so factoring would not remove it"),
    ],
)
def test_a_shared_weight_is_left_alone_by_all_of_its_users_if_by_one(second: str, why: str) -> None:
    proto = model(
        f"g (float[N,8] x, int64[2] i) => (float[N,8] y, float[?,8] z) {{ [a] y = Gemm(x, W)  {second} }}",
        checked=False,
        W=(8, 8),
    )
    layers, skipped = find(Model(proto))
    assert not layers
    assert all(entry.reason.endswith(why) for entry in skipped)
    assert {entry.name for entry in skipped if entry.op == "Gemm"} == ({"a", "b"} if "Gemm" in second else {"a"})
    assert {(entry.weight, entry.shape) for entry in skipped} == {("W", (8, 8))}


def test_a_weight_that_one_node_multiplies_from_the_right_and_another_from_the_left() -> None:
    proto = model(
        "g (float[N,8] x, float[8,M] z) => (float[N,8] y, float[8,M] q) { [a] y = MatMul(x, W)  [b] q = MatMul(W, z) }",
        W=(8, 8),
    )
    assert {entry.name: entry.reason for entry in skipped_of(proto)} == {
        "a": "its weight is also read by MatMul 'b', so factoring would not remove it",
        "b": "its constant is on the left: the weight must be the right operand",
    }


def test_a_weight_that_is_its_own_bias() -> None:
    proto = model("g (float[8,8] x) => (float[8,8] y) { y = Gemm(x, W, W) }", W=(8, 8))
    assert not layers_of(proto)


def test_a_weight_that_training_updates() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { y = MatMul(x, W) }", W=(6, 8))
    step = proto.training_info.add()
    step.algorithm.CopyFrom(onnx.parser.parse_graph("step () => (float[6,8] new) { new = Add(W, W) }"))
    step.update_binding.add(key="W", value="new")
    assert not layers_of(proto)


def test_a_weight_that_is_an_output_of_the_graph() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y, float[6,8] W) { y = MatMul(x, W) }", W=(6, 8))
    assert reason(proto) == "its weight is an output of the graph"


BRANCHES = """g (float[N,6] x, bool c) => (float[N,8] y, float[?,?] z) {{
    [fc] y = MatMul(x, W)
    z = If (c) <then_branch = t () => (float[?,?] a) {{ {} }}, else_branch = e () => (float[?,?] d) {{ d = Neg(y) }}>
}}"""


@pytest.mark.parametrize(
    "then",
    [
        "a = Relu(W)",
        "a = If (c) <then_branch = tt () => (float[?,?] f) { f = Relu(W) }, "
        "else_branch = te () => (float[?,?] h) { h = Neg(y) }>",
    ],
    ids=["body", "body in a body"],
)
def test_a_weight_that_a_body_reads(then: str) -> None:
    proto = model(BRANCHES.format(then), W=(6, 8))
    assert reason(proto) == "its weight is also read by a node inside a subgraph, so factoring would not remove it"


def test_a_weight_that_a_body_hands_on() -> None:
    text = BRANCHES.format("").replace("(float[?,?] a)", "(float[?,?] W)")
    assert not layers_of(model(text, checked=False, W=(6, 8)))


def test_a_matmul_in_a_body() -> None:
    proto = model(BRANCHES.format("[inner] a = MatMul(x, V)"), W=(6, 8), V=(6, 8))
    assert [layer.name for layer in layers_of(proto)] == ["fc"]
    (skipped,) = skipped_of(proto)
    assert (skipped.name, skipped.op) == ("inner", "MatMul")
    assert skipped.reason == "inside a subgraph (then_branch of If 'z')"


def test_a_gemm_in_a_body_of_a_body() -> None:
    proto = model(
        BRANCHES.format(
            "[inner] a = If (c) <then_branch = tt () => (float[?,?] f) { [gemm] f = Gemm(x, V) }, "
            "else_branch = te () => (float[?,?] h) { h = Neg(y) }>"
        ),
        W=(6, 8),
        V=(6, 8),
    )
    (skipped,) = skipped_of(proto)
    assert (skipped.name, skipped.op) == ("gemm", "Gemm")
    assert "inside a subgraph (then_branch of If 'inner')" in skipped.reason


def test_a_matmul_in_a_loop() -> None:
    proto = model(
        """g (float[5,8] x, int64 count, bool go) => (float[5,8] y) {
            [loop] y = Loop (count, go, x) <body = b (int64 i, bool c, float[5,8] s) => (bool k, float[5,8] t) {
                k = Identity(c)
                [step] t = MatMul(s, W)
            }>
        }""",
        W=(8, 8),
    )
    (skipped,) = skipped_of(proto)
    assert (skipped.name, skipped.op, skipped.reason) == ("step", "MatMul", "inside a subgraph (body of Loop 'loop')")


FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[N,6] x) => (float[N,8] y) { y = local.Linear(x, W) }
<domain: "local", opset_import: ["" : 17]>
Linear (x, w) => (y) { [inner] y = MatMul(x, w) }"""


def test_a_matmul_in_a_model_local_function() -> None:
    (skipped,) = skipped_of(model(FUNCTION, W=(6, 8)))
    assert (skipped.name, skipped.op) == ("inner", "MatMul")
    assert skipped.reason == "inside the model-local function 'Linear'"


def test_a_weight_handed_to_a_model_local_function() -> None:
    proto = model(FUNCTION.replace("{ y = local", "{ z = MatMul(x, W)  y = local"), W=(6, 8))
    assert not layers_of(proto)
    assert "its weight is also read by Linear 'y', so factoring would not remove it" in [
        entry.reason for entry in skipped_of(proto)
    ]


def _quantized(op: str, inputs: list[str], domain: str = "", **attributes: int) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, ["y"], name="q", domain=domain, **attributes)
    proto = model("g (uint8[N,64] x) => (float[N,8] y) {}", checked=False, W=np.zeros((64, 8), np.uint8), s=(1,))
    proto.graph.node.append(node)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        _quantized("QLinearMatMul", ["x", "s", "z", "W", "s", "z", "s", "z"]),
        _quantized("MatMulInteger", ["x", "W"]),
        _quantized("MatMulNBits", ["x", "W", "s"], "com.microsoft", K=64, N=8, bits=4, block_size=32),
        _quantized("QGemm", ["x", "s", "z", "W", "s", "z"], "com.microsoft"),
        _quantized("DynamicQuantizeMatMul", ["x", "W", "s"], "com.microsoft"),
    ],
    ids=lambda proto: proto.graph.node[0].op_type,
)
def test_quantized_operators(proto: onnx.ModelProto) -> None:
    assert reason(proto) == "quantized: compress the float model first, quantize after"


def test_a_weight_that_is_dequantized() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y) { w = DequantizeLinear(W, s, z)  y = MatMul(x, w) }",
        W=np.arange(48, dtype=np.int8).reshape(6, 8),
        s=np.full((), 0.1, np.float32),
        z=np.zeros((), np.int8),
    )
    assert reason(proto) == "quantized weight (DequantizeLinear): compress the float model first, quantize after"


@pytest.mark.parametrize("op", ["FusedMatMul", "FusedGemm"])
def test_operators_that_a_runtime_fused(op: str) -> None:
    proto = model(f"g (float[N,6] x) => (float[N,8] y) {{ y = com.microsoft.{op}(x, W) }}", checked=False, W=(6, 8))
    assert reason(proto) == f"fused (com.microsoft.{op}): compress the model before it is optimized for a runtime"


def test_operators_of_other_domains_are_none_of_our_business() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { y = custom.MatMul(x, W) }", checked=False, W=(6, 8))
    assert find(Model(proto)) == ([], [])


def test_what_is_skipped_tells_its_weight_and_the_nodes_name_or_its_outputs() -> None:
    proto = model(
        "g (float[N,2] x) => (float[N,2] y, float[N,2] z) { [named] y = MatMul(x, W)  z = MatMul(x, V) }",
        W=(2, 2),
        V=(2, 2),
    )
    assert [(entry.name, entry.weight, entry.shape) for entry in skipped_of(proto)] == [
        ("named", "W", (2, 2)),
        ("z", "V", (2, 2)),
    ]
