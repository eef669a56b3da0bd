"""Kernels taken apart: every rank at once, least squares, a sweep, and what each structure says of itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize import METHODS, Need, Settings, Shape
from onnx_dalr.factorize.kernels.fit import Fit
from onnx_dalr.factorize.structures import STRUCTURES, Decomposition, taken_apart
from onnx_dalr.factorize.structures.kernels import TwoKernels, TwoKernelsByRank
from onnx_dalr.factorize.structures.pair import Pair
from tests.factorize.cases import make
from tests.factorize.kernel_cases import NAMES, SHAPES, Kernel, kernel

FITTED = ("in", "v", "h", "tucker")


def curve_of(found: Decomposition, case: Kernel, name: str) -> list[float]:
    return [found.effect(rank) for rank in case.ranks(name)]


def convolved(x: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without padding, from the definition: x [channels, *extent], K [out, channels, *kernel]."""
    extent = [size - own + 1 for size, own in zip(x.shape[1:], K.shape[2:], strict=True)]
    y = np.zeros((len(K), *extent))
    for at in itertools.product(*map(range, extent)):
        patch = x[(slice(None), *(slice(start, start + own) for start, own in zip(at, K.shape[2:], strict=True)))]
        y[(slice(None), *at)] = np.tensordot(K, patch, axes=patch.ndim)
    return y


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form and the second kernel, without the sweep after them."""

    def as_it_was(view: object, fit: Fit, second: object = None) -> Fit:
        del view, second
        return fit

    for module in ("kernels", "tucker"):
        monkeypatch.setattr(f"onnx_dalr.factorize.structures.{module}.swept", as_it_was)


# What the pieces are


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_have_the_shapes_that_are_said_and_convolve_to_what_they_compose_to(
    shape: tuple[int, int, tuple[int, ...]],
) -> None:
    case = kernel(*shape)
    x = np.random.default_rng(1).standard_normal((case.shape.channels, *(size + 2 for size in case.shape.kernel)))
    for name in case.names:
        rank = case.ranks(name)[len(case.ranks(name)) // 2]
        pieces = case.decomposed(name).pieces(rank)
        slots = STRUCTURES[name].slots(case.shape, rank)
        assert [(one.role, one.values.shape, one.axes) for one in pieces.pieces] == [
            (slot.role, slot.shape.dims, slot.axes) for slot in slots
        ]
        y = x
        for piece in pieces.pieces:
            y = convolved(y, piece.values)
        whole = convolved(x, case.composed(name, pieces).reshape(case.shape.dims))
        np.testing.assert_allclose(y, whole, atol=1e-6 * np.abs(whole).max())


def test_which_axes_a_piece_spans_says_its_structure() -> None:
    shape = Shape(8, 60, (4, 3))
    found = {name: [(one.shape.dims, one.axes) for one in STRUCTURES[name].slots(shape, (2,))] for name in NAMES[:4]}
    assert found == {
        "out": [((2, 5, 4, 3), None), ((8, 2, 1, 1), ())],
        "in": [((2, 5, 1, 1), ()), ((8, 2, 4, 3), (0, 1))],
        "v": [((2, 5, 4, 1), (0,)), ((8, 2, 1, 3), (1,))],
        "h": [((2, 5, 1, 3), (1,)), ((8, 2, 4, 1), (0,))],
    }
    tucker = STRUCTURES["tucker"].slots(shape, (2, 3))
    assert [(one.shape.dims, one.axes) for one in tucker] == [
        ((2, 5, 1, 1), ()),
        ((3, 2, 4, 3), None),
        ((8, 3, 1, 1), ()),
    ]


@pytest.mark.parametrize(
    ("extent", "names"),
    [
        ((3, 3), {"out", "in", "v", "h", "tucker"}),
        ((1, 3), {"out", "in", "tucker"}),
        ((5,), {"out", "in", "tucker"}),
        ((3, 3, 3), {"out", "in", "tucker"}),
        ((1, 1), {"pair"}),
        ((), {"pair"}),
    ],
)
def test_what_a_kernel_can_be_taken_apart_into(extent: tuple[int, ...], names: set[str]) -> None:
    shape = Shape(8, 4 * math.prod(extent), extent)
    assert {name for name, one in STRUCTURES.items() if one.applies(shape)} == names


def test_the_papers_method_projects_outputs_and_is_left_out_elsewhere() -> None:
    serving = {method: [name for name, one in STRUCTURES.items() if one.serves(METHODS[method])] for method in METHODS}
    assert serving.pop("dalr-2017") == ["pair", "out"]
    assert all(names == list(STRUCTURES) for names in serving.values())
    case = kernel(8, 4, (3, 3))
    found = taken_apart(
        [STRUCTURES[name] for name in case.names],
        case.W,
        case.shape,
        case.statistics(),
        METHODS["dalr-2017"],
        Settings,
    )
    assert list(found) == ["out"]


# Ranks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("m", "channels"), [(16, 8), (5, 40), (200, 3), (96, 64), (512, 512)])
def test_every_rank_saves_and_the_fewest_parameters_come_first(name: str, m: int, channels: int) -> None:
    shape = Shape(m, 9 * channels, (3, 3))
    one = STRUCTURES[name]
    ranks = one.ranks(shape, shape.params)
    params = [sum(slot.shape.params for slot in one.slots(shape, rank)) for rank in ranks]
    assert params == sorted(params)
    assert all(count < shape.params for count in params)
    assert len(set(ranks)) == len(ranks) > 0
    if name != "tucker":
        beyond = (ranks[-1][0] + 1,)
        assert sum(slot.shape.params for slot in one.slots(shape, beyond)) >= shape.params or beyond not in one.ranks(
            shape, 10**9
        )
    assert one.ranks(shape, 1) == []


def test_tucker_has_a_grid_of_multiples_of_eight() -> None:
    ranks = STRUCTURES["tucker"].ranks(Shape(512, 2304, (3, 3)), 10**9)
    assert 30 <= len(ranks) <= 64
    assert all(rank % 8 == 0 for pair in ranks for rank in pair)
    assert {1, 2} & {rank for pair in STRUCTURES["tucker"].ranks(Shape(8, 27, (3, 3)), 10**9) for rank in pair}


# What is left, by the definition


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("metric", ["auto", 0.3, 1.0, None])
@pytest.mark.usefixtures("unswept")
def test_the_curve_is_what_the_pieces_of_every_rank_leave(
    shape: tuple[int, int, tuple[int, ...]], metric: float | None
) -> None:
    case = kernel(*shape)
    for name in case.names:
        found = case.decomposed(name, settings=Settings(metric=metric))  # type: ignore[arg-type]
        a, s = found.shrinkage, found.metric_shrinkage
        assert a is not None
        assert found.has_effect == (metric is not None)
        for rank in case.ranks(name)[::2]:
            left = case.W - case.composed(name, found.pieces(rank))
            tiny = 1e-7 * found.power
            assert found.tail(rank) == pytest.approx(case.expected(left, a, None), rel=1e-5, abs=tiny)
            if metric is not None:
                tiny = 1e-7 * found.whole_effect
                assert found.effect(rank) == pytest.approx(case.expected(left, a, s), rel=1e-5, abs=tiny)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_falls_with_every_rank_and_from_one_whole_to_nothing(shape: tuple[int, int, tuple[int, ...]]) -> None:
    case = kernel(*shape)
    wholes = []
    for name in case.names:
        found = case.decomposed(name)
        wholes.append(found.whole_effect)
        if name != "tucker":
            curve = [found.whole_effect, *curve_of(found, case, name)]
            assert all(more <= less * (1 + 1e-9) for less, more in itertools.pairwise(curve))
        assert found.effect(case.full(name)) <= 1e-6 * found.whole_effect
    np.testing.assert_allclose(wholes, wholes[0], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["dalr", "svd", "svd-bc"])
def test_at_full_rank_it_is_the_weight(shape: tuple[int, int, tuple[int, ...]], method: str) -> None:
    case = kernel(*shape)
    for name in case.names:
        found = case.decomposed(name, method)
        for each in (found, found.compact()):
            composed = case.composed(name, each.pieces(case.full(name)))
            np.testing.assert_allclose(composed, case.W, atol=1e-5 * np.abs(case.W).max())


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("method", ["dalr", "svd", "svd-bc"])
def test_the_error_is_that_of_its_pieces_on_the_rows(shape: tuple[int, int, tuple[int, ...]], method: str) -> None:
    case = kernel(*shape)
    y = case.X @ case.W.T
    for name in case.names:
        found = case.decomposed(name, method)
        assert found.power == pytest.approx(np.mean(np.sum(y**2, axis=1)), rel=1e-5)
        for rank in case.ranks(name)[::3]:
            pieces = found.pieces(rank)
            assert pieces.shift.any() == (method != "svd")
            measured = case.measured(name, pieces)
            assert found.error(rank) == pytest.approx(measured, rel=1e-5, abs=1e-7 * found.power)
            if method != "dalr":
                assert found.tail(rank) == pytest.approx(measured, rel=1e-5, abs=1e-7 * found.power)
                assert not found.has_effect
                assert math.isnan(found.effect(rank))


def test_the_energy_lost_falls_to_nothing() -> None:
    case = kernel(12, 6, (3, 3))
    for name, method in itertools.product(NAMES, ("dalr", "svd", "svd-bc")):
        found = case.decomposed(name, method)
        first, last = (found.energy_lost(rank) for rank in (case.ranks(name)[0], case.full(name)))
        assert first > last >= 0
        assert first < 1 or method != "dalr"  # what knows no data can leave more than there was
        assert last < 1e-6
        if name != "out" and method == "dalr":  # that of the curve: all ranks at once
            whole = found.tail(case.ranks(name)[0]) / first
            assert found.energy_lost(case.ranks(name)[1]) == pytest.approx(found.tail(case.ranks(name)[1]) / whole)


def test_of_svd_the_energy_is_that_of_the_weights() -> None:
    case = kernel(12, 6, (3, 3))
    kernels = case.W.astype(np.float64).reshape(12, 6, 3, 3)
    for name, axes in {"v": (1, 2, 0, 3), "h": (1, 3, 0, 2), "in": (1, 0, 2, 3)}.items():
        laid = kernels.transpose(axes)
        matrix = laid.reshape(6 * (1 if name == "in" else 3), -1)
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        found = case.decomposed(name, "svd")
        for rank in (1, 3):
            assert found.energy_lost((rank,)) == pytest.approx(squares[rank:].sum() / squares.sum(), rel=1e-5)


def test_where_a_bias_is_moved_the_mean_output_stays() -> None:
    case = kernel(10, 4, (3, 3))
    for name in case.names:
        pieces = case.decomposed(name).pieces(case.ranks(name)[1])
        left = (case.W - case.composed(name, pieces)) @ case.mean
        np.testing.assert_allclose(pieces.shift, left, atol=1e-6 * np.abs(left).max())


# Least squares, and the sweep


@pytest.mark.usefixtures("unswept")
@pytest.mark.parametrize("name", ["in", "v", "h"])
def test_no_other_second_kernel_leaves_less(name: str) -> None:
    case = kernel(9, 4, (3, 2))
    found = case.decomposed(name)
    assert found.shrinkage is not None
    B, A = found.pieces((3,)).pieces
    least = found.effect((3,))
    random = np.random.default_rng(2)
    for size in (1e-3, 1e-2):
        for _ in range(5):
            other = A.values + size * np.abs(A.values).max() * random.standard_normal(A.values.shape)
            both = (B, type(A)(A.role, other, A.axes))
            left = case.W - STRUCTURES[name].compose(both)
            assert case.expected(left, found.shrinkage, found.metric_shrinkage) > least


@pytest.mark.parametrize("name", FITTED)
def test_a_sweep_leaves_less(name: str) -> None:
    gains = []
    for seed in range(3):
        case = kernel(12, 6, (3, 3), seed=seed)
        found = case.decomposed(name)
        assert found.shrinkage is not None
        for rank in case.ranks(name)[:-1]:
            left = case.W - case.composed(name, found.pieces(rank))
            after = case.expected(left, found.shrinkage, found.metric_shrinkage)
            assert after <= found.effect(rank) * (1 + 1e-6) + 1e-9 * found.whole_effect
            gains.append(after / found.effect(rank) if found.effect(rank) > 1e-6 * found.whole_effect else 1.0)
    assert min(gains) < 0.97


# Against other ways to the same


@pytest.mark.parametrize("method", ["dalr", "dalr-2017", "svd", "svd-bc"])
@pytest.mark.parametrize("shape", [(10, 4, (3, 3)), (40, 3, (3, 3))])
def test_out_is_the_pair_of_patches(shape: tuple[int, int, tuple[int, ...]], method: str) -> None:
    case = kernel(*shape)
    known = METHODS[method]
    needs = known.needs(case.shape.m, case.shape.n) | Need.INPUT | Need.METRIC
    m, n = case.W.shape
    pair = Pair().decompose(case.W, Shape(m, n), case.statistics(needs), known, Settings())
    out = case.decomposed("out", method)
    for rank in case.ranks("out"):
        assert out.tail(rank) == pytest.approx(pair.tail(rank), rel=1e-5, abs=1e-8 * pair.power)
        assert out.error(rank) == pytest.approx(pair.error(rank), rel=1e-5, abs=1e-8 * pair.power)
        if pair.has_effect:
            assert out.effect(rank) == pytest.approx(pair.effect(rank), rel=1e-5, abs=1e-8 * pair.whole_effect)
        one, other = out.pieces(rank), pair.pieces(rank)
        composed = Pair().compose(other.pieces)
        np.testing.assert_allclose(case.composed("out", one), composed, atol=1e-5 * np.abs(case.W).max())
        np.testing.assert_allclose(one.shift, other.shift, atol=1e-5 * np.sqrt(pair.power))


@pytest.mark.parametrize("metric", ["auto", 1.0, None])
@pytest.mark.parametrize(("m", "channels"), [(8, 12), (20, 6)])
def test_of_a_single_point_in_is_the_pair(m: int, channels: int, metric: float | None) -> None:
    """Effects, tails and weights are in one unit, whatever structure they are of."""
    case = kernel(m, channels, (1, 1))
    known, settings = METHODS["dalr"], Settings(metric=metric)  # type: ignore[arg-type]
    needs = known.needs(m, channels) | Need.INPUT | Need.METRIC
    pair = Pair().decompose(case.W, case.shape, case.statistics(needs), known, settings)
    found = TwoKernels("in").decompose(case.W, case.shape, case.statistics(), known, settings)
    assert isinstance(found, TwoKernelsByRank)
    for rank in range(min(m, channels) + 1):
        assert found.tail((rank,)) == pytest.approx(pair.tail((rank,)), rel=1e-5, abs=1e-8 * pair.power)
        if metric is not None:
            effect = pair.effect((rank,))
            assert found.effect((rank,)) == pytest.approx(effect, rel=1e-5, abs=1e-8 * pair.whole_effect)
        if rank:
            mine = case.composed("in", found.pieces((rank,)))
            theirs = Pair().compose([type(one)(one.role, one.values) for one in pair.pieces((rank,)).pieces])
            np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(case.W).max())


@pytest.mark.parametrize(("name", "axes"), [("in", (1, 0, 2, 3)), ("v", (1, 2, 0, 3)), ("h", (1, 3, 0, 2))])
def test_of_weights_alone_it_is_a_truncated_svd_with_its_root_on_either_side(name: str, axes: tuple[int, ...]) -> None:
    case = kernel(10, 4, (3, 2))
    across = case.W.reshape(case.shape.dims).transpose(axes)
    rows = across.shape[0] * (across.shape[1] if name != "in" else 1)
    sizes = np.linalg.svd(across.reshape(rows, -1), compute_uv=False)
    found = case.decomposed(name, "svd")
    for rank in case.ranks(name):
        pieces = found.pieces(rank)
        left = case.W - case.composed(name, pieces)
        expected = np.sum(sizes[rank[0] :] ** 2)
        assert np.sum(left**2) == pytest.approx(expected, rel=1e-5, abs=1e-8 * np.sum(case.W**2))
        B, A = (piece.values for piece in pieces.pieces)
        np.testing.assert_allclose(np.linalg.norm(B.reshape(len(B), -1), axis=1) ** 2, sizes[: rank[0]], rtol=1e-4)
        np.testing.assert_allclose(np.sqrt(np.sum(A**2, axis=(0, 2, 3))) ** 2, sizes[: rank[0]], rtol=1e-4, atol=1e-7)


def test_of_weights_alone_tucker_is_a_higher_order_svd() -> None:
    """The channels first, and the outputs of what is left of them."""
    case = kernel(10, 6, (3, 2))
    K = case.W.reshape(case.shape.dims)
    U, _, _ = np.linalg.svd(K.swapaxes(0, 1).reshape(6, -1))
    found = case.decomposed("tucker", "svd")
    for r1, r2 in [(2, 3), (3, 5), (4, 8), (6, 4)]:
        inner = np.einsum("mcyx,cr,dr->mdyx", K, U[:, :r1], U[:, :r1])
        E, _, _ = np.linalg.svd(inner.reshape(10, -1))
        wanted = E[:, :r2] @ E[:, :r2].T @ inner.reshape(10, -1)
        np.testing.assert_allclose(case.composed("tucker", found.pieces((r1, r2))), wanted, atol=1e-6)
        # off the grid it is told of the pieces themselves
        measured = case.measured("tucker", found.pieces((r1, r2)))
        assert found.tail((r1, r2)) == pytest.approx(measured, rel=1e-5)


# What is held


def test_together_they_hold_one_covariance_in_float32() -> None:
    case = kernel(12, 6, (3, 3))
    structures = [STRUCTURES[name] for name in case.names]
    found = taken_apart(structures, case.W, case.shape, case.statistics(), METHODS["dalr"], Settings)
    assert list(found) == list(NAMES)
    small = {name: one.compact() for name, one in found.items()}
    objectives = [getattr(small[name], "objective") for name in FITTED]  # noqa: B009
    assert all(one is objectives[0] for one in objectives)
    assert objectives[0].covariance.dtype == objectives[0].product.dtype == np.float32
    for name, one in small.items():
        assert one.compact().pieces(case.ranks(name)[0]).pieces
        alone = case.decomposed(name)
        for rank in case.ranks(name)[::4]:
            assert one.effect(rank) == pytest.approx(alone.effect(rank), rel=1e-9)
            mine, theirs = case.composed(name, one.pieces(rank)), case.composed(name, alone.pieces(rank))
            np.testing.assert_allclose(mine, theirs, atol=1e-3 * np.abs(case.W).max())


@pytest.mark.parametrize("name", FITTED)
def test_latents_are_as_large_as_what_reads_them(name: str) -> None:
    case = kernel(12, 6, (3, 3), rows=2000)
    found = case.decomposed(name)
    rank = case.ranks(name)[2]
    pieces = found.pieces(rank).pieces
    below = case.X.reshape(len(case.X), *case.shape.dims[1:])
    B, A = pieces[0].values, pieces[1].values
    windows = np.lib.stride_tricks.sliding_window_view(below, B.shape[2:], axis=(2, 3))  # type: ignore[call-overload]
    latents = np.einsum("pcijyx,kcyx->pkij", windows, B)
    size, read = np.sqrt(np.mean(latents**2, axis=(0, 2, 3))), np.sqrt(np.sum(A**2, axis=(0, 2, 3)))
    if name == "tucker":  # M is scaled on its other side too
        power = np.einsum("pkij,mkij->pm", latents, A)
        size, read = np.sqrt(np.mean(power**2, axis=0)), np.linalg.norm(pieces[2].values[:, :, 0, 0], axis=0)
    np.testing.assert_allclose(size, read, rtol=0.1)


@pytest.mark.parametrize("name", FITTED)
def test_ranks_out_of_range_are_refused(name: str) -> None:
    case = kernel(6, 4, (3, 3))
    full = case.full(name)
    for rank in ((0,) * len(full), tuple(one + 1 for one in full)):
        with pytest.raises(ValueError, match="not within"):
            case.decomposed(name).pieces(rank)


# Awkward ones


@pytest.mark.parametrize("weight", ["plain", "low rank", "zero"])
@pytest.mark.parametrize("rows", ["plain", "low rank", "one sample", "constant", "zero", "scaled columns", "offset"])
@pytest.mark.parametrize("settings", [Settings(), Settings(shrinkage=0.0, metric=0.0), Settings(shrinkage=1.0)])
@pytest.mark.parametrize(("m", "channels"), [(10, 4), (30, 2)])
def test_nothing_is_ever_nan(weight: str, rows: str, settings: Settings, m: int, channels: int) -> None:
    """Fewer rows than inputs, dead channels, constant ones, weights of nothing."""
    made = make(m, 6 * channels, 9, seed=3, weight=weight, rows=rows)
    X = made.X.copy()
    X.reshape(len(X), channels, 6)[:, 0] = 0
    g = np.random.default_rng(4).standard_normal((5, m)) * (np.arange(m) < m // 2)
    case = Kernel(Shape(m, 6 * channels, (3, 2)), made.W, X, g)
    for method, name in itertools.product(("dalr", "svd", "svd-bc"), NAMES):
        found = case.decomposed(name, method, settings)
        for rank in (case.ranks(name)[0], case.ranks(name)[-1], case.full(name)):
            pieces = found.pieces(rank)
            assert all(np.isfinite(piece.values).all() for piece in pieces.pieces)
            assert np.isfinite(pieces.shift).all()
            assert np.isfinite([found.tail(rank), found.error(rank), found.energy_lost(rank)]).all()
            assert not found.has_effect or np.isfinite(found.effect(rank))
            if rank == case.full(name):
                left = np.abs(case.composed(name, pieces) - case.W).max()
                assert left <= 1e-4 * max(np.abs(case.W).max(), 1e-12)


@pytest.mark.parametrize("rows", ["one sample", "constant"])
def test_where_there_is_nothing_to_learn_weights_decide_and_the_mean_is_kept(rows: str) -> None:
    made = make(8, 36, 20, rows=rows)
    case = Kernel(Shape(8, 36, (3, 3)), made.W, made.X, np.zeros((1, 8)))
    for name in NAMES:
        found, plain = case.decomposed(name), case.decomposed(name, "svd-bc")
        rank = case.ranks(name)[1]
        assert (found.method, found.has_effect, found.shrinkage) == ("svd-bc", False, None)
        np.testing.assert_allclose(
            case.composed(name, found.pieces(rank)), case.composed(name, plain.pieces(rank)), atol=1e-6
        )
        assert found.error(rank) == pytest.approx(0, abs=1e-9 * found.power)
        left = np.sum((case.W - case.composed(name, found.pieces(rank))) ** 2) / np.sum(case.W**2)
        assert found.tail(rank) == pytest.approx(left * found.power, rel=1e-4)
