"""How much the output moves with one layer: measured in a few forms, one curve per layer, in one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_dalr.candidate.candidate import replacement
from onnx_dalr.candidate.forms import forms_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Menu
from onnx_dalr.choose.effects import FEWEST_SAMPLES, MOST_SAMPLES, MeasuredEffects, samples_for
from onnx_dalr.factorize import UNTOUCHED, Settings, Spectrum, Statistics
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.progress import Silent
from onnx_dalr.quality.evaluate import SideBySide, Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.session.session import Session, open_session
from tests.choose.allocate_cases import pair, pairs
from tests.choose.search_cases import DALR, learned_of, posed
from tests.forms import paired
from tests.quality.task_cases import EMBED, REGRESS

INNER = 12

# Three layers of one shape on the same data; what the faint one says reaches the output times 0.001.
NET = """<ir_version: 8, opset_import: ["" : 17]>
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
def net() -> Model:
    proto = onnx.parser.parse_model(NET)
    bias = numpy_helper.from_array(np.zeros(INNER, np.float32), "a")
    proto.graph.initializer.extend([weights("A", 1), weights("B", 2), weights("C", 3), bias])
    onnx.checker.check_model(proto, full_check=True)
    return Model(proto)


@dataclass(frozen=True)
class Case:
    """The three layers, what was learned of them, and what measures them."""

    layers: list[Layer]
    menus: list[Menu]
    spectra: list[Spectra]
    measured: MeasuredEffects
    session: Counted

    def tails(self, position: int) -> Curve:
        """Of one layer, by its menu."""
        spectra, menu = self.spectra[position], self.menus[position]
        return np.array([0.0 if form.untouched else spectra.tail(form) for form in menu])


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
def taught() -> tuple[list[Layer], dict[str, Spectrum]]:
    layers, _ = find(net())
    spectra = {}
    x = samples(400, 4)
    for layer in layers:
        W = matrix(net(), layer)
        stats = Statistics(layer.m, layer.n, DALR.needs(layer.m, layer.n))
        seen = np.tanh(x @ matrix(net(), layers[0]).T) if layer.name == "second" else x
        stats.update(seen, W)
        spectra[layer.name] = DALR.spectrum(W, stats, Settings())
    return layers, spectra


def case(
    task: Task = REGRESS,
    batches: int = 2,
    *,
    wanted: Sequence[bool] | None = None,
    exact: tuple[str, int] | None = None,
    menus: list[Menu] | None = None,
) -> Case:
    """The three; `exact` names one that has no error at all from a rank on: its data have no more directions."""
    layers, spectra = taught()
    assert [layer.name for layer in layers] == ["first", "second", "faint"]
    if exact is not None:
        name, rank = exact
        tails = np.where(np.arange(INNER + 1) >= rank, 0.0, spectra[name].tails)
        spectra = {**spectra, name: replace(spectra[name], tails=tails)}
    learned = learned_of({"default": spectra})
    proto, overrides = overridable(net(), layers)
    session = Counted(open_session(proto.SerializeToString(), "cpu"))
    few = [([*range(8 * i, 8 * i + 8)], {"x": samples(8, 10 + i)}) for i in range(batches)]
    menus = menus or [forms_of(layer, DALR) for layer in layers]
    known, replaced = (
        [learned.of(layer.name) for layer in layers],
        partial(replacement, Context(net(), make_options(), Silent()), learned),
    )
    measured = MeasuredEffects(session, overrides, layers, menus, known, replaced, few, task, wanted)  # type: ignore[arg-type]
    return Case(layers, menus, known, measured, session)


def rewritten_distortion(position: int, rank: int, task: Task, batches: int = 2) -> float:
    """The distortion of a model in which one layer really is two thin ones."""
    layers, spectra = taught()
    layer, factors = layers[position], spectra[layers[position].name].factors(rank)
    proto = rewrite(net(), [paired(layer, factors)]).proto
    original, other = (open_session(each.SerializeToString(), "cpu") for each in (net().proto, proto))
    comparison = SideBySide(task, None)
    for i in range(batches):
        batch = {"x": samples(8, 10 + i)}
        comparison.add([*range(8)], original.run(batch), other.run(batch))
    return comparison.distortion()


# The unit: distortion of the output


@pytest.mark.parametrize("task", [REGRESS, EMBED], ids=["regress", "embed"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_at_a_measured_rank_the_curve_is_the_distortion_of_the_rewritten_model(position: int, task: Task) -> None:
    here = case(task)
    for ranks in ((2, 3, 4), (5, 5, 2)):
        here.measured.measure(pairs(*ranks))
    for ranks in ((2, 3, 4), (5, 5, 2)):
        rank = ranks[position]
        found = here.measured.curves()[position][rank - 1]
        # The faint one moves the output by less than rounding does.
        assert found == pytest.approx(rewritten_distortion(position, rank, task), rel=0.02, abs=1e-7)


def test_a_layer_whose_output_hardly_counts_lies_far_below_the_others() -> None:
    here = case()
    here.measured.measure(pairs(3, 3, 3))
    first, second, faint = here.measured.curves()
    assert (faint[:-1] < 1e-3 * first[:-1]).all()
    assert (faint[:-1] < 1e-3 * second[:-1]).all()
    assert here.spectra[2].tail(pair(3)) > 0.1 * here.spectra[1].tail(pair(3)), "its own error says nothing of the kind"


def test_so_it_gets_the_fewest_parameters() -> None:
    here = case()
    here.measured.measure(pairs(3, 3, 3))
    space = posed(here.layers, {}, params="50%")
    forms = allocate.best(space.ladders, here.measured.curves(), allocate.total(space.ladders, pairs(3, 3, 3)))
    assert forms is not None
    first, second, faint = (menu.index(form) for menu, form in zip(here.menus, forms, strict=True))
    assert faint == 0
    assert min(first, second) > 2


# Curves between and beyond the measured ranks


def test_before_anything_is_measured_the_curve_is_the_tail() -> None:
    here = case()
    for position, found in enumerate(here.measured.curves()):
        np.testing.assert_array_equal(found, here.tails(position))


def test_one_measurement_scales_the_whole_tail() -> None:
    here = case()
    here.measured.measure(pairs(2, 2, 2))
    for position, found in enumerate(here.measured.curves()):
        tails = here.tails(position)
        np.testing.assert_allclose(found, tails * (found[1] / tails[1]), rtol=1e-9)


def test_between_two_measurements_the_scale_lies_between_theirs_and_beyond_them_it_stays() -> None:
    here = case()
    here.measured.measure(pairs(2, 2, 2))
    here.measured.measure(pairs(4, 4, 4))
    for position, found in enumerate(here.measured.curves()):
        assert len(found) == len(here.menus[position])
        scale = found[:-1] / here.tails(position)[:-1]
        np.testing.assert_allclose(scale[:1], scale[1], rtol=1e-9)
        np.testing.assert_allclose(scale[3:], scale[3], rtol=1e-9)
        assert min(scale[1], scale[3]) <= scale[2] <= max(scale[1], scale[3])


def test_measuring_more_ranks_leaves_the_measured_points_where_they_were() -> None:
    here = case()
    here.measured.measure(pairs(2, 2, 2))
    before = [found[1] for found in here.measured.curves()]
    here.measured.measure(pairs(4, 3, 5))
    np.testing.assert_allclose([found[1] for found in here.measured.curves()], before, rtol=1e-9)


def test_a_layer_without_any_error_at_a_rank_is_not_run() -> None:
    here = case(exact=("first", 3))
    here.measured.measure(pairs(3, None, None))
    assert here.measured.passes == 3, "the original, and the other two"
    assert (here.measured.curves()[0][2:] == 0).all()


# Its price


def test_the_original_is_run_once_and_each_layer_once_per_rank() -> None:
    here = case(batches=3)
    assert (here.measured.passes, here.session.runs) == (1, 3)
    here.measured.measure(pairs(2, 3, 4))
    assert (here.measured.passes, here.session.runs) == (4, 12)
    here.measured.measure(pairs(4, 2, 3))
    assert (here.measured.passes, here.session.runs) == (7, 21)


def test_what_is_known_is_not_measured_again() -> None:
    here = case()
    here.measured.measure(pairs(2, 3, 4))
    here.measured.measure(pairs(2, 3, 5))
    assert here.measured.passes == 5
    here.measured.measure(pairs(2, 3, 4))
    here.measured.curves()
    assert here.measured.passes == 5


def test_a_dense_layer_is_measured_at_the_largest_rank_that_saves() -> None:
    here = case()
    here.measured.measure(pairs(None, None, None))
    largest = len(here.menus[0]) - 1
    assert here.measured.passes == 4
    here.measured.measure(pairs(largest, None, None))
    assert here.measured.passes == 4
    found = here.measured.curves()[0][largest - 1]
    assert found == pytest.approx(rewritten_distortion(0, largest, REGRESS), rel=0.02)


def test_a_layer_that_no_form_makes_smaller_is_never_run() -> None:
    here = case(menus=[(UNTOUCHED,)] * 3)
    here.measured.measure(pairs(None) * 3)
    assert here.measured.passes == 1
    assert [found.tolist() for found in here.measured.curves()] == [[0.0]] * 3


def test_one_layer_is_fed_at_a_time() -> None:
    here = case(batches=1)
    here.measured.measure(pairs(2, 2, 2))
    assert here.session.fed == [set(), {"A", "A.shift"}, {"B", "B.shift"}, {"C", "C.shift"}]


def test_only_the_layers_that_are_wanted_are_measured_and_the_others_keep_their_tails() -> None:
    here = case(batches=1, wanted=[False, True, False])
    here.session.fed.clear()
    here.measured.measure(pairs(2, 2, 2))
    assert here.session.fed == [{"B", "B.shift"}]
    assert here.measured.passes == 2
    first, second, faint = here.measured.curves()
    np.testing.assert_array_equal(first, here.tails(0))
    np.testing.assert_array_equal(faint, here.tails(2))
    assert second[1] == pytest.approx(rewritten_distortion(1, 2, REGRESS, batches=1), rel=0.02)


# Models that break


def test_a_rank_at_which_the_model_gives_no_numbers_is_infinitely_bad() -> None:
    here = case()
    here.session.breaks = "B"
    here.measured.measure(pairs(3, 3, 3))
    first, second, faint = here.measured.curves()
    assert np.isinf(second[2])
    assert np.isfinite(first).all()
    assert np.isfinite(faint).all()


def test_a_rank_that_breaks_the_model_says_nothing_of_a_larger_one_that_does_not() -> None:
    here = case()
    here.session.breaks = "B"
    here.measured.measure(pairs(3, 2, 3))
    here.session.breaks = ""
    here.measured.measure(pairs(3, 4, 3))
    second = here.measured.curves()[1]
    assert np.isinf(second[:3]).all(), "up to the next rank that was measured"
    assert second[3] == pytest.approx(rewritten_distortion(1, 4, REGRESS), rel=0.02)
    assert np.isfinite(second[3:]).all()


def test_where_a_layer_has_no_error_nothing_is_lost_though_smaller_ranks_break_the_model() -> None:
    here = case(exact=("second", 4))
    here.session.breaks = "B"
    here.measured.measure(pairs(3, 2, 3))
    second = here.measured.curves()[1]
    assert np.isinf(second[:3]).all()
    assert (second[3:] == 0).all()


# How many samples


def test_the_samples_to_measure_on_are_few_and_the_same_every_time() -> None:
    layers, _ = taught()
    found = {samples_for(layers, {layer.name: rows for layer in layers}) for rows in (1.0, 1.0, 1.0)}
    assert found == {MOST_SAMPLES}
    for rows in 10.0 ** np.arange(-3, 15):
        count = samples_for(layers, {layer.name: rows for layer in layers})
        assert isinstance(count, int)
        assert FEWEST_SAMPLES <= count <= MOST_SAMPLES


def test_the_more_work_a_sample_is_the_fewer_are_run() -> None:
    layers, _ = taught()
    counts = [samples_for(layers, {layer.name: rows for layer in layers}) for rows in 10.0 ** np.arange(0, 14, 0.25)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == MOST_SAMPLES
    assert counts[-1] == FEWEST_SAMPLES
    assert len(set(counts)) > 4


def test_the_work_of_all_passes_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, _ = taught()
    per_sample = 4 * 3 * sum(layer.params * 10.0 for layer in layers)
    monkeypatch.setattr("onnx_dalr.choose.effects.WORK", 17.5 * per_sample)
    assert samples_for(layers, {layer.name: 10.0 for layer in layers}) == 17


def test_layers_that_see_nothing_cost_nothing() -> None:
    layers, _ = taught()
    assert samples_for(layers, {layer.name: 0.0 for layer in layers}) == MOST_SAMPLES
    assert samples_for([], {}) == MOST_SAMPLES
