"""Kernels that can be taken apart in several ways: the mixture, families of it, one energy."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from onnx_dalr.candidate.forms import params_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.families import MOST, SPATIAL_ONLY, TUCKER_ONLY, WITHOUT_FIRST, families, most_families
from onnx_dalr.choose.search import ALLOCATIONS, make_plan, most_trials
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.tolerance import EVALUATIONS
from onnx_dalr.choose.trials import Judge, Trial
from onnx_dalr.factorize import METHODS, Form
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.selection import taken_apart_as_asked
from onnx_dalr.request.structures import read_structures
from tests.choose.kernel_cases import KERNELS, RATES, kernels
from tests.choose.search_cases import Fixed, layers_of, posed

SPATIAL, TUCKER = {"v", "h"}, {"tucker"}


def structures(space: SearchSpace, at: int) -> set[str]:
    """What a layer may get."""
    return {form.structure for form in space.every_ladder[at].forms if form.rank}


def test_each_family_leaves_less_to_choose_from() -> None:
    space = kernels(params="50%")
    found = families(space)
    assert list(found) == [SPATIAL_ONLY, TUCKER_ONLY, WITHOUT_FIRST]
    assert len(found) == MOST == most_families(KERNELS)
    for name, allowed in ((SPATIAL_ONLY, SPATIAL), (TUCKER_ONLY, TUCKER)):
        assert [structures(found[name], at) for at in range(5)] == [allowed] * 3 + [{"pair"}] * 2
    assert structures(found[WITHOUT_FIRST], 0) == set()
    assert structures(found[WITHOUT_FIRST], 1) == structures(space, 1) == {"out", "in", "v", "h", "tucker"}


def test_where_there_is_one_way_for_each_weight_there_are_none() -> None:
    assert families(posed(params="50%")) == {}
    assert most_families(layers_of((40, 60), (60, 40))) == 0


def test_what_is_no_other_choice_is_no_family() -> None:
    rules = read_structures("spatial")
    layers = [taken_apart_as_asked(layer, rules) for layer in KERNELS]
    assert list(families(kernels(layers=layers, params="50%"))) == [WITHOUT_FIRST]
    rules = read_structures("pair,tucker")
    layers = [taken_apart_as_asked(layer, rules) for layer in KERNELS]
    assert families(kernels(layers=layers, params="50%")) == {}
    assert families(kernels(layers=KERNELS[:1], params="50%")).keys() == {SPATIAL_ONLY, TUCKER_ONLY}


def judged(lost: Callable[[Plan], float]) -> tuple[Judge, list[Plan]]:
    """A judge who knows the effects, and what he was asked about."""
    plans: list[Plan] = []

    def score(plan: Plan) -> Trial:
        plans.append(plan)
        return Trial(lost(plan), lost(plan), lost(plan), 1000)

    return Judge(score, lambda space: Fixed(space.curves(Spectra.effect))), plans


def of_kernels(plan: Plan) -> set[str]:
    return {form.structure for form in plan.forms[:3] if form.rank}


@pytest.mark.parametrize(
    ("won", "name"),
    [(SPATIAL, SPATIAL_ONLY), (TUCKER, TUCKER_ONLY), (None, WITHOUT_FIRST)],
    ids=["spatial", "tucker", "without the first"],
)
def test_the_select_samples_say_which_family_a_budget_is_spent_on(won: set[str] | None, name: str) -> None:
    mixed = dict.fromkeys(RATES, 6.0) | {"v": 6.3, "tucker": 6.2}  # so that none of them is all of the mixture

    def lost(plan: Plan) -> float:
        is_it = plan.forms[0].untouched if won is None else of_kernels(plan) <= won
        return 0.1 if is_it else 0.5

    space = kernels(mixed, params="40%")
    judge, plans = judged(lost)
    plan = make_plan(space, judge)
    assert len(plans) <= most_trials("params", 1, len(KERNELS), most_families(KERNELS)) == ALLOCATIONS + MOST
    assert lost(plan) == 0.1
    assert all(space.params_at(list(tried.forms)) <= 0.4 * space.params for tried in plans)
    assert any(name in choice.reason for choice in plan.compressed)


def test_a_tolerance_asks_for_families_once_and_bisects_within_the_best() -> None:
    def lost(plan: Plan) -> float:
        share = space.params_at(list(plan.forms)) / space.params
        return (0.5 if of_kernels(plan) <= TUCKER else 1.0) * (1 - share) ** 2

    space = kernels(max_error=0.2)
    judge, plans = judged(lost)
    plan = make_plan(space, judge)
    assert len(plans) <= EVALUATIONS + MOST == most_trials("max-error", 1, len(KERNELS), MOST)
    assert lost(plan) <= 0.2
    assert of_kernels(plan) <= TUCKER
    assert all(
        lost(tried) > 0.2 or space.params_at(list(tried.forms)) >= space.params_at(list(plan.forms)) for tried in plans
    )


@pytest.mark.parametrize("known", [True, False])
def test_on_a_ladder_every_dearer_form_loses_less_than_all_others_before(known: bool) -> None:
    space = kernels(params="50%", known=known)
    for layer, one in zip(space.layers, space.ladders, strict=True):
        spectra = space.spectra(layer)
        assert spectra is not None
        lost = spectra.effect if known else spectra.tail
        forms = [form for form in one.forms if not form.untouched]
        for cheaper, dearer in itertools.pairwise(forms):
            if cheaper.structure != dearer.structure or len(dearer.rank) > 1:
                assert lost(dearer) < lost(cheaper)


# One energy


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.95])
def test_of_all_structures_the_cheapest_form_that_keeps_the_energy_is_taken(energy: float) -> None:
    space = kernels(energy=energy)
    forms = make_plan(space, None).forms
    method = METHODS["dalr"]
    for layer, menu, form in zip(space.layers, space.menus, forms, strict=True):
        spectra = space.spectra(layer)
        assert spectra is not None
        enough = [each for each in menu[:-1] if spectra.energy_lost(each) <= 1 - energy + 1e-12]
        least = min((params_of(layer, each, method) for each in enough), default=layer.params)
        assert params_of(layer, form, method) == least


def test_lrdkts_rule_is_the_smallest_rank_of_either_direction() -> None:
    rules = read_structures("pair,v")
    layers = [taken_apart_as_asked(layer, rules) for layer in KERNELS]
    space = kernels(layers=layers, energy=0.8)
    (_, second, *_) = make_plan(space, None).forms
    spectra = space.spectra(layers[1])
    assert spectra is not None
    assert second.structure == "v"
    (rank,) = second.rank
    assert spectra.energy_lost(second) <= 0.2 < spectra.energy_lost(Form("v", (rank - 1,)))


def test_an_allocation_of_a_family_costs_what_its_own_ladders_say() -> None:
    space = families(kernels(params="50%"))[TUCKER_ONLY]
    curves = space.curves(Spectra.effect)
    forms = allocate.best(space.ladders, curves, 0.5 * space.params)
    assert forms is not None
    assert allocate.total(space.ladders, forms) == pytest.approx(space.params_at(forms) - space.rest)
