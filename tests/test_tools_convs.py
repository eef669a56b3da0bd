"""tools/benchmark_convs.py: what is timed has the multiply-adds it is said to have; the page says what was timed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import benchmark_convs
import numpy as np
import onnx
import pytest
from benchmark_convs_page import PAGE, Record, page
from benchmark_convs_shapes import STRUCTURES, Conv, factors, largest_rank, macs, model, of_file, published
from lrdkt_count import count

from onnx_dalr.session.session import open_session

ODD = Conv(12, 20, (3, 5), (17, 14), (2, 1), (1, 2, 0, 3), (1, 2))
SQUARE = Conv(64, 128, (3, 3), (28, 28), (2, 2), (1, 1, 1, 1))
RECORD = Record("VGG-16", "64→64, 3×3, 56×56", 64, 56, 115_000_000, 1, 1, "v", 2, 8, "48", 2.0, 0.004, 1.7)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("conv", [ODD, SQUARE], ids=str)
def test_what_takes_the_place_of_a_convolution_gives_as_much_and_costs_what_is_said(conv: Conv, structure: str) -> None:
    rank = (4, 6) if structure == "tucker" else (5,)
    chain = factors(conv, structure, rank)
    made = model(chain, 2)
    onnx.checker.check_model(made, full_check=True)
    out = open_session(made.SerializeToString(), "cpu").run({"t0": np.ones((2, conv.channels, *conv.size), np.float32)})
    assert out[0].shape == (2, conv.filters, *conv.out)
    assert 2 * macs(chain) == count(made).macs  # of both samples


def test_the_costs_are_those_of_the_formulas() -> None:
    (h, w), (H, W) = SQUARE.out, SQUARE.size
    assert (h, w) == (14, 14)
    wanted = {
        "out": 8 * (64 * 9 + 128) * h * w,
        "in": 8 * 64 * H * W + 8 * 9 * 128 * h * w,
        "v": 8 * 64 * 3 * h * W + 8 * 3 * 128 * h * w,
        "h": 8 * 64 * 3 * H * w + 8 * 3 * 128 * h * w,
    }
    assert {name: macs(factors(SQUARE, name, (8,))) for name in wanted} == wanted
    assert macs(factors(SQUARE, "tucker", (8, 16))) == 64 * 8 * H * W + (8 * 9 * 16 + 16 * 128) * h * w


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_rank_is_the_largest_multiple_within_the_budget(structure: str) -> None:
    rank = largest_rank(SQUARE, structure, SQUARE.macs / 2, 8)
    assert rank is not None
    assert all(side % 8 == 0 for side in rank)
    more = tuple(side + 8 for side in rank)
    assert macs(factors(SQUARE, structure, rank)) <= SQUARE.macs / 2 < macs(factors(SQUARE, structure, more))


def test_where_the_smallest_rank_is_too_dear_or_the_kernel_is_a_row_there_is_none() -> None:
    first = Conv(3, 64, (3, 3), (224, 224), pads=(1, 1, 1, 1))
    assert largest_rank(first, "in", first.macs / 2, 8) is None
    row = Conv(64, 64, (5, 1), (64, 1))
    assert largest_rank(row, "v", row.macs / 2, 8) is None
    assert largest_rank(row, "out", row.macs / 2, 8) is not None


def test_the_published_convolutions_are_those_of_the_networks() -> None:
    assert sum(1 for _ in published()) == 9 + 8
    assert next(conv for net, conv in published() if net == "ResNet-50").out == (112, 112)


def test_the_convolutions_of_a_file_are_read_at_its_sizes(tmp_path: Path) -> None:
    made = model([SQUARE, Conv(128, 8, (1, 1), SQUARE.out), Conv(8, 16, (5, 1), SQUARE.out)], 1)
    del made.graph.value_info[:]
    onnx.save(made, tmp_path / "net.onnx")
    assert list(of_file(tmp_path / "net.onnx")) == [SQUARE, Conv(8, 16, (5, 1), SQUARE.out)]


def test_same_pads_are_worked_out(tmp_path: Path) -> None:
    made = model([replace(SQUARE, pads=(0, 0, 1, 1))], 1)
    (node,) = made.graph.node
    kept = [entry for entry in node.attribute if entry.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("auto_pad", "SAME_UPPER")])
    onnx.save(made, tmp_path / "net.onnx")
    assert list(of_file(tmp_path / "net.onnx")) == [replace(SQUARE, pads=(0, 0, 1, 1))]


def test_the_page_has_every_figure_and_what_counts() -> None:
    records = [
        RECORD,
        replace(RECORD, structure="in", rank="24", fewer=2.5, faster=1.5),
        replace(RECORD, conv="3→64, 3×3, 224×224", channels=3, faster=1.0),
    ]
    text = page(records, "a machine")
    assert "Measured on a machine." in text
    assert "| 64→64, 3×3, 56×56 | VGG-16 | 115 | 4.00 | 48: **1.70×**, 85 % | 24: 1.50×, 60 % |" in text
    assert (
        "| 2× | 8 | 1 | 1 | 1.70× faster, 85 %, 1 of 1 | 1.50× faster, 60 %, 0 of 1 | 1.70× faster, 85 %, 1 of 1 |"
        in text
    )
    narrow = text.partition("narrow or small")[2]
    assert "| 2× | 8 | 1 | 1 | 1.00× faster, 50 %, 0 of 1 |" in narrow
    assert "## 2× fewer multiply-adds, ranks in 8s, batch 1, 1 thread\n" in text


def test_a_run_writes_records_that_make_the_page_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Conv(32, 32, (3, 3), (8, 8), pads=(1, 1, 1, 1))
    monkeypatch.setattr(benchmark_convs, "published", lambda: iter([("small", small)]))
    monkeypatch.delenv("ONNX_DALR_ASSETS", raising=False)
    asked = ["--batches", "1", "--threads", "1", "--rounds", "1", "--json", str(tmp_path / "r.json")]
    benchmark_convs.main(asked)
    facts = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert {record["structure"] for record in facts["records"]} == set(STRUCTURES)
    assert all(math.isfinite(record["faster"]) and record["fewer"] >= record["ratio"] for record in facts["records"])
    benchmark_convs.main(["--again", str(tmp_path / "r.json"), "--docs", str(tmp_path)])
    assert f"| {small} | small | 0.59 |" in (tmp_path / PAGE).read_text(encoding="utf-8")
