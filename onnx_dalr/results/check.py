"""What `check` found."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_dalr.results.json import to_json
from onnx_dalr.shown import Shown
from onnx_dalr.units import format_bytes

_WRITTEN = ("model", "budget", "limit", "allowed", "value", "left", "passed")
"""What JSON says of a line."""


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

    def _brief(self) -> str:
        over = sum(not line.passed for line in self.lines)
        of = f"{len(self.lines)} budget{'' if len(self.lines) == 1 else 's'}"
        return f"failed: over {over} of {of}" if over else f"passed: {of}"

    def to_json(self) -> str:
        """The facts of the table as JSON text."""
        lines = [{name: getattr(line, name) for name in _WRITTEN} for line in self.lines]
        return to_json({"passed": self.passed, "lines": lines})
