"""Forms as tests write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize import KEPT, PAIR, UNTOUCHED, Factors, Form, Shape
from onnx_dalr.factorize.formats import FORMATS, Encoded
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.structures.pair import pieces_of
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.rewrite import Substitution

__all__ = ["UNTOUCHED", "Coarse", "form", "pair", "paired"]


def pair(rank: int) -> Form:
    """Two thin matrices."""
    return Form(PAIR, (rank,))


def form(rank: int | None) -> Form:
    """The same; None is the layer as it is."""
    return UNTOUCHED if rank is None else pair(rank)


def paired(layer: Layer, factors: Factors) -> Substitution:
    """The factors in place of a layer's weight, in the element type it has."""
    made = pieces_of(factors)
    return Substitution.of(layer, made.pieces, FORMATS[KEPT], made.shift)


@dataclass(frozen=True)
class Coarse:
    """A format of a byte a number; what it leaves behind of a weight is for tests to say."""

    name: str = "coarse"
    reads_moment: bool = False

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        del dtype
        return shape.params

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        del moment
        return Encoded({"": values.astype(dtype)}, values)
