"""The CI gate: is a model within its budgets? Runs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.request.options import PathLike
from onnx_dalr.results.check import BudgetLine, CheckResult
from onnx_dalr.units import format_bytes, parse_amount


def check(
    models: PathLike | Sequence[PathLike],
    *,
    max_size: str | float | None = None,
    max_params: str | float | None = None,
    baseline: PathLike | None = None,
    max_growth: str | float | None = None,
) -> CheckResult:
    """Holds models against budgets.

    Args:
        models: One path or several.
        max_size: Bytes on disk of the artifact, "25MB"; "80%" is of the baseline.
        max_params: Numbers the model computes with, in whatever format, "6M"; "80%" is of the baseline.
        baseline: A model to compare with.
        max_growth: How much larger than the baseline the artifact may be, "2%" or "100kB"; 0 where only a baseline is
            given.

    Returns:
        A line for every budget of every model, whether it is met or not: see `result.passed`.

    Raises:
        InputError: No budget, a relative one without a baseline, or something that is no model.
    """
    paths = [models] if isinstance(models, str | os.PathLike) else list(models)
    base = load(baseline) if baseline is not None else None
    if max_growth is not None and base is None:
        raise InputError("--max-growth needs something to grow from", "add --baseline base.onnx")
    budgets = [
        ("size", _limit("--max-size", max_size, "B", base)),
        ("params", _limit("--max-params", max_params, "", base)),
        ("growth", _growth(max_growth, base)),
    ]
    if not paths or all(limit is None for _, limit in budgets):
        raise InputError("nothing to check", "give a model and --max-size, --max-params or --baseline")
    lines = []
    for path in paths:
        model = load(path)
        values = {"size": model.size, "params": model.params, "growth": model.size}
        for name, limit in budgets:
            if limit is not None:
                lines.append(BudgetLine(str(Path(path)), name, limit[0], values[name], limit[1]))
    return CheckResult(tuple(lines))


def _limit(option: str, text: str | float | None, unit: str, base: Model | None) -> tuple[int, str] | None:
    """(limit, as it was given)."""
    if text is None:
        return None
    amount = parse_amount(text, option, unit=unit)
    if not amount.relative:
        return amount.of(0), f"{option} {text}"
    if base is None:
        raise InputError(f"{option} {text} is a share of a baseline, and there is none", "add --baseline base.onnx")
    return amount.of(base.size if unit else base.params), f"{option} {text} of the baseline"


def _growth(text: str | float | None, base: Model | None) -> tuple[int, str] | None:
    if base is None:
        return None
    grown = parse_amount(0 if text is None else text, "--max-growth", unit="B", zero=True)
    return base.size + grown.of(base.size), f"baseline {format_bytes(base.size)} + {0 if text is None else text}"
