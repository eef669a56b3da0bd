"""Who makes and who reads a tensor: onnx-graphsurgeon's view of the graph beside the ModelProto it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from onnx_dalr.errors import InputError

_CARRIERS = {"Identity", "Transpose", "Cast"}


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant and how it comes to be the operand of a node.

    Attributes:
        name: The stored tensor.
        tensor: Its values.
        transposed: A Transpose lies between.
        cast_to: Element type of a Cast that lies between, 0 for none.
        path: Tensors between the node and the constant, the node's operand first; empty where it reads the constant.
    """

    name: str
    tensor: TensorProto
    transposed: bool = False
    cast_to: int = 0
    path: tuple[str, ...] = ()


class GraphIndex:
    """Producers, readers and constants of the main graph; bodies of control flow count as readers.

    graphsurgeon resolves names to tensors across bodies and is only asked; whatever is changed is changed on the
    ModelProto, since graphsurgeon's export drops parts of a file (DESIGN.md, Contracts).
    """

    def __init__(self, proto: ModelProto) -> None:
        gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL + 1  # it raises what it would print
        self._proto, self.graph = proto, proto.graph
        self.nodes = list(proto.graph.node)
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        view = gs.import_onnx(_without_functions(proto))
        self._tensors: dict[str, Any] = view.tensors()
        self._position = {id(node): position for position, node in enumerate(view.nodes)}

    @cached_property
    def copies(self) -> Counter[str]:
        """How many initializers have a name: one, in a valid model."""
        return Counter(tensor.name for tensor in self.graph.initializer)

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Initializers of the main graph by name, without names that several have: runtimes differ on which counts."""
        return {tensor.name: tensor for tensor in self.graph.initializer if self.copies[tensor.name] == 1}

    @cached_property
    def outputs(self) -> set[str]:
        """Names that somebody outside the graph's nodes asks for: outputs, bodies that hand a tensor on, training."""
        names = {value.name for value in self.graph.output} | _named_by_training(self._proto)
        for node in self.nodes:
            for _, body in bodies(node):
                names |= {value.name for value in body.output}
        return names

    def producer(self, name: str) -> int | None:
        """Position of the node that makes the tensor, None for inputs and initializers."""
        tensor = self._tensors.get(name)
        return self._position.get(id(tensor.inputs[0])) if tensor is not None and tensor.inputs else None

    def readers(self, name: str) -> list[int | None]:
        """Positions of the nodes that read the tensor, each once; None for a node inside a body."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return []
        return list(dict.fromkeys(self._position.get(id(node)) for node in tensor.outputs))

    def stored(self, name: str) -> Stored | None:
        """The constant that a tensor is, or becomes through Identity, Transpose of a matrix and Cast; else None."""
        carriers: dict[str, NodeProto] = {}
        while (tensor := self.constant(name)) is None:
            position = self.producer(name)
            if position is None or name in carriers:  # computed, or a cycle
                return None
            node = self.nodes[position]
            if node.op_type not in _CARRIERS or node.domain not in ("", "ai.onnx") or not node.input:
                return None
            carriers[name] = node
            name = node.input[0]
        found: Stored | None = Stored(name, tensor, path=tuple(carriers))
        for node in reversed(carriers.values()):
            found = _carried(found, node) if found is not None else None
        return found

    def constant(self, name: str) -> TensorProto | None:
        """The tensor behind a name, from an initializer or a Constant node; None where it is computed."""
        if name in self.initializers:
            return self.initializers[name]
        position = self.producer(name)
        if position is None:
            return None
        node = self.nodes[position]
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            return None
        return next((a.t for a in node.attribute if a.name == "value"), None)


def _carried(stored: Stored, node: NodeProto) -> Stored | None:
    """What a constant is behind one more Identity, Transpose or Cast; None where it is left alone."""
    if node.op_type == "Transpose":
        matrix = len(stored.tensor.dims) == 2 and list(attribute(node, "perm", [1, 0])) == [1, 0]
        return replace(stored, transposed=not stored.transposed) if matrix else None
    if node.op_type == "Cast":
        # Two casts in a row may round on the way: left alone.
        return None if stored.cast_to else replace(stored, cast_to=attribute(node, "to", 0))
    return stored


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node (If, Loop, Scan), with the attribute's name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for body in attribute.graphs:
            yield attribute.name, body


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or the default.

    Raises:
        InputError: It has none of its own.
    """
    found = next((entry for entry in node.attribute if entry.name == name), None)
    if found is not None and found.ref_attr_name:
        raise InputError(
            f"{name} of {node.op_type} {node.name!r} refers to an attribute of a function outside of one",
            "the file is damaged: export or download it again",
        )
    return default if found is None else helper.get_attribute_value(found)


def _named_by_training(proto: ModelProto) -> set[str]:
    names = set()
    for info in proto.training_info:
        names |= {binding.key for binding in (*info.initialization_binding, *info.update_binding)}
        names |= {name for graph in (info.algorithm, info.initialization) for node in graph.node for name in node.input}
    return names


def _without_functions(proto: ModelProto) -> ModelProto:
    """A view for reading: the same graph, shared constants and all, without model-local functions."""
    if not proto.functions:
        return proto
    bare = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    bare.graph.CopyFrom(proto.graph)
    return bare
