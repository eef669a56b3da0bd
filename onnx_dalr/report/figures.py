"""Figures of quality in words: percentages, points lost or gained, intervals, one line an output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from onnx_dalr.quality.evaluate import Latency, OutputQuality, Quality
from onnx_dalr.quality.intervals import Estimate, complement
from onnx_dalr.quality.memory import Memory
from onnx_dalr.quality.promise import Promise
from onnx_dalr.report.parts import fitting_table
from onnx_dalr.units import format_bytes, format_change, format_count, format_share

ENOUGH = 30
"""Held-out samples from which a report does not begin with how few they are."""

_OF_NUMBERS = ("cosine", "1 − error")


def percent(value: float) -> str:
    """A share."""
    return f"{100 * value:.2f} %"


def percent_text(estimate: Estimate) -> str:
    """A share in percent with its interval."""
    return f"{percent(estimate.value)} [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def number_text(estimate: Estimate, digits: int = 4) -> str:
    """A number with its interval."""
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def points_text(drop: Estimate) -> str:
    """A drop in percentage points with its interval; a gain is called one."""
    if drop.value < 0:
        return f"gained {-100 * drop.value:.2f} points [{-100 * drop.high:.2f}, {-100 * drop.low:.2f}]"
    return f"lost {100 * drop.value:.2f} points [{100 * drop.low:.2f}, {100 * drop.high:.2f}]"


def score_text(drop: Estimate) -> str:
    """A drop in the unit of a score of the user's own, with its interval; a gain is called one."""
    if drop.value < 0:
        return f"gained {-drop.value:.4f} [{-drop.high:.4f}, {-drop.low:.4f}]"
    return f"lost {number_text(drop)}"


def size_rows(
    bytes_: tuple[int, int],
    params: tuple[int, int],
    macs: tuple[int | None, int | None] = (None, None),
    *,
    times: bool = False,
) -> Iterable[tuple[str, str]]:
    """(name, what there is to say) of both models' sizes.

    Args:
        bytes_: Of both on disk.
        params: Of both.
        macs: Multiply-adds of both for a sample, where they are known.
        times: Say also how many times smaller the second is.
    """
    before, after = bytes_
    yield "size", format_change(before, after, f", {before / after:.1f}× smaller" if times and after else "")
    before, after = params
    yield "parameters", f"{before:,} → {after:,} ({format_share(after, before)})"
    if macs[0] and macs[1] and macs[0] != macs[1]:
        share = format_share(macs[1], macs[0])
        yield "multiply-adds", f"{format_count(macs[0])} → {format_count(macs[1])} a sample ({share})"


def quality_rows(quality: Quality, *, verbose: bool = False, of: str = "the original") -> Iterable[tuple[str, str]]:
    """(name, what there is to say), the figure that stands for the model first.

    Args:
        quality: The figures.
        verbose: Also those that explain others.
        of: What the outputs are compared with.
    """
    n = f"n={quality.n}"
    if quality.score_before:
        if quality.score_after is None:
            yield quality.score, f"{number_text(quality.score_before)} → not scored ({n})"
        else:
            both = f"{number_text(quality.score_before)} → {number_text(quality.score_after)}"
            yield quality.score, f"{both}, {score_text(quality.drop)} ({n})"
    if quality.accuracy_before and quality.accuracy_after:
        before, after = quality.accuracy_before, quality.accuracy_after
        lost = f", {points_text(quality.drop)}" if quality.score == "accuracy" else ""
        yield "accuracy", f"{percent(before.value)} → {percent(after.value)} top-1{lost} ({n})"
    if quality.agreement:
        yield "agreement", f"{percent_text(quality.agreement)} of answers as {of} gives them ({n})"
    if quality.score == "balanced agreement":
        yield "balanced", f"{percent_text(complement(quality.drop))} kept, every class counting alike ({n})"
    if quality.cosine:
        yield "cosine", f"{number_text(quality.cosine)} to {of} ({n})"
    several = sum(output.counts for output in quality.outputs) > 1
    worst = ", of the worst output" if several else ""
    yield "error", f"{number_text(quality.error)} relative to {of}'s outputs{worst} ({n})"
    if quality.expected_drop:
        yield "expected", f"{points_text(quality.expected_drop)}, by {of}'s own probabilities ({n})"
    if verbose and quality.kl is not None:
        yield "KL", f"{quality.kl:.2g} nats to {of}"


def outputs_table(outputs: Sequence[OutputQuality], worst: str | None, width: int, *, largest: bool = False) -> Table:
    """One line an output: what it was taken for, its score, what it lost, its error."""
    columns = [("output", "left"), ("taken for", "left"), ("score", "right"), ("lost", "right"), ("error", "right")]
    columns += [("largest difference", "right")] if largest else []
    rows = []
    for output in outputs:
        score = output_score(output)
        lost = "" if output.loss is None else f"{100 * output.loss.value:.2f} points"
        error = "" if output.error is None else f"{output.error.value:.4f}"
        described = output.describes + ("" if output.counts else f"; not scored: {output.why}")
        mark = " (worst)" if output.name == worst and len(outputs) > 1 else ""
        cells = [output.name + mark, described, score, lost, error, *([f"{output.max_abs:.4g}"] if largest else [])]
        rows.append((cells, "" if output.counts else "dim"))
    return fitting_table(columns, rows, width, spare=("score", "largest difference", "error"))


def output_score(output: OutputQuality) -> str:
    """What an output scores; nothing where its error says the same."""
    if output.value is None or output.score == "1 − error":
        return ""
    value = output.value.value
    return f"{output.score} {value:.4f}" if output.score in _OF_NUMBERS else f"{output.score} {percent(value)}"


def speed_text(latency: Latency, provider: str) -> str:
    """How long a run takes, and how much faster that is."""
    device = provider.removesuffix("ExecutionProvider")
    speedup = latency.speedup
    times = f"{speedup.value:.2f}× as fast [{speedup.low:.2f}, {speedup.high:.2f}]"
    return (
        f"{latency.before:.3g} ms → {latency.after:.3g} ms a run, {times} "
        f"(medians of {latency.runs} runs in turn, batch {latency.batch}, {device})"
    )


def promise_text(promise: Promise) -> str:
    """What was promised of the time of a run, and what was measured of it."""
    closely = "kept within noise" if promise.met else "not kept"
    how = "kept" if promise.measured.value <= promise.asked else closely
    return f"at most {100 * promise.asked:g} % of the original's time: {percent_text(promise.measured)}, {how}"


def memory_text(memory: Memory) -> str:
    """What a fresh session takes."""
    change = f"{format_bytes(memory.before)} → {format_bytes(memory.after)}"
    return f"{change} in a fresh session (resident after one run, batch {memory.batch})"


def few_samples(quality: Quality | None) -> Iterable[Text]:
    """The first lines, where samples are so few that every figure has to be read with that in mind."""
    if quality is None or quality.n >= ENOUGH:
        return
    n, counted = quality.n, quality.score in ("accuracy", "agreement")
    shown = f"with no answer changed in {n}, the 95 % bound of the drop is 3/n = {min(300 / n, 100):.3g} points"
    what = shown if counted else f"the figures are of these {n}, and may be far off on others"
    yield Text.assemble(("few samples: ", "yellow"), f"{n} held out; {what}. A drop of 1 point takes about 300 to see.")
    yield Text()
