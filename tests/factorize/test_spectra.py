"""What one layer loses in every form: what its structure leaves out, and what its format adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnx_dalr.factorize import METHODS, UNTOUCHED, Form, Settings, Spectrum
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures.pair import PairSpectrum
from tests.factorize.cases import make

NOISE = 0.01
PLAIN = make(8, 10, 60).spectrum("dalr")
WEIGHED = replace(PLAIN, metric_tails=np.linspace(4, 0, 9))
RANKS = range(1, 9)


def spectra(spectrum: Spectrum = PLAIN) -> Spectra:
    return Spectra({"pair": PairSpectrum(spectrum)}, {"coarse": NOISE}, {"coarse": NOISE})


def pair(rank: int, format: str = "keep") -> Form:
    return Form("pair", (rank,), format)


IN_ONE_PIECE = Form("dense", (), "coarse")


@pytest.mark.parametrize("rank", RANKS)
def test_in_the_format_a_weight_has_a_pair_loses_what_its_spectrum_says(rank: int) -> None:
    found, form = spectra(WEIGHED), pair(rank)
    assert found.tail(form) == PLAIN.tails[rank]
    assert found.effect(form) == WEIGHED.metric_tails[rank]  # type: ignore[index]
    assert found.energy_lost(form) == PLAIN.errors[rank] / PLAIN.errors[0]
    assert found.expected_error(form) == PLAIN.expected_error(rank)
    assert found.calibration_error(form) == PLAIN.calibration_error(rank)


@pytest.mark.parametrize("rank", RANKS)
def test_a_format_adds_its_share_of_what_the_whole_weight_is_worth(rank: int) -> None:
    found, kept, coarse = spectra(WEIGHED), pair(rank), pair(rank, "coarse")
    assert found.tail(coarse) == pytest.approx(found.tail(kept) + NOISE * PLAIN.power)
    assert found.effect(coarse) == pytest.approx(found.effect(kept) + NOISE * 4)
    assert found.energy_lost(coarse) == pytest.approx(found.energy_lost(kept) + NOISE)
    assert found.calibration_error(coarse) ** 2 == pytest.approx(found.calibration_error(kept) ** 2 + NOISE)
    assert found.expected_error(coarse) ** 2 == pytest.approx(found.expected_error(kept) ** 2 + NOISE)


def test_in_one_piece_a_weight_loses_what_its_format_leaves_behind_and_nothing_as_it_is() -> None:
    found = spectra(WEIGHED)
    assert found.tail(IN_ONE_PIECE) == pytest.approx(NOISE * PLAIN.power)
    assert found.effect(IN_ONE_PIECE) == pytest.approx(NOISE * 4)
    assert found.energy_lost(IN_ONE_PIECE) == NOISE
    assert found.expected_error(IN_ONE_PIECE) == pytest.approx(np.sqrt(NOISE))
    for read in (found.tail, found.effect, found.energy_lost, found.expected_error, found.calibration_error):
        assert read(UNTOUCHED) == 0


@pytest.mark.parametrize("form", [pair(3), pair(3, "coarse"), IN_ONE_PIECE, UNTOUCHED], ids=str)
def test_without_a_metric_no_effect_is_known_in_any_form(form: Form) -> None:
    assert not spectra().has_effect
    assert np.isnan(spectra().effect(form))
    assert spectra(WEIGHED).has_effect
    assert not np.isnan(spectra(WEIGHED).effect(form))


def test_of_several_structures_each_form_is_read_from_its_own() -> None:
    other = make(8, 10, 60).spectrum("svd")
    both = Spectra({"pair": PairSpectrum(PLAIN), "halves": PairSpectrum(other)})
    assert both.first is both.of(pair(3)) is both.of(UNTOUCHED)
    assert both.tail(pair(3)) == PLAIN.tails[3]
    assert both.tail(Form("halves", (3,))) == other.tails[3]
    assert both.of(Form("halves", (3,))) is both.by_structure["halves"]


def test_a_weight_that_gives_nothing_has_no_error_in_any_form() -> None:
    silent = spectra(make(8, 10, 60, weight="zero").spectrum("dalr"))
    for form in (pair(1), pair(1, "coarse"), IN_ONE_PIECE):
        assert silent.expected_error(form) == silent.calibration_error(form) == 0


def test_compact_it_says_the_same() -> None:
    found, small = (
        spectra(WEIGHED),
        Spectra({"pair": PairSpectrum(WEIGHED).compact()}, {"coarse": NOISE}, {"coarse": NOISE}),
    )
    assert isinstance(small.first, PairSpectrum)
    assert small.first.spectrum.basis.dtype == np.float32
    for form in (pair(2), pair(2, "coarse"), IN_ONE_PIECE):
        assert (small.tail(form), small.effect(form)) == (found.tail(form), found.effect(form))


def test_what_is_measured_in_one_form_is_what_the_method_decomposed() -> None:
    case, svd = make(8, 10, 60), METHODS["svd"]
    spectrum = svd.spectrum(case.W, case.statistics(svd.needs(8, 10)), Settings())
    assert spectra(spectrum).first.method == "svd"


def test_apart_a_weight_may_lose_more_than_in_one_piece() -> None:
    found = Spectra({"pair": PairSpectrum(PLAIN)}, {"coarse": NOISE}, {"coarse": 3 * NOISE})
    assert found.tail(IN_ONE_PIECE) == pytest.approx(NOISE * PLAIN.power)
    assert found.tail(pair(3, "coarse")) == pytest.approx(found.tail(pair(3)) + 3 * NOISE * PLAIN.power)
