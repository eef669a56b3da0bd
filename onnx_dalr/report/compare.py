"""The view of `compare`: both models and how they differ."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.report.differences import drift_parts, worst_table
from onnx_dalr.report.figures import few_samples, outputs_table, quality_rows, size_rows, speed_text
from onnx_dalr.report.parts import add_row, facts_table, note_lines
from onnx_dalr.results.compare import ModelComparison, ModelFacts
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_bytes, format_count, format_share


def comparison_view(found: ModelComparison, width: int = PLAIN_WIDTH, *, verbose: bool = False) -> Group:
    """Both models, their size, speed and score, what B's outputs differ in from A's, and the same by output."""
    quality = found.quality
    made = facts_table([*_model_rows(found), *quality_rows(quality, verbose=verbose, of="A")])
    if not quality.finite:
        said = "no: B gives NaN or infinity where A does not, which counts as 0 in these figures"
        add_row(made, "finite", said, style="bold red")
    parts: list[RenderableType] = [*few_samples(quality), made, Text()]
    parts.append(outputs_table(quality.outputs, quality.worst, width, largest=True))
    if found.worst:
        parts += [Text(), worst_table(found, width)]
    if found.drift is not None:
        parts += [Text(), *drift_parts(found.drift, width, verbose=verbose)]
    if found.notes:
        parts += [Text(), *note_lines(found.notes)]
    return Group(*parts)


def _model_rows(found: ModelComparison) -> Iterable[tuple[str, str]]:
    a, b = found.a, found.b
    yield "A", _name(a)
    yield "B", _name(b)
    chosen = f", {len(found.samples)} of them used (seed {found.seed})" if len(found.samples) < found.available else ""
    yield "samples", found.description + chosen
    if found.settings:
        yield "images", ", ".join(f"{name} {value}" for name, value in found.settings.items())
    yield from size_rows((a.bytes, b.bytes), (a.params, b.params))
    if a.macs is not None or b.macs is not None:
        share = f" ({format_share(b.macs, a.macs)})" if a.macs and b.macs is not None else ""
        yield "multiply-adds", f"{_macs(a)} → {_macs(b)} a sample{share}"
    if _shares(a) != _shares(b):
        yield "formats", f"{_formats(a)} → {_formats(b)}"
    yield "speed", speed_text(found.latency, found.provider)


def _formats(model: ModelFacts) -> str:
    """What its numbers are stored as, with the bytes of each where they are several."""
    several = len(model.formats) > 1
    named = (f"{name} {format_bytes(size)}" if several else name for name, size in model.formats.items())
    return ", ".join(named) or "no numbers"


def _shares(model: ModelFacts) -> dict[str, float]:
    """What share of its numbers' bytes each format has, to the tenth of a percent."""
    whole = max(sum(model.formats.values()), 1)
    return {name: round(size / whole, 3) for name, size in model.formats.items()}


def _macs(model: ModelFacts) -> str:
    return "not known" if model.macs is None else format_count(model.macs)


def _name(model: ModelFacts) -> str:
    return str(model.path or "in memory")
