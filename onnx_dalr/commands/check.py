"""The CI gate: is a model within its budgets? Runs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.shown import Shown
from onnx_dalr.units import format_bytes, parse_amount

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class BudgetLine:
    """One budget of one model.

    Attributes:
        model: The model's path.
        budget: "size", "params" or "growth".
        limit: What is allowed: bytes, parameters, or bytes of the baseline and its growth.
        value: What there is.
        allowed: The limit as it was given.
    """

    model: str
    budget: str
    limit: int
    value: int
    allowed: str

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit

    @property
    def left(self) -> int:
        """What is left of the budget; negative by how far it is over."""
        return self.limit - self.value

    def shown(self, amount: int) -> str:
        """An amount in the unit of the budget, exactly and to be read."""
        return f"{amount:,}" if self.budget == "params" else f"{format_bytes(amount)} ({amount:,} bytes)"

    def __str__(self) -> str:
        verdict = f"{self.shown(self.left)} left" if self.passed else f"{self.shown(-self.left)} over"
        mark = "ok  " if self.passed else "FAIL"
        limit = f"limit {self.shown(self.limit)} [{self.allowed}]"
        return f"{mark} {self.model}: {self.budget} {self.shown(self.value)}, {limit}, {verdict}"


@dataclass(frozen=True, repr=False)
class CheckResult(Shown):
    """Every budget of every model; `str()` is one line each.

    Attributes:
        lines: The budgets in the order of the models.
    """

    lines: tuple[BudgetLine, ...]

    @property
    def passed(self) -> bool:
        """Whether every budget is met."""
        return all(line.passed for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    def _view(self, width: int) -> RenderableType:
        from onnx_dalr.report.check import check_view  # noqa: PLC0415 - reads this module

        del width
        return check_view(self)

    def _brief(self) -> str:
        over = sum(not line.passed for line in self.lines)
        of = f"{len(self.lines)} budget{'' if len(self.lines) == 1 else 's'}"
        return f"failed: over {over} of {of}" if over else f"passed: {of}"

    def to_json(self) -> str:
        """The same facts as JSON text."""
        import json  # noqa: PLC0415

        from onnx_dalr.results.json import SCHEMA  # noqa: PLC0415

        lines = [
            {
                "model": line.model,
                "budget": line.budget,
                "limit": line.limit,
                "allowed": line.allowed,
                "value": line.value,
                "left": line.left,
                "passed": line.passed,
            }
            for line in self.lines
        ]
        return (
            json.dumps({"schema": SCHEMA, "passed": self.passed, "lines": lines}, indent=2, ensure_ascii=False) + "\n"
        )


def check(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    max_size: str | float | None = None,
    max_params: str | float | None = None,
    baseline: str | os.PathLike[str] | None = None,
    max_growth: str | float | None = None,
) -> CheckResult:
    """Holds models against budgets.

    Args:
        models: One path or several.
        max_size: Bytes on disk of the artifact, "25MB"; "80%" is of the baseline.
        max_params: Floating constants, "6M"; "80%" is of the baseline.
        baseline: A model to compare with.
        max_growth: How much larger than the baseline the artifact may be, "2%" or "100kB"; 0 where only a baseline
            is given.

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
