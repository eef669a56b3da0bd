"""A weight in one piece: no structure applies, and only what enters it may be known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.structures.base import Pieces


@dataclass(frozen=True)
class Whole:
    """Its output counts as one: what is lost of it is the share that rounding leaves behind."""

    method: str = ""
    power: float = 1.0
    ridge: float | None = None
    shrinkage: float | None = None
    metric_shrinkage: float | None = None
    has_effect: bool = False
    moves_bias: bool = False
    whole_effect: float = math.nan

    def error(self, rank: Rank) -> float:
        """Nothing is left out."""
        del rank
        return 0.0

    def tail(self, rank: Rank) -> float:
        """Nothing is left out."""
        return self.error(rank)

    def effect(self, rank: Rank) -> float:
        """Not known."""
        del rank
        return math.nan

    def energy_lost(self, rank: Rank) -> float:
        """Nothing is left out."""
        return self.error(rank)

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """There is no rank to ask for.

        Raises:
            LookupError: Always.
        """
        del swept
        raise LookupError(f"a weight in one piece has no rank {rank}")

    def compact(self) -> Whole:
        """Itself."""
        return self
