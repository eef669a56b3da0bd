"""The forms a layer may take, and what each costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.candidate.forms import at_rank, at_share, bytes_of, forms_of, largest_rank, params_of
from onnx_dalr.factorize import METHODS, UNTOUCHED, Form
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.graph.layers import Layer
from tests.choose.allocate_cases import menu, pair
from tests.choose.search_cases import DALR, SVD, layers_of
from tests.forms import Coarse

often = settings(max_examples=40, deadline=None, derandomize=True)
EXTENTS = st.integers(2, 40)


def layer(m: int, n: int, *, biased: bool = True, dtype: str = "float") -> Layer:
    (found,) = layers_of((m, n), biased=biased, dtype=dtype)
    return found


GAINING = st.builds(
    lambda shape, biased: (*shape, biased),
    st.tuples(EXTENTS, EXTENTS).filter(lambda shape: (shape[0] * shape[1] - 1) // sum(shape) >= 1),
    st.booleans(),
)


@often
@given(GAINING, st.sampled_from(sorted(METHODS)))
def test_the_forms_are_all_pairs_that_save_parameters_and_last_the_layer_as_it_is(
    shape: tuple[int, int, bool], name: str
) -> None:
    (m, n, biased), method = shape, METHODS[name]
    one = layer(m, n, biased=biased)
    new_bias = 0 if biased or not method.compensates else m
    ranks = [rank for rank in range(1, m * n) if rank * (m + n) + new_bias < m * n]
    assert forms_of(one, method) == menu(*ranks, None)
    assert largest_rank(one, method) == len(ranks) == one.break_even(compensated=method.compensates)
    assert [params_of(one, pair(rank), method) for rank in ranks] == [rank * (m + n) + new_bias for rank in ranks]
    assert params_of(one, UNTOUCHED, method) == m * n


@pytest.mark.parametrize(("dtype", "itemsize"), [("float", 4), ("float16", 2), ("double", 8)])
@pytest.mark.parametrize("biased", [True, False])
def test_bytes_are_those_of_the_values_in_the_layers_own_element_type(dtype: str, itemsize: int, biased: bool) -> None:
    one = layer(30, 20, biased=biased, dtype=dtype)
    for form in forms_of(one, DALR):
        assert bytes_of(one, form, DALR) == itemsize * params_of(one, form, DALR)


def test_a_new_bias_is_paid_by_methods_that_move_it() -> None:
    bare = layer(30, 20, biased=False)
    assert params_of(bare, pair(5), DALR) == 5 * 50 + 30
    assert params_of(bare, pair(5), SVD) == 5 * 50
    assert params_of(layer(30, 20), pair(5), DALR) == 5 * 50


def test_a_layer_that_no_form_makes_smaller_has_one() -> None:
    bare = layer(100, 2, biased=False)
    assert forms_of(bare, DALR) == (UNTOUCHED,)
    assert largest_rank(bare, DALR) == 0


def test_what_is_asked_for_is_a_pair_at_that_rank_or_nothing_at_all() -> None:
    assert at_rank(layer(30, 20), 7) == pair(7)
    assert at_rank(layer(30, 20), 999) == pair(999), "whether it saves is another question"
    assert at_rank(layer(30, 20), None) == UNTOUCHED


@often
@given(GAINING, st.floats(0, 1))
def test_within_a_share_lies_the_largest_rank_that_takes_no_more_of_its_parameters(
    shape: tuple[int, int, bool], share: float
) -> None:
    m, n, _ = shape
    ranks = [rank for rank in range(1, m * n) if rank * (m + n) <= int(share * m * n)]
    assert at_share(layer(m, n), share) == (pair(ranks[-1]) if ranks else None)


# Another format


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "coarse", Coarse())


@pytest.mark.usefixtures("coarse")
def test_another_format_has_every_structure_and_the_layer_in_one_piece() -> None:
    one = layer(16, 16)
    kept, coarse = forms_of(one, DALR), forms_of(one, DALR, ("keep", "coarse"))
    assert set(kept) < set(coarse)
    assert coarse[-1] == UNTOUCHED
    assert [str(form) for form in coarse if form not in kept] == [
        *(f"pair {rank} coarse" for rank in range(1, 8)),
        "dense coarse",
    ]


@pytest.mark.usefixtures("coarse")
def test_where_nothing_is_kept_the_layer_in_one_piece_is_stored_in_the_first_format() -> None:
    one = layer(16, 16)
    coarse = forms_of(one, DALR, ("keep", "coarse"))
    assert forms_of(one, DALR, ("coarse",)) == tuple(form for form in coarse if form.format == "coarse")


@pytest.mark.usefixtures("coarse")
def test_a_layer_that_a_format_does_not_make_smaller_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coarse, "bytes", lambda self, shape, dtype: 9 * shape.params)
    assert forms_of(layer(16, 16), DALR, ("coarse",))[-1] == UNTOUCHED


@pytest.mark.usefixtures("coarse")
def test_it_has_bytes_of_its_own_and_as_many_parameters() -> None:
    one = layer(8, 6)
    assert bytes_of(one, Form("dense", (), "coarse"), DALR) == 48
    assert bytes_of(one, Form("pair", (2,), "coarse"), DALR) == 2 * 14
    assert params_of(one, Form("pair", (2,), "coarse"), DALR) == params_of(one, pair(2), DALR)


@pytest.mark.usefixtures("coarse")
def test_a_new_bias_keeps_its_element_type_and_one_piece_needs_none() -> None:
    bare = layer(8, 6, biased=False)
    assert bytes_of(bare, Form("pair", (2,), "coarse"), DALR) == 2 * 14 + 8 * 4
    assert bytes_of(bare, Form("dense", (), "coarse"), DALR) == 48
    assert np.dtype(bare.dtype).itemsize == 4
