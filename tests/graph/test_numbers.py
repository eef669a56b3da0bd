"""Numbers are counted whatever their format: what stands for floats counts, what scales or unpacks it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from onnx_dalr.graph.storage.model import count_params, load, numbers_of
from onnx_dalr.graph.storage.packed import Packed
from tests.graph.helpers import model, run, values
from tests.graph.number_cases import BIAS, FLOATS, UNPACKED, M, N, constants, graph, only, shape, whole

# Weights as this tool writes them.


def test_a_byte_a_number() -> None:
    proto = graph(
        "c = Cast <to = 1> (W)  w = Mul(c, s)  p = MatMul(x, w)  y = Add(p, b)",
        **constants(W=whole(N, M), s=values("s", (1, M))),
    )
    assert count_params(proto) == load(proto).params == FLOATS
    assert only(proto) == Packed("W", TensorProto.INT8, N * M, "int8", (N, M), (N, M), block=N)
    assert {place.name for place in numbers_of(proto).aside} == {"s"}


def test_a_weight_of_a_type_that_the_scale_is_not_of_is_cast_twice() -> None:
    proto = graph(
        "c = Cast <to = 1> (W)  m = Mul(c, s)  h = Cast <to = 10> (m)  y = MatMul(x, h)",
        W=whole(N, M),
        s=values("s", (1, M)),
    )
    assert count_params(proto) == M * N


def test_a_scale_of_another_type_is_a_scale_behind_its_cast() -> None:
    proto = graph(
        "t = Cast <to = 1> (s)  c = Cast <to = 1> (W)  w = Mul(c, t)  y = MatMul(x, w)",
        W=whole(N, M),
        s=values("s", (1, M), np.float16),
    )
    assert count_params(proto) == M * N


def test_half_precision_is_counted_as_ever() -> None:
    proto = graph("w = Cast <to = 1> (W)  y = MatMul(x, w)", W=values("W", (N, M), np.float16))
    assert count_params(proto) == M * N
    assert not numbers_of(proto).packed


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_two_numbers_a_byte_less_what_fills_the_blocks(count: int, filled: bool) -> None:
    m, n = 40, 72 if filled else 70
    size = 24 * 3 // count
    blocks = (m, count, size) if count > 1 else (m, size)
    rows = f"{UNPACKED}  r = Reshape(z, blocked)  v = Mul(r, s)  q = Reshape(v, whole)"
    last = "w = Transpose(q)" if filled else "g = Gather <axis = 1> (q, at)  w = Transpose(g)"
    proto = model(
        f"g (float[N,{n}] x) => (float[N,40] y) {{ {rows}  {last}  o = MatMul(x, w)  y = Add(o, b) }}",
        **constants(
            W=whole(m * 36, 1, dtype=np.uint8, low=0),
            s=values("s", (*blocks[:-1], 1)),
            blocked=shape(*blocks),
            whole=shape(m, 72),
            at=np.arange(n, dtype=np.int32),
        ),
    )
    assert run(proto)["y"].shape == (5, m)
    assert count_params(proto) == m * n + m
    assert (only(proto).numbers, only(proto).format, only(proto).shape) == (m * n, "int4", (n, m))


@pytest.mark.parametrize(
    ("nodes", "dims"),
    [
        ("y = Conv(x, w)", (16, 8, 3, 3)),
        ("y = ConvTranspose(x, w)", (16, 8, 2, 2)),
        ("y = Gather(w, x)", (100, 8)),
        ("y = LSTM <hidden_size = 4> (x, w, R)", (1, 16, 8)),
        ("y = MatMul(w, x)", (16, 8)),
        ("y = Gemm(x, w)", (16, 8)),
        ("l, r = Split <axis = 0> (w)  t = MatMul(x, l)  y = MatMul(t, r)", (16, 8)),
        ("a = Slice(w, i, j)  t = MatMul(x, a)  y = MatMul(t, w)", (16, 8)),
    ],
)
def test_every_operator_that_multiplies_by_a_weight(nodes: str, dims: tuple[int, ...]) -> None:
    scale = values("s", (dims[0], *[1] * (len(dims) - 1)))
    proto = graph(f"c = Cast <to = 1> (W)  w = Mul(c, s)  {nodes}", W=whole(*dims), s=scale, i=shape(0), j=shape(2))
    assert count_params(proto) == np.prod(dims)


def test_a_table_that_is_read_for_fixed_positions_counts_in_full() -> None:
    proto = graph(
        "c = Cast <to = 1> (W)  w = Mul(c, s)  p = Gather(w, i)  y = Add(x, p)",
        W=whole(512, 8),
        s=values("s", (512, 1)),
        i=np.arange(128),
    )
    assert count_params(proto) == 512 * 8


# Weights as others write them.


@pytest.mark.parametrize(
    ("nodes", "more"),
    [
        ("w = DequantizeLinear(W, s, z)", {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}),
        ("w = DequantizeLinear <axis = 1> (W, s)", {"s": values("s", (M,))}),
        ("w = DequantizeLinear <axis = 0, block_size = 35> (W, s)", {"s": values("s", (2, M))}),
        ("t = Transpose(V)  w = DequantizeLinear <axis = 1> (t, s)", {"s": values("s", (M,)), "V": whole(M, N)}),
        ("v = DequantizeLinear <axis = 0> (V, s)  w = Transpose(v)", {"s": values("s", (M,)), "V": whole(M, N)}),
        ("w = com.microsoft.DequantizeLinear(W, s, z)", {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}),
        ("c = Cast <to = 1> (W)  d = Cast <to = 1> (z)  e = Sub(c, d)  w = Mul(e, s)", {"s": BIAS, "z": whole(M)}),
        ("t = Mul(s, u)  c = Cast <to = 1> (W)  w = Mul(c, t)", {"s": BIAS, "u": np.array(0.1, np.float32)}),
        ("t = DequantizeLinear(z, u)  c = Cast <to = 1> (W)  w = Mul(c, t)", {"z": whole(M), "u": BIAS[:1]}),
    ],
)
def test_scales_and_zero_points_are_none_of_them(nodes: str, more: dict[str, Any]) -> None:
    proto = graph(f"{nodes}  p = MatMul(x, w)  y = Add(p, b)", b=BIAS, **{"W": whole(N, M), **more})
    found = count_params(proto)
    # A scale that is dequantized itself is numbers of its own.
    assert found == FLOATS + (M if "DequantizeLinear(z" in nodes else 0)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN])
def test_small_element_types(kind: int) -> None:
    proto = graph("w = DequantizeLinear <axis = 1> (W, s)  y = MatMul(x, w)", s=values("s", (M,)))
    size = N * M // (1 if kind == TensorProto.FLOAT8E4M3FN else 2)
    proto.graph.initializer.add(name="W", data_type=kind, dims=[N, M], raw_data=b"\0" * size)
    assert count_params(proto) == N * M
    assert only(proto).format == ("float8e4m3fn" if kind == TensorProto.FLOAT8E4M3FN else "int4")


def test_a_bias_of_whole_numbers_counts() -> None:
    proto = graph(
        "w = DequantizeLinear(W, s)  c = DequantizeLinear(B, t)  y = Gemm(x, w, c)",
        W=whole(N, M),
        B=whole(M, dtype=np.int32),
        s=np.array(0.1, np.float32),
        t=np.array(0.1, np.float32),
    )
    assert count_params(proto) == FLOATS


@pytest.mark.parametrize(
    ("nodes", "dims", "dtype", "expected"),
    [
        ("y = com.microsoft.MatMulNBits <K = 70, N = 40, bits = 4, block_size = 32> (x, W, s)", (40, 3, 16), "u", 2800),
        ("y = com.microsoft.MatMulNBits <K = 70, N = 40, bits = 8, block_size = 32> (x, W, s)", (40, 3, 32), "u", 2800),
        ("y = com.microsoft.MatMulNBits <K = -3, N = 40> (x, W, s)", (40, 3, 16), "u", 3840),
        ("y = com.microsoft.MatMulNBits(x, W, s)", (40, 3, 16), "u", 3840),
        ("y = com.microsoft.MatMulBnb4 <K = 70, N = 40> (x, W, s)", (1400,), "u", 2800),
        ("y = com.microsoft.GatherBlockQuantized <bits = 4> (W, x, s)", (100, 8), "u", 1600),
        ("y = com.microsoft.GatherBlockQuantized <bits = 8> (W, x, s)", (100, 8), "u", 800),
        ("y = MatMulInteger(x, W)", (N, M), "i", 2800),
        ("y = ConvInteger(x, W)", (16, 8, 3, 3), "i", 1152),
        ("y = QLinearMatMul(x, a, z, W, s, z, a, z)", (N, M), "i", 2801),
        ("y = QLinearConv(x, a, z, W, s, z, a, z, B)", (16, 8, 3, 3), "i", 1169),
        ("y = com.microsoft.QGemm(x, a, z, W, s, z, B, a, z)", (N, M), "i", 2817),
        ("y = com.microsoft.DynamicQuantizeMatMul(x, W, s, z)", (N, M), "i", 2800),
        ("y = com.microsoft.MatMulIntegerToFloat(x, W, a, s, z, z)", (N, M), "i", 2801),
        ("y = com.microsoft.DynamicQuantizeLSTM(x, W, R, h, h, h, h, h, s, z, s, z)", (1, 8, 16), "i", 128),
    ],
)
def test_operators_that_compute_with_whole_numbers(nodes: str, dims: Any, dtype: str, expected: int) -> None:
    W = whole(*dims, dtype=np.uint8 if dtype == "u" else np.int8, low=0)
    proto = graph(
        nodes,
        W=W,
        s=values("s", (M,)),
        a=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
        B=whole(16, dtype=np.int32),
    )
    assert count_params(proto) == expected


def test_a_scale_that_is_multiplied_by_that_of_the_data_is_one() -> None:
    nodes = """q, t, z = DynamicQuantizeLinear(x)  u = Mul(t, s)  i = MatMulInteger(q, W, z)
               c = Cast <to = 1> (i)  p = Mul(c, u)  y = Add(p, b)"""
    assert count_params(graph(nodes, W=whole(N, M), s=values("s", (M,)), b=BIAS)) == FLOATS


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Gather(W, x)  y = DequantizeLinear(t, s)",
        "t = Gather(W, x)  c = Cast <to = 1> (t)  y = Mul(c, s)",
        "t = Gather(W, x)  c = Cast <to = 1> (t)  u = Gather(s, x)  v = Mul(c, u)  y = Add(v, b)",
    ],
)
def test_rows_may_be_picked_before_they_are_floats(nodes: str) -> None:
    proto = graph(nodes, "int64[N] x", W=whole(100, 8), s=values("s", (100, 1)), b=values("b", (8,)))
    assert count_params(proto) == 800 + (8 if "b)" in nodes else 0)
    assert not numbers_of(proto).made


def test_what_comes_after_picked_rows_is_no_unpacking() -> None:
    nodes = "t = Gather(W, x)  e = DequantizeLinear(t, s)  h = Add(e, P)  g = Mul(h, G)  y = MatMul(g, V)"
    more = {"P": values("P", (5, 8)), "G": values("G", (8,)), "V": values("V", (8, 2))}
    proto = graph(nodes, "int64[5] x", W=whole(100, 8), s=np.array(0.1, np.float32), **more)
    assert count_params(proto) == 800 + 40 + 8 + 16


def test_low_and_high_halves_laid_side_by_side() -> None:
    nodes = """l = BitwiseAnd(W, m)  h = BitShift <direction = "RIGHT"> (W, k)
               e = Unsqueeze(l, a)  f = Unsqueeze(h, a)  g = Concat <axis = -1> (e, f)
               r = Reshape(g, d)  c = Cast <to = 1> (r)  w = Mul(c, s)  y = MatMul(x, w)"""
    proto = graph(
        nodes,
        W=whole(N, M // 2, dtype=np.uint8, low=0),
        m=np.array(15, np.uint8),
        k=np.array(4, np.uint8),
        a=shape(2),
        d=shape(N, M),
        s=values("s", (M,)),
    )
    assert (count_params(proto), only(proto).format) == (N * M, "int4")
