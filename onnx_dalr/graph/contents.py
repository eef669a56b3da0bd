"""Everything a model stores, each tensor once: what it is called, how many bytes it takes, and who reads it."""

from __future__ import annotations

import itertools
import math
from collections import ChainMap, Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, helper

from onnx_dalr.graph.handle import MAIN, Handle, Scope, bodies
from onnx_dalr.graph.layers import node_name
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.graph.storage.packed import Aside, Packed, Place
from onnx_dalr.graph.storage.weighing import Stored, weigh

_CARRIERS = {
    *("Identity", "Transpose", "Cast", "CastLike", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Slice", "Split"),
    *("Expand", "DequantizeLinear", "QuantizeLinear"),
}
"""Operators that lay out their first input: whoever reads what they make reads the constant."""

_LISTS = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}


@dataclass(frozen=True, eq=False)
class Reader:
    """A node that reads a stored tensor.

    Attributes:
        node: It.
        operand: Which of its inputs; -1 where the tensor is an attribute of the node or leaves a body through it.
        via: Operators that lie between, the one next to the tensor first.
        key: Tells uses apart: one node reached by two calls of a function is two.
    """

    node: NodeProto
    operand: int
    via: tuple[str, ...]
    key: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Content:
    """A tensor that is stored in the model.

    Attributes:
        name: Its name; of one in an attribute, the node's and the attribute's.
        also: Names of further tensors that lie at the same place of a data file.
        where: The body or function it is stored in, empty for the main graph.
        dtype: Element type.
        shape: Its shape.
        bytes: What its values take of the artifact.
        file: The data file they lie in, None where they are in the model file.
        readers: Nodes that read it, in graph order; those that only lay it out where nothing reads what they make.
        output: It is an output of the model or of a function.
        packed: The floats that it stands for, where it is not stored as them.
        aside: The format of the numbers that it scales or unpacks, where it is for nothing else.
    """

    name: str
    also: tuple[str, ...]
    where: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    file: str | None
    readers: tuple[Reader, ...]
    output: bool
    packed: Packed | None = None
    aside: str | None = None

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape in which nodes read it."""
        return self.packed.shape if self.packed else self.shape

    @property
    def uses(self) -> int:
        """Nodes that read it."""
        return len({reader.key for reader in self.readers})

    @property
    def numbers(self) -> int:
        """How many it stands for."""
        return self.packed.numbers if self.packed else math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Contents:
    """Where the bytes of an artifact are: the parts add up to its size.

    Attributes:
        tensors: What is stored, in the order of the file.
        other: Bytes that are no tensor's values: nodes, names, shapes, metadata.
        remarks: The part of `other` in doc strings and metadata, of which runtimes read nothing.
        unclaimed: Bytes of the data files that belong to no tensor.
    """

    tensors: tuple[Content, ...]
    other: int
    remarks: int
    unclaimed: int


def contents(model: Model) -> Contents:
    """Takes stock of a model. Its weights are not read.

    Raises:
        InputError: External data that is not where the model says.
    """
    walk = _Walk(model)
    entries = walk.entries
    own = model.path.stat().st_size if model.path else model.size
    weighed = weigh([entry.parts for entry in entries], model.path, own)
    found: dict[object, Content] = {}
    for at, entry in enumerate(entries):
        spot = weighed.spots[at]
        new = entry.content(weighed.bytes[at], spot[0].name if spot else None)
        key = (spot, new.dtype, new.shape) if spot else at
        found[key] = _joined(found[key], new) if key in found else new
    unclaimed = max(0, model.size - own - weighed.outside)
    other = model.size - sum(weighed.bytes) - unclaimed
    return Contents(tuple(found.values()), other, walk.remarks, unclaimed)


def formats(found: Contents) -> dict[str, int]:
    """Bytes of floats, and of what stands for floats with its scales, by format, the most first."""
    taken: Counter[str] = Counter()
    for tensor in found.tensors:
        format = tensor.packed.format if tensor.packed else tensor.aside or tensor.dtype
        if tensor.packed or tensor.aside or format.startswith(("float", "bfloat")):
            taken[format] += tensor.bytes
    return dict(taken.most_common())


def _joined(one: Content, other: Content) -> Content:
    """Two tensors at one place."""
    return replace(
        one,
        also=(*one.also, other.name),
        bytes=one.bytes + other.bytes,
        readers=one.readers + other.readers,
        output=one.output or other.output,
    )


class _Entry:
    """A stored tensor, or an input of a function, while its readers are being found."""

    def __init__(self, name: str, where: str, dtype: str, shape: Sequence[int], parts: tuple[Stored, ...]) -> None:
        self.name, self.where, self.dtype, self.shape, self.parts = name, where, dtype, tuple(shape), parts
        self.packed: Packed | None = None
        self.aside: Aside | None = None
        self.readers: list[Reader] = []
        self.carriers: list[Reader] = []
        self.output = False

    def content(self, count: int, file: str | None) -> Content:
        readers = tuple(self.readers or self.carriers)
        aside = self.aside.format if self.aside else None
        return Content(
            *(self.name, (), self.where, self.dtype, self.shape, count, file, readers, self.output, self.packed, aside)
        )


_Carried = tuple[tuple[_Entry, tuple[str, ...]], ...]
_Names = ChainMap[str, _Carried]
"""The constants that a name stands for and the operators they came through; empty for what is computed."""


class _Where(NamedTuple):
    """A list of nodes: what it is called, and its scope."""

    said: str
    scope: Scope


_TRAINING = _Where("training", Scope(-1))


class _Walk:
    """One pass through graph, bodies and functions."""

    def __init__(self, model: Model) -> None:
        proto = model.proto
        self._numbers = model.numbers
        self.entries: list[_Entry] = []
        self.remarks = _remarks(proto)
        self._count = itertools.count()
        self._functions = {(function.domain, function.name): function for function in proto.functions}
        self._inputs: dict[tuple[str, str], tuple[_Entry, ...]] = {}
        names: _Names = ChainMap()
        self._graph(proto.graph, names, _Where("", MAIN), None)
        for key in self._functions:
            self._function(key)
        for info in proto.training_info:
            for graph in (info.initialization, info.algorithm):
                self._graph(graph, names.new_child(), _TRAINING, None)

    def _graph(self, graph: GraphProto, names: _Names, where: _Where, owner: NodeProto | None) -> None:
        self.remarks += _remarks(graph) + sum(map(_remarks, (*graph.value_info, *graph.initializer)))
        for tensor in graph.initializer:
            self._store(names, tensor.name, where, tensor)
        for sparse in graph.sparse_initializer:
            self._store(names, sparse.values.name, where, sparse)
        self._nodes(graph.node, names, where)
        for value in graph.output:
            for entry, via in names.get(value.name, ()):
                if owner is None:
                    entry.output = True
                else:
                    entry.readers.append(Reader(owner, -1, via, self._key()))

    def _function(self, key: tuple[str, str]) -> tuple[_Entry, ...]:
        """The inputs of a function with those who read them inside; it is walked when it is first met."""
        if key not in self._inputs:
            function = self._functions[key]
            self.remarks += _remarks(function)
            self._inputs[key] = ()  # one that calls itself is damaged, which is no reason to run in circles
            inputs = tuple(_Entry(name, "", "", (), ()) for name in function.input)
            names: _Names = ChainMap({entry.name: ((entry, ()),) for entry in inputs})
            scope = Scope(list(self._functions).index(key))
            self._nodes(function.node, names, _Where(f"function {function.name!r}", scope))
            for name in function.output:
                for entry, _ in names.get(name, ()):
                    entry.output = True
            self._inputs[key] = inputs
        return self._inputs[key]

    def _nodes(self, nodes: Iterable[NodeProto], names: _Names, where: _Where) -> None:
        for position, node in enumerate(nodes):
            self.remarks += _remarks(node)
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                for attribute in node.attribute:
                    self._constant(node, attribute, names, where)
                continue
            self._attributes(node, where)
            handle = Handle(where.scope, position)
            carried = _carried(node, names, self._numbers.steps.get(handle))
            self._read(node, names, carried)
            self._bodies(node, names, where.said, handle)
            names.update({output: carried for output in node.output if output})

    def _constant(self, node: NodeProto, attribute: AttributeProto, names: _Names, where: _Where) -> None:
        """The value of a Constant node, by the name of its output."""
        name = node.output[0] if node.output else node_name(node)
        if attribute.HasField("t"):
            self._store(names, name, where, attribute.t)
        elif attribute.HasField("sparse_tensor"):
            self._store(names, name, where, attribute.sparse_tensor)
        else:
            count = len(attribute.floats) + len(attribute.ints) + len(attribute.strings)
            shape = (count,) if attribute.name.endswith("s") else ()
            self._enter(names, name, where, _LISTS.get(attribute.name, "string"), shape, (attribute,))

    def _attributes(self, node: NodeProto, where: _Where) -> None:
        """Tensors that a node holds itself."""
        for attribute in node.attribute:
            single = [attribute.t] if attribute.HasField("t") else []
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for stored in (*single, *attribute.tensors, *sparse, *attribute.sparse_tensors):
                entry = self._store(ChainMap(), f"{node_name(node)}.{attribute.name}", where, stored)
                entry.readers.append(Reader(node, -1, (), self._key()))

    def _store(self, names: _Names, name: str, where: _Where, stored: TensorProto | SparseTensorProto) -> _Entry:
        parts = (stored.values, stored.indices) if isinstance(stored, SparseTensorProto) else (stored,)
        return self._enter(names, name, where, _type_name(parts[0].data_type), stored.dims, parts)

    def _enter(
        self, names: _Names, name: str, where: _Where, dtype: str, shape: Sequence[int], parts: tuple[Stored, ...]
    ) -> _Entry:
        entry, place = _Entry(name, where.said, dtype, shape, parts), Place(where.scope, name)
        entry.packed, entry.aside = self._numbers.packed.get(place), self._numbers.aside.get(place)
        self.entries.append(entry)
        names[name] = ((entry, ()),)
        return entry

    def _read(self, node: NodeProto, names: _Names, carried: _Carried) -> None:
        key, function = self._key(), (node.domain, node.op_type)
        inputs = self._function(function) if function in self._functions else ()
        laid_out = {id(entry) for entry, _ in carried}
        for operand, name in enumerate(node.input):
            for entry, via in names.get(name, ()):
                reader = Reader(node, operand, via, key)
                inside = inputs[operand].readers if operand < len(inputs) else []
                if inside:
                    entry.readers += [replace(one, via=via + one.via, key=key + one.key) for one in inside]
                elif id(entry) in laid_out or _enters_body(node, operand):
                    entry.carriers.append(reader)
                else:
                    entry.readers.append(reader)

    def _bodies(self, node: NodeProto, names: _Names, where: str, handle: Handle) -> None:
        seen: Counter[str] = Counter()
        for branch, body in bodies(node):
            inner = names.new_child({value.name: () for value in body.input})
            for operand, name in enumerate(node.input):
                if _enters_body(node, operand) and operand < len(body.input):
                    inner[body.input[operand].name] = names.get(name, ())
            here = f"{branch} of {node.op_type} {node_name(node)!r}"
            scope = handle.scope.body(handle.position, branch, seen[branch])
            seen[branch] += 1
            self._graph(body, inner, _Where(f"{here} in {where}" if where else here, scope), node)

    def _key(self) -> tuple[int]:
        return (next(self._count),)


def _carried(node: NodeProto, names: _Names, numbers: tuple[int, ...] | None) -> _Carried:
    """The constants that a node only lays out, or makes floats of: `numbers` are then its inputs that hold them."""
    sources: _Carried = ()
    if numbers is not None:
        sources = tuple(itertools.chain(*(names.get(node.input[at], ()) for at in numbers)))
    elif node.domain not in ("", "ai.onnx", "com.microsoft"):  # which has quantization of its own
        return sources
    elif node.op_type == "Concat":
        parts = [names.get(name, ()) for name in node.input]
        sources = tuple(itertools.chain(*parts)) if all(parts) else ()
    elif node.op_type in _CARRIERS and node.input:
        sources = names.get(node.input[0], ())
    return tuple((entry, (*via, node.op_type)) for entry, via in sources)


def _enters_body(node: NodeProto, operand: int) -> bool:
    """Whether an operand is handed to the input of a body at its place, to be read there."""
    first = {"Loop": 2, "Scan": 0}.get(node.op_type)  # a Loop's count and condition are its own
    return first is not None and operand >= first and any(operand < len(body.input) for _, body in bodies(node))


def _remarks(proto: Any) -> int:
    """Bytes in the doc string and metadata of a model, a graph, a node, a tensor."""
    said = proto.doc_string  # bytes, where they are not UTF-8
    return len(said if isinstance(said, bytes) else said.encode()) + sum(
        int(entry.ByteSize()) for entry in proto.metadata_props
    )


def _type_name(data_type: int) -> str:
    if data_type == TensorProto.STRING:
        return "string"
    return str(helper.tensor_dtype_to_np_dtype(data_type).name) if data_type else "undefined"
