"""Weights that are not taken apart: found where a node multiplies by them, and stored in another format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_dalr.factorize.formats import FORMATS, Decoding, Encoded, Format
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.contents import contents
from onnx_dalr.graph.layers import Layer, Skipped, find, matrix
from onnx_dalr.graph.one_piece import SMALLEST
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import (
    differences,
    initializers,
    model,
    ops,
    run,
    some_feeds,
    values,
    with_constant_nodes,
)


class Bytes:
    """Whole numbers in a byte, with a scale for each output."""

    name = "bytes"

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        return shape.params + dtype.itemsize * shape.m

    def encode(self, values: np.ndarray, dtype: np.dtype[Any], moment: Any = None) -> Encoded:
        del dtype, moment
        scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) / 127
        steps = (Decoding("Cast", attributes={"to": None}), Decoding("Mul", operand="_scale"))
        whole = np.rint(values / scale)
        return Encoded({"": whole.astype(np.int8), "_scale": scale}, whole * scale, steps)


def layers_of(proto: ModelProto) -> list[Layer]:
    return find(Model(proto), in_one_piece=True)[0]


def skipped_of(proto: ModelProto) -> list[Skipped]:
    return find(Model(proto), in_one_piece=True)[1]


def stored_as(proto: ModelProto, format: Format, layers: list[Layer] | None = None) -> ModelProto:
    """The model with its layers (those in one piece) in a format, checked."""
    whole = [layer for layer in layers_of(proto) if layer.in_one_piece] if layers is None else layers
    assert whole
    substitutions = [
        Substitution.of(
            layer,
            (Piece("W", matrix(Model(proto), layer).reshape(layer.shape.dims)),),
            format,
            np.zeros(layer.m),
        )
        for layer in whole
    ]
    made = rewrite(Model(proto), substitutions).proto
    onnx.checker.check_model(made, full_check=True)
    return made


def rounded(W: np.ndarray, own: tuple[int, ...]) -> np.ndarray:
    """Numbers in a byte with a scale for every index of the axes that have their own."""
    others = tuple(axis for axis in range(W.ndim) if axis not in own)
    scale = np.abs(W).max(axis=others, keepdims=True) / 127
    return (np.rint(W / scale) * scale).astype(W.dtype)


def with_weights(proto: ModelProto, weights: dict[str, np.ndarray]) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return made


@dataclass(frozen=True)
class Case:
    """A node and its weights: shape, and the axes that have scales of their own."""

    text: str
    weights: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    opsets: tuple[int, ...] = (7, 11, 17)
    beside: tuple[tuple[str, tuple[int, ...]], ...] = ()


X2, X3, X4 = "(float[2,16,9] x)", "(float[2,8,9,7] x)", "(float[1,4,5,6,7] x)"
SEQUENCE = "(float[5,2,12] x) => (float[?,?,?,?] y, float[?,?,?] h)"
CASES = {
    "Conv, 1-D": Case(
        f"{X2} => (float[?,?,?] y) {{ y = Conv <group = 2, dilations = [2]> (x, W) }}", {"W": ((48, 8, 3), (0,))}
    ),
    "Conv, 2-D": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = Conv <group = 2, strides = [2, 1], pads = [1, 0, 2, 1]> (x, W, b) }}",
        {"W": ((32, 4, 3, 5), (0,))},
        beside=(("b", (32,)),),
    ),
    "Conv, padded by itself": Case(
        f'{X3} => (float[?,?,?,?] y) {{ y = Conv <group = 2, auto_pad = "SAME_UPPER"> (x, W) }}',
        {"W": ((32, 4, 3, 3), (0,))},
    ),
    "Conv, 3-D": Case(
        f"{X4} => (float[?,?,?,?,?] y) {{ y = Conv <group = 2> (x, W) }}", {"W": ((24, 2, 3, 3, 3), (0,))}
    ),
    "Conv, in groups": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = Conv <group = 4> (x, W) }}", {"W": ((64, 2, 3, 3), (0,))}
    ),
    "Conv, depthwise": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = Conv <group = 8> (x, W) }}", {"W": ((128, 1, 3, 3), (0,))}
    ),
    "ConvTranspose, as large as is said": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = ConvTranspose <strides = [2, 2], output_shape = [18, 15]> (x, W) }}",
        {"W": ((8, 20, 3, 3), (1,))},
    ),
    "ConvTranspose, 1-D, padded by itself": Case(
        f'{X2} => (float[?,?,?] y) {{ y = ConvTranspose <auto_pad = "SAME_UPPER"> (x, W) }}',
        {"W": ((16, 20, 4), (1,))},
    ),
    "ConvTranspose, of one tap": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = ConvTranspose (x, W) }}", {"W": ((8, 130, 1, 1), (1,))}
    ),
    "ConvTranspose, in groups": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = ConvTranspose <group = 4> (x, W) }}", {"W": ((8, 16, 3, 3), (0,))}
    ),
    "ConvTranspose, depthwise": Case(
        f"{X3} => (float[?,?,?,?] y) {{ y = ConvTranspose <group = 8> (x, W) }}", {"W": ((8, 16, 3, 3), (0, 1))}
    ),
    "MatMul, constant on the left": Case(
        "(float[2,32,5] x) => (float[2,40,5] y) { y = MatMul(W, x) }", {"W": ((40, 32), (0,))}
    ),
    "MatMul, stacked": Case(
        "(float[3,5,20] x) => (float[3,5,24] y) { y = MatMul(x, W) }", {"W": ((3, 20, 24), (0, 2))}
    ),
    "MatMul, stacked on the left": Case(
        "(float[2,3,20,5] x) => (float[2,3,24,5] y) { y = MatMul(W, x) }", {"W": ((2, 3, 24, 20), (0, 1, 2))}
    ),
    "MatMul, one output": Case("(float[5,1100] x) => (float[5,1] y) { y = MatMul(x, W) }", {"W": ((1100, 1), (1,))}),
    "MatMul, a vector": Case("(float[5,1100] x) => (float[5] y) { y = MatMul(x, W) }", {"W": ((1100,), ())}),
    "Gemm, constant on the left": Case(
        "(float[32,5] x) => (float[40,5] y) { y = Gemm <transA = 1, alpha = 2.0> (W, x) }",
        {"W": ((32, 40), (1,))},
        (11, 17),
    ),
    "Gemm, one output": Case(
        "(float[5,1100] x) => (float[5,1] y) { y = Gemm <transB = 1> (x, W) }", {"W": ((1, 1100), (0,))}, (11, 17)
    ),
    "Gather": Case("(int64[2,3] i) => (float[2,3,20] y) { y = Gather(W, i) }", {"W": ((60, 20), (0,))}),
    "Gather, columns": Case(
        "(int64[3] i) => (float[20,3] y) { y = Gather <axis = 1> (W, i) }", {"W": ((20, 60), (1,))}
    ),
    "Gather, twice": Case(
        "(int64[2,3] i, int64[4] j) => (float[2,3,20] y, float[4,20] z) { y = Gather(W, i)  z = Gather(W, j) }",
        {"W": ((60, 20), (0,))},
    ),
    "a table that is tied": Case(
        "(int64[2,3] i) => (float[2,3,60] y) { e = Gather(W, i)  t = Transpose <perm = [1, 0]> (W)  y = MatMul(e, t) }",
        {"W": ((60, 20), (0,))},
    ),
    "LSTM": Case(
        f"{SEQUENCE} {{ y, h = LSTM <hidden_size = 24> (x, W, R, b) }}",
        {"W": ((1, 96, 12), (0, 1)), "R": ((1, 96, 24), (0, 1))},
        beside=(("b", (1, 192)),),
    ),
    "LSTM, both ways": Case(
        f'{SEQUENCE} {{ y, h = LSTM <hidden_size = 16, direction = "bidirectional"> (x, W, R) }}',
        {"W": ((2, 64, 12), (0, 1)), "R": ((2, 64, 16), (0, 1))},
    ),
    "GRU": Case(
        f"{SEQUENCE} {{ y, h = GRU <hidden_size = 30> (x, W, R) }}",
        {"W": ((1, 90, 12), (0, 1)), "R": ((1, 90, 30), (0, 1))},
    ),
    "RNN": Case(
        f"{SEQUENCE} {{ y, h = RNN <hidden_size = 90> (x, W, R) }}",
        {"W": ((1, 90, 12), (0, 1)), "R": ((1, 90, 90), (0, 1))},
    ),
}
RUNS = [(name, opset) for name, case in CASES.items() for opset in case.opsets]


def made(name: str, opset: int) -> ModelProto:
    case = CASES[name]
    constants = {key: shape for key, (shape, _) in case.weights.items()} | dict(case.beside)
    return model(f"g {case.text}", opset=opset, **constants)


@pytest.mark.parametrize(("name", "opset"), RUNS, ids=str)
def test_a_weight_in_another_format_is_the_rounded_weight(name: str, opset: int) -> None:
    proto, case = made(name, opset), CASES[name]
    layers = layers_of(proto)
    assert [layer.weight for layer in layers] == list(case.weights)
    assert all(layer.structures == () and layer.why_whole and not skipped_of(proto) for layer in layers)
    new = stored_as(proto, Bytes())
    stored = initializers(proto)
    expected = with_weights(proto, {key: rounded(stored[key], own) for key, (_, own) in case.weights.items()})
    feeds = some_feeds(proto)
    before, after = run(expected, feeds), run(new, feeds)
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-4, atol=1e-4)
    kinds = {tensor.name: tensor.data_type for tensor in new.graph.initializer}
    assert {f"{key}.dalr_W" for key in case.weights} == {key for key in kinds if kinds[key] == TensorProto.INT8}
    kept = [node for node in new.graph.node if node.op_type not in ("Cast", "Mul")]
    assert [node.SerializeToString() for node in kept] == [node.SerializeToString() for node in proto.graph.node]


@pytest.mark.parametrize("name", CASES)
def test_a_layer_in_one_piece_is_stored_as_its_kind_says(name: str) -> None:
    proto = made(name, 17)
    for layer in layers_of(proto):
        stored = initializers(proto)[layer.weight]
        W = matrix(Model(proto), layer)
        assert W.shape == (layer.m, layer.n)
        np.testing.assert_array_equal(layer.kind.unmatrix(W, stored.shape, layer.uses[0]), stored)
        np.testing.assert_array_equal(layer.kind.operand(W, stored.shape), stored)
        laid_out = W.reshape(layer.shape.dims)
        np.testing.assert_array_equal(layer.kind.operand(laid_out, stored.shape), stored)
        for step in layer.kind.laying_out(laid_out.shape, stored.shape):  # type: ignore[attr-defined]
            if step.op == "Reshape":
                laid_out = laid_out.reshape(step.attributes["shape"])
            else:
                assert step.op == "Transpose"
                laid_out = laid_out.transpose(step.attributes["perm"])
        np.testing.assert_array_equal(laid_out, stored)
    assert list(differences(proto, stored_as(proto, FORMATS["keep"]))) == []


@pytest.mark.parametrize("name", CASES)
def test_a_weight_in_one_piece_is_fed_without_a_session(name: str) -> None:
    proto = made(name, 17)
    layers = layers_of(proto)
    fed, overrides = overridable(Model(proto), layers)
    onnx.checker.check_model(fed, full_check=True)
    feeds = some_feeds(proto)
    doubled = with_weights(proto, {layer.weight: 2 * initializers(proto)[layer.weight] for layer in layers})
    other = dict(feeds)
    for layer in layers:
        other |= overrides[layer.name].feed(2 * matrix(Model(proto), layer), np.zeros(layer.m))
    before, after = run(doubled, feeds), run(fed, other)
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-4, atol=1e-4)


def test_without_being_asked_for_nothing_is_in_one_piece() -> None:
    proto = made("Conv, in groups", 17)
    assert find(Model(proto))[0] == []
    (layer,) = layers_of(proto)
    (skipped,) = find(Model(proto))[1]
    assert layer.why_whole == skipped.reason == "grouped convolution (4 groups): only one group is supported"


WHY = {
    "Conv, 1-D": "grouped convolution (2 groups): only one group is supported",
    "Conv, depthwise": "depthwise convolution: each channel by itself, there is nothing to take apart",
    "ConvTranspose, in groups": "grouped convolution (4 groups): only one group is supported",
    "ConvTranspose, as large as is said": (
        "transposed convolution that is told its padding by `auto_pad` or `output_shape`, not by `pads`"
    ),
    "ConvTranspose, 1-D, padded by itself": (
        "transposed convolution that is told its padding by `auto_pad` or `output_shape`, not by `pads`"
    ),
    "ConvTranspose, of one tap": "1×1 transposed convolution is not supported",
    "Gather": "lookup table: its rows are picked, not multiplied",
    "MatMul, one output": "too small to gain at any rank (1×1100)",
    "LSTM": "recurrent: its weights are left as they are",
}


@pytest.mark.parametrize("name", WHY)
def test_a_weight_in_one_piece_says_why(name: str) -> None:
    assert [layer.why_whole for layer in layers_of(made(name, 17))][:1] == [WHY[name]]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_kernel_of_one_group_is_a_layer_like_others(op: str) -> None:
    proto = model(f"g {X3} => (float[?,?,?,?] y) {{ [it] y = {op}(x, W) }}", W=(8, 8, 5, 5))
    (layer,) = layers_of(proto)
    assert (layer.name, layer.in_one_piece, layer.structures != ()) == ("it", False, True)
    assert [found.weight for found in find(Model(proto))[0]] == ["W"]
    assert skipped_of(proto) == []


def test_layers_that_can_be_taken_apart_are_what_they_are_without() -> None:
    proto = model(
        "g (float[N,40] x, int64[K] i) => (float[N,40] y, float[K,40] z)"
        " { h = MatMul(x, V)  [g] z = Gather(T, i)  l = MatMul(h, one)  [fc] y = Gemm(l, W) }",
        V=(40, 1100),
        one=(1100, 1),
        W=(1, 40),
        T=(30, 40),
    )
    assert [layer.name for layer in find(Model(proto))[0]] == ["V"]
    layers, skipped = find(Model(proto), in_one_piece=True)
    assert [(layer.name, layer.in_one_piece) for layer in layers] == [("V", False), ("g", True), ("one", True)]
    assert [entry.name for entry in skipped] == ["fc"]  # 40 numbers
    assert layers[1].why_whole == "lookup table: its rows are picked, not multiplied"


def test_layers_of_both_sorts_are_replaced_together() -> None:
    proto = model(
        """g (float[2,32,40] x) => (float[?,?,?] y) {
            h = Conv <group = 2> (x, K)
            p = MatMul(h, V)
            q = Add(p, b)
            y = Conv <group = 2> (q, K)
        }""",
        K=(32, 16, 5),
        V=(36, 36),
        b=(36,),
    )
    whole, factorable = layers_of(proto)
    assert (whole.weight, len(whole.uses), whole.in_one_piece, factorable.structures != ()) == ("K", 2, True, True)
    parts = [
        Substitution.of(layer, (Piece("W", matrix(Model(proto), layer).reshape(layer.shape.dims)),), Bytes(), shift)
        for layer, shift in ((factorable, np.ones(36)), (whole, np.zeros(32)))
    ]
    made = rewrite(Model(proto), parts)
    onnx.checker.check_model(made.proto, full_check=True)
    assert made.tensors == {
        factorable.name: ("V.dalr_W", "V.dalr_W_scale", "b.dalr"),
        whole.name: ("K.dalr_W", "K.dalr_W_scale"),
    }
    stored, feeds = initializers(proto), some_feeds(proto)
    expected = with_weights(
        proto, {"K": rounded(stored["K"], (0,)), "V": rounded(stored["V"], (1,)), "b": stored["b"] + 1}
    )
    np.testing.assert_allclose(run(made.proto, feeds)["y"], run(expected, feeds)["y"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("rows", "found"), [(SMALLEST // 32, 1), (SMALLEST // 32 - 1, 0)])
def test_small_weights_are_not_worth_it(rows: int, found: int) -> None:
    proto = model("g (int64[K] i) => (float[K,32] y) { y = Gather(T, i) }", T=(rows, 32))
    assert len(layers_of(proto)) == found


@pytest.mark.parametrize(
    ("nodes", "outputs", "why"),
    [
        (
            "y = Gather(T, i)  z = Relu(T)",
            "float[?,?] z",
            "its weight is also read by Relu 'z', which needs it as it is",
        ),
        ("y = Gather(T, i)  z = Identity(T)", "float[?,?] z", "its weight is an output of the graph"),
        ("y = Gather(T, i)  z = MatMul(T, T)", "float[?,?] z", "both operands are constant"),
        ("y = Gather(T, i)  [g] z = Gemm(x, T, T)", "float[?,?] z", "its weight is also another operand of the node"),
        (
            "y = Gather(T, i) z = If (c) <then_branch = t () => (float[?,?] a) { a = Relu(T) },"
            " else_branch = e () => (float[?,?] d) { d = Neg(y) }>",
            "float[?,?] z",
            "its weight is also read by a node inside a subgraph, which needs it as it is",
        ),
    ],
)
def test_a_weight_that_something_else_needs_stays(nodes: str, outputs: str, why: str) -> None:
    proto = model(
        f"g (int64[K] i, float[40,40] x, bool c) => (float[K,40] y, {outputs}) {{ {nodes} }}", checked=False, T=(40, 40)
    )
    assert layers_of(proto) == []
    assert why in [entry.reason for entry in skipped_of(proto) if entry.op == "Gather"]


@pytest.mark.parametrize("op", ["Identity", "Relu"])
def test_a_weight_that_leaves_a_body_stays(op: str) -> None:
    proto = model(
        "g (int64[K] i, bool c) => (float[?,?] z) { t = If (c) <then_branch = t () => (float[?,?] a) "
        f"{{ a = {op}(T) }}, else_branch = e () => (float[?,?] d) {{ d = Gather(T, i) }}> z = Relu(t) }}",
        T=(40, 40),
    )
    assert layers_of(proto) == []


def test_a_half_weight_is_made_in_the_type_it_is_cast_to() -> None:
    proto = model(
        "g (float[32,5] x) => (float[40,5] y) { w = Cast <to = 1> (W)  y = MatMul(w, x) }",
        W=values("W", (40, 32), np.float16),
    )
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("W", TensorProto.FLOAT16, [40, 32]))
    new = stored_as(proto, Bytes())
    assert ops(new) == ["Cast", "Mul", "Cast", "MatMul"]
    assert initializers(new)["W.dalr_W_scale"].dtype == np.float32
    feeds = some_feeds(proto)
    W = rounded(initializers(proto)["W"].astype(np.float32), (0,))
    np.testing.assert_allclose(run(new, feeds)["y"], W @ feeds["x"], rtol=1e-4, atol=1e-4)


def test_a_half_model_stays_one() -> None:
    proto = model("g (float16[32,5] x) => (float16[40,5] y) { y = MatMul(W, x) }", W=values("W", (40, 32), np.float16))
    new = stored_as(proto, Bytes())
    assert initializers(new)["W.dalr_W_scale"].dtype == np.float16
    feeds = some_feeds(proto)
    np.testing.assert_allclose(run(new, feeds)["y"], run(proto, feeds)["y"], rtol=0.1, atol=0.3)


def test_a_weight_that_is_sliced_and_put_together_again_stays_one_layer() -> None:
    proto = model(
        """g (float[5,2,12] x) => (float[?,?,?,?] y) {
            s = Slice(W, thirty, all)
            t = Slice(W, zero, thirty)
            c = Concat <axis = 0> (s, t)
            w = Unsqueeze(c, zero)
            [rnn] y = LSTM <hidden_size = 30> (x, w, R)
        }""",
        W=(120, 12),
        R=(1, 120, 30),
        thirty=np.array([30]),
        zero=np.array([0]),
        all=np.array([120]),
    )
    assert [(layer.name, layer.m, layer.n) for layer in layers_of(proto)] == [("W", 120, 12), ("R", 120, 30)]
    assert skipped_of(proto) == []
    stored, feeds = initializers(proto), some_feeds(proto)
    expected = with_weights(proto, {"W": rounded(stored["W"], (0,)), "R": rounded(stored["R"], (0, 1))})
    np.testing.assert_allclose(run(stored_as(proto, Bytes()), feeds)["y"], run(expected, feeds)["y"], atol=1e-5)


BODY = """g (float[5,40] x, bool c) => (float[5,40] y) {{
    y = If (c) <
        then_branch = t () => (float[5,40] a) {} {{ {} [fc] a = MatMul(x, W) }},
        else_branch = e () => (float[5,40] d) {} {{ {} [fc] d = Gemm(x, W) }}
    >
}}"""


def bodies(proto: ModelProto) -> list[onnx.GraphProto]:
    return [attribute.g for node in proto.graph.node for attribute in node.attribute if attribute.HasField("g")]


@pytest.mark.parametrize("constant_nodes", [False, True])
def test_equal_names_in_sibling_bodies_are_two_layers(constant_nodes: bool) -> None:
    proto = model(BODY.format("", "", "", ""), checked=False)
    for number, body in enumerate(bodies(proto)):
        tensor = numpy_helper.from_array(values(f"W{number}", (40, 40)), "W")
        if constant_nodes:
            body.node.insert(0, onnx.helper.make_node("Constant", [], ["W"], value=tensor))
        else:
            body.initializer.append(tensor)
    layers = layers_of(proto)
    assert [layer.name for layer in layers] == ["y.then_branch/W", "y.else_branch/W"]
    assert [layer.why_whole for layer in layers] == [
        "inside a subgraph (then_branch of If 'y')",
        "inside a subgraph (else_branch of If 'y')",
    ]
    new = stored_as(proto, Bytes())
    assert [[node.op_type for node in body.node][-3:] for body in bodies(new)] == [
        ["Cast", "Mul", "MatMul"],
        ["Cast", "Mul", "Gemm"],
    ]
    for number, chosen in enumerate((True, False)):
        feeds = some_feeds(proto) | {"c": np.array(chosen)}
        W = rounded(values(f"W{number}", (40, 40)), (1,))
        np.testing.assert_allclose(run(new, feeds)["y"], feeds["x"] @ W, rtol=1e-4, atol=1e-4)


def test_a_weight_outside_that_bodies_read_is_one_layer() -> None:
    proto = model(BODY.format("", "", "", ""), W=(40, 40))
    (layer,) = layers_of(proto)
    assert (layer.name, layer.op, len(layer.uses)) == ("fc", "MatMul", 2)
    new = stored_as(proto, Bytes())
    assert ops(new) == ["Cast", "Mul", "If"]
    feeds = some_feeds(proto)
    expected = feeds["x"] @ rounded(initializers(proto)["W"], (1,))
    np.testing.assert_allclose(run(new, feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    fed, overrides = overridable(Model(proto), [layer])
    fed_with = feeds | overrides["fc"].feed(2 * matrix(Model(proto), layer), np.zeros(40))
    np.testing.assert_allclose(run(fed, fed_with)["y"], 2 * run(proto, feeds)["y"], rtol=1e-4, atol=1e-4)


LOOP = """g (float[5,40] x, int64 count, bool go) => (float[5,40] y) {{
    y, {} = Loop (count, go, x, W) <body = b (int64 i, bool c, float[5,40] s, float[40,40] w)
        => (bool k, float[5,40] t, float[40,40] {}) {{
        k = Identity(c)
        v = {}(w)
        p = MatMul(s, w)
        t = Tanh(p)
    }}>
}}"""


@pytest.mark.parametrize("handed", ["w", "v"])
def test_a_weight_that_a_loop_hands_from_turn_to_turn(handed: str) -> None:
    proto = model(LOOP.format("unused", handed, "Identity"), W=(40, 40))
    (layer,) = layers_of(proto)
    assert (layer.weight, layer.op) == ("W", "MatMul")
    feeds = some_feeds(proto) | {"count": np.array(3), "go": np.array(True)}
    expected = feeds["x"]
    for _ in range(3):
        expected = np.tanh(expected @ rounded(initializers(proto)["W"], (1,)))
    np.testing.assert_allclose(run(stored_as(proto, Bytes()), feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_a_weight_that_a_loop_changes_stays() -> None:
    assert layers_of(model(LOOP.format("unused", "v", "Neg"), W=(40, 40))) == []


def test_a_weight_that_a_loop_gives_to_something_else_stays() -> None:
    proto = model(LOOP.format("used", "w", "Identity"), checked=False, W=(40, 40))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("used", TensorProto.FLOAT, [40, 40]))
    assert layers_of(proto) == []
    assert skipped_of(proto)[0].reason == "inside a subgraph (body of Loop 'y')"


def test_a_weight_that_a_scan_reads() -> None:
    proto = model(
        """g (float[7,40] x, float[40] h) => (float[40] l, float[7,40] y) {
            l, y = Scan <num_scan_inputs = 1, body = b (float[40] s, float[40] r) => (float[40] t, float[40] o) {
                p = MatMul(s, W)
                t = Add(p, r)
                o = Identity(t)
            }> (h, x)
        }""",
        W=values("W", (40, 40)) / 40,
    )
    assert len(layers_of(proto)) == 1
    new, feeds = stored_as(proto, Bytes()), some_feeds(proto)
    expected = with_weights(proto, {"W": rounded(initializers(proto)["W"], (1,))})
    np.testing.assert_allclose(run(new, feeds)["y"], run(expected, feeds)["y"], rtol=1e-4, atol=1e-4)


FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[N,40] x) => (float[N,40] z) { y = local.Linear <turn = 1> (x)  z = local.Linear <turn = 1> (y) }
<domain: "local", opset_import: ["" : 17]>
Linear <turn> (x) => (y) { h = MatMul(x, W)  y = Gemm <transB: int = @turn> (h, V) }"""


def test_weights_inside_a_model_local_function() -> None:
    proto = model(FUNCTION, checked=False)
    for name in ("V", "W"):
        tensor = numpy_helper.from_array(values(name, (40, 40)) / 40, name)
        proto.functions[0].node.insert(0, onnx.helper.make_node("Constant", [], [name], value=tensor))
    layers = layers_of(proto)
    assert [layer.name for layer in layers] == ["W", "V"]
    new, feeds = stored_as(proto, Bytes()), some_feeds(proto)
    nodes = [node.op_type for node in new.functions[0].node]
    assert nodes == ["Constant"] * 4 + ["Cast", "Mul", "MatMul", "Cast", "Mul", "Gemm"]
    expected = feeds["x"]
    for _ in range(2):
        expected = expected @ rounded(values("W", (40, 40)) / 40, (1,)) @ rounded(values("V", (40, 40)) / 40, (0,)).T
    np.testing.assert_allclose(run(new, feeds)["z"], expected, rtol=1e-4, atol=1e-5)


def test_a_weight_of_a_constant_node_becomes_an_initializer() -> None:
    proto = with_constant_nodes(made("MatMul, constant on the left", 17), "W")
    new = stored_as(proto, Bytes())
    assert ops(new) == ["Cast", "Mul", "MatMul"]
    assert list(initializers(new)) == ["W.dalr_W", "W.dalr_W_scale"]


def test_initializers_among_the_inputs_stay_there() -> None:
    proto = made("Gather", 7)
    proto.ir_version = 3
    proto.graph.input.append(onnx.helper.make_tensor_value_info("W", TensorProto.FLOAT, [60, 20]))
    new = stored_as(proto, Bytes())
    assert [value.name for value in new.graph.input] == ["i", "W.dalr_W", "W.dalr_W_scale"]


def test_what_was_written_is_read_again_as_stored() -> None:
    new = stored_as(made("Gather", 17), Bytes())
    assert layers_of(new) == []
    assert {tensor.name for tensor in contents(Model(new)).tensors} == {"W.dalr_W", "W.dalr_W_scale"}


@pytest.mark.parametrize("nodes", ["y = Conv(x, W)", "y = ConvTranspose(x, W)", "y = Loop(c, c, W)", "y = Scan(W)"])
@pytest.mark.parametrize("shape", [(1200,), (30, 40)], ids=str)
def test_damaged_nodes_break_nothing(nodes: str, shape: tuple[int, ...]) -> None:
    proto = model(f"g (float[5,40] x, int64 c) => (float[?] y) {{ {nodes} }}", checked=False, W=shape)
    for layer in layers_of(proto):
        assert layer.params == 1200
