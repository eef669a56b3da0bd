"""Structures: how a weight is taken apart. One file each, gathered here by name; "dense" is none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

from numpy.typing import NDArray

from onnx_dalr.factorize.form import DENSE, Form
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Statistics
from onnx_dalr.factorize.structures.base import Decomposition, Piece, Pieces, Slot, Structure
from onnx_dalr.factorize.structures.common import Common
from onnx_dalr.factorize.structures.kernels import TwoKernels
from onnx_dalr.factorize.structures.on_demand import OnDemand
from onnx_dalr.factorize.structures.out import Out
from onnx_dalr.factorize.structures.pair import Pair, PairSpectrum
from onnx_dalr.factorize.structures.tucker import Tucker

__all__ = ["STRUCTURES", "Decomposition", "Piece", "Pieces", "Slot", "Structure", "slots_of", "taken_apart"]

STRUCTURES: dict[str, Structure] = {
    structure.name: structure
    for structure in (Pair(), Out(), TwoKernels("in"), TwoKernels("v", (0,)), TwoKernels("h", (1,)), Tucker())
}


def slots_of(shape: Shape, form: Form) -> tuple[Slot, ...]:
    """Places of the pieces that a weight becomes in a form."""
    return (Slot("W", shape),) if form.structure == DENSE else STRUCTURES[form.structure].slots(shape, form.rank)


def taken_apart(
    structures: Iterable[Structure],
    W: NDArray[Any],
    shape: Shape,
    stats: Statistics,
    method: Method,
    settings: Callable[[], Settings],
    *,
    compact: bool = False,
    put: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> OnDemand:
    """A weight in every one of these structures that serves the method, by name, each made when it is asked for.

    What they have in common is made once.

    Args:
        structures: That apply to the weight.
        W: [m, n].
        shape: Of W.
        stats: What the structures need.
        method: Of the factorization.
        settings: What makes those of the method, when the first structure is asked for.
        compact: With what is large in float32.
        put: Puts what is large of a matrix where it takes no memory.
    """
    shared = _Shared(W, shape, stats, method, settings)

    def make(one: Structure) -> Decomposition:
        if isinstance(one, TwoKernels | Tucker):
            made: Decomposition = one.of(shared.common)
        else:
            made = one.decompose(W, shape, stats, method, shared.settings)
        made = made.compact() if compact else made
        return made.put_away(put) if put is not None and isinstance(made, PairSpectrum) else made

    return OnDemand({one.name: partial(make, one) for one in structures if one.serves(method)})


class _Shared:
    """What several structures of one weight are made from."""

    def __init__(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Callable[[], Settings]
    ) -> None:
        self._facts, self._method, self._make = (W, shape, stats), method, settings

    @cached_property
    def settings(self) -> Settings:
        return self._make()

    @cached_property
    def common(self) -> Common:
        return Common(*self._facts, self._method, self.settings)
