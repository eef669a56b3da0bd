"""One node on the way back: what a rule is given, and what it hands out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.gradient.emit import INT64, PathEndsError, Tape, Tensor
from onnx_dalr.gradient.facts import Facts
from onnx_dalr.graph.index import attribute
from onnx_dalr.graph.shapes import Dims

Found = Sequence[Tensor | PathEndsError | None]


@dataclass(frozen=True, eq=False)
class Step:
    """A node whose outputs have gradients; its rule writes those of its inputs.

    Attributes:
        node: The node.
        tape: Where new nodes are written.
        inputs: Its inputs, None where left out.
        outputs: Its outputs, None where left out.
        gradients: One for each output, None where none arrives.
        wanted: Positions of inputs whose gradient leads somewhere.
    """

    node: NodeProto
    tape: Tape
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor | None]
    gradients: Sequence[Tensor | None]
    wanted: frozenset[int]
    facts: Facts

    @property
    def opset(self) -> int:
        """Version of the default domain."""
        return self.tape.opset

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Tensor:
        """The first output."""
        output = self.outputs[0]
        assert output is not None
        return output

    @property
    def g(self) -> Tensor:
        """The gradient of the first output."""
        gradient = self.gradients[0]
        assert gradient is not None
        return gradient

    @property
    def operands(self) -> list[Tensor]:
        """The inputs that are given."""
        return [tensor for tensor in self.inputs if tensor is not None]

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def input(self, position: int) -> Tensor:
        """An input that is given.

        Raises:
            PathEndsError: It is not.
        """
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise PathEndsError(f"its input {position} is missing")
        return tensor

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or the default."""
        value = attribute(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def integers(self, name: str, position: int | None = None) -> list[int] | Tensor | None:
        """Integers of an attribute or, where newer opsets moved them, of an input; None where neither is given."""
        if position is not None and self.has(position):
            value = self.value(position)
            return self.input(position).to(INT64) if value is None else [int(entry) for entry in value.ravel()]
        return None if (given := self.attribute(name)) is None else list(given)

    def value(self, position: int) -> NDArray[np.generic] | None:
        """The value of an input that is a constant."""
        return self.facts.values.get(self.input(position).name)

    def each(self, *makers: Callable[[Step], Tensor]) -> Found:
        """The gradient of each input by a function of its own, called where the gradient leads somewhere."""
        found: list[Tensor | PathEndsError | None] = []
        for position, make in enumerate(makers):
            try:
                found.append(make(self) if position in self.wanted else None)
            except PathEndsError as reason:
                found.append(reason)
        return found

    def fit_each(self, *gradients: Tensor | None) -> Found:
        """The gradient of each input, given in the output's shape."""

        def maker(position: int) -> Callable[[Step], Tensor]:
            def fitted(step: Step) -> Tensor:
                gradient = gradients[position]
                assert gradient is not None
                return step.fit(gradient, step.input(position))

            return fitted

        return self.each(*(maker(position) for position in range(len(gradients))))

    def fit(self, gradient: Tensor, operand: Tensor, *, beside: Sequence[Tensor] | None = None, own: int = 0) -> Tensor:
        """A gradient in the output's shape, summed over the axes along which the operand was repeated.

        Args:
            gradient: Of the operand once it is repeated; its shape is the output's where its `dims` do not say.
            operand: An input.
            beside: What it was repeated to match, by default the other inputs.
            own: This many last axes are never repeated.
        """
        dims = self.y.dims if gradient.dims is None else gradient.dims
        if operand.dims is None or dims is None:
            return _fit_any(gradient, operand)
        others = [other for other in self.operands if other is not operand] if beside is None else beside
        lead = len(dims) - len(operand.dims)
        summed, unsure = list(range(lead)), False
        for axis in range(lead, len(dims) - own):
            size = operand.dims[axis - lead]
            if size == 1 and dims[axis] != 1:
                summed.append(axis)
            elif size is None:
                unsure |= any(_size_at(other.dims, axis - len(dims)) != 1 for other in others)
        if unsure:
            return _fit_any(gradient, operand) if self.opset >= 13 else _fit_known(gradient, operand, lead)
        if summed:
            gradient = gradient.sum(summed)
        return gradient.reshape(operand.shape) if lead else gradient


def _size_at(dims: Dims | None, axis: int) -> int | None:
    """Size along an axis counted from the back, 1 where there is none, None where it is not known."""
    if dims is None:
        return None
    return dims[axis] if -axis <= len(dims) else 1


def _fit_any(gradient: Tensor, operand: Tensor) -> Tensor:
    """Finds the axes when it runs: those where the operand's size, 1 in front of its axes, is not the output's."""
    tape = gradient.tape
    if tape.opset < 13:
        raise PathEndsError(f"whether {operand.name!r} is repeated is not known before the run (opset 13 could tell)")
    missing = gradient.shape.shape - operand.shape.shape
    sizes = tape.concat([tape.constant([1]).expand(missing), operand.shape])
    axes = (~sizes.equals(gradient.shape)).op("NonZero", kind=INT64).reshape([-1])
    return gradient.op("ReduceSum", axes, keepdims=1, noop_with_empty_axes=1).reshape(operand.shape)


def _fit_known(gradient: Tensor, operand: Tensor, lead: int) -> Tensor:
    """Folds each axis of size s·d into [s, d], d the operand's size, and sums over s: one form for s = 1 and d = 1."""
    sizes = operand.shape
    if lead:
        sizes = gradient.tape.concat([gradient.tape.constant([1] * lead), sizes])
    return folded(gradient, gradient.shape / sizes, sizes, lead + operand.rank).reshape(operand.shape)


def folded(gradient: Tensor, repeats: Tensor, sizes: Tensor, rank: int) -> Tensor:
    """The sum over the repeats of a tensor that repeats itself along its axes; sizes are those of one copy."""
    pairs = gradient.tape.concat([repeats.unsqueeze([1]), sizes.unsqueeze([1])], axis=1)
    return gradient.reshape(pairs.reshape([-1])).sum(range(0, 2 * rank, 2), keep=False)


@dataclass(frozen=True)
class Rule:
    """How gradients go back through some operators.

    Attributes:
        operators: Their types, "domain:type" outside the default domain.
        write: The rule: gradients of the inputs, as many as it likes, in their order and shapes.
        all_outputs: It takes gradients of every output; other rules only of the first.
    """

    operators: tuple[str, ...]
    write: Callable[[Step], Found]
    all_outputs: bool = False


def rule(*operators: str, all_outputs: bool = False) -> Callable[[Callable[[Step], Found]], Rule]:
    """Makes a function the rule of some operators."""
    return lambda write: Rule(operators, write, all_outputs)
