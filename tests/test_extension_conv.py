"""A structure of convolutions is one file: a toy of one, from end to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.factorize import UNTOUCHED, Form, Method, Need, Rank, Settings, Shape, Statistics
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.structures import STRUCTURES, Piece, Pieces, Slot
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.session.session import open_session
from tests.cli import tiny

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,6,12,12] x) => (float[N,4] y) {
  [conv] c = Conv<pads: ints = [1,1,1,1], strides: ints = [2,1]>(x, K, b)
  r = Relu(c)
  p = GlobalAveragePool(r)
  f = Flatten(p)
  [head] y = Gemm<transB: int = 1>(f, W, d)
}
"""


@dataclass(frozen=True)
class Separable:
    """A kh×1 kernel, then a 1×kw one, from the weights alone."""

    name: str = "toy"
    smallest: Rank = (1,)

    def applies(self, shape: Shape) -> bool:
        return len(shape.kernel) == 2 and min(shape.kernel) > 1

    def serves(self, method: Method) -> bool:  # noqa: ARG002
        return True

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:  # noqa: ARG002
        return None

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        one = sum(slot.shape.params for slot in self.slots(shape, (1,)))
        most = min(shape.channels * shape.kernel[0], shape.m * shape.kernel[1], (room - 1) // one)
        return [(rank,) for rank in range(1, most + 1)]

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        kh, kw = shape.kernel
        first, last = Shape(rank[0], shape.channels * kh, (kh, 1)), Shape(shape.m, rank[0] * kw, (1, kw))
        return Slot("V", first, (0,)), Slot("H", last, (1,))

    def needs(self, shape: Shape, method: Method) -> Need:
        return method.needs(shape.m, shape.n)

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        V, H = (piece.values for piece in pieces)
        return np.einsum("kcy,nkx->ncyx", V[..., 0], H[:, :, 0]).reshape(len(H), -1)

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> Separated:
        N, C, kh, kw = shape.dims
        M = W.astype(np.float64).reshape(N, C, kh, kw).transpose(1, 2, 0, 3).reshape(C * kh, N * kw)
        U, s, Vt = np.linalg.svd(M, full_matrices=False)
        left = (U * np.sqrt(s)).T.reshape(-1, C, kh, 1)
        right = (np.sqrt(s)[:, None] * Vt).reshape(-1, N, 1, kw).swapaxes(0, 1)
        power = method.spectrum(W, stats, settings).power
        kept = np.concatenate([[0.0], np.cumsum(s**2)])
        return Separated(left, right, power * np.maximum(1 - kept / kept[-1], 0), power)


@dataclass(frozen=True, eq=False)
class Separated:
    """Both kernels at every rank."""

    left: Float64
    right: Float64
    errors: Float64
    power: float
    method: str = "svd"
    ridge: float | None = None
    shrinkage: float | None = None
    metric_shrinkage: float | None = None
    has_effect: bool = False
    moves_bias: bool = False
    whole_effect: float = math.nan

    def error(self, rank: Rank) -> float:
        return float(self.errors[rank[0]])

    def tail(self, rank: Rank) -> float:
        return self.error(rank)

    def effect(self, rank: Rank) -> float:  # noqa: ARG002
        return math.nan

    def energy_lost(self, rank: Rank) -> float:
        return self.error(rank) / self.power

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        del swept
        V, H = self.left[: rank[0]], self.right[:, : rank[0]]
        return Pieces((Piece("V", V, (0,)), Piece("H", H, (1,))), np.zeros(len(self.right)))

    def compact(self) -> Separated:
        return self


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ModelProto:
    """A network with a 3×3 convolution, in a house that knows one way to take it apart."""
    for name in set(STRUCTURES) - {"pair"}:
        monkeypatch.delitem(STRUCTURES, name)
    monkeypatch.setitem(STRUCTURES, "toy", Separable())
    random = np.random.default_rng(0)
    arrays = {"K": (32, 6, 3, 3), "b": (32,), "W": (4, 32), "d": (4,)}
    return tiny.with_weights(TEXT, {k: random.standard_normal(s).astype(np.float32) for k, s in arrays.items()})


X = np.random.default_rng(1).standard_normal((60, 6, 12, 12)).astype(np.float32)


def test_a_structure_of_convolutions(network: ModelProto) -> None:
    layers, _ = find(Model(network))
    assert [(layer.name, layer.shape) for layer in layers] == [("conv", Shape(32, 54, (3, 3))), ("head", Shape(4, 32))]
    with onnx_dalr.analyze(network, calib=X, task="regress", method="svd") as analysis:
        plan = analysis.plan(params="70%")
        small = plan.apply(network, stats=analysis.stats)
    form, _ = plan.forms
    assert (form.structure, form.format) == ("toy", "keep")
    nodes = {node.name: {entry.name: list(entry.ints) for entry in node.attribute} for node in small.graph.node}
    assert nodes["conv.dalr_V"] == {"pads": [1, 0, 1, 0], "strides": [2, 1]}
    assert nodes["conv.dalr_H"] == {"pads": [0, 1, 0, 1]}
    onnx.checker.check_model(small, full_check=True)
    full = max(Separable().ranks(Shape(32, 54, (3, 3)), 10**6))
    whole = replaced(network, Form("toy", full))
    np.testing.assert_allclose(answers(whole), answers(network), rtol=1e-3, atol=1e-4)


def test_a_size_is_kept_with_kernels_of_several_axes(network: ModelProto) -> None:
    """What an outline weighs is what is written, geometry and all."""
    before = network.ByteSize()
    for share in np.linspace(0.55, 0.95, 9):
        result = onnx_dalr.optimize(network, calib=X, task="regress", method="svd", size=int(share * before))
        assert result.bytes_after <= int(share * before)


def replaced(model: ModelProto, form: Form) -> ModelProto:
    """The model with its convolution in a form that need not save anything."""
    from onnx_dalr.candidate.candidate import build

    with onnx_dalr.analyze(model, calib=X, task="regress", method="svd") as analysis:
        return build(analysis.context, analysis.layers, analysis.learned, [form, UNTOUCHED]).proto


def answers(model: ModelProto) -> NDArray[Any]:
    (y,) = open_session(model.SerializeToString(), "cpu").run({"x": X})
    return np.asarray(y)
