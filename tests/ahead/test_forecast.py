"""A forecast grows with everything there is to do, and has the phases that there will be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnx_dalr.ahead.forecast import Extent, Speed, Work, forecast, forecast_comparison
from onnx_dalr.look.pace import Pace
from onnx_dalr.progress import (
    CAPTURING,
    COMPARING,
    FACTORIZING,
    MEASURING,
    PROBING,
    REFITTING,
    REWRITING,
    SCORING,
    VERIFYING,
)

LAYERS = (Extent(512, 784), Extent(10, 512), Extent(600, 200, rows=9))
PACE = Pace(load=0.1, read=1e-4, run=1e-3)
WORK = Work(LAYERS, bytes=4_000_000, fit=300, probed=200, probes=2, select=100, trials=12, report=100)


def total(work: Work, pace: Pace = PACE, speed: Speed = Speed()) -> float:  # noqa: B008
    return sum(forecast(work, pace, speed).values())


def test_phases_come_in_the_order_in_which_they_run() -> None:
    measured = replace(WORK, measured=9, few=32)
    assert list(forecast(measured, PACE, Speed())) == [
        "capturing",
        "probing",
        "factorizing",
        "measuring layers",
        "scoring",
        "rewriting",
        "saving",
        "verifying",
        "measuring latency",
    ]


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ({"passes": 0}, {CAPTURING, PROBING}),
        ({"probed": 0}, {PROBING}),
        ({"trials": 0}, {SCORING}),
        ({"report": None}, {REWRITING, VERIFYING}),
        ({}, {MEASURING}),
    ],
    ids=["statistics are given", "no metric", "ranks are given", "no model is made", "all have a metric"],
)
def test_what_is_not_done_takes_no_time(without: dict[str, int | None], missing: set[str]) -> None:
    assert not missing & forecast(replace(WORK, **without), PACE, Speed()).keys()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more",
    [
        {"bytes": 400_000_000},
        {"passes": 2},
        {"fit": 3000},
        {"probed": 400},
        {"probes": 4},
        {"select": 200},
        {"trials": 20},
        {"measured": 3, "few": 32},
        {"report": 1000},
        {"layers": (*LAYERS, Extent(5, 5))},
        {"layers": tuple(replace(each, factors=4) for each in LAYERS)},
        {"layers": tuple(replace(each, rows=2 * each.rows) for each in LAYERS)},
        {"layers": tuple(replace(each, m=2 * each.m) for each in LAYERS)},
        {"layers": tuple(replace(each, n=2 * each.n) for each in LAYERS)},
    ],
    ids=", ".join,
)
def test_more_to_do_takes_longer(more: dict[str, int]) -> None:
    assert total(replace(WORK, **more)) > total(WORK)  # type: ignore[arg-type]


@pytest.mark.parametrize("slower", ["load", "read", "run"])
def test_a_slower_model_takes_longer(slower: str) -> None:
    assert total(WORK, replace(PACE, **{slower: 1.0})) > total(WORK)


@pytest.mark.parametrize("slower", ["product", "spectrum"])
def test_a_slower_machine_takes_longer(slower: str) -> None:
    assert total(WORK, speed=replace(Speed(), **{slower: 1e-6})) > total(WORK)


def test_probing_takes_seven_forward_passes_where_running_is_all() -> None:
    found = forecast(replace(WORK, probed=300), Pace(0, 0, 1.0), Speed(0, 0))
    assert found[CAPTURING] == 300
    assert found[PROBING] == 7 * 300
    assert found[SCORING] == pytest.approx((1 + 12) * 100, rel=1e-3)  # the original once, and every candidate


def test_refitting_runs_both_models_up_to_every_group_and_scores_what_comes_of_it() -> None:
    found = forecast(replace(WORK, refitted=LAYERS[1:], refits=3, refit=200), Pace(0, 0, 1.0), Speed(0, 0))
    assert list(found)[list(found).index(REWRITING) + 1] == REFITTING
    assert found[REFITTING] == pytest.approx(100 + 3 * (200 + 100 + 100), rel=1e-2)
    more = forecast(replace(WORK, refitted=LAYERS, refits=3, refit=200), Pace(0, 0, 1.0), Speed())
    assert more[REFITTING] > found[REFITTING]
    assert REFITTING not in forecast(WORK, PACE, Speed())


def test_a_spectrum_goes_with_the_cube_of_the_smaller_side() -> None:
    one, twice = (
        forecast(replace(WORK, layers=[Extent(side, 4 * side)]), PACE, Speed(0, 1e-9))[FACTORIZING]
        for side in (100, 200)
    )
    assert twice == pytest.approx(8 * one)


def test_two_models_side_by_side_are_run_on_every_sample() -> None:
    assert forecast_comparison(50, Pace(0, 1.0, 2.0))[COMPARING] == pytest.approx(250, rel=1e-3)
