"""Formats in a search: what there is to choose from, what it costs, and which targets weigh one against another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_dalr.candidate.forms import bytes_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import Judge, Trial
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.weights import read_rules
from tests.choose.search_cases import THREE, posed

LOST = {"float16": 1e-8, "int8/64": 5e-5, "int8": 1e-4, "int4/32": 6e-3, "int4/64": 7e-3, "int4/128": 8e-3}


def stored(*words: str, **target: Any) -> SearchSpace:
    """The three layers, which lose the same shares by rounding; bytes are those of values."""
    space = posed(**target)
    assert space.learned is not None
    for spectra in space.learned.by_factors.values():
        spectra |= {name: replace(one, rounded=LOST, rounded_apart=LOST) for name, one in spectra.items()}
    method = space.method

    def price(layer: Layer, form: Form) -> float:
        return float(bytes_of(layer, form, method))

    def weigh(forms: Forms) -> int:
        return int(sum(price(*each) for each in zip(space.layers, forms, strict=True)))

    priced = price if space.target.prices_formats else None
    return replace(space, weights=read_rules(words), priced=priced, weigh=weigh, bytes=weigh([UNTOUCHED] * 3))


def test_auto_offers_every_format_and_the_layer_as_it_is() -> None:
    (menu, *_) = stored("auto", size="50%").menus
    assert {form.format for form in menu} == {"keep", *LOST}
    assert menu[-1] == UNTOUCHED
    assert {str(form) for form in menu if not form.rank} == {"dense", *(f"dense {name}" for name in LOST)}


def test_a_format_alone_leaves_no_layer_as_it_is() -> None:
    space = stored("int8", size="10%")
    assert space.in_one_piece == [Form("dense", (), "int8/64")] * 3
    assert not space.may_stay
    assert {form.format for menu in space.menus for form in menu} == {"int8/64", "int8"}


def test_a_layer_may_be_left_out_of_it() -> None:
    space = stored("int8", "fc1=keep", size="20%")
    assert [form.format for form in space.in_one_piece] == ["int8/64", "keep", "int8/64"]


@pytest.mark.parametrize("target", [{"params": "50%"}, {"rank": "8"}, {"energy": 0.9}])
def test_where_bits_are_free_all_is_stored_in_eight(target: dict[str, str]) -> None:
    space = stored("auto", **target)
    assert {form.format for menu in space.menus for form in menu} == {"int8"}
    plan = make_plan(space, None)
    assert {form.format for form in plan.forms} == {"int8"}
    assert plan.compressed


def test_ranks_that_are_asked_for_come_in_the_format() -> None:
    plan = make_plan(stored("int8", rank=["fc0=7", "fc1=keep"]), None)
    assert [str(form) for form in plan.forms] == ["pair 7 int8", "dense int8", "dense int8"]
    assert [choice.reason for choice in plan.choices] == ["as asked", "as asked", "as asked: int8"]


def test_a_budget_of_bytes_takes_bits_first_and_ranks_where_these_do_not_do() -> None:
    loose, tight = (make_plan(stored("auto", size=size), None) for size in ("30%", "6%"))
    assert all(not form.rank for form in loose.forms)
    assert all(form.rank for form in tight.forms)
    assert {"keep", "float16"}.isdisjoint(form.format for form in tight.forms[:2])


def test_the_smallest_of_a_budget_is_refused_by_name() -> None:
    with pytest.raises(TargetError, match="cannot be reached"):
        make_plan(stored("int8", size="0.1%"), None)


def test_rounding_is_lost_on_top_of_what_a_rank_leaves_out() -> None:
    space = stored("auto", size="50%")
    spectra = space.spectra(THREE[0])
    assert spectra is not None
    kept, coarse = Form("pair", (9,)), Form("pair", (9,), "int4/32")
    assert spectra.tail(coarse) == pytest.approx(spectra.tail(kept) + 6e-3 * spectra.first.power)
    assert spectra.tail(Form("dense", (), "int8")) == pytest.approx(1e-4 * spectra.first.power)
    assert spectra.energy_lost(Form("dense", (), "int8")) == pytest.approx(1e-4)


def losing(space: SearchSpace, per_byte: float) -> Judge:
    """Every byte less costs so much."""

    def score(plan: Plan) -> Trial:
        size = space.weigh(list(plan.forms))
        lost = per_byte * (space.bytes - size) / space.bytes
        return Trial(lost, lost, lost, size)

    return Judge(score)


def test_a_tolerance_minimizes_bytes() -> None:
    space = stored("auto", max_drop=0.5)
    plan = make_plan(space, losing(space, 0.55))
    assert 0.09 <= space.weigh(list(plan.forms)) / space.bytes <= 0.13


def test_a_format_that_was_asked_for_alone_is_written_whatever_it_loses() -> None:
    space = stored("int8")
    assert not space.target.stated
    plan = make_plan(space, losing(space, 1.0))
    assert [str(form) for form in plan.forms] == ["dense int8/64"] * 3
    assert all("the target is not met" in choice.reason for choice in plan.choices)


def test_with_a_tolerance_beside_it_it_is_refused() -> None:
    space = stored("int8", max_drop=0.01)
    with pytest.raises(TargetError, match="stays within a drop of 1 %"):
        make_plan(space, losing(space, 1.0))


def test_no_rung_is_beaten_by_another_at_its_price() -> None:
    space = stored("auto", size="50%")
    for one, curve in zip(space.ladders, space.tails, strict=True):
        assert (np.diff(one.costs) >= 0).all()
        assert one.distortions(curve)[-1] == 0
    assert allocate.total(space.ladders, allocate.largest(space.ladders)) == space.bytes
