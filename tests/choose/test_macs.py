"""Multiply-adds as a target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnx_dalr.candidate.forms import macs_of, params_of
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.costs.macs import SMALL
from onnx_dalr.choose.search import make_plan
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import METHODS, UNTOUCHED
from onnx_dalr.plan.plan import Plan
from tests.choose.kernel_cases import KERNELS, MACS, RATES, kernels

WIDE = KERNELS[1:3]


def spent(plan: Plan) -> float:
    """Of the whole model."""
    saved = (macs_of(x, UNTOUCHED, MACS) - macs_of(x, form, MACS) for x, form in zip(KERNELS, plan.forms, strict=True))
    return MACS.whole - sum(saved)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_share_of_them_is_kept_and_nearly_used_up(share: float) -> None:
    space = kernels(macs=share)
    plan = make_plan(space, None)
    assert plan.target == f"macs {100 * share:g}%"
    assert 0.93 * share * MACS.whole < spent(plan) <= share * MACS.whole
    assert plan.compressed[0].reason.endswith("so that the model meets its multiply-adds")


def test_an_amount_is_of_one_sample() -> None:
    space = kernels(macs="5M")
    assert spent(make_plan(space, None)) <= 5_000_000


def test_kernels_that_run_often_give_more_than_for_parameters() -> None:
    """The first kernel has a sixteenth of the parameters and a quarter of the multiply-adds."""
    rates = dict.fromkeys(RATES, 4.0) | {"v": 20.0}
    by_macs, by_params = make_plan(kernels(rates, macs=0.4), None), make_plan(kernels(rates, params=0.4), None)
    first = [params_of(KERNELS[0], plan.forms[0], METHODS["dalr"]) for plan in (by_macs, by_params)]
    assert first[0] < first[1]


def test_small_layers_stay_as_they_are_where_the_others_can_meet_it() -> None:
    small = [macs_of(layer, UNTOUCHED, MACS) < SMALL for layer in KERNELS]
    assert small == [False, False, False, True, True]
    forms = make_plan(kernels(macs=0.4), None).forms
    assert [form.untouched for form in forms[3:]] == [True, True]
    every = make_plan(kernels(macs=int(_least(small_too=True)) + 1), None)
    assert not any(form.untouched for form in every.forms)


def test_a_small_layer_that_is_pinned_gets_its_rank() -> None:
    assert make_plan(kernels(macs=0.5, rank="head=2"), None).forms[-1].rank == (2,)


def _least(*, small_too: bool) -> float:
    space = kernels(macs=0.5)
    least = MACS.whole
    for layer, menu in zip(space.layers, space.menus, strict=True):
        whole = macs_of(layer, UNTOUCHED, MACS)
        if small_too or whole >= SMALL:
            wide = layer in WIDE
            allowed = [form for form in menu if not (wide and any(rank % 8 for rank in form.rank))]
            least -= whole - min(macs_of(layer, form, MACS) for form in allowed)
    return least


def test_kernels_that_are_wide_have_ranks_in_eights_unless_a_multiple_is_given() -> None:
    for multiple, divisor in ((1, 8), (2, 2)):
        forms = make_plan(kernels(macs=0.4, rank_multiple=multiple), None).forms
        ranks = [rank for layer, form in zip(KERNELS, forms, strict=True) if layer in WIDE for rank in form.rank]
        assert ranks
        assert not any(rank % divisor for rank in ranks)
        assert any(rank % 8 for rank in ranks) == (multiple == 2)


def test_what_cannot_be_reached_names_the_closest() -> None:
    with pytest.raises(TargetError, match="--macs 1% cannot be reached") as error:
        make_plan(kernels(macs="1%"), None)
    closest = int(error.value.hint.split("--macs ")[1].split(";")[0])
    assert closest == pytest.approx(_least(small_too=True), abs=2)
    assert make_plan(kernels(macs=closest + 1), None).compressed


def test_without_a_sample_they_are_not_known() -> None:
    space = replace(kernels(macs="50%"), macs=None)
    with pytest.raises(InputError, match="there is no sample"):
        make_plan(space, None)


def test_samples_need_not_be_run_for_it() -> None:
    assert not COSTS["macs"].needs_samples
    unknown = replace(kernels(macs="50%"), learned=None)
    assert make_plan(unknown, None).compressed
