"""A Layer becomes two MatMul: with exact factors the outputs stay, with a shift every row moves by it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from onnx_dalr.graph.layers import find
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import (
    assert_same_outputs,
    exact,
    initializers,
    layers_of,
    model,
    only_layer,
    ops,
    rewritten,
    run,
    some_feeds,
    values,
    with_constant_nodes,
)

SHIFT = values("shift", (8,))
BIASES = {
    "none": None,
    "scalar": (),
    "[1]": (1,),
    "[m]": (8,),
    "[1,m]": (1, 8),
    "[1,1]": (1, 1),
    "[M,m]": (5, 8),
    "[M,1]": (5, 1),
    "zero": np.zeros(8, np.float32),
    "dynamic": "float[8]",
    "dynamic [M,m]": "float[5,8]",
}
ROWS = {"scalar", "[1]", "[m]", "[1,m]", "[1,1]", "zero"}


def gemm(bias: str, trans_a: int = 0, trans_b: int = 0, alpha: float = 1.0, beta: float = 1.0) -> ModelProto:
    """x [5, 6] to y [5, 8] through one Gemm."""
    x, W = "float[6,5] x" if trans_a else "float[5,6] x", (8, 6) if trans_b else (6, 8)
    form = BIASES[bias]
    inputs = f"{x}, {form} b" if isinstance(form, str) else x
    stored = {} if form is None or isinstance(form, str) else {"b": form}
    attributes = f"transA = {trans_a}, transB = {trans_b}, alpha = {alpha}, beta = {beta}"
    operands = "x, W" if form is None else "x, W, b"
    return model(f"g ({inputs}) => (float[5,8] y) {{ [fc] y = Gemm <{attributes}> ({operands}) }}", W=W, **stored)


@pytest.mark.parametrize("shift", [0.0, SHIFT], ids=["no shift", "shift"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, -2.0), (2.0, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("bias", BIASES)
def test_every_gemm(bias: str, trans_a: int, trans_b: int, alpha: float, beta: float, shift: np.ndarray) -> None:
    proto = gemm(bias, trans_a, trans_b, alpha, beta)
    made = rewritten(proto, shift)
    assert_same_outputs(proto, made, moved_by=shift)

    row = bias in ROWS - {"zero"} and beta != 0
    loose = bias not in ROWS | {"none"} and beta != 0
    expected = {
        "MatMul": 2,
        "Transpose": trans_a,
        "Add": int(row or np.any(shift)) + int(loose),
        "Mul": int(loose and beta != 1),
    }
    assert Counter(ops(made)) == Counter(expected)
    if beta != 0:
        bias_stays = (loose and not bias.startswith("dynamic")) or (row and beta == 1 and not np.any(shift))
        assert {"W", "b"} & set(initializers(made)) == ({"b"} if bias_stays and bias != "zero" else set())


@pytest.mark.parametrize("bias", ["[m]", "[M,m]"])
def test_a_bias_times_zero_goes_with_its_gemm(bias: str) -> None:
    assert set(initializers(rewritten(gemm(bias, beta=0.0)))) == {"W.dalr_B", "W.dalr_A"}


def test_a_gemm_reads_like_this_afterwards() -> None:
    proto = gemm("[m]", trans_a=1, alpha=2.0, beta=3.0)
    made = rewritten(proto)
    assert [(node.name, node.op_type, list(node.input), list(node.output)) for node in made.graph.node] == [
        ("fc.dalr_transpose", "Transpose", ["x"], ["y.dalr_transposed"]),
        ("fc.dalr_B", "MatMul", ["y.dalr_transposed", "W.dalr_B"], ["y.dalr_latent"]),
        ("fc.dalr_A", "MatMul", ["y.dalr_latent", "W.dalr_A"], ["y.dalr_product"]),
        ("fc.dalr_bias", "Add", ["y.dalr_product", "b.dalr"], ["y"]),
    ]
    made_of = initializers(made)
    assert {name: array.shape for name, array in made_of.items()} == {
        "W.dalr_B": (6, 6),
        "W.dalr_A": (6, 8),
        "b.dalr": (8,),
    }
    np.testing.assert_allclose(made_of["b.dalr"], 3 * initializers(proto)["b"], rtol=1e-6)


def test_a_loose_bias_stays_in_an_add_of_its_own() -> None:
    made = rewritten(gemm("[M,m]"), SHIFT)
    assert [(node.op_type, list(node.input)[1]) for node in made.graph.node] == [
        ("MatMul", "W.dalr_B"),
        ("MatMul", "W.dalr_A"),
        ("Add", "W.dalr_bias"),
        ("Add", "b"),
    ]


INPUTS = {"1-D": "", "2-D": "5,", "3-D": "2,5,", "4-D": "2,3,5,"}
ADDS = {
    "no Add": ("y = MatMul(x, W)", ()),
    "Add": ("p = MatMul(x, W)  y = Add(p, b)", (8,)),
    "Add, constant first": ("p = MatMul(x, W)  y = Add(b, p)", (8,)),
    "Add of a scalar": ("p = MatMul(x, W)  y = Add(p, b)", ()),
    "Add of [1]": ("p = MatMul(x, W)  y = Add(p, b)", (1,)),
    "product read twice": ("p = MatMul(x, W)  q = Mul(p, two)  r = Sub(q, p)  y = Add(r, b)", (8,)),
}


@pytest.mark.parametrize("shift", [0.0, SHIFT], ids=["no shift", "shift"])
@pytest.mark.parametrize("add", ADDS)
@pytest.mark.parametrize("rank", INPUTS)
def test_every_matmul(rank: str, add: str, shift: np.ndarray) -> None:
    leading = INPUTS[rank]
    nodes, bias = ADDS[add]
    two = np.full((), 2, np.float32)
    proto = model(f"g (float[{leading}6] x) => (float[{leading}8] y) {{ {nodes} }}", W=(6, 8), b=bias, two=two)
    made = rewritten(proto, shift)
    assert_same_outputs(proto, made, moved_by=shift)
    carried = add.startswith("Add")
    tail = ["Mul", "Sub", "Add"] if add == "product read twice" else []
    assert ops(made) == ["MatMul", "MatMul"] + ["Add"] * int(carried or np.any(shift)) + tail


@pytest.mark.parametrize("shape", [(1, 8), (1, 1, 8), (5, 8), (5, 1), (2, 5, 8), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("shift", [0.0, SHIFT], ids=["no shift", "shift"])
def test_an_add_of_any_shape_keeps_the_shape_of_its_result(shape: tuple[int, ...], shift: np.ndarray) -> None:
    dims = ",".join(map(str, np.broadcast_shapes((5, 8), shape)))
    proto = model(f"g (float[5,6] x) => (float[{dims}] y) {{ p = MatMul(x, W)  y = Add(p, b) }}", W=(6, 8), b=shape)
    assert_same_outputs(proto, rewritten(proto, shift), moved_by=shift)


def test_a_matmul_whose_product_is_an_output_moves_there_and_behind_its_add() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] p, float[N,8] y) { p = MatMul(x, W)  y = Add(p, b) }", W=(6, 8), b=(8,)
    )
    made = rewritten(proto, SHIFT)
    assert_same_outputs(proto, made, moved_by=SHIFT)
    assert ops(made) == ["MatMul", "MatMul", "Add", "Add"]


@pytest.mark.parametrize(
    "nodes",
    ["y = Gemm(x, W, b)", "y = Gemm <beta = 0.5> (x, W, b)", "p = MatMul(x, W)  y = Add(p, b)"],
)
def test_a_shift_that_undoes_the_bias_leaves_none(nodes: str) -> None:
    b = values("b", (8,))
    proto = model(f"g (float[N,6] x) => (float[N,8] y) {{ {nodes} }}", W=(6, 8), b=b)
    undo = -b * (0.5 if "beta" in nodes else 1.0)
    assert_same_outputs(proto, rewritten(proto, undo), moved_by=undo)


def test_constants_in_constant_nodes_give_way_to_initializers() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { p = MatMul(x, W)  y = Add(p, b) }", W=(6, 8), b=(8,))
    made = rewritten(with_constant_nodes(proto, "W", "b"), SHIFT)
    assert ops(made) == ["MatMul", "MatMul", "Add"]
    assert set(initializers(made)) == {"W.dalr_B", "W.dalr_A", "b.dalr"}
    assert_same_outputs(proto, made, moved_by=SHIFT)


def test_all_users_of_a_weight_share_the_factors_and_have_biases_of_their_own() -> None:
    proto = model(
        """g (float[N,6] x, float[2,N,6] s)
        => (float[N,8] y, float[N,8] z, float[N,8] u, float[2,N,8] t, float[N,8] v) {
            y = Gemm(x, W, b)
            r = Relu(x)
            z = Gemm <beta = 2.0> (r, W, b)
            u = Gemm(r, W)
            p = MatMul(s, W)
            t = Add(c, p)
            v = MatMul(x, W)
        }""",
        W=(6, 8),
        b=(8,),
        c=(8,),
    )
    made = rewritten(proto, SHIFT)
    assert_same_outputs(proto, made, moved_by=SHIFT)
    assert set(initializers(made)) == {"W.dalr_B", "W.dalr_A", "b.dalr", "b.dalr_2", "W.dalr_bias", "c.dalr"}
    assert ops(made) == ["MatMul", "MatMul", "Add", "Relu", *["MatMul", "MatMul", "Add"] * 4]


def test_only_the_layers_asked_for_change() -> None:
    proto = model("g (float[N,6] x) => (float[N,6] y) { h = MatMul(x, V)  y = MatMul(h, W) }", V=(6, 8), W=(8, 6))
    made = rewrite(Model(proto), [exact(proto, layers_of(proto)[1])]).proto
    assert set(initializers(made)) == {"V", "W.dalr_B", "W.dalr_A"}
    assert_same_outputs(proto, made)


def test_layers_one_after_the_other_are_rewritten_together() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,7] y) { h = Gemm(x, V, b)  r = Relu(h)  p = MatMul(r, W)  y = Add(p, c) }",
        V=(6, 8),
        W=(8, 7),
        b=(8,),
        c=(7,),
    )
    assert_same_outputs(proto, rewritten(proto))


def test_one_bias_of_two_layers_moves_with_each_by_its_own_shift() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y, float[N,8] z) { y = Gemm(x, V, b)  z = Gemm(x, W, b) }",
        V=(6, 8),
        W=(6, 8),
        b=(8,),
    )
    first, second = layers_of(proto)
    made = rewrite(Model(proto), [exact(proto, first, SHIFT), exact(proto, second, -SHIFT)]).proto
    feeds = some_feeds(proto)
    before, after = run(proto, feeds), run(made, feeds)
    np.testing.assert_allclose(after["y"], before["y"] + SHIFT, atol=1e-4)
    np.testing.assert_allclose(after["z"], before["z"] - SHIFT, atol=1e-4)
    assert "b" not in initializers(made)


@pytest.mark.parametrize("nodes", ["y = Gemm <alpha = 0.5, beta = 2.0> (x, W, b)", "p = MatMul(x, W)  y = Add(p, b)"])
@pytest.mark.parametrize(("kind", "dtype", "tolerance"), [("float16", np.float16, 0.05), ("double", np.float64, 1e-12)])
def test_constants_keep_their_dtype(nodes: str, kind: str, dtype: type, tolerance: float) -> None:
    W, b = values("W", (6, 8), dtype), values("b", (8,), dtype)
    proto = model(f"g ({kind}[N,6] x) => ({kind}[N,8] y) {{ {nodes} }}", W=W, b=b)
    made = rewritten(proto, SHIFT)
    assert {array.dtype for array in initializers(made).values()} == {np.dtype(dtype)}
    assert_same_outputs(proto, made, moved_by=SHIFT.astype(dtype), tolerance=tolerance)


def test_a_loose_half_bias_is_scaled_in_half() -> None:
    proto = model(
        "g (float16[N,6] x, float16[8] c) => (float16[N,8] y) { y = Gemm <beta = 2.0> (x, W, c) }",
        W=values("W", (6, 8), np.float16),
    )
    made = rewritten(proto)
    assert {tensor.data_type for tensor in made.graph.initializer} == {TensorProto.FLOAT16}
    assert_same_outputs(proto, made, tolerance=0.05)


def test_a_float_model_may_have_a_double_layer() -> None:
    proto = model(
        """g (float[N,6] x) => (float[N,6] y) {
            h = MatMul(x, V)
            d = Cast <to = 11> (h)
            e = Gemm(d, W, b)
            y = Cast <to = 1> (e)
        }""",
        V=(6, 8),
        W=values("W", (8, 6), np.float64),
        b=values("b", (6,), np.float64),
    )
    made = rewritten(proto)
    assert {name: array.dtype.name for name, array in initializers(made).items()} == {
        "V.dalr_B": "float32",
        "V.dalr_A": "float32",
        "W.dalr_B": "float64",
        "W.dalr_A": "float64",
        "b": "float64",
    }
    assert_same_outputs(proto, made)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 21])
def test_operator_sets_from_7_on(opset: int) -> None:
    proto = model(
        "g (float[5,6] x) => (float[5,7] y) { h = Gemm <transA = 0, alpha = 0.5> (x, V, b)  y = MatMul(h, W) }",
        opset=opset,
        V=(6, 8),
        b=(8,),
        W=(8, 7),
    )
    assert_same_outputs(proto, rewritten(proto))


sizes = st.integers(2, 12)


@given(
    M=st.integers(1, 4),
    m=sizes,
    n=sizes,
    trans_a=st.booleans(),
    trans_b=st.booleans(),
    alpha=st.sampled_from([1.0, 0.25, -1.5]),
    beta=st.sampled_from([1.0, 0.0, 2.0]),
    rows=st.sampled_from([None, 0, 1]),
    columns=st.booleans(),
    moved=st.booleans(),
)
def test_a_gemm_of_any_size(
    M: int,
    m: int,
    n: int,
    trans_a: bool,
    trans_b: bool,
    alpha: float,
    beta: float,
    rows: int | None,
    columns: bool,
    moved: bool,
) -> None:
    """Rows: None for a bias without that axis, 0 for 1 row, 1 for M rows."""
    shape = [m if columns else 1]
    if rows is not None:
        shape.insert(0, M if rows else 1)
    x = f"float[{n},{M}] x" if trans_a else f"float[{M},{n}] x"
    attributes = f"transA = {int(trans_a)}, transB = {int(trans_b)}, alpha = {alpha}, beta = {beta}"
    proto = model(
        f"g ({x}) => (float[{M},{m}] y) {{ y = Gemm <{attributes}> (x, W, b) }}",
        W=(m, n) if trans_b else (n, m),
        b=tuple(shape),
    )
    layers, _ = find(Model(proto))
    if not layers:
        assert m * n <= m + n + 1  # a loose bias may need a constant for beta
        return
    shift = values("shift", (m,)) if moved else 0.0
    assert_same_outputs(proto, rewritten(proto, shift), moved_by=shift)


def test_the_original_is_left_as_it_is() -> None:
    proto = gemm("[m]")
    before = proto.SerializeToString(deterministic=True)
    rewrite(Model(proto), [exact(proto, only_layer(proto), SHIFT)], note="{}")
    assert proto.SerializeToString(deterministic=True) == before
