"""Convolutions of every geometry: models of one node, and kernels taken apart with nothing left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_dalr.factorize import METHODS, Need, Rank, Settings, Statistics
from onnx_dalr.factorize.structures import STRUCTURES, Decomposition
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model, only_layer, some_feeds


@dataclass(frozen=True)
class Case:
    """One node: what it reads (of one sample), its kernel as it is stored, its attributes."""

    op: str
    data: tuple[int, ...]
    kernel: tuple[int, ...]
    attributes: str = ""

    @property
    def m(self) -> int:
        return self.kernel[1 if self.op == "ConvTranspose" else 0]

    def made(self, opset: int = 17, batch: str = "N", *, biased: bool = True) -> ModelProto:
        """A model of it, float32."""
        rank = len(self.kernel)
        given, axes = f"<{self.attributes}>" if self.attributes else "", ",".join("ABCDE"[:rank])
        text = (
            f"g (float[{batch},{','.join(map(str, self.data))}] x) => (float[{axes}] y)"
            f" {{ [it] y = {self.op} {given} (x, W{', b' if biased else ''}) }}"
        )
        constants: dict[str, Any] = {"W": self.kernel} | ({"b": (self.m,)} if biased else {})
        return model(text, opset=opset, ir_version=10 if opset > 20 else 7, **constants)


CONVS = {
    "1-D": Case("Conv", (4, 11), (6, 4, 3)),
    "1-D, even, strided, uneven": Case("Conv", (5, 12), (4, 5, 4), "strides = [3], pads = [2, 1]"),
    "1-D, dilated": Case("Conv", (3, 15), (8, 3, 5), "dilations = [2], pads = [0, 3]"),
    "1-D, padded at the end": Case("Conv", (4, 13), (6, 4, 4), 'auto_pad = "SAME_UPPER", strides = [2]'),
    "2-D": Case("Conv", (4, 7, 8), (6, 4, 3, 3)),
    "2-D, padded alike": Case("Conv", (4, 7, 8), (6, 4, 3, 3), "pads = [1, 1, 1, 1]"),
    "2-D, not square": Case("Conv", (4, 9, 8), (6, 4, 5, 2)),
    "2-D, even, uneven": Case("Conv", (3, 7, 9), (8, 3, 2, 4), "pads = [1, 0, 2, 3]"),
    "2-D, strides": Case("Conv", (4, 9, 11), (6, 4, 3, 3), "strides = [2, 3], pads = [1, 1, 1, 1]"),
    "2-D, strides beyond the kernel": Case("Conv", (4, 9, 11), (6, 4, 2, 3), "strides = [3, 4]"),
    "2-D, dilations": Case("Conv", (4, 9, 11), (6, 4, 3, 3), "dilations = [2, 3], pads = [2, 1, 0, 3]"),
    "2-D, all of it": Case(
        "Conv", (5, 13, 12), (4, 5, 3, 4), "strides = [2, 3], dilations = [3, 2], pads = [3, 0, 1, 4]"
    ),
    "2-D, one axis": Case("Conv", (4, 7, 8), (6, 4, 1, 3), "pads = [0, 1, 0, 1], strides = [2, 1]"),
    "2-D, the other": Case("Conv", (4, 7, 8), (6, 4, 3, 1), "strides = [1, 2], pads = [1, 0, 1, 0]"),
    "2-D, pads where the kernel does not reach": Case("Conv", (4, 5, 6), (6, 4, 1, 3), "pads = [1, 1, 2, 1]"),
    "2-D, as large as before": Case("Conv", (4, 7, 8), (6, 4, 3, 4), 'auto_pad = "SAME_UPPER"'),
    "2-D, as large, from the front": Case("Conv", (4, 7, 8), (6, 4, 4, 3), 'auto_pad = "SAME_LOWER"'),
    "2-D, as large, strided": Case("Conv", (4, 9, 8), (6, 4, 5, 3), 'auto_pad = "SAME_UPPER", strides = [2, 3]'),
    "2-D, as large, front, strided": Case("Conv", (4, 9, 8), (6, 4, 4, 3), 'auto_pad = "SAME_LOWER", strides = [2, 3]'),
    "2-D, not padded": Case("Conv", (4, 7, 8), (6, 4, 3, 3), 'auto_pad = "VALID", strides = [2, 1]'),
    "2-D, told what it is": Case(
        "Conv", (4, 7, 8), (6, 4, 3, 2), 'kernel_shape = [3, 2], group = 1, auto_pad = "NOTSET", dilations = [1, 1]'
    ),
    "2-D, of one channel": Case("Conv", (1, 7, 8), (6, 1, 3, 3)),
    "2-D, to one channel": Case("Conv", (6, 7, 8), (1, 6, 3, 3)),
    "2-D, more outputs than a patch": Case("Conv", (2, 6, 6), (30, 2, 2, 3), "strides = [2, 2]"),
    "3-D": Case("Conv", (3, 4, 5, 6), (5, 3, 2, 3, 3)),
    "3-D, all of it": Case(
        "Conv",
        (3, 6, 7, 8),
        (5, 3, 2, 3, 2),
        "strides = [1, 2, 3], dilations = [2, 1, 2], pads = [1, 0, 2, 0, 1, 1]",
    ),
    "3-D, as large": Case("Conv", (3, 4, 5, 6), (5, 3, 3, 2, 3), 'auto_pad = "SAME_LOWER", strides = [2, 1, 1]'),
}
TRANSPOSED = {
    "1-D": Case("ConvTranspose", (4, 7), (4, 6, 3)),
    "1-D, strided, uneven": Case("ConvTranspose", (4, 7), (4, 6, 5), "strides = [3], pads = [2, 1]"),
    "2-D": Case("ConvTranspose", (4, 5, 6), (4, 6, 3, 3)),
    "2-D, side by side": Case("ConvTranspose", (4, 5, 6), (4, 6, 2, 2), "strides = [2, 2]"),
    "2-D, with gaps": Case("ConvTranspose", (4, 5, 6), (4, 6, 2, 3), "strides = [3, 4]"),
    "2-D, one more": Case(
        "ConvTranspose", (4, 5, 6), (4, 6, 3, 3), "strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]"
    ),
    "2-D, dilations": Case("ConvTranspose", (4, 5, 6), (4, 6, 3, 2), "dilations = [2, 3], pads = [1, 0, 2, 1]"),
    "2-D, dilations and one more": Case(
        "ConvTranspose", (4, 5, 6), (4, 6, 3, 3), "strides = [2, 1], dilations = [2, 3], output_padding = [1, 0]"
    ),
    "2-D, all of it": Case(
        "ConvTranspose",
        (5, 4, 5),
        (5, 3, 3, 4),
        "strides = [2, 3], dilations = [1, 2], pads = [1, 0, 2, 1], output_padding = [1, 2]",
    ),
    "2-D, not padded": Case("ConvTranspose", (4, 5, 6), (4, 6, 3, 3), 'auto_pad = "VALID", strides = [2, 2]'),
    "3-D": Case("ConvTranspose", (3, 3, 4, 3), (3, 4, 2, 3, 2), "strides = [2, 1, 2], pads = [0, 1, 1, 1, 0, 0]"),
}
CASES = {f"{one.op} {name}": one for group in (CONVS, TRANSPOSED) for name, one in group.items()}


def layer_of(proto: ModelProto) -> Layer:
    """The one kernel, which is a layer like others."""
    layer = only_layer(proto)
    assert not layer.in_one_piece
    return layer


def full(layer: Layer, structure: str) -> Rank:
    """The rank at which nothing is left out."""
    shape = layer.shape
    if structure == "tucker":
        return min(shape.channels, shape.m * math.prod(shape.kernel)), min(shape.m, shape.n)
    return STRUCTURES[structure].ranks(shape, 10**9)[-1]


def decomposed(proto: ModelProto, layer: Layer, structure: str) -> Decomposition:
    """The layer's kernel taken apart for what enters it where the model reads `some_feeds`."""
    W = matrix(Model(proto), layer).astype(np.float64)
    stats = Statistics(layer.m, layer.n, Need.INPUT, math.prod(layer.shape.kernel))
    for use in layer.uses:
        stats.update(use.rows(some_feeds(proto)[use.data]).reshape(-1, layer.n).astype(np.float64), W)
    return STRUCTURES[structure].decompose(W, layer.shape, stats, METHODS["dalr"], Settings())


@cache
def of_case(name: str, structure: str) -> Decomposition:
    """The kernel of a case: how the model is written does not matter to it."""
    proto = CASES[name].made()
    return decomposed(proto, layer_of(proto), structure)


def structures_of(name: str) -> tuple[str, ...]:
    """Names of those that apply to the kernel of a case."""
    return tuple(structure.name for structure in layer_of(CASES[name].made()).structures)
