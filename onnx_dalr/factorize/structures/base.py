"""What every structure is: how a weight is taken apart, and what its pieces cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.spectrum import Factors


@dataclass(frozen=True, eq=False)
class Piece:
    """One of the weights that take the place of one.

    Attributes:
        role: What it is called in the names of its tensors and nodes.
        values: [out, in, *kernel].
        axes: Of a kernel: the spatial axes it spans, which get the geometry of the original; all where None.
    """

    role: str
    values: NDArray[Any]
    axes: tuple[int, ...] | None = None


class Structure(Protocol):
    """How a weight is taken apart. A structure is a file in this folder and a line in `STRUCTURES`."""

    @property
    def name(self) -> str:
        """As plans and the command line write it."""
        ...

    def applies(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be taken apart so."""
        ...

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """Every rank at which it has fewer than `room` parameters, ascending."""
        ...

    def shapes(self, shape: Shape, rank: Rank) -> tuple[Shape, ...]:
        """Shapes of its pieces, in the order in which data meet them: what they cost is read from these."""
        ...

    def pieces(self, factors: Factors) -> tuple[Piece, ...]:
        """The pieces, in the order in which data meet them."""
        ...
