"""Joined structures: a weight that is stored in several ways at once and written as one. One file each, by name."""

from __future__ import annotations

from onnx_dalr.factorize.form import DENSE, Form
from onnx_dalr.factorize.joined.base import Joined, Losses
from onnx_dalr.factorize.joined.by_use import ByUse

__all__ = ["JOINED", "Joined", "Losses", "is_one"]

JOINED: dict[str, Joined] = {joined.name: joined for joined in (ByUse(),)}


def is_one(form: Form) -> bool:
    """Whether the weight is written as one, under whatever it is made of: its nodes stay what they are."""
    return form.structure == DENSE or form.structure in JOINED
