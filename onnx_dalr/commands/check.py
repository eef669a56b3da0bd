"""The CI gate: is a model within its budgets? Only what is measured on samples or in time runs a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_dalr.commands.checking.beside import beside, check_there
from onnx_dalr.commands.checking.growth import contributors
from onnx_dalr.commands.checking.measured import Measured
from onnx_dalr.commands.checking.running import latency_line, quality_lines
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.request.budgets.asked import Asked, asked
from onnx_dalr.request.budgets.budget import LATENCY, QUALITY, RUNNING, Budget, Limit
from onnx_dalr.request.options import PathLike
from onnx_dalr.results.check import BudgetLine, CheckResult
from onnx_dalr.samples import GivenLabels
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.units import Amount

_UNITS = {"size": "bytes", "growth": "bytes", "params": "parameters", "macs": "multiply-adds"}

Lines = dict[tuple[Path, int, int], BudgetLine]
"""By model, place of the budget and place of the limit in it."""


@on_one_blas_thread
def check(
    models: PathLike | Sequence[PathLike] = (),
    *,
    max_size: str | float | None = None,
    max_params: str | float | None = None,
    max_macs: str | float | None = None,
    max_growth: str | float | None = None,
    max_drop: str | float | None = None,
    max_error: str | float | None = None,
    max_latency_ratio: str | float | None = None,
    baseline: PathLike | None = None,
    reference: PathLike | None = None,
    config: PathLike | None = None,
    data: Any = None,
    labels: GivenLabels | None = None,
    task: str = "auto",
    outputs: str | Iterable[str] = (),
    score: str | Callable[..., Any] | None = None,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    ops_library: PathLike | Sequence[PathLike] = (),
    resize: tuple[int, int] | int | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    scale: float | None = None,
    color: str | None = None,
    layout: str | None = None,
    preset: str | None = None,
    crop: tuple[int, int] | float | str | None = None,
    preprocess: str | Callable[[Any], Any] | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Holds models against budgets: those given here, or those of a config file.

    Args:
        models: One path or several, globs too; without limits, those of the config that these models match. None at all
            for every model of the config.
        max_size: Bytes on disk of the artifact, external data included, "25MB"; "80%" is of the baseline.
        max_params: Numbers the model computes with, in whatever format, "6M"; "80%" is of the baseline.
        max_macs: Multiply-adds of one sample, "300M"; "80%" is of the baseline. Open axes of tokens count as one.
        max_growth: How much larger than the baseline the artifact may be, "2%" or "100kB"; 0 where nothing else that is
            given is measured against the baseline.
        max_drop: Score that may be lost against the reference, "1%" or 0.01.
        max_error: Relative error of the worst output against the reference, 0.02; 0 for the same numbers.
        max_latency_ratio: Time of a run as a multiple of the baseline's, both measured in turn, 1.1; over it where all
            of the 95 % interval is, twice.
        baseline: A model to compare with, or a folder that holds one of the same path or name for each.
        reference: What `max_drop` and `max_error` compare with, a model or a folder as `baseline`; the baseline where
            left out.
        config: The file that says the budgets; else the nearest onnx-dalr.toml, or pyproject.toml with
            [tool.onnx-dalr], in this folder or one above it. It is not read where limits are given.
        data: Samples to run `max_drop`, `max_error` and `max_latency_ratio` on, in any form `optimize` takes as
            `calib`; every one counts.
        labels: Class per sample, where they come in no class folders: a `.npy`, a file with one integer a line, or
            integers [N]; [N, …] are classes of tokens or pixels, -100 says that there is none.
        task: "auto", "classify", "regress" or "embed": what the score is.
        outputs: Names of the outputs whose loss counts; all that are the model's answer where left out.
        score: A score of your own, higher is better: a function (outputs, labels) → number or one per sample, or
            "file.py:function". One that takes a third argument is given the original's outputs too.
        samples: Use so many samples at most, drawn by `seed`.
        seed: Of the split, and of what `samples` draws.
        batch_size: Samples run at a time.
        device: "auto", "cpu" or "cuda".
        threads: Threads to work with; where left out as many as there are cores that may be used, by the affinity of
            the process and the CPU quota of its container.
        ops_library: Shared libraries of custom operators that the model uses, for ONNX Runtime to load; one or more.
        resize: Image height and width; before a crop, one number is the shorter side.
        mean: Subtracted from the pixels after `scale`, one value or one per channel.
        std: Pixels are divided by it after that.
        scale: Factor on the pixels 0..255; 1/255 where left out.
        color: "rgb", "bgr" or "gray".
        layout: "nchw" or "nhwc".
        preset: Image settings by name, "imagenet", "tf", "caffe", …; what is given beside it goes first.
        crop: The middle of the image: (height, width), "center" for the model's size, or a fraction such as 0.875.
        preprocess: A function from a Pillow image to an array without the batch axis, or "file.py:function".
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.

    Returns:
        A line for every budget of every model, whether it is met or not: see `result.passed`.

    Raises:
        InputError: No budget, one that lacks what it needs, a glob that matches nothing, or something that is no model.
    """
    given = dict(locals())
    found = asked(given.pop("models"), given.pop("config"), given)
    return hold(found, given.pop("progress") or Silent())


def hold(every: Sequence[Asked], progress: Progress) -> CheckResult:
    """Measures what the budgets are about; what is cheap, for all models, before any of them is run.

    Raises:
        InputError: Something is no model, or cannot be measured.
    """
    for one in every:
        check_there(one)
    models = list(dict.fromkeys(model for one in every for model in one.models))
    lines: Lines = {}
    for model in models:
        measured = Measured(model)
        for at, budget in _of(every, model):
            for place, line in _still(measured, budget):
                lines[model, at, place] = line
    for model in models:
        for at, budget in _of(every, model):
            for place, line in _running(model, budget, progress):
                lines[model, at, place] = line
    order = sorted(lines, key=lambda key: (models.index(key[0]), *key[1:]))
    return CheckResult(tuple(lines[key] for key in order), tuple(_new(every)))


def _of(every: Sequence[Asked], model: Path) -> Iterator[tuple[int, Budget]]:
    """The budgets of a model with their places."""
    yield from ((at, one.budget) for at, one in enumerate(every) if model in one.models)


def _new(every: Sequence[Asked]) -> Iterator[str]:
    """What is said of models for which a folder holds nothing to compare with."""
    for one in every:
        for name, given in (("baseline", one.budget.baseline), ("reference", one.budget.reference)):
            if given is None or (name == "reference" and given == one.budget.baseline):
                continue
            for model in one.models:
                if beside(model, given, one.budget) is None:
                    yield f"{model} is not in {given}: what would be measured against its {name} is not checked"


def _still(measured: Measured, budget: Budget) -> Iterator[tuple[int, BudgetLine]]:
    """The budgets for which nothing is run, by their places."""
    limits = [(place, limit) for place, limit in enumerate(budget.limits) if limit.budget not in RUNNING]
    other = beside(measured.path, budget.baseline, budget) if budget.baseline is not None and limits else None
    baseline = None if other is None else Measured(other)
    for place, limit in limits:
        if not limit.needs_baseline or baseline is not None:
            yield place, _line(measured, baseline, limit)


def _line(measured: Measured, baseline: Measured | None, limit: Limit) -> BudgetLine:
    assert isinstance(limit.amount, Amount)
    of = "size" if limit.budget == "growth" else limit.budget
    before = baseline.amount(of) if baseline is not None and limit.needs_baseline else 0
    relative = " of the baseline" if limit.amount.relative else ""
    notes = [f"{axis} counted as 1" for axis in (measured.counted_as_one if of == "macs" else ())]
    line = BudgetLine(
        model=str(measured.path),
        budget=limit.budget,
        unit=_UNITS[limit.budget],
        limit=limit.amount.of(before),
        value=measured.amount(of) - (before if limit.budget == "growth" else 0),
        allowed=f"{limit.said}{relative}",
        where=limit.where,
        against=None if baseline is None else str(baseline.path),
        notes=tuple(notes),
    )
    return line if line.passed else replace(line, contributors=contributors(of, measured, baseline))


def _running(model: Path, budget: Budget, progress: Progress) -> Iterator[tuple[int, BudgetLine]]:
    """The budgets that the model is run for, by their places."""
    places = {limit: place for place, limit in enumerate(budget.limits)}
    of_quality = [limit for limit in budget.limits if limit.budget in QUALITY]
    reference = beside(model, budget.reference, budget) if budget.reference is not None and of_quality else None
    if reference is not None:
        lines = quality_lines(model, reference, budget, of_quality, progress)
        yield from ((places[limit], line) for limit, line in zip(of_quality, lines, strict=True))
    for limit in (limit for limit in budget.limits if limit.budget == LATENCY):
        assert budget.baseline is not None
        baseline = beside(model, budget.baseline, budget)
        if baseline is not None:
            yield places[limit], latency_line(model, baseline, budget, limit, progress)
