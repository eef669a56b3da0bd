"""Refit front to back: layers fitted to what enters them once those before them are compressed (methods.md §5).

What a layer gets must do better twice. How far it moves, and whether it replaces what there is, is decided by the error
of the layer's own output, weighed by its output metric, on select samples: to second order that is its share of the
distortion of the network's output, and sums tell it for all layers of a group after one pass. Then the model with the
whole group is scored on the select samples as candidates are: what is not less distorted goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_dalr.candidate.candidate import Candidate, build, composed, stored, substitution
from onnx_dalr.candidate.onward import Runner
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.scoring import compared, trial_of
from onnx_dalr.choose.trials import TWO, Trial
from onnx_dalr.factorize import Form, Need, Settings, Statistics
from onnx_dalr.factorize.joined import JOINED, is_one
from onnx_dalr.factorize.refit import (
    LARGEST,
    PULLS,
    ROWS_PER_INPUT,
    PairedSums,
    Pull,
    Refitted,
    error_weights,
    least_rows,
    refitted,
)
from onnx_dalr.factorize.rounding import Seen
from onnx_dalr.factorize.structures import STRUCTURES, Pieces, slots_of
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.rewrite import Substitution
from onnx_dalr.graph.storage.model import saved_size
from onnx_dalr.learn.apart import are_large
from onnx_dalr.learn.learn import statistics_limit
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import REFITTING, numbered
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.sets import SampleSet, Sets
from onnx_dalr.session.threads import side_by_side
from onnx_dalr.tune.fronts import depths, enough_samples, fronts
from onnx_dalr.tune.halfway import Kept
from onnx_dalr.tune.pairs import Pairs
from onnx_dalr.units import format_names

MOST_BYTES = 1 << 28
"""Of the rows that enter the layers of a group in both models, held at a time."""


def refit(candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
    """The candidate with layers refitted; itself where nothing clearly does better on the select samples.

    Args:
        candidate: With the factors of the search.
        plan: What it was made by.
        analysis: The original, its samples, and what was learned of them.
    """
    sets, task, gradients = analysis.sets, analysis.task, analysis.learned.gradients
    if gradients is None or sets is None or task is None:
        return candidate
    forms = {layer: form for layer, form in zip(analysis.layers, plan.forms, strict=True) if not form.untouched}
    apart = [layer for layer, form in forms.items() if not layer.in_one_piece and form.structure not in JOINED]
    depth = depths(analysis.context.original.proto, apart, forms)
    behind = [layer for layer in apart if depth[layer.name]]
    sweep = _Sweep(candidate, plan, analysis, forms, gradients, sets, task)
    taken = [layer for layer in behind if sweep.can_move(layer)]
    few, notes = _left_out(behind, gradients, analysis.learned.rows)
    analysis.context.notes.extend(notes)
    if few:
        analysis.context.progress.detail(few)
    if not taken:
        return candidate
    with analysis.context.phase("refit"):
        return sweep.over(fronts(taken, depth, statistics_limit(analysis.context)))


class _Sweep:
    """One sweep over the layers, front to back."""

    def __init__(
        self,
        candidate: Candidate,
        plan: Plan,
        analysis: Analysis,
        forms: Mapping[Layer, Form],
        gradients: Mapping[str, Statistics],
        sets: Sets,
        task: Task,
    ) -> None:
        self._context, self._learned, self._layers = analysis.context, analysis.learned, analysis.layers
        self._plan, self._forms, self._gradients = plan, forms, gradients
        self._sets, self._task = sets, task
        self._start = self._candidate = candidate
        self._instead: dict[str, Substitution] = {}
        self._later: Sequence[Layer] = ()
        self._kept: tuple[Kept, Kept] | None = None

    def can_move(self, layer: Layer) -> bool:
        """Whether enough is known of a layer."""
        if layer.name not in self._gradients:
            return False
        shrinkage = self._learned.of(layer.name, self._plan.factors).of(self._forms[layer]).shrinkage
        return shrinkage is not None and shrinkage < 1

    def over(self, groups: Sequence[Sequence[Layer]]) -> Candidate:
        """Refits the layers group by group."""
        context = self._context
        runner = Runner(context, list(self._forms), self._sets, self._task)
        first = best = self._trial(self._start, runner)
        size = min(map(self._batch_size, groups))  # the same for all: what is kept of a batch is of the same samples
        for number, group in enumerate(groups, start=1):
            self._later = [layer for after in groups[number:] for layer in after]
            fit, select = self._samples(group, size)
            steps = len(fit) + len(select)
            with context.progress.stage(numbered(REFITTING, number, len(groups)), steps) as advance:
                found = self._better(group, fit, select, advance)
            if not found:
                continue
            instead = self._instead | found
            made = build(context, self._layers, self._learned, self._plan.forms, self._plan.factors, instead=instead)
            trial = self._trial(made, runner)
            if trial.distortion < best.distortion and self._keeps_to(trial, first):
                self._instead, self._candidate, best = instead, made, trial
        count = sum(map(len, groups))
        tried = f"refitting {count} layer{'s' * (count != 1)} to what the layers before have become"
        if not self._instead or not best.clearly_beats(first, TWO):
            context.progress.detail(f"{tried}: not clearly less distortion, nothing is changed")
            return self._start
        context.progress.detail(
            f"{tried}: {len(self._instead)} taken, distortion of the select samples {first.distortion:.3g} → "
            f"{best.distortion:.3g}"
        )
        return replace(self._candidate, instead=dict(self._instead))

    def _keeps_to(self, trial: Trial, first: Trial) -> bool:
        """Whether no more is lost of what the target holds: drop or error, where it is a tolerance."""
        lost = {"max-drop": trial.drop <= max(first.drop, 0.0), "max-error": trial.error <= first.error}
        return all(kept for name, kept in lost.items() if self._plan.target.startswith(name))

    def _batch_size(self, group: Sequence[Layer]) -> int:
        """So few samples at a time that the rows of both models take no more than `MOST_BYTES`."""
        fit = self._sets.fit
        held = 8 * sum(self._learned.rows[one.name] / len(fit) * one.n for one in group)
        return int(np.clip(MOST_BYTES / held, 1, fit.batch_size))

    def _samples(self, group: Sequence[Layer], size: int) -> tuple[SampleSet, SampleSet]:
        """Fit samples with rows enough for every layer of a group, and the select samples; so many at a time."""
        fit = self._sets.fit
        rows = {one.name: self._learned.rows[one.name] / len(fit) for one in group}
        enough = fit.spread(enough_samples(group, rows, len(fit)))
        return replace(enough, batch_size=size), replace(self._sets.select, batch_size=size)

    def _trial(self, candidate: Candidate, runner: Runner) -> Trial:
        size = saved_size(candidate.proto, self._context.original, self._context.file)
        return trial_of(compared(runner.reference, runner.open(candidate.proto), self._sets, self._task), size)

    def _better(
        self, group: Sequence[Layer], fit: SampleSet, select: SampleSet, advance: Callable[[int], None]
    ) -> dict[str, Substitution]:
        """By layer name, what does better on the select samples than what is there."""
        original, mask = self._context.original, self._sets.mask_input
        pairs = Pairs(self._context, self._candidate.proto, group, self._later, self._kept)
        sums, held = ({layer: PairedSums(layer.m, layer.n) for layer in group} for _ in range(2))
        for into, samples in ((sums, fit), (held, select)):
            for layer, x, met in pairs.rows(samples, mask, advance):
                into[layer].update(x, met, matrix(original, layer))
        self._kept = pairs.kept
        width = 1 if are_large(group) else self._context.options.runtime.workers
        found = side_by_side(lambda layer: self._best(layer, sums.pop(layer), held.pop(layer)), group, width)
        return {layer.name: best for layer, best in zip(group, found, strict=True) if best is not None}

    def _best(self, layer: Layer, sums: PairedSums, held: PairedSums) -> Substitution | None:
        """A layer refitted, as far as held-out rows say is best; None where what is there errs less on these."""
        if not (sums.varies and held.varies):
            return None
        W, form = matrix(self._context.original, layer), self._forms[layer]
        there = substitution(self._context, layer, self._learned, form, self._plan.factors)
        share = self._learned.of(layer.name, self._plan.factors).of(form).metric_shrinkage
        weights = error_weights(W, self._gradients[layer.name], share)
        moves_bias = bool(there.shift.any())  # where it was before: a new one would be larger than none
        ways = {pull: refitted(W, sums, pull, moves_bias=moves_bias) for pull in PULLS}
        pull = min(ways, key=lambda pull: held.lost(W, ways[pull].weight, ways[pull].shift, weights))
        made = self._stored(layer, ways[pull], pull, moves_bias=moves_bias)
        before, after = (held.lost(W, *composed(one, form), weights) for one in (there, made))
        return made if after < before else None

    def _stored(self, layer: Layer, found: Refitted, pull: Pull, *, moves_bias: bool) -> Substitution:
        """A layer in its form, as it was made but of W̃ and of what enters it now."""
        form, spectra = self._forms[layer], self._learned.of(layer.name, self._plan.factors)
        known, gradients = spectra.of(form), self._gradients[layer.name]
        if is_one(form):
            (slot,) = slots_of(layer.shape, form)
            statistics = found.statistics(Need.NONE, gradients)
            made = Pieces((slot.filled(found.weight.reshape(slot.shape.dims)),), found.shift)
        else:
            assert known.shrinkage is not None
            settings = Settings(shrinkage=max(known.shrinkage, pull.shrinkage), metric=known.metric_shrinkage)
            method, structure = self._context.options.method, STRUCTURES[form.structure]
            statistics = found.statistics(structure.needs(layer.shape, method), gradients)
            made = structure.decompose(found.weight, layer.shape, statistics, method, settings).pieces(form.rank)
            made = replace(made, shift=made.shift + found.shift)
        moment = None if spectra.seen is None else statistics.moment
        seen = None if moment is None else Seen(moment, statistics.mean)
        done = stored(self._context, layer, form, made, seen)
        return done if moves_bias else replace(done, shift=np.zeros(layer.m))


def _left_out(
    layers: Sequence[Layer], gradients: Mapping[str, Statistics], rows: Mapping[str, int]
) -> tuple[str, list[str]]:
    """(what to say of layers that too few samples reach; what a reader should know of others that are not refitted)."""
    left = [layer for layer in layers if layer.name not in gradients]
    large = [layer for layer in left if layer.n > LARGEST]
    few = [layer for layer in left if layer not in large and rows.get(layer.name, 0) < least_rows(layer.n)]
    memory = [layer for layer in left if layer not in large and layer not in few]
    said = "not refitted to the layers before them"
    detail = f"{said}: {_named(few)}; the samples have fewer than {ROWS_PER_INPUT} rows for every input of theirs"
    reasons = (
        (large, f"they have more than {LARGEST:,} inputs"),
        (memory, "their metrics take too much memory"),
    )
    return detail if few else "", [f"{said}: {_named(some)}; {why}" for some, why in reasons if some]


def _named(layers: Sequence[Layer]) -> str:
    return format_names([repr(layer.name) for layer in layers])
