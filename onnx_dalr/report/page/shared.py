"""What the pages of several results have in common."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from onnx_dalr.factorize.form import Form
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.plan.choice import Point
from onnx_dalr.quality.evaluate import Quality
from onnx_dalr.report.figures import few_samples, output_score
from onnx_dalr.report.page.parts import Cell, Code, DataTable, Facts, Gallery, Note, Part, Picture, Section
from onnx_dalr.report.page.search import Measured, Tried, quality_against_size
from onnx_dalr.samples.sets import SampleSets
from onnx_dalr.units import format_bytes, format_count

_MOST_NAMES = 20
_TOLERANCE = re.compile(r"max-(?:drop|error) (?P<amount>[\d.]+(?:e-?\d+)?)%?(?= |,|$)")


def few_notes(quality: Quality | None) -> Iterator[Note]:
    """What so few samples cannot show."""
    for line in few_samples(quality):
        if line.plain:
            yield Note(line.plain, "warning")
    if quality is not None and not quality.finite:
        yield Note("the new model gives NaN or infinity where the original does not", "warning")


def curve_parts(curve: Sequence[Point], original: int, target: str, file: Measured | None = None) -> tuple[Part, ...]:
    """Every model that was tried, and the one that was written: a plot and a table."""
    if not curve:
        return ()
    of_error = target.startswith("max-error")
    tried = [Tried(one.bytes, one.error if of_error else 100 * one.drop, one.chosen) for one in curve]
    plot = quality_against_size(tried, original, "error" if of_error else "points lost", _allowed(target), file)
    columns = (
        ("", False), ("size", True), ("parameters", True), ("points lost", True), ("error", True), ("distortion", True),
        ("how its forms were chosen", False),
    )  # fmt: skip
    rows = tuple(
        (
            Cell("chosen" if one.chosen else ""),
            Cell(format_bytes(one.bytes), one.bytes),
            Cell(format_count(one.params), one.params),
            Cell(f"{100 * one.drop:.2f}" if math.isfinite(one.drop) else "NaN", one.drop),
            Cell(f"{one.error:.4f}", one.error),
            Cell(f"{one.distortion:.3g}", one.distortion),
            Cell(one.allocation),
        )
        for one in curve
    )
    strong = frozenset(at for at, one in enumerate(curve) if one.chosen)
    table = DataTable(f"All {len(curve)} models that were tried", columns, rows, strong, folded=True)
    return (table,) if plot is None else (plot, table)


def _allowed(target: str) -> float | None:
    """What may be lost, in the unit of the plot, where the target says that."""
    found = _TOLERANCE.match(target)
    if found is None:
        return None
    return float(found["amount"])  # of a drop in points, of an error as it is


def outputs_part(quality: Quality, *, largest: bool = False) -> DataTable:
    """One row an output; with `largest` also the largest difference of all."""
    columns = [("output", False), ("taken for", False), ("score", False), ("points lost", True), ("error", True)]
    columns += [("largest difference", True)] if largest else []
    rows = []
    for output in quality.outputs:
        mark = " (worst)" if output.name == quality.worst and len(quality.outputs) > 1 else ""
        lost = None if output.loss is None else 100 * output.loss.value
        error = None if output.error is None else output.error.value
        described = output.describes + ("" if output.counts else f"; not scored: {output.why}")
        rows.append(
            (
                Cell(output.name + mark, code=True),
                Cell(described),
                Cell(output_score(output)),
                Cell("" if lost is None else f"{lost:.2f}", lost),
                Cell("" if error is None else f"{error:.4f}", error),
                *([Cell(f"{output.max_abs:.4g}", output.max_abs)] if largest else []),
            )
        )
    faint = frozenset(at for at, output in enumerate(quality.outputs) if not output.counts)
    return DataTable("By output", tuple(columns), tuple(rows), faint=faint)


def skipped_part(skipped: Sequence[Skipped]) -> DataTable:
    """Nodes that look like layers and are not, by operator and reason."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in skipped:
        groups[one.op, one.reason].append(one.name)
    rows = tuple(
        (Cell(str(len(names)), len(names)), Cell(op), Cell(reason), Cell(_names(names), code=True))
        for (op, reason), names in sorted(groups.items())
    )
    columns = (("nodes", True), ("op", False), ("why not", False), ("which", False))
    return DataTable("Skipped, and why", columns, rows)


def reasons_part(layers: Iterable[tuple[str, Form, str]]) -> DataTable:
    """Why each layer has its form, one row a reason, of (layer, form, reason)."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for layer, form, reason in layers:
        by_reason[reason].append(layer if form.untouched else f"{layer} ({form})")
    rows = tuple(
        (Cell(str(len(names)), len(names)), Cell(reason), Cell(_names(names), code=True))
        for reason, names in by_reason.items()
    )
    return DataTable("Why", (("layers", True), ("reason", False), ("which", False)), rows)


def samples_section(samples: SampleSets | None, pictures: Sequence[tuple[str, bytes]]) -> Iterator[Section]:
    """What the samples were and how they entered the model."""
    if samples is None:
        return
    rows = [("samples", samples.description), *samples.settings.items()]
    counts = [("fit", samples.fit), ("proof", samples.proof), ("select", samples.select), ("report", samples.report)]
    split = ", ".join(f"{name} {len(ids)}" for name, ids in counts if ids)
    shared = "; select and report are the same set" if samples.select_is_report else ""
    rows.append(("split", f"{split}, seed {samples.seed}{shared}"))
    if samples.report_description:
        rows.append(("report samples", samples.report_description))
    rows.append(("fingerprint", samples.fingerprint))
    parts: list[Part] = [Facts(tuple(rows))]
    if pictures:
        caption = "After resizing, cropping and channel order: colours as they enter the model, before mean and scale."
        parts.append(Gallery("As the model sees them", tuple(Picture(*one) for one in pictures), caption))
    yield Section("Samples", tuple(parts))


def reproduce(command: str, versions: Mapping[str, str]) -> Iterator[Part]:
    """The command, and what it was run with."""
    if command:
        yield Code("The command, to run it again", command)
    if versions:
        yield Facts(tuple(versions.items()), "Versions")


def made_by(version: str) -> str:
    """The last line of a page."""
    return f"Made by onnx-dalr {version}."


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
