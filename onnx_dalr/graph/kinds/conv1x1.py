"""Conv with a 1×1 kernel, group 1, in 1 to 3 dimensions: a MatMul whose rows are positions × samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.factorize.shape import Shape
from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds.base import Kind, Link, Refused, Replacement, Use
from onnx_dalr.graph.kinds.operands import constant_operand, one_row


class Geometry(NamedTuple):
    """How a kernel goes over its data.

    Attributes:
        strides: Which positions along the spatial axes become rows; empty for all.
        pads: Zeros before all spatial axes, then after all of them, as ONNX writes them; empty for none.
    """

    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Conv1x1(Kind):
    """`Use.extra` holds the Geometry."""

    ops: ClassVar[tuple[str, ...]] = ("Conv",)

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Takes a 1×1 Conv as a Use, or says why it is none."""
        weight = constant_operand(node, index)
        if isinstance(weight, Refused):
            return weight
        dims = list(weight.tensor.dims)
        kernel = dims[2:]
        if not kernel:
            return Refused(f"its weight has {len(dims)} axes, which is no kernel")
        if math.prod(kernel) != 1:
            return Refused(f"{'×'.join(map(str, kernel))} convolution: only 1×1 is supported")
        if attribute(node, "group", 1) != 1:
            return Refused(f"grouped convolution ({attribute(node, 'group', 1)} groups): only one group is supported")
        name = node.input[2] if len(node.input) > 2 else ""
        bias = index.constant(name) if name else None
        if name and (bias is None or not one_row(bias, dims[0])):
            return Refused("its bias is computed at run time")
        strides, pads = attribute(node, "strides", []), attribute(node, "pads", [])
        return Use(
            kind=self,
            op=node.op_type,
            node=handle,
            node_name=node.name,
            data=node.input[0],
            weight=weight.name,
            layout=None,
            output=node.output[0],
            home=weight.home,
            path=weight.path,
            cast_to=weight.cast_to,
            bias=name or None,
            extra=Geometry(
                tuple(strides) if any(step != 1 for step in strides) else (), tuple(pads) if any(pads) else ()
            ),
        )

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of the kernel."""
        return Shape(dims[0], math.prod(dims[1:]), tuple(dims[2:]))

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """The kernel without its axes of length 1."""
        return stored.reshape(stored.shape[:2])

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """With them."""
        return W.reshape(dims)

    def bias_row(self, m: int, dims: Sequence[int]) -> tuple[int, ...]:
        """[m, 1, …], one for each spatial axis."""
        return (m, *([1] * (len(dims) - 2)))

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The positions that it steps over are no rows; the zeros it pads with are."""
        strides, pads = use.extra
        if pads:
            half = len(pads) // 2
            around = list(zip(pads[:half], pads[half:], strict=True))
            tensor = np.pad(tensor, [(0, 0), (0, 0), *around])
        if strides:
            tensor = tensor[(slice(None), slice(None), *(slice(None, None, step) for step in strides))]
        return np.moveaxis(tensor, 1, -1)

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """Every position is a row."""
        return np.moveaxis(tensor, 1, -1)

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """Positions, without those it steps over."""
        strides: tuple[int, ...] = use.extra.strides
        return entries / shape.channels / math.prod(strides)

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """A kernel: [out, in, 1, …]."""
        return array.reshape(*array.shape, *([1] * (len(dims) - array.ndim)))

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """A Conv for every link, the bias on the last."""
        chain = list(new.chain(use.data, use.output))
        geometries = _shared_out(use.extra, [link for link, _, _ in chain])
        nodes = [
            new.node(node, link.role, "Conv", [data, link.operand], made, **geometry)
            for (link, data, made), geometry in zip(chain, geometries, strict=True)
        ]
        if new.bias is not None:
            nodes[-1].input.append(new.bias)
        return nodes


def _shared_out(whole: Geometry, links: Sequence[Link]) -> list[dict[str, list[int]]]:
    """Attributes for every link: the stride and padding of an axis go to the first link that spans it."""
    left = set(range(max(len(whole.strides), len(whole.pads) // 2)))
    found = []
    for link in links:
        mine = left if link.axes is None else left & set(link.axes)
        left = left - mine
        strides = [step if axis in mine else 1 for axis, step in enumerate(whole.strides)]
        half = len(whole.pads) // 2 or 1
        pads = [zeros if at % half in mine else 0 for at, zeros in enumerate(whole.pads)]
        geometry = {"strides": strides} if any(step != 1 for step in strides) else {}
        found.append(geometry | ({"pads": pads} if any(pads) else {}))
    return found
