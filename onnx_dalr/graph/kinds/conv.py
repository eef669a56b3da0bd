"""Conv with one group, a kernel of any size, in 1 to 3 dimensions: a MatMul whose rows are positions × samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.factorize.shape import Shape
from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex
from onnx_dalr.graph.kinds.base import Kind, Lying, Refused, Replacement, Spanned, Use
from onnx_dalr.graph.kinds.geometry import Geometry, grouped, shared_out
from onnx_dalr.graph.kinds.operands import constant_operand, one_row
from onnx_dalr.graph.kinds.positions import along_axes
from onnx_dalr.graph.kinds.readings import Pick, everyone, patches
from onnx_dalr.graph.shapes import Sizes, exactly


@dataclass(frozen=True)
class Conv(Kind):
    """`Use.extra` holds the Geometry. A row is what the kernel sees at one position, (channel, *kernel)."""

    ops: ClassVar[tuple[str, ...]] = ("Conv",)

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Takes such a node as a Use, or says why it is none."""
        weight = constant_operand(node, index)
        if isinstance(weight, Refused):
            return weight
        dims = list(weight.tensor.dims)
        if reason := self.refusal(node, dims):
            return Refused(reason)
        name = node.input[2] if len(node.input) > 2 else ""
        bias = index.constant(name) if name else None
        if name and (bias is None or not one_row(bias, self.outputs(dims))):
            return Refused("its bias is computed at run time")
        return Use(
            kind=self,
            op=node.op_type,
            node=handle,
            node_name=node.name,
            data=node.input[0],
            weight=weight.name,
            layout=self,  # the two kinds of kernels take another axis for the outputs
            output=node.output[0],
            home=weight.home,
            path=weight.path,
            cast_to=weight.cast_to,
            bias=name or None,
            extra=Geometry.of(node, dims),
        )

    def refusal(self, node: NodeProto, dims: Sequence[int]) -> str | None:
        """Why a node with a constant of these dimensions is no layer."""
        if len(dims) < 3:
            return f"its weight has {len(dims)} axes, which is no kernel"
        if reason := grouped(node, channels=dims[1]):
            return reason
        return None if patches(node, dims) else self.unread(node)

    def unread(self, node: NodeProto) -> str:
        """Why it is not known what a kernel of one group sees."""
        del node
        return "its strides, dilations or pads are not those of its kernel"

    def outputs(self, dims: Sequence[int]) -> int:
        """How many there are."""
        return dims[0]

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of the kernel."""
        return Shape(dims[0], math.prod(dims[1:]), tuple(dims[2:]))

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """The kernel, its channels and taps in one axis."""
        return stored.reshape(len(stored), -1)

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """With these axes apart."""
        return W.reshape(dims)

    def bias_row(self, m: int, dims: Sequence[int]) -> tuple[int, ...]:
        """[m, 1, …], one for each spatial axis."""
        return (m, *([1] * (len(dims) - 2)))

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The positions that it steps over are no rows; the zeros it pads with are in them."""
        geometry: Geometry = use.extra
        if geometry.taps == 1:
            return np.moveaxis(geometry.reached(tensor), 1, -1)
        return geometry.patches.rows(tensor, everyone).reshape(*geometry.patches.shape(tensor), -1)

    def lying(self, use: Use) -> Lying | None:
        """Along the channels: what leaves it, and what enters a 1×1 kernel that neither steps nor pads."""
        geometry: Geometry = use.extra
        return Lying(1 if geometry.is_plain else None, 1, patches=geometry.patches)

    def some_rows(self, tensor: NDArray[Any], use: Use, pick: Pick) -> NDArray[Any]:
        """Some of them, [p, n]: of a kernel all together are many times the tensor."""
        geometry: Geometry = use.extra
        if geometry.taps == 1:
            return super().some_rows(tensor, use, pick)
        return geometry.patches.rows(tensor, pick)

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """Every position is a row."""
        return np.moveaxis(tensor, 1, -1)

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """Positions, without those it steps over."""
        geometry: Geometry = use.extra
        return entries / shape.channels / math.prod(geometry.strides)

    def positions(self, pieces: Sequence[Spanned], shape: Shape, use: Use, sizes: Sizes) -> tuple[int, ...]:
        """Of what it reads along axes that no kernel has spanned yet, of what it makes along the others."""
        del shape
        return along_axes(pieces, exactly(sizes, use.data), exactly(sizes, use.output))

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """A kernel: [out, in, *kernel], or [out, in, 1, …] of a matrix."""
        if array.ndim == 2 and array.shape[1] == math.prod(dims[1:]):
            return array.reshape(len(array), *dims[1:])
        return array.reshape(*array.shape, *([1] * (len(dims) - array.ndim)))

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """A node like it for every link, the bias on the last."""
        chain = list(new.chain(use.data, use.output))
        geometries = shared_out(use.extra, [link for link, _, _ in chain])
        nodes = [
            new.node(node, link.role, use.op, [data, link.operand], made, **geometry)
            for (link, data, made), geometry in zip(chain, geometries, strict=True)
        ]
        if new.bias is not None:
            nodes[-1].input.append(new.bias)
        return nodes
