"""What a stored tensor is for, by its readers; a reason in general and in short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnx_dalr.graph.contents import contents
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.roles import Role, in_general, in_short, role
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model, values


def role_of(proto: ModelProto, name: str = "W") -> Role:
    source = Model(proto)
    layers, skipped = find(source)
    reasons = {(entry.op, entry.name): entry.reason for entry in skipped}
    (tensor,) = [tensor for tensor in contents(source).tensors if tensor.name == name]
    return role(tensor, {layer.weight for layer in layers}, reasons)


def graph(nodes: str, inputs: str = "float[N,16,8,8] x", **constants: Any) -> ModelProto:
    return model(f"g ({inputs}) => (float y) {{ {nodes} }}", checked=False, **constants)


INT8 = values("W", (16, 32), np.int8)
SCALE = np.array(0.1, np.float32)
ZERO = np.array(0, np.int8)


@pytest.mark.parametrize(
    ("nodes", "shape", "kind"),
    [
        ("y = MatMul(x, W)", (32, 16), "MatMul"),
        ("y = Gemm(x, W)", (32, 16), "Gemm"),
        ("y = Conv(x, W)", (32, 16, 1, 1), "1×1 Conv"),
        ("y = Conv(x, W)", (32, 16, 1), "1×1 Conv"),
        ("y = Conv(x, W)", (32, 16, 3, 3), "3×3 Conv"),
        ("y = Conv(x, W)", (32, 16, 5), "5-tap Conv"),
        ("y = ConvTranspose(x, W)", (16, 32, 2, 2), "2×2 ConvTranspose"),
    ],
)
def test_the_weight_of_a_layer(nodes: str, shape: tuple[int, ...], kind: str) -> None:
    found = role_of(graph(nodes, W=shape))
    assert (found.kind, found.weight, found.reason) == (kind, True, None)


@pytest.mark.parametrize(
    ("nodes", "shape", "kind", "reason"),
    [
        ("y = Conv <group = 16> (x, W)", (32, 1, 3, 3), "depthwise 3×3 Conv", "depthwise convolution"),
        ("y = Conv <group = 4> (x, W)", (32, 4, 1, 1), "grouped 1×1 Conv", "grouped convolution"),
        ("y = ConvTranspose(x, W)", (16, 32, 1, 1), "1×1 ConvTranspose", "1×1 transposed convolution is not supported"),
        (
            "y = ConvTranspose <group = 16> (x, W)",
            (16, 1, 2, 2),
            "depthwise 2×2 ConvTranspose",
            "depthwise convolution",
        ),
        ("y = MatMul(W, x)", (32, 16), "MatMul", "its constant is on the left"),
        ("y = MatMul(x, W)", (4, 32, 16), "MatMul", "its weight is batched, not a matrix"),
        ("y = MatMul(x, W)", (16, 1), "MatMul", "too small to gain at any rank"),
        ('y = Einsum <equation = "nk,km->nm"> (x, W)', (32, 16), "Einsum", "not supported"),
        ("y = LSTM <hidden_size = 4> (x, W, R)", (1, 16, 8), "LSTM", "recurrent"),
        ("y = LSTM <hidden_size = 4> (x, R, W)", (1, 16, 4), "LSTM", "recurrent"),
        ("y = com.microsoft.FusedMatMul(x, W)", (32, 16), "FusedMatMul", "fused"),
        ("y = com.microsoft.Irfft(x, W)", (32, 16), "Irfft", "not supported"),
        ("y = custom.Thing(x, W)", (32, 16), "Thing", "not supported"),
    ],
)
def test_a_weight_that_is_no_layer(nodes: str, shape: tuple[int, ...], kind: str, reason: str) -> None:
    found = role_of(graph(nodes, W=shape, R=(1, 16, 4)))
    assert (found.kind, found.weight, in_short(found.reason or "")) == (kind, True, reason)


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        ("w = DequantizeLinear(W, s, z)  y = MatMul(x, w)", "MatMul, int8"),
        ("y = com.microsoft.MatMulNBits <K = 16, N = 32> (x, W, s)", "MatMulNBits, int4"),
        ("y = MatMulInteger(x, W)", "MatMulInteger, int8"),
        ("y = com.microsoft.DynamicQuantizeLSTM(x, W)", "DynamicQuantizeLSTM, int8"),
        ("y = QLinearMatMul(x, s, z, W, s, z, s, z)", "QLinearMatMul, int8"),
    ],
)
def test_quantized_weights_are_named_for_what_they_are(nodes: str, kind: str) -> None:
    found = role_of(graph(nodes, W=INT8, s=SCALE, z=ZERO))
    assert found.kind == kind
    assert in_short(found.reason or "").startswith("quantized")


@pytest.mark.parametrize(
    ("nodes", "weight", "kind", "reason"),
    [
        ("y = Gather(W, i)", values("W", (100, 8)), "embedding", "lookup table"),
        ("t = Cast <to = 1> (W)  y = Gather(t, i)", values("W", (100, 8), np.float16), "embedding", "lookup table"),
        ("t = Gather(W, i)  y = custom.Unpack(t)", INT8, "quantized embedding", "lookup table"),
        ("t = DequantizeLinear(W, s, z)  y = Gather(t, i)", INT8, "embedding, int8", "its weight is stored as int8"),
        ("t = Gather(W, i)  y = DequantizeLinear(t, s, z)", INT8, "embedding, int8", "its weight is stored as int8"),
    ],
)
def test_tables(nodes: str, weight: np.ndarray, kind: str, reason: str) -> None:
    found = role_of(graph(nodes, "int64[N] i", W=weight, s=SCALE, z=ZERO))
    assert (found.kind, in_short(found.reason or "")) == (kind, reason)


CHAIN = "c = Cast <to = 1> (W)  w = Mul(c, s) "


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        (f"{CHAIN} y = MatMul(x, w)", "MatMul, int8"),
        (f"{CHAIN} t = Transpose(w)  y = Gemm(x, t)", "Gemm, int8"),
        (f"{CHAIN} k = Reshape(w, kernel)  y = Conv(x, k)", "3×3 Conv, int8"),
        (f"{CHAIN} k = Reshape(w, single)  y = Conv <group = 16> (x, k)", "depthwise 3×3 Conv, int8"),
        (f"{CHAIN} y = Gather(w, i)", "embedding, int8"),
        (f"{CHAIN} r = Reshape(w, recurrent)  y = LSTM <hidden_size = 4> (x, r, r)", "LSTM, int8"),
    ],
)
def test_weights_that_are_stored_in_a_format_say_so(nodes: str, kind: str) -> None:
    W = values("W", (16, 9) if "single" in nodes else (16, 36), np.int8)
    shapes = {"kernel": [16, 4, 3, 3], "single": [16, 1, 3, 3], "recurrent": [1, 16, 36]}
    named = {name: np.array(shape) for name, shape in shapes.items() if name in nodes}
    proto = graph(nodes, "float[N,16,8,8] x, int64[N] i", W=W, s=values("s", (16, 1)), **named)
    assert (role_of(proto).kind, role_of(proto).weight, role_of(proto, "s").kind) == (kind, True, "scale")
    expected = "recurrent" if "LSTM" in kind else "its weight is stored as int8"
    assert in_short(role_of(proto).reason or "") == expected


def test_what_scales_and_unpacks_says_so_and_is_no_weight() -> None:
    nodes = """c = Cast <to = 1> (W)  p = Div(c, parts)  f = Floor(p)  u = MatMul(f, mix)  m = Sub(u, middle)
               r = Reshape(m, blocks)  w = Mul(r, s)  k = Reshape(w, kernel)  y = Conv(x, k)"""
    proto = graph(
        nodes,
        W=values("W", (16 * 18, 1), np.uint8),
        parts=np.array([1, 16], np.float32),
        mix=np.array([[1, 0], [-16, 1]], np.float32),
        middle=np.array(8, np.float32),
        blocks=np.array([16, 1, 36]),
        s=(16, 1, 1),
        kernel=np.array([16, 4, 3, 3]),
    )
    kinds = {name: role_of(proto, name).kind for name in ("W", "s", "parts", "mix", "middle", "blocks")}
    assert kinds == {
        "W": "3×3 Conv, int4",
        "s": "scale",
        **dict.fromkeys(("parts", "mix"), "unpacking"),
        "middle": "zero point",
        "blocks": "shape or index",
    }
    blocked = graph(
        "y = com.microsoft.MatMulNBits <K = 64, N = 32> (x, W, s)", W=values("W", (32, 2, 16), np.uint8), s=(32, 2)
    )
    assert (role_of(blocked, "s").kind, role_of(blocked, "s").weight) == ("scale", False)


def test_a_table_that_is_also_multiplied_is_a_table() -> None:
    proto = graph("h = Gather(W, i)  t = Transpose(W)  [head] y = MatMul(h, t)", "int64[N] i", W=(100, 8))
    assert role_of(proto).kind == "embedding"


@pytest.mark.parametrize(
    ("nodes", "value", "kind"),
    [
        ("y = Conv(x, V, W)", (32,), "bias"),
        ("y = Gemm(x, V, W)", (1, 32), "bias"),
        ("y = Add(x, W)", (1, 1, 32), "bias"),
        ("y = Add(x, W)", (8, 32), "constant"),
        ("y = Mul(x, W)", (32,), "scale"),
        ("y = Mul(x, W)", (8, 32), "constant"),
        ("y = BatchNormalization(x, W, W, W, W)", (16,), "normalization"),
        ("y = LayerNormalization(x, W)", (8,), "normalization"),
        ("y = PRelu(x, W)", (16, 1, 1), "constant"),
        ("y = Reshape(x, W)", np.array([2, 3]), "shape or index"),
        ("y = Gather(W, x)", np.zeros((9, 9), np.int64), "shape or index"),
        ("y = Where(W, x, x)", np.zeros((9, 9), bool), "shape or index"),
    ],
)
def test_what_is_no_weight(nodes: str, value: Any, kind: str) -> None:
    found = role_of(graph(nodes, W=value, V=(32, 16, 1, 1)))
    assert (found.kind, found.weight, found.reason) == (kind, False, None)


def test_what_nothing_reads_could_go() -> None:
    found = role_of(graph("y = Relu(x)", W=(32, 16)))
    assert (found.kind, found.reason, found.reader) == ("unused", "nothing reads it", None)


def test_a_constant_that_is_an_output() -> None:
    assert role_of(model("g (float x) => (float y, float[2] W) { y = Relu(x) }", W=(2,))).kind == "output"


@pytest.mark.parametrize(
    ("reason", "general", "short"),
    [
        ("too small to gain at any rank (1×60)", "too small to gain at any rank", "too small to gain at any rank"),
        ("3×3 convolution: only 1×1 is supported", "3×3 convolution: only 1×1 is supported", "3×3 convolution"),
        ("grouped convolution (4 groups): only one", "grouped convolution: only one", "grouped convolution"),
        (
            "its weight is also read by Add 'a', so factoring would not remove it",
            "its weight is also read by Add 'a', so factoring would not remove it",
            "its weight is also read by Add 'a'",
        ),
        ("inside a subgraph (then_branch of If 'if')", "inside a subgraph", "inside a subgraph"),
    ],
)
def test_reasons_are_shortened_where_they_pause(reason: str, general: str, short: str) -> None:
    assert (in_general(reason), in_short(reason)) == (general, short)
