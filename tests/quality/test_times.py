"""Times of layers between those that were measured."""

from __future__ import annotations

import pytest

from onnx_dalr.quality.evaluate import Latency
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.quality.promise import promise_of
from onnx_dalr.quality.times import LayerTimes, Times, curve_of

CURVE = curve_of({10.0: 0.2, 20.0: 0.4, 40.0: 1.2})
TIMES = Times(1000.0, {"a": LayerTimes(400.0, {"pair": CURVE})})


@pytest.mark.parametrize(("work", "share"), [(10, 0.2), (15, 0.3), (30, 0.8), (1, 0.2), (99, 1.2)])
def test_between_two_measured_forms_it_is_a_straight_line_and_beyond_them_as_at_the_nearest(
    work: float, share: float
) -> None:
    assert CURVE.at(work) == pytest.approx(share)


def test_more_work_never_takes_less_time() -> None:
    curve = curve_of({1.0: 0.1, 2.0: 0.5, 3.0: 0.3, 4.0: 0.6})
    assert curve.shares == pytest.approx((0.1, 0.4, 0.4, 0.6))


def test_a_form_that_is_not_clearly_faster_takes_no_less_than_the_layer_as_it_is() -> None:
    assert TIMES.of("a", "pair", 15) == pytest.approx(120)
    assert TIMES.of("a", "pair", 34.8) == TIMES.as_it_is("a") == 400  # 0.992 of it: noise
    assert TIMES.of("a", "pair", 40) == pytest.approx(480)
    assert TIMES.of("a", "tucker", 15) == 400


def test_a_layer_that_was_not_measured_costs_as_much_in_any_form_and_next_to_nothing() -> None:
    assert TIMES.as_it_is("b") == TIMES.of("b", "pair", 3) <= 1


def test_what_is_saved_is_corrected_by_what_a_model_was_measured_to_save() -> None:
    half = TIMES.calibrated(predicted=0.6, measured=0.8)
    assert half.saving == pytest.approx(0.5)
    assert half.of("a", "pair", 10) == pytest.approx(400 * (1 - 0.5 * 0.8))
    assert half.as_it_is("a") == 400
    assert half.calibrated(predicted=0.8, measured=0.7).saving == pytest.approx(0.75)
    assert TIMES.calibrated(predicted=0.9, measured=1.3).saving == pytest.approx(0.25)  # one measurement is no proof
    assert TIMES.calibrated(predicted=1.0, measured=0.2).of("a", "pair", 1) > 0


@pytest.mark.parametrize(("asked", "met"), [(0.6, True), (0.45, True), (0.39, False)])
def test_a_promise_is_broken_where_the_whole_interval_is_above_it(asked: float, met: bool) -> None:
    latency = Latency(10.0, 5.0, 1, 50, Estimate(2.0, 1.6, 2.5, 50))
    promise = promise_of(asked, latency)
    assert (promise.measured.low, promise.measured.value, promise.measured.high) == pytest.approx((0.4, 0.5, 0.625))
    assert promise.met == met
