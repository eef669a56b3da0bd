"""What every structure is: how a weight is taken apart, what its pieces cost, and what is lost at every rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Need, Statistics


@dataclass(frozen=True)
class Slot:
    """The place of one of the weights that take the place of one.

    Attributes:
        role: What it is called in the names of its tensors and nodes.
        shape: Of what is in it.
        axes: Of a kernel: the spatial axes it spans, which get the geometry of the original; all where None.
    """

    role: str
    shape: Shape
    axes: tuple[int, ...] | None = None

    def filled(self, values: NDArray[Any]) -> Piece:
        """The slot with values in it."""
        return Piece(self.role, values, self.axes)

    def empty(self) -> Piece:
        """The slot with zeros in it."""
        return self.filled(np.zeros(self.shape.dims, np.float32))


@dataclass(frozen=True, eq=False)
class Piece:
    """One of the weights that take the place of one.

    Attributes:
        role: As its slot.
        values: [out, in, *kernel].
        axes: As its slot.
    """

    role: str
    values: NDArray[Any]
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Pieces:
    """What takes the place of one weight.

    Attributes:
        pieces: In the order in which data meet them.
        shift: [m] float64, to be added to the bias; all zeros where the bias is left alone.
    """

    pieces: tuple[Piece, ...]
    shift: Float64


class Decomposition(Protocol):
    """One weight taken apart in one structure, at every rank."""

    @property
    def method(self) -> str:
        """Name of the method that made it."""
        ...

    @property
    def power(self) -> float:
        """Mean of ‖y‖² over the fit rows, y = W x."""
        ...

    @property
    def ridge(self) -> float | None:
        """λ of the method's objective; None where it has none."""
        ...

    @property
    def shrinkage(self) -> float | None:
        """The share of t·I in the covariance; None where the method has none."""
        ...

    @property
    def metric_shrinkage(self) -> float | None:
        """The share of t_G·I in the output metric; None without one."""
        ...

    @property
    def has_effect(self) -> bool:
        """Whether `effect` is known: there is an output metric."""
        ...

    @property
    def moves_bias(self) -> bool:
        """Whether its pieces come with a shift of the bias."""
        ...

    def error(self, rank: Rank) -> float:
        """Mean of ‖y − ŷ‖² over the fit rows."""
        ...

    def tail(self, rank: Rank) -> float:
        """Mean of ‖y − ŷ‖² to expect on unseen rows."""
        ...

    @property
    def whole_effect(self) -> float:
        """The effect of keeping nothing of the weight; NaN where it is not known."""
        ...

    def effect(self, rank: Rank) -> float:
        """Distortion of the network's output to expect, in the unit of the seeds; NaN where it is not known."""
        ...

    def energy_lost(self, rank: Rank) -> float:
        """Share of the energy of y that is left out: centred where the method compensates the bias."""
        ...

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """What takes the place of the weight.

        Args:
            rank: Of the structure.
            swept: As good as they get, by a sweep of alternating least squares where the structure takes one: it is
                worth a few percent of the distortion, and takes several times as long. A search does without.
        """
        ...

    def compact(self) -> Decomposition:
        """With what is large in float32: half the memory, exact enough for weights of no more precision."""
        ...


class Structure(Protocol):
    """How a weight is taken apart. A structure is a file in this folder and a line in `STRUCTURES`."""

    @property
    def name(self) -> str:
        """As plans and the command line write it."""
        ...

    @property
    def smallest(self) -> Rank:
        """The smallest rank there is; so many numbers has every rank of it."""
        ...

    def applies(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be taken apart so."""
        ...

    def serves(self, method: Method) -> bool:
        """Whether a method has a form of it: what does not is left out of the menu."""
        ...

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """Every rank at which its pieces have fewer than `room` parameters, the fewest first."""
        ...

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        """The places of its pieces, in the order in which data meet them: what they cost is read from these."""
        ...

    def needs(self, shape: Shape, method: Method) -> Need:
        """The statistics that `decompose` reads; a caller that has gradients adds METRIC where the method takes one."""
        ...

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:
        """What `decompose` makes do with where `needs` does not fit into memory; None where with nothing less."""
        ...

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        """The pieces multiplied together, [m, n]: what the layer computes with."""
        ...

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> Decomposition:
        """A weight taken apart at every rank by a method, from what the fit rows say.

        Args:
            W: [m, n]; the n inputs of a kernel are ordered as (channel, *kernel).
            shape: Of W.
            stats: What `needs` asks for.
            method: Of the factorization.
            settings: Of the method.
        """
        ...
