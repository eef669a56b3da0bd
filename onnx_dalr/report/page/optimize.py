"""The page of `optimize` and `apply`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from onnx_dalr.report.advice import next_steps
from onnx_dalr.report.figures import memory_text, promise_text, quality_rows, size_rows, speed_text
from onnx_dalr.report.page.cards import quality_card, speed_card
from onnx_dalr.report.page.layers import KINDS, Bar, Curve, kind_of, layer_bars, spectra
from onnx_dalr.report.page.parts import Card, Cell, DataTable, Facts, Note, Page, Part, Plot, Section, Steps
from onnx_dalr.report.page.search import Measured, tuning_curve
from onnx_dalr.report.page.shared import (
    curve_parts,
    few_notes,
    made_by,
    outputs_part,
    reasons_part,
    reproduce,
    samples_section,
    skipped_part,
)
from onnx_dalr.report.tuning import tuning_facts, tuning_text
from onnx_dalr.request.command import PACKAGE
from onnx_dalr.request.wording import in_python
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.units import format_bytes, format_change, format_count, format_share


def result_page(result: Result) -> Page:
    """Everything there is to say of a model that was made, what matters most first."""
    words = in_python if result.command.startswith(PACKAGE) else str
    name = result.output.name if result.output else "a model in memory"
    of = f"{result.input.name} → {name}" if result.input else name
    return Page(
        title=of,
        line=one_line_of(result),
        cards=tuple(_cards(result)),
        notes=(*few_notes(result.quality), *(Note(said) for said in result.notes)),
        sections=(
            Section("Summary", tuple(_summary(result, words))),
            Section("Size and quality", tuple(_tried(result))),
            Section("Layers", tuple(_layers(result.layers))),
            Section("Skipped", (skipped_part(result.skipped),) if result.skipped else ()),
            *samples_section(result.samples, result.pictures),
            Section("Tuning", tuple(_tuning(result))),
            Section("How it was made", tuple(_made(result))),
        ),
        foot=made_by(result.version),
    )


def result_plots(result: Result) -> tuple[Plot, ...]:
    """The plots of the page alone."""
    parts = (*_tried(result), *_layers(result.layers), *_tuning(result))
    return tuple(part for part in parts if isinstance(part, Plot))


def one_line_of(result: Result) -> str:
    """What came out, in a sentence."""
    lost = result.quality.drop_in_brief if result.quality else "quality not measured"
    return f"{format_change(result.bytes_before, result.bytes_after)}, {lost}"


def _cards(result: Result) -> Iterator[Card]:
    before, after = result.bytes_before, result.bytes_after
    size = f"{format_bytes(before)} → {format_bytes(after)}, {before / max(after, 1):.1f}× smaller"
    yield Card("Size on disk", format_share(after, before), size, after / before)
    quality = result.quality
    if quality is None:
        yield Card("Quality", "not measured", "no samples were held out", bad=True)
    else:
        yield quality_card(quality)
    if result.macs_before and result.macs_after:
        counts = f"{format_count(result.macs_before)} → {format_count(result.macs_after)} a sample"
        share = result.macs_after / result.macs_before
        yield Card("Multiply-adds", format_share(result.macs_after, result.macs_before), counts, share)
    params = f"{result.params_before:,} → {result.params_after:,}"
    share = result.params_after / result.params_before
    yield Card("Parameters", format_share(result.params_after, result.params_before), params, share)
    if result.latency:
        yield speed_card(result.latency)


def _summary(result: Result, words: Callable[[str], str]) -> Iterator[Part]:
    rows: list[tuple[str, str]] = [("model", str(result.input or "in memory"))]
    rows.append(
        ("written", str(result.output) if result.output else "nothing (dry run)" if result.dry_run else "nothing")
    )
    sizes = (result.bytes_before, result.bytes_after), (result.params_before, result.params_after)
    rows += size_rows(*sizes, (result.macs_before, result.macs_after), times=True)
    if result.quality is None:
        rows.append(("quality", "not measured: no samples were held out"))
    else:
        rows += quality_rows(result.quality, verbose=True)
    if result.latency:
        rows.append(("speed", speed_text(result.latency, result.provider)))
    if result.promise:
        rows.append(("promise", promise_text(result.promise)))
    if result.memory:
        rows.append(("memory", memory_text(result.memory)))
    if result.tuning is not None:
        rows.append(("tuning", tuning_text(result.tuning)))
    rows.append(("asked for", f"{result.target}; method {result.method}"))
    yield Facts(tuple(rows))
    if result.quality is not None and len(result.quality.outputs) > 1:
        yield outputs_part(result.quality)
    steps = [*next_steps(result), *_fewer_bits(result)]
    if steps:
        yield Steps("What could be tried next", tuple(map(words, steps)))


def _fewer_bits(result: Result) -> Iterator[str]:
    """What fewer bits would do, of which a user who has asked for none should know."""
    if result.bytes_with_formats is not None and result.bytes_with_formats < 0.9 * result.bytes_after:
        yield f"--weights auto: about {format_bytes(result.bytes_with_formats)} with the same ranks"


def _tried(result: Result) -> Iterator[Part]:
    quality, of_error = result.quality, result.target.startswith("max-error")
    measured = None
    if quality is not None and quality.finite and quality.score_before is None:
        figure, unit = (quality.error, 1) if of_error else (quality.drop, 100)
        measured = Measured(result.bytes_after, unit * figure.value, unit * figure.low, unit * figure.high)
    yield from curve_parts(result.curve, result.bytes_before, result.target, measured)


def _layers(layers: Sequence[LayerResult]) -> Iterator[Part]:
    bars = [Bar(one.name, one.bytes_before, one.bytes_after, kind_of(one.form), str(one.form)) for one in layers]
    if plot := layer_bars(bars):
        yield plot
    by_saving = sorted(layers, key=lambda one: one.bytes_after - one.bytes_before)
    if plot := spectra([curve for one in by_saving if (curve := _curve(one)) is not None]):
        yield plot
    columns = (
        ("layer", False), ("op", False), ("shape", True), ("form", False), ("before", True), ("after", True),
        ("saved", True), ("params kept", True), ("own error", True), ("distortion", True), ("rows", True),
    )  # fmt: skip
    rows = tuple(tuple(_cells(one)) for one in layers)
    faint = frozenset(at for at, one in enumerate(layers) if one.form.untouched)
    caption = (
        "Own error: of the layer's output, to expect on unseen rows. Distortion: what this layer alone is expected to "
        "do to the network's output, in the task's unit. Rows: what entered its statistics."
    )
    yield DataTable("All layers", columns, rows, faint=faint, caption=caption)
    yield reasons_part((one.name, one.form, one.reason) for one in layers)


def _curve(layer: LayerResult) -> Curve | None:
    found = layer.spectrum
    if found is None:
        return None
    kept = layer.params_after / layer.params_before
    chosen = (kept, layer.expected_error) if layer.expected_error is not None else None
    return Curve(layer.name, found.kept, found.errors, chosen, "as it was" if layer.form.untouched else str(layer.form))


def _cells(layer: LayerResult) -> Iterator[Cell]:
    yield Cell(layer.name, code=True)
    yield Cell(layer.op)
    yield Cell(f"{layer.m}×{layer.n}", layer.m * layer.n)
    yield Cell("as it was" if layer.form.untouched else str(layer.form), mark=KINDS[kind_of(layer.form)])
    yield Cell(format_bytes(layer.bytes_before), layer.bytes_before)
    yield Cell(format_bytes(layer.bytes_after), layer.bytes_after)
    saved = layer.bytes_before - layer.bytes_after
    yield Cell(format_bytes(saved) if saved else "", saved)
    yield Cell(format_share(layer.params_after, layer.params_before), layer.params_after / layer.params_before)
    for value, shown in ((layer.expected_error, "{:.4f}"), (layer.expected_distortion, "{:.2g}")):
        known = value is not None and math.isfinite(value)
        yield Cell(shown.format(value) if known else "", value if known else -1.0)
    yield Cell(f"{layer.rows:,}" if layer.rows else "", layer.rows)


def _tuning(result: Result) -> Iterator[Part]:
    tuning = result.tuning
    if tuning is None:
        return
    yield Facts((("tuning", tuning_text(tuning)), *(row for row in tuning_facts(tuning) if row[0] != "tuning curve")))
    if plot := tuning_curve(tuning.curve, "distortion"):
        yield plot


def _made(result: Result) -> Iterator[Part]:
    yield from reproduce(result.command, result.versions)
    facts = [("device", f"{result.device} asked for, {result.provider} used")]
    if result.factors != "default":
        facts.append(("factors", f"{result.factors}: did better on the select samples than trusting few samples fully"))
    if result.refitted:
        facts.append(("refitted", f"{len(result.refitted)} layers, to what the layers before them have become"))
    facts.append(("models scored", f"{result.evaluations}"))
    whole = sum(result.seconds.values())
    times = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items())
    facts.append(("seconds", f"{whole:.1f}: {times}"))
    yield Facts(tuple(facts))
