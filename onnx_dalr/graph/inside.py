"""The tensors inside a model: what its main graph computes from what is fed, in an order of computation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from onnx import ModelProto, NodeProto

from onnx_dalr.graph.layers import node_name
from onnx_dalr.graph.probe import names_read


@dataclass(frozen=True)
class Computed:
    """A tensor that a node computes.

    Attributes:
        name: Its name.
        node: What the node is called.
        op: Its operator.
        read: Names of all that the node reads.
    """

    name: str
    node: str
    op: str
    read: frozenset[str]


def computed(proto: ModelProto) -> tuple[Computed, ...]:
    """What the main graph computes from what is fed; what is in the bodies of its nodes is left out."""
    fed = depends_on_feed(proto)
    return tuple(
        Computed(name, node_name(node), node.op_type, frozenset(names_read(node)))
        for node in _ordered(list(proto.graph.node))
        for name in node.output
        if name in fed
    )


def as_rounded(proto: ModelProto) -> dict[str, str]:
    """Tensors of the main graph that nothing reads but QuantizeLinear, with what DequantizeLinear makes of each.

    What a quantizer has taken out before them, a Relu say, lives on in that rounding: only what comes out of it is the
    tensor that the name promises.
    """
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in names_read(node):
            readers[name].append(node)
    outputs = {value.name for value in proto.graph.output}
    found: dict[str, str] = {}
    for name, nodes in readers.items():
        if name in outputs or any(node.op_type != "QuantizeLinear" or node.input[0] != name for node in nodes):
            continue
        back = next((node for node in readers.get(nodes[0].output[0], ()) if node.op_type == "DequantizeLinear"), None)
        if back is not None:
            found[name] = back.output[0]
    return found


def _ordered(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes as the file has them, but each behind those that make what it reads."""
    makers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    behind = [{makers[name] for name in names_read(node) if name in makers} - {at} for at, node in enumerate(nodes)]
    readers: dict[int, list[int]] = defaultdict(list)
    for at, before in enumerate(behind):
        for maker in before:
            readers[maker].append(at)
    waits = [len(before) for before in behind]
    ready = [at for at, count in enumerate(waits) if not count]
    heapify(ready)
    found: list[int] = []
    while ready:
        found.append(heappop(ready))
        for reader in readers[found[-1]]:
            waits[reader] -= 1
            if not waits[reader]:
                heappush(ready, reader)
    # A body's own name may be another's outside, which looks like a circle.
    return [nodes[at] for at in found] if len(found) == len(nodes) else nodes


def depends_on_feed(proto: ModelProto) -> set[str]:
    """Names of the main graph that are fed, drawn at random, or computed from such."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    stored = {tensor.name for tensor in proto.graph.initializer}
    waiting = [value.name for value in proto.graph.input if value.name not in stored]
    for node in proto.graph.node:
        read = names_read(node)
        for name in read:
            readers[name].append(node)
        if not read and node.op_type != "Constant":
            waiting += node.output
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            waiting += [made for node in readers[name] for made in node.output]
    return found
