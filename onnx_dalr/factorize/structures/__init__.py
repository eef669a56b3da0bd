"""Structures: how a weight is taken apart. One file each, gathered here by name; "dense" is none of them."""

from __future__ import annotations

from onnx_dalr.factorize.structures.base import Piece, Structure
from onnx_dalr.factorize.structures.pair import Pair

__all__ = ["STRUCTURES", "Piece", "Structure"]

STRUCTURES: dict[str, Structure] = {structure.name: structure for structure in (Pair(),)}
