"""The table of `compare`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnx_dalr.comparison import ModelComparison, ModelFacts
from onnx_dalr.errors import one_line
from onnx_dalr.evaluate import Quality
from onnx_dalr.report.text import add_row, estimate_text, interval_text, points_text, table
from onnx_dalr.units import format_bytes, format_share


def comparison_view(found: ModelComparison) -> Group:
    """Both models, their size, speed and score, what B's outputs differ in from A's, and the same by output."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, line in (*_model_rows(found), *_quality_rows(found.quality)):
        add_row(made, name, line, style="bold red" if name == "finite" and not found.quality.finite else "")
    parts: list[RenderableType] = [made, Text(), _outputs(found.quality)]
    if found.notes:
        parts.append(Text())
    parts += [Text.assemble(("note: ", "yellow"), one_line(note)) for note in found.notes]
    return Group(*parts)


def _model_rows(found: ModelComparison) -> Iterable[tuple[str, str]]:
    a, b, latency = found.a, found.b, found.latency
    yield "A", _name(a)
    yield "B", _name(b)
    chosen = f", {len(found.samples)} of them used (seed {found.seed})" if len(found.samples) < found.available else ""
    yield "samples", found.description + chosen
    if found.settings:
        yield "images", ", ".join(f"{name} {value}" for name, value in found.settings.items())
    yield "task", found.quality.task
    yield "size", f"{format_bytes(a.bytes)} → {format_bytes(b.bytes)} ({format_share(b.bytes, a.bytes)})"
    yield "parameters", f"{a.params:,} → {b.params:,} ({format_share(b.params, a.params)})"
    yield (
        "latency",
        f"{latency.before:.3g} ms → {latency.after:.3g} ms ({latency.before / max(latency.after, 1e-9):.2f}× as fast; "
        f"medians of {latency.runs} runs in turn, batch {latency.batch}, "
        f"{found.provider.removesuffix('ExecutionProvider')})",
    )


def _name(model: ModelFacts) -> str:
    return str(model.path or "in memory")


def _quality_rows(quality: Quality) -> Iterable[tuple[str, str]]:
    n = f"{quality.n} samples"
    if quality.score_before:
        after = "not scored" if quality.score_after is None else interval_text(quality.score_after, 4)
        drop = "" if quality.score_after is None else f", drop {interval_text(quality.drop, 4)}"
        yield quality.score, f"{interval_text(quality.score_before, 4)} → {after}{drop} ({n})"
    if quality.accuracy_before and quality.accuracy_after:
        drop = f", drop {points_text(quality.drop)}" if quality.score == "accuracy" else ""
        yield (
            "accuracy",
            f"{estimate_text(quality.accuracy_before)} → {estimate_text(quality.accuracy_after)} top-1{drop} ({n})",
        )
    if quality.agreement:
        yield "agreement", f"{estimate_text(quality.agreement)} same top-1 ({n})"
    if quality.cosine:
        yield "cosine", f"{interval_text(quality.cosine, 4)} ({n})"
    if quality.kl is not None:
        yield "KL", f"{quality.kl:.2g} nats from A to B"
    yield "error", f"{interval_text(quality.error, 4)} relative to A, worst output ({n})"
    if quality.finite:
        yield "finite", "yes"
    else:
        yield "finite", "no: B gives NaN or infinity where A does not, which counts as 0 in these figures"


def _outputs(quality: Quality) -> Table:
    made = table(
        ("output", "left"),
        ("taken for", "left"),
        ("lost", "right"),
        ("error", "right"),
        ("largest difference", "right"),
    )
    for output in quality.outputs:
        lost = "" if output.loss is None else f"{100 * output.loss.value:.2f} points"
        error = "" if output.error is None else f"{output.error.value:.4f}"
        described = output.describes + ("" if output.counts else f"; not scored: {output.why}")
        add_row(made, output.name, described, lost, error, f"{output.max_abs:.4g}")
    return made
