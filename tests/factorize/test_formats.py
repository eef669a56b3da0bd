"""How the numbers of a weight are stored."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.factorize import Shape
from onnx_dalr.factorize.formats import FORMATS, Encoded, rounding
from onnx_dalr.factorize.formats.keep import Keep

KEEP = Keep()


def test_every_format_is_in_the_table_by_its_name() -> None:
    assert all(format.name == name for name, format in FORMATS.items())
    assert isinstance(FORMATS["keep"], Keep)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_kept_numbers_have_the_element_type_of_the_original_and_need_no_steps(dtype: type[np.floating]) -> None:
    values = np.random.default_rng(0).standard_normal((4, 6))
    stored = KEEP.encode(values, np.dtype(dtype))
    assert (set(stored.arrays), stored.steps) == ({""}, ())
    assert stored.arrays[""].dtype == dtype
    np.testing.assert_array_equal(stored.arrays[""], values.astype(dtype))
    assert KEEP.bytes(Shape(4, 6), np.dtype(dtype)) == stored.arrays[""].nbytes


def test_a_kernel_keeps_its_shape_and_counts_its_taps() -> None:
    kernel = np.ones((4, 2, 3, 3))
    stored = KEEP.encode(kernel, np.dtype(np.float32)).arrays[""]
    assert stored.shape == kernel.shape
    assert KEEP.bytes(Shape(4, 2 * 9, (3, 3)), np.dtype(np.float32)) == stored.nbytes


def test_keeping_leaves_nothing_behind() -> None:
    assert rounding(KEEP.encode(np.eye(3), np.dtype(np.float32)), np.eye(3)) == 0


@pytest.mark.filterwarnings("error")
def test_what_does_not_fit_into_the_element_type_is_left_to_the_verification() -> None:
    assert np.isinf(KEEP.encode(np.array([[1e6]]), np.dtype(np.float16)).arrays[""]).all()


def test_what_rounding_leaves_is_a_share_of_the_squared_weight() -> None:
    W = np.array([[3.0, 4.0]])
    assert rounding(Encoded({"": W}, np.array([[3.0, 3.0]])), W) == pytest.approx(1 / 25)
    assert rounding(Encoded({"": W}, np.zeros((1, 2))), np.zeros((1, 2))) == 0
