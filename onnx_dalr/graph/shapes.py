"""The sizes that a file declares, as far as they are sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import TensorShapeProto, TypeProto, ValueInfoProto

Dims = tuple[int | None, ...]

Sizes = Mapping[str, Dims]
"""Of tensors by name; None for an axis that only the run decides."""


def declared(kind: TypeProto.Tensor) -> Dims | None:
    """The shape of an input or output as its file declares it, None for an axis it leaves open; None without any.

    Exporters write an open axis as nothing, as a name, as −1 (Paddle) or as 0.
    """
    if not kind.HasField("shape"):
        return None
    return tuple(axis.dim_value if axis.dim_value > 0 else None for axis in kind.shape.dim)


def opened(values: Iterable[ValueInfoProto]) -> list[ValueInfoProto]:
    """Copies in which an axis that is left open says nothing: onnx's shape inference counts with a −1 or a 0."""
    copies = []
    for value in values:
        copy = ValueInfoProto()
        copy.CopyFrom(value)
        for axis in _axes(copy):
            if axis.HasField("dim_value") and axis.dim_value <= 0:
                axis.ClearField("dim_value")
        copies.append(copy)
    return copies


def _axes(value: ValueInfoProto) -> Iterable[TensorShapeProto.Dimension]:
    return value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ()


def exactly(sizes: Sizes, name: str) -> tuple[int, ...]:
    """The size of a tensor.

    Raises:
        LookupError: It is not known, or not all of it.
    """
    found = tuple(size for size in sizes[name] if size is not None and size >= 0)
    if len(found) < len(sizes[name]):
        raise LookupError(name)
    return found
