"""Knowledge transfer: a candidate learns from the original what its compression lost, without labels (methods.md §10).

First it is found out whether it helps: steps on fit samples, rate, length and share chosen on select samples, the gain
proven on proof samples, which chose nothing and taught nothing. What is proven is done again with all of them, but for
those of the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_dalr.choose.trials import TWO, Trial
from onnx_dalr.errors import InputError
from onnx_dalr.plan.course import BATCH, Course
from onnx_dalr.progress import TUNING
from onnx_dalr.quality.figures import Quality
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import SampleSet, Sets
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.budget import RATE, TRIAL, TRIALS, steps_within, worth_trials
from onnx_dalr.tune.cached import Cached
from onnx_dalr.tune.lesson import HeldOut, distances
from onnx_dalr.tune.prepared import Prepared, prepared
from onnx_dalr.tune.sizes import heard, sizes_of
from onnx_dalr.tune.student import Pupil
from onnx_dalr.tune.terms import Term, hints, terms_of
from onnx_dalr.tune.training import Trained, best_share, between, train
from onnx_dalr.tune.tuning import Tuning

FEWEST = 64
"""Samples without which nothing is tuned."""

FEW = 200
"""Samples under which only biases are."""

_LOOKS = 10
_BETWEEN = 20  # steps between looks, at least: a look costs as much as some of them
_CLOCK = 1e-4  # seconds that a clock can tell
_PATIENCE = 4.0  # times the seconds there are: a course that is cut off has not come to rest
_LISTENED = 6  # batches that tell how long a step takes, and which gradients are noise


@dataclass(frozen=True, eq=False)
class Explored:
    """What was found out.

    Attributes:
        tuning: For the report.
        tensors: Those that were proven; empty where none were.
        qualities: What it is worth on select and on proof samples, learned or as it was.
    """

    tuning: Tuning
    tensors: Tensors = field(default_factory=dict)
    qualities: tuple[Quality, ...] = ()


def are_enough(sets: Sets) -> bool:
    """Whether there are samples enough to learn from, so that some are set apart to prove it."""
    return sets.given >= FEWEST


def why_not(sets: Sets | None, task: Task | None) -> str | None:
    """Why nothing can be tuned, whatever the student; None where it can."""
    if sets is None or task is None or sets.only_report or not len(sets.fit):
        return "there are no samples to learn from"
    if not task.seeded:
        return "no output that counts has gradients"
    if not are_enough(sets):
        return f"{sets.given} samples are too few to learn from ({FEWEST} are needed)"
    if sets.proof is None or not len(sets.select):
        return "no samples are left to choose and to prove it on"
    return None


def are_few(sets: Sets) -> bool:
    """Whether samples are so few that biases alone learn."""
    return sets.given < FEW


class Transfer:
    """One student, and what it may learn."""

    def __init__(self, pupil: Pupil, context: Context, sets: Sets, task: Task, course: Course | None = None) -> None:
        """Loads student and teacher.

        Args:
            pupil: The student.
            context: Of the run; its original is the teacher.
            sets: The samples.
            task: What the outputs are.
            course: By which it is going to learn, where that is known.

        Raises:
            InputError: Nothing of it can be tuned; says why.
        """
        self._pupil, self._context, self._sets, self._task = pupil, context, sets, task
        self.hints = pupil.hints if course is None else course.hints
        self.layerwise: tuple[str, ...] = () if course is None else course.layerwise
        self.ready = self._prepared()
        if course is None and self.ready.ended:
            reached = set(self.ready.start) - self.ready.lesson.graph.partial
            alone = dict.fromkeys(name for numbers, name in pupil.answers if reached.isdisjoint(numbers))
            self.layerwise = tuple(name for name in alone if name in self._taught)
            self.ready = self._prepared() if self.layerwise else self.ready
        if not self.ready.start:
            ended = "; ".join(f"{end.op} {end.node!r}: {end.reason}" for end in self.ready.ended[:2])
            raise InputError(f"no gradient reaches its numbers{f' (gradients end at {ended})' if ended else ''}")

    @property
    def _taught(self) -> set[str]:
        """Tensors of the teacher."""
        return {output for node in self._context.original.proto.graph.node for output in node.output}

    def _prepared(self) -> Prepared:
        pupil = self._pupil
        answers = terms_of(self._task) if pupil.terms is None else pupil.terms
        terms: dict[str, Term] = {}
        for term in (*answers, *hints(self.hints), *hints(self.layerwise, 1.0)):
            terms.setdefault(term.tensor, term)  # a response may be an output, or a hint and all its layer learns by
        return prepared(
            self._context.original,
            pupil.proto,
            pupil.home or self._context.original,
            pupil.tuned,
            self._task,
            list(terms.values()),
            self._sets.fit,
            self._sets.mask_input,
            self._context.options.runtime,
        )

    @property
    def loss(self) -> str:
        """What is learned, in words."""
        kinds = dict.fromkeys(one.measure.kind for one in self._task.seeded)
        said = [_LOSSES[kind] for kind in kinds]
        said += [f"{len(self.hints)} hints"] if self.hints else []
        said += [f"{len(self.layerwise)} responses of layers"] if self.layerwise else []
        return ", ".join(said)

    def explore(self, seconds: float | None, steps: int | None, *, again: bool = True) -> Explored:
        """Finds out whether it helps, and how.

        Args:
            seconds: It may take; None for any time.
            steps: How many are asked for; None for what there is time for.
            again: What is found is going to be done once more in that time.
        """
        start, ready = time.perf_counter(), self.ready
        fit = ready.cached(self._sets.fit)
        select, proof = (self._held(samples) for samples in (self._sets.select, self._sets.proof))
        listened = self._listened(fit)
        if isinstance(listened, str):
            return self._refused(listened, start)
        sizes, pace = listened
        affordable = np.inf if seconds is None else (seconds - (time.perf_counter() - start)) / pace
        able = ready.by_row and ready.is_float
        count, ways = _plan_of_steps(affordable, steps, able=able, again=again)
        if not count:
            return self._refused("there is no time for it: --tune-time gives it more", start)
        course = self._course(count)
        limit = None if seconds is None else start + _PATIENCE * seconds
        trials = TRIALS if worth_trials(count) else ()
        rates: list[tuple[float, float]] = []
        tried: list[tuple[float, Course, Trained]] = []
        watch = _Remembered(select.lost)
        with self._context.progress.stage(TUNING, count * len(ways) + TRIAL * len(trials)) as advance:

            def run(course: Course, looks: int) -> Trained:
                going = lambda: limit is None or time.perf_counter() < limit  # noqa: E731
                return train(
                    ready.lesson,
                    ready.start,
                    sizes,
                    fit,
                    course,
                    watch,
                    looks=looks,
                    goes_on=going,
                    advance=advance,
                )

            for rate in trials:
                made = run(replace(course, rate=rate, steps=TRIAL, mixed=ways[-1]), 1)
                rates.append((rate, made.curve[-1][1]))
            if rates:
                course = replace(course, rate=min(rates, key=lambda one: one[1])[0])
            for mixed in ways:
                made = run(replace(course, mixed=mixed), _looks(count))
                tried.append((float(select.distortions(made.tensors).mean()), replace(course, mixed=mixed), made))
                if made.stopped:
                    break
        _, course, trained = min(tried, key=lambda one: one[0])
        share, _ = best_share(ready.start, trained.tensors, watch)
        end = between(ready.start, trained.tensors, share)
        found = self._proven(replace(course, share=share), trained, end, proof, rates, start)
        best = end if found.tuning.kept else ready.start
        return replace(found, qualities=(select.quality(best), proof.quality(best)))

    def _listened(self, fit: Cached) -> tuple[dict[str, float], float] | str:
        """(sizes of the tensors whose gradients mean something, seconds a step takes), or why there are none."""
        lesson, start = self.ready.lesson, self.ready.start
        random = np.random.default_rng(self._sets.options.seed)
        gradients: list[Tensors] = []
        began, worked = time.perf_counter(), time.process_time()
        for batch, _ in zip(fit.batches(BATCH, random), range(_LISTENED), strict=False):
            if not gradients:
                lesson.gradients(batch, start)  # the first run of a session takes longer
                began, worked = time.perf_counter(), time.process_time()
            loss, found = lesson.gradients(batch, start)
            if not np.isfinite(loss):
                return "the loss is not finite"
            gradients.append(found)
        # On a busy machine a step waits for others, on a quiet one it works on several cores: the less of the two.
        taken = min(time.perf_counter() - began, time.process_time() - worked)
        pace = max(taken, _CLOCK) / max(len(gradients), 1)
        sizes, _ = heard(sizes_of(start), gradients)
        return (sizes, pace) if sizes else "its gradients are nothing but noise"

    def _course(self, steps: int) -> Course:
        return Course(
            steps=steps,
            rate=RATE,
            seed=self._sets.options.seed,
            biases_only=are_few(self._sets),
            hints=self.hints,
            layerwise=self.layerwise,
            loss=self.loss,
        )

    def _held(self, samples: SampleSet | None) -> HeldOut:
        assert samples is not None
        return self.ready.held_out(samples, BATCH)

    def _proven(
        self,
        course: Course,
        trained: Trained,
        end: Tensors,
        proof: HeldOut,
        rates: Sequence[tuple[float, float]],
        start: float,
    ) -> Explored:
        """Kept where the proof samples gained more than two standard errors of their paired differences."""
        before, after = (_trial(proof, tensors) for tensors in (self.ready.start, end))
        quality = [proof.quality(tensors) for tensors in (self.ready.start, end)]
        near, nearer = _distance(before), _distance(after)
        kept = nearer.clearly_beats(near, TWO) and not before.clearly_beats(after)
        errors = _errors(near, nearer)
        gained = (
            f"{before.distortion:.3g} → {after.distortion:.3g} on {len(proof)} samples that chose and taught nothing"
        )
        reason = gained if kept else f"the gain is within two standard errors: {gained}"
        tuning = Tuning(
            kept=kept,
            reason=reason,
            course=course,
            curve=tuple(trained.curve),
            proof=len(proof),
            before=before.distortion,
            after=after.distortion,
            errors=errors,
            score=quality[0].score,
            lost_before=quality[0].drop.value,
            lost_after=quality[1].drop.value,
            numbers=sum(self.ready.start[name].size for name in self.ready.start),
            tensors=len(self.ready.start),
            rates=tuple(rates),
            stopped=trained.stopped,
            seconds=time.perf_counter() - start,
        )
        return Explored(tuning, end if kept else {})

    def _refused(self, why: str, start: float) -> Explored:
        return Explored(Tuning(False, why, seconds=time.perf_counter() - start))

    def taught(self, course: Course, samples: Sequence[SampleSet]) -> tuple[Tensors | None, int]:
        """(the tensors where a course ends that is known to be good, made on all of these samples; how many they are).

        None where it was stopped, or where it leads nowhere.
        """
        ready = self.ready
        held = [ready.cached(each) for each in samples]
        everything = Cached(tuple(group for each in held for group in each.groups), ready.by_row).joined()
        random = np.random.default_rng(course.seed)
        gradients = [
            ready.lesson.gradients(batch, ready.start)[1]
            for batch, _ in zip(everything.batches(course.batch, random), range(_LISTENED), strict=False)
        ]
        sizes, _ = heard(sizes_of(ready.start), gradients)
        with self._context.progress.stage(TUNING, course.steps) as advance:
            made = train(
                ready.lesson, ready.start, sizes, everything, course, lambda tensors: 0.0, looks=1, advance=advance
            )
        finite = all(np.isfinite(values).all() for values in made.last.values())
        if made.stopped or not finite:
            return None, 0
        return between(ready.start, made.last, course.share), len(everything)


class _Remembered:
    """What tensors lose, asked once for the start, which every course begins with."""

    def __init__(self, lost: Callable[[Tensors], float]) -> None:
        self._lost = lost
        self._known: dict[int, tuple[Tensors, float]] = {}

    def __call__(self, tensors: Tensors) -> float:
        key = id(tensors)
        if key not in self._known:
            found = self._lost(tensors)
            if self._known:
                return found
            self._known[key] = tensors, found
        return self._known[key][1]


def _looks(steps: int) -> int:
    return max(min(_LOOKS, steps // _BETWEEN), 1)


def _plan_of_steps(affordable: float, asked: int | None, *, able: bool, again: bool) -> tuple[int, tuple[bool, ...]]:
    """(steps of a course; the ways to go it: with samples as they are, and mixed).

    Samples that are seen often are learned by heart: answered surely, and others then too, wrongly. Mixtures are never
    the same, but they are nothing that the model will see. Which is worse is found out by going both ways, where there
    are steps enough for that.
    """
    once = asked if asked is not None else steps_within(affordable / (1 + again))
    if not able or not worth_trials(once):
        return once, (False,)
    return (asked if asked is not None else steps_within(affordable / (2 + again))), (False, True)


def _trial(proof: HeldOut, tensors: Tensors) -> Trial:
    found = proof.distortions(tensors)
    return Trial(0.0, float(found.mean()), distortions=tuple(found.tolist()))


def _distance(trial: Trial) -> Trial:
    found = distances(trial.distortions)
    return replace(trial, distortion=float(found.mean()), distortions=tuple(found.tolist()))


def _errors(before: Trial, after: Trial) -> float | None:
    """Standard errors of the paired differences that were gained."""
    differences = np.subtract(before.distortions, after.distortions)
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean() / (spread / np.sqrt(len(differences)))) if spread > 0 else None


_LOSSES = {
    "classes": "KL to the original's probabilities",
    "dense": "KL to the original's probabilities",
    "embedding": "1 − cosine to the original's directions",
    "numbers": "squared error over power",
}
