"""Products and roots that factorizations share, in one precision and the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import as_exact
from onnx_dalr.factorize.linalg import Root, gram, roots

RNG = np.random.default_rng(5)


def moment_of(rank: int, dtype: type[np.floating[np.typing.NBitBase]]) -> NDArray[np.floating[np.typing.NBitBase]]:
    rows = RNG.standard_normal((rank, 12))
    return (rows.T @ rows).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rank", [40, 5])
def test_a_root_is_one_whether_the_moment_is_singular_or_not(
    rank: int, dtype: type[np.floating[np.typing.NBitBase]]
) -> None:
    moment, H, U = moment_of(rank, dtype), moment_of(30, dtype), RNG.standard_normal((12, 4)).astype(dtype)
    root = Root.of(moment)
    assert (root.inverse is None) == (rank > 12)
    assert root.L.dtype == dtype
    scale = np.abs(moment).max()
    precision = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(root.L @ root.L.T, moment, atol=precision * scale + 1e-7 * scale)
    L, inverse = roots(moment)
    np.testing.assert_allclose(root.times(U), L @ U, rtol=1e-3, atol=precision * np.abs(L).max())
    np.testing.assert_allclose(root.under(U), inverse @ U, rtol=1e-3, atol=precision * np.abs(inverse).max() * 10)
    around, wanted = np.tril(root.around(H)), np.tril(L.T @ H @ L)
    np.testing.assert_allclose(around, wanted, atol=precision * np.abs(wanted).max())


def test_rows_stay_light_unless_nearly_all_of_them_is_mean_or_too_small_for_squares() -> None:
    rows = RNG.standard_normal((100, 8)).astype(np.float32)
    assert as_exact(rows) is rows
    assert as_exact(rows + 3).dtype == np.float32
    assert as_exact(rows + 30).dtype == np.float64
    assert as_exact(rows * np.float32(1e-20)).dtype == np.float64
    assert as_exact(rows[:0]).dtype == np.float64
    assert as_exact(rows.astype(np.float16)).dtype == np.float64
    rows[3, 2] = np.inf
    assert as_exact(rows).dtype == np.float64


@pytest.mark.parametrize("scale", [1e-24, 1.0, 1e18])
def test_the_gram_of_many_columns_holds_weights_of_any_size(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.factorize.linalg.LARGE", 8)
    rows = (scale * RNG.standard_normal((50, 8))).astype(np.float32)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(gram(rows), wide.T @ wide, rtol=1e-4, atol=1e-5 * scale**2)
