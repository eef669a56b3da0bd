"""Forms become pieces, pieces become a model with the names of its new tensors: the one way from a decision to a model.

Search scores what it makes, effects are measured with its pieces, and the file is written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from json import dumps
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import KEPT, UNTOUCHED, Form, Shape
from onnx_dalr.factorize.formats import FORMATS, Encoded
from onnx_dalr.factorize.joined import JOINED, is_one
from onnx_dalr.factorize.rounding import Seen, rounded
from onnx_dalr.factorize.structures import STRUCTURES, Piece, Pieces, slots_of
from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.packed.tables import pick_then_unpack
from onnx_dalr.graph.rewrite import Part, Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, count_params, metadata
from onnx_dalr.learn.apart import are_large
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.progress import counted
from onnx_dalr.request.context import Context
from onnx_dalr.session.threads import blas_threads, side_by_side

Zeros = dict[tuple[Form | str, Shape, str], Encoded]
"""Zeros as they are stored, by format or joined form, shape and element type."""

_NO_FINGERPRINT = "0" * 16


@dataclass(frozen=True, eq=False)
class Candidate:
    """A decision made into a model.

    Attributes:
        proto: The model; external data of the original is still referred to.
        tensors: By layer name: names of the tensors that took its weight's place.
        picked: Names of the layers whose rows are picked before they are unpacked.
        learnable: By layer name: names of those of its tensors whose floats could be others.
        instead: By name of the layers that are not what was learned of them, but fitted to the layers before them: what
            takes their place.
    """

    proto: ModelProto
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    picked: frozenset[str] = frozenset()
    learnable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instead: Mapping[str, Substitution] = field(default_factory=dict)

    @property
    def refitted(self) -> frozenset[str]:
        """Names of the layers that are fitted to the layers before them."""
        return frozenset(self.instead)

    @property
    def params(self) -> int:
        """Numbers the model computes with, in whatever format."""
        return count_params(self.proto)


def build(
    context: Context,
    layers: Sequence[Layer],
    learned: Learned,
    forms: Sequence[Form],
    factors: str = DEFAULT,
    advance: Callable[[int], None] = lambda count: None,
    instead: Mapping[str, Substitution] | None = None,
    *,
    swept: bool = True,
) -> Candidate:
    """The model with its layers in these forms.

    Args:
        context: Of the run.
        layers: The layers to be replaced or left.
        learned: What the fit samples taught of them.
        forms: A form for each of `layers`.
        factors: Name of the factors, of those that were learned.
        advance: Told of every layer that is done.
        instead: By layer name: what takes a layer's place in its form, where that is not what was learned of it.
        swept: With pieces as good as they get; a search takes those that are made at once.
    """
    text = note(context, layers, forms, learned.calibration)
    made = _made(context, layers, learned, forms, factors, instead or {}, swept=swept)
    with blas_threads(context.options.runtime.workers) if are_large(layers) else nullcontext():
        return _rewritten(context, counted(made, advance), text)


def outline(
    context: Context,
    layers: Sequence[Layer],
    learned: Learned | None,
    forms: Sequence[Form],
    zeros: Zeros | None = None,
) -> Candidate:
    """The model `build` makes, with nothing in its pieces: what an artifact weighs does not depend on their values.

    Args:
        context: Of the run.
        layers: The layers to be replaced or left.
        learned: What the fit samples taught of them; None before.
        forms: A form for each of `layers`.
        zeros: What of one outline goes into the next: empty at first.
    """
    calibration = _NO_FINGERPRINT if learned is None else learned.calibration
    empty = _empty(context, layers, learned, forms, {} if zeros is None else zeros)
    return _rewritten(context, empty, note(context, layers, forms, calibration))


def pieces_of(
    original: Model, layer: Layer, learned: Learned, form: Form, factors: str = DEFAULT, *, swept: bool = True
) -> Pieces:
    """What takes the place of a layer's weight in a form, before it is stored in the form's format."""
    if is_one(form):
        (slot,) = slots_of(layer.shape, UNTOUCHED)
        return Pieces((slot.filled(matrix(original, layer).reshape(slot.shape.dims)),), np.zeros(layer.m))
    return learned.of(layer.name, factors).of(form).pieces(form.rank, swept=swept)


def replacement(context: Context, learned: Learned, layer: Layer, form: Form) -> tuple[NDArray[Any], NDArray[Any]]:
    """(W', [m, n], and what is added to the bias, [m]) of a layer in a form, without making a model of it."""
    return composed(substitution(context, layer, learned, form, DEFAULT, swept=False), form)


def composed(made: Substitution, form: Form) -> tuple[NDArray[Any], NDArray[Any]]:
    """(W', [m, n], and what is added to the bias, [m]) of a layer as it is stored in a form."""
    if is_one(form):
        return made.parts[0].encoded.values.reshape(made.layer.m, made.layer.n), made.shift
    read = [Piece(part.role, part.encoded.values, part.axes) for part in made.parts]
    return STRUCTURES[form.structure].compose(read), made.shift


def note(context: Context, layers: Iterable[Layer], forms: Iterable[Form], calibration: str) -> str:
    """The metadata entry: enough to know what was done to the model, and on which samples."""
    changed = {layer.name: form for layer, form in zip(layers, forms, strict=True) if not form.untouched}
    facts: dict[str, Any] = {
        "version": __version__,
        "method": context.options.method.name,
        "calibration": calibration,
        "of": context.original.size,
        "tuned": 0,
        "ranks": {name: _noted(form) for name, form in changed.items()},
    }
    earlier = metadata(context.original.proto)
    if earlier is not None:
        facts["before"] = earlier
    return dumps(facts, ensure_ascii=False, separators=(",", ":"))


def _noted(form: Form) -> int | str:
    """A pair is its rank, as it has been since notes are written."""
    return form.rank[0] if form.is_rank else str(form)


def _rewritten(context: Context, substitutions: Iterable[Substitution], text: str) -> Candidate:
    whole: list[Layer] = []

    def noted_as_they_pass() -> Iterator[Substitution]:
        for one in substitutions:
            if one.layer.in_one_piece and one.layer.home == MAIN:
                whole.append(one.layer)
            yield one

    made = rewrite(context.original, noted_as_they_pass(), text)
    if not context.options.small_memory:
        return Candidate(made.proto, made.tensors, learnable=made.learnable)
    picked = pick_then_unpack(made.proto, {layer.weight: layer.m for layer in whole})
    names = frozenset(layer.name for layer in whole if layer.weight in picked)
    return Candidate(made.proto, made.tensors, names, made.learnable)


def _made(
    context: Context,
    layers: Sequence[Layer],
    learned: Learned,
    forms: Sequence[Form],
    factors: str,
    instead: Mapping[str, Substitution],
    *,
    swept: bool,
) -> Iterator[Substitution]:
    """Few layers' pieces at a time: in float64 those of all layers would be more than the model."""

    def make(one: tuple[Layer, Form]) -> Substitution:
        layer, form = one
        return instead.get(layer.name) or substitution(context, layer, learned, form, factors, swept=swept)

    changed = [one for one in zip(layers, forms, strict=True) if not one[1].untouched]
    for made in side_by_side(make, changed, 1 if are_large(layers) else context.options.runtime.workers):
        yield made
        context.original.let_go()


def substitution(
    context: Context, layer: Layer, learned: Learned, form: Form, factors: str, *, swept: bool = True
) -> Substitution:
    """A layer in a form; what takes long to make is remembered, since search asks for the same again and again."""

    def make() -> Substitution:
        if form.structure in JOINED:
            return _joined(context, layer, learned, form, factors)
        pieces = pieces_of(context.original, layer, learned, form, factors, swept=swept)
        return stored(context, layer, form, pieces, learned.of(layer.name, factors).seen)

    if form.format == KEPT and layer.shape.taps == 1:  # made of the spectrum at once
        return make()
    made: Substitution = learned.made.get((layer.name, form, factors, swept), make, _weight)
    return made


def stored(context: Context, layer: Layer, form: Form, made: Pieces, seen: Seen | None) -> Substitution:
    """Pieces in place of a layer's weight, rounded to the form's format by what is seen of its inputs."""
    if form.format == KEPT:
        return Substitution.of(layer, made.pieces, FORMATS[KEPT], made.shift)
    encoded, shift = rounded(made.pieces, FORMATS[form.format], layer.dtype, seen)
    parts = tuple(Part(piece.role, one, piece.axes) for piece, one in zip(made.pieces, encoded, strict=True))
    return Substitution(layer, parts, made.shift + shift if _has_bias_for(layer, form, context) else made.shift)


def _joined(context: Context, layer: Layer, learned: Learned, form: Form, factors: str) -> Substitution:
    """A layer stored in several ways at once.

    Raises:
        InputError: The samples, or the statistics that take their place, do not say enough for it.
    """
    spectra = learned.of(layer.name, factors)
    if not spectra.knows(form):
        raise InputError(
            f"{str(form)!r} of layer {layer.name!r} needs to know how it is used, and nothing is known of that",
            "calibrate again, or store it in a format alone: 'dense int8'",
        )
    made = spectra.joined[form.structure].encoded(matrix(context.original, layer), form, layer.dtype)
    return Substitution(layer, (Part("W", made),), np.zeros(layer.m))


def _weight(made: Substitution) -> int:
    """Bytes it holds."""
    arrays = [array for part in made.parts for array in (part.encoded.values, *part.encoded.stored())]
    return sum(array.nbytes for array in arrays)


def _has_bias_for(layer: Layer, form: Form, context: Context) -> bool:
    """Whether what rounding does to the mean has a place to go to: a bias that is there, or comes with the factors.

    The nodes of a layer in one piece stay as they are, and so do their biases.
    """
    if layer.in_one_piece:
        return False
    comes = not is_one(form) and context.options.method.compensates
    return comes or layer.growth(compensated=True) <= layer.growth(compensated=False)


def _empty(
    context: Context, layers: Sequence[Layer], learned: Learned | None, forms: Sequence[Form], zeros: Zeros
) -> Iterator[Substitution]:
    for layer, form in zip(layers, forms, strict=True):
        if form.untouched:
            continue
        spectra = None if learned is None else learned.of(layer.name)
        moved = not is_one(form) and context.options.method.compensates
        moved = moved and (spectra is None or spectra.of(form).moves_bias)
        if form.format != KEPT and (spectra is None or spectra.seen is not None):
            moved = _has_bias_for(layer, form, context)
        if form.structure in JOINED:
            whole = form, layer.shape, layer.dtype.name
            if whole not in zeros:
                zeros[whole] = JOINED[form.structure].empty(layer.shape, form, layer.dtype)
            yield Substitution(layer, (Part("W", zeros[whole]),), np.zeros(layer.m))
            continue
        parts = []
        for slot in slots_of(layer.shape, form):
            key = form.format, slot.shape, layer.dtype.name
            if key not in zeros:
                zeros[key] = FORMATS[form.format].encode(slot.empty().values, layer.dtype)
            parts.append(Part(slot.role, zeros[key], slot.axes))
        yield Substitution(layer, tuple(parts), np.full(layer.m, 1e-3 if moved else 0.0))
