"""How the numbers of a weight are stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize import Shape
from onnx_dalr.factorize.formats import FORMATS, Encoded, rounding
from onnx_dalr.factorize.formats.keep import Keep
from onnx_dalr.factorize.moment import Moment

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


# Fewer bits.

SHAPES = [(1, 1), (4, 1), (1, 31), (5, 31), (3, 33), (1, 129), (7, 129), (4, 64), (6, 5, 3, 3), (3, 7, 1, 1), (2, 130)]
STORED = [name for name in FORMATS if name != "keep"]
INT4 = [name for name in FORMATS if name.startswith("int4")]
F32 = np.dtype(np.float32)


def shape_of(dims: tuple[int, ...]) -> Shape:
    return Shape(dims[0], math.prod(dims[1:]), dims[2:])


def numbers(dims: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def moment(n: int) -> NDArray[Any]:
    X = numbers((2 * n, n), 1) @ numbers((n, n), 2)
    return np.asarray(X.T @ X / len(X))


def scales(stored: Encoded, name: str, dims: tuple[int, ...]) -> NDArray[Any]:
    """|s| of every number."""
    scale = np.abs(stored.arrays["_scale"])
    if name == "int8":
        return np.broadcast_to(scale, dims)
    count, n = scale.shape[1], math.prod(dims[1:])
    size = 2 * stored.arrays[""].size // (dims[0] * count)
    return np.repeat(scale.reshape(-1, count), size, axis=1)[:, :n].reshape(dims)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("name", STORED)
def test_bytes_are_those_of_the_arrays(name: str, dims: tuple[int, ...], dtype: Any, known: bool) -> None:
    given = Moment.of(moment(math.prod(dims[1:]))) if known else None
    stored = FORMATS[name].encode(numbers(dims), np.dtype(dtype), given)
    assert FORMATS[name].bytes(shape_of(dims), np.dtype(dtype)) == sum(array.nbytes for array in stored.arrays.values())
    assert stored.values.shape == dims


@pytest.mark.parametrize("name", STORED)
def test_there_are_fewer_of_them_the_fewer_the_bits(name: str) -> None:
    share = FORMATS[name].bytes(Shape(512, 512), F32) / KEEP.bytes(Shape(512, 512), F32)
    bits = {"float16": 16, "int8": 8 + 32 / 512, "int8/64": 8.5, "int4/32": 5, "int4/64": 4.5, "int4/128": 4.25}[name]
    assert share == pytest.approx(bits / 32, rel=1e-3)


@pytest.mark.parametrize("name", INT4)
def test_blocks_that_are_not_full_cost_hardly_more(name: str) -> None:
    """Thin pieces have inputs of any number."""
    for n in range(1, 300):
        blocks = -(-n // int(name[5:]))
        ideal = 384 * n / 2 + 4 * 384 * blocks
        assert FORMATS[name].bytes(Shape(384, n), F32) <= ideal + 384 / 2 * blocks + 4 * n + 28


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("name", ["int8", *INT4])
def test_every_number_is_off_by_half_a_step_at_most(name: str, dims: tuple[int, ...]) -> None:
    W = numbers(dims)
    stored = FORMATS[name].encode(W, F32)
    step = scales(stored, name, dims)
    error = np.abs(W - stored.values)
    clipped = np.abs(stored.values) >= 6.99 * step if name != "int8" else np.zeros(dims, bool)
    assert np.all(clipped | (error <= step * (0.5 + 1e-5)))
    assert np.all(np.abs(stored.values) <= np.abs(W) + step / 2 * (1 + 1e-5))


@pytest.mark.parametrize(("name", "most"), [("float16", 1e-7), ("int8", 1e-4), ("int4/32", 0.01), ("int4/128", 0.014)])
def test_what_rounding_leaves_is_measured(name: str, most: float) -> None:
    W = numbers((64, 256))
    assert 0 < rounding(FORMATS[name].encode(W, F32), W) < most


def test_smaller_blocks_leave_less() -> None:
    W = numbers((64, 256)) * np.exp(numbers((64, 256), 1))
    found = [rounding(FORMATS[name].encode(W, F32), W) for name in ("int8", "int4/32", "int4/64", "int4/128")]
    assert found == sorted(found)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", INT4)
def test_all_sixteen_numbers_are_in_use_whatever_the_sign_of_the_largest(name: str, sign: int) -> None:
    W = sign * np.linspace(-8, 7, 16, dtype=np.float32)[None]
    np.testing.assert_allclose(FORMATS[name].encode(W, F32).values, W, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "W",
    [
        np.zeros((3, 40)),
        np.full((3, 40), -2.5),
        np.full((3, 40), 1e-42),
        np.full((3, 40), 3.4e38) * np.where(np.arange(40) % 2, 1, -1),
        np.where(np.arange(120).reshape(3, 40) % 50, 1e-6, 1e6),
        np.where(np.arange(3)[:, None] == 1, 0.0, np.linspace(-3, 1, 40)),
    ],
    ids=["zeros", "constant", "denormal", "largest", "outliers", "a zero row"],
)
@pytest.mark.parametrize("name", STORED)
def test_weights_of_any_size_stay_numbers(name: str, W: NDArray[Any], dtype: Any, known: bool) -> None:
    W = W.astype(dtype)
    stored = FORMATS[name].encode(W, np.dtype(dtype), Moment.of(moment(40)) if known else None)
    assert all(np.isfinite(array).all() for array in stored.arrays.values())
    assert np.isfinite(stored.values).all()
    assert stored.values.dtype == dtype
    assert np.all(stored.values[~W.any(axis=1)] == 0)
    if name.startswith("int") and not known:
        most = np.abs(W).max(axis=1, keepdims=True)
        assert np.all(np.abs(W - stored.values) <= most * 0.31 + 1e-37)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["int8", *INT4])
def test_doubles_beyond_single_precision_become_the_largest_there_are(name: str) -> None:
    read = FORMATS[name].encode(np.array([[1e300, -1e300, 1.0]]), np.dtype(np.float64)).values
    assert np.isfinite(read).all()
    assert read[0, 0] > 1e38


@pytest.mark.parametrize("name", STORED)
def test_only_what_is_not_stored_as_floats_is_packed(name: str) -> None:
    assert FORMATS[name].encode(numbers((4, 6)), F32).packed == 24 * name.startswith("int")
