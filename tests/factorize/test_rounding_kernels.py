"""Pieces rounded by what enters the weight: kernels as the matrices they are."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.rounding import Seen, rounded
from onnx_dalr.factorize.structures import Piece

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((24, 8, 3, 2)).astype(np.float32)
ROWS = RNG.standard_normal((200, 12)) @ RNG.standard_normal((12, 48)) + 1
SEEN = Seen(Moment.of(ROWS.T @ ROWS / len(ROWS)), ROWS.mean(axis=0))


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.reads_moment])
def test_a_kernel_is_rounded_by_its_patches_as_the_matrix_of_its_rows_is(name: str) -> None:
    (kernel,), shift = rounded([Piece("W", KERNEL)], FORMATS[name], KERNEL.dtype, SEEN)
    (matrix,), same = rounded([Piece("W", KERNEL.reshape(24, 48))], FORMATS[name], KERNEL.dtype, SEEN)
    assert kernel.values.shape == KERNEL.shape
    np.testing.assert_array_equal(kernel.values.reshape(24, 48), matrix.values)
    np.testing.assert_array_equal(shift, same)
    np.testing.assert_allclose(shift, (KERNEL - kernel.values).reshape(24, 48) @ SEEN.mean, rtol=1e-5, atol=1e-6)
    (plain,), nothing = rounded([Piece("W", KERNEL)], FORMATS[name], KERNEL.dtype, None)
    assert not nothing.any()
    lost, lost_plainly = (np.square((KERNEL - one.values).reshape(24, 48) @ ROWS.T).sum() for one in (kernel, plain))
    assert lost < 0.5 * lost_plainly


def test_kernels_among_several_pieces_are_rounded_plainly() -> None:
    pieces = [Piece("V", KERNEL), Piece("H", RNG.standard_normal((5, 24)).astype(np.float32))]
    made, shift = rounded(pieces, FORMATS["int8"], KERNEL.dtype, SEEN)
    plain, _ = rounded(pieces, FORMATS["int8"], KERNEL.dtype, None)
    assert not shift.any()
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
