"""The page of `compare`: two models side by side."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_dalr.quality.drift import Drift, TensorDrift
from onnx_dalr.report.differences import drift_facts
from onnx_dalr.report.figures import quality_rows, size_rows, speed_text
from onnx_dalr.report.page.cards import quality_card, speed_card
from onnx_dalr.report.page.differences import format_bars, tensor_errors
from onnx_dalr.report.page.parts import Card, Cell, DataTable, Facts, Gallery, Note, Page, Part, Picture, Plot, Section
from onnx_dalr.report.page.shared import few_notes, made_by, outputs_part, reproduce
from onnx_dalr.results.compare import ModelComparison, ModelFacts, WorstSample
from onnx_dalr.units import format_bytes, format_change, format_count, format_share


def comparison_page(found: ModelComparison) -> Page:
    """Everything that two models differ in, what matters most first."""
    return Page(
        title=f"{_name(found.a)} → {_name(found.b)}",
        line=f"{format_change(found.a.bytes, found.b.bytes)}, {found.quality.drop_in_brief}",
        cards=tuple(_cards(found)),
        notes=(*few_notes(found.quality), *(Note(said) for said in found.notes)),
        sections=(
            Section("Summary", tuple(_summary(found))),
            Section("Outputs", (outputs_part(found.quality, largest=True),)),
            Section("Worst samples", tuple(_worst(found))),
            Section("Where they begin to differ", tuple(_drift(found.drift))),
            Section("Formats", tuple(_formats(found))),
            Section("How it was measured", tuple(_measured(found))),
        ),
        foot=made_by(found.version),
    )


def comparison_plots(found: ModelComparison) -> tuple[Plot, ...]:
    """The plots of the page alone."""
    return tuple(part for part in (*_drift(found.drift), *_formats(found)) if isinstance(part, Plot))


def _name(model: ModelFacts) -> str:
    return model.path.name if model.path else "in memory"


def _cards(found: ModelComparison) -> Iterator[Card]:
    a, b = found.a, found.b
    yield Card("Size on disk", format_share(b.bytes, a.bytes), format_change(a.bytes, b.bytes), b.bytes / a.bytes)
    yield quality_card(found.quality)
    if a.macs and b.macs:
        counts = f"{format_count(a.macs)} → {format_count(b.macs)} a sample"
        yield Card("Multiply-adds", format_share(b.macs, a.macs), counts, b.macs / a.macs)
    if a.params:
        params = f"{a.params:,} → {b.params:,}"
        yield Card("Parameters", format_share(b.params, a.params), params, b.params / a.params)
    yield speed_card(found.latency)


def _summary(found: ModelComparison) -> Iterator[Part]:
    a, b = found.a, found.b
    rows = [("A", str(a.path or "in memory")), ("B", str(b.path or "in memory"))]
    rows += size_rows((a.bytes, b.bytes), (a.params, b.params), (a.macs, b.macs))
    rows += quality_rows(found.quality, verbose=True, of="A")
    rows.append(("speed", speed_text(found.latency, found.provider)))
    yield Facts(tuple(rows))


def _worst(found: ModelComparison) -> Iterator[Part]:
    drawn = [Picture(one.id, one.thumbnail, _said(one)) for one in found.worst if one.thumbnail is not None]
    if drawn:
        caption = "The samples that B loses most on, as the models see them, the worst first."
        yield Gallery("As the models see them", tuple(drawn), caption)
    if not found.worst:
        return
    columns = (
        ("sample", False), ("output", False), ("A says", False), ("B says", False), ("right is", False), ("lost", True),
        ("distortion", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(one.id, code=True),
            Cell(one.output, code=True),
            Cell(one.a or ""),
            Cell(one.b or "" if one.finite else "NaN or infinity"),
            Cell(one.label or ""),
            Cell(f"{one.loss:.3g}", one.loss),
            Cell(f"{one.distortion:.3g}", one.distortion),
        )
        for one in found.worst
    )
    yield DataTable("By name", columns, rows)


def _said(sample: WorstSample) -> str:
    if not sample.finite:
        return "B: NaN or infinity"
    both = f"{sample.a} → {sample.b}" if sample.a is not None and sample.b is not None else f"lost {sample.loss:.3g}"
    return both + (f", right is {sample.label}" if sample.label is not None else "")


def _drift(drift: Drift | None) -> Iterator[Part]:
    if drift is None:
        return
    yield Facts(tuple(drift_facts(drift)))
    if plot := tensor_errors(
        [(one.name, one.error) for one in drift.tensors], drift.first.name if drift.first else None
    ):
        yield plot
    if drift.tensors:
        columns = (
            ("tensor", False), ("node", False), ("operator", False), ("shape", True), ("error", True),
            ("of what enters", True),
        )  # fmt: skip
        rows = tuple(tuple(_tensor_cells(one)) for one in drift.tensors)
        strong = frozenset(at for at, one in enumerate(drift.tensors) if one == drift.first)
        yield DataTable(f"All {len(rows)} tensors that both have", columns, rows, strong, folded=True)


def _tensor_cells(one: TensorDrift) -> Iterator[Cell]:
    yield Cell(one.name, code=True)
    yield Cell(one.node, code=True)
    yield Cell(one.op if one.op == one.op_b else f"{one.op} / {one.op_b}")
    yield Cell("×".join(map(str, one.shape)))
    yield Cell(f"{one.error:.3g}" if one.finite else "NaN", one.error if one.finite else 1e30)
    yield Cell(f"{one.entering:.3g}", one.entering)


def _formats(found: ModelComparison) -> Iterator[Part]:
    names = list(dict.fromkeys((*found.a.formats, *found.b.formats)))
    if plot := format_bars({name: (found.a.formats.get(name, 0), found.b.formats.get(name, 0)) for name in names}):
        yield plot
    columns = (("format", False), ("A", True), ("B", True))
    rows = tuple(
        (
            Cell(name),
            *(Cell(format_bytes(size), size) for size in (found.a.formats.get(name, 0), found.b.formats.get(name, 0))),
        )
        for name in names
    )
    yield DataTable("Bytes of numbers by format", columns, rows)


def _measured(found: ModelComparison) -> Iterator[Part]:
    chosen = f"{len(found.samples)} of {found.available}, seed {found.seed}"
    rows = [("samples", found.description), ("used", chosen), *found.settings.items()]
    rows.append(("device", f"{found.device} asked for, {found.provider} used"))
    yield Facts(tuple(rows))
    yield from reproduce(found.command, found.versions)
