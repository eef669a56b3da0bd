"""Layers that can be taken apart in more than one way, with what is lost in each way made up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.factorize import METHODS
from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures import STRUCTURES, Pieces
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.macs import multiply_adds
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.learn import Learned
from onnx_dalr.request.target import make_target
from tests.graph.helpers import model

NET = Model(
    model(
        """g (float[N,8,32,32] x) => (float[N,10] y) {
            [first] a = Conv <pads = [1,1,1,1]> (x, K1)
            [second] b = Conv <pads = [1,1,1,1], strides = [2,2]> (a, K2)
            [third] c = Conv <pads = [1,1,1,1]> (b, K3)
            [point] d = Conv (c, P)
            p = GlobalAveragePool (d)  f = Flatten (p)
            [head] y = MatMul (f, W)
        }""",
        K1=(32, 8, 3, 3),
        K2=(48, 32, 3, 3),
        K3=(48, 48, 3, 3),
        P=(64, 48, 1, 1),
        W=(64, 10),
    )
)
KERNELS, _ = find(NET)
MACS = multiply_adds(NET, sizes_on(NET.proto, {"x": (1, 8, 32, 32)}))


@dataclass(frozen=True)
class Made:
    """Loses the less, the more parameters of the weight it keeps: e^(−rate · share)."""

    layer: Layer
    name: str
    rate: float
    weight: float
    method: str = "made"
    power: float = 1.0
    ridge: float | None = None
    shrinkage: float | None = None
    metric_shrinkage: float | None = None
    has_effect: bool = True
    moves_bias: bool = False

    def tail(self, rank: Rank) -> float:
        slots = STRUCTURES[self.name].slots(self.layer.shape, rank)
        return math.exp(-self.rate * sum(slot.shape.params for slot in slots) / self.layer.params)

    def error(self, rank: Rank) -> float:
        return self.tail(rank)

    def energy_lost(self, rank: Rank) -> float:
        return self.tail(rank)

    @property
    def whole_effect(self) -> float:
        return self.weight

    def effect(self, rank: Rank) -> float:
        return self.weight * self.tail(rank)

    def pieces(self, rank: Rank) -> Pieces:
        raise NotImplementedError(rank)

    def compact(self) -> Made:
        return self


RATES = {"pair": 4.0, "out": 5.0, "in": 4.5, "v": 8.0, "h": 7.0, "tucker": 9.0}
WEIGHTS = {"first": 1.0, "second": 4.0, "third": 2.0, "point": 1.0, "head": 1.0}


def kernels(
    rates: Mapping[str, float] = RATES, layers: Sequence[Layer] = KERNELS, *, known: bool = True, **target: Any
) -> SearchSpace:
    """The five layers, whose losses fall at these rates by structure."""
    spectra = {
        layer.name: Spectra(
            {
                each.name: Made(layer, each.name, rates[each.name], WEIGHTS[layer.name], has_effect=known)
                for each in layer.structures
            }
        )
        for layer in layers
    }
    learned = Learned({"default": spectra}, {}, frozenset(), {}, 0, ())
    space = SearchSpace(
        make_target(**target), layers, learned, METHODS["dalr"], NET.params, NET.size, lambda forms: NET.size
    )
    return replace(space, macs=MACS)
