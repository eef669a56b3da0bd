"""Pieces rounded by what enters the weight: kernels as the matrices they are."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.rounding import Seen, rounded
from onnx_dalr.factorize.structures import STRUCTURES, Piece
from onnx_dalr.factorize.unrolled import extent_of, unrolled, windows
from tests.factorize.kernel_cases import NAMES, Kernel, kernel

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


def pieces_of(name: str) -> tuple[Kernel, tuple[Piece, ...]]:
    case = kernel(16, 8, (3, 3), rows=600)
    rank = case.ranks(name)[len(case.ranks(name)) // 3]
    return case, case.decomposed(name).pieces(rank).pieces


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("storage", ["int8", "int4/32"])
def test_kernels_after_one_another_are_rounded_by_what_they_see(name: str, storage: str) -> None:
    case, pieces = pieces_of(name)
    seen = Seen(Moment.of(case.X.T @ case.X / len(case.X)), case.mean)
    whole = STRUCTURES[name].compose(pieces)

    def left(known: Seen | None) -> float:
        made, shift = rounded(pieces, FORMATS[storage], np.dtype(np.float32), known)
        assert [one.values.shape for one in made] == [piece.values.shape for piece in pieces]
        read = [Piece(piece.role, one.values, piece.axes) for piece, one in zip(pieces, made, strict=True)]
        off = case.X @ (whole - STRUCTURES[name].compose(read)).T + 0.0
        if known is not None:
            np.testing.assert_allclose(shift, off.mean(axis=0), atol=1e-5 * np.abs(case.X @ whole.T).max())
        return float(np.mean((off - shift) ** 2))

    assert left(seen) < 0.7 * left(None)


@pytest.mark.parametrize("name", NAMES)
def test_kernels_that_lose_nothing_stay_what_they_are(name: str) -> None:
    case, pieces = pieces_of(name)
    seen = Seen(Moment.of(case.X.T @ case.X / len(case.X)), case.mean)
    made, shift = rounded(pieces, FORMATS["keep"], np.dtype(np.float32), seen)
    for piece, one in zip(pieces, made, strict=True):
        np.testing.assert_allclose(one.values, piece.values, atol=1e-3 * np.abs(piece.values).max())
    assert np.abs(shift).max() < 1e-4 * np.abs(case.X @ case.W.T).max()


@pytest.mark.parametrize(
    "dims",
    [
        [(4, 3, 3, 2)],
        [(4, 3, 2, 1), (5, 4, 1, 3)],
        [(4, 3, 1, 1), (6, 4, 3, 2), (5, 6, 1, 1)],
        [(4, 3, 2, 2), (5, 4, 2, 1), (3, 5, 2, 2)],
        [(4, 3, 2), (5, 4)],
        [(4, 3), (2, 4)],
    ],
)
def test_unrolled_they_make_of_a_patch_what_they_do_one_after_the_other(dims: list[tuple[int, ...]]) -> None:
    kernels = [RNG.standard_normal(one) for one in dims]
    grid = extent_of([one[2:] for one in dims])
    patch = RNG.standard_normal((dims[0][1], *grid))
    below, y = None, patch
    for each in kernels:
        seen = windows(each.shape, grid)
        flat = each.reshape(len(each), -1)
        y = np.stack([flat @ y.ravel()[window] for window in seen], axis=1)
        below = unrolled(each, below, grid)
        grid = below.shape[1:-1]
        np.testing.assert_allclose((below @ patch.ravel()).reshape(len(each), -1), y, atol=1e-9)


def test_the_moment_of_what_slides_is_the_mean_over_its_places() -> None:
    C = Moment.of(ROWS.T @ ROWS / len(ROWS))
    places = windows((5, 8, 1, 2), (3, 2))
    (block,) = C.mean_over(places).blocks
    rows = np.concatenate([ROWS[:, place] for place in places])
    np.testing.assert_allclose(block, rows.T @ rows / len(rows), rtol=1e-9)
    assert C.mean_over(windows((5, 8, 3, 2), (3, 2))) is C
    apart = Moment(tuple(C.blocks[0][part, part] for part in (slice(0, 30), slice(30, 48))))
    (block,) = apart.mean_over(places).blocks
    assert np.linalg.eigvalsh(block).min() > -1e-9


def test_a_matrix_among_kernels_is_one_of_a_single_point() -> None:
    pieces = [Piece("V", KERNEL), Piece("H", RNG.standard_normal((5, 24)).astype(np.float32))]
    made, shift = rounded(pieces, FORMATS["int8"], KERNEL.dtype, SEEN)
    assert [one.values.shape for one in made] == [(24, 8, 3, 2), (5, 24)]
    assert shift.any()
