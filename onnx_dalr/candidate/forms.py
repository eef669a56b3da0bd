"""The forms a layer may take under a method, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_dalr.factorize import DENSE, KEPT, UNTOUCHED, Form, Method
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.joined import JOINED, is_one
from onnx_dalr.factorize.structures import slots_of
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.macs import MultiplyAdds

NODES = 300
"""Bytes of what makes floats of the numbers of one constant: nodes and names."""


def forms_of(layer: Layer, method: Method, formats: Sequence[str] = (KEPT,)) -> tuple[Form, ...]:
    """Every form with fewer parameters or bytes than the layer in one piece, structure by structure; that comes last.

    In one piece it is stored in the first of the formats, where these do not let it be as it is: unless that takes no
    less room, as of a small layer.

    Args:
        layer: The layer.
        method: Of the factorization: a bias that it has to add counts.
        formats: In which numbers may be stored.
    """
    room = layer.params - layer.growth(compensated=method.compensates)
    room_for_bytes = bytes_of(layer, UNTOUCHED, method) - NODES
    stored = [form for format in formats if bytes_of(layer, form := Form(DENSE, (), format), method) < room_for_bytes]
    last = stored[0] if stored and KEPT not in formats else UNTOUCHED
    return (
        *(
            Form(structure.name, rank, format)
            for format in formats
            for structure in layer.structures
            if structure.serves(method)
            for rank in structure.ranks(layer.shape, room)
        ),
        *(form for joined in layer.joined for form in joined.forms(layer.shape, formats)),
        *(form for form in stored if form not in (last, UNTOUCHED)),
        last,
    )


def params_of(layer: Layer, form: Form, method: Method) -> int:
    """Parameters of a layer in a form, what its biases grow by included."""
    if form.structure in JOINED:
        return JOINED[form.structure].params(layer.shape, form)
    return sum(slot.shape.params for slot in slots_of(layer.shape, form)) + _growth(layer, form, method)


def bytes_of(layer: Layer, form: Form, method: Method) -> int:
    """Bytes of the values that a layer stores in a form, of its biases too; names and nodes are not among them."""
    if form.untouched:
        return layer.params * layer.dtype.itemsize
    if form.structure in JOINED:
        return JOINED[form.structure].bytes(layer.shape, form, layer.dtype)
    storage = FORMATS[form.format]
    stored = sum(storage.bytes(slot.shape, layer.dtype) for slot in slots_of(layer.shape, form))
    return stored + _growth(layer, form, method) * layer.dtype.itemsize


def macs_of(layer: Layer, form: Form, known: MultiplyAdds) -> float:
    """Multiply-adds of a layer in a form, of one sample: every piece at its own positions, in every use.

    Nothing where the sizes are not known, and nothing of a layer in one piece: in any form of these it takes as many.
    """
    if layer.in_one_piece:
        return 0.0
    slots = slots_of(layer.shape, form)
    pieces = [slot.axes for slot in slots]
    try:
        positions = [use.kind.positions(pieces, layer.shape, use, known.sizes) for use in layer.uses]
    except LookupError:
        return 0.0
    counts = map(sum, zip(*positions, strict=True))
    return math.fsum(slot.shape.params * count for slot, count in zip(slots, counts, strict=True)) / known.samples


def bytes_in_format(layer: Layer, form: Form, format: str, method: Method) -> int:
    """Bytes of the values of a layer in a form if its numbers were stored otherwise; as they are if that is less."""
    return min(bytes_of(layer, form._replace(format=format), method), bytes_of(layer, form, method))


def largest_rank(layer: Layer, method: Method) -> int:
    """The largest rank that makes a layer smaller where no more than a rank is given; 0 where none does."""
    return layer.break_even(compensated=method.compensates)


def at_rank(layer: Layer, rank: int | None, format: str = KEPT) -> Form:
    """What `--rank` means for a layer: the first structure that can save, with it on all sides; else in one piece."""
    first = layer.by_rank
    if rank is None or first is None:
        return Form(DENSE, (), format)
    return Form(first.name, (rank,) * len(first.smallest), format)


def at_share(layer: Layer, share: float) -> Form | None:
    """The largest rank of that structure with at most this share of the layer's parameters; None for none."""
    first = layer.by_rank
    ranks = first.ranks(layer.shape, int(share * layer.params) + 1) if first else ()
    return Form(first.name, ranks[-1]) if first and ranks else None


def _growth(layer: Layer, form: Form, method: Method) -> int:
    if form.untouched:
        return 0
    return layer.growth(compensated=method.compensates and not is_one(form))
