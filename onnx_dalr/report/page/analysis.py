"""The page of `analyze`: the plan, and what it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_dalr._version import __version__
from onnx_dalr.candidate.forms import bytes_of, params_of
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.spectrum import spectrum_of
from onnx_dalr.factorize import UNTOUCHED
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan.choice import Choice
from onnx_dalr.plan.plan import Plan
from onnx_dalr.report.page.layers import KINDS, Bar, Curve, kind_of, layer_bars, spectra
from onnx_dalr.report.page.parts import Card, Cell, DataTable, Facts, Note, Page, Part, Plot, Section
from onnx_dalr.report.page.shared import (
    curve_parts,
    made_by,
    reasons_part,
    reproduce,
    samples_section,
    skipped_part,
)
from onnx_dalr.samples.images.gallery import thumbnails
from onnx_dalr.session.versions import versions
from onnx_dalr.units import format_bytes, format_share


def analysis_page(analysis: Analysis, *, plan: Plan | None = None, command: str = "") -> Page:
    """What a plan says, and what the samples say of the layers.

    Args:
        analysis: Still open.
        plan: Made from it; None for what the samples say alone.
        command: The call that made it, as it can be made again.
    """
    model, sets = analysis.context.original, analysis.sets
    name = model.path.name if model.path else "a model in memory"
    drawn = thumbnails(sets.fit.source, sets.fit.indices) if sets is not None and not sets.only_report else ()
    facts = None if sets is None else sets.facts(analysis.learned.calibration)
    curve = () if plan is None else curve_parts(plan.curve, model.size, plan.target)
    return Page(
        title=f"{name}: {'analysis' if plan is None else 'plan'}",
        line=_line(analysis, plan),
        cards=tuple(_cards(analysis, plan)),
        notes=tuple(Note(said) for said in analysis.context.notes),
        sections=(
            Section("Size and quality", curve),
            Section("Layers", tuple(_layers(analysis, plan))),
            Section("Skipped", (skipped_part(analysis.skipped),) if analysis.skipped else ()),
            *samples_section(facts, drawn),
            Section("How it was made", tuple(_made(analysis, plan, command))),
        ),
        foot=made_by(__version__),
    )


def analysis_plots(analysis: Analysis) -> tuple[Plot, ...]:
    """The plots of the page alone."""
    return tuple(part for part in _layers(analysis, None) if isinstance(part, Plot))


def _line(analysis: Analysis, plan: Plan | None) -> str:
    fitted = len(analysis.learned.digests)
    if plan is None:
        return f"{len(analysis.layers)} layers, seen by {fitted} samples"
    return f"{len(plan.compressed)} of {len(plan.choices)} layers get a new form; seen by {fitted} samples"


def _cards(analysis: Analysis, plan: Plan | None) -> Iterator[Card]:
    model = analysis.context.original
    inside = sum(layer.params * layer.dtype.itemsize for layer in analysis.layers)
    share = inside / model.size
    yield Card(
        "Eligible", format_share(inside, model.size), f"{format_bytes(inside)} of {format_bytes(model.size)}", share
    )
    chosen = [point for point in plan.curve if point.chosen] if plan is not None else []
    for point in chosen:
        change = f"{format_bytes(model.size)} → {format_bytes(point.bytes)}"
        yield Card("Planned size", format_share(point.bytes, model.size), change, point.bytes / model.size)
        yield Card("Points lost", f"{100 * point.drop:.2f}", "on the select samples, which chose it")
        yield Card("Error", f"{point.error:.4f}", "of the worst output, on the same samples")


def _layers(analysis: Analysis, plan: Plan | None) -> Iterator[Part]:
    choices = {} if plan is None else {choice.layer: choice for choice in plan.choices}
    pairs = [(layer, choices.get(layer.name)) for layer in analysis.layers]
    if choices and (plot := layer_bars([_bar(analysis, layer, one) for layer, one in pairs if one is not None])):
        yield plot
    by_saving = sorted(pairs, key=lambda pair: -_saved(analysis, *pair))
    curves = [curve for layer, one in by_saving if (curve := _curve(analysis, layer, one, plan)) is not None]
    if plot := spectra(curves):
        yield plot
    columns = (
        ("layer", False), ("op", False), ("shape", True), ("bytes", True), ("form", False), ("own error", True),
        ("distortion", True), ("largest rank", True), ("rows", True),
    )  # fmt: skip
    rows = tuple(tuple(_cells(analysis, layer, one)) for layer, one in pairs)
    yield DataTable("All layers", columns, rows)
    if choices:
        yield reasons_part((one.layer, one.form, one.reason) for one in choices.values())


def _bar(analysis: Analysis, layer: Layer, choice: Choice) -> Bar:
    method = analysis.context.options.method
    before = layer.params * layer.dtype.itemsize
    return Bar(layer.name, before, bytes_of(layer, choice.form, method), kind_of(choice.form), str(choice.form))


def _saved(analysis: Analysis, layer: Layer, choice: Choice | None) -> int:
    """Bytes that a layer saves; all that it takes where there is no plan."""
    if choice is None:
        return layer.params * layer.dtype.itemsize
    bar = _bar(analysis, layer, choice)
    return bar.before - bar.after


def _curve(analysis: Analysis, layer: Layer, choice: Choice | None, plan: Plan | None) -> Curve | None:
    method = analysis.context.options.method
    seen = analysis.learned.of(layer.name, plan.factors) if plan is not None else analysis.learned.of(layer.name)
    form = choice.form if choice is not None else UNTOUCHED
    found = spectrum_of(layer, seen, form, method)
    if found is None:
        return None
    chosen = None
    if choice is not None and choice.expected_error is not None:
        chosen = (params_of(layer, form, method) / layer.params, choice.expected_error)
    return Curve(layer.name, found.kept, found.errors, chosen, "" if choice is None else str(form))


def _cells(analysis: Analysis, layer: Layer, choice: Choice | None) -> Iterator[Cell]:
    yield Cell(layer.name, code=True)
    yield Cell(layer.op)
    yield Cell(f"{layer.m}×{layer.n}", layer.m * layer.n)
    size = layer.params * layer.dtype.itemsize
    yield Cell(format_bytes(size), size)
    if choice is None:
        yield from (Cell(""), Cell("", -1.0), Cell("", -1.0), Cell("", -1.0))
    else:
        form = choice.form
        yield Cell("as it was" if form.untouched else str(form), mark=KINDS[kind_of(form)])
        for value, shown in ((choice.expected_error, "{:.4f}"), (choice.expected_distortion, "{:.2g}")):
            yield Cell("" if value is None else shown.format(value), -1.0 if value is None else value)
        largest = choice.largest_rank
        yield Cell("" if largest is None else str(largest), -1.0 if largest is None else largest)
    rows = analysis.learned.rows.get(layer.name, 0)
    yield Cell(f"{rows:,}", rows)


def _made(analysis: Analysis, plan: Plan | None, command: str) -> Iterator[Part]:
    yield from reproduce(command, versions(analysis.provider if analysis.sets is not None else ""))
    facts = [("method", analysis.context.options.method.name)]
    if plan is not None:
        facts.append(("asked for", plan.target))
        facts.append(("models scored", str(plan.evaluations)))
    seconds = analysis.context.seconds
    facts.append(("seconds", ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())))
    yield Facts(tuple(facts))
