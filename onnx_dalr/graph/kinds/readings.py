"""What enters a weight that stays in one piece: the tensor it is read from, and how its entries become rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.graph.index import attribute

Pick = Callable[[tuple[int, ...]], NDArray[np.intp]]
"""From how many rows there are along each axis, samples first, to the numbers of those that are wanted."""


def everyone(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """A Pick of all rows."""
    return np.arange(math.prod(shape))


class Reading(Protocol):
    """How rows are read.

    Attributes:
        data: The tensor whose entries they are.
    """

    @property
    def data(self) -> str:
        """Its name."""
        ...

    def rows(self, tensor: NDArray[Any], pick: Pick) -> NDArray[Any]:
        """The picked rows, [p, n]."""
        ...


@dataclass(frozen=True)
class Laid:
    """Every entry but for those along one axis is a row.

    Attributes:
        data: The tensor.
        order: Its axes: samples first, the inputs last; as they are where left out.
    """

    data: str
    order: tuple[int, ...] = ()

    def rows(self, tensor: NDArray[Any], pick: Pick) -> NDArray[Any]:
        """The picked rows, [p, n]."""
        laid = tensor.transpose(self.order) if self.order else tensor
        return laid.reshape(-1, laid.shape[-1])[pick(laid.shape[:-1])]


class Window(NamedTuple):
    """A kernel along one axis.

    Attributes:
        taps: How many.
        stride: Positions it moves on.
        dilation: From tap to tap.
        before: Zeros before the data.
        after: Zeros after them.
        more: Positions that a ConvTranspose makes beyond the last.
    """

    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    more: int = 0

    def over(self, length: int, same: str) -> NDArray[np.intp]:
        """The entry of the data that every tap falls on, [positions, taps]; −1 where that is a zero around them."""
        before, span = self.before, self.dilation * (self.taps - 1) + 1
        if same:
            count = -(-length // self.stride)
            zeros = max((count - 1) * self.stride + span - length, 0)
            before = zeros // 2 if same == "SAME_UPPER" else zeros - zeros // 2
        else:
            count = (length + before + self.after - span) // self.stride + 1
        at = np.arange(max(count, 0))[:, None] * self.stride - before + self._offsets
        return np.where((at >= 0) & (at < length), at, -1)

    def back_over(self, length: int) -> NDArray[np.intp]:
        """The same of a ConvTranspose, whose data lie `stride` apart with zeros between."""
        count = (length - 1) * self.stride + self.dilation * (self.taps - 1) + 1 + self.more - self.before - self.after
        far = np.arange(max(count, 0))[:, None] + self.before - self._offsets
        at = far // self.stride
        return np.where((far % self.stride == 0) & (at >= 0) & (at < length), at, -1)

    @property
    def _offsets(self) -> NDArray[np.intp]:
        return np.arange(self.taps) * self.dilation


@dataclass(frozen=True)
class Patches:
    """What a kernel sees at a position is a row, (channel, *kernel).

    Attributes:
        data: The tensor, [N, C, *spatial].
        windows: Along the spatial axes.
        same: The padding that gives every stride a position, SAME_UPPER or SAME_LOWER; empty for that of the windows.
        transposed: Of a ConvTranspose.
    """

    data: str
    windows: tuple[Window, ...]
    same: str = ""
    transposed: bool = False

    def rows(self, tensor: NDArray[Any], pick: Pick) -> NDArray[Any]:
        """The picked rows, [p, n]: nothing else is gathered."""
        sample, taps = self._taps(tensor.shape, pick)
        rank = len(taps)
        found = tensor.transpose(0, *range(2, 2 + rank), 1)[(sample.reshape(-1, *[1] * rank), *taps)]  # [p, *kernel, C]
        inside = np.ones(found.shape[:-1], bool)
        for at in taps:
            inside &= at >= 0
        found[~inside] = 0
        rows: NDArray[Any] = np.moveaxis(found, -1, 1).reshape(len(found), -1)
        return rows

    def places(self, size: Sequence[int], pick: Pick) -> NDArray[np.intp]:
        """Where the picked rows are read in data of this size: numbers of positions, samples × spatial, [p, taps].

        −1 where that is a zero around the data.
        """
        sample, taps = self._taps(size, pick)
        at = sample.reshape(-1, *[1] * len(taps))
        inside = np.ones_like(at, bool)
        for length, places in zip(size[2:], taps, strict=True):
            at, inside = at * length + places, inside & (places >= 0)
        return np.where(inside, at, -1).reshape(len(sample), -1)

    def shape(self, tensor: NDArray[Any]) -> tuple[int, ...]:
        """How many rows there are along each axis: samples, then positions."""
        return (len(tensor), *map(len, self._tables(tensor.shape)))

    def _taps(self, size: Sequence[int], pick: Pick) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
        """(the sample of every picked row, [p]; along every axis the entries its taps fall on, [p, …])."""
        tables = self._tables(size)
        shape = (size[0], *map(len, tables))
        sample, *places = np.unravel_index(pick(shape), shape)
        rank = len(tables)
        return sample, [
            table[place].reshape(-1, *(table.shape[1] if axis == other else 1 for other in range(rank)))
            for axis, (table, place) in enumerate(zip(tables, places, strict=True))
        ]

    def _tables(self, size: Sequence[int]) -> list[NDArray[np.intp]]:
        lengths = zip(self.windows, size[2:], strict=True)
        return [
            window.back_over(length) if self.transposed else window.over(length, self.same)
            for window, length in lengths
        ]


def patches(node: NodeProto, dims: Sequence[int]) -> Patches | None:
    """Of a Conv with a kernel [M, C, *kernel], or a ConvTranspose with [C, M, *kernel]; None for groups.

    None also where a ConvTranspose is told what size to make, and where a damaged node has not as many strides, say, as
    its kernel has axes.
    """
    transposed, rank = node.op_type == "ConvTranspose", len(dims) - 2
    auto = attribute(node, "auto_pad", b"NOTSET").decode()
    if rank < 1 or attribute(node, "group", 1) != 1 or (transposed and told_its_size(node)):
        return None
    pads = attribute(node, "pads", []) if auto == "NOTSET" else []
    zeros = pads or [0] * (2 * rank)
    more = (attribute(node, "output_padding", []) if transposed else []) or [0] * rank
    strides, dilations = (attribute(node, name, []) or [1] * rank for name in ("strides", "dilations"))
    each = (dims[2:], strides, dilations, zeros[:rank], zeros[rank:], more)
    if any(len(one) != rank for one in each) or min(*strides, *dilations) < 1 or min(zeros) < 0:
        return None
    windows = tuple(Window(*one) for one in zip(*each, strict=True))
    return Patches(node.input[0], windows, auto if _pads_by_length(node) else "", transposed)


def told_its_size(node: NodeProto) -> bool:
    """Whether a ConvTranspose is, which says where its zeros are in another way."""
    return _pads_by_length(node) or bool(attribute(node, "output_shape", []))


def _pads_by_length(node: NodeProto) -> bool:
    return attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def left_operand(node: NodeProto, dims: Sequence[int]) -> Laid | None:
    """Of a Gemm or MatMul whose weight is a matrix, on the right."""
    if len(dims) != 2:
        return None
    return Laid(node.input[0], (1, 0) if node.op_type == "Gemm" and attribute(node, "transA", 0) else ())


def sequence(node: NodeProto, dims: Sequence[int]) -> Laid:
    """What an LSTM, GRU or RNN reads: [T, N, inputs], or [N, T, inputs]."""
    del dims
    return Laid(node.input[0], () if attribute(node, "layout", 0) else (1, 0, 2))


def states(node: NodeProto, dims: Sequence[int]) -> Laid | None:
    """The states of one as far as it makes them known: those after every step, else the last; None where it does not.

    All directions see those of all: their rows are one weight's.
    """
    del dims
    samples_first = attribute(node, "layout", 0)
    orders = ((), ()) if samples_first else ((2, 0, 1, 3), (1, 0, 2))
    named = zip(node.output, orders, strict=False)
    return next((Laid(name, order) for name, order in named if name), None)
