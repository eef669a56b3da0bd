"""Half the bytes of float32, eleven significant bits: a Cast makes floats of it, at load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.formats.base import Decoding, Encoded
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.shape import Shape

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Float16:
    """Two bytes a number. What is too large for it becomes the largest number that it has, ±65504."""

    name: str = "float16"
    reads_moment: bool = False

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """2·m·n."""
        del dtype
        return 2 * shape.params

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """Rounded to nearest: there is so little to gain that the moment is not looked at."""
        del dtype, moment
        stored = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)
        return Encoded({"": stored}, stored.astype(values.dtype), (Decoding("Cast", attributes={"to": None}),))
