"""How long layers take in a few forms: measured here, layer by layer, and remembered by what they are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from onnx_dalr.cache import Cache, cache_of
from onnx_dalr.candidate.forms import forms_of, macs_of
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.structures import slots_of
from onnx_dalr.graph.alone import Alone, alone
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.progress import TIMING_LAYERS
from onnx_dalr.quality.times import Curve, LayerTimes, Times, curve_of
from onnx_dalr.request.context import Context
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.stopwatch import Runnable, Watch, in_turn, machine

SECONDS = 60.0
"""That measuring may take, about: of more or slower layers fewer forms are run."""

Thing = TypeVar("Thing")

_VERSION = 1  # of what is remembered
_POINTS = (6, 5, 4, 3, 2)  # forms a structure
_ROUNDS = 9
_USUAL = 0.6  # of the time of a layer that a form takes, and of the numbers that it has
_OPENED = 0.02  # seconds to load one
_AT_FIRST = 0.15  # share of the seconds for the layers as they are
_AT_ONCE = 1 << 28  # bytes of weights that are held at once, beside one model
_EIGHT = 8


@dataclass(eq=False)
class _Timed:
    """Layers that are alike: what is measured of one is so of all.

    Attributes:
        alone: One of them.
        seconds: As it is, beside the others and the model.
        shares: By form: of that time.
    """

    alone: Alone
    seconds: float = 0.0
    shares: dict[Form, float] = field(default_factory=dict)


def time_layers(
    context: Context,
    layers: Sequence[Layer],
    known: MultiplyAdds,
    feed: Batch,
    watch: Watch = in_turn,
    cache: Cache | None = None,
) -> Times:
    """Measures the model, its layers as they are, and each of these in a few forms.

    The first two anew; a form is remembered as the share of its layer's time, measured in turn with it.

    Args:
        context: Of the run.
        layers: The layers that take part.
        known: Sizes of the tensors on `feed`.
        feed: A sample, or the smallest batch that the model takes.
        watch: Takes the time.
        cache: Where shares are remembered; None for the folder of this user.
    """
    held = cache or cache_of("times")
    alike: dict[str, _Timed] = {}
    uses, untimed = _uses(context, layers, known, alike)
    by_layer = {layer.name: layer for layer in layers}
    with context.phase("time layers"):
        with context.progress.stage(TIMING_LAYERS, None):
            whole = _as_they_are(context, list(alike.values()), feed, watch)
        forms = _chosen(context, {by_layer[name]: keys for name, keys in uses.items()}, alike, known)
        wanted: dict[str, dict[Form, None]] = {key: {} for key in alike}
        for name, keys in uses.items():
            for key in keys:
                wanted[key] |= dict.fromkeys(forms[name])
        _in_forms(context, alike, wanted, watch, held)
    found = {name: _times_of(by_layer[name], [alike[key] for key in uses[name]], forms[name], known) for name in uses}
    return Times(whole * 1e9, found, untimed)


def _uses(
    context: Context, layers: Iterable[Layer], known: MultiplyAdds, alike: dict[str, _Timed]
) -> tuple[dict[str, list[str]], list[str]]:
    """By layer name: the key of each of its uses; and the layers that cannot be measured. Fills `alike`."""
    found: dict[str, list[str]] = {}
    untimed: list[str] = []
    for layer in layers:
        if layer.in_one_piece:
            continue
        try:
            each = [alone(context.original, layer, use, known.sizes) for use in layer.uses]
        except LookupError:
            each = []
        if not each or macs_of(layer, UNTOUCHED, known) <= 0:
            untimed.append(layer.name)
            continue
        for one in each:
            alike.setdefault(one.key, _Timed(one))
        found[layer.name] = [one.key for one in each]
    return found, untimed


def _as_they_are(context: Context, timed: Sequence[_Timed], feed: Batch, watch: Watch) -> float:
    """Seconds of the model; each layer gets its own, as a share of the model's in the same rounds."""
    model = Runnable(context.original.source(), feed)
    runtime, whole = context.options.runtime, list[float]()
    groups = list(_within(timed, [_weight(one.alone.layer) for one in timed], _AT_ONCE)) or [[]]
    for group in groups:
        runnables = [model, *(Runnable(one.alone.dense(), one.alone.feed()) for one in group)]
        rounds = watch(runnables, runtime, _AT_FIRST * SECONDS / len(groups))
        whole.append(float(np.median(rounds[:, 0])))
        for at, one in enumerate(group, start=1):
            one.seconds = float(np.median(rounds[:, at] / rounds[:, 0]))
    seconds = float(np.median(whole))
    # By themselves, with data of their own to lay out, layers may seem to take longer than the model that they are in.
    for one in timed:
        one.seconds *= seconds
    return seconds


def _chosen(
    context: Context, uses: Mapping[Layer, Sequence[str]], alike: Mapping[str, _Timed], known: MultiplyAdds
) -> dict[str, list[Form]]:
    """By layer name: the forms to measure, as many of each structure as there is time for."""
    for points in _POINTS:
        found = {layer.name: list(_grid(context, layer, known, points)) for layer in uses}
        seconds = 0.0
        for key, one in alike.items():
            forms = {form for layer, keys in uses.items() if key in keys for form in found[layer.name]}
            seconds += len(forms) * (_ROUNDS * _USUAL * one.seconds + _OPENED)
        if seconds <= SECONDS:
            break
    return found


def _grid(context: Context, layer: Layer, known: MultiplyAdds, points: int) -> Iterator[Form]:
    """Forms of every structure, about evenly spaced by their multiply-adds, in ranks that kernels like."""
    by_structure: dict[str, list[Form]] = {}
    for form in forms_of(layer, context.options.method, (KEPT,)):
        if form.rank:
            by_structure.setdefault(form.structure, []).append(form)
    for forms in by_structure.values():
        eights = [form for form in forms if all(rank % _EIGHT == 0 for rank in form.rank)]
        near = [form for form in eights or forms if _is_even(layer, form)]
        work = {form: macs_of(layer, form, known) for form in near or eights or forms}
        low, high = min(work.values()), max(work.values())
        aims = np.linspace(low, high, points)
        yield from dict.fromkeys(min(work, key=lambda form: abs(work[form] - aim)) for aim in aims)


def _is_even(layer: Layer, form: Form) -> bool:
    """Whether both ranks, of a form with two, are about the same share of their sides."""
    if len(form.rank) != 2:
        return True
    shares = form.rank[0] / layer.shape.channels, form.rank[1] / layer.m
    return max(shares) <= 1.5 * min(shares)


def _in_forms(
    context: Context,
    alike: Mapping[str, _Timed],
    wanted: Mapping[str, Iterable[Form]],
    watch: Watch,
    cache: Cache,
) -> None:
    """Shares of all forms that are wanted: those that are not remembered are measured, and remembered."""
    here = next((machine(context.options.runtime, one.alone.dense()) for one in alike.values()), None)
    method, runtime = context.options.method, context.options.runtime
    keys = {key: _key(key, here, compensates=method.compensates) for key in alike} if here else {}
    todo: dict[str, list[Form]] = {}
    for key, forms in wanted.items():
        noted = cache.read(keys[key]) if keys else {}
        shares = {form: share for form in forms if (share := _share(noted.get(str(form)))) is not None}
        alike[key].shares.update(shares)
        todo[key] = [form for form in forms if form not in shares]
    cost = {key: len(forms) * alike[key].seconds for key, forms in todo.items()}
    left = SECONDS * (1 - _AT_FIRST) / max(math.fsum(cost.values()), 1e-12)
    with context.progress.stage(TIMING_LAYERS, sum(map(len, todo.values())) or None) as advance:
        for key, forms in todo.items():
            one = alike[key]
            weights = [sum(slot.shape.params for slot in slots_of(one.alone.layer.shape, form)) * 4 for form in forms]
            for group in _within(forms, weights, max(_AT_ONCE - _weight(one.alone.layer), 1)):
                feed = one.alone.feed()
                models = (one.alone.dense(), *(one.alone.in_form(form, method) for form in group))
                rounds = watch([Runnable(made, feed) for made in models], runtime, left * len(group) * one.seconds)
                for at, form in enumerate(group, start=1):
                    one.shares[form] = float(np.median(rounds[:, at] / rounds[:, 0]))
                advance(len(group))
            if forms and keys:
                noted = cache.read(keys[key])
                cache.write(keys[key], noted | {str(form): one.shares[form] for form in forms})


def _within(things: Sequence[Thing], weights: Sequence[int], most: int) -> Iterator[list[Thing]]:
    """One after the other in groups that weigh no more, of one where one alone does."""
    group: list[Thing] = []
    held = 0
    for thing, weight in zip(things, weights, strict=True):
        if group and held + weight > most:
            yield group
            group, held = [], 0
        group.append(thing)
        held += weight
    if group:
        yield group


def _weight(layer: Layer) -> int:
    return layer.params * layer.dtype.itemsize


def _key(layer: str, here: Mapping[str, object], *, compensates: bool) -> str:
    facts = json.dumps([_VERSION, layer, here, compensates], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


def _share(noted: object) -> float | None:
    """What was remembered, if it is a share."""
    return noted if isinstance(noted, float) and 0 < noted < math.inf else None


def _times_of(layer: Layer, uses: Sequence[_Timed], forms: Iterable[Form], known: MultiplyAdds) -> LayerTimes:
    """Of all uses of a layer together."""
    whole = math.fsum(one.seconds for one in uses)
    points: dict[str, dict[float, float]] = {}
    for form in forms:
        share = math.fsum(one.shares[form] * one.seconds for one in uses) / whole
        points.setdefault(form.structure, {})[macs_of(layer, form, known)] = share
    curves: dict[str, Curve] = {structure: curve_of(found) for structure, found in points.items()}
    return LayerTimes(whole * 1e9, curves)
