"""Who makes and who reads a tensor: onnx-graphsurgeon's view of the graph beside the ModelProto it came from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


class GraphIndex:
    """Producers, readers and constants of the main graph; bodies of control flow count as readers.

    graphsurgeon resolves names to tensors across bodies and is only asked; whatever is changed is changed on the
    ModelProto, since graphsurgeon's export drops parts of a file (DESIGN.md, Contracts).
    """

    def __init__(self, proto: ModelProto) -> None:
        gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL
        self.graph = proto.graph
        self.nodes = list(proto.graph.node)
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        view = gs.import_onnx(_without_functions(proto))
        self._tensors: dict[str, Any] = view.tensors()
        self._position = {id(node): position for position, node in enumerate(view.nodes)}

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Initializers of the main graph by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @cached_property
    def outputs(self) -> set[str]:
        """Names of the graph's outputs, and of those that bodies hand on without a node of their own."""
        names = {value.name for value in self.graph.output}
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

    def constant(self, name: str) -> TensorProto | None:
        """The tensor behind a name, from an initializer or a Constant node; None where it is computed."""
        if name in self.initializers:
            return self.initializers[name]
        position = self.producer(name)
        if position is None or self.nodes[position].op_type != "Constant" or self.nodes[position].domain:
            return None
        return next((a.t for a in self.nodes[position].attribute if a.name == "value"), None)


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node (If, Loop, Scan), with the attribute's name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for body in attribute.graphs:
            yield attribute.name, body


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of a numeric attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    if found is None:
        return default
    return found.f if found.type == AttributeProto.FLOAT else found.i


def _without_functions(proto: ModelProto) -> ModelProto:
    """A view for reading: the same graph, shared constants and all, without model-local functions."""
    if not proto.functions:
        return proto
    bare = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    bare.graph.CopyFrom(proto.graph)
    return bare
