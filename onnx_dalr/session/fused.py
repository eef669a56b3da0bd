"""What ONNX Runtime, as it is installed here, makes of a DequantizeLinear in front of a product."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from onnx_dalr.errors import InputError
from onnx_dalr.graph.packed.products import left_over
from onnx_dalr.session.session import Device, open_session


def not_fused(model: Path | bytes, constants: Collection[str], device: Device) -> frozenset[str]:
    """The constants that a DequantizeLinear still unpacks, on every run, after ONNX Runtime has optimized a model.

    It says so only in what it writes: the model is loaded and written once. All, where it cannot be loaded.

    Args:
        model: A path, or a serialized model.
        constants: Names of constants that DequantizeLinear nodes of the model read.
        device: Where the model will run.
    """
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
        written = Path(folder) / "optimized.onnx"
        try:
            open_session(model, device, prepack=False, optimized=written)
        except InputError:
            return frozenset(constants)
        return frozenset(constants) & left_over(written)
