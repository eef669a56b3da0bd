"""tools/bench_speed.py: what runs beside ours computes what it should, costs are of the process, the page adds up."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_speed
import bench_speed_ways
import numpy as np
import onnx
import pytest
from bench_speed_cases import CASES, LARGE, Prepared
from bench_speed_data import prepare, write_layers
from bench_speed_models import HEAD, Weights, blocks, head, scaled
from bench_speed_page import ALGEBRA, PART, PASS, PUBLISHED, SINGLE, SpeedRecord, case_table, made, ratios
from bench_speed_processes import environment, free_memory, run, why

from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.factorize.dalr2017 import dalr_2017
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import load
from onnx_dalr.session.session import open_session
from tests.conftest import REPOSITORY

PYTHON = sys.executable


def row(case: str, way: str, cpu: float, **facts: Any) -> SpeedRecord:
    known = {"wall": 2 * cpu, "work_cpu": cpu, "work_wall": 2 * cpu, "peak": 10**9, "low": cpu, "high": cpu} | facts
    facts = {"samples": 2000, "model_bytes": 5 * 10**8, "moment_bytes": 10**8, "load": 4.0, "rounds": 1} | known
    return SpeedRecord(case, way, CASES[case].title, "abc (1 May)", 1, cpu=cpu, **facts)


OURS = "optimize --params 20%"
ROWS = [
    row("head", PASS, 10.0),
    row("head", OURS, 30.0, peak=2 * 10**9, phases={"capture": 12.25, "decide": 40.0}),
    row("head", ALGEBRA, 15.0),
    row("head", PUBLISHED, 450.0, peak=22 * 10**9),
    SpeedRecord("head", "onnxslim", "head of a VGG19", "abc (1 May)", 1, load=9.0, error="exit code 1: no onnxslim"),
]
HELD = {each.cell: each for each in ROWS}


# Processes


def test_a_process_is_measured_with_its_children_and_not_with_its_caller() -> None:
    held = np.ones(150 << 17)  # 150 MB of the caller
    work = "x = bytearray(60 << 20)\nfor i in range(2_000_000): pass"
    used = run([PYTHON, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"], 1, 60)
    assert not used.error
    assert used.cpu > 0
    assert used.wall > 0
    assert 60 << 20 < used.peak < 100 << 20
    assert held.nbytes > 100 << 20


def test_what_a_process_says_last_is_why_it_failed() -> None:
    program = "import sys; print('a'); sys.stderr.write('note\\nValueError:   no  such\\n'); sys.exit(3)"
    used = run([PYTHON, "-c", program], 1, 60)
    assert (used.error, used.said) == ("exit code 3: ValueError: no such", "a\n")
    assert why(-9, "") == "ended by SIGKILL"
    assert why(1, "") == "exit code 1"
    assert len(why(1, "Error " + 1000 * "x")) < 230


def test_a_process_that_takes_too_long_is_stopped_with_its_children() -> None:
    used = run([PYTHON, "-c", "import subprocess; subprocess.run(['sleep', '60'])"], 1, 0.5)
    assert used.error == "stopped after 0 s"


def test_a_child_has_the_threads_and_the_code_of_the_tool() -> None:
    there = environment(3)
    assert {there[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
    assert there["PYTHONPATH"].startswith(str(REPOSITORY))
    said = run([PYTHON, "-c", "import os; print(len(os.sched_getaffinity(0)))"], 1, 60).said
    assert said == "1\n"
    assert free_memory() > 0


# Models


def test_a_head_has_the_shape_of_vgg_at_every_scale_and_its_weights_apart(tmp_path: Path) -> None:
    path, rows = head(tmp_path, 0.01)
    layers, _ = find(load(path))
    sizes = scaled(HEAD, 0.01)
    assert [(layer.m, layer.n) for layer in layers] == list(zip(sizes[1:], sizes, strict=False))
    assert scaled(HEAD, 1) == HEAD
    assert path.stat().st_size < 5000 < (tmp_path / "model.data").stat().st_size
    answers = open_session(path, "cpu").run({"x": rows}, ["y"])[0]
    assert answers.shape == (60, sizes[-1])
    assert len(set(answers.argmax(axis=1))) > 3


def test_inputs_fill_few_directions(tmp_path: Path) -> None:
    rows = head(tmp_path, 0.04)[1]
    sigma = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert sigma[: len(sigma) // 3].sum() > 0.6 * sigma.sum()


@pytest.mark.parametrize("shared", [False, True])
def test_blocks_answer_and_repeat_the_first(shared: bool, tmp_path: Path) -> None:
    path, rows = blocks(tmp_path, (32, 48), 3, 4, shared=shared)
    onnx.checker.check_model(path, full_check=True)
    assert len(find(load(path))[0]) == 3 * 7
    one = 4 * (4 * 32 * 32 + 3 * 32 * 48)
    assert (tmp_path / "model.data").stat().st_size == (one if shared else 3 * one) + 3 * 2 * 32 * 4
    proto = load(path).proto
    found = {t.name: onnx.numpy_helper.to_array(t, str(tmp_path)) for t in proto.graph.initializer if len(t.dims) == 2}
    for name, W in found.items():
        assert np.array_equal(W, found[f"layers.0.{name.split('.', 2)[2]}"])
    answers = open_session(path, "cpu").run({"x": rows}, ["y"])[0]
    assert answers.shape == (4, 32, 32)
    assert 0.1 < answers.std() < 10


def test_a_weight_keeps_the_scale_of_what_it_multiplies(tmp_path: Path) -> None:
    with (tmp_path / "w").open("wb") as file:
        weights = Weights(file, 0)
        weights.matrix("w", 40, 90, 90)
    W = np.fromfile(tmp_path / "w", "<f4").reshape(40, 90)
    assert np.square(W).mean() * 90 == pytest.approx(1.4**2, rel=1e-4)


# Ways


@pytest.fixture
def case(tmp_path: Path) -> Prepared:
    made = prepare("head", tmp_path, 0.01, None, 1)
    (tmp_path / "case.json").write_text(json.dumps(made.to_json()), encoding="utf-8")
    return made


def test_rows_and_weights_are_those_of_the_layers(case: Prepared, tmp_path: Path) -> None:
    sizes = scaled(HEAD, 0.01)
    assert case.layers == tuple((m, n, 60) for n, m in pairwise(sizes))
    assert (case.dense, case.count) == ((0, 1, 2), 60)
    assert case.title == "head of a VGG19 (248 → 40 → 40 → 8; scaled by 0.01)"
    with np.load(case.samples) as file:
        x = np.asarray(file["x"])
    for at in range(3):
        X, W = np.load(tmp_path / f"x{at}.npy"), np.load(tmp_path / f"w{at}.npy")
        np.testing.assert_allclose(X, x, rtol=1e-4, atol=1e-5)
        x = np.maximum(X @ W.T + np.float32(0.01), 0)
    assert case.moment_bytes == 8 * sizes[1] ** 2
    assert case.published_bytes > 4 * 8 * sizes[0] ** 2
    assert Prepared.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_the_published_formula_is_that_of_the_method_of_its_name(
    case: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverses: list[np.ndarray] = []
    inv = np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda matrix: inverses.append(inv(matrix)) or inverses[-1])
    bench_speed_ways.published(np.float64)(case, tmp_path, 1)
    assert len(inverses) == 3
    X, W = (np.load(tmp_path / f"{name}0.npy").astype(np.float64) for name in "xw")
    statistics = Statistics(*W.shape, Need.ROWS)
    statistics.update(X)
    ours = dalr_2017(W, statistics)
    wanted = W @ X.T @ X @ inverses[0]
    np.testing.assert_allclose(ours.projected, wanted, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("way", [PASS, ALGEBRA, PUBLISHED, SINGLE, "quantize_dynamic", "quantize_static"])
def test_a_way_runs_and_says_the_seconds_of_its_work(
    way: str, case: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ways", way, str(tmp_path)])
    bench_speed_ways.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["cpu"] >= 0
    assert said["wall"] > 0
    assert case.count == 60


def test_the_moment_of_the_smaller_side_has_the_directions_of_what_the_layer_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    found: list[np.ndarray] = []
    eigh = bench_speed_ways.scipy.linalg.eigh
    monkeypatch.setattr(
        bench_speed_ways.scipy.linalg, "eigh", lambda moment, **kw: found.append(moment.copy()) or eigh(moment, **kw)
    )
    shapes = ((5, 9, 50), (9, 5, 50))
    for at, (m, n, p) in enumerate(shapes):
        np.save(tmp_path / f"x{at}.npy", random.standard_normal((p, n), dtype=np.float32))
        np.save(tmp_path / f"w{at}.npy", random.standard_normal((m, n), dtype=np.float32))
    bench_speed_ways.algebra(SimpleNamespace(layers=shapes), tmp_path, 1)  # type: ignore[arg-type]
    assert [moment.shape for moment in found] == [(5, 5), (5, 5)]
    for at, scale in ((0, 1.0), (1, 50.0)):
        X, W = np.load(tmp_path / f"x{at}.npy"), np.load(tmp_path / f"w{at}.npy")
        sigma = np.linalg.svd(X @ W.T, compute_uv=False)[:5] ** 2
        values = scale * np.linalg.eigvalsh(found[at])[::-1]
        np.testing.assert_allclose(values, sigma, rtol=2e-2)


def test_kernels_are_left_out_where_they_are_not_wanted(tmp_path: Path) -> None:
    demo = REPOSITORY / "models" / "digits-target.onnx"
    feeds = {"image": np.random.default_rng(0).random((8, 1, 16, 16), dtype=np.float32)}
    every = write_layers(demo, feeds, tmp_path, convs=True)
    kept = write_layers(demo, feeds, tmp_path, convs=False)
    assert len(every) > len(kept) == 3
    assert next(p for layer, p in every if layer.shape.taps > 1) == 8 * 16 * 16


# The whole


def test_a_case_is_measured_and_what_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONNX_DALR_ASSETS", raising=False)
    file, docs = tmp_path / "speed.json", tmp_path / PART.page
    docs.write_text(f"before\n{PART.begin}\n{PART.end}\nafter\n", encoding="utf-8")
    asked = ["--case", "head", "minilm", "--scale", "0.01", "--threads", "1", "--torch", str(tmp_path / "none")]
    only = ["--only", PASS, ALGEBRA, "optimize*", "torch*", "--json", str(file), "--docs", str(tmp_path)]
    bench_speed.main([*asked, *only])
    said = capsys.readouterr().out
    held = bench_speed.read(file)
    assert list(held) == [("head", PASS), ("head", OURS), ("head", ALGEBRA), ("head", "torch SVD")]
    assert "none" in held["head", "torch SVD"].error
    ours = held["head", OURS]
    assert {"capture", "factorize", "decide"} <= set(ours.phases)
    assert sum(ours.phases.values()) <= ours.wall
    assert ours.work_cpu == ours.cpu
    assert held["head", PASS].work_cpu < held["head", PASS].cpu
    assert "minilm: left out, there is no ASSETS" in said
    assert "head: `optimize --params 20%` ÷ (pass + bare algebra)" in said
    assert "goal" not in said  # they are for the whole size
    page = docs.read_text(encoding="utf-8")
    assert page.startswith(f"before\n{PART.begin}\n\n`python tools/bench_speed.py")
    assert "No figures of torch SVD" in page


def test_what_does_not_fit_into_memory_is_not_started(
    case: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_speed, "free_memory", lambda: 1000)
    bench = bench_speed.Bench.__new__(bench_speed.Bench)
    assert bench.once(case, PUBLISHED, tmp_path).used.error.startswith("needs about")


# The page


def test_ratios_are_of_the_work_alone_but_for_ours() -> None:
    found = {one.what: one for one in ratios(HELD)}
    whole = found[f"`{OURS}` ÷ (pass + bare algebra)"]
    assert (whole.cpu, whole.wall, whole.goal, whole.met) == (1.2, 1.2, 1.5, True)
    published = found[f"published ÷ `{OURS}`"]
    assert (published.cpu, published.goal, published.met) == (15.0, 20.0, False)
    assert found[f"peak of published ÷ `{OURS}`"].met is True
    (peak,) = (one for what, one in found.items() if what.startswith("peak ÷"))
    assert peak.cpu == pytest.approx(2e9 / (2 * 5e8 + 1e8))
    assert peak.met is False
    small = {cell: replace(each, scale=0.5) for cell, each in HELD.items()}
    assert {one.met for one in ratios(small)} == {None}


def test_the_default_is_held_to_twice_a_fixed_target() -> None:
    rows = [row("vgg", "optimize", 30.0), row("vgg", OURS, 12.0)]
    (one,) = (one for one in ratios({each.cell: each for each in rows}) if "`optimize` ÷ `optimize" in one.what)
    assert (one.cpu, one.goal, one.met) == (2.5, 2.0, False)
    (one,) = (one for one in ratios({each.cell: each for each in rows}) if "seconds" in one.what)
    assert (one.cpu, one.goal) == (30.0, 6.0)


def test_a_row_says_what_was_used_and_an_error_why_not() -> None:
    lines = list(case_table(ROWS))
    assert lines[2] == "| ONNX Runtime | 10.0 | 10.0 | 20.0 | 1.00 GB | 1.00 |"
    assert lines[3] == "| **`optimize --params 20%`** | 30.0 | 30.0 | 60.0 | 2.00 GB | 3.00 |"
    assert f"`{OURS}` by phase, wall seconds: capture 12.2, decide 40.0." in lines
    assert lines[-1] == "No figures of onnxslim: exit code 1: no onnxslim."
    page = made(HELD)
    assert "1 thread; 4 to 9 processes at work" in page
    assert "## Head of a VGG19\n\n2,000 samples, 500 MB." in page
    assert "| head | published ÷ `optimize --params 20%` | **15.0** | 15.0 | ≥ 20 | missed |" in page


def test_records_are_read_back_and_a_page_is_made_of_them_without_measuring(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    bench_speed.write(file, HELD)
    assert bench_speed.read(file) == HELD
    (tmp_path / PART.page).write_text(f"x\n{PART.begin}\n{PART.end}\ny\n", encoding="utf-8")
    bench_speed.main(["--again", str(file), "--show", "--docs", str(tmp_path)])
    assert made(HELD) in (tmp_path / PART.page).read_text(encoding="utf-8")


def test_the_page_of_the_docs_has_its_marks() -> None:
    page = (REPOSITORY / "docs" / PART.page).read_text(encoding="utf-8")
    assert PART.put(page, "new").count("\nnew\n") == 1


def test_the_large_model_is_measured_only_when_it_is_asked_for() -> None:
    assert LARGE in CASES
    assert CASES[LARGE].peers == ()
