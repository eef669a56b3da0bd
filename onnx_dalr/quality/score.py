"""The user's own score: a function from a model's outputs on all samples to a number, higher is better.

It is called as `score(outputs, labels)`, or with a third argument (below), once per model with all samples of a set:

- `outputs`: output name → array with the samples on axis 0, in the order of the samples. What the model gives one row
  per sample of is joined along that axis: [n, …]. The outputs of complete feeds, and what has no such axis in a model
  run one sample at a time, get it as one axis more: [n, *shape]. Where samples differ in shape the array is of objects,
  one array per sample, so that `outputs["y"][i]` is sample i in any case. An output with no row per sample in batches
  of several is left out.
- `labels`: class per sample, int64 [n], or None.

A third argument without a default, or one called `original`, is given the outputs of the original model on the same
samples, in the same layout: for scores of how much stayed as it was. (For the original itself both are the same.)

It returns one number per sample, [n], and the score is their mean; or one number, and then it is called 200 times more
per model, on halves of the samples, for the interval. Both are in the score's own unit: where a drop is asked for or
printed in percentage points, 1.0 is 100 of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.quality.intervals import Estimate, mean_estimate, paired_difference, subsampled_estimate
from onnx_dalr.samples.functions import load_function, reason, spelling_hint

OPTION = "--score"
HALVES = 200
_ORIGINAL = "original"
Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]
Outputs = dict[str, NDArray[Any]]
Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Joined:
    """The outputs of two models on the same samples, as a score's function takes them.

    Attributes:
        before: Of the original.
        after: Of the new model.
        left_out: Names of the outputs that have no row per sample.
        n: Samples.
    """

    before: Outputs
    after: Outputs
    left_out: tuple[str, ...]
    n: int


class KeptOutputs:
    """The outputs of two models on the same batches, kept whole: what a user's score asks for may need all of them.

    Attributes:
        indices: Of the samples so far.
    """

    def __init__(self, *, complete: bool = False) -> None:
        """Starts empty; `complete` says that every batch is one complete feed."""
        self._complete = complete
        self._runs: list[tuple[int, Sequence[Any], Sequence[Any]]] = []
        self.indices: list[int] = []

    def add(self, indices: Sequence[int], before: Sequence[Any], after: Sequence[Any]) -> None:
        """Takes one batch: its samples' indices, and the outputs of the original and of the other."""
        self.indices += indices
        self._runs.append((len(indices), before, after))

    def joined(self, names: Sequence[str]) -> Joined:
        """All outputs by name, with the samples on axis 0.

        Raises:
            InputError: No output has a row per sample.
        """
        before, after, left_out = Outputs(), Outputs(), list[str]()
        for i, name in enumerate(names):
            pair = self._by_sample(i)
            if pair is None:
                left_out.append(name)
            else:
                before[name], after[name] = pair
        if not before:
            raise InputError(f"{OPTION}: no output of the model has a row for each sample", "try --batch-size 1")
        return Joined(before, after, tuple(left_out), len(self.indices))

    def _by_sample(self, i: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Output i of both models, samples on axis 0; None where rows cannot be told apart.

        Both take one layout, so that a function that can read the one can read the other.
        """
        counts = [count for count, _, _ in self._runs for _ in range(2)]
        runs = [y for _, before, after in self._runs for y in (before[i], after[i])]
        if not all(isinstance(y, np.ndarray) for y in runs):
            return None
        rows = all(y.ndim > 0 and y.shape[0] == count for y, count in zip(runs, counts, strict=True))
        if self._complete or not rows:
            if set(counts) != {1}:
                return None
            runs = [y[None] for y in runs]
        ragged = len({y.shape[1:] for y in runs}) > 1
        before, after = (_ragged(half) if ragged else np.concatenate(half) for half in (runs[::2], runs[1::2]))
        return before, after


def _ragged(runs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One array per sample, read-only, in an array of objects."""
    samples = [sample for y in runs for sample in y]
    joined = np.empty(len(samples), dtype=object)
    for i, sample in enumerate(samples):
        joined[i] = np.array(sample)
        joined[i].setflags(write=False)  # unlike the array around it, it is not copied for every call
    return joined


@dataclass(frozen=True)
class Scored:
    """What a user's score says of two models.

    Attributes:
        before: Of the original.
        after: Of the new model, None where its outputs are not finite.
        drop: before − after on the same samples.
        notes: What a reader should know.
        losses: before − after by sample, [n], where the function gives a number for each; else None.
    """

    before: Estimate
    after: Estimate | None
    drop: Estimate
    notes: tuple[str, ...] = ()
    losses: Float64 | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class UserScore:
    """A score that is a function of the user's. See the head of this file for what it is given and returns.

    Attributes:
        name: What it is called in reports and messages.
        function: (outputs, labels[, original]) → one number per sample, or one number.
    """

    name: str
    function: Function = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def measure(self, joined: Joined, labels: Labels | None, *, finite: bool = True, intervals: bool = True) -> Scored:
        """Scores both models on the same samples.

        One number per sample has the interval of its mean, and the drop that of the paired differences. For one number
        per model, both are scored on the same 200 halves of the samples, drawn with a fixed seed.

        Args:
            joined: The outputs of both.
            labels: Class per sample, [n], or None.
            finite: The new model's outputs are finite; where not, it is not scored and the drop is infinite.
            intervals: False to leave out the 200 calls per model: such an interval is then the value alone.

        Raises:
            InputError: The function fails, or returns what is no score.
        """
        names = ("the original", "the new model")
        models = [joined.before, joined.after] if finite else [joined.before]
        found = [self._call(model, labels, joined, name) for model, name in zip(models, names, strict=False)]
        if len({values.ndim for values in found}) > 1:
            raise InputError(
                f"{OPTION} {self.name} returns one number per sample for one model and one number for the other",
                "return the same for both",
            )
        if found[0].ndim:
            estimates, notes = [mean_estimate(values) for values in found], tuple[str, ...]()
            drop = paired_difference(found[0], found[1]) if finite else None
        else:
            numbers = [float(value) for value in found]
            estimates, drop, notes = self._subsampled(models, labels, joined, numbers, intervals)
        infinite = float("inf")
        return Scored(
            before=estimates[0],
            after=estimates[1] if finite else None,
            drop=drop or Estimate(infinite, infinite, infinite, joined.n),
            notes=notes,
            losses=found[0] - found[1] if finite and found[0].ndim else None,
        )

    def _call(self, outputs: Outputs, labels: Labels | None, joined: Joined, model: str) -> Float64:
        """What the function returns for one model, float64 [n] or a scalar; it may change the arrays it is given."""
        where = f"{OPTION} {self.name} on the outputs of {model}"
        try:
            returned = self._apply(_copied(outputs), None if labels is None else labels.copy(), _copied(joined.before))
        except (Exception, SystemExit) as error:
            raise InputError(f"{where}: {reason(error)}", _what_it_was_given(joined, labels)) from error
        return _checked(returned, joined.n, where)

    def _apply(self, outputs: Outputs, labels: Labels | None, original: Outputs) -> Any:
        """Calls the function with what it takes."""
        third = third_argument(self.function)
        if third is None:
            return self.function(outputs, labels)
        if third.kind is third.KEYWORD_ONLY:
            return self.function(outputs, labels, **{third.name: original})
        return self.function(outputs, labels, original)

    def _subsampled(
        self, models: Sequence[Outputs], labels: Labels | None, joined: Joined, values: list[float], intervals: bool
    ) -> tuple[list[Estimate], Estimate | None, tuple[str, ...]]:
        """(each model's estimate, that of the drop, notes), from the same halves of the samples for both."""
        n, half = joined.n, joined.n // 2
        drawn, random = list[list[float]](), np.random.default_rng(0)
        tries = HALVES if intervals and half else 0
        for _ in range(tries):
            rows = np.sort(random.permutation(n)[:half])
            some = None if labels is None else labels[rows]
            try:  # a half may lack what the score needs, one of two classes say
                found = [self._apply(_rows(model, rows), some, _rows(models[0], rows)) for model in models]
                drawn.append([float(_checked(value, half, "")) for value in found])
            except (Exception, SystemExit):
                continue
        failed = tries - len(drawn)
        note = f"{self.name} fails on {failed} of {tries} random halves of the samples, which its interval leaves out"
        table = np.array(drawn).reshape(-1, len(models))
        estimates = [subsampled_estimate(value, each, half, n) for value, each in zip(values, table.T, strict=True)]
        drop = None
        if len(models) == 2:
            drop = subsampled_estimate(values[0] - values[1], table[:, 0] - table[:, 1], half, n)
        return estimates, drop, (note,) if failed else ()


def third_argument(function: Function) -> inspect.Parameter | None:
    """The one that wants the original's outputs; None where a score takes two."""
    try:
        given = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions say nothing of themselves
        return None
    ordered = [one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(ordered) > 2 and (ordered[2].default is inspect.Parameter.empty or ordered[2].name == _ORIGINAL):
        return ordered[2]
    named = (one for one in given if one.kind is one.KEYWORD_ONLY and one.name == _ORIGINAL)
    return next((one for one in named if one.default is inspect.Parameter.empty), None)


def _copied(outputs: Outputs) -> Outputs:
    return {name: array.copy() for name, array in outputs.items()}


def _rows(outputs: Outputs, rows: NDArray[np.int64]) -> Outputs:
    return {name: array[rows] for name, array in outputs.items()}


def load_score(given: str | Function) -> UserScore:
    """Takes a function, or finds the one that "file.py:function" names; it is called when models are scored.

    Raises:
        InputError: No such file or function, or the file cannot be run.
    """
    if isinstance(given, str):
        return UserScore(given.rpartition(":")[2], load_function(given, OPTION))
    if not callable(given):
        raise InputError(f"{OPTION}: a {type(given).__name__} is no function", spelling_hint(OPTION))
    return UserScore(getattr(given, "__name__", type(given).__name__), given)


def _checked(returned: Any, n: int, where: str) -> Float64:
    """What a score's function returned, float64 [n] or a scalar.

    Raises:
        InputError: It is neither, or not finite.
    """
    hint = f"return one number, or one per sample: [{n}]"
    if returned is None:
        raise InputError(f"{where}: it returned nothing", hint)
    try:
        array = np.asarray(returned)
    except (TypeError, ValueError, RuntimeError) as error:  # a ragged list, a tensor on another device
        raise InputError(f"{where}: it returned no number: {reason(error)}", hint) from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where}: it returned a {type(returned).__name__}, not a number", hint)
    if array.ndim > 1:
        raise InputError(f"{where}: it returned an array of shape {list(array.shape)}", hint)
    if array.ndim == 1 and len(array) != n:
        raise InputError(f"{where}: it returned {len(array)} numbers for {n} samples", hint)
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: it returned NaN or infinity", "a score is finite for every model")
    return values


def _what_it_was_given(joined: Joined, labels: Labels | None) -> str:
    """A hint at the names and shapes a function can use."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in joined.before.items())
    left_out = f"; {', '.join(joined.left_out)} left out: no row per sample" if joined.left_out else ""
    return f"outputs: {shapes}{left_out}; labels: {'None' if labels is None else list(labels.shape)}"
