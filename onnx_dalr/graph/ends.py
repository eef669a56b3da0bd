"""Two models on the same samples: what both can be fed, and whether they answer under the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.samples import InputSpec

_SAME_ENDS = "compare takes two models with the same inputs and outputs"


def common_ends(a: Model, b: Model, names: tuple[str, str]) -> tuple[InputSpec, ...]:
    """What both of two models can be fed, whose outputs have the same names: an axis that only one fixes is fixed.

    Args:
        a: The one.
        b: The other.
        names: What messages call them.

    Raises:
        InputError: The inputs differ in names, element types or shapes, or the outputs in names.
    """
    one, other = input_specs(a.proto), {spec.name: spec for spec in input_specs(b.proto)}
    _check_names("input", [spec.name for spec in one], list(other), names)
    common = tuple(_common(spec, other[spec.name], names) for spec in one)
    ours, theirs = ([value.name for value in model.proto.graph.output] for model in (a, b))
    _check_names("output", ours, theirs, names)
    return common


def _common(one: InputSpec, other: InputSpec, names: tuple[str, str]) -> InputSpec:
    if one.shape is None or other.shape is None:
        shape, fits = one.shape or other.shape, True
    else:
        pairs = list(zip(one.shape, other.shape, strict=False))
        fits = len(one.shape) == len(other.shape) and all(x is None or y is None or x == y for x, y in pairs)
        shape = tuple(x or y for x, y in pairs)
    if one.dtype != other.dtype or not fits:
        raise InputError(f"the inputs differ: {one} in {names[0]}, {other} in {names[1]}", _SAME_ENDS)
    return replace(one, shape=shape)


def _check_names(kind: str, one: Sequence[str], other: Sequence[str], names: tuple[str, str]) -> None:
    pairs = ((names[0], [name for name in one if name not in other]), (names[1], [x for x in other if x not in one]))
    only = [f"only {model} has {', '.join(map(repr, there))}" for model, there in pairs if there]
    if only:
        raise InputError(f"the {kind}s differ: {'; '.join(only)}", _SAME_ENDS)
