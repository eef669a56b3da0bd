"""Structures: how a weight is taken apart. One file each, gathered here by name; "dense" is none of them."""

from __future__ import annotations

from onnx_dalr.factorize.form import DENSE, Form
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures.base import Decomposition, Piece, Pieces, Structure
from onnx_dalr.factorize.structures.pair import Pair

__all__ = ["STRUCTURES", "Decomposition", "Piece", "Pieces", "Structure", "shapes_of"]

STRUCTURES: dict[str, Structure] = {structure.name: structure for structure in (Pair(),)}


def shapes_of(shape: Shape, form: Form) -> tuple[Shape, ...]:
    """Shapes of the pieces that a weight becomes in a form."""
    return (shape,) if form.structure == DENSE else STRUCTURES[form.structure].shapes(shape, form.rank)
