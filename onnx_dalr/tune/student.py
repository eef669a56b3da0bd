"""What of a student may be tuned, and what it is to learn: named before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnx import ModelProto

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.factorize import Form
from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.storage.external import is_external
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.graph.storage.operators import FLOATING
from onnx_dalr.request.options import Options
from onnx_dalr.tune.tensors import numbers_beside
from onnx_dalr.tune.terms import Term

_HINTS = 3
_WEIGHTS = {"MatMul": (0, 1), "Gemm": (0, 1), "Conv": (1,), "ConvTranspose": (1,), "DequantizeLinear": (1,)}


@dataclass(frozen=True, eq=False)
class Pupil:
    """A student, by names.

    Attributes:
        proto: The model.
        tuned: Initializers that may be tuned.
        hints: Inner responses that are learned beside the outputs.
        answers: (initializers, response) of each layer that may be taught alone, where no gradient reaches it.
        terms: What is learned of the outputs; None for the distortion that is reported.
        home: Where its external data lies; None for where the teacher's does.
    """

    proto: ModelProto
    tuned: tuple[str, ...]
    hints: tuple[str, ...] = ()
    answers: tuple[tuple[tuple[str, ...], str], ...] = ()
    terms: tuple[Term, ...] | None = None
    home: Model | None = None


def pupil_of(
    candidate: Candidate, layers: Sequence[Layer], forms: Sequence[Form], options: Options, *, biases_only: bool
) -> Pupil:
    """A candidate as a student of the original.

    Args:
        candidate: With the names of its new tensors.
        layers: Of the original.
        forms: That they have.
        options: What the user excluded stays as it is.
        biases_only: Samples are few.
    """
    names = tuned_names(candidate, layers, biases_only=biases_only, only_new=bool(options.include or options.exclude))
    makers = {output for node in candidate.proto.graph.node for output in node.output}
    own = ((candidate.learnable.get(layer.name, ()), response(candidate.proto, layer)) for layer in layers)
    answers = tuple((numbers, name) for numbers, name in own if numbers and name in makers)
    return Pupil(candidate.proto, tuple(names), tuple(hinted(candidate.proto, layers, forms)), answers)


def pupil_from(model: Model, patterns: Iterable[str] = ()) -> Pupil:
    """Any model as a student: its weights, biases and scales, or the initializers that match a pattern.

    Args:
        model: Whoever made it.
        patterns: Globs on names of initializers; all that are weights where there are none.
    """
    proto = model.proto
    stored = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type in FLOATING and not is_external(tensor) and math.prod(tensor.dims) > 0
    }
    given, answers = tuple(patterns), []
    wanted = {name for name in stored if any(fnmatchcase(name, pattern) for pattern in given)}
    weights: dict[str, None] = {}
    for node in proto.graph.node:
        own = [node.input[at] for at in _WEIGHTS.get(node.op_type, ()) if at < len(node.input)]
        own = [name for name in own if name in stored]
        weights |= dict.fromkeys(own)
        if own and node.op_type != "DequantizeLinear":
            answers.append((tuple(own), node.output[0]))
    weights |= dict.fromkeys(name for name in numbers_beside(proto) if name in stored)
    names = [name for name in stored if name in wanted] if given else list(weights)
    return Pupil(proto, tuple(sorted(names)), answers=tuple(answers), home=model)


def tuned_names(candidate: Candidate, layers: Sequence[Layer], *, biases_only: bool, only_new: bool) -> list[str]:
    """Names of the initializers that may be tuned.

    Args:
        candidate: The student.
        layers: Of the original; of a table that is picked from nothing is tuned: its gradient is as large as itself.
        biases_only: Nothing but biases, and scales and shifts of norms.
        only_new: Nothing that the original has too: what the user excluded stays as it is.
    """
    proto = candidate.proto
    stored = {tensor.name for tensor in proto.graph.initializer}
    picked = {layer.name for layer in layers if layer.kind.picks}
    learnable = [names for layer, names in candidate.learnable.items() if layer not in picked]
    new = [name for names in learnable for name in names if name in stored]
    beside = numbers_beside(proto)
    if only_new:
        beside = [name for name in beside if name in set(new)]
    if biases_only:
        return beside
    return list(dict.fromkeys([*new, *beside]))


def hinted(proto: ModelProto, layers: Sequence[Layer], forms: Sequence[Form]) -> list[str]:
    """Three responses, evenly through the layers that changed, where convolutions are among them; else none.

    A deep chain of convolutions hears of its output too little (methods.md §10.2): what they answer on the way is told
    too.
    """
    changed = [layer for layer, form in zip(layers, forms, strict=True) if not form.untouched and not layer.kind.picks]
    if not any(layer.shape.taps > 1 for layer in changed):
        return []
    makers = {output for node in proto.graph.node for output in node.output}
    answers = [name for name in (response(proto, layer) for layer in changed) if name in makers]
    places = sorted({round((at + 1) * len(answers) / (_HINTS + 1)) for at in range(_HINTS)})
    return list(dict.fromkeys(answers[min(place, len(answers) - 1)] for place in places)) if answers else []


def response(proto: ModelProto, layer: Layer) -> str:
    """The tensor that a layer's response is, its bias added; "" where it does not compute in the main graph."""
    use = layer.uses[0]
    if use.node.scope != MAIN:
        return ""
    if use.add is not None and use.add.scope == MAIN:
        readers = (node for node in proto.graph.node if node.op_type == "Add" and use.output in node.input)
        node = next(readers, None)
        if node is not None:
            return str(node.output[0])
    return use.output
