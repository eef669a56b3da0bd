"""Structures: how a weight is taken apart. One file each, gathered here by name; "dense" is none of them."""

from __future__ import annotations

from collections.abc import Iterable
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
from onnx_dalr.factorize.structures.out import Out
from onnx_dalr.factorize.structures.pair import Pair
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
    settings: Settings,
) -> dict[str, Decomposition]:
    """A weight in every one of these structures that serves the method, by name: what they have in common is made once.

    Args:
        structures: That apply to the weight.
        W: [m, n].
        shape: Of W.
        stats: What the structures need.
        method: Of the factorization.
        settings: Of the method.
    """
    common = Common(W, shape, stats, method, settings)
    return {
        one.name: one.of(common)
        if isinstance(one, TwoKernels | Tucker)
        else one.decompose(W, shape, stats, method, settings)
        for one in structures
        if one.serves(method)
    }
