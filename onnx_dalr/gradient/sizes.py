"""Sizes that a model computes for itself: integers of which some are known before the run, followed node by node."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from onnx import NodeProto

from onnx_dalr.graph.index import attribute
from onnx_dalr.graph.shapes import Dims

Integers = Sequence[int | None]


def reshaped_to(
    nodes: Iterable[NodeProto], values: Mapping[str, Sequence[int]], dims: Mapping[str, Dims]
) -> dict[str, Dims]:
    """Shapes of what Reshape makes, as far as its integers can be told.

    Shape inference follows such integers too, but not through operators of opsets before 13. A damaged node, with
    fewer operands or results than its operator has, tells nothing.

    Args:
        nodes: In an order of computation.
        values: Vectors and scalars of integers that are constants.
        dims: Shapes known so far.
    """
    followed: dict[str, Integers] = dict(values)
    found: dict[str, Dims] = {}
    for node in nodes:
        with suppress(IndexError, TypeError):
            _follow(node, followed, dims, found)
    return found


def _follow(node: NodeProto, followed: dict[str, Integers], dims: Mapping[str, Dims], found: dict[str, Dims]) -> None:
    if node.op_type == "Shape" and node.input[0] in dims and not node.attribute:
        followed[node.output[0]] = dims[node.input[0]]
    elif node.op_type in _FOLLOWED and all(name in followed for name in node.input):
        integers = _FOLLOWED[node.op_type](*(followed[name] for name in node.input), *_bounds(node))
        if integers is not None:
            followed[node.output[0]] = integers
    elif node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in followed:
        found[node.output[0]] = _shape(followed[node.input[1]], dims.get(node.input[0]))


def _bounds(node: NodeProto) -> Sequence[Integers]:
    """Of a Slice that has them as attributes."""
    bounds = [attribute(node, name, None) for name in ("starts", "ends")] if node.op_type == "Slice" else []
    return [bound for bound in bounds if bound is not None]


def _shape(asked: Integers, source: Dims | None) -> Dims:
    """What a Reshape makes of a shape: 0 keeps a size, −1 takes the rest."""
    sizes = [
        (source[axis] if source and axis < len(source) else None) if size == 0 else size
        for axis, size in enumerate(asked)
    ]
    known = [size for size in sizes if size is not None and size > 0]
    if source and None not in source and len(known) == len(sizes) - 1 and -1 in sizes:
        rest = math.prod(size for size in source if size) // max(math.prod(known), 1)
        sizes = [rest if size == -1 else size for size in sizes]
    return tuple(size if size is not None and size > 0 else None for size in sizes)


def _gathered(whole: Integers, picks: Integers) -> Integers:
    return [whole[pick] if pick is not None and -len(whole) <= pick < len(whole) else None for pick in picks]


def _sliced(whole: Integers, starts: Integers, ends: Integers, *more: Integers) -> Integers | None:
    if len(starts) != 1 or starts[0] is None or ends[0] is None or len(more) > 1:
        return None
    return whole[starts[0] : ends[0]]


def _combined(operation: Callable[[int, int], int]) -> Callable[..., Integers | None]:
    def combine(one: Integers, two: Integers) -> Integers | None:
        if 1 not in (len(one), len(two)) and len(one) != len(two):
            return None
        count = max(len(one), len(two))
        pairs = [(one[at % len(one)], two[at % len(two)]) for at in range(count)]
        return [None if a is None or b is None else operation(a, b) for a, b in pairs]

    return combine


_FOLLOWED: Mapping[str, Callable[..., Integers | None]] = MappingProxyType(
    {
        **dict.fromkeys(("Unsqueeze", "Squeeze", "Cast", "Identity"), lambda whole, *axes: whole),
        "Gather": _gathered,
        "Slice": _sliced,
        "Concat": lambda *parts: [size for part in parts for size in part],
        "Add": _combined(operator.add),
        "Sub": _combined(operator.sub),
        "Mul": _combined(operator.mul),
    }
)
