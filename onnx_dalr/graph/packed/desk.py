"""The graph of a model that is ours to change: who makes and reads what, and how a stored constant becomes floats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.graph.index import STANDARD
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import names_read


@dataclass(frozen=True, eq=False)
class Chain:
    """What a format's steps have become.

    Attributes:
        stored: The constant that they begin with.
        nodes: One after the other, each with what the one before it made as its first operand.
        operands: Constants, the second operands: None for a node without one.
    """

    stored: TensorProto
    nodes: tuple[NodeProto, ...]
    operands: tuple[TensorProto | None, ...]

    @property
    def ops(self) -> tuple[str, ...]:
        """Operators of the nodes."""
        return tuple(node.op_type for node in self.nodes)

    @property
    def constants(self) -> Iterable[TensorProto]:
        """All of them."""
        return (self.stored, *(tensor for tensor in self.operands if tensor is not None))


class Desk:
    """A model's main graph, to be changed.

    Attributes:
        proto: The model.
        names: Those that are taken.
        opset: Version of the standard operators.
    """

    def __init__(self, proto: ModelProto) -> None:
        self.proto, self.names = proto, Names(proto)
        self.opset = next((entry.version for entry in proto.opset_import if entry.domain in STANDARD), 1)
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._makers = {output: node for node in proto.graph.node for output in node.output if output}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in proto.graph.node:
            for name in set(names_read(node)):
                self._readers[name].append(node)
        self._asked = {value.name for value in proto.graph.output}
        self._before: dict[str, list[NodeProto]] = {}  # by the first output of the node that they stand before
        self._after: dict[str, list[NodeProto]] = {}
        self._gone: set[str] = set()

    def readers(self, name: str) -> list[NodeProto] | None:
        """The nodes that read a tensor, those with it inside a body among them; None where the caller reads it too."""
        return None if name in self._asked else self._readers[name]

    def maker(self, name: str) -> NodeProto | None:
        """The node that makes a tensor."""
        return self._makers.get(name)

    def initializer(self, name: str) -> TensorProto | None:
        """The constant of a name that nobody may give another value."""
        listed = self.proto.ir_version >= 4 and any(value.name == name for value in self.proto.graph.input)
        return None if listed else self._constants.get(name)

    def chain(self, name: str) -> Chain | None:
        """How a tensor is made of one constant by nodes that nobody else reads; None where it is not, or is one."""
        nodes: list[NodeProto] = []
        while (maker := self._makers.get(name)) is not None:
            more = [self._constants.get(operand) for operand in maker.input[1:]]
            if None in more or len(more) > 1 or len(maker.output) != 1 or maker.domain not in STANDARD:
                return None
            if nodes and self.readers(name) != [nodes[-1]]:
                return None
            nodes.append(maker)
            name = maker.input[0]
        if name not in self._constants or not nodes or self.readers(name) != [nodes[-1]]:
            return None
        nodes.reverse()
        operands = tuple(self._constants[node.input[1]] if len(node.input) > 1 else None for node in nodes)
        return Chain(self._constants[name], tuple(nodes), operands)

    def constant(self, base: str, values: NDArray[Any]) -> str:
        """A new constant; its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), self.names.new(base))
        self._constants[tensor.name] = self.proto.graph.initializer.add()
        self._constants[tensor.name].CopyFrom(tensor)
        if self.proto.ir_version < 4:  # every initializer has to be listed among the inputs
            self.proto.graph.input.append(_as_input(tensor))
        return tensor.name

    def restore(self, tensor: TensorProto, new: TensorProto) -> None:
        """Gives a constant another shape or other values; its name stays."""
        name = tensor.name
        tensor.CopyFrom(new)
        tensor.name = name
        for value in self.proto.graph.input:
            if value.name == name:
                value.CopyFrom(_as_input(tensor))

    def replace(self, chain: Chain, nodes: Iterable[NodeProto]) -> None:
        """Puts others in the place of the nodes of a chain, in front of the last of them."""
        self._gone |= {node.output[0] for node in chain.nodes}
        self._before[chain.nodes[-1].output[0]] = list(nodes)

    def follow(self, node: NodeProto, nodes: Iterable[NodeProto]) -> None:
        """Puts others after a node, which is one of those that stay."""
        self._after[node.output[0]] = list(nodes)

    def finish(self) -> None:
        """Makes the changes to the list of nodes, and takes out the constants that chains no longer read."""
        graph = self.proto.graph
        made: list[NodeProto] = []
        left: set[str] = set()
        for node in graph.node:
            first = node.output[0] if node.output else ""
            made += self._before.get(first, ())
            if first in self._gone:
                left |= set(node.input)
            else:
                made.append(node)
            made += self._after.get(first, ())
        unread = left & self._constants.keys() - {name for node in made for name in names_read(node)}
        fresh = [NodeProto() for _ in made]
        for copy, node in zip(fresh, made, strict=True):
            copy.CopyFrom(node)
        made_now = {name for node in made for name in node.output}
        vanished = (self._gone - made_now) | unread
        del graph.node[:]
        graph.node.extend(fresh)
        for entries in (graph.initializer, graph.input, graph.value_info):
            for position in reversed(range(len(entries))):
                if entries[position].name in vanished:
                    del entries[position]


def _as_input(tensor: TensorProto) -> ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
