"""What takes the place of a weight: chains of any length, and formats whose numbers have to be made floats first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_dalr.factorize.formats import FORMATS, Decoding, Encoded
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.rewrite import Part, Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import initializers, model, only_layer, ops, run, some_feeds, values

ROWS = "g (float[N,6] x) => (float[N,8] y)"
CONV = "[fc] y = Conv <strides = [2, 2], pads = [0, 1, 0, 2]> (x, W, b)"
MODELS = {
    "Gemm": model(f"{ROWS} {{ [fc] y = Gemm <alpha = 0.5, transB = 1> (x, W, b) }}", W=(8, 6), b=(8,)),
    "Gemm, transA": model("g (float[6,N] x) => (float[N,8] y) { [fc] y = Gemm <transA = 1> (x, W) }", W=(6, 8)),
    "MatMul": model(f"{ROWS} {{ [fc] p = MatMul(x, W)  y = Add(p, b) }}", W=(6, 8), b=(8,)),
    "Conv": model(f"g (float[N,6,7,5] x) => (float[N,8,4,4] y) {{ {CONV} }}", W=(8, 6, 1, 1), b=(8,)),
}
SHIFT = values("shift", (8,))


def expected(proto: ModelProto, W: np.ndarray, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the model computes with another W, [m, n], and a bias moved by SHIFT."""
    made = ModelProto()
    made.CopyFrom(proto)
    stored = next(tensor for tensor in made.graph.initializer if tensor.name == "W")
    layer = only_layer(proto)
    new = layer.kind.unmatrix(W, tuple(stored.dims), layer.uses[0])
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new, np.float32), "W"))
    row = SHIFT.reshape(layer.kind.bias_row(8, tuple(stored.dims)))
    return run(made, feeds)["y"] + row


def chained(layer: Layer, widths: Sequence[int]) -> tuple[tuple[Piece, ...], np.ndarray]:
    """Pieces that lead over so many latents, and their product."""
    sizes = (layer.n, *widths, layer.m)
    pieces = tuple(Piece(f"P{at}", values(f"P{at}", sizes[at : at + 2][::-1])) for at in range(len(sizes) - 1))
    product = pieces[0].values
    for piece in pieces[1:]:
        product = piece.values @ product
    return pieces, product


def check(proto: ModelProto, made: ModelProto, W: np.ndarray, tolerance: float = 1e-4) -> None:
    onnx.checker.check_model(made, full_check=True)
    feeds = some_feeds(proto)
    np.testing.assert_allclose(run(made, feeds)["y"], expected(proto, W, feeds), rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("widths", [(), (3,), (3, 2), (5, 4, 3)], ids=lambda widths: f"{len(widths) + 1} parts")
@pytest.mark.parametrize("name", MODELS)
def test_a_chain_of_any_number_of_parts_computes_their_product(name: str, widths: tuple[int, ...]) -> None:
    proto = MODELS[name]
    layer = only_layer(proto)
    pieces, product = chained(layer, widths)
    made = rewrite(Model(proto), [Substitution.of(layer, pieces, FORMATS["keep"], SHIFT)])
    check(proto, made.proto, product)
    assert ops(made.proto).count("Conv" if name == "Conv" else "MatMul") == len(pieces)
    tensors = [f"W.dalr_P{at}" for at in range(len(pieces))]
    assert list(made.tensors["fc"]) == [*tensors, "W.dalr_bias" if name == "Gemm, transA" else "b.dalr"]
    assert set(made.tensors["fc"]) == set(initializers(made.proto))
    latents = {output for node in made.proto.graph.node for output in node.output if "latent" in output}
    assert latents == {f"{layer.uses[0].output}.dalr_latent{end}" for end in ("", "_2", "_3")[: len(widths)]}


class Tenths:
    """Whole tenths, in a byte, with a scale for each output and the element type of the layer."""

    name = "tenths"

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        return shape.params + dtype.itemsize * shape.m

    def encode(self, W: np.ndarray, dtype: np.dtype[Any], moment: np.ndarray | None = None) -> Encoded:
        del dtype, moment
        scale = np.full((len(W), *[1] * (W.ndim - 1)), 0.1)
        steps = (Decoding("Cast", attributes={"to": None}), Decoding("Mul", operand="_scale"))
        return Encoded({"": np.rint(W / scale).astype(np.int8), "_scale": scale}, W, steps)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_format_whose_numbers_are_made_floats_by_steps(name: str, count: int) -> None:
    proto = MODELS[name]
    layer = only_layer(proto)
    pieces, _ = chained(layer, (3,) * (count - 1))
    rounded = [np.rint(piece.values / 0.1) * 0.1 for piece in pieces]
    made = rewrite(Model(proto), [Substitution.of(layer, pieces, Tenths(), SHIFT)])
    check(proto, made.proto, rounded[-1] @ rounded[0] if count == 2 else rounded[0])
    kinds = {tensor.name: tensor.data_type for tensor in made.proto.graph.initializer}
    assert (kinds["W.dalr_P0"], kinds["W.dalr_P0_scale"]) == (TensorProto.INT8, TensorProto.FLOAT)
    assert [op for op in ops(made.proto) if op in ("Cast", "Mul")] == ["Cast", "Mul"] * count
    names = [node.name for node in made.proto.graph.node]
    assert len(set(names)) == len(names)


def test_a_weight_that_was_cast_gets_the_steps_alone() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y) { w = Cast <to = 1> (W)  [fc] y = MatMul(x, w) }",
        W=values("W", (6, 8), np.float16),
    )
    layer = only_layer(proto)
    pieces, _ = chained(layer, ())
    made = rewrite(Model(proto), [Substitution.of(layer, pieces, Tenths(), np.zeros(8))])
    assert ops(made.proto) == ["Cast", "Mul", "MatMul"]
    feeds = some_feeds(proto)
    rounded = np.rint(pieces[0].values / 0.1) * 0.1
    np.testing.assert_allclose(run(made.proto, feeds)["y"], feeds["x"] @ rounded.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("axes", "strides", "pads"),
    [
        ((None, None), ([2, 2], None), ([0, 1, 0, 2], None)),
        (((), None), (None, [2, 2]), (None, [0, 1, 0, 2])),
        (((0,), (1,)), ([2, 1], [1, 2]), (None, [0, 1, 0, 2])),
        (((1,), None), ([1, 2], [2, 1]), ([0, 1, 0, 2], None)),
    ],
    ids=["first", "last", "down, across", "across, the rest"],
)
def test_stride_and_padding_of_an_axis_go_to_the_first_part_that_spans_it(
    axes: Sequence[tuple[int, ...] | None], strides: Sequence[Any], pads: Sequence[Any]
) -> None:
    proto = MODELS["Conv"]
    layer = only_layer(proto)
    pieces, product = chained(layer, (3,))
    parts = [
        Part(piece.role, FORMATS["keep"].encode(piece.values, layer.dtype), spanned)
        for piece, spanned in zip(pieces, axes, strict=True)
    ]
    made = rewrite(Model(proto), [Substitution(layer, tuple(parts), SHIFT)]).proto
    found = [{entry.name: list(entry.ints) for entry in node.attribute} for node in made.graph.node]
    assert [each.get("strides") for each in found] == list(strides)
    assert [each.get("pads") for each in found] == list(pads)
    check(proto, made, product)
