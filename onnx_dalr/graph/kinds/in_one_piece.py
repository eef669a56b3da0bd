"""Weights that are not taken apart, only stored in another format: a line in `OPERANDS` for each operand of a node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.factorize.formats import Decoding
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import Structure
from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds.base import Kind, Refused, Replacement, Use
from onnx_dalr.graph.kinds.readings import Pick, Reading, everyone, left_operand, patches, sequence, states

LOOKED_UP = "lookup table: its rows are picked, not multiplied"
NOT_SUPPORTED = "not supported"

Axes = tuple[tuple[int, ...], ...]
"""The axes of a tensor that become one of [m, channels, *kernel] each, every one of them somewhere."""


class Operand(NamedTuple):
    """An operand of a node that may be such a weight.

    Attributes:
        axes: Of the weight as the node reads it: which make the rows of one scale each, which the inputs.
        why_whole: Why it is not taken apart, where nobody says more.
        reading: What enters the weight, of the dimensions that the node sees; None where that is not looked at.
    """

    axes: Callable[[NodeProto, Sequence[int]], Axes]
    why_whole: str = NOT_SUPPORTED
    reading: Callable[[NodeProto, Sequence[int]], Reading | None] = lambda node, dims: None


def rows(rank: int) -> Axes:
    """The last axis is the inputs'."""
    return (tuple(range(rank - 1)), (rank - 1,))


def _left(node: NodeProto, dims: Sequence[int]) -> Axes:
    """[…, M, K], and [dirs, gates, inputs]."""
    del node
    return rows(len(dims))


def _right(node: NodeProto, dims: Sequence[int]) -> Axes:
    """[…, K, N], and [K]."""
    del node
    rank = len(dims)
    return ((*range(rank - 2), rank - 1), (rank - 2,)) if rank > 1 else rows(rank)


def _gemm_left(node: NodeProto, dims: Sequence[int]) -> Axes:
    return (_right if attribute(node, "transA", 0) else _left)(node, dims)


def _gemm_right(node: NodeProto, dims: Sequence[int]) -> Axes:
    return (_left if attribute(node, "transB", 0) else _right)(node, dims)


def _kernel(node: NodeProto, dims: Sequence[int]) -> Axes:
    """[M, C/group, *kernel]."""
    del node
    return tuple((axis,) for axis in range(len(dims))) if len(dims) > 2 else rows(len(dims))


def _transposed_kernel(node: NodeProto, dims: Sequence[int]) -> Axes:
    """[C, M/group, *kernel]: an output channel is one of each group, which has a scale only where that broadcasts."""
    group, kernel = attribute(node, "group", 1), tuple((axis,) for axis in range(2, len(dims)))
    if not kernel:
        return rows(len(dims))
    if group == 1:
        return ((1,), (0,), *kernel)
    return ((0, 1), (), *kernel) if group == dims[0] else ((0,), (1,), *kernel)


def _table(node: NodeProto, dims: Sequence[int]) -> Axes:
    """What one index picks is a row."""
    picked = attribute(node, "axis", 0) % len(dims)
    rest = tuple(axis for axis in range(len(dims)) if axis != picked)
    return ((picked,), rest) if rest else rows(len(dims))


OPERANDS: dict[tuple[str, int], Operand] = {
    ("Gemm", 0): Operand(_gemm_left),
    ("Gemm", 1): Operand(_gemm_right, reading=left_operand),
    ("MatMul", 0): Operand(_left),
    ("MatMul", 1): Operand(_right, reading=left_operand),
    ("Conv", 1): Operand(_kernel, reading=patches),
    ("ConvTranspose", 1): Operand(_transposed_kernel, reading=patches),
    ("Gather", 0): Operand(_table, LOOKED_UP),
    **{(op, 1): Operand(_left, reading=sequence) for op in ("LSTM", "GRU", "RNN")},
    **{(op, 2): Operand(_left, reading=states) for op in ("LSTM", "GRU", "RNN")},
}
"""By operator and place."""


@dataclass(frozen=True)
class InOnePiece(Kind):
    """A weight that stays one: it is stored otherwise and made again under its own name, its nodes stay as they are.

    It has no structures. It is found by its constant, not by its nodes, which may lay it out on the way and differ
    among each other. `Use.extra` holds the Reading of its rows, None where they are not looked at.

    Attributes:
        axes: Of the stored tensor, for [m, channels, *kernel].
    """

    ops: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(op for op, _ in OPERANDS))
    axes: Axes

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Is not asked."""
        raise NotImplementedError("a weight in one piece is found by its constant")

    def structures(self, shape: Shape) -> tuple[Structure, ...]:
        """None."""
        return ()

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of the axes taken together."""
        m, *inner = self._whole(dims)
        return Shape(m, math.prod(inner), tuple(inner[1:]))

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """Its numbers as they are stored, whatever a node scales them by; a row's inputs are (channel, *kernel)."""
        return stored.transpose(self._order).reshape(self._whole(stored.shape)[0], -1)

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """Back again."""
        return self.operand(W.reshape(self._whole(dims)), dims)

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """As it was stored: [m, channels, *kernel], or [m, n]; axes of length 1 stay such."""
        whole = self._whole(dims)
        if array.ndim == 2:
            taps = whole[1:] if array.shape[1] == math.prod(whole[1:]) else (array.shape[1], *[1] * (len(whole) - 2))
            array = array.reshape(array.shape[0], *taps)
        sizes: list[int] = []
        for size, full, group in zip(array.shape, whole, self.axes, strict=True):
            sizes += [dims[axis] if size == full else size if len(group) == 1 else 1 for axis in group]
        return array.reshape(sizes).transpose(np.argsort(self._order))

    def laying_out(self, shape: Sequence[int], dims: Sequence[int]) -> tuple[Decoding, ...]:
        """What `operand` does to a whole weight, [m, channels, *kernel] or [m, n], as operators.

        The shape of a Reshape is an attribute here.
        """
        split = tuple(dims[axis] for axis in self._order)
        steps = (Decoding("Reshape", attributes={"shape": split}),) if split != tuple(shape) else ()
        back = tuple(int(axis) for axis in np.argsort(self._order))
        moved = back != tuple(range(len(back)))
        return (*steps, Decoding("Transpose", attributes={"perm": list(back)})) if moved else steps

    def bias_row(self, m: int, dims: Sequence[int]) -> tuple[int, ...]:
        """Is not asked: biases stay as they are."""
        raise NotImplementedError("a weight in one piece has no bias")

    def can_read(self, use: Use) -> bool:
        """Whether there is a Reading."""
        return use.extra is not None

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """All of them, [p, n]: of a kernel these are many times the tensor."""
        return self.some_rows(tensor, use, everyone)

    def some_rows(self, tensor: NDArray[Any], use: Use, pick: Pick) -> NDArray[Any]:
        """As its Reading says.

        Raises:
            LookupError: There is none.
        """
        if use.extra is None:
            raise LookupError("the rows of this weight in one piece are not known")
        reading: Reading = use.extra
        return reading.rows(tensor, pick)

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """Is not asked."""
        raise NotImplementedError("the rows of a weight in one piece are not known")

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """Is not asked."""
        raise NotImplementedError("the rows of a weight in one piece are not known")

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """Is not asked."""
        raise NotImplementedError("the nodes of a weight in one piece stay as they are")

    @property
    def _order(self) -> tuple[int, ...]:
        """Stored axes in the order in which they come in [m, channels, *kernel]."""
        return tuple(axis for group in self.axes for axis in group)

    def _whole(self, dims: Sequence[int]) -> tuple[int, ...]:
        """[m, channels, *kernel]."""
        return tuple(math.prod(dims[axis] for axis in group) for group in self.axes)
