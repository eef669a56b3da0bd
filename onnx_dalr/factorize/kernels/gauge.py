"""What two pieces share out between them: a scale for each latent that leaves both of a size (methods.md §7.3)."""

from __future__ import annotations

import numpy as np

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.spectrum import GAUGE_FLOOR


def balance(latent: Float64, weight: Float64) -> Float64:
    """g, [K]: latents times g are as large as what reads them, over g, is.

    Args:
        latent: √E[z²] of each latent, uncentred, [K].
        weight: The length of what reads it, [K].
    """
    return np.sqrt(_floored(weight) / _floored(latent))


def _floored(sizes: Float64) -> Float64:
    """At least 1e-6 of the largest; ones where all are zero."""
    largest = sizes.max(initial=0.0)
    return np.maximum(sizes, GAUGE_FLOOR * largest) if largest > 0 else np.ones_like(sizes)
