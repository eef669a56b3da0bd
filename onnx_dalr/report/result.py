"""The view of a Result: what came out first, then the layers, then what was tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.factorize import KEPT
from onnx_dalr.factorize.joined import JOINED
from onnx_dalr.plan.choice import REFUSED
from onnx_dalr.report.advice import next_steps
from onnx_dalr.report.figures import (
    few_samples,
    memory_text,
    outputs_table,
    promise_text,
    quality_rows,
    size_rows,
    speed_text,
)
from onnx_dalr.report.parts import facts_table, fitting_table, note_lines, skipped_view, some
from onnx_dalr.report.plan import curve_view, reason_lines
from onnx_dalr.report.tuning import tuning_facts, tuning_text
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_bytes, format_share

_MOST_LAYERS = 12
_FEWEST_LAYERS = 4
_CLEARLY = 0.9
_SAME = {"max-drop": "at the same drop", "max-error": "at the same error"}
_BESIDE_NAMES = 58  # characters of the other columns


def result_view(
    result: Result, width: int = PLAIN_WIDTH, *, verbose: bool = False, words: Callable[[str], str] = str
) -> Group:
    """The report of `optimize` and `apply`.

    Args:
        result: What there is to show.
        width: Characters a line has.
        verbose: Also why each layer has its form, every model that was tried, and where the time went.
        words: What a sentence with options in it becomes; left as it is, it names them as the command line does.
    """
    parts: list[RenderableType] = [*few_samples(result.quality), facts_table(_facts(result, verbose=verbose))]
    if result.quality is not None and len(result.quality.outputs) > 1:
        parts += [Text(), outputs_table(result.quality.outputs, result.quality.worst, width)]
    if result.notes:
        parts += [Text(), *note_lines(result.notes)]
    steps = [Text.assemble(("next: ", "bold cyan"), one_line(words(step))) for step in next_steps(result)]
    parts += [Text(), *steps] if steps else []
    parts += [Text(), *_layers(result.layers, width, words, verbose=verbose)]
    if result.skipped:
        parts.append(skipped_view(result.skipped))
    if verbose:
        parts += _verbose(result, width)
    if result.bytes_with_formats is not None and result.bytes_with_formats < _CLEARLY * result.bytes_after:
        parts += [Text(), _with_formats(result.bytes_with_formats, result.target, words)]
    return Group(*parts)


def _with_formats(size: int, target: str, words: Callable[[str], str]) -> Text:
    """What fewer bits would do, of which a user who has asked for none should know."""
    same = next((same for name, same in _SAME.items() if target.startswith(name)), "with the same ranks")
    return Text.assemble((words("with --weights auto"), "bold"), f": about {format_bytes(size)} {same}")


def _facts(result: Result, *, verbose: bool) -> Iterator[tuple[str, str]]:
    if result.output:
        yield "written", str(result.output)
    else:
        yield "written", "nothing (dry run)" if result.dry_run else "nothing: the model is in memory"
    sizes = (result.bytes_before, result.bytes_after), (result.params_before, result.params_after)
    yield from size_rows(*sizes, (result.macs_before, result.macs_after), times=True)
    if result.quality is None:
        yield "quality", "not measured: no samples were held out"
    else:
        yield from quality_rows(result.quality, verbose=verbose)
        yield "samples", _samples(result)
    if result.latency:
        yield "speed", speed_text(result.latency, result.provider)
    if result.promise:
        yield "promise", promise_text(result.promise)
    if result.memory:
        yield "memory", memory_text(result.memory)
    if verbose and result.refitted:
        names = some(result.refitted)
        yield "refitted", f"{len(result.refitted)} to what the layers before them have become ({names})"
    if result.tuning is not None:
        yield "tuning", tuning_text(result.tuning)
        if verbose:
            yield from tuning_facts(result.tuning)
    yield "asked for", f"{result.target}; method {result.method}"


def _samples(result: Result) -> str:
    """Which samples the figures are of."""
    assert result.quality is not None
    n, sets = result.quality.n, result.samples
    if sets is None:
        return f"{n} held out"
    whose = f" of {sets.report_description}" if sets.report_description else ""
    seen = ", also used to choose" if sets.select_is_report else " that no decision saw"
    return f"{n} held out{whose}{seen}; fitted on {len(sets.fit)}"


def _layers(
    layers: Sequence[LayerResult], width: int, words: Callable[[str], str], *, verbose: bool
) -> Iterator[RenderableType]:
    """The layers that changed, the largest saving first; all in graph order with --verbose."""
    changed = sorted(
        (one for one in layers if not one.form.untouched), key=lambda one: one.bytes_after - one.bytes_before
    )
    # Long names fold, and a table of folded names is no longer one screen.
    longest = max((len(one.name) for one in changed), default=0)
    most = max(_MOST_LAYERS // math.ceil(max(longest, 1) / max(width - _BESIDE_NAMES, 1)), _FEWEST_LAYERS)
    shown = list(layers) if verbose else [one for one in layers if one in changed[:most]]
    column = "rank" if all(one.form.is_rank for one in changed) else "form"
    columns = [("layer", "left"), ("op", "left"), ("shape", "right"), (column, "right"), ("bytes", "right")]
    columns += [("kept", "right"), ("own error", "right")]
    columns += [("distortion", "right")] if verbose else []
    rows = []
    for layer in shown:
        untouched = layer.form.untouched
        cells = [
            layer.name,
            layer.op,
            f"{layer.m}×{layer.n}",
            layer.form.brief,
            _change(layer.bytes_before, layer.bytes_after),
            format_share(layer.params_after, layer.params_before),
            "" if layer.expected_error is None else f"{layer.expected_error:.4f}",
        ]
        if verbose:
            cells.append("" if layer.expected_distortion is None else f"{layer.expected_distortion:.2g}")
        rows.append((cells, "dim" if untouched else ""))
    yield fitting_table(columns, rows, width, spare=("op", "distortion", "kept", "own error", "shape"))
    hidden = len(changed) - len(shown)
    if hidden > 0:
        saved = sum(one.bytes_before - one.bytes_after for one in changed[most:])
        yield Text(
            f"and {hidden} more layers, {format_bytes(saved)} smaller together ({words('--verbose')})", style="dim"
        )
    if not verbose:  # what was asked for and not done is said in any case
        refused = [one for one in layers if one.form.untouched and REFUSED in one.reason]
        yield from reason_lines((one.name, one.form, one.reason) for one in refused)
    alone = (one for one in changed if one.form.format != KEPT and one.form.structure not in JOINED)
    plainly = [one.name for one in alone if not one.rows]
    if plainly and not verbose:
        what = f"{len(plainly)} that no samples are captured for"
        yield Text.assemble(("rounded to nearest ", "bold"), what, (f" ({some(plainly)})", "dim"))
    as_it_was = [one.name for one in layers if one.form.untouched]
    if as_it_was and not verbose:
        yield Text.assemble(("as it was ", "bold"), f"{len(as_it_was)} eligible ", (f"({some(as_it_was)})", "dim"))


def _verbose(result: Result, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text()]
    parts += reason_lines((layer.name, layer.form, layer.reason) for layer in result.layers)
    if len(result.curve) > 1:
        parts += [Text(), curve_view(result.curve, width)]
    facts = [("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items()))]
    if result.factors != "default":
        why = f"{result.factors}: did better on the select samples than trusting few samples fully"
        facts.insert(0, ("factors", why))
    return [*parts, Text(), facts_table(facts)]


def _change(before: int, after: int) -> str:
    return format_bytes(before) if before == after else f"{format_bytes(before)} → {format_bytes(after)}"
