"""The element type a weight has in the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.formats.base import Encoded
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.shape import Shape


@dataclass(frozen=True)
class Keep:
    """Stores numbers as they were stored."""

    name: str = KEPT
    reads_moment: bool = False

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """m·n elements."""
        return shape.params * dtype.itemsize

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """The values, rounded to the element type."""
        del moment
        with np.errstate(over="ignore"):  # what does not fit into float16 is found by the verification
            return Encoded({"": values.astype(dtype)}, values)
