"""A Target becomes a Plan, in few evaluations, and ends on a plan that was itself scored."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr import allocate
from onnx_dalr.allocate import Curve, Ranks
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import METHODS, Method, Spectrum, Statistics
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.model import load
from onnx_dalr.plan import Plan, make_target
from onnx_dalr.search import EVALUATIONS, Trial, make_plan, sizes_of
from onnx_dalr.units import parse_points

DALR, SVD, SVD_BC = METHODS["dalr"], METHODS["svd"], METHODS["svd-bc"]
Scorer = Callable[[Plan], Trial]


def zeros(count: int) -> str:
    return "{" + ", ".join(["0"] * count) + "}"


def layers_of(*shapes: tuple[int, int], biased: bool = True) -> list[Layer]:
    """A chain of layers fc0, fc1, … of these (m, n), each with a bias of its own or none."""
    lines, constants = [], []
    for i, (m, n) in enumerate(shapes):
        constants.append(f"float[{m}, {n}] W{i} = {zeros(m * n)}, float[{m}] b{i} = {zeros(m)}")
        lines.append(f"[fc{i}] y{i} = Gemm <transB = 1> (x{i}, W{i}{f', b{i}' if biased else ''})")
    inputs = ", ".join(f"float[N, {n}] x{i}" for i, (_, n) in enumerate(shapes))
    outputs = ", ".join(f"float[N, {m}] y{i}" for i, (m, _) in enumerate(shapes))
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}) <{", ".join(constants)}> '
    layers, _ = find(load(onnx.parser.parse_model(text + "{ " + "\n".join(lines) + " }")))
    assert [layer.name for layer in layers] == [f"fc{i}" for i in range(len(shapes))]
    return layers


def spectra_of(layers: list[Layer], method: Method = DALR) -> dict[str, Spectrum]:
    found = {}
    for seed, layer in enumerate(layers):
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((layer.m, layer.n))
        stats = Statistics(layer.m, layer.n, method.needs(layer.m, layer.n))
        stats.update(rng.standard_normal((200, layer.n)) * 0.9 ** np.arange(layer.n), W)
        found[layer.name] = method.spectrum(W, stats, None)
    return found


THREE = layers_of((40, 60), (60, 40), (30, 30))
SPECTRA = spectra_of(THREE)
PARAMS = sum(layer.params + layer.m for layer in THREE)


class Scored:
    """A drop that depends on the share of the parameters that is left, and every plan it was asked about."""

    def __init__(self, drop: Callable[[dict[str, int | None]], float]) -> None:
        self.drop, self.plans = drop, list[Plan]()

    def __call__(self, plan: Plan) -> Trial:
        self.plans.append(plan)
        drop = self.drop({choice.layer: choice.rank for choice in plan.choices})
        return Trial(drop, drop)


def kept(ranks: dict[str, int | None]) -> float:
    sizes = dict(zip(ranks, sizes_of(THREE, DALR), strict=True))
    whole = sum(size.params(None) for size in sizes.values())
    return sum(sizes[name].params(rank) for name, rank in ranks.items()) / whole


def plan(scored: Scorer | None, **target: object) -> Plan:
    return make_plan(make_target(**target), THREE, SPECTRA, DALR, PARAMS, scored)  # type: ignore[arg-type]


def ranks_of(found: Plan) -> list[int | None]:
    return [choice.rank for choice in found.choices]


# Ranks as asked


def test_one_rank_is_for_every_layer_without_scoring_anything() -> None:
    scored = Scored(lambda ranks: 0.0)
    found = plan(scored, rank=5)
    assert ranks_of(found) == [5, 5, 5]
    assert (found.method, found.evaluations, scored.plans) == ("dalr", 0, [])
    assert {choice.reason for choice in found.choices} == {"as asked"}


def test_the_last_rank_rule_that_matches_counts() -> None:
    assert ranks_of(plan(None, rank=["fc*=7", "W1=3"])) == [7, 3, 7]
    assert ranks_of(plan(None, rank=["W1=3", "fc*=7"])) == [7, 7, 7]


def test_layers_no_rule_matches_stay_dense_and_say_so() -> None:
    found = plan(None, rank="fc1=3")
    assert ranks_of(found) == [None, 3, None]
    assert found.choices[0].reason == "no --rank for it"


def test_a_rank_at_or_above_break_even_keeps_the_layer_dense_and_says_so() -> None:
    # fc2 is 30 × 30: rank 15 would have as many parameters, 14 is the largest that saves some.
    assert ranks_of(plan(None, rank="fc2=14")) == [None, None, 14]
    for rank in (15, 999):
        found = plan(None, rank=f"fc2={rank}")
        assert ranks_of(found) == [None, None, None]
        assert found.choices[2].reason == f"rank {rank} would not make it smaller: 14 is the largest"


def test_break_even_counts_a_bias_that_has_to_be_added() -> None:
    (bare,) = layers_of((30, 30), biased=False)
    assert [size.largest_rank for size in sizes_of([bare], DALR)] == [14]
    (bare,) = layers_of((40, 10), biased=False)
    assert [size.largest_rank for size in sizes_of([bare], SVD)] == [7]
    assert [size.largest_rank for size in sizes_of([bare], DALR)] == [7]
    (bare,) = layers_of((100, 4), biased=False)
    assert [size.largest_rank for size in sizes_of([bare], SVD)] == [3]
    assert [size.largest_rank for size in sizes_of([bare], DALR)] == [2]


# A number of parameters


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(500, PARAMS))
def test_parameters_are_met_by_one_keep_ratio(budget: int) -> None:
    found = plan(None, params=budget)
    rest = PARAMS - sum(layer.params for layer in THREE)
    assert rest + kept(dict(zip("abc", ranks_of(found), strict=True))) * (PARAMS - rest) <= budget + 1e-6


def test_a_share_is_of_the_whole_models_parameters() -> None:
    assert ranks_of(plan(None, params="50%")) == ranks_of(plan(None, params=PARAMS // 2))


def test_parameters_that_cannot_be_reached_name_the_closest_that_can() -> None:
    with pytest.raises(TargetError, match="--params 1% cannot be reached") as error:
        plan(None, params="1%")
    assert error.value.exit_code == 3
    closest = int(error.value.hint.split("--params ")[1].split(";")[0])
    assert ranks_of(plan(None, params=closest)) == [1, 1, 1]
    with pytest.raises(TargetError):
        plan(None, params=closest - 1)


def test_more_parameters_than_there_are_keep_everything_dense() -> None:
    found = plan(None, params=PARAMS)
    assert found.compressed == ()
    assert {choice.reason for choice in found.choices} == {"dense: the target is met without it"}


# A drop


def test_a_drop_cannot_be_measured_without_held_out_samples() -> None:
    with pytest.raises(InputError, match="no drop can be measured") as error:
        plan(None, max_drop="1%")
    assert "--params" in error.value.hint


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.1, 0.9))
def test_the_search_finds_nearly_the_smallest_model_within_the_drop_in_eight_evaluations(needed: float) -> None:
    scored = Scored(lambda ranks: 0.0 if kept(ranks) >= needed else 0.5)
    found = plan(scored)
    assert found.evaluations == len(scored.plans) <= EVALUATIONS == 8
    assert found.choices in [tried.choices for tried in scored.plans]
    share = kept(dict(zip(("fc0", "fc1", "fc2"), ranks_of(found), strict=True)))
    assert needed <= share < 1.15 * needed + 0.03


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_however_the_score_jumps_the_plan_is_one_that_was_within_the_drop(seed: int, max_drop: float) -> None:
    drops: dict[tuple[int | None, ...], float] = {}

    def drop(ranks: dict[str, int | None]) -> float:
        return drops.setdefault(tuple(ranks.values()), np.random.default_rng(seed + len(drops)).random())

    scored = Scored(drop)
    try:
        found = plan(scored, max_drop=max_drop)
    except TargetError:
        assert min(drops.values()) > max_drop
    else:
        assert drops[tuple(ranks_of(found))] <= max_drop
        assert found.compressed
    assert len(scored.plans) == len(drops) <= EVALUATIONS


def test_no_plan_is_scored_twice() -> None:
    scored = Scored(lambda ranks: 0.0)
    plan(scored)
    tried = [tuple(ranks_of(each)) for each in scored.plans]
    assert len(set(tried)) == len(tried)


def test_where_nothing_is_lost_the_search_ends_near_rank_one() -> None:
    found = plan(Scored(lambda ranks: 0.0))
    assert kept(dict(zip("abc", ranks_of(found), strict=True))) < 0.1
    assert found.choices[0].reason == "one keep ratio for all layers, the smallest that stays within the drop"


def test_a_layer_that_cannot_give_anything_stays_dense_while_the_others_give() -> None:
    layers = layers_of((40, 60), (30, 30))
    spectra = spectra_of(layers)
    flat = np.ones_like(spectra["fc1"].tails) * spectra["fc1"].power
    spectra["fc1"] = Spectrum(**{**spectra["fc1"].__dict__, "tails": flat, "errors": flat})
    scored = Scored(lambda ranks: 0.0 if ranks["fc1"] is None else 0.5)
    found = make_plan(make_target(max_drop="1%"), layers, spectra, DALR, 10_000, scored)
    rank, other = ranks_of(found)
    assert rank is not None
    assert other is None
    assert found.choices[0].reason.startswith("one expected error for all layers")
    assert found.choices[1].reason.startswith("dense")
    assert found.evaluations == len(scored.plans) <= EVALUATIONS


def test_a_drop_that_nothing_stays_within_says_what_the_best_loses() -> None:
    with pytest.raises(TargetError, match=r"within a drop of 1 %.* loses 4\.20 points") as error:
        plan(Scored(lambda ranks: 0.042))
    assert error.value.exit_code == 3
    assert "--max-drop 4.2%" in error.value.hint


def test_models_that_give_no_numbers_at_all_do_not_meet_the_target() -> None:
    with pytest.raises(TargetError, match="nothing that saves parameters"):
        plan(Scored(lambda ranks: float("inf")))


@pytest.mark.parametrize("drop", [1.0, 1.7])
def test_the_hint_never_proposes_a_drop_that_would_be_refused(drop: float) -> None:
    with pytest.raises(TargetError) as error:
        plan(Scored(lambda ranks: drop))
    for proposed in re.findall(r"--max-drop (\S+%)", error.value.hint):
        assert parse_points(proposed, "--max-drop") >= drop


# A layer whose new bias outweighs what any rank saves


@pytest.mark.parametrize("target", [{"params": "60%"}, {"params": 2100}, {"max_drop": "1%"}])
def test_a_layer_that_no_rank_makes_smaller_stays_dense(target: dict[str, str]) -> None:
    layers = layers_of((100, 2), (60, 60), biased=False)
    scored = Scored(lambda ranks: 0.0)
    found = make_plan(make_target(**target), layers, spectra_of(layers), DALR, 3800, scored)  # type: ignore[arg-type]
    assert found.choices[0].rank is None
    assert found.choices[1].rank is not None


def test_where_no_layer_can_be_made_smaller_all_stay_dense() -> None:
    layers = layers_of((100, 2), biased=False)
    found = make_plan(make_target(), layers, spectra_of(layers), DALR, 200, Scored(lambda ranks: 0.0))
    assert found.compressed == ()


# With measured sensitivities


class Fixed:
    """Sensitivities that are known from the start, and the ranks they were asked for."""

    def __init__(self, curves: list[Curve]) -> None:
        self._curves, self.measured = curves, list[Ranks]()

    def measure(self, ranks: Ranks) -> None:
        self.measured.append(list(ranks))

    def curves(self) -> list[Curve]:
        return self._curves


def curves_of(layers: list[Layer], weights: tuple[float, ...]) -> list[Curve]:
    """Tails times a weight each: what a layer's error is to the output."""
    sizes = sizes_of(layers, DALR)
    return [
        weight * SPECTRA[layer.name].tails[: size.largest_rank + 1]
        for layer, size, weight in zip(layers, sizes, weights, strict=True)
    ]


UNEVEN = curves_of(THREE, (1.0, 1e-4, 10.0))
SIZES = sizes_of(THREE, DALR)
DENSE = allocate.total(SIZES, [None] * 3)


def moved(ranks: dict[str, int | None]) -> float:
    """What the output loses, if the curves tell the truth."""
    return float(sum(curve[rank] for curve, rank in zip(UNEVEN, ranks.values(), strict=True) if rank is not None))


class Moved(Scored):
    """Scores by the distortion of the curves; the drop is some function of it."""

    def __init__(self, distortion: Callable[[dict[str, int | None]], float] = moved) -> None:
        super().__init__(distortion)


def ranks_by_name(found: Plan) -> dict[str, int | None]:
    return {choice.layer: choice.rank for choice in found.choices}


def felt(scored: Scorer | None, fixed: Fixed | None = None, **target: object) -> Plan:
    fixed = fixed or Fixed(UNEVEN)
    return make_plan(make_target(**target), THREE, SPECTRA, DALR, PARAMS, scored, lambda: fixed)  # type: ignore[arg-type]


def cost(found: Plan) -> int:
    return allocate.total(SIZES, ranks_of(found))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.1, 0.95))
def test_every_candidate_meets_the_same_parameters_and_leaves_none_a_step_could_take(share: float) -> None:
    scored, budget = Moved(), int(share * DENSE)
    felt(scored, params=PARAMS - DENSE + budget)
    assert 1 <= len(scored.plans) <= 3
    for number, tried in enumerate(scored.plans):
        left = budget - cost(tried)
        assert left >= 0
        for size, rank in zip(SIZES, ranks_of(tried), strict=True):
            above = rank + 1 if rank is not None and rank < size.largest_rank else None
            # One ratio for all steps all layers at once; the others fill what is left.
            assert number == 0 or rank is None or size.params(above) - size.params(rank) > left


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_the_candidate_that_moves_the_outputs_least_wins_and_the_reason_names_the_others(winner: int) -> None:
    names = ("one keep ratio for all layers", "ranks by the error of each layer", "ranks by measured sensitivity")
    scored = Scored(lambda ranks: 0.125 if len(scored.plans) == winner + 1 else 0.5 + len(scored.plans))
    found = felt(scored, params="50%")
    assert found.evaluations == len(scored.plans) == 3
    assert ranks_of(found) == ranks_of(scored.plans[winner])
    others = ", ".join(f"{name} {1.5 + i:.3g}" for i, name in enumerate(names) if i != winner)
    why = f"{names[winner]}, the least distortion of the select samples: 0.125 ({others})"
    assert {choice.reason for choice in found.compressed} == {why}
    assert found.compressed


def test_measured_sensitivity_wins_where_it_tells_the_truth() -> None:
    found = felt(Moved(), params="60%")
    assert found.choices[0].reason.startswith("ranks by measured sensitivity")
    assert moved(ranks_by_name(found)) < moved(ranks_by_name(plan(None, params="60%"))) / 2
    equal = ranks_of(plan(None, params="60%"))
    _, felt_least, felt_most = ranks_of(found)
    assert felt_least is not None
    assert felt_least < (equal[1] or 0)
    assert felt_most is None


def test_where_all_do_equally_well_one_ratio_is_kept() -> None:
    found = felt(Moved(lambda ranks: 0.25), params="50%")
    assert ranks_of(found) == ranks_of(plan(None, params="50%"))


def test_a_candidate_that_gives_no_numbers_never_wins() -> None:
    scored = Scored(lambda ranks: float("inf") if len(scored.plans) != 2 else 5.0)
    found = felt(scored, params="50%")
    assert ranks_of(found) == ranks_of(scored.plans[1])
    assert found.choices[0].reason.startswith("ranks by the error of each layer")


def test_sensitivity_is_measured_near_the_proposed_ranks() -> None:
    fixed = Fixed(UNEVEN)
    felt(Moved(), fixed, params="50%")
    equal = plan(None, params="50%")
    assert fixed.measured[0] == ranks_of(equal)
    assert len(fixed.measured) == 3, "at the equal ratio, at half of it, and where its own answer lies"
    assert fixed.measured[2] == allocate.best(SIZES, UNEVEN, int(0.5 * PARAMS) - PARAMS + DENSE)
    for near, size in zip(fixed.measured[1], SIZES, strict=True):
        assert near is not None
        assert 1 <= near <= size.largest_rank


def test_without_select_samples_it_is_one_ratio_for_all_and_nothing_is_measured() -> None:
    fixed = Fixed(UNEVEN)
    found = felt(None, fixed, params="50%")
    assert ranks_of(found) == ranks_of(plan(None, params="50%"))
    assert found.choices[0].reason == "one keep ratio for all layers, so that the model meets its parameters"
    assert (fixed.measured, found.evaluations) == ([], 0)


def test_parameters_that_cannot_be_reached_are_refused_before_anything_is_measured() -> None:
    scored, fixed = Moved(), Fixed(UNEVEN)
    with pytest.raises(TargetError, match="cannot be reached"):
        felt(scored, fixed, params="1%")
    assert (scored.plans, fixed.measured) == ([], [])


def test_parameters_that_are_there_already_need_no_measuring() -> None:
    scored, fixed = Moved(), Fixed(UNEVEN)
    assert felt(scored, fixed, params=PARAMS).compressed == ()
    assert (scored.plans, fixed.measured) == ([], [])


# A drop, with measured sensitivities

SPANS = [10.0**power for power in np.arange(-6, 2, 0.5)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(-6, 1).map(lambda power: 10**power))
def test_a_drop_takes_at_most_eight_evaluations_and_ends_on_a_plan_that_was_scored(worth: float) -> None:
    scored = Moved(lambda ranks: worth * moved(ranks))
    try:
        found = felt(scored, max_drop=0.01)
    except TargetError:
        assert all(worth * moved(ranks_by_name(tried)) > 0.01 for tried in scored.plans)
    else:
        assert found.evaluations == len(scored.plans)
        assert found.choices in [tried.choices for tried in scored.plans]
        assert worth * moved(ranks_by_name(found)) <= 0.01
        passed = [tried for tried in scored.plans if worth * moved(ranks_by_name(tried)) <= 0.01]
        assert cost(found) == min(map(cost, passed)), "the smallest of those that pass"
        assert found.choices[0].reason.startswith(("dense", "ranks by measured sensitivity, the smallest model"))
    assert len(scored.plans) <= EVALUATIONS


def test_who_allows_more_never_gets_a_larger_model() -> None:
    before = np.inf
    reached = []
    for max_drop in np.geomspace(1e-4, 0.9, 60):
        try:
            found = felt(Moved(lambda ranks: moved(ranks) / 50), max_drop=float(max_drop))
        except TargetError:
            assert before == np.inf, "what a smaller drop reached a larger one reaches"
            continue
        assert cost(found) <= before, f"at {max_drop}"
        before = cost(found)
        reached.append(before)
    assert len(set(reached)) > 5


def test_the_search_comes_close_to_the_smallest_model_within_the_drop() -> None:
    for max_drop in (0.003, 0.01, 0.03, 0.1, 0.3):
        found = felt(Moved(lambda ranks: moved(ranks) / 50), max_drop=max_drop)
        budgets = np.arange(allocate.total(SIZES, allocate.smallest(SIZES)), DENSE, 10)
        within = [
            budget
            for budget in budgets
            if moved(dict(zip("abc", allocate.best(SIZES, UNEVEN, int(budget)) or [], strict=True))) / 50 <= max_drop
        ]
        assert cost(found) <= 1.15 * min(within) + 0.01 * DENSE


def test_sensitivity_is_measured_again_where_the_search_has_got_to() -> None:
    fixed, scored = Fixed(UNEVEN), Moved(lambda ranks: moved(ranks) / 50)
    felt(scored, fixed, max_drop=0.03)
    assert fixed.measured[:2] == [allocate.at_ratio(SIZES, ratio, small_too=True) for ratio in (0.5, 0.15)]
    assert len(fixed.measured) == 4
    assert all(ranks in [ranks_of(tried) for tried in scored.plans] for ranks in fixed.measured[2:])


def test_with_sensitivities_too_no_plan_is_scored_twice() -> None:
    for worth in SPANS:
        scored = Moved(lambda ranks, worth=worth: worth * moved(ranks))  # type: ignore[misc]
        with suppress(TargetError):
            felt(scored, max_drop=0.01)
        tried = [tuple(ranks_of(each)) for each in scored.plans]
        assert len(set(tried)) == len(tried)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_however_the_score_jumps_sensitivities_end_within_the_drop(seed: int, max_drop: float) -> None:
    drops: dict[tuple[int | None, ...], float] = {}

    def drop(ranks: dict[str, int | None]) -> float:
        return drops.setdefault(tuple(ranks.values()), np.random.default_rng(seed + len(drops)).random())

    try:
        found = felt(Scored(drop), max_drop=max_drop)
    except TargetError:
        assert min(drops.values()) > max_drop
    else:
        assert drops[tuple(ranks_of(found))] <= max_drop
        assert found.compressed
    assert len(drops) <= EVALUATIONS


def test_where_nothing_is_lost_the_search_by_sensitivity_ends_near_rank_one_too() -> None:
    found = felt(Moved(lambda ranks: 0.0))
    assert cost(found) < 0.1 * DENSE


@pytest.mark.parametrize(("drop", "message"), [(0.042, r"loses 4\.20 points"), (float("inf"), "gives NaN or infinity")])
def test_a_drop_that_no_sensitivity_helps_to_meet_says_what_the_best_loses(drop: float, message: str) -> None:
    scored = Scored(lambda ranks: drop)
    with pytest.raises(TargetError, match=message) as error:
        felt(scored)
    assert error.value.exit_code == 3
    assert f"the best of {len(scored.plans)} candidates" in str(error.value)
    assert 1 <= len(scored.plans) <= EVALUATIONS


def test_one_layer_has_nothing_to_weigh_and_is_searched_by_its_ratio() -> None:
    layers = layers_of((40, 60))
    fixed = Fixed([SPECTRA["fc0"].tails])
    scored = Scored(lambda ranks: 0.0)
    for target in (make_target(), make_target(params="50%")):
        found = make_plan(target, layers, spectra_of(layers), DALR, 2440, scored, lambda: fixed)
        assert found.compressed
    assert fixed.measured == []


# No rank of the first saves anything, and all that the others can save is nothing beside it.
BESIDE = ((9000, 2), (6, 6), (6, 6))


def beside_a_large_one(count: int, scored: Scorer) -> Plan:
    layers = layers_of(*BESIDE[: count + 1], biased=False)
    sizes, spectra = sizes_of(layers, SVD_BC), spectra_of(layers, SVD_BC)
    assert [size.largest_rank for size in sizes] == [0, 2, 2][: count + 1]
    curves = [spectra[layer.name].tails[: size.largest_rank + 1] for layer, size in zip(layers, sizes, strict=True)]
    return make_plan(make_target(), layers, spectra, SVD_BC, 18_072, scored, lambda: Fixed(curves))


@pytest.mark.parametrize("count", [1, 2])
def test_layers_that_are_tiny_beside_one_that_stays_dense_are_searched_all_the_same(count: int) -> None:
    scored = Scored(lambda ranks: 0.0)
    found = beside_a_large_one(count, scored)
    assert len(found.compressed) == count
    assert found.evaluations == len(scored.plans) >= 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("drop", [0.042, float("inf")])
def test_where_such_layers_lose_too_much_that_is_said(count: int, drop: float) -> None:
    with pytest.raises(TargetError, match="nothing that saves parameters"):
        beside_a_large_one(count, Scored(lambda ranks: drop))


def test_such_layers_are_told_apart_as_finely_as_if_they_were_alone() -> None:
    def lost(ranks: dict[str, int | None]) -> float:
        return 0.0 if sum(ranks[name] or 3 for name in ("fc1", "fc2")) >= 3 else 0.5

    found = beside_a_large_one(2, Scored(lost))
    assert sorted(choice.rank or 3 for choice in found.choices[1:]) == [1, 2]
