"""Results as tables for people."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.estimates import Estimate, complement
from onnx_dalr.evaluate import OutputQuality, Quality
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.plan import Point
from onnx_dalr.report.result import LayerResult, Result
from onnx_dalr.units import format_bytes, format_count, format_share

PLAIN_WIDTH = 120
NARROW = 80
_SHOWN_NAMES = 3
ENOUGH = 30
"""Held-out samples from which a report does not begin with how few they are."""


def as_text(renderable: RenderableType, width: int = PLAIN_WIDTH) -> str:
    """A rich renderable as plain text without colours or trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True, highlight=False, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def render_result(result: Result, width: int = PLAIN_WIDTH) -> str:
    """The table of a Result as plain text."""
    return as_text(result_view(result, narrow=width < NARROW), width)


def result_view(result: Result, *, narrow: bool = False) -> Group:
    """The report of `optimize`: layers, what was skipped and why, totals, quality, time.

    Args:
        result: What there is to show.
        narrow: Leave out the columns that others imply, for fewer than 80 characters a line.
    """
    reasons = reason_lines((layer.name, layer.rank, layer.reason) for layer in result.layers)
    parts: list[RenderableType] = [*_few_samples(result.quality), _layer_table(result.layers, narrow), Text(), *reasons]
    if result.skipped:
        parts.append(skipped_view(result.skipped))
    if len(result.curve) > 1 and not narrow:
        parts += [Text(), curve_view(result.curve)]
    parts += [Text(), _totals(result)]
    if result.notes:
        parts.append(Text())
    parts += [Text.assemble(("note: ", "yellow"), one_line(note)) for note in result.notes]
    return Group(*parts)


def _few_samples(quality: Quality | None) -> Iterable[Text]:
    """The first lines, where samples are so few that every figure has to be read with that in mind."""
    if quality is None or quality.n >= ENOUGH:
        return
    n, counted = quality.n, quality.score in ("accuracy", "agreement")
    shown = f"with no answer changed in {n}, the 95 % bound of the drop is 3/n = {min(300 / n, 100):.3g} points"
    what = shown if counted else f"the figures are of these {n}, and may be far off on others"
    yield Text.assemble(("few samples: ", "yellow"), f"{n} held out; {what}. A drop of 1 point takes about 300 to see.")
    yield Text()


def table(*columns: tuple[str, str]) -> Table:
    """A table in the house style; columns are (heading, "left" or "right")."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, side in columns:
        made.add_column(
            heading, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side == "right"
        )
    return made


def add_row(made: Table, *cells: str, style: str = "") -> None:
    """A row of plain text: names may hold anything, rich's markup and what would move a terminal's cursor among it."""
    made.add_row(*(Text(one_line(cell)) for cell in cells), style=style)


def _layer_table(layers: Iterable[LayerResult], narrow: bool) -> Table:
    columns = [("layer", "left"), ("op", "left"), ("shape", "right"), ("rank", "right"), ("parameters", "right")]
    columns += [("bytes", "right"), ("kept", "right"), ("error", "right"), ("effect", "right")]
    implied = {"op", "bytes", "kept", "effect"} if narrow else set()
    made = table(*(column for column in columns if column[0] not in implied))
    for layer in layers:
        dense = layer.rank is None
        cells = {
            "layer": layer.name,
            "op": layer.op,
            "shape": f"{layer.m}×{layer.n}",
            "rank": "dense" if dense else str(layer.rank),
            "parameters": _change(format_count, layer.params_before, layer.params_after),
            "bytes": _change(format_bytes, layer.bytes_before, layer.bytes_after),
            "kept": format_share(layer.params_after, layer.params_before),
            "error": "" if layer.expected_error is None else f"{layer.expected_error:.4f}",
            "effect": "" if layer.expected_distortion is None else f"{layer.expected_distortion:.2g}",
        }
        shown = [text for heading, text in cells.items() if heading not in implied]
        add_row(made, *shown, style="dim" if dense else "")
    return made


def reason_lines(layers: Iterable[tuple[str, int | None, str]]) -> Iterable[Text]:
    """Why each rank, one line per reason, of (layer, rank, reason)."""
    by_reason: dict[str, list[str]] = {}
    for layer, rank, reason in layers:
        by_reason.setdefault(reason, []).append(layer if rank is None else f"{layer} {rank}")
    for reason, names in by_reason.items():
        yield Text.assemble(("why ", "bold"), f"{one_line(reason)} ", (f"({_some(names)})", "dim"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(map(one_line, names[:_SHOWN_NAMES])) + more


def curve_view(curve: Iterable[Point]) -> Table:
    """Size against quality on the select samples, for every model that was scored; the chosen one is marked."""
    columns = [("scored", "left"), ("parameters", "right"), ("size", "right"), ("drop", "right")]
    made = table(*columns, ("error", "right"), ("distortion", "right"), ("allocation", "left"))
    for point in curve:
        cells = (
            "chosen" if point.chosen else "",
            format_count(point.params),
            format_bytes(point.bytes),
            f"{100 * point.drop:.2f} points",
            f"{point.error:.4f}",
            f"{point.distortion:.3g}",
            point.allocation,
        )
        add_row(made, *cells, style="bold" if point.chosen else "")
    return made


def skipped_view(skipped: Iterable[Skipped]) -> Group:
    """Skipped nodes, one line per operator and reason."""
    lines = []
    by_reason = sorted(skipped, key=lambda entry: (entry.op, entry.reason))
    for (op, reason), group in groupby(by_reason, key=lambda entry: (entry.op, entry.reason)):
        names = [entry.name for entry in group]
        lines.append(
            Text.assemble(("skipped ", "bold"), f"{len(names)} {op}: {one_line(reason)} ", (f"({_some(names)})", "dim"))
        )
    return Group(*lines)


def _totals(result: Result) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    wrote = f"{result.output}" if result.output else ("nothing written (dry run)" if result.dry_run else "in memory")
    before, after = result.bytes_before, result.bytes_after
    add_row(made, "output", wrote)
    add_row(made, "size", f"{format_bytes(before)} → {format_bytes(after)} ({format_share(after, before)})")
    before, after = result.params_before, result.params_after
    add_row(made, "parameters", f"{before:,} → {after:,} ({format_share(after, before)})")
    add_row(made, "method", f"{result.method}, target {result.target}" + _effort(result))
    if result.quality is None:
        add_row(made, "quality", "not measured: no samples were held out")
    else:
        shared = result.samples is not None and result.samples.select_is_report
        for name, line in _quality_rows(result.quality, shared):
            add_row(made, name, line)
    if result.latency:
        latency, device = result.latency, result.provider.removesuffix("ExecutionProvider")
        speed = latency.before / max(latency.after, 1e-9)
        add_row(
            made,
            "latency",
            f"{latency.before:.3g} ms → {latency.after:.3g} ms ({speed:.2f}× as fast; "
            f"medians of {latency.runs} runs in turn, batch {latency.batch}, {device})",
        )
    add_row(made, "seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items()))
    return made


def _effort(result: Result) -> str:
    trusted = "" if result.factors == "default" else f", factors: {result.factors}"
    scored = f", {result.evaluations} candidates scored" if result.evaluations else ""
    metric = f", output metric worth {result.metric_passes} forward passes" if result.metric_passes else ""
    return trusted + scored + metric + (f", {result.passes} passes to measure sensitivity" if result.passes else "")


def _quality_rows(quality: Quality, also_selected: bool) -> Iterable[tuple[str, str]]:
    where = f"{quality.n} held-out samples" + (", also used for selection" if also_selected else "")
    if quality.score_before and quality.score_after:
        scores = f"{interval_text(quality.score_before, 4)} → {interval_text(quality.score_after, 4)}"
        yield quality.score, f"{scores}, drop {interval_text(quality.drop, 4)} ({where})"
    if quality.accuracy_before and quality.accuracy_after:
        before, after = quality.accuracy_before, quality.accuracy_after
        drop = f", drop {points_text(quality.drop)}" if quality.score == "accuracy" else ""
        yield "accuracy", f"{_percent(before.value)} → {_percent(after.value)} top-1{drop} ({where})"
    if quality.agreement:
        yield "agreement", f"{estimate_text(quality.agreement)} same top-1 as the original ({where})"
    if quality.score == "balanced agreement":
        kept = complement(quality.drop)
        yield "balanced", f"{estimate_text(kept)} kept, every class counting alike ({where})"
    if quality.cosine:
        yield "cosine", f"{interval_text(quality.cosine, 4)} to the original ({where})"
    if quality.kl is not None:
        yield "KL", f"{quality.kl:.2g} nats to the original"
    yield "error", f"{interval_text(quality.error, 4)} relative, worst output ({where})"
    if quality.expected_drop:
        yield "expected", f"drop {points_text(quality.expected_drop)} by the original's own probabilities"
    if len(quality.outputs) > 1:
        for output in quality.outputs:
            yield "output", output_line(output, worst=output.name == quality.worst)


def output_line(output: OutputQuality, *, worst: bool) -> str:
    """One output by its own measure: what it lost, and whether that is the drop."""
    if output.loss is None or output.value is None:
        return f"{output.name}: {output.why}"
    figure = f"{output.value.value:.4f}" if output.score in ("cosine", "1 − error") else _percent(output.value.value)
    score = "error" if output.score == "1 − error" else output.score
    part = f"{output.name}: {score} {figure}, loses {points_text(output.loss)}"
    part += f", error {output.error.value:.4f}" if output.error and score != "error" else ""
    return part + (" (the worst)" if worst else "" if output.counts else f"; not scored: {output.why}")


def _change(shown: Callable[[float], str], before: int, after: int) -> str:
    return shown(before) if before == after else f"{shown(before)} → {shown(after)}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def estimate_text(estimate: Estimate) -> str:
    """A share in percent with its interval."""
    return f"{_percent(estimate.value)} [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def points_text(estimate: Estimate) -> str:
    """A difference in percentage points with its interval."""
    return f"{100 * estimate.value:.2f} points [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def interval_text(estimate: Estimate, digits: int) -> str:
    """A number with its interval."""
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
