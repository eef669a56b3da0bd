"""The part of docs/benchmarks.md that tools/benchmark_weights.py writes, and its plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pages import Part

TITLES = {
    "minilm": "MiniLM-L6 sentence encoder, 3,080 banking77 questions",
    "vgg": "VGG moved to six animal classes, 6,000 images",
    "mnist": "MNIST MLP, 10,000 digits",
}
_MEASURES = {"cosine": "cosine", "kl": "KL, 10⁻³ nats", "agreement": "agreement %", "accuracy": "accuracy %"}
_PLOTTED = {"minilm": ("cosine", "1 − cosine to the original"), "vgg": ("kl", "KL"), "mnist": ("kl", "KL")}


@dataclass(frozen=True)
class WeightRecord:
    """One row.

    Attributes:
        case: Of which model.
        method: Which tool.
        asked: Its settings.
        ours: It is `optimize`.
        made_by: The code, the day and ONNX Runtime.
        bytes: On disk.
        measures: On the test set; shares from 0 to 1, KL in nats.
        speed: The original's time for one sample over its own.
        speed_low: Lower end of its 95 % interval.
        speed_high: Upper end.
        seconds: From the samples to the file.
        error: Why there are no measures; empty where there are.
    """

    case: str
    method: str
    asked: str
    ours: bool
    made_by: str
    bytes: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    speed: float = 0.0
    speed_low: float = 0.0
    speed_high: float = 0.0
    seconds: float = 0.0
    error: str = ""

    @property
    def cell(self) -> tuple[str, str, str]:
        """What it is of."""
        return self.case, self.method, self.asked

    def line(self) -> str:
        """For who watches."""
        figures = self.error or ", ".join(f"{name} {value:.5f}" for name, value in self.measures.items())
        return f"{self.method} {self.asked}: {self.bytes:,} bytes, {figures}, ×{self.speed:.2f}, {self.seconds:.0f} s"


def part(case: str) -> Part:
    """The place of a model's table."""
    return Part(
        "benchmarks.md",
        f"<!-- made by tools/benchmark_weights.py --only {case} -->",
        f"<!-- end of {case} by tools/benchmark_weights.py -->",
    )


def table(records: Sequence[WeightRecord]) -> str:
    """A model's section: where it is from, its rows by size, and what could not be made."""
    (whole,) = [record for record in records if record.method == "original"]
    made = sorted((r for r in records if not r.error and r is not whole), key=lambda r: -r.bytes)
    names = [name for name in _MEASURES if name in whole.measures]
    versions = list(dict.fromkeys(record.made_by for record in (*made, whole)))
    lines = [
        f"`python tools/benchmark_weights.py ASSETS --only {whole.case} --docs docs`, at {'; '.join(versions)}",
        "",
        f"| method | asked for | MB | of the file | {' | '.join(_MEASURES[name] for name in names)} | speed |",
        "|---|---|---:|---:|" + "---:|" * (len(names) + 1),
    ]
    for record in (whole, *made):
        method = f"**{record.method}**" if record.ours else record.method
        asked = f"`{record.asked}`" if record.ours else record.asked
        share = f"{100 * record.bytes / whole.bytes:.1f} %"
        figures = [shown(name, record.measures[name]) for name in names]
        cells = [method, asked, megabytes(record.bytes), share, *figures, f"{record.speed:.2f}"]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    failed = [record for record in records if record.error]
    lines += ["", "Not to be had:", ""] * bool(failed)
    lines += [f"- {record.method}, {record.asked}: {record.error}" for record in failed]
    return "\n".join(lines)


def megabytes(size: int) -> str:
    """Three digits."""
    value = size / 1e6
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def shown(name: str, value: float) -> str:
    """A figure as a cell."""
    if name == "cosine":
        return f"{value:.4f}"
    return f"{1000 * value:.3g}" if name == "kl" else f"{100 * value:.2f}"


def by_case(records: Iterable[WeightRecord]) -> dict[str, list[WeightRecord]]:
    """The records of each model."""
    held = list(records)
    return {name: [record for record in held if record.case == name] for name in dict.fromkeys(r.case for r in held)}


def update(folder: Path, records: Iterable[WeightRecord]) -> None:
    """The page in the folder of the docs: the tables of these models, all others as they are."""
    for case, own in by_case(records).items():
        part(case).update(folder, table(own))


def draw(records: Iterable[WeightRecord], folder: Path) -> None:
    """What is lost against bytes: one PNG with a plot for every model."""
    import matplotlib as mpl  # noqa: PLC0415 - only for plots

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    held = {case: own for case, own in by_case(records).items() if any(r.measures and r.speed for r in own)}
    figure, axes = plt.subplots(1, len(held), figsize=(1.2 + 4.6 * len(held), 4.2), squeeze=False)
    for axis, (case, own) in zip(axes[0], held.items(), strict=True):
        _draw(axis, case, [record for record in own if record.measures and record.method != "original"])
    handles: dict[str, Any] = {}
    for axis in axes[0]:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(folder / "weights.png", dpi=110)
    plt.close(figure)


_COLOURS = {
    "ours, auto": "#0b8a4a",
    "ours, int8": "#7bc49a",
    "ours, rank alone": "#1f6fb5",
    "float16": "#9a9a9a",
    "quantize_dynamic": "#d1603d",
    "quantize_static": "#f2b134",
    "MatMulNBits": "#7d5ba6",
    "MatMulNBits + quantize_dynamic": "#b08fd6",
}


def _kind(record: WeightRecord) -> str:
    if not record.ours:
        return record.method
    return {"auto": "ours, auto", "int8": "ours, int8", "keep": "ours, rank alone"}[record.asked.split()[1]]


def _draw(axis: Any, case: str, records: Sequence[WeightRecord]) -> None:
    name, label = _PLOTTED[case]
    for kind, colour in _COLOURS.items():
        found = sorted((r for r in records if _kind(r) == kind), key=lambda r: r.bytes)
        lost = [1 - r.measures[name] if name == "cosine" else r.measures[name] for r in found]
        line = "-" if kind.startswith("ours") else "none"
        marker = "o" if kind.startswith("ours") else "s"
        if found:
            sizes = [r.bytes / 1e6 for r in found]
            axis.plot(sizes, lost, marker=marker, markersize=5, linestyle=line, color=colour, label=kind)
    axis.set_xscale("log")
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - only for plots

    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.set_yscale("log")
    axis.set_xlabel("MB on disk", fontsize=8)
    axis.set_ylabel(label, fontsize=8)
    axis.set_title(TITLES[case], fontsize=9)
    axis.grid(visible=True, which="both", color="#e6e6e6", linewidth=0.6)
    axis.tick_params(labelsize=8)
