"""Pieces in a format: the last makes up for the others, means go to the bias, and what is lost is known before."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize.formats import FORMATS, rounding
from onnx_dalr.factorize.moment import LARGEST_BLOCK, Moment, add_blocks, blocks_shape
from onnx_dalr.factorize.rounding import Seen, losses, rounded
from onnx_dalr.factorize.structures import Piece

FLOAT32 = np.dtype(np.float32)
Array = NDArray[np.float64]
READING = [name for name, format in FORMATS.items() if format.reads_moment]


def rows(count: int, n: int, seed: int = 0) -> Array:
    """That mostly lie in few directions, with a mean."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((n, n)) * np.geomspace(1, 0.02, n)[:, None]
    return random.standard_normal((count, n)) @ mixing + 0.7


def seen(x: Array) -> Seen:
    return Seen(Moment.of(x.T @ x / len(x)), x.mean(axis=0))


def pair(m: int, k: int, n: int) -> tuple[Piece, Piece]:
    random = np.random.default_rng(3)
    return Piece("B", random.standard_normal((k, n))), Piece("A", random.standard_normal((m, k)))


@pytest.mark.parametrize("name", READING)
def test_the_second_of_a_pair_makes_up_for_what_the_first_lost(name: str) -> None:
    x, (B, A) = rows(400, 48), pair(32, 6, 48)
    exact = x @ (A.values @ B.values).T

    def left(known: Seen | None) -> float:
        (first, second), shift = rounded((B, A), FORMATS[name], FLOAT32, known)
        return float(np.mean((x @ (second.values @ first.values).T + shift - exact) ** 2))

    assert left(seen(x)) < 0.7 * left(None)


def test_a_pair_that_loses_nothing_stays_what_it_is() -> None:
    B, A = pair(16, 4, 24)
    made, shift = rounded((B, A), FORMATS["keep"], FLOAT32, seen(rows(200, 24)))
    np.testing.assert_allclose(made[0].values, B.values)
    np.testing.assert_allclose(made[1].values, A.values, rtol=1e-4, atol=1e-5)
    assert np.abs(shift).max() < 1e-4


@pytest.mark.parametrize("name", READING)
def test_what_rounding_does_to_the_mean_goes_to_the_bias(name: str) -> None:
    x = rows(300, 40)
    W = np.random.default_rng(1).standard_normal((20, 40))
    (made,), shift = rounded((Piece("W", W),), FORMATS[name], FLOAT32, seen(x))
    off = x @ (made.values - W).T + shift
    np.testing.assert_allclose(off.mean(axis=0), 0, atol=1e-4 * np.abs(x @ W.T).max())


def test_kernels_and_what_nobody_has_seen_are_rounded_plainly() -> None:
    kernel = np.random.default_rng(2).standard_normal((8, 4, 3, 3))
    (made,), shift = rounded((Piece("W", kernel),), FORMATS["int8"], FLOAT32, None)
    np.testing.assert_array_equal(made.values, FORMATS["int8"].encode(kernel, FLOAT32).values)
    assert shift.shape == (8,)
    assert not shift.any()


def test_an_input_that_was_always_zero_leaves_a_pair_as_it_is() -> None:
    B, A = pair(8, 3, 10)
    nothing = Seen(Moment.of(np.zeros((10, 10))), np.zeros(10))
    made, shift = rounded((B, A), FORMATS["int8"], FLOAT32, nothing)
    plain, _ = rounded((B, A), FORMATS["int8"], FLOAT32, None)
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert not shift.any()


def test_losses_are_what_rounding_leaves_of_the_output() -> None:
    x, W = rows(500, 64), np.random.default_rng(4).standard_normal((32, 64))
    known = seen(x)
    found, apart = losses(FORMATS.values(), W, FLOAT32, known)
    assert "keep" not in found
    for name in found:
        (made,), _ = rounded((Piece("W", W),), FORMATS[name], FLOAT32, known)
        exact = float(np.sum((x @ (made.values - W).T) ** 2) / np.sum((x @ W.T) ** 2))
        assert found[name] == pytest.approx(exact, rel=0.5)
        assert apart[name] == rounding(FORMATS[name].encode(W, FLOAT32), W)
    assert found["float16"] < found["int8"] < found["int4/32"] < found["int4/128"]


@pytest.mark.parametrize("name", ["int4/32", "int4/64"])
def test_a_pair_loses_what_was_to_be_expected_of_it_apart(name: str) -> None:
    x, (B, A) = rows(500, 64), pair(48, 12, 64)
    W, known = A.values @ B.values, seen(x)
    _, apart = losses([FORMATS[name]], W, FLOAT32, known)
    (first, second), shift = rounded((B, A), FORMATS[name], FLOAT32, known)
    left = float(np.sum((x @ (second.values @ first.values - W).T + shift) ** 2) / np.sum((x @ W.T) ** 2))
    assert 0.3 * apart[name] < left < 2 * apart[name]


def test_without_samples_losses_are_those_of_the_weight() -> None:
    W = np.random.default_rng(5).standard_normal((16, 9, 3, 3))
    found, apart = losses(FORMATS.values(), W, FLOAT32, None)
    assert found["int8"] == apart["int8"] == rounding(FORMATS["int8"].encode(W, FLOAT32), W)


def test_a_weight_that_makes_nothing_of_its_inputs_loses_nothing() -> None:
    found, _ = losses(FORMATS.values(), np.zeros((4, 8)), FLOAT32, seen(rows(50, 8)))
    assert set(found.values()) == {0.0}


# Moments


@pytest.mark.parametrize("n", [1, 30, LARGEST_BLOCK, LARGEST_BLOCK + 1, 2 * LARGEST_BLOCK + 7])
def test_blocks_add_up_to_those_of_the_whole_moment(n: int) -> None:
    x = np.random.default_rng(6).standard_normal((20, n)).astype(np.float32)
    held = np.zeros(blocks_shape(n))
    for part in (x[:7], x[7:]):
        add_blocks(held, part.astype(np.float64))
    found = Moment.of_blocks(n, held)
    assert found.n == n
    for inputs, block in found:
        np.testing.assert_allclose(block, x[:, inputs].T.astype(np.float64) @ x[:, inputs], rtol=1e-5, atol=1e-5)


def test_a_moment_goes_through_a_weight() -> None:
    x, W = rows(100, 12), np.random.default_rng(7).standard_normal((5, 12))
    C = Moment.of(x.T @ x / len(x))
    y = x @ W.T
    (block,) = C.through(W).blocks
    np.testing.assert_allclose(block, y.T @ y / len(y), rtol=1e-9)
    assert C.power(W) == pytest.approx(float(np.mean(np.sum(y**2, axis=1))))
    np.testing.assert_allclose(C.times(W), W @ x.T @ x / len(x), rtol=1e-9)
    assert C.compact().blocks[0].dtype == np.float32
