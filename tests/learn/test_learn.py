"""From fit samples to spectra: in one pass or several, and how far what they say is trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize import Need, Settings, Spectrum, Statistics
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures.pair import PairSpectrum
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.storage.model import input_specs
from onnx_dalr.learn import learn as room
from onnx_dalr.learn.apart import add_spectra
from onnx_dalr.learn.capture import needs_of
from onnx_dalr.learn.learn import Learned, learn, learn_from, learn_more
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.learn.trust import trusts
from onnx_dalr.progress import Silent
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, fingerprint, opened
from tests.forms import pair
from tests.learn.metric_cases import ENDS, TWO, model, numbers
from tests.quality.task_cases import CLASSIFY

X = {"x": numbers(40, 5).astype(np.float32)}
MLP = model(ENDS, TWO, {"W": numbers(5, 4), "b": numbers(4), "V": numbers(4, 3), "c": numbers(3)}, "float")
LAYERS, _ = find(MLP)


def run_of(made: Any = MLP, **options: Any) -> Context:
    return Context(made, make_options(device="cpu", **options), Silent())


@contextmanager
def sets_of(feed: Mapping[str, NDArray[Any]] = X, made: Any = MLP) -> Iterator[Sets]:
    with opened(SampleOptions([feed], holdout=0.0, batch_size=8), input_specs(made.proto)) as sets:
        yield sets


def learned(context: Context, task: Task | None = CLASSIFY, *, keep: bool = False, **feed: NDArray[Any]) -> Learned:
    with sets_of(feed or X) as sets:
        return learn(context, LAYERS, sets, task, keep=keep)


def pair_of(spectra: Spectra) -> Spectrum:
    """What the one structure of a matrix says."""
    decomposition = spectra.of(pair(1))
    assert isinstance(decomposition, PairSpectrum)
    return decomposition.spectrum


def assert_same(one: Mapping[str, Mapping[str, Spectra]], other: Mapping[str, Mapping[str, Spectra]]) -> None:
    """The same factors and curves of the same layers, under the same names."""
    assert {name: list(spectra) for name, spectra in one.items()} == {
        name: list(spectra) for name, spectra in other.items()
    }
    for name, by_layer in one.items():
        for layer, spectra in by_layer.items():
            spectrum, same = pair_of(spectra), pair_of(other[name][layer])
            np.testing.assert_allclose(spectrum.tails, same.tails, rtol=1e-4, atol=1e-5 * spectrum.power)
            assert (spectrum.metric_tails is None) == (same.metric_tails is None)
            if spectrum.metric_tails is not None and same.metric_tails is not None:
                np.testing.assert_allclose(
                    spectrum.metric_tails, same.metric_tails, rtol=1e-4, atol=1e-5 * same.metric_tails[0]
                )
            A, B = spectrum.factors(2), same.factors(2)
            np.testing.assert_allclose(A.A @ A.B, B.A @ B.B, atol=1e-4)


# What comes of it


def test_every_layer_has_a_spectrum_with_a_metric() -> None:
    context = run_of()
    found = learned(context)
    assert list(found.by_factors["default"]) == ["one", "two"]
    assert all(spectra.has_effect for spectra in found.by_factors["default"].values())
    assert found.rows == {"one": 40, "two": 40}
    assert found.passes == 7
    assert found.notes == ()
    assert (len(found.digests), found.calibration) == (40, fingerprint(found.digests))
    assert set(context.seconds) == {"capture", "metric", "factorize"}


@pytest.mark.parametrize(
    ("options", "task"), [({"metric": False}, CLASSIFY), ({"method": "svd-bc"}, CLASSIFY), ({}, None)]
)
def test_without_a_metric_no_gradient_is_taken(options: dict[str, Any], task: Task | None) -> None:
    context = run_of(**options)
    found = learned(context, task, keep=True)
    assert not any(spectra.has_effect for spectra in found.by_factors["default"].values())
    assert all(Need.METRIC not in each.needs for each in found.statistics.values())
    assert found.passes == 0
    assert "metric" not in context.seconds


def test_statistics_are_kept_where_they_are_asked_for() -> None:
    assert not learned(run_of()).statistics
    kept = learned(run_of(), keep=True).statistics
    assert {name: (each.count, each.metric_probes) for name, each in kept.items()} == {
        "one": (40, 80),
        "two": (40, 80),
    }


def test_float32_weights_get_compact_spectra_and_float64_ones_keep_theirs() -> None:
    assert pair_of(learned(run_of()).of("one")).basis.dtype == np.float32
    wide = model(ENDS, TWO, {"W": numbers(5, 4), "b": numbers(4), "V": numbers(4, 3), "c": numbers(3)})
    layers, _ = find(wide)
    with sets_of({"x": numbers(40, 5)}, wide) as sets:
        found = learn(run_of(wide), layers, sets, CLASSIFY)
    assert pair_of(found.of("one")).basis.dtype == np.float64


# In several passes


@pytest.mark.parametrize("keep", [True, False])
def test_where_memory_is_short_layers_go_in_groups_and_come_to_the_same(
    keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learned(run_of(), keep=keep)
    monkeypatch.setattr(room, "memory_limit", lambda: 1)
    stages: list[str] = []

    class Listening(Silent):
        def stage(self, text: str, total: int | None) -> Any:
            stages.append(text)
            return super().stage(text, total)

    grouped = learned(replace(run_of(), progress=Listening()), keep=keep)
    assert [stage for stage in stages if stage.startswith("capturing")] == ["capturing (1/2)", "capturing (2/2)"]
    assert_same(whole.by_factors, grouped.by_factors)
    assert (grouped.rows, grouped.digests) == (whole.rows, whole.digests)
    assert grouped.passes == 2 * whole.passes
    assert list(grouped.statistics) == list(whole.statistics) == (["one", "two"] if keep else [])


def test_spectra_of_statistics_that_were_kept_are_the_same() -> None:
    whole = learned(run_of(), keep=True)
    held = StatisticsSet(MLP.content_hash, "dalr", {}, "0", whole.digests, whole.statistics, ("as noted",))
    context = run_of()
    found = learn_from(context, LAYERS, held)
    assert_same(found.by_factors, whole.by_factors)
    assert (found.rows, found.digests, found.notes, found.passes) == (whole.rows, whole.digests, ("as noted",), 0)
    assert set(context.seconds) == {"factorize"}
    assert list(found.statistics) == ["one", "two"]


def test_layers_without_statistics_are_left_out() -> None:
    kept = dict(learned(run_of(), keep=True).statistics)
    into: dict[str, dict[str, Spectra]] = {}
    add_spectra(run_of(), LAYERS, {"two": kept["two"]}, into)
    assert [list(spectra) for spectra in into.values()] == [["two"]] * len(into)


@pytest.mark.parametrize(("keep", "left"), [(True, ["one", "two"]), (False, [])])
def test_statistics_are_let_go_one_by_one_unless_they_are_kept(keep: bool, left: list[str]) -> None:
    held = dict(learned(run_of(), keep=True).statistics)
    add_spectra(run_of(), LAYERS, held, {}, keep=keep)
    assert list(held) == left


# How far they are trusted

WEIGHT = matrix(MLP, LAYERS[0])


def statistics(rows: int, probes: int, *, constant: bool = False, seed: int = 0) -> Statistics:
    """Of layer one; gradients of samples that are all of the same size."""
    held = Statistics(4, 5, Need.OUTPUT | Need.SKETCH | Need.METRIC)
    W = matrix(MLP, LAYERS[0])
    held.update(np.ones((rows, 5)) if constant else numbers(rows, 5, seed=seed), W)
    if probes:
        g = numbers(probes, 4, seed=seed)
        held.update_metric(g / np.linalg.norm(g, axis=1, keepdims=True), W, probes)
    return held


def settings_of(context: Context, W: NDArray[Any], held: Statistics) -> dict[str, Settings]:
    return {name: make() for name, make in trusts(context, W, held).items()}


def test_many_rows_and_many_probes_are_trusted() -> None:
    assert settings_of(run_of(), WEIGHT, statistics(10, 80)) == {"default": Settings()}
    assert settings_of(run_of(), WEIGHT, statistics(10, 0)) == {"default": Settings()}


@pytest.mark.parametrize(("rows", "probes"), [(9, 80), (100, 7), (3, 3)])
def test_of_few_rows_or_probes_there_are_several_ways_to_make(rows: int, probes: int) -> None:
    found = settings_of(run_of(), WEIGHT, statistics(rows, probes))
    assert list(found) == ["default", "cautious", "no metric", "svd-bc"]
    assert found["default"] == Settings()
    cautious = found["cautious"]
    assert cautious.shrinkage is not None
    assert 0.5 <= cautious.shrinkage <= 1
    assert isinstance(cautious.metric, float)
    assert 0.8 <= cautious.metric <= 1
    assert found["no metric"] == Settings(metric=1.0)
    assert found["svd-bc"] == Settings(metric=1.0, shrinkage=1.0)


def test_few_rows_without_gradients_leave_the_covariance_to_doubt() -> None:
    assert list(settings_of(run_of(), WEIGHT, statistics(9, 0))) == ["default", "cautious", "svd-bc"]
    found = settings_of(run_of(metric=False), WEIGHT, statistics(9, 80))
    assert list(found) == ["default", "cautious", "svd-bc"]
    assert {settings.metric for settings in found.values()} == {None}


def test_few_probes_mean_nothing_to_one_who_wants_no_metric() -> None:
    assert list(settings_of(run_of(metric=False), WEIGHT, statistics(100, 1))) == ["default"]


def test_what_the_user_fixed_stays_fixed() -> None:
    found = settings_of(run_of(shrinkage=0.25), WEIGHT, statistics(3, 3))
    assert list(found) == ["default", "cautious", "no metric"]
    assert {settings.shrinkage for settings in found.values()} == {0.25}
    cautious = found["cautious"].metric
    assert isinstance(cautious, float)
    assert 0.8 <= cautious <= 1
    assert [settings.metric for settings in found.values()] == ["auto", cautious, 1.0]
    assert list(settings_of(run_of(shrinkage=0.25, metric=False), WEIGHT, statistics(3, 3))) == ["default"]


@pytest.mark.parametrize("method", ["svd", "svd-bc", "dalr-2017"])
def test_other_methods_have_nothing_to_choose_from(method: str) -> None:
    assert list(settings_of(run_of(method=method), WEIGHT, statistics(3, 0))) == ["default"]


def test_rows_that_are_all_the_same_leave_nothing_to_be_cautious_with() -> None:
    assert list(settings_of(run_of(), WEIGHT, statistics(3, 0, constant=True))) == ["default", "svd-bc"]


def test_the_last_way_is_svd_bc_itself() -> None:
    one = LAYERS[0]
    few = X["x"][:3]
    mine = pair_of(learned(run_of(), x=few).of(one.name, "svd-bc")).factors(2)
    theirs = pair_of(learned(run_of(method="svd-bc"), x=few).of(one.name)).factors(2)
    np.testing.assert_allclose(mine.A @ mine.B, theirs.A @ theirs.B, atol=1e-5)
    np.testing.assert_allclose(mine.shift, theirs.shift, atol=1e-5)


def test_of_a_large_model_there_is_one_way_to_make_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.learn.trust.LARGE_MODEL", 10)
    assert list(settings_of(run_of(), WEIGHT, statistics(3, 3))) == ["default"]


def test_of_a_large_layer_there_is_svd_bc_beside_the_default_where_rows_are_very_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onnx_dalr.learn.trust.LARGE", 3)
    assert list(settings_of(run_of(), WEIGHT, statistics(3, 3))) == ["default"]
    monkeypatch.setattr("onnx_dalr.learn.trust._FEW", 1)
    assert list(settings_of(run_of(), WEIGHT, statistics(3, 3))) == ["default", "svd-bc"]


def test_a_layer_whose_gradients_do_not_fit_into_memory_is_learned_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = run_of().options.method
    layer = LAYERS[0]
    with_metric, without = (
        Statistics.bytes_needed(layer.m, layer.n, needs_of(layer, method, metric=metric), 0) for metric in (True, False)
    )
    assert without < with_metric
    monkeypatch.setattr("onnx_dalr.learn.capture.memory_limit", lambda: with_metric - 1)
    with sets_of(X) as sets:
        found = learn(run_of(), [layer], sets, CLASSIFY, keep=True)
    assert found.statistics[layer.name].metric is None
    assert found.passes == 0
    assert found.notes == (f"{layer.name!r} has no output metric: its gradients do not fit into memory",)
    assert not found.of(layer.name).has_effect


def test_of_a_layer_whose_gradients_came_to_nothing_no_empty_metric_is_kept() -> None:
    """One row of its gradients is not finite: halves of the samples would add up to another metric than the whole."""
    text = "[one] h = MatMul(x, O) p = Mul(h, big) t = Tanh(p) q = Mul(t, big) r = Add(q, b) [two] y = MatMul(r, V)"
    weights = {"O": np.zeros((5, 4)), "big": np.array(1e30), "b": numbers(4), "V": numbers(4, 3)}
    lost = model(ENDS, text, weights, "float")
    layers, _ = find(lost)
    with sets_of(X, lost) as sets:
        found = learn(run_of(lost), layers, sets, CLASSIFY, keep=True)
    needs = {name: Need.METRIC in each.needs for name, each in found.statistics.items()}
    assert needs == {"one": False, "two": True}
    assert found.statistics["one"].metric is None
    assert found.statistics["two"].metric_probes == 80


@pytest.fixture
def parts() -> Iterator[tuple[Sets, Sets, Sets]]:
    """All samples, and two parts of them."""
    with sets_of() as sets:
        some, others = (replace(sets, fit=replace(sets.fit, indices=each)) for each in np.split(np.arange(40), [26]))
        yield sets, some, others


def test_more_samples_are_added_to_what_was_learned(parts: tuple[Sets, Sets, Sets]) -> None:
    whole, some, others = parts
    context = run_of()
    at_once, first = (learn(context, LAYERS, sets, CLASSIFY) for sets in (whole, some))
    assert set(first.sums) == {layer.name for layer in LAYERS}
    both = learn_more(context, LAYERS, first, others, CLASSIFY)
    assert both.rows == at_once.rows
    assert first.digests | both.digests == at_once.digests
    assert both.passes == at_once.passes
    for layer in LAYERS:
        for name in at_once.by_factors:
            one, other = (pair_of(each.of(layer.name, name)) for each in (at_once, both))
            np.testing.assert_allclose(other.tails, one.tails, rtol=1e-4, atol=1e-6 * one.tails[0])
            for rank in range(one.full_rank + 1):
                made, again = one.factors(rank), other.factors(rank)
                np.testing.assert_allclose(again.A @ again.B, made.A @ made.B, atol=1e-3 * np.abs(one.projected).max())


def test_gradients_that_one_part_lacks_are_lost_for_the_whole(parts: tuple[Sets, Sets, Sets]) -> None:
    _, some, others = parts
    context = run_of()
    both = learn_more(context, LAYERS, learn(context, LAYERS, some, CLASSIFY), others, None)
    assert all(pair_of(both.of(layer.name)).metric_tails is None for layer in LAYERS)


def test_sums_are_held_as_far_as_there_is_room(parts: tuple[Sets, Sets, Sets], monkeypatch: pytest.MonkeyPatch) -> None:
    _, some, _ = parts
    monkeypatch.setattr(room, "MOST_SUMS", 0)
    assert not learn(run_of(), LAYERS, some, CLASSIFY).sums


def test_sums_of_layers_with_rows_enough_are_not_held(
    parts: tuple[Sets, Sets, Sets], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, some, _ = parts
    monkeypatch.setattr("onnx_dalr.learn.trust.ROWS_PER_INPUT", 1)
    assert not learn(run_of(), LAYERS, some, CLASSIFY).sums
