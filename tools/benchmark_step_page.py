"""The part of docs/benchmarks.md that tools/benchmark_step.py writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import Part

PART = Part(
    "benchmarks.md",
    "<!-- made by tools/benchmark_step.py -->",
    "<!-- end of what tools/benchmark_step.py makes -->",
)


@dataclass(frozen=True)
class StepRecord:
    """Steps of one model with so many threads.

    Attributes:
        case: Which model.
        title: It in words, and the batch.
        threads: Of each side.
        tuned: Numbers that are tuned.
        ours: Median seconds of a step by ONNX Runtime and NumPy.
        torch: Of a step by PyTorch.
        ratio: Median of ours over PyTorch's in the same round.
        low: A tenth of the rounds have less.
        high: A tenth have more.
        rounds: How many there were.
        answers: How far the outputs of both are apart, relative to the largest.
        gradients: How far their gradients are apart, relative to their size, of the tensor that is worst.
        made_on: The code, the machine, the versions and the day.
    """

    case: str
    title: str
    threads: int
    tuned: int
    ours: float
    torch: float
    ratio: float
    low: float
    high: float
    rounds: int
    answers: float
    gradients: float
    made_on: str

    @property
    def cell(self) -> tuple[str, int]:
        """What it is of."""
        return self.case, self.threads

    def line(self) -> str:
        """For who watches."""
        times = f"PyTorch {1e3 * self.torch:.1f} ms, ours {1e3 * self.ours:.1f} ms"
        spread = f"{self.ratio:.2f} of it ({self.low:.2f} to {self.high:.2f})"
        return f"{self.case}, {threads(self.threads)}: {times}, {spread}, gradients within {self.gradients:.0e}"


def threads(count: int) -> str:
    """In words."""
    return "1 thread" if count == 1 else f"{count} threads"


def table(records: Sequence[StepRecord]) -> str:
    """A row for every model and number of threads, and what they were made on."""
    made_on = "; ".join(dict.fromkeys(record.made_on for record in records))
    lines = [
        f"`python tools/benchmark_step.py ASSETS --docs docs`, at {made_on}",
        "",
        "| model, batch | tuned numbers | threads | PyTorch, ms | ours, ms | ours / PyTorch | gradients differ by |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        times = [digits(1e3 * record.torch), digits(1e3 * record.ours)]
        ratio = f"**{record.ratio:.2f}** ({record.low:.2f} to {record.high:.2f})"
        cells = [record.title, f"{record.tuned:,}", str(record.threads), *times, ratio, f"{record.gradients:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def digits(value: float) -> str:
    """About three."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def update(folder: Path, records: Sequence[StepRecord]) -> None:
    """The page in the folder of the docs."""
    PART.update(folder, table(records))
