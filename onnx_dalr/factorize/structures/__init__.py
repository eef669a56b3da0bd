"""Structures: how a weight is taken apart. One file each, gathered here by name; "dense" is none of them."""

from __future__ import annotations

from onnx_dalr.factorize.form import DENSE, Form
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures.base import Decomposition, Piece, Pieces, Slot, Structure
from onnx_dalr.factorize.structures.pair import Pair

__all__ = ["STRUCTURES", "Decomposition", "Piece", "Pieces", "Slot", "Structure", "slots_of"]

STRUCTURES: dict[str, Structure] = {structure.name: structure for structure in (Pair(),)}


def slots_of(shape: Shape, form: Form) -> tuple[Slot, ...]:
    """Places of the pieces that a weight becomes in a form."""
    return (Slot("W", shape),) if form.structure == DENSE else STRUCTURES[form.structure].slots(shape, form.rank)
