"""What every joined structure is: its forms, what they cost, and what is known of one weight in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Form
from onnx_dalr.factorize.formats import Encoded
from onnx_dalr.factorize.shape import Shape


class Joined(Protocol):
    """A weight stored in several ways at once: constants make one weight of them when the model is loaded.

    A joined structure is a file in this folder and a line in `JOINED`.
    """

    @property
    def name(self) -> str:
        """As plans and the command line write it."""
        ...

    def forms(self, shape: Shape, formats: Sequence[str]) -> Iterable[Form]:
        """The forms of a weight whose numbers may be stored in these formats."""
        ...

    def fits(self, form: Form) -> bool:
        """Whether a rank has as many numbers as one of this structure, and the format is one that it takes."""
        ...

    def params(self, shape: Shape, form: Form) -> int:
        """Numbers that the weight is made of."""
        ...

    def bytes(self, shape: Shape, form: Form, dtype: np.dtype[Any]) -> int:
        """What they take in the file."""
        ...

    def empty(self, shape: Shape, form: Form, dtype: np.dtype[Any]) -> Encoded:
        """Zeros in this form: all that the size of a file depends on."""
        ...


class Losses(Protocol):
    """What one weight loses in the forms of a joined structure, from what the samples say."""

    def share(self, form: Form) -> float:
        """The share of what the weight makes of its inputs that is to be expected lost."""
        ...

    def landmarks(self, forms: Sequence[Form]) -> Sequence[Form]:
        """Of these, the few between which all others lie: what they do to a model is measured first."""
        ...

    def encoded(self, W: NDArray[Any], form: Form, dtype: np.dtype[Any]) -> Encoded:
        """The weight, [m, n], in a form."""
        ...
