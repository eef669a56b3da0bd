"""How much the output moves with one layer: measured at a few ranks, one curve per layer, in one unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_dalr.choose import sensitivity as room
from onnx_dalr.choose.allocate import Size, best, ladder
from onnx_dalr.choose.decide import paired
from onnx_dalr.choose.sensitivity import FEWEST_SAMPLES, MOST_SAMPLES, Sensitivity, samples_for
from onnx_dalr.choose.space import sizes_of
from onnx_dalr.factorize import METHODS, Settings, Spectrum, Statistics
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.evaluate import Comparison, Task
from onnx_dalr.session.session import Session, open_session
from tests.quality.task_cases import EMBED, REGRESS

DALR = METHODS["dalr"]
INNER = 12

# Three layers of one shape on the same data; what the faint one says reaches the output times 0.001.
THREE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 12] x) => (float[N, 12] y) <float thousandth = {0.001}> {
    [first] h = Gemm <transB = 1> (x, A, a)
    r = Tanh(h)
    [second] z = MatMul(r, B)
    [faint] f = MatMul(x, C)
    g = Mul(f, thousandth)
    y = Add(z, g)
}"""


def weights(name: str, seed: int) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal((INNER, INNER)) / np.sqrt(INNER)
    return numpy_helper.from_array(values.astype(np.float32), name)


def samples(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, INNER)) * 0.8 ** np.arange(INNER)).astype(np.float32)


@cache
def three() -> Model:
    proto = onnx.parser.parse_model(THREE)
    bias = numpy_helper.from_array(np.zeros(INNER, np.float32), "a")
    proto.graph.initializer.extend([weights("A", 1), weights("B", 2), weights("C", 3), bias])
    onnx.checker.check_model(proto, full_check=True)
    return Model(proto)


@dataclass(frozen=True)
class Case:
    """The three layers, what was learned of them, and what measures them."""

    layers: list[Layer]
    sizes: list[Size]
    spectra: dict[str, Spectrum]
    measured: Sensitivity
    session: Counted


class Counted:
    """A session that counts, and that gives NaN where it is told to."""

    def __init__(self, session: Session) -> None:
        self.session, self.runs, self.fed, self.breaks = session, 0, list[set[str]](), ""

    def run(self, batch: Any) -> list[Any]:
        self.runs += 1
        self.fed.append(set(batch) - {"x"})
        found = self.session.run(batch)
        return [array * np.nan for array in found] if self.breaks and self.breaks in batch else found


@cache
def learned() -> tuple[list[Layer], dict[str, Spectrum]]:
    layers, _ = find(three())
    spectra = {}
    x = samples(400, 4)
    for layer in layers:
        W = matrix(three(), layer)
        stats = Statistics(layer.m, layer.n, DALR.needs(layer.m, layer.n))
        seen = np.tanh(x @ matrix(three(), layers[0]).T) if layer.name == "second" else x
        stats.update(seen, W)
        spectra[layer.name] = DALR.spectrum(W, stats, Settings())
    return layers, spectra


def case(task: Task = REGRESS, batches: int = 2) -> Case:
    layers, spectra = learned()
    assert [layer.name for layer in layers] == ["first", "second", "faint"]
    proto, overrides = overridable(three(), layers)
    session = Counted(open_session(proto.SerializeToString(), "cpu"))
    few = [([*range(8 * i, 8 * i + 8)], {"x": samples(8, 10 + i)}) for i in range(batches)]
    spectra = dict(spectra)  # tests change theirs
    sizes = sizes_of(layers, DALR)
    measured = Sensitivity(session, overrides, layers, sizes, spectra, few, task)  # type: ignore[arg-type]
    return Case(layers, sizes, spectra, measured, session)


def rewritten_distortion(position: int, rank: int, task: Task, batches: int = 2) -> float:
    """The distortion of a model in which one layer really is two thin ones."""
    layers, spectra = learned()
    layer, factors = layers[position], spectra[layers[position].name].factors(rank)
    proto = rewrite(three(), [paired(layer, factors)]).proto
    original, other = (open_session(each.SerializeToString(), "cpu") for each in (three().proto, proto))
    comparison = Comparison(task, None)
    for i in range(batches):
        batch = {"x": samples(8, 10 + i)}
        comparison.add([*range(8)], original.run(batch), other.run(batch))
    return comparison.distortion()


# The unit: distortion of the output


@pytest.mark.parametrize("task", [REGRESS, EMBED], ids=["regress", "embed"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_at_a_measured_rank_the_curve_is_the_distortion_of_the_rewritten_model(position: int, task: Task) -> None:
    here = case(task)
    for ranks in ([2, 3, 4], [5, 5, 2]):
        here.measured.measure(list(ranks))
    for ranks in ([2, 3, 4], [5, 5, 2]):
        rank = ranks[position]
        found = here.measured.curves()[position][rank]
        # The faint one moves the output by less than rounding does.
        assert found == pytest.approx(rewritten_distortion(position, rank, task), rel=0.02, abs=1e-7)


def test_a_layer_whose_output_hardly_counts_lies_far_below_the_others() -> None:
    here = case()
    here.measured.measure([3, 3, 3])
    first, second, faint = here.measured.curves()
    assert (faint[1:] < 1e-3 * first[1:]).all()
    assert (faint[1:] < 1e-3 * second[1:]).all()
    tails = [spectrum.tails for spectrum in here.spectra.values()]
    assert tails[2][3] > 0.1 * tails[1][3], "its own error says nothing of the kind"


def test_so_it_gets_the_fewest_parameters() -> None:
    here = case()
    here.measured.measure([3, 3, 3])
    budget = sum(size.params(3) for size in here.sizes)
    ranks = best([ladder(size, size.params) for size in here.sizes], here.measured.curves(), budget)
    assert ranks is not None
    assert ranks[2] == 1
    assert all(rank is None or rank > 3 for rank in ranks[:2])


# Curves between and beyond the measured ranks


def test_before_anything_is_measured_the_curve_is_the_tail() -> None:
    here = case()
    for curve, size, spectrum in zip(here.measured.curves(), here.sizes, here.spectra.values(), strict=True):
        np.testing.assert_array_equal(curve, spectrum.tails[: size.largest_rank + 1])


def test_one_measurement_scales_the_whole_tail() -> None:
    here = case()
    here.measured.measure([2, 2, 2])
    for curve, size, spectrum in zip(here.measured.curves(), here.sizes, here.spectra.values(), strict=True):
        tails = spectrum.tails[: size.largest_rank + 1]
        np.testing.assert_allclose(curve, tails * (curve[2] / tails[2]), rtol=1e-9)


def test_between_two_measurements_the_scale_lies_between_theirs_and_beyond_them_it_stays() -> None:
    here = case()
    here.measured.measure([2, 2, 2])
    here.measured.measure([4, 4, 4])
    for curve, size, spectrum in zip(here.measured.curves(), here.sizes, here.spectra.values(), strict=True):
        scale = curve / spectrum.tails[: size.largest_rank + 1]
        assert len(scale) == size.largest_rank + 1
        np.testing.assert_allclose(scale[:2], scale[2], rtol=1e-9)
        np.testing.assert_allclose(scale[4:], scale[4], rtol=1e-9)
        assert min(scale[2], scale[4]) <= scale[3] <= max(scale[2], scale[4])


def test_measuring_more_ranks_leaves_the_measured_points_where_they_were() -> None:
    here = case()
    here.measured.measure([2, 2, 2])
    before = [curve[2] for curve in here.measured.curves()]
    here.measured.measure([4, 3, 5])
    np.testing.assert_allclose([curve[2] for curve in here.measured.curves()], before, rtol=1e-9)


def exact_from(here: Case, layer: str, rank: int) -> None:
    """From this rank on the layer has no error at all: its data have no more directions."""
    found = here.spectra[layer]
    tails = np.where(np.arange(len(found.tails)) >= rank, 0.0, found.tails)
    here.spectra[layer] = replace(found, tails=tails)


def test_a_layer_without_any_error_at_a_rank_is_not_run() -> None:
    here = case()
    exact_from(here, "first", 3)
    here.measured.measure([3, None, None])
    assert here.measured.passes == 3, "the original, and the other two"
    assert (here.measured.curves()[0][3:] == 0).all()


# Its price


def test_the_original_is_run_once_and_each_layer_once_per_rank() -> None:
    here = case(batches=3)
    assert (here.measured.passes, here.session.runs) == (1, 3)
    here.measured.measure([2, 3, 4])
    assert (here.measured.passes, here.session.runs) == (4, 12)
    here.measured.measure([4, 2, 3])
    assert (here.measured.passes, here.session.runs) == (7, 21)


def test_what_is_known_is_not_measured_again() -> None:
    here = case()
    here.measured.measure([2, 3, 4])
    here.measured.measure([2, 3, 5])
    assert here.measured.passes == 5
    here.measured.measure([2, 3, 4])
    here.measured.curves()
    assert here.measured.passes == 5


def test_a_dense_layer_is_measured_at_the_largest_rank_that_saves() -> None:
    here = case()
    here.measured.measure([None, None, None])
    largest = here.sizes[0].largest_rank
    assert here.measured.passes == 4
    here.measured.measure([largest, None, None])
    assert here.measured.passes == 4
    found = here.measured.curves()[0][largest]
    assert found == pytest.approx(rewritten_distortion(0, largest, REGRESS), rel=0.02)


def test_a_layer_that_no_rank_makes_smaller_is_never_run() -> None:
    layers, spectra = learned()
    proto, overrides = overridable(three(), layers)
    session = Counted(open_session(proto.SerializeToString(), "cpu"))
    none = [Size(INNER, INNER, INNER * INNER, 0)] * 3
    few = [([0], {"x": samples(1, 0)})]
    measured = Sensitivity(session, overrides, layers, none, spectra, few, REGRESS)  # type: ignore[arg-type]
    measured.measure([None] * 3)
    assert measured.passes == 1
    assert [len(curve) for curve in measured.curves()] == [1, 1, 1]


def test_one_layer_is_fed_at_a_time() -> None:
    here = case(batches=1)
    here.measured.measure([2, 2, 2])
    assert here.session.fed == [set(), {"A", "A.shift"}, {"B", "B.shift"}, {"C", "C.shift"}]


def test_only_the_layers_that_are_wanted_are_measured_and_the_others_keep_their_tails() -> None:
    here = case(batches=1)
    few = [([*range(8)], {"x": samples(8, 10)})]
    _, overrides = overridable(three(), here.layers)
    measured = Sensitivity(
        here.session,  # type: ignore[arg-type]
        overrides,
        here.layers,
        here.sizes,
        here.spectra,
        few,
        REGRESS,
        [False, True, False],
    )
    here.session.fed.clear()
    measured.measure([2, 2, 2])
    assert here.session.fed == [{"B", "B.shift"}]
    assert measured.passes == 2
    first, second, faint = measured.curves()
    np.testing.assert_array_equal(first, here.spectra["first"].tails[: len(first)])
    np.testing.assert_array_equal(faint, here.spectra["faint"].tails[: len(faint)])
    assert second[2] == pytest.approx(rewritten_distortion(1, 2, REGRESS, batches=1), rel=0.02)


# Models that break


def test_a_rank_at_which_the_model_gives_no_numbers_is_infinitely_bad() -> None:
    here = case()
    here.session.breaks = "B"
    here.measured.measure([3, 3, 3])
    first, second, faint = here.measured.curves()
    assert np.isinf(second[3])
    assert np.isfinite(first).all()
    assert np.isfinite(faint).all()


def test_a_rank_that_breaks_the_model_says_nothing_of_a_larger_one_that_does_not() -> None:
    here = case()
    here.session.breaks = "B"
    here.measured.measure([3, 2, 3])
    here.session.breaks = ""
    here.measured.measure([3, 4, 3])
    second = here.measured.curves()[1]
    assert np.isinf(second[:4]).all(), "up to the next rank that was measured"
    assert second[4] == pytest.approx(rewritten_distortion(1, 4, REGRESS), rel=0.02)
    assert np.isfinite(second[4:]).all()


def test_where_a_layer_has_no_error_nothing_is_lost_though_smaller_ranks_break_the_model() -> None:
    here = case()
    exact_from(here, "second", 4)
    here.session.breaks = "B"
    here.measured.measure([3, 2, 3])
    second = here.measured.curves()[1]
    assert np.isinf(second[:4]).all()
    assert (second[4:] == 0).all()


# How many samples


def test_the_samples_to_measure_on_are_few_and_the_same_every_time() -> None:
    layers, _ = learned()
    found = {samples_for(layers, {layer.name: rows for layer in layers}) for rows in (1.0, 1.0, 1.0)}
    assert found == {MOST_SAMPLES}
    for rows in 10.0 ** np.arange(-3, 15):
        count = samples_for(layers, {layer.name: rows for layer in layers})
        assert isinstance(count, int)
        assert FEWEST_SAMPLES <= count <= MOST_SAMPLES


def test_the_more_work_a_sample_is_the_fewer_are_run() -> None:
    layers, _ = learned()
    counts = [samples_for(layers, {layer.name: rows for layer in layers}) for rows in 10.0 ** np.arange(0, 14, 0.25)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == MOST_SAMPLES
    assert counts[-1] == FEWEST_SAMPLES
    assert len(set(counts)) > 4


def test_the_work_of_all_passes_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, _ = learned()
    per_sample = 4 * 3 * sum(layer.params * 10.0 for layer in layers)
    monkeypatch.setattr(room, "WORK", 17.5 * per_sample)
    assert samples_for(layers, {layer.name: 10.0 for layer in layers}) == 17


def test_layers_that_see_nothing_cost_nothing() -> None:
    layers, _ = learned()
    assert samples_for(layers, {layer.name: 0.0 for layer in layers}) == MOST_SAMPLES
    assert samples_for([], {}) == MOST_SAMPLES
