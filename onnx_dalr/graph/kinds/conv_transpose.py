"""ConvTranspose with one group: a MatMul whose rows are what lies under its kernel at each position it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.factorize.formats import Decoding
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import Structure
from onnx_dalr.graph.kinds.base import Lying, Spanned, Use
from onnx_dalr.graph.kinds.conv import Conv
from onnx_dalr.graph.kinds.geometry import Geometry
from onnx_dalr.graph.kinds.positions import along_axes
from onnx_dalr.graph.kinds.readings import told_its_size
from onnx_dalr.graph.shapes import Sizes, exactly

_STRUCTURES = ("out", "in")
"""A kernel for each axis would make zeros between positions twice, and compute with them."""


@dataclass(frozen=True)
class ConvTranspose(Conv):
    """Its constant is [C, M, *kernel], and so are those of its pieces."""

    ops: ClassVar[tuple[str, ...]] = ("ConvTranspose",)

    def refusal(self, node: NodeProto, dims: Sequence[int]) -> str | None:
        """Why a node with a constant of these dimensions is no layer."""
        if reason := super().refusal(node, dims):
            return reason
        return "1×1 transposed convolution is not supported" if math.prod(dims[2:]) == 1 else None

    def unread(self, node: NodeProto) -> str:
        """Why it is not known what a kernel of one group sees."""
        if told_its_size(node):
            return "transposed convolution that is told its padding by `auto_pad` or `output_shape`, not by `pads`"
        return super().unread(node)

    def outputs(self, dims: Sequence[int]) -> int:
        """How many there are."""
        return dims[1]

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of the kernel."""
        return Shape(dims[1], dims[0] * math.prod(dims[2:]), tuple(dims[2:]))

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """The kernel, outputs first, its channels and taps in one axis."""
        return stored.swapaxes(0, 1).reshape(stored.shape[1], -1)

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """With these axes apart, inputs first."""
        return W.reshape(dims[1], dims[0], *dims[2:]).swapaxes(0, 1)

    def lying(self, use: Use) -> Lying | None:
        """Its constant is neither W nor Wᵀ."""
        return None

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """Positions that it makes."""
        geometry: Geometry = use.extra
        return entries / shape.channels * math.prod(geometry.strides)

    def positions(self, pieces: Sequence[Spanned], shape: Shape, use: Use, sizes: Sizes) -> tuple[int, ...]:
        """Every input goes through all taps once; what follows the kernel meets what it makes."""
        del shape
        return along_axes(pieces, exactly(sizes, use.data), exactly(sizes, use.output), transposed=True)

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """[in, out, *kernel], of whatever belongs to [out, in, *kernel]."""
        if array.ndim == 2 and array.shape[1] == dims[0] * math.prod(dims[2:]):
            array = array.reshape(len(array), dims[0], *dims[2:])
        return super().operand(array, dims).swapaxes(0, 1)

    def laying_out(self, shape: Sequence[int], dims: Sequence[int]) -> tuple[Decoding, ...]:
        """The same, of floats that are made when the model is loaded."""
        full = (*shape, *[1] * (len(dims) - len(shape)))
        steps = () if len(full) == len(shape) else (Decoding("Reshape", attributes={"shape": full}),)
        return (*steps, Decoding("Transpose", attributes={"perm": [1, 0, *range(2, len(full))]}))

    def structures(self, shape: Shape) -> tuple[Structure, ...]:
        """Those with one kernel, that of the layer."""
        return tuple(structure for structure in super().structures(shape) if structure.name in _STRUCTURES)
