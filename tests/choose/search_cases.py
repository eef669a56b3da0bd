"""Spaces to search: layers without samples, spectra of made-up data, scorers that say what they are told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import SearchSpace, Weigh
from onnx_dalr.choose.trials import Effects, Judge, Trial
from onnx_dalr.factorize import METHODS, PAIR, Form, Method, Settings, Spectrum, Statistics
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures.pair import PairSpectrum
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import load
from onnx_dalr.learn.learn import Learned
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.target import make_target

DALR, SVD, SVD_BC = METHODS["dalr"], METHODS["svd"], METHODS["svd-bc"]
Rank = int | None
"""Of a pair; None is the layer as it is."""

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


def learned_of(spectra: Mapping[str, Mapping[str, Spectrum]]) -> Learned:
    """What was learned, of spectra by factors' name and layer name."""
    made = {
        factors: {name: Spectra({PAIR: PairSpectrum(spectrum)}) for name, spectrum in each.items()}
        for factors, each in spectra.items()
    }
    return Learned(made, {}, frozenset(), {}, 0, ())


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
) -> SearchSpace:
    """These layers, or the three where none are given, each with its bias beside it; no spectra: nothing is learned."""
    if spectra is None:
        spectra = {"default": SPECTRA if layers is THREE else spectra_of(layers, method)}
    whole = total or sum(layer.params + layer.m for layer in layers)
    learned = learned_of(spectra) if spectra else None
    return SearchSpace(make_target(**target), layers, learned, method, whole, on_disk or 4 * whole, weigh or _unweighed)


def _unweighed(forms: Forms) -> int:
    del forms
    raise AssertionError("nothing but a size is weighed")


def spectrum_in(space: SearchSpace, layer: Layer) -> Spectrum:
    """What a layer's decomposition was made of."""
    spectra = space.spectra(layer)
    assert spectra is not None
    assert isinstance(spectra.first, PairSpectrum)
    return spectra.first.spectrum


def rank_of(form: Form) -> Rank:
    return None if form.untouched else form.rank[0]


def ranks_of(found: Plan) -> list[Rank]:
    return [rank_of(form) for form in found.forms]


def named(found: Plan) -> NAMED:
    return {choice.layer: rank_of(choice.form) for choice in found.choices}


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
    """Effects that are known from the start, and the forms that were to be looked at."""

    def __init__(self, curves: list[Curve]) -> None:
        self._curves, self.looked = curves, list[Forms]()

    def near(self, forms: Forms) -> None:
        self.looked.append(list(forms))

    def curves(self) -> list[Curve]:
        return self._curves


def weighted(weights: Sequence[float], space: SearchSpace | None = None) -> list[Curve]:
    """Tails times a weight each: what a layer's error is to the output."""
    tails = (space or posed()).curves(Spectra.tail)
    return [weight * tail for weight, tail in zip(weights, tails, strict=True)]


UNEVEN = weighted((1.0, 1e-4, 10.0))


def moved(ranks: NAMED) -> float:
    """What the output loses, if the uneven curves tell the truth."""
    return float(sum(curve[rank - 1] for curve, rank in zip(UNEVEN, ranks.values(), strict=True) if rank is not None))


def decided(
    scored: Callable[[Plan], Trial] | None = None,
    effects: Effects | None = None,
    space: SearchSpace | None = None,
    **target: Any,
) -> Plan:
    """The plan for a space, or for a target of the three layers."""
    judge = None if scored is None else Judge(scored, None if effects is None else lambda space: effects)
    return make_plan(space or posed(**target), judge)


LADDERS = posed().ladders
DENSE = int(allocate.total(LADDERS, allocate.largest(LADDERS)))


def cost(found: Plan) -> int:
    """Parameters of the three layers."""
    return int(allocate.total(LADDERS, list(found.forms)))
