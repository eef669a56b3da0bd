"""Ranks of a few layers by the greedy search of the DALR paper (Masana et al., ICCV 2017, §5), to compare ours with.

    python tools/greedy.py MODEL --calib PATH [--labels FILE] [--layers GLOB ...] [--test PATH --test-labels FILE]

The layers start dense, each above a ladder of ranks: min(m, n) times --notch, again and again, as far as it saves
parameters. A step tries for every layer its next lower rank, the others as they are, and scores each of these models
on the select samples: one evaluation each. The step that loses least against the original is taken, of equal ones the
one that saves most parameters; as the score is coarse, the second decides often. It ends where every step would lose
more than --max-drop, all ladders are at their end, or the next step would need more than --evaluations. Samples are
split as `onnx-dalr optimize` splits them; without --test the last line is of the report samples.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from onnx import ModelProto
from threadpoolctl import threadpool_limits

from onnx_dalr.errors import DalrError, InputError
from onnx_dalr.factorize import METHODS, Method, Settings, Spectrum
from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures.pair import pieces_of
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, count_params, input_specs, load
from onnx_dalr.learn.capture import capture
from onnx_dalr.look.first import look
from onnx_dalr.quality.evaluate import Quality, evaluate
from onnx_dalr.quality.task import Task
from onnx_dalr.request.options import make_options
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import SampleSet, Sets, opened
from onnx_dalr.session.session import Session, open_session
from onnx_dalr.units import parse_points

HEAD = f"{'ranks':22s} {'parameters':>12s}  {'model':>8s}  {'layers':>8s}  {'drop':>6s}  {'evals':>5s}  {'s':>6s}"
Ranks = tuple[int | None, ...]


@dataclass(frozen=True)
class Step:
    """The models after one step, and what the search has spent so far.

    Attributes:
        ranks: One per layer, None where it is dense.
        params: Of the whole model.
        of_model: Share of the original's parameters.
        of_layers: Share of the parameters of the chosen layers, their biases aside.
        drop: Score lost on the select samples, as a fraction.
        evaluations: Models scored.
        seconds: Since the search began.
    """

    ranks: Ranks
    params: int
    of_model: float
    of_layers: float
    drop: float
    evaluations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Bench:
    """Makes models of the chosen layers at any ranks, and scores them."""

    model: Model
    layers: Sequence[Layer]
    spectra: Sequence[Spectrum]
    reference: Session
    task: Task
    mask_input: str | None

    def build(self, ranks: Ranks) -> ModelProto:
        """The model with the layers at these ranks."""
        return rewrite(self.model, self._substitutions(ranks)).proto

    def score(self, proto: ModelProto, samples: SampleSet) -> Quality:
        """The model against the original."""
        made, folder = self.model.in_memory(proto)
        candidate, padding = open_session(made, folder=folder), partial(kept_in, name=self.mask_input)
        return evaluate(self.reference, candidate, samples, self.task, samples.labels, padding=padding)

    def _substitutions(self, ranks: Ranks) -> Iterator[Substitution]:
        for layer, spectrum, rank in zip(self.layers, self.spectra, ranks, strict=True):
            if rank is not None:
                made = pieces_of(spectrum.factors(rank))
                yield Substitution.of(layer, made.pieces, FORMATS[KEPT], made.shift)


def choose(layers: Sequence[Layer], patterns: Sequence[str]) -> list[Layer]:
    """The layers that a glob matches by name or weight; without globs the two largest. In graph order.

    Raises:
        InputError: A glob matches no layer, or the model has none.
    """
    if not layers:
        raise InputError("the model has no layer that could be factorized")
    if not patterns:
        return [layer for layer in layers if layer in sorted(layers, key=lambda layer: -layer.params)[:2]]
    meant = {p: [x for x in layers if fnmatchcase(x.name, p) or fnmatchcase(x.weight, p)] for p in patterns}
    for pattern, found in meant.items():
        if not found:
            known = ", ".join(layer.name for layer in layers)
            raise InputError(f"--layers {pattern!r} matches no layer", f"there are: {known}")
    return [layer for layer in layers if any(layer in found for found in meant.values())]


def learn(model: Model, layers: Sequence[Layer], method: Method, sets: Sets) -> list[Spectrum]:
    """A spectrum of every layer from the fit samples."""
    batches = (batch for _, batch in sets.fit)
    statistics = capture(model, layers, method, batches, mask_input=sets.mask_input).statistics
    with threadpool_limits(1, user_api="blas"):
        return [method.spectrum(matrix(model, layer), statistics[layer.name], Settings()) for layer in layers]


def ladder(layer: Layer, method: Method, notch: float) -> list[int | None]:
    """Dense, and under it the ranks min(m, n)·notchⁱ that save parameters, down to 1."""
    most, full = layer.break_even(compensated=method.compensates), min(layer.m, layer.n)
    count = int(math.log(full) / -math.log(notch) + 1e-9)
    rungs = dict.fromkeys(round(full * notch**i) for i in range(1, count + 1))
    return [None, *(rung for rung in rungs if rung <= most)]


def search(
    bench: Bench,
    method: Method,
    select: SampleSet,
    *,
    max_drop: float,
    notch: float,
    evaluations: int,
    each: Callable[[Step], None] = lambda step: None,
) -> tuple[list[Step], int]:
    """Goes down the ladders.

    Args:
        bench: Makes and scores the models.
        method: That of the bench's spectra.
        select: The samples that decide.
        max_drop: Score that may be lost, as a fraction.
        notch: A ladder's next rank over the one above it.
        evaluations: Models scored at most.
        each: Called with every step as it is taken.

    Returns:
        The steps taken, the original first, and how many models were scored in all, those of a last step that would
        have lost too much included.
    """
    start, spent = time.perf_counter(), 0
    ladders = [ladder(layer, method, notch) for layer in bench.layers]
    places = [0] * len(ladders)
    whole, layers = bench.model.params, sum(layer.params for layer in bench.layers)
    params, drop, steps = whole, 0.0, []
    while drop <= max_drop:
        ranks = tuple(rungs[place] for rungs, place in zip(ladders, places, strict=True))
        seconds = time.perf_counter() - start
        steps.append(Step(ranks, params, params / whole, 1 - (whole - params) / layers, drop, spent, seconds))
        each(steps[-1])
        movable = [i for i, rungs in enumerate(ladders) if places[i] + 1 < len(rungs)]
        if not movable or spent + len(movable) > evaluations:
            break
        tried: list[tuple[float, int, int]] = []
        for i in movable:
            proto = bench.build((*ranks[:i], ladders[i][places[i] + 1], *ranks[i + 1 :]))
            quality = bench.score(proto, select)
            tried.append((quality.drop.value if quality.finite else math.inf, count_params(proto), i))
        spent += len(tried)
        drop, params, taken = min(tried)
        places[taken] += 1
    return steps, spent


def _line(step: Step) -> str:
    ranks = ", ".join("dense" if rank is None else str(rank) for rank in step.ranks)
    shares = f"{100 * step.of_model:6.2f} %  {100 * step.of_layers:6.2f} %"
    return (
        f"{ranks:22s} {step.params:>12,}  {shares}  {100 * step.drop:6.2f}  {step.evaluations:5d}  {step.seconds:6.1f}"
    )


def run(options: argparse.Namespace) -> dict[str, object]:
    """Everything from the samples to the last line; returns what --json writes."""
    max_drop, method = parse_points(options.max_drop, "--max-drop"), METHODS[options.method]
    model = load(options.model)
    layers = choose(find(model)[0], options.layers)
    specs, how = input_specs(model.proto), make_options(method=options.method, task=options.task)
    asked = SampleOptions(options.calib, labels=options.labels, seed=options.seed)
    with opened(asked, specs) as opened_sets:
        found = look(model, how, opened_sets, measured=True)
        sets, task = found.sets, found.task
        assert task is not None
        bench = Bench(
            model, layers, learn(model, layers, method, sets), open_session(model.source()), task, sets.mask_input
        )
        print(f"{method.name}, fit {len(sets.fit)}, select {len(sets.select)}; {', '.join(x.name for x in layers)}")
        print(*found.lines, HEAD, sep="\n")
        rule = {"max_drop": max_drop, "notch": options.notch, "evaluations": options.evaluations}
        steps, spent = search(bench, method, sets.select, **rule, each=lambda step: print(_line(step), flush=True))
        last = bench.build(steps[-1].ranks)
        test = bench.score(last, sets.report) if options.test is None else None
    if test is None:  # brought along: the split stays that of a run without
        with opened(replace(asked, eval=options.test, eval_labels=options.test_labels), specs) as opened_sets:
            test = bench.score(last, look(model, how, opened_sets, measured=True).sets.report)
    accuracy = [each.value for each in (test.accuracy_before, test.accuracy_after) if each is not None]
    shown = " → ".join(f"{100 * value:.2f} %" for value in accuracy)
    print(f"{spent} evaluations; test, {test.n} samples: {test.score} {shown} drops {100 * test.drop.value:.2f} points")
    return {
        "method": method.name,
        "layers": [layer.name for layer in layers],
        "rule": rule,
        "seed": options.seed,
        "evaluations": spent,
        "steps": [asdict(step) for step in steps],
        "test": {"n": test.n, "score": test.score, "before_after": accuracy, "drop": asdict(test.drop)},
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", type=Path, required=True, help="samples: they are split into fit, select and report")
    parser.add_argument("--labels", type=Path, help="their classes, where they come in no class folders")
    parser.add_argument("--layers", nargs="+", default=[], metavar="GLOB", help="default: the two largest")
    parser.add_argument("--method", choices=list(METHODS), default="dalr-2017")
    parser.add_argument("--max-drop", default="1%")
    parser.add_argument("--notch", type=float, default=0.5, help="a rank over the one above it, between 0 and 1")
    parser.add_argument("--evaluations", type=int, default=10**6, help="at most; default: to the end")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--task", choices=["auto", "classify", "regress", "embed"], default="auto")
    parser.add_argument("--test", type=Path, help="samples for the last line")
    parser.add_argument("--test-labels", type=Path)
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args(arguments)
    if not 0 < options.notch < 1:
        parser.error("--notch must lie between 0 and 1")
    try:
        found = run(options)
    except DalrError as error:
        sys.exit(f"error: {error}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
