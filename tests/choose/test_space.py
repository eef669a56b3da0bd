"""What there is to decide on, and budgets that are met to the last step."""

from __future__ import annotations

from itertools import product
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.candidate.forms import largest_rank, params_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.costs.bytes import BytesBudget
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED
from onnx_dalr.graph.layers import Layer
from tests.choose.allocate_cases import curve, menu, pair, pairs, steady
from tests.choose.search_cases import (
    DALR,
    PARAMS,
    SPECTRA,
    SVD,
    SVD_BC,
    THREE,
    decided,
    layers_of,
    posed,
    rank_of,
    ranks_of,
    spectra_of,
    spectrum_in,
)

often = settings(max_examples=100, deadline=None, derandomize=True)


# The choices of each layer


def test_break_even_counts_a_bias_that_has_to_be_added() -> None:
    (bare,) = layers_of((30, 30), biased=False)
    assert largest_rank(bare, DALR) == 14
    (bare,) = layers_of((100, 4), biased=False)
    assert largest_rank(bare, SVD) == 3
    assert largest_rank(bare, DALR) == 2
    assert [one.forms for one in posed([bare], params="50%").ladders] == [menu(1, 2, None)]


def test_pins_multiples_and_the_least_rank_shape_the_ladders() -> None:
    ladders = posed(params="50%", rank=["fc0=7", "fc2=keep"], rank_multiple=5, min_rank=6).ladders
    assert [one.forms for one in ladders] == [menu(7), menu(10, 15, 20, None), menu(None)]
    assert [one.whole for one in ladders] == [2400, 2400, 900]
    assert ladders[0].costs.tolist() == [700]


def test_a_rank_pinned_where_it_saves_nothing_leaves_the_layer_dense() -> None:
    ladders = posed(params="50%", rank=["fc2=15", "fc0=23", "fc1=24"]).ladders
    assert [one.forms for one in ladders] == [menu(23), menu(None), menu(None)]


def test_costs_that_are_no_parameters_keep_pins_and_multiples() -> None:
    space, times = posed(params="50%", rank="fc0=7", rank_multiple=4), {"fc0": 10.0, "fc1": 20.0, "fc2": 30.0}
    made = space.ladders_at(lambda layer, form: times[layer.name] * (100 if form.untouched else form.rank[0]))
    assert [one.forms for one in made] == [menu(7), menu(4, 8, 12, 16, 20, None), menu(4, 8, 12, None)]
    assert made[0].costs.tolist() == [70.0]
    assert made[2].costs.tolist() == [120.0, 240.0, 360.0, 3000.0]


def test_the_parameters_of_the_whole_model_are_those_of_the_layers_and_the_rest() -> None:
    space = posed(params="50%")
    assert space.rest == 40 + 60 + 30
    assert space.params_at(pairs(None, None, None)) == PARAMS
    assert space.params_at(pairs(3, None, 2)) == 130 + 300 + 2400 + 120


@pytest.mark.parametrize(
    ("target", "saves"),
    [({}, True), ({"rank": "fc*=keep"}, False), ({"rank": ["fc*=keep", "fc1=2"]}, True), ({"min_rank": 24}, False)],
)
def test_a_space_saves_where_a_layer_may_be_anything_but_as_it_is(target: dict[str, object], saves: bool) -> None:
    assert posed(**{"params": "50%", **target}).saves is saves


def test_tails_are_shares_of_each_layers_own_output_in_every_form_that_saves() -> None:
    for tails, spectrum, largest in zip(posed(params="50%").tails, SPECTRA.values(), (23, 23, 14), strict=True):
        np.testing.assert_allclose(tails, curve(*spectrum.tails[1 : largest + 1] / spectrum.power))


def test_other_factors_have_their_own_spectra_and_fall_back_on_the_default() -> None:
    other = spectra_of(THREE, SVD_BC)
    space = posed(THREE, {"default": SPECTRA, "svd-bc": {"fc1": other["fc1"]}}, params="50%")
    assert space.with_factors("default") is space
    assert space.names_of_factors == ("default", "svd-bc")
    changed = space.with_factors("svd-bc")
    assert [spectrum_in(changed, layer) for layer in THREE] == [SPECTRA["fc0"], other["fc1"], SPECTRA["fc2"]]


def test_before_the_samples_were_looked_at_there_are_no_spectra_and_no_factors() -> None:
    space = posed(THREE, {}, params="50%")
    assert space.spectra(THREE[0]) is None
    assert space.names_of_factors == ()


# A number of parameters


@pytest.mark.parametrize("target", [{}, {"rank": "fc0=7"}, {"rank": "fc1=keep"}, {"rank_multiple": 4}, {"min_rank": 5}])
def test_parameters_that_cannot_be_reached_name_the_closest_that_can(target: dict[str, object]) -> None:
    with pytest.raises(TargetError, match="--params 1% cannot be reached") as error:
        decided(params="1%", **target)
    assert error.value.exit_code == 3
    closest = int(error.value.hint.split("--params ")[1].split(";")[0])
    assert list(decided(params=closest, **target).forms) == allocate.smallest(posed(params="1%", **target).ladders)
    with pytest.raises(TargetError):
        decided(params=closest - 1, **target)


def test_what_is_left_for_the_layers_is_the_limit_less_the_rest() -> None:
    seen: list[float] = []
    COSTS["params"].budget(posed(params=3000), 3000).meet(seen.append)  # type: ignore[func-returns-value, arg-type]
    assert seen == [3000 - 130]


# Bytes on disk


def ranks(forms: Forms) -> list[int | None]:
    return list(map(rank_of, forms))


class Scale:
    """An artifact that weighs its values, nodes that differ by layer, and a few bytes nobody foresees."""

    def __init__(self, layers: list[Layer], seed: int, *, nodes: tuple[int, int] = (80, 300), jitter: int = 30) -> None:
        rng = np.random.default_rng(seed)
        self.layers, self.seed, self.jitter = layers, seed, jitter
        self.nodes = [int(rng.integers(*nodes)) for _ in layers]
        self.weighed, self.itemsize = 0, 4

    def __call__(self, forms: Forms) -> int:
        self.weighed += 1
        values = sum(self.itemsize * params_of(*each, DALR) for each in zip(self.layers, forms, strict=True))
        nodes = sum(node for node, form in zip(self.nodes, forms, strict=True) if not form.untouched)
        unforeseen = crc32(repr((self.seed, ranks(forms))).encode()) % (self.jitter + 1)
        return 1000 + values + nodes + unforeseen


def weighed(layers: list[Layer], scale: Scale, **target: object) -> SearchSpace:
    return posed(layers, {}, weigh=scale, on_disk=scale([UNTOUCHED] * len(layers)), **target)


def raised(space: SearchSpace, forms: Forms) -> list[Forms]:
    """The forms with one step up, of every layer that has one."""
    ladders = BytesBudget(space, 0).ladders
    return [[*forms[:layer], form, *forms[layer + 1 :]] for _, layer, form in allocate.steps_up(ladders, forms)]


FOUR = layers_of((40, 60), (60, 40), (30, 30), (25, 50))
CURVES = [
    curve(*weight * 0.9 ** np.arange(1, largest_rank(layer, DALR) + 1))
    for layer, weight in zip(FOUR, (1.0, 3.0, 0.1, 1.5), strict=True)
]


@often
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.02), st.booleans(), st.sampled_from([1, 1, 1, 4]))
def test_a_size_is_never_exceeded_and_one_more_step_of_any_layer_would_exceed_it(
    seed: int, share: float, by_curves: bool, multiple: int
) -> None:
    scale = Scale(FOUR, seed)
    limit = int(share * scale([UNTOUCHED] * 4))
    space = weighed(FOUR, scale, size=limit, rank_multiple=multiple)
    budget = BytesBudget(space, limit)

    def allot(amount: float) -> Forms | None:
        if by_curves:
            return allocate.best(budget.ladders, CURVES, amount)
        return allocate.within(budget.ladders, amount)

    forms = budget.meet(allot)
    if forms is None:
        assert scale(allocate.smallest(budget.ladders)) > limit
        return
    assert scale(forms) <= limit
    for step in raised(space, forms):
        assert scale(step) > limit


@often
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.0))
def test_where_one_layer_has_nearly_all_the_nodes_it_is_still_met_to_the_last_step(seed: int, share: float) -> None:
    scale = Scale(FOUR, seed)
    scale.nodes = [40, 40, 2000, 40]
    limit = int(share * scale([UNTOUCHED] * 4))
    space = weighed(FOUR, scale, size=limit)
    budget = BytesBudget(space, limit)
    forms = budget.meet(lambda amount: allocate.best(budget.ladders, CURVES, amount))
    if forms is not None:
        assert scale(forms) <= limit
        assert all(scale(step) > limit for step in raised(space, forms))


@often
@given(st.integers(0, 2**32 - 1), st.floats(0.15, 1.0))
def test_the_artifact_is_weighed_a_handful_of_times(seed: int, share: float) -> None:
    scale = Scale(FOUR, seed)
    space = weighed(FOUR, scale, size="50%")
    budget = BytesBudget(space, int(share * space.bytes))
    budget.meet(lambda amount: allocate.best(budget.ladders, CURVES, amount))
    assert scale.weighed <= 40


@pytest.mark.parametrize("seed", range(8))
def test_a_size_that_cannot_be_reached_names_the_closest_that_can(seed: int) -> None:
    scale = Scale(FOUR, seed)
    with pytest.raises(TargetError, match="--size 1% cannot be reached") as error:
        make_plan(weighed(FOUR, scale, size="1%"), None)
    closest = int(error.value.hint.split("--size ")[1].split(";")[0])
    plan = make_plan(weighed(FOUR, scale, size=closest), None)
    assert scale(list(plan.forms)) == closest
    with pytest.raises(TargetError):
        make_plan(weighed(FOUR, scale, size=closest - 1), None)


def test_the_refusal_says_how_much_is_not_in_the_layers() -> None:
    scale = Scale(THREE, 0, nodes=(100, 101), jitter=0)
    with pytest.raises(TargetError) as error:
        make_plan(weighed(THREE, scale, size="1%"), None)
    smallest = 4 * (100 + 100 + 60)
    assert error.value.message.endswith(
        f"with the smallest ranks 2.34 kB ({100 * 2340 / scale([UNTOUCHED] * 3):.1f} %) remain"
    )
    closest = f"the closest is --size {smallest + 1300}; 1.3 kB are not in eligible layers"
    assert error.value.hint == f"{closest}; --best-effort writes it"


TINY = layers_of((6, 6), (7, 6), (60, 60), biased=True)


def test_where_nodes_make_tiny_layers_dearer_than_dense_they_stay_dense() -> None:
    scale = Scale(TINY, 1, nodes=(400, 500))
    space = weighed(TINY, scale, size="60%")
    assert [one.forms for one in space.ladders[:2]] == [menu(1, 2, None), menu(1, 2, 3, None)]
    budget = BytesBudget(space, int(0.6 * space.bytes))
    assert [one.forms for one in budget.ladders[:2]] == [menu(None), menu(None)]
    forms = list(make_plan(space, None).forms)
    assert [form.untouched for form in forms] == [True, True, False]
    assert scale(forms) <= budget.limit
    assert all(scale(step) > budget.limit for step in raised(space, forms))


def test_a_size_that_the_estimate_puts_out_of_reach_is_met_where_the_artifact_itself_is_small_enough() -> None:
    scale = Scale(TINY, 1, jitter=0)
    scale.nodes = [900, 900, 100]  # on average more than the large layer really has
    limit = scale(pairs(None, None, 1))
    space = weighed(TINY, scale, size=limit)
    assert BytesBudget(space, limit).meet(lambda amount: None) == pairs(None, None, 1)
    assert ranks_of(make_plan(space, None)) == [None, None, 1]


def test_a_layer_with_more_nodes_than_the_others_becomes_dense_where_that_really_fits() -> None:
    scale = Scale(FOUR, 0, jitter=0)
    scale.nodes = [40, 40, 2000, 40]
    near = pairs(5, 5, 12, 5)
    limit = scale(near) + 10
    assert scale(pairs(5, 5, None, 5)) < limit
    found = BytesBudget(weighed(FOUR, scale, size=limit), limit).meet(lambda amount: near)
    assert found is not None
    assert found[2].untouched


def test_a_model_that_is_small_enough_already_stays_as_it_is_though_a_note_would_make_it_larger() -> None:
    scale = Scale(FOUR, 0, jitter=0)
    bytes_before = scale([UNTOUCHED] * 4) - 300
    at_once = posed(FOUR, {}, weigh=scale, on_disk=bytes_before, size="100%")
    assert ranks_of(make_plan(at_once, None)) == [None] * 4
    pinned = posed(FOUR, {}, weigh=scale, on_disk=bytes_before, size="100%", rank="fc0=4")
    found = list(make_plan(pinned, None).forms)
    assert found[0] == pair(4)
    assert scale(found) <= bytes_before


def test_where_nodes_outweigh_all_that_could_be_saved_the_closest_is_the_model_itself() -> None:
    scale = Scale(TINY[:2], 1, nodes=(400, 500))
    space = weighed(TINY[:2], scale, size="60%")
    with pytest.raises(TargetError, match="cannot be reached") as error:
        make_plan(space, None)
    assert f"--size {space.bytes};" in error.value.hint


def test_a_pinned_layer_is_in_the_artifact_and_paid_from_its_size() -> None:
    scale = Scale(FOUR, 3)
    space = weighed(FOUR, scale, size="55%", rank=["fc0=4", "fc1=keep"])
    forms = list(make_plan(space, None).forms)
    assert forms[:2] == pairs(4, None)
    limit = int(0.55 * space.bytes)
    assert scale(forms) <= limit
    assert all(scale(step) > limit for step in raised(space, forms))


def test_what_a_rank_weighs_is_its_values_in_the_layers_own_precision_and_its_nodes() -> None:
    for dtype, itemsize in (("float", 4), ("float16", 2)):
        layers = layers_of((40, 60), dtype=dtype)
        scale = Scale(layers, 0, nodes=(100, 101), jitter=0)
        scale.itemsize = itemsize
        (one,) = BytesBudget(weighed(layers, scale, size="50%"), 1).ladders
        assert one.costs[:2].tolist() == [itemsize * 100 + 100, itemsize * 200 + 100]
        assert one.whole == one.costs[-1] == itemsize * 2400


def test_among_small_ladders_no_larger_artifact_fits_that_has_every_form_at_least_as_dear() -> None:
    layers = layers_of((8, 8), (9, 7))
    scale = Scale(layers, 5, nodes=(10, 30), jitter=5)
    space = weighed(layers, scale, size="80%")
    budget = BytesBudget(space, int(0.9 * space.bytes))
    curves = [steady(1, 0.5, largest_rank(layer, DALR)) for layer in layers]
    forms = budget.meet(lambda amount: allocate.best(budget.ladders, curves, amount))
    assert forms is not None
    places = [one.forms.index(form) for one, form in zip(budget.ladders, forms, strict=True)]
    above = product(*(one.forms[place:] for one, place in zip(budget.ladders, places, strict=True)))
    for other in above:
        assert list(other) == forms or scale(list(other)) > budget.limit
