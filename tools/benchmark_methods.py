"""The methods that tools/benchmark.py compares: one look at the samples serves them all, at every amount."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial, reduce
from types import TracebackType
from typing import Literal

import numpy as np
from benchmark_data import Case, Feeds
from onnx import ModelProto
from threadpoolctl import threadpool_limits

from onnx_dalr.candidate.candidate import build, replacement
from onnx_dalr.candidate.forms import at_rank
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.decide import decide
from onnx_dalr.choose.effects import MeasuredEffects, MetricEffects, samples_for
from onnx_dalr.choose.space import SearchSpace, space_of
from onnx_dalr.factorize import METHODS, Form, Method, Need, Ridge, Settings, Statistics
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.storage.model import input_specs
from onnx_dalr.learn.apart import add_spectra, spectra_of
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.probes import add_metric
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.look.first import look
from onnx_dalr.progress import Silent
from onnx_dalr.quality.evaluate import evaluate
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import Options
from onnx_dalr.request.selection import select
from onnx_dalr.request.target import Target, make_target
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened
from onnx_dalr.session.session import open_session

Allocation = Literal["equal", "error", "effect"]

_HOLDOUT = 0.3
_RIDGES = (1e-5, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_KEPT_BY = {
    "output": Need.OUTPUT,
    "output_total": Need.OUTPUT,
    "input": Need.INPUT,
    "rows": Need.ROWS,
    "sketch": Need.SKETCH,
}


@dataclass(frozen=True)
class Contender:
    """A method with its settings.

    Attributes:
        method: Name of the factorization.
        settings: Of these, the one with the least distortion on the select samples.
        chooses: It is `onnx-dalr optimize` itself: factors and ranks by the select samples.
        allocates: Its ranks are tried by every allocation, not by one ratio alone.
    """

    method: str
    settings: tuple[Settings, ...] = (Settings(),)
    chooses: bool = False
    allocates: bool = False

    @property
    def weighs(self) -> bool:
        """Whether it needs gradients."""
        return METHODS[self.method].takes_metric and any(each.metric is not None for each in self.settings)


CONTENDERS = {
    "svd": Contender("svd"),
    "svd-bc": Contender("svd-bc"),
    "dalr-2017, λ = 1000": Contender("dalr-2017", (Settings(ridge=Ridge(1000, absolute=True)),)),
    "dalr-2017, λ tuned": Contender("dalr-2017", tuple(Settings(ridge=Ridge(value)) for value in _RIDGES)),
    "dalr, no metric": Contender("dalr", (Settings(metric=None),), allocates=True),
    "dalr": Contender("dalr", allocates=True),
    "optimize": Contender("dalr", chooses=True),
}


@dataclass(frozen=True, eq=False)
class Made:
    """A compressed model.

    Attributes:
        proto: What is run for it.
        params: Of the whole model.
        bytes: Of the whole model.
        seconds: From the samples to the model.
        note: What was chosen.
    """

    proto: ModelProto
    params: int
    bytes: int
    seconds: float
    note: str


class _Taught:
    """What some samples say of the layers, and the spectra made of it so far.

    Attributes:
        statistics: By layer name: all that any of the methods reads.
        capture: Seconds of the forward passes.
        metric: Seconds of the gradients.
    """

    def __init__(
        self, context: Context, layers: Sequence[Layer], sets: Sets, case: Case, task: Task, *, metric: bool
    ) -> None:
        self._context, self._layers = context, layers
        self._learned: dict[tuple[str, Settings], tuple[Learned, float]] = {}
        start = time.perf_counter()
        batches = (batch for _, batch in sets.fit)
        mask = sets.mask_input
        self.statistics = capture(
            context.original, layers, _EVERYTHING, batches, device="cpu", mask_input=mask, metric=metric
        ).statistics
        self.capture = time.perf_counter() - start + case.lead * len(sets.fit)
        start = time.perf_counter()
        if metric:
            add_metric(context.original, layers, self.statistics, sets.fit, task, device="cpu", mask_input=mask)
        self.metric = time.perf_counter() - start

    def own(self, method: Method) -> dict[str, Statistics]:
        """The statistics as they would be if they had been gathered for one method alone."""
        found = {}
        for name, held in self.statistics.items():
            needs = method.needs(held.m, held.n) | (held.needs & Need.METRIC)
            found[name] = held if Need.ROWS in needs else _narrowed(held, needs)
        return found

    def learned(self, method: Method, settings: Settings) -> tuple[Learned, float]:
        """The spectra by layer, and the seconds they took."""
        key = (method.name, settings)
        if key not in self._learned:
            own, start = self.own(method), time.perf_counter()
            with threadpool_limits(1, user_api="blas"):
                made = {layer.name: self._spectra(layer, own[layer.name], method, settings) for layer in self._layers}
            self._learned[key] = _only(made), time.perf_counter() - start
        return self._learned[key]

    def _spectra(self, layer: Layer, held: Statistics, method: Method, settings: Settings) -> Spectra:
        made = spectra_of(layer, matrix(self._context.original, layer), held, method, lambda: settings)
        return replace(made, by_structure=dict(made.by_structure))  # all of them, now: the time it takes is what counts


def _only(spectra: dict[str, Spectra]) -> Learned:
    """One kind of factors, and nothing else known."""
    return Learned({DEFAULT: spectra}, {}, frozenset(), {}, 0, ())


_EVERYTHING = replace(
    METHODS["dalr"], needs=lambda m, n: reduce(operator.or_, (method.needs(m, n) for method in METHODS.values()))
)


def _task(context: Context, sets: Sets) -> Task:
    found = look(context.original, context.options, sets, measured=True).task
    assert found is not None
    return found


def _narrowed(held: Statistics, needs: Need) -> Statistics:
    """The same with fewer sums."""
    arrays = held.to_arrays()
    kept = {name: array for name, array in arrays.items() if _KEPT_BY.get(name, needs) & needs}
    return Statistics.from_arrays(kept | {"needs": np.array(needs.value, np.int64)})


class Bench:
    """Makes models of one case from one draw of samples. Close it, or use it in a `with`.

    Methods without a choice take their statistics from all calibration samples. Those that choose have either samples
    beside those to choose on, or set a part of them aside and leave it out of the statistics, as `optimize` does; of
    these, `dalr-2017` takes only its λ from there and makes its factors from all.
    """

    def __init__(self, case: Case, samples: int, seed: int) -> None:
        self.case = case
        self._context = Context(case.part, Options(METHODS["dalr"], task=case.task, device="cpu"), Silent())
        found, skipped = find(case.part)
        self._layers, _ = select(found, skipped, case.include, ())
        self.inside = sum(layer.params for layer in self._layers)
        self._stack = ExitStack()
        drawn = case.drawn(samples, seed)
        used = len(next(iter(drawn.values())))
        holdout = case.extra / used if case.extra else _HOLDOUT
        self._split = self._opened(drawn, holdout, seed)
        self._sets = self._split if case.extra else self._opened(drawn, 0.0, seed)
        self._task = _task(self._context, self._split)
        self._all = _Taught(self._context, self._layers, self._sets, case, self._task, metric=True)
        self._part: _Taught | None = self._all if case.extra else None
        self._learned: tuple[Learned, float] | None = None
        self._reference = open_session(case.part.source(), "cpu")

    def _opened(self, drawn: Feeds, holdout: float, seed: int) -> Sets:
        few = {name: array[:1] for name, array in drawn.items()}  # test data is ours: all held out is to choose on
        options = SampleOptions(drawn, eval=few, holdout=holdout, seed=seed)
        return self._stack.enter_context(opened(options, input_specs(self.case.part.proto)))

    def make(self, name: str, allocation: Allocation, amount: float) -> Made:
        """The model of a contender at an amount."""
        contender = CONTENDERS[name]
        if contender.chooses:
            return self._optimized(amount)
        method, settings, waited, note = METHODS[contender.method], contender.settings[0], 0.0, ""
        if len(contender.settings) > 1:
            settings, waited = self._tuned(method, contender.settings, amount)
            note = f"λ = {settings.ridge}"
        learned, took = self._all.learned(method, settings)
        start = time.perf_counter()
        space = self._space(method, amount, learned)
        forms = self._forms(space, allocation, amount)
        proto = self._build(learned, forms)
        seen = self._all.capture * (method.name != "svd") + self._all.metric * contender.weighs
        seconds = waited + seen + took + time.perf_counter() - start
        return self._made(proto, space.params_at(forms), seconds, note)

    def _optimized(self, amount: float) -> Made:
        """What `onnx-dalr optimize` makes of the samples."""
        learned, took = self._learn()
        method, start = METHODS["dalr"], time.perf_counter()
        target = self._target(amount)
        plan, _ = decide(self._context, target, self._layers, learned, self._split, self._task)
        proto = self._build(learned, plan.forms, plan.factors)
        space = self._space(method, amount, learned)
        seconds = took + time.perf_counter() - start
        note = f"{plan.factors}; {plan.choices[0].reason.split(',')[0]}"
        return self._made(proto, space.params_at(list(plan.forms)), seconds, note)

    def _learn(self) -> tuple[Learned, float]:
        """The factors that `optimize` chooses from, and the seconds they took."""
        if self._learned is None:
            taught = self._taught_part()
            own, start = taught.own(METHODS["dalr"]), time.perf_counter()
            spectra: dict[str, dict[str, Spectra]] = {}
            add_spectra(self._context, self._layers, own, spectra)
            rows = {name: held.count for name, held in own.items()}
            seconds = time.perf_counter() - start + taught.capture + taught.metric
            self._learned = Learned(spectra, rows, frozenset(), own, 0, ()), seconds
        return self._learned

    def _taught_part(self) -> _Taught:
        """From what the samples to choose on are not among."""
        if self._part is None:
            self._part = _Taught(self._context, self._layers, self._split, self.case, self._task, metric=True)
        return self._part

    def _tuned(self, method: Method, settings: Sequence[Settings], amount: float) -> tuple[Settings, float]:
        """The settings with the least distortion on the select samples, all layers at one ratio, and the seconds."""
        taught, seconds = self._taught_part(), 0.0
        found: list[float] = []
        for each in settings:
            learned, took = taught.learned(method, each)
            start = time.perf_counter()
            forms = self._forms(self._space(method, amount, learned), "equal", amount)
            proto = self._build(learned, forms)
            candidate = open_session(proto.SerializeToString(), "cpu")
            quality = evaluate(self._reference, candidate, self._split.select, self._task, intervals=False)
            found.append(quality.distortion if quality.finite else np.inf)
            seconds += took + time.perf_counter() - start
        return settings[int(np.argmin(found))], seconds

    def _target(self, amount: float) -> Target:
        if self.case.unit == "rank":
            return make_target(rank=int(amount))
        return make_target(params=str(self.case.part.params - self.inside + int(amount * self.inside)))

    def _space(self, method: Method, amount: float, learned: Learned) -> SearchSpace:
        return replace(space_of(self._context, self._target(amount), self._layers, learned), method=method)

    def _forms(self, space: SearchSpace, allocation: Allocation, amount: float) -> Forms:
        if self.case.unit == "rank":
            return [at_rank(layer, int(amount)) for layer in self._layers]
        assert space.target.amount is not None
        budget = COSTS["params"].budget(space, space.target.amount.of(space.params))
        equal = budget.meet(lambda left: allocate.within(budget.ladders, left))
        if equal is None:
            raise budget.refusal()
        if allocation == "equal":
            return equal
        curves = space.tails
        if allocation == "effect":
            effects = MetricEffects(space, lambda wanted: self._measured(space, wanted))
            effects.near(equal)
            first = budget.meet(lambda left: allocate.best(budget.ladders, effects.curves(), left))
            effects.near(first or equal)
            curves = effects.curves()
        return budget.meet(lambda left: allocate.best(budget.ladders, curves, left)) or equal

    def _measured(self, space: SearchSpace, wanted: Sequence[bool]) -> MeasuredEffects:
        """Measures what each layer does to the output, on a few of the select samples."""
        rows = {name: held.count / len(self._sets.fit) for name, held in self._all.statistics.items()}
        few = list(self._split.select.spread(samples_for(self._layers, rows)))
        proto, overrides = overridable(self._context.original, self._layers)
        session = open_session(proto.SerializeToString(), "cpu")
        learned = space.learned
        assert learned is not None
        return MeasuredEffects(
            session,
            overrides,
            space.layers,
            space.menus,
            [learned.of(layer.name) for layer in space.layers],
            partial(replacement, self._context.original, learned),
            few,
            self._task,
            wanted,
        )

    def _build(self, learned: Learned, forms: Sequence[Form], factors: str = DEFAULT) -> ModelProto:
        """The model without the note about the run, which says nothing of a method and takes bytes."""
        proto = build(self._context, self._layers, learned, forms, factors).proto
        del proto.metadata_props[:]
        proto.metadata_props.extend(self._context.original.proto.metadata_props)
        return proto

    def _made(self, proto: ModelProto, params: int, seconds: float, note: str) -> Made:
        whole, part = self.case.whole, self.case.part
        return Made(
            proto, params + whole.params - part.params, proto.ByteSize() + whole.size - part.size, seconds, note
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
