"""Names that are taken anywhere in a model, and new ones beside them."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto

from onnx_dalr.graph.handle import bodies


class Names:
    """Names taken anywhere in a model, its bodies and functions included.

    Attributes:
        taken: Names of its tensors and nodes, and those handed out.
    """

    def __init__(self, proto: ModelProto) -> None:
        self.taken: set[str] = set()
        self._collect(proto.graph)
        for function in proto.functions:
            self.taken |= {*function.input, *function.output}
            self._collect_nodes(function.node)

    def _collect(self, graph: GraphProto) -> None:
        for values in (graph.input, graph.output, graph.value_info, graph.initializer):
            self.taken |= {value.name for value in values}
        self._collect_nodes(graph.node)

    def _collect_nodes(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            self.taken |= {node.name, *node.input, *node.output}
            for _, body in bodies(node):
                self._collect(body)

    def new(self, base: str) -> str:
        """A name nobody has, `base` itself where it is free."""
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}_{count}", count + 1
        self.taken.add(name)
        return name
