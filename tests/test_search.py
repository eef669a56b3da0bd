"""A Target becomes a Plan, in few evaluations, and ends on a plan that was itself scored."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import METHODS, Method, Spectrum, Statistics
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.model import load
from onnx_dalr.plan import Plan, make_target
from onnx_dalr.search import EVALUATIONS, Trial, make_plan, sizes_of
from onnx_dalr.units import parse_points

DALR, SVD = METHODS["dalr"], METHODS["svd"]
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
