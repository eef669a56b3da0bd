"""Forms are opaque: two structures, two formats and a cost that nobody foresaw are allocated and searched alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder, Menu
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.costs.base import Allot
from onnx_dalr.choose.search import make_plan, most_trials
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.tolerance import EVALUATIONS
from onnx_dalr.choose.trials import EQUAL, Judge, Trial
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.target import Target, make_target
from onnx_dalr.units import parse_amount
from tests.choose.allocate_cases import SEEDS, SHARES, often, pairs
from tests.choose.search_cases import DALR, THREE, UNEVEN, Fixed, Scored, moved, posed, ranks_of

MIXED = (
    Form("pair", (4,)),
    Form("pair", (8,)),
    Form("halves"),
    Form("pair", (4,), "int8"),
    Form("halves", (), "int8"),
    Form("dense", (), "int8"),
    UNTOUCHED,
)
PRICES = dict(zip(MIXED, (40.0, 80.0, 50.0, 10.0, 12.5, 25.0, 100.0), strict=True))
LOST = np.array([5.0, 0.5, 2.0, 6.0, 3.0, 1.0, 0.0])


def test_a_ladder_orders_forms_by_what_they_cost_whatever_they_are() -> None:
    made = allocate.ladder(MIXED, PRICES.__getitem__)
    assert list(map(str, made.forms)) == [
        "pair 4 int8",
        "halves int8",
        "dense int8",
        "pair 4",
        "halves",
        "pair 8",
        "dense",
    ]
    assert made.costs.tolist() == sorted(PRICES.values())
    assert made.distortions(LOST).tolist() == [6.0, 3.0, 1.0, 5.0, 2.0, 0.5, 0.0]
    cheap = allocate.ladder(MIXED, PRICES.__getitem__, allowed=lambda form: form.format == "int8")
    assert list(map(str, cheap.forms)) == ["pair 4 int8", "halves int8", "dense int8", "dense"]


def test_the_rungs_are_the_forms_worth_having() -> None:
    rungs = allocate.ladder(MIXED, PRICES.__getitem__).rungs(LOST)
    assert [(str(rung.form), rung.cost, rung.distortion) for rung in rungs] == [
        ("pair 4 int8", 10.0, 6.0),
        ("halves int8", 12.5, 3.0),
        ("dense int8", 25.0, 1.0),
        ("dense", 100.0, 0.0),
    ]


POINTS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=12)


@often
@given(POINTS)
def test_the_rungs_are_the_lower_convex_hull_of_cost_and_distortion(points: list[tuple[int, int]]) -> None:
    forms = (*(Form("toy", (place + 1,)) for place in range(len(points))), UNTOUCHED)
    prices = dict(zip(forms, [cost for cost, _ in points] + [31], strict=True))
    made = allocate.ladder(forms, prices.__getitem__)
    rungs = made.rungs(np.array([lost for _, lost in points] + [0.0]))
    assert rungs[0].cost == min(prices.values())
    assert rungs[-1].distortion == 0
    pairs_of_rungs = list(itertools.pairwise(rungs))
    assert all(low.cost < high.cost and low.distortion > high.distortion for low, high in pairs_of_rungs)
    slopes = [(high.distortion - low.distortion) / (high.cost - low.cost) for low, high in pairs_of_rungs]
    assert slopes == sorted(slopes)
    assert len(set(slopes)) == len(slopes)
    costs, lost = [rung.cost for rung in rungs], [rung.distortion for rung in rungs]
    for cost, distortion in [*points, (31, 0)]:
        assert distortion >= np.interp(cost, costs, lost) - 1e-9, "no form lies below it"


@often
@given(SEEDS, SHARES)
def test_a_budget_that_is_divided_between_mixed_forms_is_never_exceeded(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(3):
        prices = dict(zip(MIXED, [*rng.integers(1, 100, len(MIXED) - 1).astype(float), 100.0], strict=True))
        made.append(allocate.ladder(MIXED, prices.__getitem__))
    curves = [np.append(rng.random(len(MIXED) - 1), 0.0) for _ in made]
    budget = share * 300
    forms = allocate.best(made, curves, budget)
    if forms is None:
        assert budget < allocate.total(made, allocate.smallest(made))
    else:
        assert allocate.total(made, forms) <= budget


@often
@given(SEEDS)
def test_at_a_corner_of_the_hulls_mixed_forms_lose_the_least_that_is_possible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = [allocate.ladder(MIXED, PRICES.__getitem__)] * 2
    curves = [LOST * weight for weight in rng.random(2) + 0.1]
    steps = sorted(
        ((low.distortion - high.distortion) / (high.cost - low.cost), high.cost - low.cost)
        for one, values in zip(made, curves, strict=True)
        for low, high in itertools.pairwise(one.rungs(values))
    )
    budget = allocate.total(made, allocate.smallest(made)) + sum(cost for _, cost in steps[int(rng.integers(6)) :])

    def lost(forms: Forms) -> float:
        return float(sum(curve[MIXED.index(form)] for curve, form in zip(curves, forms, strict=True)))

    found = allocate.best(made, curves, budget)
    assert found is not None
    tried = (list(forms) for forms in itertools.product(MIXED, repeat=2))
    assert lost(found) == pytest.approx(min(lost(forms) for forms in tried if allocate.total(made, forms) <= budget))


def test_one_ratio_and_one_error_take_mixed_forms_too() -> None:
    made = [allocate.ladder(MIXED, PRICES.__getitem__)] * 2
    assert list(map(str, allocate.at_ratio(made, 0.3))) == ["dense int8"] * 2
    assert list(map(str, allocate.at_error(made, [LOST, LOST / 10], 0.3))) == ["dense", "halves int8"]
    assert list(map(str, allocate.within(made, 130) or [])) == ["halves"] * 2


# The search


class MixedSpace(SearchSpace):
    """The three layers, which may become any of the mixed forms, at made-up costs and with made-up curves."""

    @cached_property
    def menus(self) -> list[Menu]:
        return [MIXED] * len(self.layers)

    def params_of(self, layer: Layer, form: Form) -> float:
        return layer.params * PRICES[form] / 100

    def curves(self, read: Callable[[Spectra, Form], float]) -> list[Curve]:
        del read
        return [LOST * weight for weight in WEIGHTS]


WEIGHTS = (1.0, 0.1, 3.0)
WHOLE = sum(layer.params for layer in THREE)


def mixed(**target: object) -> MixedSpace:
    return MixedSpace(make_target(**target), THREE, None, DALR, WHOLE, 4 * WHOLE, lambda forms: 0)  # type: ignore[arg-type]


def lost_by(forms: Forms) -> float:
    return float(sum(weight * LOST[MIXED.index(form)] for weight, form in zip(WEIGHTS, forms, strict=True)))


def judged() -> tuple[Judge, list[Plan]]:
    """Scores by what the curves say, in hundredths; and every plan it was asked about."""
    seen: list[Plan] = []

    def score(plan: Plan) -> Trial:
        seen.append(plan)
        lost = lost_by(list(plan.forms)) / 100
        return Trial(lost, lost, lost)

    return Judge(score, lambda space: Fixed(space.tails)), seen


@pytest.mark.parametrize("share", [20, 30, 50, 80])
def test_a_budget_of_parameters_is_spent_on_mixed_forms(share: int) -> None:
    judge, seen = judged()
    space = mixed(params=f"{share}%")
    plan = make_plan(space, judge)
    assert {form for each in seen for form in each.forms} <= set(MIXED)
    assert all(space.params_at(list(each.forms)) <= share / 100 * WHOLE for each in seen)
    assert lost_by(list(plan.forms)) == min(lost_by(list(each.forms)) for each in seen)


def test_such_a_plan_has_forms_of_both_structures_and_both_formats() -> None:
    judge, seen = judged()
    for share in range(12, 100, 4):
        make_plan(mixed(params=f"{share}%"), judge)
    assert {form for each in seen for form in each.forms} >= {
        Form("halves", (), "int8"),
        Form("pair", (4,), "int8"),
        Form("dense", (), "int8"),
        UNTOUCHED,
    }


def test_what_cannot_be_met_by_any_form_names_the_closest_that_can() -> None:
    with pytest.raises(TargetError) as error:
        make_plan(mixed(params="9%"), None)
    closest = int(error.value.hint.split("--params ")[1].split(";")[0])
    assert make_plan(mixed(params=closest), None).forms == (Form("pair", (4,), "int8"),) * 3


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(0.001, 0.2))
def test_a_tolerance_is_searched_for_among_mixed_forms(max_drop: float) -> None:
    judge, seen = judged()
    space = mixed(max_drop=max_drop)
    try:
        plan = make_plan(space, judge)
    except TargetError:
        assert all(lost_by(list(each.forms)) / 100 > max_drop for each in seen)
        return
    assert lost_by(list(plan.forms)) / 100 <= max_drop
    assert plan.forms in [each.forms for each in seen]
    assert plan.evaluations == len(seen) <= EVALUATIONS


def test_more_tolerance_is_no_larger_model_and_forms_get_cheaper_with_it() -> None:
    sizes = []
    for max_drop in (0.005, 0.02, 0.05, 0.1, 0.2):
        space = mixed(max_drop=max_drop)
        sizes.append(space.params_at(list(make_plan(space, judged()[0]).forms)))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2


# A cost of one's own

TIMES = {"fc0": 1, "fc1": 9, "fc2": 4}
ELSEWHERE = 5000


@dataclass(frozen=True, eq=False)
class RunsBudget:
    """At most so many runs of weights, some of which are not in layers."""

    space: SearchSpace
    limit: int
    leaves_rest: bool = False

    @cached_property
    def ladders(self) -> list[Ladder]:
        return self.space.ladders_at(lambda layer, form: TIMES[layer.name] * self.space.params_of(layer, form))

    def meet(self, allot: Allot) -> Forms | None:
        return allot(self.limit - ELSEWHERE)

    def refusal(self) -> TargetError:
        closest = ELSEWHERE + allocate.total(self.ladders, allocate.smallest(self.ladders))
        return TargetError(f"--runs {self.limit} cannot be reached", f"the closest is --runs {closest:.0f}")


@dataclass(frozen=True)
class Runs:
    """Multiply-adds: a layer runs as often as its data ask for."""

    name: str = "runs"
    measure: str = "runs of weights"

    def whole(self, space: SearchSpace) -> int:
        return ELSEWHERE + sum(TIMES[layer.name] * layer.params for layer in space.layers)

    def budget(self, space: SearchSpace, limit: int) -> RunsBudget:
        return RunsBudget(space, limit)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SearchSpace]:
    """Registers the cost; makes the space of a target of that kind."""
    monkeypatch.setitem(COSTS, "runs", Runs())

    def space(amount: str) -> SearchSpace:
        known = posed()
        target = Target("runs", amount=parse_amount(amount, "--runs"))  # type: ignore[arg-type]
        return SearchSpace(target, known.layers, known.learned, DALR, known.params, known.bytes, known.weigh)

    return space


def runs_of(space: SearchSpace, plan: Plan) -> float:
    return ELSEWHERE + allocate.total(RunsBudget(space, 0).ladders, list(plan.forms))


@pytest.mark.parametrize("amount", ["30%", "50%", "20k"])
def test_a_new_cost_is_a_target(runs: Callable[[str], SearchSpace], amount: str) -> None:
    space = runs(amount)
    plan = make_plan(space, None)
    assert plan.target == f"runs {space.target.amount}"
    assert plan.compressed
    assert plan.compressed[0].reason == f"{EQUAL}, so that the model meets its runs of weights"
    assert space.target.amount is not None
    assert runs_of(space, plan) <= space.target.amount.of(Runs().whole(space))


def test_it_is_divided_by_trials_like_every_other_and_where_it_counts(runs: Callable[[str], SearchSpace]) -> None:
    scored, fixed, space = Scored(moved), Fixed(UNEVEN), runs("40%")
    plan = make_plan(space, Judge(scored, lambda space: fixed))
    assert 1 < len(scored.plans) <= most_trials("runs", 1, 3) == 4  # type: ignore[arg-type]
    assert all(runs_of(space, each) <= 0.4 * Runs().whole(space) for each in scored.plans)
    by_params = make_plan(posed(params="40%"), Judge(Scored(moved), lambda space: Fixed(UNEVEN)))
    assert ranks_of(plan) != ranks_of(by_params)


def test_what_it_cannot_reach_it_refuses_in_its_own_words(runs: Callable[[str], SearchSpace]) -> None:
    with pytest.raises(TargetError, match="--runs 500 cannot be reached") as error:
        make_plan(runs("500"), None)
    closest = error.value.hint.split("--runs ")[1]
    assert list(make_plan(runs(closest), None).forms) == pairs(1, 1, 1)
