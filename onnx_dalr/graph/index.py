"""Who makes and who reads a tensor, in every scope of a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, helper

from onnx_dalr.errors import InputError
from onnx_dalr.graph.handle import MAIN, Handle, Scope, bodies

STANDARD = ("", "ai.onnx")
"""Names of the domain of the standard operators."""

_CARRIERS = {"Identity", "Transpose", "Cast"}


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant and how it comes to be the operand of a node.

    Attributes:
        name: The stored tensor.
        home: The scope it is stored in.
        tensor: Its values.
        transposed: A Transpose lies between.
        cast_to: Element type of a Cast that lies between, 0 for none.
        path: Tensors between the node and the constant, the node's operand first; empty where it reads the constant.
    """

    name: str
    home: Scope
    tensor: TensorProto
    transposed: bool = False
    cast_to: int = 0
    path: tuple[str, ...] = ()


class GraphIndex:
    """Producers, readers and constants as they are seen from one scope; names of the scopes around are visible in it.

    Attributes:
        scope: Which.
        outer: The scope around it, None for a graph or function itself.
        nodes: Its nodes.
        opset: Version of the standard operators.
        bodies: The scopes inside it, by the position of the node that has them.
        outputs: Names that somebody else than its nodes asks for: outputs, bodies that hand a tensor on, training.
    """

    def __init__(
        self, graph: GraphProto | FunctionProto, scope: Scope, opset: int, outer: GraphIndex | None = None
    ) -> None:
        self.scope, self.outer, self.opset = scope, outer, opset
        self.nodes = list(graph.node)
        self.bodies: dict[int, list[GraphIndex]] = {}
        self.outputs: set[str] = set()
        self._graph = graph
        self._readers: dict[str, list[Handle]] = defaultdict(list)
        self._makers: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for name in filter(None, node.output):
                self._makers.setdefault(name, position)
        self._own = {*self._makers, *self.copies, *self._sparse, *map(_name, graph.input)}
        for name in map(_name, graph.output):
            self.outputs.add(name)
            self._maker(name).outputs.add(name)
        for position, node in enumerate(self.nodes):
            self._look_into(position, node)

    def _look_into(self, position: int, node: NodeProto) -> None:
        handle, seen = Handle(self.scope, position), Counter[str]()
        for attribute, body in bodies(node):
            inner = GraphIndex(body, self.scope.body(position, attribute, seen[attribute]), self.opset, self)
            self.bodies.setdefault(position, []).append(inner)
            seen[attribute] += 1
        for name in dict.fromkeys(filter(None, node.input)):
            self._maker(name)._readers[name].append(handle)

    def _maker(self, name: str) -> GraphIndex:
        """The scope a name is of, the outermost where nobody knows it."""
        return self if self.outer is None or name in self._own else self.outer._maker(name)

    def walk(self) -> Iterator[GraphIndex]:
        """Itself and all scopes inside."""
        yield self
        for held in self.bodies.values():
            for inner in held:
                yield from inner.walk()

    @cached_property
    def copies(self) -> Counter[str]:
        """How many initializers of this scope have a name: one, in a valid model."""
        return Counter(tensor.name for tensor in self._initializers)

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Initializers of this scope by name, without names that several have: runtimes differ on which counts."""
        return {tensor.name: tensor for tensor in self._initializers if self.copies[tensor.name] == 1}

    @property
    def _initializers(self) -> Iterable[TensorProto]:
        return () if isinstance(self._graph, FunctionProto) else self._graph.initializer

    @cached_property
    def _sparse(self) -> set[str]:
        sparse = () if isinstance(self._graph, FunctionProto) else self._graph.sparse_initializer
        return {tensor.values.name for tensor in sparse}

    def is_sparse(self, name: str) -> bool:
        """Whether a tensor is stored sparse."""
        return name in self._maker(name)._sparse

    def count(self, name: str) -> int:
        """How many initializers have a name, in the scope it is of."""
        return self._maker(name).copies[name]

    def home(self, name: str) -> Scope:
        """The scope that a name is of."""
        return self._maker(name).scope

    def is_output(self, name: str) -> bool:
        """Whether somebody else than nodes asks for a tensor."""
        return name in self._maker(name).outputs

    def producer(self, name: str) -> Handle | None:
        """The node that makes the tensor, None for inputs and initializers."""
        maker = self._maker(name)
        return Handle(maker.scope, maker._makers[name]) if name in maker._makers else None

    def made_by(self, name: str) -> NodeProto | None:
        """The node that makes the tensor itself."""
        maker = self._maker(name)
        return maker.nodes[maker._makers[name]] if name in maker._makers else None

    def readers(self, name: str) -> list[Handle]:
        """The nodes that read the tensor, each once, those inside a body before the node that has it."""
        return self._maker(name)._readers.get(name, [])

    def stored(self, name: str) -> Stored | None:
        """The constant that a tensor is, or becomes through Identity, Transpose of a matrix and Cast; else None."""
        carriers: dict[str, NodeProto] = {}
        while (tensor := self.constant(name)) is None:
            node = self.made_by(name)
            if node is None or name in carriers:  # computed, or a cycle
                return None
            if node.op_type not in _CARRIERS or node.domain not in STANDARD or not node.input:
                return None
            carriers[name] = node
            name = node.input[0]
        found: Stored | None = Stored(name, self.home(name), tensor, path=tuple(carriers))
        for node in reversed(carriers.values()):
            found = _carried(found, node) if found is not None else None
        return found

    def constant(self, name: str) -> TensorProto | None:
        """The tensor behind a name, from an initializer or a Constant node; None where it is computed."""
        maker = self._maker(name)
        if name in maker.initializers:
            return maker.initializers[name]
        node = self.made_by(name)
        if node is None or node.op_type != "Constant" or node.domain not in STANDARD:
            return None
        return next((a.t for a in node.attribute if a.name == "value"), None)

    def holds(self, name: str) -> bool:
        """Whether this scope itself stores a tensor of the name."""
        return name in self.copies or (name in self._makers and self.constant(name) is not None)


def index_of(proto: ModelProto) -> dict[Scope, GraphIndex]:
    """Every scope of a model: the graph with its bodies, node by node, then each function with its own."""
    main = GraphIndex(proto.graph, MAIN, _opset(proto.opset_import))
    main.outputs |= _named_by_training(proto)
    functions = [
        GraphIndex(function, Scope(number), _opset(function.opset_import))
        for number, function in enumerate(proto.functions)
    ]
    return {index.scope: index for root in (main, *functions) for index in root.walk()}


def _opset(imports: Iterable[OperatorSetIdProto]) -> int:
    return next((entry.version for entry in imports if entry.domain in STANDARD), 1)


def _name(value: Any) -> str:
    """Of an input or output: functions list names, graphs more than that."""
    return value if isinstance(value, str) else str(value.name)


def _carried(stored: Stored, node: NodeProto) -> Stored | None:
    """What a constant is behind one more Identity, Transpose or Cast; None where it is left alone."""
    if node.op_type == "Transpose":
        matrix = len(stored.tensor.dims) == 2 and list(attribute(node, "perm", [1, 0])) == [1, 0]
        return replace(stored, transposed=not stored.transposed) if matrix else None
    if node.op_type == "Cast":
        # Two casts in a row may round on the way: left alone.
        return None if stored.cast_to else replace(stored, cast_to=attribute(node, "to", 0))
    return stored


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
