"""Problems to decide on: layers without samples, spectra of made-up data, scorers that say what they are told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Rank, Ranks
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import Problem, Weigh
from onnx_dalr.choose.trials import Effects, Judge, Trial
from onnx_dalr.factorize import METHODS, Method, Settings, Spectrum, Statistics
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import load
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.target import make_target

DALR, SVD, SVD_BC = METHODS["dalr"], METHODS["svd"], METHODS["svd-bc"]
NAMED = dict[str, Rank]
"""Ranks by layer name."""


def zeros(count: int) -> str:
    return "{" + ", ".join(["0"] * count) + "}"


def layers_of(*shapes: tuple[int, int], biased: bool = True, dtype: str = "float") -> list[Layer]:
    """Layers fc0, fc1, … of these (m, n), side by side, each with a bias of its own or none."""
    lines, constants = [], []
    for i, (m, n) in enumerate(shapes):
        constants.append(f"{dtype}[{m}, {n}] W{i} = {zeros(m * n)}, {dtype}[{m}] b{i} = {zeros(m)}")
        lines.append(f"[fc{i}] y{i} = Gemm <transB = 1> (x{i}, W{i}{f', b{i}' if biased else ''})")
    inputs = ", ".join(f"{dtype}[N, {n}] x{i}" for i, (_, n) in enumerate(shapes))
    outputs = ", ".join(f"{dtype}[N, {m}] y{i}" for i, (m, _) in enumerate(shapes))
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}) <{", ".join(constants)}> '
    layers, _ = find(load(onnx.parser.parse_model(text + "{ " + "\n".join(lines) + " }")))
    assert [layer.name for layer in layers] == [f"fc{i}" for i in range(len(shapes))]
    return layers


def spectra_of(layers: Sequence[Layer], method: Method = DALR) -> dict[str, Spectrum]:
    found = {}
    for seed, layer in enumerate(layers):
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((layer.m, layer.n))
        stats = Statistics(layer.m, layer.n, method.needs(layer.m, layer.n))
        stats.update(rng.standard_normal((200, layer.n)) * 0.9 ** np.arange(layer.n), W)
        found[layer.name] = method.spectrum(W, stats, Settings())
    return found


THREE = layers_of((40, 60), (60, 40), (30, 30))
SPECTRA = spectra_of(THREE)
PARAMS = sum(layer.params + layer.m for layer in THREE)


def posed(
    layers: Sequence[Layer] = THREE,
    spectra: Mapping[str, Mapping[str, Spectrum]] | None = None,
    *,
    method: Method = DALR,
    total: int | None = None,
    weigh: Weigh | None = None,
    on_disk: int | None = None,
    **target: Any,
) -> Problem:
    """A problem of these layers; of the three where none are given, each with its bias beside it."""
    if spectra is None:
        spectra = {"default": SPECTRA if layers is THREE else spectra_of(layers, method)}
    whole = total or sum(layer.params + layer.m for layer in layers)
    return Problem(make_target(**target), layers, spectra, method, whole, on_disk or 4 * whole, weigh or _unweighed)


def _unweighed(ranks: Ranks) -> int:
    del ranks
    raise AssertionError("nothing but a size is weighed")


def ranks_of(found: Plan) -> Ranks:
    return [choice.rank for choice in found.choices]


def named(found: Plan) -> NAMED:
    return {choice.layer: choice.rank for choice in found.choices}


class Scored:
    """A drop that is some function of the ranks by name, and every plan it was asked about.

    The distortion is the drop where nothing else is given, the error likewise.
    """

    def __init__(
        self,
        drop: Callable[[NAMED], float],
        distortion: Callable[[Plan], float] | None = None,
        error: Callable[[NAMED], float] | None = None,
    ) -> None:
        self.drop, self.distortion, self.error, self.plans = drop, distortion, error, list[Plan]()

    def __call__(self, plan: Plan) -> Trial:
        self.plans.append(plan)
        drop = self.drop(named(plan))
        moved = drop if self.distortion is None else self.distortion(plan)
        return Trial(drop, moved, drop if self.error is None else self.error(named(plan)), 1000)


class Fixed:
    """Effects that are known from the start, and the ranks that were to be looked at."""

    def __init__(self, curves: list[Curve]) -> None:
        self._curves, self.looked = curves, list[Ranks]()

    def near(self, ranks: Ranks) -> None:
        self.looked.append(list(ranks))

    def curves(self) -> list[Curve]:
        return self._curves


def weighted(weights: Sequence[float], problem: Problem | None = None) -> list[Curve]:
    """Tails times a weight each: what a layer's error is to the output."""
    tails = (problem or posed()).curves(lambda spectrum: spectrum.tails)
    return [weight * tail for weight, tail in zip(weights, tails, strict=True)]


UNEVEN = weighted((1.0, 1e-4, 10.0))


def moved(ranks: NAMED) -> float:
    """What the output loses, if the uneven curves tell the truth."""
    return float(sum(curve[rank] for curve, rank in zip(UNEVEN, ranks.values(), strict=True) if rank is not None))


def decided(
    scored: Callable[[Plan], Trial] | None = None,
    effects: Effects | None = None,
    problem: Problem | None = None,
    **target: Any,
) -> Plan:
    """The plan for a problem, or for a target of the three layers."""
    judge = None if scored is None else Judge(scored, None if effects is None else lambda problem: effects)
    return make_plan(problem or posed(**target), judge)


LADDERS = posed().ladders
DENSE = int(allocate.total(LADDERS, allocate.largest(LADDERS)))


def cost(found: Plan) -> int:
    """Parameters of the three layers."""
    return int(allocate.total(LADDERS, ranks_of(found)))
