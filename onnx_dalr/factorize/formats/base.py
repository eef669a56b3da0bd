"""What every format is: how the numbers of a weight are stored, and what makes floats of them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.shape import Shape

LEARNABLE = ("", "_scale")
"""Keys of arrays whose floats could be others: weights themselves and scales; the rest says how they are laid out."""


@dataclass(frozen=True)
class Decoding:
    """One operator on the way from stored arrays to the floats that a node multiplies by.

    Attributes:
        op: Its name among the standard operators.
        operand: Key, among the arrays and parts of the `Encoded`, of its second operand; None where it has none.
        attributes: Of the node. "to" of a Cast is a type as numpy names it, or None for what the layer computes in:
            such a Cast is left out where the numbers are of that type already. "shape" of a Reshape is written as
            the constant that the operator takes it from.
    """

    op: str
    operand: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Encoded:
    """One weight as it is stored. No ONNX: whoever writes nodes makes them of the steps.

    Attributes:
        arrays: What is stored, by the ending of its name: "" for what the steps begin with. Each is laid out
            [out, in, *kernel], with axes of length 1 where it is broadcast, and of the element type of the file; floats
            that a step combines with others get the type that these have there.
        values: The numbers that these stand for, [out, in, *kernel]: what the weight is taken for before it is written.
        steps: Applied to the array "", in order.
        canonical: Arrays have shapes of their own, and only what the last step makes is [out, in, *kernel].
        parts: What else it is made of, by the same endings: each is made into float32, or into the numbers of rows that
            it holds, before a step reads it. The steps begin with the part "" where there is one. Canonical alone.
    """

    arrays: Mapping[str, NDArray[Any]]
    values: NDArray[Any]
    steps: tuple[Decoding, ...] = ()
    canonical: bool = False
    parts: Mapping[str, Encoded] = field(default_factory=dict)

    @property
    def packed(self) -> int:
        """How many of its numbers are not stored as floating ones."""
        own = "" in self.arrays and self.arrays[""].dtype.kind != "f" and self.values.dtype.kind == "f"
        return own * self.values.size + sum(part.packed for part in self.parts.values())

    def stored(self) -> Iterator[NDArray[Any]]:
        """All that is stored, parts included."""
        yield from self.arrays.values()
        for part in self.parts.values():
            yield from part.stored()


def rounding(encoded: Encoded, values: NDArray[Any]) -> float:
    """‖W − Ŵ‖² / ‖W‖²: the share of a weight's squared size that its format leaves behind."""
    whole = float(np.sum(np.square(values, dtype=np.float64)))
    return float(np.sum(np.square(values - encoded.values, dtype=np.float64))) / whole if whole else 0.0


class Format(Protocol):
    """How numbers are stored. A format is a file in this folder and a line in `FORMATS`."""

    @property
    def name(self) -> str:
        """As plans and the command line write it."""
        ...

    @property
    def reads_moment(self) -> bool:
        """Whether rounding may know the data."""
        ...

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """What a weight of this shape takes in the file; `dtype` is the element type it has in the original."""
        ...

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """A weight as it is stored.

        Args:
            values: [out, in, *kernel].
            dtype: The element type that it has in the original.
            moment: E[x xᵀ] of what it multiplies, of in·Πkernel inputs ordered as (channel, *kernel); None for rounding
                that knows nothing of the data.
        """
        ...
