"""How a weight is taken apart: ranks that save, shapes of the pieces, and the pieces multiplied together again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import METHODS, UNTOUCHED, Form, Settings, Shape
from onnx_dalr.factorize.structures import STRUCTURES, Piece, Slot, slots_of
from onnx_dalr.factorize.structures.pair import Pair, PairSpectrum
from tests.factorize.cases import NAMES, Case, cases, make, ordinary, seldom

PAIR = Pair()
EXTENTS = st.integers(1, 60)


def made(case: Case, method: str = "dalr") -> PairSpectrum:
    known = METHODS[method]
    return PAIR.decompose(case.W, Shape(*case.W.shape), case.statistics(known.needs(*case.W.shape)), known, Settings())


def ranks(case: Case) -> range:
    return range(case.full_rank + 1)


# A pair of matrices


@given(EXTENTS, EXTENTS, st.integers(-10, 4000))
def test_its_ranks_are_those_below_break_even_the_fewest_parameters_first(m: int, n: int, room: int) -> None:
    assert list(PAIR.ranks(Shape(m, n), room)) == [(k,) for k in range(1, 4001) if k * (m + n) < room]


@given(EXTENTS, EXTENTS, st.integers(1, 60))
def test_its_pieces_have_rank_times_both_sides(m: int, n: int, rank: int) -> None:
    shapes = [slot.shape for slot in PAIR.slots(Shape(m, n), (rank,))]
    assert shapes == [Shape(rank, n), Shape(m, rank)]
    assert sum(shape.params for shape in shapes) == rank * (m + n)


@pytest.mark.parametrize(
    ("kernel", "applies"), [((), True), ((1,), True), ((1, 1), True), ((3, 3), False), ((1, 3), False)]
)
def test_it_takes_apart_what_is_a_matrix(kernel: tuple[int, ...], applies: bool) -> None:
    assert PAIR.applies(Shape(8, 9, kernel)) is applies


@pytest.mark.parametrize("method", NAMES)
@seldom
@given(cases())
def test_its_pieces_are_the_factors_of_the_spectrum_and_have_the_shapes_it_says(method: str, case: Case) -> None:
    found = made(case, method)
    for rank in ranks(case):
        factors, pieces = found.spectrum.factors(rank), found.pieces((rank,))
        assert tuple(piece.role for piece in pieces.pieces) == ("B", "A")
        shapes = [slot.shape for slot in PAIR.slots(Shape(*case.W.shape), (rank,))]
        assert [piece.values.shape for piece in pieces.pieces] == [(shape.m, shape.n) for shape in shapes]
        np.testing.assert_array_equal(PAIR.compose(pieces.pieces), factors.A @ factors.B)
        np.testing.assert_array_equal(pieces.shift, factors.shift)


@seldom
@given(ordinary)
def test_composed_at_full_rank_it_is_the_weight(case: Case) -> None:
    composed = PAIR.compose(made(case, "svd").pieces((case.full_rank,)).pieces)
    np.testing.assert_allclose(composed, case.W, atol=1e-6 * np.abs(case.W).max())


def test_pieces_are_multiplied_in_the_order_in_which_data_meet_them() -> None:
    B, A = np.array([[1.0, 2.0, 3.0]]), np.array([[10.0], [100.0]])
    assert PAIR.compose((Piece("B", B), Piece("A", A))).tolist() == [[10, 20, 30], [100, 200, 300]]


@pytest.mark.parametrize("method", NAMES)
def test_asked_by_rank_it_says_what_the_spectrum_does(method: str) -> None:
    case = make(9, 12, 40)
    found = made(case, method)
    spectrum = found.spectrum
    for rank in ranks(case):
        assert found.error((rank,)) == spectrum.errors[rank]
        assert found.tail((rank,)) == spectrum.tails[rank]
        assert found.energy_lost((rank,)) == spectrum.errors[rank] / spectrum.errors[0]
    assert (found.method, found.power, found.ridge) == (spectrum.method, spectrum.power, spectrum.ridge)
    assert (found.shrinkage, found.metric_shrinkage) == (spectrum.shrinkage, spectrum.metric_shrinkage)
    assert found.moves_bias == METHODS[method].compensates


def test_the_effect_is_known_where_there_is_a_metric() -> None:
    plain = made(make(5, 6, 30)).spectrum
    assert not PairSpectrum(plain).has_effect
    assert np.isnan(PairSpectrum(plain).effect((2,)))
    weighed = PairSpectrum(replace(plain, metric_tails=np.arange(6.0)[::-1]))
    assert weighed.has_effect
    assert [weighed.effect((rank,)) for rank in range(6)] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("rows", "moves"), [("plain", True), ("zero", False)])
def test_a_bias_is_moved_where_the_mean_input_is_not_zero(rows: str, moves: bool) -> None:
    assert made(make(5, 6, 30, rows=rows)).moves_bias is moves


def test_where_there_is_no_output_none_of_its_energy_is_lost() -> None:
    assert made(make(5, 6, 30, weight="zero")).energy_lost((1,)) == 0


def test_compact_it_is_the_same_but_for_rounding() -> None:
    found = made(make(9, 12, 40))
    small = found.compact()
    assert small.spectrum.basis.dtype == np.float32
    one, other = (PAIR.compose(each.pieces((3,)).pieces) for each in (found, small))
    np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(one).max())
    assert small.tail((3,)) == found.tail((3,))


# The table


def test_every_structure_is_in_the_table_by_its_name() -> None:
    assert all(structure.name == name for name, structure in STRUCTURES.items())
    assert "dense" not in STRUCTURES, "that is none of them"


def test_the_shapes_of_a_form_are_those_of_its_pieces_and_in_one_piece_the_weights_own() -> None:
    shape = Shape(8, 9)
    assert slots_of(shape, Form("pair", (2,))) == (Slot("B", Shape(2, 9)), Slot("A", Shape(8, 2)))
    assert slots_of(shape, UNTOUCHED) == slots_of(shape, Form("dense", (), "int8")) == (Slot("W", shape),)
