"""An order in which the nodes of a model can be computed."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from onnx import ModelProto, NodeProto

from onnx_dalr.graph.probe import names_read


def in_order(proto: ModelProto) -> list[NodeProto]:
    """The nodes in an order of computation, which a file need not keep."""
    nodes = list(proto.graph.node)
    makers = {name: position for position, node in enumerate(nodes) for name in node.output if name}
    before = {
        position: [makers[name] for name in names_read(node) if name in makers] for position, node in enumerate(nodes)
    }
    try:
        return [nodes[position] for position in TopologicalSorter(before).static_order()]
    except CycleError:  # a body's own name that is another's outside
        return nodes
