"""Layers are taken apart in what somebody asks for, and in nothing else."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

from onnx_dalr.commands.optimize import optimize
from onnx_dalr.factorize import METHODS, Need, Settings, linalg
from onnx_dalr.factorize.form import Form
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures import STRUCTURES, taken_apart
from onnx_dalr.factorize.structures.base import Decomposition
from onnx_dalr.factorize.structures.on_demand import OnDemand
from onnx_dalr.factorize.structures.pair import Pair
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn import apart as room
from onnx_dalr.learn.apart import add_spectra
from tests.cli import tiny
from tests.factorize.cases import make
from tests.factorize.kernel_cases import kernel
from tests.forms import pair
from tests.learn.test_learn import LAYERS, X, learned, run_of

FACTORS = ["default", "cautious", "no metric", "svd-bc"]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of every pair that is made."""
    made: list[Settings] = []
    truth = Pair.decompose

    def counted(self: Pair, *arguments: Any) -> Any:
        made.append(arguments[-1])
        return truth(self, *arguments)

    monkeypatch.setattr(Pair, "decompose", counted)
    return made


def of_few_rows() -> dict[str, dict[str, Spectra]]:
    return learned(run_of(), x=X["x"][:9]).by_factors


def made(spectra: Spectra) -> set[str]:
    assert isinstance(spectra.by_structure, OnDemand)
    return set(spectra.by_structure.made)


def test_factors_beside_the_default_are_made_when_they_are_asked_for(taken: list[Settings]) -> None:
    found = of_few_rows()
    assert list(found) == FACTORS
    assert taken == [Settings()] * len(LAYERS)
    assert [made(found[name]["one"]) for name in FACTORS] == [{"pair"}, set(), set(), set()]
    found["svd-bc"]["one"].tail(pair(2))
    found["svd-bc"]["one"].of(pair(1)).pieces((1,))
    assert taken[len(LAYERS) :] == [Settings(metric=1.0, shrinkage=1.0)]


def test_what_there_is_is_known_without_making_it(taken: list[Settings]) -> None:
    found = of_few_rows()["cautious"]["one"]
    before = len(taken)
    assert found.knows(pair(2))
    assert not found.knows(Form("out", (2,)))
    assert (list(found.by_structure), len(found.by_structure), "pair" in found.by_structure) == (["pair"], 1, True)
    assert len(taken) == before


def test_where_nothing_more_may_be_held_all_is_made_at_once(
    monkeypatch: pytest.MonkeyPatch, taken: list[Settings]
) -> None:
    monkeypatch.setattr(room, "HELD", 0)
    found = of_few_rows()
    assert len(taken) == sum(len(held) for held in found.values()) > len(LAYERS)
    assert all(made(spectra) == {"pair"} for held in found.values() for spectra in held.values())


def test_statistics_that_are_kept_anyway_take_no_room(monkeypatch: pytest.MonkeyPatch, taken: list[Settings]) -> None:
    kept = learned(run_of(), keep=True, x=X["x"][:9]).statistics
    taken.clear()
    monkeypatch.setattr(room, "HELD", 0)
    add_spectra(run_of(), LAYERS, kept, {}, keep=True)
    assert len(taken) == len(LAYERS)


def test_a_run_takes_apart_no_layer_in_factors_that_no_trial_asks_for(taken: list[Settings]) -> None:
    """One of the layers stays as it is: nobody wants to know what other factors would make of it."""
    model = tiny.mlp()
    layers, _ = find(Model(model))
    optimize(model, calib=tiny.rows(20), rank=f"{layers[0].name}=4", tune="off")
    assert sum(settings == Settings() for settings in taken) == len(layers)
    assert len(taken) == len(layers) + len(FACTORS) - 1


def test_one_structure_of_a_kernel_is_made_without_its_neighbours() -> None:
    case = kernel(12, 6, (3, 3))
    structures = [STRUCTURES[name] for name in case.names]
    asked: list[int] = []

    def settings() -> Settings:
        asked.append(1)
        return Settings()

    found = taken_apart(structures, case.W, case.shape, case.statistics(), METHODS["dalr"], settings, compact=True)
    assert (found.made, asked) == (frozenset(), [])
    spectra = Spectra(found)
    for read in (spectra.tail, spectra.effect, spectra.expected_error, spectra.known_effect, spectra.energy_lost):
        read(Form("h", (2,)))
    assert found.made == {"h"}
    assert getattr(found["h"], "first").dtype == np.float32  # noqa: B009
    assert set(found.values()) == {found[name] for name in case.names}
    assert (found.made, asked) == (set(case.names), [1])


def test_once_all_are_made_nothing_of_what_they_are_made_from_is_held() -> None:
    class Held:
        pass

    def maker(held: object) -> Decomposition:
        del held
        return None  # type: ignore[return-value]

    source = Held()
    found, alive = OnDemand({"a": partial(maker, source)}), weakref.ref(source)
    del source
    assert alive() is not None
    assert found["a"] is None
    assert alive() is None


# Large ones, in float32


@pytest.mark.parametrize(("m", "n"), [(24, 40), (40, 24)])
def test_of_a_large_weight_the_factors_are_those_of_double_precision(
    monkeypatch: pytest.MonkeyPatch, m: int, n: int
) -> None:
    case, random = make(m, n, 200), np.random.default_rng(1)
    held = case.statistics(METHODS["dalr"].needs(m, n) | Need.METRIC)
    held.update_metric(random.standard_normal((300, m)) * np.linspace(0.1, 1, m), case.W, 300)
    W = case.W.astype(np.float32)
    exact = METHODS["dalr"].spectrum(W, held, Settings())
    monkeypatch.setattr(linalg, "LARGE", 8)
    fast = METHODS["dalr"].spectrum(W, held, Settings())
    assert exact.metric_tails is not None
    assert fast.metric_tails is not None
    np.testing.assert_allclose(fast.metric_tails, exact.metric_tails, atol=1e-5 * exact.metric_tails[0])
    np.testing.assert_allclose(fast.tails, exact.tails, atol=1e-4 * exact.tails[0])
    for rank in (1, 5, 12):
        one, other = exact.factors(rank), fast.factors(rank)
        np.testing.assert_allclose(other.A @ other.B, one.A @ one.B, atol=1e-3)
