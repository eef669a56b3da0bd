"""Budgets that models are run for: what is lost against a reference, and the time beside a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from onnx_dalr.commands.compare import compare
from onnx_dalr.errors import InputError
from onnx_dalr.graph.ends import common_ends
from onnx_dalr.graph.storage.model import load
from onnx_dalr.progress import TIMING, Progress
from onnx_dalr.quality.evaluate import Latency, OutputQuality, Quality, measure_latency
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.request.budgets.budget import LATENCY, Budget, Limit
from onnx_dalr.request.options import read_options
from onnx_dalr.results.check import BudgetLine, Contributor
from onnx_dalr.samples.sets import opened
from onnx_dalr.session.session import open_session

_ONCE, _AGAIN = 1.0, 3.0
"""Seconds in which a latency is measured, and in which it is once more before it fails."""

_WORST = 3
"""Samples that are named where too much is lost."""


def quality_lines(
    model: Path, reference: Path, budget: Budget, limits: list[Limit], progress: Progress
) -> Iterator[BudgetLine]:
    """The budgets of what may be lost, from one comparison.

    Raises:
        InputError: The two cannot be compared on the samples.
    """
    with _at(budget):
        compared = compare(reference, model, **budget.on_samples, worst=_WORST, drift=False, progress=progress)
    quality = compared.quality
    for limit in limits:
        assert isinstance(limit.amount, float)
        found = quality.drop if limit.budget == "drop" else quality.error
        unit = "relative error"
        if limit.budget == "drop":
            unit = "points" if quality.score_before is None else "score"
        line = BudgetLine(
            model=str(model),
            budget=limit.budget,
            unit=unit,
            limit=limit.amount,
            value=found.value if quality.finite else float("inf"),
            allowed=limit.said,
            where=limit.where,
            against=str(reference),
            low=found.low if quality.finite else None,
            high=found.high if quality.finite else None,
            n=quality.n,
            notes=tuple(_notes(quality, limit.budget)),
        )
        if not line.passed:
            worst = [f"the worst samples: {', '.join(one.id for one in compared.worst)}"] if compared.worst else []
            found_in = tuple(_outputs(quality, limit.budget))
            line = replace(line, contributors=found_in, notes=(*line.notes, *worst))
        yield line


def _notes(quality: Quality, budget: str) -> Iterator[str]:
    if not quality.finite:
        yield "it gives NaN or infinity where the reference does not"
    elif budget == "drop":
        several = sum(output.counts for output in quality.outputs) > 1
        yield f"score: {quality.score}{' of the worst output' if several else ''}"


def _outputs(quality: Quality, budget: str) -> Iterator[Contributor]:
    """The outputs that lost most."""

    def lost(output: OutputQuality) -> Estimate | None:
        return output.loss if budget == "drop" else output.error

    counted = [(output, found) for output in quality.outputs if output.counts and (found := lost(output))]
    for output, found in sorted(counted, key=lambda pair: -pair[1].value):
        yield Contributor(output.name, output.describes, None, found.value)


def latency_line(model: Path, baseline: Path, budget: Budget, limit: Limit, progress: Progress) -> BudgetLine:
    """The budget of time: over it only where the whole interval is, in two measurements.

    Raises:
        InputError: The two cannot be run on the samples.
    """
    assert isinstance(limit.amount, float)
    options = dict(budget.on_samples)
    with _at(budget):
        how, samples = read_options(options.pop("data"), {**options, "holdout": 0.0})
        models = load(baseline), load(model)
        specs = common_ends(*models, (str(baseline), str(model)), cast=True)
        with opened(samples, specs) as sets, progress.stage(TIMING, None):
            count, feed = sets.fit.one()
            for seconds in (_ONCE, _AGAIN):  # with new sessions: where their memory lies matters too
                one, other = (open_session(each.source(), how.runtime) for each in models)
                found = measure_latency(one, other, feed, count, seconds)
                again = seconds == _AGAIN
                if _ratio(found).low <= limit.amount:
                    break
    ratio = _ratio(found)
    return BudgetLine(
        model=str(model),
        budget=LATENCY,
        unit="times",
        limit=limit.amount,
        value=ratio.value,
        allowed=limit.said,
        where=limit.where,
        against=str(baseline),
        low=ratio.low,
        high=ratio.high,
        n=found.runs,
        notes=(_of_time(found, again=again),),
        by_lower_end=True,
    )


def _ratio(found: Latency) -> Estimate:
    """How many times the baseline's time."""
    speedup = found.speedup
    return Estimate(1 / speedup.value, 1 / speedup.high, 1 / speedup.low, speedup.n)


def _of_time(found: Latency, *, again: bool) -> str:
    both = f"{found.before:.3g} ms → {found.after:.3g} ms a run"
    return f"{both}, medians of {found.runs} in turn, batch {found.batch}{', measured twice' if again else ''}"


@contextmanager
def _at(budget: Budget) -> Iterator[None]:
    """Says in an error which budget of a config it comes from."""
    try:
        yield
    except InputError as error:
        if budget.source.file is None:
            raise
        raise budget.source.error(error.message, error.hint) from error
