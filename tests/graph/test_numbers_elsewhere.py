"""Packed numbers in bodies and functions, what is none, damaged graphs, and what finds layers makes of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_dalr.graph.handle import MAIN, Scope
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, count_params, numbers_of
from tests.graph.helpers import model, values
from tests.graph.number_cases import UNPACKED, M, N, constants, floating, graph, shape, whole

# In bodies and functions.

BODY = """g (float[N,70] x, bool k) => (float[?,40] y) {
    y = If (k) <
        then_branch = t () => (float[?,40] a) { c = Cast <to = 1> (W)  w = Mul(c, s)  a = MatMul(x, w) },
        else_branch = e () => (float[?,40] f) { v = DequantizeLinear(V, u)  f = MatMul(x, v) }
    >
}"""


def test_bodies_make_floats_of_what_is_outside() -> None:
    scales = {"s": values("s", (M,)), "u": np.array(0.1, np.float32)}
    proto = model(BODY, checked=False, W=whole(N, M), V=whole(N, M), **scales)
    assert count_params(proto) == 2 * N * M
    assert {place.scope for place in numbers_of(proto).packed} == {MAIN}


def test_a_scale_that_another_branch_reads_for_itself_counts() -> None:
    text = BODY.replace("f = MatMul(x, v)", "q = MatMul(x, v)  f = Mul(q, s)")
    scales = {"s": values("s", (M,)), "u": np.array(0.1, np.float32)}
    proto = model(text, checked=False, W=whole(N, M), V=whole(N, M), **scales)
    assert count_params(proto) == 2 * N * M + M


def test_bodies_hold_weights_of_their_own() -> None:
    proto = model(BODY, checked=False, V=whole(N, M), u=np.array(0.1, np.float32))
    body = next(entry.g for entry in proto.graph.node[0].attribute if entry.name == "then_branch")
    body.initializer.append(numpy_helper.from_array(whole(N, M), "W"))
    body.initializer.append(numpy_helper.from_array(values("s", (M,)), "s"))
    assert count_params(proto) == 2 * N * M
    assert len({place.scope for place in numbers_of(proto).packed}) == 2


def test_a_name_inside_a_body_hides_that_outside() -> None:
    text = BODY.replace("c = Cast <to = 1> (W)", "W = Neg(x)  c = Cast <to = 1> (W)")
    scales = {"s": values("s", (M,)), "u": np.array(0.1, np.float32)}
    proto = model(text, checked=False, W=whole(N, M), V=whole(N, M), **scales)
    assert count_params(proto) == N * M + M


FUNCTIONS = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[N,70] x) => (float[N,40] y) {{ {main} }}
<domain: "local", opset_import: ["" : 17]>
{function}"""


def test_functions_make_floats_of_what_they_are_given() -> None:
    text = FUNCTIONS.format(
        main="w = local.floats(W, s)  p = MatMul(x, w)  v = local.floats(V, u)  q = MatMul(x, v)  y = Add(p, q)",
        function="floats (q, t) => (r) { c = Cast <to = 1> (q)  r = Mul(c, t) }",
    )
    proto = model(text, checked=False, W=whole(N, M), V=whole(N, M), s=values("s", (M,)), u=values("u", (M,)))
    assert count_params(proto) == 2 * N * M
    assert [entry.reason for entry in find(Model(proto))[1]] == [
        "its weight is stored as int8: begin with the model that it was made from"
    ] * 2


def test_functions_hold_weights_of_their_own() -> None:
    text = FUNCTIONS.format(
        main="y = local.dense(x)",
        function="""dense (x) => (y) {
            W = Constant <value = int8[2,2] {1, 2, 3, 4}> ()
            s = Constant <value = float[2] {1, 2}> ()
            w = DequantizeLinear <axis = 1> (W, s)
            y = MatMul(x, w)
        }""",
    )
    proto = model(text, checked=False)
    assert count_params(proto) == 4
    assert {place.scope for place in numbers_of(proto).packed} == {Scope(0)}


# What counts as ever.


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ("i = Cast <to = 7> (W)  y = Gather(V, i)", {"W": whole(9), "V": (128, 8)}, 1024),
        ("y = Gather(V, W)", {"W": whole(9, dtype=np.int32), "V": (128, 8)}, 1024),
        ("m = Cast <to = 1> (W)  y = Mul(x, m)", {"W": whole(8, 70)}, 0),
        ("m = Cast <to = 1> (W)  n = Sub(o, m)  p = Mul(n, o)  y = Add(x, p)", {"W": whole(8, 70), "o": ()}, 1),
        ("m = Cast <to = 9> (W)  y = Where(m, x, o)", {"W": whole(8, 70), "o": ()}, 1),
        ("m = Cast <to = 1> (W)  y = MatMul(x, m)", {"W": whole(70, 40, dtype=np.int64)}, 0),
        ("m = Cast <to = 1> (W)  y = MatMul(x, m)", {"W": whole(70, 40, dtype=np.int32)}, 0),
        ("q = QuantizeLinear(x, s, W)  y = DequantizeLinear(q, s, W)", {"W": whole(1), "s": (1,)}, 1),
        ("y = Relu(x)", {"W": whole(70, 40)}, 0),
    ],
)
def test_indices_masks_and_zero_points_of_data_are_no_numbers(nodes: str, given: Any, expected: int) -> None:
    proto = graph(nodes, **given)
    assert count_params(proto) == floating(proto) == expected


def test_a_scale_that_is_read_elsewhere_or_is_an_output_counts() -> None:
    nodes = "c = Cast <to = 1> (W)  w = Mul(c, s)  p = MatMul(x, w)"
    given = {"W": whole(N, M), "s": values("s", (M,))}
    assert count_params(graph(f"{nodes}  y = Mul(p, s)", **given)) == N * M + M
    proto = graph(f"{nodes}  y = Relu(p)", **given)
    proto.graph.output.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [M]))
    assert count_params(proto) == N * M + M


def test_floats_that_are_added_to_a_weight_are_a_weight() -> None:
    proto = graph(
        "c = Cast <to = 1> (W)  w = Mul(c, s)  v = Add(w, V)  y = MatMul(x, v)",
        W=whole(N, M),
        s=values("s", (M,)),
        V=(N, M),
    )
    assert count_params(proto) == 2 * N * M


def test_a_product_of_two_weights_is_two_weights() -> None:
    proto = graph("c = Cast <to = 1> (W)  v = MatMul(c, V)  y = MatMul(x, v)", W=whole(N, M), V=(M, N))
    assert count_params(proto) == 2 * N * M


@pytest.mark.assets
def test_real_models_count_their_floating_constants(assets: Path) -> None:
    for path in sorted((assets / "models").glob("*.onnx")):
        proto = onnx.load(path, load_external_data=False)
        if not numbers_of(proto).packed:
            assert count_params(proto) == floating(proto), path.name


# Damaged and odd.


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Mul(y, W)",
        "a = Cast <to = 1> (b)  b = Mul(a, W)  y = MatMul(x, b)",
        "y = DequantizeLinear()",
        "y = DequantizeLinear(W)",
        "y = Cast(W)",
        "c = Cast <to = 1> (W)  y = Transpose <perm = [5, 5]> (c)",
        "c = Cast <to = 1> (W)  r = Reshape(c, i)  y = MatMul(x, r)",
        "c = Cast <to = 1> (W)  r = Unsqueeze(c, i)  y = MatMul(x, r)",
        "c = Concat <axis = 0> ()  y = MatMul(x, c)",
        "y = com.microsoft.MatMulNBits()",
        "y = QLinearConv(x)",
        "c = Constant()  y = Mul(c, W)",
    ],
)
def test_damaged_graphs_are_counted_somehow(nodes: str) -> None:
    proto = graph(nodes, W=whole(4, 4), i=shape(-1, -7, 0, -1))
    proto.graph.initializer.add(name="odd", data_type=TensorProto.UINT8, dims=[-3, 2])
    proto.graph.initializer.add(name="odder", data_type=77, dims=[3])
    assert count_params(proto) >= 0
    find(Model(proto), in_one_piece=True)


def test_functions_that_call_themselves_and_each_other_come_to_an_end() -> None:
    body = "  ".join(f"a{i} = local.f{{next}}(q)" for i in range(9))
    functions = "\n".join(
        f'<domain: "local", opset_import: ["" : 17, "local" : 1]> f{i} (q) => (a0) {{ {body.format(next=i + 1)} }}'
        for i in range(12)
    )
    last = '<domain: "local", opset_import: ["" : 17, "local" : 1]> f12 (q) => (r) { r = local.f12(q) }'
    text = FUNCTIONS.split("<domain", maxsplit=1)[0].format(main="y = local.f0(W)") + functions + last
    proto = model(text, checked=False, W=whole(4, 4))
    start = time.perf_counter()
    assert count_params(proto) == 0
    assert time.perf_counter() - start < 20


def test_long_chains_are_no_recursion() -> None:
    chain = "  ".join(f"c{i + 1} = Identity(c{i})" for i in range(5000))
    proto = graph(f"c0 = Cast <to = 1> (W)  {chain}  y = MatMul(x, c5000)", W=whole(N, M))
    assert count_params(proto) == N * M


def test_external_data_are_not_looked_for() -> None:
    proto = graph("c = Cast <to = 1> (W)  w = Mul(c, s)  y = MatMul(x, w)", W=whole(N, M), s=values("s", (M,)))
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="nowhere.bin")
    assert count_params(proto) == N * M


# What the other parts make of it.


def test_an_unpacking_product_is_neither_a_layer_nor_skipped_and_its_scale_no_weight() -> None:
    proto = graph(
        f"{UNPACKED} r = Reshape(z, d) v = Mul(r, s) o = Reshape(v, e) w = Transpose(o) y = MatMul(x, w)",
        **constants(
            W=whole(64 * 32 * 32, 1, dtype=np.uint8, low=0),
            s=values("s", (64, 32, 1)),
            d=shape(64, 32, 64),
            e=shape(64, 2048),
        ),
    )
    for in_one_piece in (False, True):
        layers, skipped = find(Model(proto), in_one_piece=in_one_piece)
        assert layers == []
        assert [(entry.reason, entry.weight, entry.shape) for entry in skipped] == [
            ("its weight is stored as int4: begin with the model that it was made from", "W", (2048, 64))
        ]


def test_tables_and_kernels_in_a_format_are_passed_through_in_one_piece_with_the_reason() -> None:
    nodes = """c = Cast <to = 1> (W)  w = Mul(c, s)  h = Gather(w, i)  d = Cast <to = 1> (K)  k = Mul(d, t)
               e = Conv(x, k)  y = com.microsoft.Thing(e, h)"""
    proto = graph(
        nodes,
        "float[1,16,8,8] x, int64[5] i",
        W=whole(2000, 8),
        s=values("s", (2000, 1)),
        K=whole(16, 16, 3, 3),
        t=values("t", (16, 1, 1, 1)),
    )
    layers, skipped = find(Model(proto), in_one_piece=True)
    assert layers == []
    assert {entry.op: entry.weight for entry in skipped} == {"Gather": "W", "Conv": "K"}
    assert all(entry.reason.startswith("its weight is stored as int8: ") for entry in skipped)


def test_scales_that_are_picked_with_their_rows_are_no_table() -> None:
    proto = graph(
        "t = Gather(W, x)  c = Cast <to = 1> (t)  u = Gather(s, x)  y = Mul(c, u)",
        "int64[N] x",
        W=whole(2000, 8),
        s=values("s", (2000, 1)),
    )
    assert find(Model(proto), in_one_piece=True)[0] == []


def test_half_precision_behind_a_cast_is_a_weight_as_ever() -> None:
    proto = graph("w = Cast <to = 1> (W)  y = MatMul(x, w)", W=values("W", (N, M), np.float16))
    assert len(find(Model(proto))[0]) == 1
    table = graph("w = Cast <to = 1> (W)  y = Gather(w, x)", "int64[N] x", W=values("W", (N, M), np.float16))
    assert len(find(Model(table), in_one_piece=True)[0]) == 1
