"""Which layers of a model take part in a run."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_dalr.commands.asked import Asked
from onnx_dalr.errors import NothingToGainError
from onnx_dalr.factorize import KEPT
from onnx_dalr.graph.layers import Layer, Skipped, find
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import check_pattern, check_ranks, formats_of, left_out, select, taken_apart_as_asked


def choose_layers(context: Context, asked: Asked) -> tuple[list[Layer], list[Skipped]]:
    """The layers that take part, and the nodes that do not, with the reason.

    Raises:
        InputError: A pattern, or a layer of the plan, is none of the model's.
        NothingToGainError: No layer is eligible.
    """
    found, skipped = find(context.original, in_one_piece=not context.options.keeps)
    if asked.target is not None:
        check_ranks(asked.target, found, skipped)
    layers, skipped = select(found, skipped, context.options.include, context.options.exclude)
    layers = [taken_apart_as_asked(layer, context.options.structures) for layer in layers]
    if asked.only is not None:
        unknown = sorted(asked.only - {layer.name for layer in layers})
        if unknown:
            check_pattern("the plan's layer", unknown[0], layers, skipped)
        kept = [left_out(layer, "the plan keeps it") for layer in layers if layer.name not in asked.only]
        layers, skipped = [layer for layer in layers if layer.name in asked.only], [*skipped, *kept]
    skipped = [*skipped, *(left_out(layer, layer.why_whole) for layer in layers if _stays(context, layer))]
    layers = [layer for layer in layers if not _stays(context, layer)]
    if not layers:
        raise NothingToGainError("nothing to gain: no layer is eligible", _why_none(skipped))
    return layers, skipped


def _stays(context: Context, layer: Layer) -> bool:
    """Whether nothing can become of a layer: it is in one piece, and its numbers are kept."""
    return layer.in_one_piece and formats_of(layer, context.options.weights) == (KEPT,)


def _why_none(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return "the model has no Gemm, MatMul or Conv"
    reasons = [entry.reason for entry in skipped]
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f"{len(skipped)} nodes skipped, {reasons.count(common)} of them: {common}"
