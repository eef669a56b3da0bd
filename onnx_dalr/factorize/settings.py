"""What a caller may ask of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_dalr.factorize.dalr2017 import Ridge


@dataclass(frozen=True)
class Settings:
    """The knobs of all methods; each reads its own.

    Attributes:
        ridge: λ of `dalr-2017`; None for its default.
        shrinkage: a of `dalr`, the share of t·I in the covariance, in [0, 1]; None for OAS.
        metric: s of `dalr`, the share of t_G·I in the output metric, in [0, 1]; "auto" by the number of probes; None
            for no metric. Without gradients in the statistics there is none whatever this says.
    """

    ridge: Ridge | None = None
    shrinkage: float | None = None
    metric: float | Literal["auto"] | None = "auto"
