"""Nodes written as algebra: `g * (1 - y * y)` appends those that compute it, in the form the model's opset asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import NodeProto, TensorProto, defs, helper

from onnx_dalr.graph.names import Names
from onnx_dalr.graph.shapes import Dims

BOOL, INT64, FLOAT, DOUBLE = TensorProto.BOOL, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE


class PathEndsError(Exception):
    """A gradient cannot go on here; says why."""


class Tape:
    """The nodes written so far.

    Attributes:
        opset: Version of the default domain, which decides how a node is written.
        nodes: In order of computation.
        scope: What names of new tensors begin with.
    """

    def __init__(self, names: Names, opset: int) -> None:
        self.opset, self.nodes, self.scope = opset, list[NodeProto](), "gradient"
        self._names = names
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        self._shapes: dict[str, Tensor] = {}

    def ops(
        self, op: str, *inputs: Tensor | None, kinds: Sequence[int], domain: str = "", **attributes: Any
    ) -> list[Tensor]:
        """Writes a node with as many outputs as `kinds`; inputs that are None are left out, attributes too.

        Raises:
            PathEndsError: The operator is newer than the model's opset.
        """
        if domain == "" and not _exists(op, self.opset):
            raise PathEndsError(f"opset {self.opset} has no {op}")
        outputs = [self._names.new(f"{self.scope}/{op}") for _ in kinds]
        given = ["" if tensor is None else tensor.name for tensor in inputs]
        while given and not given[-1]:
            given.pop()
        known = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, given, outputs, name=outputs[0], domain=domain, **known))
        return [Tensor(self, name, kind) for name, kind in zip(outputs, kinds, strict=True)]

    def op(self, op: str, *inputs: Tensor | None, kind: int | None = None, **attributes: Any) -> Tensor:
        """Writes a node with one output, of the first input's type unless it is given."""
        if kind is None:
            kind = next(tensor.kind for tensor in inputs if tensor is not None)
        return self.ops(op, *inputs, kinds=[kind], **attributes)[0]

    def constant(self, value: float | Sequence[int], kind: int = INT64) -> Tensor:
        """A scalar, or a list of integers; each is written once."""
        values = [value] if isinstance(value, (int, float)) else list(value)
        dims = [] if isinstance(value, (int, float)) else [len(values)]
        key = (*values, len(dims), kind)
        if key not in self._constants:
            name = self._names.new("gradient/constant")
            stored = helper.make_tensor(name, kind, dims, values)
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=stored))
            self._constants[key] = Tensor(self, name, kind, tuple(dims))
        return self._constants[key]

    def vector(self, values: Integers) -> Tensor:
        """Integers as a tensor, known or computed."""
        return values if isinstance(values, Tensor) else self.constant(values)

    def shape(self, tensor: Tensor) -> Tensor:
        """The sizes of a tensor as int64; each is written once."""
        if tensor.name not in self._shapes:
            self._shapes[tensor.name] = self.op("Shape", tensor, kind=INT64)
        return self._shapes[tensor.name]

    def concat(self, parts: Sequence[Tensor], axis: int = 0) -> Tensor:
        """The tensors one after the other along an axis."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis)


def _exists(op: str, opset: int) -> bool:
    try:
        return not defs.get_schema(op, opset).deprecated
    except defs.SchemaError:
        return False


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the model or a new one; numbers beside it take its element type.

    Attributes:
        name: In the model.
        kind: Element type (TensorProto.FLOAT, …).
        dims: Its sizes as far as they are known; None where not even their number is.
    """

    tape: Tape = field(repr=False)
    name: str
    kind: int
    dims: Dims | None = None

    # Algebra.

    def __add__(self, other: Operand) -> Tensor:
        return self._with("Add", other)

    def __sub__(self, other: Operand) -> Tensor:
        return self._with("Sub", other)

    def __mul__(self, other: Operand) -> Tensor:
        return self._with("Mul", other)

    def __truediv__(self, other: Operand) -> Tensor:
        return self._with("Div", other)

    def __pow__(self, other: Operand) -> Tensor:
        return self._with("Pow", other)

    def __radd__(self, other: float) -> Tensor:
        return self + other

    def __rsub__(self, other: float) -> Tensor:
        return self._number(other) - self

    def __rmul__(self, other: float) -> Tensor:
        return self * other

    def __rtruediv__(self, other: float) -> Tensor:
        return self._number(other) / self

    def __neg__(self) -> Tensor:
        return self.op("Neg")

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.op("MatMul", other)

    def op(self, op: str, *others: Tensor | None, **attributes: Any) -> Tensor:
        """Writes a node that reads this tensor first."""
        return self.tape.op(op, self, *others, **attributes)

    def squared(self) -> Tensor:
        """x²."""
        return self * self

    # Comparison: a mask counts as 0 and 1 in a product.

    def __gt__(self, other: Operand) -> Tensor:
        return self._with("Greater", other, BOOL)

    def __lt__(self, other: Operand) -> Tensor:
        return self._with("Less", other, BOOL)

    def __ge__(self, other: Operand) -> Tensor:
        return ~(self < other)

    def __le__(self, other: Operand) -> Tensor:
        return ~(self > other)

    def __and__(self, other: Tensor) -> Tensor:
        return self._with("And", other)

    def __or__(self, other: Tensor) -> Tensor:
        return self._with("Or", other)

    def __invert__(self) -> Tensor:
        return self.op("Not")

    def equals(self, other: Operand) -> Tensor:
        """Where both are the same."""
        if self.tape.opset < 11 and self.kind not in (BOOL, INT64):
            return ~((self < other) | (self > other))
        return self._with("Equal", other, BOOL)

    def where(self, yes: Operand, no: Operand) -> Tensor:
        """Of a mask: one tensor where it holds, the other elsewhere; at most one of them is a number."""
        kind = yes.kind if isinstance(yes, Tensor) else no.kind if isinstance(no, Tensor) else FLOAT
        both = [side if isinstance(side, Tensor) else self.tape.constant(side, kind) for side in (yes, no)]
        return self.op("Where", *both, kind=kind)

    # Reduction.

    def sum(self, axes: Axes = None, *, keep: bool = True) -> Tensor:
        """Over some axes or all."""
        return self._reduced("ReduceSum", axes, keep, inputs_since=13)

    def mean(self, axes: Axes = None, *, keep: bool = True) -> Tensor:
        """Over some axes or all."""
        return self._reduced("ReduceMean", axes, keep, inputs_since=18)

    def max(self, axes: Axes = None, *, keep: bool = True) -> Tensor:
        """The largest along some axes or all."""
        return self._reduced("ReduceMax", axes, keep, inputs_since=18)

    # Element by element.

    def exp(self) -> Tensor:
        """eˣ."""
        return self.op("Exp")

    def log(self) -> Tensor:
        """Ln x."""
        return self.op("Log")

    def sqrt(self) -> Tensor:
        """√x."""
        return self.op("Sqrt")

    def at_least(self, least: float) -> Tensor:
        """X, or the least where it is below."""
        return self._clipped(least, None)

    def at_most(self, most: float) -> Tensor:
        """X, or the most where it is above."""
        return self._clipped(None, most)

    # Movement.

    @property
    def shape(self) -> Tensor:
        """Its sizes, as the run finds them."""
        return self.tape.shape(self)

    @property
    def rank(self) -> int:
        """The number of its axes.

        Raises:
            PathEndsError: It is not known before the run.
        """
        if self.dims is None:
            raise PathEndsError(f"the number of axes of {self.name!r} is not known before the run")
        return len(self.dims)

    @property
    def size(self) -> Tensor:
        """The number of its elements, int64."""
        return self.op("Size", kind=INT64)

    def axis(self, axis: int) -> int:
        """An axis counted from the front, 0 for the first; negative ones count from the end."""
        return axis + self.rank if axis < 0 else axis

    def length(self, axis: int) -> Tensor:
        """Its size along an axis, as a vector of one."""
        if axis < 0 and self.dims is not None:
            axis += len(self.dims)
        return self.shape.op("Gather", self.tape.constant([axis]))

    def zeros(self) -> Tensor:
        """Zeros of its shape and type."""
        return self.tape.constant(0.0, self.kind).expand(self.shape)

    def to(self, kind: int) -> Tensor:
        """In another element type."""
        return self if self.kind == kind else self.op("Cast", kind=kind, to=kind)

    def reshape(self, shape: Integers) -> Tensor:
        """In another shape; 0 keeps a size, one −1 takes the rest."""
        return self.op("Reshape", self.tape.vector(shape))

    def expand(self, shape: Integers) -> Tensor:
        """Repeated along axes of size 1, and new ones in front, up to a shape."""
        return self.op("Expand", self.tape.vector(shape))

    def transpose(self, perm: Sequence[int] | None = None) -> Tensor:
        """Axes in another order, by default the reverse."""
        return self.op("Transpose", perm=perm)

    def unsqueeze(self, axes: Integers) -> Tensor:
        """With new axes of size 1, counted in the result."""
        return self._with_axes("Unsqueeze", axes, inputs_since=13)

    def slice(self, starts: Integers, ends: Integers, axes: Integers, steps: Integers | None = None) -> Tensor:
        """A part along some axes; sizes that are known only at run time are within those of the tensor."""
        if self.tape.opset >= 10:
            given = [None if part is None else self.tape.vector(part) for part in (starts, ends, axes, steps)]
            return self.op("Slice", *given)
        if not any(isinstance(part, Tensor) for part in (starts, ends, axes, steps)) and not steps:
            return self.op("Slice", starts=starts, ends=ends, axes=axes)
        if isinstance(axes, Tensor) or steps or len(axes) != 1:
            raise PathEndsError(f"opset {self.tape.opset} has no such Slice of sizes known only at run time")
        start, end = self.tape.vector(starts), self.tape.vector(ends)
        count = self.tape.constant(1).expand(end - start).op("NonZero", kind=INT64).reshape([-1])
        return self.op("Gather", count + start, axis=axes[0])

    def pad(self, pads: Integers) -> Tensor:
        """Zeros before and after each axis: all befores, then all afters; where negative, cut off."""
        if self.tape.opset >= 11:
            return self.op("Pad", self.tape.vector(pads))
        if isinstance(pads, Tensor):
            raise PathEndsError(f"opset {self.tape.opset} has no Pad of sizes known only at run time")
        return self.op("Pad", pads=pads)

    def _with(self, op: str, other: Operand, kind: int | None = None) -> Tensor:
        if not isinstance(other, Tensor):
            return self.op(op, self._number(other), kind=kind)
        if self.kind == BOOL != other.kind:
            return self.to(other.kind)._with(op, other, kind)
        return self.op(op, other.to(self.kind) if other.kind == BOOL else other, kind=kind)

    def _number(self, value: float) -> Tensor:
        return self.tape.constant(value, self.kind)

    def _clipped(self, least: float | None, most: float | None) -> Tensor:
        """Bounds moved from attributes to inputs."""
        if self.tape.opset < 11:
            return self.op("Clip", min=least, max=most)
        return self.op("Clip", *(None if bound is None else self._number(bound) for bound in (least, most)))

    def _reduced(self, op: str, axes: Axes, keep: bool, inputs_since: int) -> Tensor:
        if axes is None:
            return self.op(op, keepdims=int(keep))
        return self._with_axes(op, axes, inputs_since, keepdims=int(keep))

    def _with_axes(self, op: str, axes: Integers, inputs_since: int, **attributes: Any) -> Tensor:
        """Axes moved from an attribute to an input, operator by operator."""
        if self.tape.opset >= inputs_since:
            return self.op(op, self.tape.vector(axes), **attributes)
        if isinstance(axes, Tensor):
            raise PathEndsError(f"opset {self.tape.opset} has no {op} over axes known only at run time")
        return self.op(op, axes=list(axes), **attributes)


Operand = Tensor | float
Integers = Tensor | Sequence[int]
Axes = Tensor | Sequence[int] | None
