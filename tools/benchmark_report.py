"""Records of tools/benchmark.py as Markdown tables with mean and spread, as plots, and as a list of lost cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

ORIGINAL = "original"
TABLES = ("vgg-fc6", "vgg-fc7", "vgg-both", "mnist", "mnist-shift", "minilm")
OURS = ("optimize", "dalr", "dalr, no metric")
ALLOCATED = {"equal": "one ratio", "error": "ranks by error", "effect": "ranks by effect", "chosen": "its own choice"}
LOST = "Cells in which `optimize` loses to another method"
OUTDONE = "Cells with 10 % or more kept in which a variant of ours does better than `optimize`"
LEAST_KEPT = 0.1

_LISTED = "Beyond noise: by more than 1 %, and than two standard errors of the paired difference. KL in 10⁻³ nats."
_NOISE = 2.0  # standard errors of the paired difference
_ALIKE = 0.01  # of the best value: less is no difference
_FRAMED = (*OURS, "svd")  # whose accuracies the frame of a plot holds, if they are not lower than
_POINTS = 20  # below the original's


@dataclass(frozen=True)
class Record:
    """One model, measured.

    Attributes:
        table: Name of the table.
        model: Name of the original.
        title: Of the section.
        samples: Calibration samples.
        seed: Of their draw.
        unit: What `amount` is: "rank" or "share" of the layers' parameters.
        method: Name of the contender.
        allocation: How the ranks were chosen.
        amount: Rank or share.
        kept: Share of the layers' parameters that there are.
        params: Of the whole model.
        bytes: Of the whole model.
        seconds: From the samples to the model.
        test_seconds: What it took to run the test set.
        measures: By name: KL in nats, shares from 0 to 1, cosine.
        note: What was chosen.
    """

    table: str
    model: str
    title: str
    samples: int
    seed: int
    unit: str
    method: str
    allocation: str
    amount: float
    kept: float
    params: int
    bytes: int
    seconds: float
    test_seconds: float
    measures: dict[str, float]
    note: str

    @property
    def cell(self) -> tuple[Any, ...]:
        """What it is of."""
        return (*self.section, self.seed, *self.row, self.amount)

    @property
    def section(self) -> tuple[str, str, int]:
        """Table, model and calibration size."""
        return self.table, self.model, self.samples

    @property
    def row(self) -> tuple[str, str]:
        """Method and allocation."""
        return self.method, self.allocation


@dataclass(frozen=True, eq=False)
class Section:
    """All records of one model and calibration size.

    Attributes:
        records: Of the compressed models.
        whole: That of the original.
    """

    records: Sequence[Record]
    whole: Record

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Methods and allocations, ours last."""
        methods, allocations = list(_COLOURS), list(ALLOCATED)
        found = {record.row for record in self.records}
        return sorted(found, key=lambda row: (methods.index(row[0]), allocations.index(row[1])))

    @property
    def amounts(self) -> list[float]:
        """The columns: ranks from the smallest, shares from the largest."""
        return sorted({record.amount for record in self.records}, reverse=self.records[0].unit == "share")

    def at(self, row: tuple[str, str], amount: float) -> list[Record]:
        """One cell: the records of all seeds, in their order."""
        found = [record for record in self.records if record.row == row and record.amount == amount]
        return sorted(found, key=lambda record: record.seed)

    def values(self, row: tuple[str, str], amount: float, measure: str) -> np.ndarray[Any, Any]:
        """A measure by seed."""
        return np.array([record.measures[measure] for record in self.at(row, amount)])


def sections(records: Iterable[Record]) -> list[Section]:
    """The records by table, model and calibration size: tables in their order, the most samples first."""
    held = list(records)
    models = list(dict.fromkeys(record.model for record in held))
    whole = {(record.table, record.model): record for record in held if record.method == ORIGINAL}

    def place(record: Record) -> tuple[int, int, int]:
        return TABLES.index(record.table), models.index(record.model), -record.samples

    small = sorted((record for record in held if record.method != ORIGINAL), key=place)
    return [Section(list(group), whole[key[:2]]) for key, group in groupby(small, key=lambda record: record.section)]


def markdown(records: Iterable[Record], images: str | None = None) -> str:
    """All tables, then the cells in which `optimize` is not the best.

    Args:
        records: What was measured.
        images: Folder of the plots as the text is to name it; None for no plots.
    """
    held = sections(records)
    lines: list[str] = []
    for title, group in groupby(held, key=lambda section: section.records[0].title):
        same = list(group)
        table, model = same[0].whole.table, same[0].whole.model
        lines += [f"## {title}", "", _whole_line(same[0].whole), ""]
        lines += [f"`python tools/benchmark.py ASSETS --table {table} --model {model}`", ""]
        lines += [f"![{title}: quality against size]({images}/{plot_name(table, model)})", ""] if images else []
        for section in same:
            seeds = len({record.seed for record in section.records})
            first = section.records[0]
            lines += [f"### {first.samples:,} samples, {seeds} draw{'s' if seeds > 1 else ''}", ""]
            for number, measure in enumerate(_shown(first.measures)):
                lines += [*_table(section, measure, costs=number == 0), ""]
    for head, to_ours in ((LOST, False), (OUTDONE, True)):
        lines += [f"## {head}", "", _LISTED, "", *(_lost_lines(held, to_ours=to_ours) or ["None."]), ""]
    return "\n".join(lines)


def plot_name(table: str, model: str) -> str:
    """File of the plot of a table and model."""
    net = model.removeprefix("vgg-cifar-")
    return f"{table}.png" if net == model else f"{table}-{net}.png"


def _whole_line(whole: Record) -> str:
    figures = [
        f"{name.replace('accuracy, ', 'on ')} {100 * value:.2f} %"
        for name, value in whole.measures.items()
        if name.startswith("accuracy")
    ]
    return f"Original (`{whole.model}`): {whole.bytes / 1e6:.2f} MB, {', '.join(figures)}."


def _shown(measures: dict[str, float]) -> list[str]:
    """The measures that get a table; agreement goes beside the accuracy, and groups take the place of the whole."""
    groups = any("," in name for name in measures)
    return [name for name in measures if name != "agreement" and ("," in name) == groups]


def _table(section: Section, measure: str, *, costs: bool) -> list[str]:
    first = section.records[0]
    heads = [f"k = {amount:g}" if first.unit == "rank" else f"{100 * amount:g} %" for amount in section.amounts]
    name = _name(measure, agreement="agreement" in first.measures)
    lines = [f"| {name} | {' | '.join(heads)} |{' seconds |' if costs else ''}"]
    lines.append("|---|" + "---:|" * (len(heads) + costs))
    if costs:
        sizes = [np.mean([r.bytes for r in section.records if r.amount == amount]) for amount in section.amounts]
        lines.append(f"| *model, MB* | {' | '.join(f'*{size / 1e6:.2f}*' for size in sizes)} | |")
    cells = {(row, amount): section.values(row, amount, measure) for row in section.rows for amount in section.amounts}
    best = {amount: _best([cells[row, amount] for row in section.rows], measure) for amount in section.amounts}
    for row in section.rows:
        shown = []
        for amount in section.amounts:
            values = cells[row, amount]
            if not len(values):
                shown.append("")
                continue
            text = _spread(values, measure)
            if measure == "accuracy" and "agreement" in first.measures:
                agreement = section.values(row, amount, "agreement").mean()
                text += f" ({100 * agreement:.1f})"
            shown.append(f"**{text}**" if values.mean() == best[amount] else text)
        seconds = [record.seconds for amount in section.amounts for record in section.at(row, amount)]
        lines.append(
            f"| {label(row, first.unit)} | {' | '.join(shown)} |" + (f" {np.mean(seconds):.1f} |" if costs else "")
        )
    return lines


def _name(measure: str, *, agreement: bool) -> str:
    kind, _, group = measure.partition(", ")
    name = {"kl": "KL, 10⁻³ nats", "accuracy": "accuracy %", "cosine": "cosine"}[kind]
    return f"{name}, {group}" if group else name + (" (agreement %)" if kind == "accuracy" and agreement else "")


def label(row: tuple[str, str], unit: str) -> str:
    """A row's name: the allocation matters only where there is something to allocate."""
    method, allocation = row
    return method if unit == "rank" or allocation == "chosen" else f"{method}, {ALLOCATED[allocation]}"


def _is_low(measure: str) -> bool:
    return measure.startswith("kl")


def _best(cells: Sequence[np.ndarray[Any, Any]], measure: str) -> float:
    means = [float(values.mean()) for values in cells if len(values)]
    return min(means) if _is_low(measure) else max(means)


def _spread(values: np.ndarray[Any, Any], measure: str) -> str:
    """Mean ± standard deviation over the seeds."""
    scale = 1000 if measure.startswith("kl") else 1 if measure == "cosine" else 100
    mean, deviation = scale * values.mean(), scale * values.std(ddof=1) if len(values) > 1 else None
    digits = _digits(mean) if scale == 1000 else 4 if scale == 1 else 2
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ±{deviation:.{digits}f}")


def _digits(value: float) -> int:
    """Decimals that give three significant digits."""
    return int(np.clip(2 - np.floor(np.log10(max(abs(value), 1e-4))), 0, 5))


def _lost_lines(all_sections: Sequence[Section], *, to_ours: bool) -> list[str]:
    """One line for every cell in which `optimize` is beaten by more than noise."""
    return [
        line
        for section in all_sections
        for amount in section.amounts
        for line in _lost_line(section, amount, to_ours=to_ours)
    ]


def _lost_line(section: Section, amount: float, *, to_ours: bool) -> Iterator[str]:
    """The line of one cell, if it is lost to the other methods; or to variants of ours, with LEAST_KEPT or more."""
    first, measure = section.records[0], _shown(section.records[0].measures)[0]
    own = section.at(("optimize", "chosen"), amount)
    if not own or (to_ours and np.mean([record.kept for record in own]) < LEAST_KEPT - 1e-3):
        return
    sign = 1 if _is_low(measure) else -1
    rows = [row for row in section.rows if row[0] != "optimize" and (row[0] in OURS) == to_ours]
    rows = [row for row in rows if section.at(row, amount)]
    if not rows:
        return
    best = min(rows, key=lambda row: sign * section.values(row, amount, measure).mean())
    theirs = {record.seed: record.measures[measure] for record in section.at(best, amount)}
    pairs = np.array([(record.measures[measure], theirs[record.seed]) for record in own if record.seed in theirs])
    if len(pairs) and not _is_noise(sign * (pairs[:, 0] - pairs[:, 1]), pairs[:, 1] if sign > 0 else 1 - pairs[:, 1]):
        what = f"k = {amount:g}" if first.unit == "rank" else f"{100 * amount:g} %"
        yield (
            f"- {first.title}, {first.samples:,} samples, {what}: {_spread(pairs[:, 0], measure)} against "
            f"{_spread(pairs[:, 1], measure)} of *{label(best, first.unit)}*"
        )


def _is_noise(worse: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> bool:
    """Whether a paired difference, above zero where we lose, is within noise or too small to matter."""
    mean = float(worse.mean())
    error = float(worse.std(ddof=1) / np.sqrt(len(worse))) if len(worse) > 1 else 0.0
    return mean <= max(_NOISE * error, _ALIKE * float(scale.mean()))


_COLOURS = {
    "svd": "#9a9a9a",
    "svd-bc": "#4d4d4d",
    "dalr-2017, λ = 1000": "#f2b134",
    "dalr-2017, λ tuned": "#d1603d",
    "dalr, no metric": "#7fb7e6",
    "dalr": "#1f6fb5",
    "optimize": "#0b8a4a",
}
_STYLES = {"equal": "-", "error": ":", "effect": "--", "chosen": "-"}


def draw(records: Iterable[Record], folder: Path) -> None:
    """Quality against size: one PNG for every table and model, a column per calibration size."""
    import matplotlib as mpl  # noqa: PLC0415 - only for plots

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    for (table, model), group in groupby(sections(records), key=lambda section: section.records[0].section[:2]):
        _draw(list(group), folder / plot_name(table, model))


def _draw(several: Sequence[Section], path: Path) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    shown = _shown(several[0].records[0].measures)
    kinds = list(dict.fromkeys(measure.partition(", ")[0] for measure in shown))
    groups = list(dict.fromkeys(measure.partition(", ")[2] for measure in shown))
    columns = [(section, group) for section in several for group in groups]
    figure, axes = plt.subplots(
        len(kinds),
        len(columns),
        figsize=(1.2 + 3.9 * len(columns), 0.9 + 2.9 * len(kinds)),
        squeeze=False,
        sharex=True,
        sharey="row",
    )
    for kind, line in zip(kinds, axes, strict=True):
        for axis, (section, group) in zip(line, columns, strict=True):
            for row in section.rows:
                _draw_row(axis, section, row, _measure(kind, group))
            _finish(axis, section)
        _scale(line[0], columns, kind)
    for axis, (section, group) in zip(axes[0], columns, strict=True):
        title = f"{section.records[0].samples:,} calibration samples"
        axis.set_title(f"{title}; tested on {group}" if group else title, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("parameters of these layers kept, %", fontsize=8)
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes.flat), key=lambda pair: len(pair[1]))
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(several[0].records[0].title, fontsize=11)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_row(axis: Any, section: Section, row: tuple[str, str], measure: str) -> None:
    points = []
    for amount in section.amounts:
        held = section.at(row, amount)
        if held:
            values = np.array([record.measures[measure] for record in held]) * (
                1 if measure[:2] in ("kl", "co") else 100
            )
            points.append((100 * np.mean([r.kept for r in held]), values.mean(), values.min(), values.max()))
    points.sort()
    x, mean, low, high = (np.array(column) for column in zip(*points, strict=True))
    method, allocation = row
    style = {
        "color": _COLOURS[method],
        "linestyle": _STYLES[allocation],
        "linewidth": 2.2 if method == "optimize" else 1.3,
    }
    axis.plot(x, mean, marker="o", markersize=3, label=label(row, section.records[0].unit), **style)
    if measure.startswith("accuracy"):
        level = 100 * section.whole.measures[measure]
        axis.axhline(level, color="black", linewidth=0.7, linestyle=(0, (1, 2)))
    axis.fill_between(x, low, high, color=_COLOURS[method], alpha=0.12, linewidth=0)


def _finish(axis: Any, section: Section) -> None:
    axis.set_xscale("log")
    ticks = sorted({round(100 * record.kept, 1) for record in section.records if record.row == section.rows[0]})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7, rotation=45)
    axis.minorticks_off()
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    axis.tick_params(axis="y", labelsize=8)


def _scale(axis: Any, columns: Sequence[tuple[Section, str]], kind: str) -> None:
    """The vertical axis, which is that of the whole line of plots."""
    names = {"kl": "KL to the original, nats", "cosine": "cosine to the original", "accuracy": "accuracy, %"}
    axis.set_ylabel(names[kind], fontsize=8)
    if kind == "kl":
        axis.set_yscale("log")
    elif kind == "accuracy":
        levels = [100 * section.whole.measures[_measure(kind, group)] for section, group in columns]
        cells = (
            section.values(row, amount, _measure(kind, group))
            for section, group in columns
            for row in section.rows
            for amount in section.amounts
            if row[0] in _FRAMED
        )
        least = min((100 * values.mean() for values in cells if len(values)), default=min(levels))
        axis.set_ylim(max(least, min(levels) - _POINTS) - 0.5, max(levels) + 1)


def _measure(kind: str, group: str) -> str:
    return f"{kind}, {group}" if group else kind
