"""Plans and analyses as tables: every decision with its reason, every candidate that was scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import onnx_dalr
from onnx_dalr import Analysis, Plan
from onnx_dalr.factorize import Form
from onnx_dalr.plan.choice import Choice, Point
from tests.cli import tiny
from tests.forms import UNTOUCHED, pair
from tests.graph.helpers import model

PLAN = Plan(
    method="dalr",
    choices=(
        Choice("fc6", pair(12), "the best of four", 0.12345, 0.0012345, 255),
        Choice("fc7", UNTOUCHED, "dense: too small", largest_rank=255),
        Choice("fc8", pair(3), "the best of four"),
    ),
    target="size 40%",
    curve=(
        Point("one keep ratio for all layers", 1_234_567, 4_938_268, 0.0125, 0.034567, 1.5e-6, chosen=True),
        Point("ranks by the error of each layer", 1_234_600, 4_938_400, math.inf, math.inf, math.inf),
    ),
)

TABLE = """\
plan dalr, target size 40%

layer  rank  of at most  own error  distortion
fc6      12         255     0.1235      0.0012
fc7    keep         255
fc8       3

why the best of four (fc6 12, fc8 3)
why dense: too small (fc7)

tried   parameters     size         lost   error  distortion  ranks
chosen       1.23M  4.94 MB  1.25 points  0.0346     1.5e-06  one keep ratio for all layers
             1.23M  4.94 MB          NaN     inf         inf  ranks by the error of each layer
"""


def test_the_table_of_a_plan_is_this_one() -> None:
    assert str(PLAN) == TABLE.rstrip("\n")


def test_factors_are_named_where_they_are_not_the_default() -> None:
    assert "plan dalr (factors: no metric), target size 40%" in str(replace(PLAN, factors="no metric"))


def test_a_plan_without_a_curve_has_no_empty_table() -> None:
    assert "tried" not in str(replace(PLAN, curve=()))


def test_names_and_reasons_are_text_and_no_markup() -> None:
    text = str(Plan("svd", (Choice("block[red]/fc\n2", pair(1), "[bold]because[/bold]"),), target="rank 1"))
    assert "block[red]/fc\\n2" in text
    assert "[bold]because[/bold]" in text
    assert "\x1b" not in text


@pytest.fixture(scope="module")
def analysis(demo: Path) -> Iterator[Analysis]:
    with onnx_dalr.analyze(demo / "digits-target.onnx", calib=demo / "digits/calib", method="svd-bc") as made:
        yield made


def row(analysis: Analysis, layer: str) -> list[str]:
    """What the table says of a layer."""
    (cells,) = (line.split() for line in str(analysis).splitlines() if line.startswith(f"{layer} "))
    return cells


def test_an_analysis_shows_the_curve_of_every_layer(analysis: Analysis) -> None:
    lines = str(analysis).splitlines()
    assert lines[0] == "error of each layer's own output where it keeps so much of its parameters"
    assert lines[1].split() == ["layer", "op", "shape", "rows", "75", "%", "50", "%", "25", "%", "10", "%", "5", "%"]
    names = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "fc6", "fc7", "fc8"]
    assert [line.split()[0] for line in lines[2:9]] == names
    assert row(analysis, "conv2_1")[:3] == ["conv2_1", "Conv", "32×144"]  # 16 channels, 3×3
    assert row(analysis, "fc6")[:4] == ["fc6", "Gemm", "512×512", "323"]
    assert row(analysis, "fc8")[:4] == ["fc8", "Gemm", "4×512", "323"]


def test_the_errors_of_an_analysis_are_those_of_the_ranks_that_keep_so_much(analysis: Analysis) -> None:
    shown = [float(cell) for cell in row(analysis, "fc6")[4:]]
    spectra = analysis.learned.of("fc6")
    ranks = [192, 128, 64, 25, 12]  # k·(512 + 512) of 512·512
    assert shown == [pytest.approx(spectra.expected_error(pair(rank)), abs=5e-5) for rank in ranks]
    assert shown == sorted(shown)


def test_the_errors_of_a_kernel_are_those_of_its_first_structure(analysis: Analysis) -> None:
    shown = [float(cell) for cell in row(analysis, "conv2_1")[4:]]
    spectra = analysis.learned.of("conv2_1")
    forms = [Form("out", (rank,)) for rank in (19, 13, 6, 2, 1)]  # k·(144 + 32) of 32·144
    assert shown == [pytest.approx(spectra.expected_error(form), abs=5e-5) for form in forms]
    assert shown == sorted(shown)


def test_a_share_that_leaves_no_rank_is_blank(analysis: Analysis) -> None:
    assert len(row(analysis, "fc8")) == 4 + 2  # 4×512: 75 % is rank 2, 50 % rank 1, and 25 % none


def test_an_analysis_says_what_was_skipped() -> None:
    text = "g (float[N,16] x) => (float[N,4] y) { a = MatMul(x, W)  b = MatMul(a, V)  y = MatMul(b, U) }"
    proto = model(text, W=(16, 24), V=(24, 1), U=(1, 4))
    with onnx_dalr.analyze(proto, calib=tiny.rows(), metric=False) as made:
        assert "skipped 1 MatMul: too small to gain at any rank (1×24) (b)" in str(made)


def test_an_analysis_without_skipped_nodes_says_nothing_of_them() -> None:
    with onnx_dalr.analyze(tiny.mlp(), calib=tiny.rows(), metric=False) as made:
        assert "skipped" not in str(made)
