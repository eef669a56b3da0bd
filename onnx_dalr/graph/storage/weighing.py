"""What the values of stored tensors take of an artifact, without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import AttributeProto, TensorProto

from onnx_dalr.graph.storage.external import is_external, place, tensor_bytes

Stored = TensorProto | AttributeProto
"""A tensor, or an attribute that holds plain numbers."""

Spot = tuple[Path, int, int]
"""A place in a data file: the file, the first byte, how many."""

_VARYING = ("int32_data", "int64_data", "uint64_data", "string_data")
"""Fields whose entries do not all take the same."""


@dataclass(frozen=True)
class Weighed:
    """What constants take, each of one part or, a sparse tensor, of several.

    Attributes:
        bytes: By constant. Where places in a data file overlap, what they share is the first one's.
        spots: By constant: where it lies in a data file, None where it does not, or not in one piece.
        inside: Bytes in the model file, of all together.
        outside: Bytes in data files.
    """

    bytes: tuple[int, ...]
    spots: tuple[Spot | None, ...]
    inside: int
    outside: int


def weigh(constants: Sequence[Sequence[Stored]], path: Path | None, room: int) -> Weighed:
    """Weighs constants by their shapes: the values themselves are looked at only where they cannot be that large.

    Args:
        constants: The parts of each.
        path: Of the model file, beside which external data lies.
        room: Bytes of the model file.

    Raises:
        InputError: External data that is not where the model says.
    """
    inside = [sum(map(_inside, parts)) for parts in constants]
    if sum(inside) > room:
        inside = [sum(_measured(part) for part in parts) for parts in constants]
    external = [
        (place(part, path), at)
        for at, parts in enumerate(constants)
        for part in parts
        if isinstance(part, TensorProto) and is_external(part)
    ]
    outside, spots = [0] * len(constants), [None] * len(constants)  # type: list[int], list[Spot | None]
    end: dict[Path, int] = {}
    for spot, at in sorted(external, key=lambda entry: (*entry[0][:2], entry[1])):
        file, first, count = spot
        covered = end.get(file, 0)
        outside[at] += max(0, first + count - max(first, covered))
        end[file] = max(covered, first + count)
        spots[at] = spot if len(constants[at]) == 1 else None
    total = tuple(map(sum, zip(inside, outside, strict=True)))
    return Weighed(total, tuple(spots), sum(inside), sum(outside))


def _inside(part: Stored) -> int:
    """Bytes in the model file, by the shape where values are stored as they are."""
    raw = isinstance(part, TensorProto) and part.HasField("raw_data") and not is_external(part)
    return tensor_bytes(part) if raw else _measured(part)


def _measured(part: Stored) -> int:
    """Bytes in the model file, counted from the values that are there; this copies raw data."""
    if isinstance(part, AttributeProto):
        return int(part.ByteSize())
    if is_external(part):
        return 0
    count = len(part.raw_data) + 4 * len(part.float_data) + 8 * len(part.double_data)
    if any(len(getattr(part, field)) for field in _VARYING):
        bare = TensorProto()
        bare.CopyFrom(part)
        for field in _VARYING:
            bare.ClearField(field)
        count += part.ByteSize() - bare.ByteSize()
    return count
