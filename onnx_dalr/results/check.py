"""What `check` found."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from onnx_dalr.request.budgets.source import Where
from onnx_dalr.results.json import to_json
from onnx_dalr.shown import Shown


@dataclass(frozen=True)
class Contributor:
    """Something that makes a model large, or worse.

    Attributes:
        name: A layer, a tensor, a node or an output; "nodes, names and metadata" and the like of what has no name.
        what: The operator, or what it is for.
        before: What it took of the baseline, 0 where it is not in it; None where there is nothing to compare with.
        after: What it takes now, in the unit of the budget.
    """

    name: str
    what: str
    before: float | None
    after: float

    @property
    def grown(self) -> float:
        """By how much it grew; all of it where there is nothing to compare with."""
        return self.after - (self.before or 0)


@dataclass(frozen=True)
class BudgetLine:
    """One budget of one model.

    Attributes:
        model: The model's path.
        budget: "size", "params", "macs", "growth", "drop", "error" or "latency-ratio".
        unit: "bytes", "parameters", "multiply-adds", "points" (0.01 is one), "score", "relative error" or "times".
        limit: What is allowed: of "growth" bytes of the baseline and its growth.
        value: What there is; infinite where outputs are not finite.
        allowed: The limit as it was given.
        where: What to change to change the limit.
        against: The baseline or reference, or None.
        low: Lower end of the value's 95 % interval, of what is measured on samples or in time.
        high: Its upper end.
        n: Samples, or runs, behind it.
        notes: How to read the value: what is counted as one, what lies within the noise.
        contributors: Of a budget that is not met, what grew most, or what is largest where nothing can be compared.
        by_lower_end: It is met where the lower end of the interval is within the limit, not the value.
    """

    model: str
    budget: str
    unit: str
    limit: float
    value: float
    allowed: str
    where: Where
    against: str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    notes: tuple[str, ...] = ()
    contributors: tuple[Contributor, ...] = ()
    by_lower_end: bool = False

    @property
    def passed(self) -> bool:
        """Whether it is within the limit; what is not a number is not."""
        held = self.low if self.by_lower_end and self.low is not None else self.value
        return not math.isnan(held) and held <= self.limit

    @property
    def left(self) -> float:
        """What is left of the budget; negative by how far it is over."""
        return self.limit - self.value


@dataclass(frozen=True, repr=False)
class CheckResult(Shown):
    """Every budget of every model; `str()` is a line each, and what grew where one is not met.

    Attributes:
        lines: The budgets in the order of the models.
        notes: What a reader should know: models that are too new to be compared.
    """

    lines: tuple[BudgetLine, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every budget is met."""
        return all(line.passed for line in self.lines)

    @property
    def over(self) -> tuple[BudgetLine, ...]:
        """The budgets that are not met."""
        return tuple(line for line in self.lines if not line.passed)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model once."""
        return tuple(dict.fromkeys(line.model for line in self.lines))

    def _brief(self) -> str:
        of = f"{len(self.lines)} budget{'' if len(self.lines) == 1 else 's'}"
        return f"failed: over {len(self.over)} of {of}" if self.over else f"passed: {of}"

    def to_json(self) -> str:
        """The facts of the table as JSON text."""
        names = [field.name for field in fields(BudgetLine)]
        lines = [{name: getattr(line, name) for name in (*names, "left", "passed")} for line in self.lines]
        return to_json({"passed": self.passed, "lines": lines, "notes": self.notes})
