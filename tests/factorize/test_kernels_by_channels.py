"""A kernel whose patches are too many numbers: `in` from the moment of its channels, `out` from that of its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.factorize import METHODS, Need, Settings, Statistics
from onnx_dalr.factorize.structures import STRUCTURES
from tests.factorize.kernel_cases import Kernel, kernel

LIGHT = Need.CHANNELS | Need.SKETCH | Need.OUTPUT
IN = STRUCTURES["in"]


def neighbours(m: int = 16, channels: int = 8) -> Kernel:
    """Whose taps see one thing a little apart: every channel by itself, and alike at neighbouring taps."""
    case = kernel(m, channels, (3, 3), rows=3000)
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((channels, channels)) * np.geomspace(1, 0.05, channels)[:, None]
    common = rng.standard_normal((3000, channels, 1)) + 0.7 * rng.standard_normal((3000, channels, 9))
    X = np.einsum("pct,cd->pdt", common, mixing).reshape(3000, -1) + 0.3
    return Kernel(case.shape, case.W, X, case.g)


def test_what_each_makes_do_with() -> None:
    wide, tall, method = kernel(8, 6, (3, 3)).shape, kernel(40, 3, (3, 3)).shape, METHODS["dalr"]
    lighter = {name: one.lighter_needs(wide, method) for name, one in STRUCTURES.items()}
    assert lighter == {
        "pair": None,
        "out": Need.OUTPUT | Need.SKETCH,
        "in": LIGHT,
        "v": None,
        "h": None,
        "tucker": None,
    }
    assert all(one.lighter_needs(tall, method) is None for one in STRUCTURES.values())
    assert STRUCTURES["out"].lighter_needs(wide, METHODS["dalr-2017"]) is None


@pytest.mark.parametrize("metric", [True, False])
def test_in_by_channels_is_nearly_that_by_patches(metric: bool) -> None:
    case = neighbours()
    needs = LIGHT | Need.METRIC if metric else LIGHT
    method, stats = METHODS["dalr"], case.statistics(needs)
    light = IN.decompose(case.W, case.shape, stats, method, Settings()).compact()
    whole = case.decomposed("in", settings=Settings(metric="auto" if metric else None))
    assert light.has_effect == metric
    assert light.power == pytest.approx(whole.power, rel=1e-5)
    if metric:
        assert light.whole_effect == pytest.approx(whole.whole_effect, rel=0.02)
    for rank in case.ranks("in")[1:4]:
        pieces = light.pieces(rank)
        measured = case.measured("in", pieces)
        assert case.measured("in", whole.pieces(rank)) < measured * 1.05
        assert measured < 0.6 * case.measured("in", case.decomposed("in", "svd-bc").pieces(rank))
        for guess in (light.error(rank), light.tail(rank)):
            assert measured / 3 < guess < 3 * measured
    full = case.composed("in", light.pieces(case.full("in")))
    np.testing.assert_allclose(full, case.W, atol=1e-5 * np.abs(case.W).max())


@pytest.mark.parametrize("method", ["svd", "svd-bc"])
def test_of_weights_alone_only_the_error_is_a_guess(method: str) -> None:
    case = neighbours()
    light = IN.decompose(case.W, case.shape, case.statistics(LIGHT), METHODS[method], Settings())
    whole = case.decomposed("in", method)
    for rank in case.ranks("in")[:-1]:
        mine, theirs = case.composed("in", light.pieces(rank)), case.composed("in", whole.pieces(rank))
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        assert light.tail(rank) == pytest.approx(whole.tail(rank), rel=0.5)


def test_out_is_the_same_from_its_outputs() -> None:
    case = neighbours()
    out, method = STRUCTURES["out"], METHODS["dalr"]
    needs = out.lighter_needs(case.shape, method)
    assert needs is not None
    light = out.decompose(case.W, case.shape, case.statistics(needs | Need.METRIC), method, Settings())
    whole = case.decomposed("out")
    for rank in case.ranks("out")[::3]:
        assert light.effect(rank) == pytest.approx(whole.effect(rank), rel=0.01, abs=1e-6 * whole.whole_effect)


# The statistics behind it


def test_moments_of_channels_are_summed_over_taps_and_add_up() -> None:
    case = kernel(5, 4, (3, 2), rows=50)
    one, other = (Statistics(5, 24, LIGHT, taps=6) for _ in range(2))
    one.update(case.X[:20], case.W)
    other.update(case.X[20:], case.W)
    both = one + other
    by_tap = case.X.reshape(50, 4, 6)
    centred = by_tap - by_tap.mean(axis=0)
    wanted = np.einsum("pct,pdt->cd", centred, centred) / (50 * 6)
    np.testing.assert_allclose(both.channel_covariance, wanted, atol=1e-6 * np.abs(wanted).max())


def test_they_come_back_from_storage_with_their_taps() -> None:
    case = kernel(5, 4, (3, 2), rows=50)
    stats = case.statistics(LIGHT)
    again = Statistics.from_arrays(stats.to_arrays())
    assert (again.taps, again.needs) == (6, LIGHT)
    assert again.channels is not None
    np.testing.assert_array_equal(again.channels, stats.channels)
    np.testing.assert_array_equal(again.channel_covariance, stats.channel_covariance)
    alone = stats.restricted(Need.SKETCH)
    assert (alone.channels, alone.taps) == (None, 1)
    held = sum(array.nbytes for name, array in stats.to_arrays().items() if name in ("channels", "sketch", "output"))
    assert Statistics.bytes_needed(5, 24, LIGHT, 50, taps=6) >= held
    assert Statistics.bytes_needed(5, 24, Need.CHANNELS, 50, taps=6) == 16 * 24 + 8 * 4 * 4


def test_damaged_ones_and_those_of_other_kernels_are_refused() -> None:
    case = kernel(5, 4, (3, 2), rows=50)
    arrays = case.statistics(LIGHT).to_arrays()
    for wrong in (np.zeros((5, 5)), np.zeros((4, 3)), np.zeros(4), np.zeros((0, 0)), np.float64(0)):
        with pytest.raises(ValueError, match="'channels'"):
            Statistics.from_arrays(arrays | {"channels": np.asarray(wrong)})
    with pytest.raises(ValueError, match="'channels' is missing"):
        Statistics.from_arrays({name: array for name, array in arrays.items() if name != "channels"})
    with pytest.raises(ValueError, match="do not add up"):
        Statistics(5, 24, LIGHT, taps=6) + Statistics(5, 24, LIGHT, taps=4)
