"""What the graph says of a model's outputs: what makes them, what lies behind class numbers, what is a by-product."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto

from onnx_dalr.graph.probe import names_read

_CARRIERS = {
    "Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Dropout", "Concat",
    "Slice", "Split", "Gather", "Expand", "Pad",
}  # fmt: skip
_AVERAGES = ("ReduceMean", "ReduceMax", "ReduceSum")
_TO_NUMBERS = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Gather", "ArrayFeatureExtractor"}
_INSIDE_ATTENTION = {"Identity", "Cast", "Dropout", "Where", "Reshape", "Transpose", "Expand", "Unsqueeze", "Squeeze"}


@dataclass(frozen=True)
class OutputFacts:
    """One output of a model, before anything is run.

    Attributes:
        name: Its name.
        makers: Operators that make its values, behind what only moves them.
        dims: Its axes as declared: a number where fixed, a name or None where free; None where even their number is
            unknown.
        scores: Of class numbers: the tensor inside the model that they are the largest of, where there is one.
        byproduct: Why it is not the model's answer; empty where it may be.
    """

    name: str
    makers: frozenset[str] = frozenset()
    dims: tuple[int | str | None, ...] | None = None
    scores: str | None = None
    byproduct: str = ""


class _Graph:
    """Who makes and who reads a tensor of the main graph."""

    def __init__(self, proto: ModelProto) -> None:
        self.makers = {output: node for node in proto.graph.node for output in node.output if output}
        self.constants = {tensor.name for tensor in proto.graph.initializer}
        self.constants |= {name for name, node in self.makers.items() if node.op_type == "Constant"}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in proto.graph.node:
            for name in names_read(node):
                self.readers.setdefault(name, []).append(node)

    def made_by(self, name: str) -> frozenset[str]:
        """Operators behind what only moves values."""
        return frozenset(self.makers[origin].op_type for origin in self.origins(name))

    def origins(self, name: str, averaged: Collection[str] = ()) -> set[str]:
        """Tensors that are made behind what only moves values, or averages them with these operators."""
        found, seen, waiting = set[str](), set[str](), [name]
        while waiting:
            tensor = waiting.pop()
            node = self.makers.get(tensor)
            if node is None or tensor in seen:
                continue
            seen.add(tensor)
            if node.op_type not in _CARRIERS and node.op_type not in averaged:
                found.add(tensor)
                continue
            moved = node.input if node.op_type == "Concat" else node.input[:1]
            waiting += [each for each in moved if each not in self.constants]
        return found

    def scores(self, name: str) -> str | None:
        """The tensor whose largest entries class numbers are; the tensor that a ZipMap gives names to."""
        for _ in range(16):
            node = self.makers.get(name)
            if node is None or not node.input:
                return None
            if node.op_type in ("ArgMax", "ZipMap") or (node.op_type == "TopK" and name in node.output[1:]):
                return str(node.input[0]) if node.input[0] in self.makers else None
            if node.op_type not in _TO_NUMBERS:
                return None
            picks = node.op_type in ("Gather", "ArrayFeatureExtractor") and node.input[0] in self.constants
            name = node.input[1] if picks and len(node.input) > 1 else node.input[0]
        return None

    def leads_to(self, name: str, wanted: Iterable[str]) -> set[str]:
        """Which of the wanted tensors are computed from this one."""
        seen, waiting, goals = set[str](), [name], set(wanted) - {name}
        while waiting:
            for node in self.readers.get(waiting.pop(), []):
                fresh = [output for output in node.output if output and output not in seen]
                seen.update(fresh)
                waiting += fresh
        return goals & seen

    def weighs_others(self, name: str) -> bool:
        """Whether other values are multiplied with it inside the model, as attention weights are; not constants."""
        waiting, seen = [name], set[str]()
        while waiting:
            tensor = waiting.pop()
            for node in self.readers.get(tensor, []):
                others = [other for other in node.input if other != tensor and other not in self.constants]
                if node.op_type in ("MatMul", "Mul", "Einsum", "Gemm") and others:
                    return True
                if node.op_type in _INSIDE_ATTENTION:
                    fresh = [output for output in node.output if output not in seen]
                    seen.update(fresh)
                    waiting += fresh
        return False


def output_facts(proto: ModelProto) -> tuple[OutputFacts, ...]:
    """Of every output of a model, in order."""
    graph = _Graph(proto)
    names = [value.name for value in proto.graph.output]
    dims = {value.name: _dims(value) for value in proto.graph.output}
    found = []
    for name in names:
        makers = graph.made_by(name)
        found.append(OutputFacts(name, makers, dims[name], graph.scores(name), _byproduct(graph, name, names, dims)))
    return tuple(found)


def _byproduct(
    graph: _Graph, name: str, names: Sequence[str], dims: dict[str, tuple[int | str | None, ...] | None]
) -> str:
    """Why it is not the model's answer; empty where it may be."""
    origins = graph.origins(name, _AVERAGES)  # of weights that are laid out or averaged over the heads to be shown
    led = [graph.leads_to(origin, set(names) - {name}) for origin in origins]
    weights = [graph.makers[origin].op_type == "Softmax" and graph.weighs_others(origin) for origin in origins]
    if led and all(led) and all(weights):
        return f"attention weights inside the model, on the way to {sorted(led[0])[0]!r}"
    others = graph.leads_to(name, names)
    shape = dims[name]
    later = sorted(other for other in others if shape and len(shape) >= 3 and dims[other] == shape)
    return f"an earlier stage of {later[0]!r}" if later else ""


def _dims(value: ValueInfoProto) -> tuple[int | str | None, ...] | None:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    axes = value.type.tensor_type.shape.dim
    return tuple(axis.dim_param or (axis.dim_value if axis.dim_value > 0 else None) for axis in axes)


def exposing(proto: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """A copy with these tensors inside the model as outputs, after its own; the proto itself where there are none."""
    if not tensors:
        return proto
    made = ModelProto()
    made.CopyFrom(proto)
    made.graph.output.extend(ValueInfoProto(name=name) for name in tensors)
    return made
