"""Forms as tests write them."""

from __future__ import annotations

from onnx_dalr.factorize import PAIR, UNTOUCHED, Form

__all__ = ["UNTOUCHED", "form", "pair"]


def pair(rank: int) -> Form:
    """Two thin matrices."""
    return Form(PAIR, (rank,))


def form(rank: int | None) -> Form:
    """The same; None is the layer as it is."""
    return UNTOUCHED if rank is None else pair(rank)
