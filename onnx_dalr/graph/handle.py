"""Where a node is: in the main graph, in a body of If, Loop or Scan however deep, or in a model-local function."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto


class Into(NamedTuple):
    """One step from a list of nodes into a body.

    Attributes:
        node: Position of the node that has the body.
        attribute: Name of the attribute that holds it.
        number: Which of them, in an attribute that holds several.
    """

    node: int
    attribute: str
    number: int = 0


@dataclass(frozen=True)
class Scope:
    """A list of nodes, and the names that live in it.

    Attributes:
        function: Number of the model-local function it is in; None for the model's graph.
        path: From there, body by body; empty for the graph or the function itself.
    """

    function: int | None = None
    path: tuple[Into, ...] = ()

    def body(self, *into: int | str) -> Scope:
        """A body in it; takes what an `Into` is made of."""
        return replace(self, path=(*self.path, Into(*into)))  # type: ignore[arg-type]

    def around(self) -> Iterator[Scope]:
        """The scopes whose names are visible here: itself, then outward."""
        for length in range(len(self.path), -1, -1):
            yield replace(self, path=self.path[:length])

    def of(self, proto: ModelProto) -> GraphProto | FunctionProto:
        """What it is in a model.

        Raises:
            LookupError: The model has no such place.
        """
        found: GraphProto | FunctionProto = proto.graph if self.function is None else proto.functions[self.function]
        for into in self.path:
            held = [body for attribute, body in bodies(found.node[into.node]) if attribute == into.attribute]
            found = held[into.number]
        return found


MAIN = Scope()
"""The model's graph."""


@dataclass(frozen=True)
class Handle:
    """A node.

    Attributes:
        scope: The list it is in.
        position: Its place there.
    """

    scope: Scope
    position: int

    def nodes(self, proto: ModelProto) -> MutableSequence[NodeProto]:
        """The list it is in, of a model: what is changed there is changed in the model."""
        return cast("MutableSequence[NodeProto]", self.scope.of(proto).node)

    def node(self, proto: ModelProto) -> NodeProto:
        """The node in a model."""
        return self.nodes(proto)[self.position]

    def within(self, scope: Scope) -> int:
        """Position, in a scope around it, of the node itself or of the one that has it inside."""
        inner = self.scope.path[len(scope.path) :]
        return inner[0].node if inner else self.position


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node (If, Loop, Scan), with the attribute's name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for body in attribute.graphs:
            yield attribute.name, body
