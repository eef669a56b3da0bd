"""Sums over the rows of tensors as nodes of the graph that makes these: rows need not leave the device that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.graph.index import STANDARD
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.layer import Layer
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import probe

PIECE = 2048
"""Rows whose products are added up in single precision, at most; from there on in double."""

OLDEST = 11
"""The first opset that has the operators for it."""

_PREFIX = "onnx_dalr/"


class Held(NamedTuple):
    """A sum in double precision that goes on from batch to batch: what one run makes is what the next one takes.

    Attributes:
        taken: Input of the graph.
        made: Its output.
        shape: Of both.
    """

    taken: str
    made: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """Rows of a tensor in the graph, and tensors that hold what is summed of those of one batch.

    Where they are centred, they are taken around the mean of the batch, which single precision holds better: the sums
    over the rows as they are come from both.

    Attributes:
        width: Numbers in a row, n.
        kind: Element type that the sums are made in.
        flat: The rows, [p, n], and behind them rows of zeros.
        pieces: The same in pieces of as many rows, [pieces, rows, n].
        parts: How many pieces, [1].
        mean: What was taken off, [1, n]; None where they are not centred.
        rest: Sum of the rows, [n].
        squares: Sum of their squares, [n]; of rows that are not centred the sum of every row's squares, [p].
        largest: Of all their numbers, without sign.
    """

    width: int
    kind: int
    flat: str
    pieces: str
    parts: str
    mean: str | None
    rest: str
    squares: str
    largest: str

    @property
    def told(self) -> tuple[str, ...]:
        """What of these leaves the device after every batch."""
        return (*filter(None, [self.mean]), self.rest, self.squares, self.largest)


class Sums:
    """Nodes to be, behind those of a model: say what is to be summed up, then make the model.

    Attributes:
        held: What goes on from batch to batch.
        masks: By tensor and axis, the input that says which of its rows count: booleans, [p, 1].
        places: By output of a node, the input that says where its rows are read: integers, [p, taps].
        shapes: By tensor, the output that says how large it is.
    """

    def __init__(self, proto: ModelProto, *, masked: bool) -> None:
        """Starts.

        Args:
            proto: The model, which is left as it is.
            masked: Which rows count is to be an input.
        """
        self._proto, self._masked = proto, masked
        self._names = Names(proto)
        self._opset = opset_of(proto)
        self._nodes: list[NodeProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._read_already: dict[tuple[Any, ...], Rows] = {}
        self._rows: list[Rows] = []
        self._weights: dict[tuple[str, int], str] = {}
        self.held: list[Held] = []
        self.masks: dict[tuple[str, int], str] = {}
        self.places: dict[str, str] = {}
        self.shapes: dict[str, str] = {}

    def rows(self, tensor: str, axis: int, width: int, kind: int, *, centred: bool = True) -> Rows:
        """The rows of a tensor, whose numbers lie along an axis of it; those asked for twice are there once."""
        key = (tensor, axis, kind, centred)
        if key not in self._read_already:
            self._read_already[key] = self._read(tensor, axis, width, kind, centred=centred)
        return self._read_already[key]

    def placed(self, use: Use, channels: int, taps: int, kind: int) -> Rows:
        """Rows of a node that are made of entries at several positions, as `Patches.places` says where."""
        self._shape_of(use.data)
        name = self.places[use.output] = self._names.new(f"{_PREFIX}places")
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, [None, taps]))
        flat = self._features_last(self._add("Cast", use.data, to=kind), 1, channels)
        zeros = self._constant(np.zeros((1, channels), helper.tensor_dtype_to_np_dtype(kind)))
        seen = self._add("Gather", self._add("Concat", flat, zeros, axis=0), name)  # −1 is the last
        flat = self._add("Reshape", self._add("Transpose", seen, perm=[0, 2, 1]), self._whole([-1, channels * taps]))
        return self._around(flat, None, channels * taps, kind, centred=True)

    def through(self, rows: Rows, layer: Layer, *, back: bool = False) -> Rows:
        """W x of rows x, [p, m]; or Wᵀ g of rows g of what is behind the layer, [p, n]."""
        lying = layer.uses[0].lying
        assert lying is not None
        gemm = {"transB": int(lying.is_W != back), "alpha": lying.scale}
        weight = self._weight(layer, rows.kind)
        flat = self._add("Gemm", rows.flat, weight, **gemm)
        mean = None if rows.mean is None else self._add("Gemm", rows.mean, weight, **gemm)
        return self._summed(flat, rows.parts, layer.n if back else layer.m, rows.kind, mean)

    def moment(self, rows: Rows, inputs: slice | None = None) -> Held:
        """Σ x xᵀ, [n, n], of rows as they are in the graph; or of some of their numbers."""
        seen = rows.pieces
        start, stop, _ = (inputs or slice(None)).indices(rows.width)
        if stop - start < rows.width:
            seen = self._add("Slice", seen, *(self._whole([value]) for value in (start, stop, 2)))
        return self._hold(self._products(seen, seen), (stop - start, stop - start))

    def sketch(self, rows: Rows, matrix: NDArray[Any]) -> Held:
        """Σ x (xᵀ Ω), [n, width of Ω]."""
        dtype = helper.tensor_dtype_to_np_dtype(rows.kind)
        right = self._add("MatMul", rows.pieces, self._constant(matrix.astype(dtype)))
        return self._hold(self._products(rows.pieces, right), matrix.shape)

    def made(self, tensors: Iterable[str]) -> ModelProto:
        """The model that makes all of this, and these tensors."""
        told = (name for rows in self._rows for name in rows.told)
        made = (held.made for held in self.held)
        wanted = [*tensors, *self.shapes.values(), *told, *made]
        cut = probe(self._proto, wanted, more=self._nodes)
        cut.graph.input.extend(self._inputs)
        return cut

    def _read(self, tensor: str, axis: int, width: int, kind: int, *, centred: bool) -> Rows:
        self._shape_of(tensor)
        flat = self._features_last(self._add("Cast", tensor, to=kind), axis, width)
        return self._around(flat, self._mask(tensor, axis), width, kind, centred=centred)

    def _shape_of(self, tensor: str) -> None:
        if tensor not in self.shapes:
            self.shapes[tensor] = self._add("Shape", tensor)

    def _features_last(self, tensor: str, axis: int, width: int) -> str:
        """As a matrix of rows."""
        if axis >= 0:  # the axes before it as they are, those behind it in one
            tensor = self._add("Reshape", tensor, self._whole([*[0] * axis, width, -1]))
            tensor = self._add("Transpose", tensor, perm=[*range(axis), axis + 1, axis])
        return self._add("Reshape", tensor, self._whole([-1, width]))

    def _around(self, flat: str, mask: str | None, width: int, kind: int, *, centred: bool) -> Rows:
        """Of rows, [p, n], those that count, around their mean."""
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        count = self._add("Gather", self._add("Shape", flat), self._whole([0]))
        zero, real = self._constant(np.zeros((), dtype)), self._add("Cast", count, to=kind)
        if mask is not None:
            flat = self._add("Where", mask, flat, zero)
            real = self._sum(self._add("Cast", mask, to=kind), 0)
            real = self._add("Max", real, self._constant(np.ones(1, dtype)))
        mean = None
        if centred:
            mean = self._add("Div", self._sum(flat, 0, keepdims=1), real)
            flat = self._add("Sub", flat, mean)
            flat = flat if mask is None else self._add("Where", mask, flat, zero)
        parts, filled = self._filled(flat, count, width, kind)
        return self._summed(filled, parts, width, kind, mean, each=None if centred else flat)

    def _filled(self, flat: str, count: str, width: int, kind: int) -> tuple[str, str]:
        """(how many pieces; rows with so many of zeros behind them that all pieces have as many)."""
        one = self._whole([1])
        parts = self._add("Add", self._add("Div", count, self._whole([PIECE])), one)
        length = self._add("Div", self._add("Sub", self._add("Add", count, parts), one), parts)
        missing = self._add("Sub", self._add("Mul", parts, length), count)
        shape = self._add("Concat", missing, self._whole([width]), axis=0)
        value = helper.make_tensor("zero", kind, [1], [0.0])
        return parts, self._add("Concat", flat, self._add("ConstantOfShape", shape, value=value), axis=0)

    def _summed(self, flat: str, parts: str, width: int, kind: int, mean: str | None, each: str | None = None) -> Rows:
        """Of rows, and of each of these where only theirs are asked for."""
        pieces = self._add("Reshape", flat, self._add("Concat", parts, self._whole([-1, width]), axis=0))
        largest = self._add("ReduceMax", self._add("Abs", flat), keepdims=0)
        rest = self._total(self._sum(pieces, 1))
        if each is None:
            squares = self._total(self._sum(self._add("Mul", pieces, pieces), 1))
        else:
            squares = self._sum(self._add("Mul", each, each), 1)
        rows = Rows(width, kind, flat, pieces, parts, mean, rest, squares, largest)
        self._rows.append(rows)
        return rows

    def _products(self, left: str, right: str) -> str:
        return self._total(self._add("MatMul", self._add("Transpose", left, perm=[0, 2, 1]), right))

    def _total(self, pieces: str) -> str:
        """Over the pieces, in double precision."""
        return self._sum(self._add("Cast", pieces, to=TensorProto.DOUBLE), 0)

    def _hold(self, name: str, shape: tuple[int, ...]) -> Held:
        taken = self._names.new(f"{_PREFIX}held")
        self._inputs.append(helper.make_tensor_value_info(taken, TensorProto.DOUBLE, shape))
        self.held.append(Held(taken, self._add("Add", taken, name), shape))
        return self.held[-1]

    def _mask(self, tensor: str, axis: int) -> str | None:
        if self._masked and (tensor, axis) not in self.masks:
            name = self.masks[tensor, axis] = self._names.new(f"{_PREFIX}mask")
            self._inputs.append(helper.make_tensor_value_info(name, TensorProto.BOOL, [None, 1]))
        return self.masks.get((tensor, axis))

    def _weight(self, layer: Layer, kind: int) -> str:
        """The constant as a matrix."""
        key = (layer.weight, kind)
        if key not in self._weights:
            name = self._add("Cast", layer.weight, to=kind)
            if layer.shape.kernel:
                name = self._add("Reshape", name, self._whole([layer.m, layer.n]))
            self._weights[key] = name
        return self._weights[key]

    def _sum(self, name: str, axis: int, keepdims: int = 0) -> str:
        if self._opset < 13:
            return self._add("ReduceSum", name, axes=[axis], keepdims=keepdims)
        return self._add("ReduceSum", name, self._whole([axis]), keepdims=keepdims)

    def _whole(self, values: Sequence[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, values: NDArray[Any]) -> str:
        return self._add("Constant", value=numpy_helper.from_array(values))

    def _add(self, op: str, *inputs: str, **attributes: Any) -> str:
        made = self._names.new(f"{_PREFIX}{op}")
        self._nodes.append(helper.make_node(op, list(inputs), [made], made, **attributes))
        return made


def opset_of(proto: ModelProto) -> int:
    """Version of the standard operators."""
    return max((int(entry.version) for entry in proto.opset_import if entry.domain in STANDARD), default=1)


def computed_in(layer: Layer, use: Use) -> int:
    """The element type that sums of a layer's rows are made in: single precision, or double where anything is."""
    stored = helper.np_dtype_to_tensor_dtype(layer.dtype)
    return TensorProto.DOUBLE if TensorProto.DOUBLE in (stored, use.cast_to) else TensorProto.FLOAT
