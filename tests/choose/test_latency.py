"""Time as a target: by a table of times that is made up, and a stopwatch that says what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.in_time import settled
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import Silent
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.quality.promise import Promise
from onnx_dalr.quality.times import LayerTimes, Times, curve_of
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from tests.choose.kernel_cases import KERNELS, MACS, NET, kernels

WHOLE = {layer.name: macs_of(layer, UNTOUCHED, MACS) for layer in KERNELS}
REST = 500_000.0
SLOW = "second"
"""Factors of it take longer than the kernel."""


def table(slow: str = SLOW) -> Times:
    """A nanosecond a multiply-add, and 5 % of the layer for the nodes; twice of it all for one layer."""
    layers = {}
    for layer in KERNELS:
        whole, factor = WHOLE[layer.name], 2.5 if layer.name == slow else 1.0
        curve = curve_of({share * whole: factor * (share + 0.05) for share in (0.1, 0.4, 0.7, 1.0)})
        layers[layer.name] = LayerTimes(whole, {each.name: curve for each in layer.structures})
    return Times(sum(WHOLE.values()) + REST, layers)


def timed(slow: str = SLOW, **target: object) -> SearchSpace:
    return replace(kernels(**target), times=table(slow))


def taken(space: SearchSpace, forms: tuple[Form, ...]) -> float:
    """Nanoseconds of the whole model."""
    cost = COSTS["latency"]
    pairs = list(zip(space.layers, forms, strict=True))
    saved = sum(cost.price(space, x, UNTOUCHED) - cost.price(space, x, form) for x, form in pairs)
    return cost.whole(space) - saved


@pytest.mark.parametrize("share", ["60%", "80%"])
def test_a_share_of_the_time_is_kept_and_nearly_used_up(share: str) -> None:
    space = timed(slow="", latency=share)
    plan = make_plan(space, None)
    limit = float(share[:-1]) / 100 * space.times.whole  # type: ignore[union-attr]
    assert 0.9 * limit < taken(space, plan.forms) <= limit
    assert plan.target == f"latency {share}"
    assert plan.compressed[0].reason.endswith("so that the model meets its time")


def test_a_layer_that_would_be_slower_stays_as_it_is() -> None:
    fast, slow = (make_plan(timed(name, latency="70%"), None) for name in ("", SLOW))
    at = [layer.name for layer in KERNELS].index(SLOW)
    assert not fast.forms[at].untouched
    form = slow.forms[at]
    assert form.untouched or COSTS["latency"].price(timed(), KERNELS[at], form) < WHOLE[SLOW]
    assert taken(timed(), slow.forms) <= 0.7 * table().whole


def test_no_form_on_a_ladder_takes_as_long_as_the_layer_and_none_as_long_as_a_larger_rank() -> None:
    space = timed(latency="70%")
    for one in COSTS["latency"].budget(space, 1).ladders:
        assert all(cost < one.whole for cost in one.costs[:-1])
        kinds = [(form.structure, float(cost)) for form, cost in zip(one.forms, one.costs, strict=True)]
        assert len(set(kinds)) == len(kinds)
        assert one.forms[-1].untouched


def test_fewer_bits_take_the_same_time() -> None:
    space, cost = timed(latency="70%"), COSTS["latency"]
    kept = cost.price(space, KERNELS[2], Form("v", (16,)))
    assert cost.price(space, KERNELS[2], Form("v", (16,), "int8")) == kept < WHOLE["third"]
    assert cost.price(space, KERNELS[2], Form("dense", (), "int8")) == WHOLE["third"]


def test_what_cannot_be_reached_is_refused_with_what_can() -> None:
    with pytest.raises(TargetError, match="--latency 5% cannot be reached: with the fastest forms there are") as error:
        make_plan(timed(latency="5%"), None)
    assert "--latency" in error.value.hint
    assert make_plan(timed(latency="5%", best_effort=True), None).compressed


def test_where_no_form_is_faster_there_is_nothing_to_choose() -> None:
    times = Times(1e6, {name: LayerTimes(1e5) for name in WHOLE})
    with pytest.raises(TargetError, match="about 100 % of the time remain"):
        make_plan(replace(kernels(latency="95%"), times=times), None)


def test_without_a_sample_it_is_not_known() -> None:
    with pytest.raises(InputError, match="no sample to measure the time of a run on"):
        make_plan(kernels(latency="50%"), None)


@pytest.mark.parametrize("text", ["12ms", "0.5s", "3 us"])
def test_an_absolute_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is an absolute time"):
        kernels(latency=text)


@pytest.mark.parametrize("text", ["0%", "100%", "fast", "-3"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a share"):
        kernels(latency=text)


def test_a_number_is_a_share_too() -> None:
    assert str(kernels(latency=0.5).target) == "latency 50%"


# What is measured of a plan's model, and what comes of it.

CONTEXT = Context(Model(NET.proto), make_options(), Silent())


class Clock:
    """Says by what function of the expected share a model takes its time, and remembers what it was asked."""

    def __init__(self, space: SearchSpace, says: Callable[[float], float], noise: float = 0.01) -> None:
        self._space, self._says, self._noise = space, says, noise
        self.seen: list[float] = []

    def __call__(self, plan: Plan, asked: float) -> Promise:
        expected = taken(self._space, plan.forms) / COSTS["latency"].whole(self._space)
        value = self._says(expected)
        self.seen.append(value)
        measured = Estimate(value, value - self._noise, value + self._noise, 50)
        return Promise(asked, measured, measured.low <= asked)


def settle(space: SearchSpace, clock: Clock) -> Plan:
    quick = partial(make_plan, judge=None)
    return settled(CONTEXT, space, clock, quick, quick)


def test_where_times_are_right_the_first_plan_is_taken() -> None:
    space = timed(slow="", latency="70%")
    clock = Clock(space, lambda share: share)
    assert settle(space, clock).forms == make_plan(space, None).forms
    assert len(clock.seen) == 2


def test_where_a_model_saves_less_than_its_layers_it_is_made_smaller() -> None:
    space = timed(slow="", latency="70%")
    clock = Clock(space, lambda share: 1 - 0.7 * (1 - share))
    plan = settle(space, clock)
    assert clock.seen[0] > 0.75
    assert 0.65 < clock.seen[-1] <= 0.7
    assert taken(space, plan.forms) < taken(space, make_plan(space, None).forms)


def test_where_it_saves_more_nothing_is_given_away() -> None:
    space = timed(slow="", latency="70%")
    clock = Clock(space, lambda share: 1 - 1.3 * (1 - share))
    plan = settle(space, clock)
    assert clock.seen[0] < 0.63 < clock.seen[-1] <= 0.7
    assert taken(space, plan.forms) > taken(space, make_plan(space, None).forms)


def test_a_measurement_that_says_nothing_corrects_nothing() -> None:
    space = timed(slow="", latency="70%")
    clock = Clock(space, lambda share: share - 0.2, noise=5.0)
    assert settle(space, clock).forms == make_plan(space, None).forms
    clock = Clock(space, lambda share: share - 0.2, noise=float("inf"))
    assert settle(space, clock).forms == make_plan(space, None).forms


def test_what_is_missed_twice_is_an_error_with_what_was_measured() -> None:
    space = timed(slow="", latency="70%")
    with pytest.raises(TargetError, match=r"--latency 70% is not met: the model takes 9\d\.\d %") as error:
        settle(space, Clock(space, lambda share: 0.93 + 0.01 * share))
    assert error.value.exit_code == 3
    assert "--best-effort" in error.value.hint


def test_the_closest_is_taken_where_that_will_do() -> None:
    space = timed(slow="", latency="70%", best_effort=True)
    plan = settle(space, Clock(space, lambda share: 0.93 + 0.01 * share))
    assert plan.compressed[0].reason.startswith("the target is not met, this is the closest: 93.")


def test_what_is_missed_by_no_more_than_noise_is_taken() -> None:
    space = timed(slow="", latency="70%")
    first = iter([0.7])
    clock = Clock(space, lambda share: next(first, 0.71), noise=0.02)
    assert settle(space, clock).compressed
