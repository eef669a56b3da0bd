"""Forms become pieces, pieces become a model with the names of its new tensors: the one way from a decision to a model.

Search scores what it makes, effects are measured with its pieces, and the file is written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from json import dumps
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.factorize import DENSE, Form
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import STRUCTURES, Pieces, slots_of
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, count_params, metadata
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.progress import counted
from onnx_dalr.request.context import Context

_NO_FINGERPRINT = "0" * 16


@dataclass(frozen=True, eq=False)
class Candidate:
    """A decision made into a model.

    Attributes:
        proto: The model; external data of the original is still referred to.
        tensors: By layer name: names of the tensors that took its weight's place.
        packed: Numbers in them that are not stored as floating ones.
    """

    proto: ModelProto
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packed: int = 0

    @property
    def params(self) -> int:
        """Numbers the model computes with, in whatever format."""
        return count_params(self.proto) + self.packed


def build(
    context: Context,
    layers: Sequence[Layer],
    learned: Learned,
    forms: Sequence[Form],
    factors: str = DEFAULT,
    advance: Callable[[int], None] = lambda count: None,
) -> Candidate:
    """The model with its layers in these forms.

    Args:
        context: Of the run.
        layers: The layers to be replaced or left.
        learned: What the fit samples taught of them.
        forms: A form for each of `layers`.
        factors: Name of the factors, of those that were learned.
        advance: Told of every layer that is done.
    """
    text = note(context, layers, forms, learned.calibration)
    return _rewritten(context, counted(_made(context.original, layers, learned, forms, factors), advance), text)


def outline(context: Context, layers: Sequence[Layer], learned: Learned | None, forms: Sequence[Form]) -> Candidate:
    """The model `build` makes, with nothing in its pieces: what an artifact weighs does not depend on their values."""
    calibration = _NO_FINGERPRINT if learned is None else learned.calibration
    return _rewritten(context, _empty(context, layers, learned, forms), note(context, layers, forms, calibration))


def pieces_of(original: Model, layer: Layer, learned: Learned, form: Form, factors: str = DEFAULT) -> Pieces:
    """What takes the place of a layer's weight in a form, before it is stored in the form's format."""
    if form.structure == DENSE:
        (slot,) = slots_of(layer.shape, form)
        return Pieces((slot.filled(matrix(original, layer).reshape(slot.shape.dims)),), np.zeros(layer.m))
    return learned.of(layer.name, factors).of(form).pieces(form.rank)


def replacement(original: Model, learned: Learned, layer: Layer, form: Form) -> tuple[NDArray[Any], NDArray[Any]]:
    """(W', [m, n], and what is added to the bias, [m]) of a layer in a form, without making a model of it."""
    made, storage = pieces_of(original, layer, learned, form), FORMATS[form.format]
    read = [replace(piece, values=storage.encode(piece.values, layer.dtype).values) for piece in made.pieces]
    if form.structure == DENSE:
        return read[0].values.reshape(layer.m, layer.n), made.shift
    return STRUCTURES[form.structure].compose(read), made.shift


def note(context: Context, layers: Iterable[Layer], forms: Iterable[Form], calibration: str) -> str:
    """The metadata entry: enough to know what was done to the model, and on which samples."""
    changed = {layer.name: form for layer, form in zip(layers, forms, strict=True) if not form.untouched}
    facts: dict[str, Any] = {
        "version": __version__,
        "method": context.options.method.name,
        "calibration": calibration,
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
    packed: list[int] = []

    def counted_as_they_pass() -> Iterator[Substitution]:
        for one in substitutions:
            packed.extend(part.encoded.arrays[""].size for part in one.parts if part.encoded.is_packed)
            yield one

    made = rewrite(context.original, counted_as_they_pass(), text)
    return Candidate(made.proto, made.tensors, sum(packed))


def _made(
    original: Model, layers: Sequence[Layer], learned: Learned, forms: Sequence[Form], factors: str
) -> Iterator[Substitution]:
    """One layer's pieces at a time: in float64 those of all layers would be more than the model."""
    for layer, form in zip(layers, forms, strict=True):
        if not form.untouched:
            yield _stored(layer, pieces_of(original, layer, learned, form, factors), form)


def _empty(
    context: Context, layers: Sequence[Layer], learned: Learned | None, forms: Sequence[Form]
) -> Iterator[Substitution]:
    for layer, form in zip(layers, forms, strict=True):
        if form.untouched:
            continue
        known = None if learned is None or form.structure == DENSE else learned.of(layer.name).of(form)
        moved = form.structure != DENSE and context.options.method.compensates and (known is None or known.moves_bias)
        pieces = tuple(slot.empty() for slot in slots_of(layer.shape, form))
        yield _stored(layer, Pieces(pieces, np.full(layer.m, 1e-3 if moved else 0.0)), form)


def _stored(layer: Layer, made: Pieces, form: Form) -> Substitution:
    """Pieces as the form's format stores them."""
    return Substitution.of(layer, made.pieces, FORMATS[form.format], made.shift)
