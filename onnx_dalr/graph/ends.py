"""Two models on the same samples: what both can be fed, and whether they answer under the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.graph.shapes import Dims, declared
from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.samples import InputSpec

_SAME_ENDS = "compare takes two models with the same inputs and outputs"
_KINDS = {"f": "number", "i": "whole number", "u": "whole number", "b": "yes or no", "U": "text", "O": "text"}


def common_ends(a: Model, b: Model, names: tuple[str, str], *, cast: bool = False) -> tuple[InputSpec, ...]:
    """What both of two models can be fed, whose outputs have the same names: an axis that only one fixes is fixed.

    Args:
        a: The one.
        b: The other.
        names: What messages call them.
        cast: Inputs may differ in precision, as of a model that was brought to float16 with its ends: what is read for
            both is then of the wider floats, or of the narrower whole numbers.

    Raises:
        InputError: The inputs differ in names, element types or shapes, or the outputs in names.
    """
    one, other = input_specs(a.proto), {spec.name: spec for spec in input_specs(b.proto)}
    _check_names("input", [spec.name for spec in one], list(other), names)
    common = tuple(_common(spec, other[spec.name], names, cast=cast) for spec in one)
    ours, theirs = ([value.name for value in model.proto.graph.output] for model in (a, b))
    _check_names("output", ours, theirs, names)
    return common


def _common(one: InputSpec, other: InputSpec, names: tuple[str, str], *, cast: bool) -> InputSpec:
    if one.shape is None or other.shape is None:
        shape, fits = one.shape or other.shape, True
    else:
        pairs = list(zip(one.shape, other.shape, strict=False))
        fits = len(one.shape) == len(other.shape) and all(x is None or y is None or x == y for x, y in pairs)
        shape = tuple(x or y for x, y in pairs)
    dtype = _both(one, other) if cast else one.dtype if one.dtype == other.dtype else None
    if dtype is None or not fits:
        raise InputError(f"the inputs differ: {one} in {names[0]}, {other} in {names[1]}", _SAME_ENDS)
    return replace(one, shape=shape, dtype=dtype)


def _both(one: InputSpec, other: InputSpec) -> np.dtype[Any] | None:
    """The element type that can be brought to both without a loss that would matter; None where there is none."""
    if one.dtype.kind != other.dtype.kind or one.dtype.kind not in "fiu":
        return one.dtype if one.dtype == other.dtype else None
    wide = max(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    narrow = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    return wide if wide.kind == "f" else narrow


def _check_names(kind: str, one: Sequence[str], other: Sequence[str], names: tuple[str, str]) -> None:
    ours, theirs = [name for name in one if name not in other], [name for name in other if name not in one]
    pairs = ((names[0], ours), (names[1], theirs))
    only = [f"only {model} has {', '.join(map(repr, there))}" for model, there in pairs if there]
    if only:
        raise InputError(f"the {kind}s differ: {'; '.join(only)}", f"{_SAME_ENDS}{_near(ours, theirs, names)}")


def _near(ours: Sequence[str], theirs: Sequence[str], names: tuple[str, str]) -> str:
    """Which of the names may mean the same, to be renamed; empty where nothing says so."""
    for name in ours:
        near = theirs if len(ours) == len(theirs) == 1 else get_close_matches(name, theirs, n=1, cutoff=0.4)
        if near:
            return f"; if {near[0]!r} of {names[1]} is {name!r} of {names[0]}, rename one of them"
    return ""


def check_outputs(
    models: tuple[Model, Model], outputs: Sequence[str], ran: Sequence[Sequence[Any]], names: tuple[str, str]
) -> None:
    """Refuses two models that say different things under one name.

    What has as many values as a model finds may differ in shape. An axis of which one of the files declares how long it
    is may not.

    Args:
        models: Both.
        outputs: Names of the outputs, in the order of `ran`.
        ran: What both gave on the same batch.
        names: What messages call the models.

    Raises:
        InputError: An output is of another kind of values, or of another shape.
    """
    sizes = [_declared(model.proto) for model in models]
    for name, one, other in zip(outputs, *ran, strict=True):
        if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
            continue
        dims = [size.get(name) for size in sizes]
        if _KINDS.get(one.dtype.kind) != _KINDS.get(other.dtype.kind) or not _fits(one.shape, other.shape, dims):
            said = f"{name!r} is {_said(one)} in {names[0]}, {_said(other)} in {names[1]}"
            raise InputError(f"the outputs differ: {said}", _SAME_ENDS)


def _declared(proto: ModelProto) -> dict[str, Dims | None]:
    values = (value for value in proto.graph.output if value.type.HasField("tensor_type"))
    return {value.name: declared(value.type.tensor_type) for value in values}


def _fits(one: tuple[int, ...], other: tuple[int, ...], dims: Sequence[Dims | None]) -> bool:
    """Whether two shapes differ at most in axes that both files leave open."""
    if len(one) != len(other):
        return False
    fixed = [known for known in dims if known is not None and len(known) == len(one)]
    differing = [axis for axis, size in enumerate(one) if size != other[axis]]
    return all(known[axis] is None for known in fixed for axis in differing)


def _said(array: NDArray[Any]) -> str:
    dtype = "text" if _KINDS.get(array.dtype.kind) == "text" else array.dtype.name
    return f"{dtype} [{', '.join(map(str, array.shape))}]"
