"""A result of `check` with fixed figures, every budget and verdict among them."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.budgets.source import Where
from onnx_dalr.results.check import BudgetLine, CheckResult, Contributor

FILE = Path("onnx-dalr.toml")
BASE = "base/models/detector.onnx"
DETECTOR = "models/detector.onnx"
EVIL = "models/a|b `<x>` ::error, 100%.onnx"

GREW = (
    Contributor("/backbone/stage4/block2/conv2/Conv", "3×3 Conv", 2_359_296, 4_718_592),
    Contributor("/head/classes/MatMul", "Gemm", 0, 327_680),
    Contributor("embedding.weight", "embedding", 1_000_000, 1_100_000),
    Contributor("b1", "bias", 192, 256),
    Contributor("b2", "bias", 192, 256),
    Contributor("b3", "bias", 192, 224),
    Contributor("nodes, names and metadata", "", 3_000, 3_004),
    Contributor("everything else", "", 900_000, 830_000),
)


def where(key: str, line: int | None, budget: int = 0) -> Where:
    return Where(key, FILE, line, budget)


CHECKED = CheckResult(
    (
        BudgetLine(
            "models/a.onnx", "size", "bytes", 25_000_000, 20_138_686, 'max-size = "25MB"', where("max-size", 3)
        ),
        BudgetLine("models/a.onnx", "params", "parameters", 6e6, 6_000_000, "--max-params 6M", Where("--max-params")),
        BudgetLine(
            "models/a.onnx", "macs", "multiply-adds", 300e6, 41_000_000, 'max-macs = "300M"', where("max-macs", 4),
            notes=("tokens counted as 1",),
        ),
        BudgetLine(
            DETECTOR, "growth", "bytes", 85_252, 2_716_220, 'max-growth = "2%" of the baseline', where("max-growth", 9),
            against=BASE, contributors=GREW,
        ),
        BudgetLine(
            DETECTOR, "size", "bytes", 6_000_000, 6_000_001, 'max-size = "6MB"', where("max-size", None, 1),
            contributors=(Contributor("/head/classes/MatMul", "Gemm", None, 327_680),),
        ),
        BudgetLine(
            DETECTOR, "drop", "points", 0.01, 0.0079, 'max-drop = "1%"', where("max-drop", 12),
            against=BASE, low=-0.0054, high=0.0211, n=253, notes=("score: accuracy",),
        ),
        BudgetLine(
            DETECTOR, "error", "relative error", 0.02, float("inf"), "max-error = 0.02", where("max-error", 13),
            against=BASE, n=253, notes=("it gives NaN or infinity where the reference does not",),
        ),
        BudgetLine(
            DETECTOR, "latency-ratio", "times", 1.1, 1.13, "max-latency-ratio = 1.1", where("max-latency-ratio", 14),
            against=BASE, low=1.07, high=1.2, n=120, by_lower_end=True,
            notes=(
                "1.02 ms → 1.15 ms a run, medians of 120 in turn, batch 1",
            ),
        ),
        BudgetLine(
            DETECTOR, "drop", "score", 0.01, 0.05, "max-drop = 0.01", where("max-drop", 20, 2),
            against=BASE, low=0.03, high=0.07, n=253, contributors=(Contributor("boxes", "numbers", None, 0.05),),
        ),
        BudgetLine(EVIL, "size", "bytes", 0.0, 12, "--max-size 0", Where("--max-size")),
    ),
    ("models/new.onnx is not in base: what would be measured against its baseline is not checked",),
)  # fmt: skip
