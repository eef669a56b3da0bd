"""Lookup tables whose rows are picked by number, by nodes that do nothing else: what is picked can be counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from onnx_dalr.factorize.joined import JOINED, Joined
from onnx_dalr.factorize.joined.by_use import BY_USE
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.graph.kinds.base import Use
from onnx_dalr.graph.kinds.in_one_piece import InOnePiece


@dataclass(frozen=True)
class Table(InOnePiece):
    """A weight in one piece of two axes, of which the first is picked from."""

    picks: ClassVar[bool] = True

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The numbers of the rows that are picked, [..., 1]."""
        return tensor[..., None]

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The rows that were picked: the tensor as it is."""
        return tensor

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """Every entry is a number."""
        return entries

    def joined(self) -> tuple[Joined, ...]:
        """By use."""
        return (JOINED[BY_USE],)
