"""A candidate whose weights stay packed while it runs, as far as ONNX Runtime takes them so: `--memory small`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.packed.products import dequantize, sizes_as_floats
from onnx_dalr.request.context import Context
from onnx_dalr.session.fused import not_fused
from onnx_dalr.units import format_bytes

_MUCH = 0.05
_ROUNDED = (
    "--memory small: ONNX Runtime rounds what enters a product with a packed weight to 8 bits (accuracy level 4, its "
    "default); the figures of quality and speed are with that"
)


@dataclass(frozen=True, eq=False)
class Small:
    """What came of it.

    Attributes:
        candidate: The model.
        notes: What a reader of the report should know.
    """

    candidate: Candidate
    notes: tuple[str, ...]


def stays_small(context: Context, layers: Sequence[Layer], made: Candidate) -> Small:
    """The candidate with DequantizeLinear before its products, where ONNX Runtime makes one operator of the two.

    It has its tables written so already. Where it makes none it would unpack the weight on every run: there the nodes
    stay that it folds at load.
    """
    stored = sizes_as_floats(made.proto)
    packed = [(name, layer) for layer in layers for name in made.tensors.get(layer.name, ()) if name in stored]
    wanted = frozenset(name for name, layer in packed if not layer.in_one_piece)
    proto, products = _dequantized(context, made.proto, wanted)
    left = {tensor.name for tensor in proto.graph.initializer}
    tensors = {layer: tuple(name for name in names if name in left) for layer, names in made.tensors.items()}
    unpacked = [(name, layer) for name, layer in packed if name not in products and layer.name not in made.picked]
    notes = [_ROUNDED] if products else []
    if not packed and not made.picked:
        notes.append("--memory small: no weight is stored as int8 or int4, so none is packed: --weights int8")
    if sum(stored[name] for name, _ in unpacked) > _MUCH * sum(stored[name] for name, _ in packed):
        notes.append(_of_floats([layer for _, layer in unpacked], sum(stored[name] for name, _ in unpacked)))
    return Small(replace(made, proto=proto, tensors=tensors), tuple(notes))


def _dequantized(context: Context, proto: ModelProto, wanted: frozenset[str]) -> tuple[ModelProto, frozenset[str]]:
    """The model with as many of the wanted constants behind a DequantizeLinear as are fused, and those."""
    apart = frozenset[str]()
    while wanted:
        tried = ModelProto()
        tried.CopyFrom(proto)
        wanted = dequantize(tried, wanted, apart)
        if not wanted:
            break
        with loadable(context.original, tried, context.file) as (model, _):
            refused = not_fused(model, wanted, context.options.runtime)
        if not refused:
            return tried, wanted
        wanted -= refused & apart  # the others are tried once more
        apart |= refused
    return proto, wanted


def _of_floats(layers: Sequence[Layer], size: int) -> str:
    ops = ", ".join(dict.fromkeys(layer.op for layer in layers))
    return (
        f"--memory small: the weights of {len(set(layers))} layers ({ops}), {format_bytes(size)}, are floats all the "
        "same when the model runs; packed stay those of products that ONNX Runtime fuses with them (int8 from "
        "operator set 13, int4 from 21 in blocks of 16, 32, 64 or 128 inputs) and of tables whose rows are picked"
    )
