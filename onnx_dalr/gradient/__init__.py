"""Gradients of an ONNX model as ONNX: one rule per operator family, and the walk that chains them (methods.md §3.4)."""

from __future__ import annotations

from onnx_dalr.gradient.footprint import activation_bytes, entries_on, sizes_on
from onnx_dalr.gradient.walk import Ended, Gradients, differentiate

__all__ = ["Ended", "Gradients", "activation_bytes", "differentiate", "entries_on", "sizes_on"]
