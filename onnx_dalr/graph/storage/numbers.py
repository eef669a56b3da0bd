"""The numbers a model computes with, whatever their format: which constants hold them, and what only unpacks these."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnx_dalr.graph.handle import MAIN, Handle, Scope, bodies
from onnx_dalr.graph.storage import operators as of
from onnx_dalr.graph.storage.packed import Aside, Numbers, Packed, Place, Root, Value, is_aside, serves

_STANDARD = ("", "ai.onnx")
_INLINED = 100_000
"""Nodes of functions that are gone through for their calls, at most."""
_DEEPEST = 32
"""Functions that call each other, at most."""


def find(proto: ModelProto) -> Numbers:
    """Goes through a model once. Values of tensors are not read, but shapes that it computes with."""
    walk = _Walk(proto)
    walk.all(proto)
    return walk.found()


_Names = ChainMap[str, Value | None]
"""What is constant by name; None for what is computed."""


class _Walk:
    """One pass through graph, bodies and functions."""

    def __init__(self, proto: ModelProto) -> None:
        self._functions = {(entry.domain, entry.name): at for at, entry in enumerate(proto.functions)}
        self._proto = proto
        self._values: list[Value] = []
        self._calls: list[int] = []
        self._inlined = 0
        self._returned: list[tuple[Place, Value]] = []
        self._scales: dict[str, Root] = {}
        """By the names that a DynamicQuantizeLinear gives to what it makes: what these are multiplied by."""

    def all(self, proto: ModelProto) -> None:
        """The graph, then every function by itself."""
        self._graph(proto.graph, ChainMap(), MAIN)
        for at, function in enumerate(proto.functions):
            names: _Names = ChainMap()
            self._nodes(function.node, names, Scope(at))
            for output in function.output:
                self._read(names.get(output), None)

    def _graph(self, graph: GraphProto, names: _Names, scope: Scope) -> None:
        for tensor in graph.initializer:
            names[tensor.name] = self._store(tensor, Place(scope, tensor.name))
        self._nodes(graph.node, names, scope)
        for output in graph.output:
            self._read(names.get(output.name), None)

    def _store(self, tensor: TensorProto, place: Place) -> Value:
        kind, dims = tensor.data_type, tuple(tensor.dims)
        packs = kind in of.BITS or (kind in of.FLOATING and kind not in of.PLAIN)
        value = Value(place, dims, of.size_of(dims), tensor=tensor, floats=kind in of.PLAIN)
        if packs:
            value.root = Root(tensor, place.name)
            value.bits = value.root.bits
        self._values.append(value)
        return value

    def _nodes(self, nodes: Iterable[NodeProto], names: _Names, scope: Scope) -> None:
        for position, node in enumerate(nodes):
            if node.op_type == "Constant" and node.domain in _STANDARD:
                self._constant(node, names, scope)
                continue
            inputs = [names.get(name) if name else None for name in node.input]
            handle = Handle(scope, position)
            made = self._outputs(node, inputs, handle) if any(inputs) else None
            if made is None and node.attribute:
                self._bodies(node, names, handle)
            for at, name in enumerate(node.output):
                value = made[at] if made is not None and at < len(made) else None
                if value is not None and value.place != (scope, name):
                    self._returned.append((Place(scope, name), value))
                if value is not None or name in names:
                    names[name] = None if value is None or value.done else value
            if node.op_type == "DynamicQuantizeLinear" and len(node.output) > 1:
                root = Root(TensorProto(), node.output[1])
                self._scales |= dict.fromkeys(node.output[:2], root)

    def _constant(self, node: NodeProto, names: _Names, scope: Scope) -> None:
        tensor = next((entry.t for entry in node.attribute if entry.HasField("t")), None)
        for name in node.output[:1]:
            names[name] = None if tensor is None else self._store(tensor, Place(scope, name))

    def _bodies(self, node: NodeProto, names: _Names, handle: Handle) -> None:
        seen: dict[str, int] = {}
        for attribute, body in bodies(node):
            inner = names.new_child({value.name: None for value in body.input})
            number = seen.get(attribute, 0)
            seen[attribute] = number + 1
            self._graph(body, inner, handle.scope.body(handle.position, attribute, number))

    def _outputs(
        self, node: NodeProto, inputs: Sequence[Value | None], handle: Handle
    ) -> Sequence[Value | None] | None:
        """What a node makes of constants alone; None where it computes, which is noted with what it reads."""
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._call(inputs, function)
        if node.op_type in of.QUANTIZED:
            self._quantized(node, inputs)
            return None
        made = None
        if node.domain in _STANDARD or node.op_type == "DequantizeLinear":
            made = self._step(node, inputs, handle)
        if made is not None:
            return made
        multiplies = node.op_type in of.MULTIPLYING or node.domain not in _STANDARD
        scale = next((self._scales[name] for name in node.input if name in self._scales), None)
        for value in filter(None, inputs):
            if multiplies and value.floats and not value.picked:
                value.use()
            self._read(value, scale if node.op_type == "Mul" and value.root is None else None)
        return None

    def _call(self, inputs: Sequence[Value | None], number: int) -> Sequence[Value | None] | None:
        """Goes through a function for one call of it, where the call hands it numbers that may be packed."""
        function = self._proto.functions[number]
        self._inlined += len(function.node)
        packs = any(value is not None and value.root is not None for value in inputs)
        closed = number in self._calls or len(self._calls) >= _DEEPEST or self._inlined > _INLINED
        if not packs or closed:
            for value in inputs:
                self._read(value, None)
            return None
        self._calls.append(number)
        inner: _Names = ChainMap(dict(zip(function.input, inputs, strict=False)))
        self._nodes(function.node, inner, Scope(number))
        self._calls.pop()
        return [inner.get(name) for name in function.output]

    def _quantized(self, node: NodeProto, inputs: Sequence[Value | None]) -> None:
        """An operator that computes with whole numbers."""
        weights, aside = of.QUANTIZED[node.op_type]
        served: Root | None = None
        for at in weights:
            value = inputs[at] if at < len(inputs) else None
            if value is None or value.root is None or value.floats:
                continue
            exact = value.tensor is not None
            count, bits = of.stands_for(node, value.root.dims, value.bits) if exact else (value.count, value.bits)
            value.root.use(count, bits, value.shape)
            served = served or value.root
            if node.op_type in of.INTEGER_PRODUCTS and node.input[0] in self._scales:
                scale = self._scales[node.input[0]]
                scale.numbers, scale.format = max(count, scale.numbers), value.root.format
        for at, value in enumerate(inputs):
            if at not in weights or (value is not None and value.root is None):
                self._read(value, served if at in aside else None)
                if served is not None and value is not None and at in aside and value.floats:
                    served.scaled_by(value.count, of.whole(node, "block_size", 0))

    def _step(self, node: NodeProto, inputs: Sequence[Value | None], handle: Handle) -> Sequence[Value] | None:
        """What a node makes where it is a step from stored numbers to floats, or might be."""
        op, data = node.op_type, inputs[0] if inputs else None
        made: Sequence[Value] | None = None
        if op in of.COMBINING:
            made = self._combined(node, inputs, handle)
        elif op == "Concat":
            made = self._concatenated(inputs, node, handle)
        elif data is not None and op == "DequantizeLinear":
            made = self._dequantized(node, inputs, data, handle)
        elif data is not None and op == "Cast":
            made = self._cast(node, data, handle)
        elif data is not None and op == "Gather":
            made = self._gathered(node, inputs, data, handle)
        elif data is not None and op in of.LAYING_OUT:
            made = self._laid_out(node, inputs, data, handle)
        return made

    def _laid_out(
        self, node: NodeProto, inputs: Sequence[Value | None], data: Value, handle: Handle
    ) -> Sequence[Value]:
        second = inputs[1] if len(inputs) > 1 else None
        for value in inputs[1:]:
            self._read(value, None)
        shape = of.laid_out(node, data.shape, second.tensor if second is not None else None)
        part = data.part or node.op_type in of.PARTS
        return [self._made(data, name, handle, shape=shape, part=part) for name in node.output]

    def _dequantized(
        self, node: NodeProto, inputs: Sequence[Value | None], data: Value, handle: Handle
    ) -> Sequence[Value] | None:
        if data.root is None or data.floats or not node.output:
            return None
        made = self._made(data, node.output[0], handle, floats=True, done=data.picked)
        made.use()
        for value in inputs[1:]:
            self._read(value, data.root)
        if len(inputs) > 1 and inputs[1] is not None:
            data.root.scaled_by(inputs[1].count, of.whole(node, "block_size", 0))
        return [made]

    def _cast(self, node: NodeProto, data: Value, handle: Handle) -> Sequence[Value] | None:
        to = of.whole(node, "to", 0)
        known = data.root is None or data.root.type not in of.ONLY_DEQUANTIZED
        if not known or not node.output or (data.floats and to not in of.PLAIN):
            return None
        return [self._made(data, node.output[0], handle, floats=to in of.PLAIN)]

    def _gathered(
        self, node: NodeProto, inputs: Sequence[Value | None], data: Value, handle: Handle
    ) -> Sequence[Value] | None:
        """Rows of a table that are not floats yet; or all but the padding of unpacked numbers."""
        picks = inputs[1] if len(inputs) > 1 else None
        if len(node.output) != 1:
            return None
        if data.root is None or not data.floats:
            self._read(picks, None)
            return [self._made(data, node.output[0], handle, shape=None, picked=True)]
        indices = picks.shape if picks is not None else None
        rows = data.shape[:1] if data.shape is not None and len(data.shape) == 2 else None
        if rows and indices and len(indices) == 1 and of.whole(node, "axis", 0) == 1 and data.bits < data.root.bits:
            self._read(picks, data.root)
            left = of.size_of((*rows, *indices))
            return [self._made(data, node.output[0], handle, shape=(*rows, *indices), count=min(left, data.count))]
        if data.joined and picks is not None and indices and len(indices) == 1:
            self._read(picks, data.root)
            return [self._made(data, node.output[0], handle, shape=None)]
        return None

    def _concatenated(self, inputs: Sequence[Value | None], node: NodeProto, handle: Handle) -> Sequence[Value] | None:
        """Parts of the same numbers, side by side."""
        parts = [value for value in inputs if value is not None]
        roots = {id(value.root) for value in parts}
        if len(parts) < len(inputs) or len(node.output) != 1:
            return None
        if len(roots) > 1:
            return self._joined(parts, node, handle)
        if parts[0].root is None:
            return None
        every = all(value.part for value in parts)
        count, bits = max(value.count for value in parts), parts[0].bits
        if every and bits >= len(parts):
            count, bits = sum(value.count for value in parts), bits // len(parts)
        made = self._made(parts[0], node.output[0], handle, shape=None, count=count, bits=bits, part=False)
        made.made = (handle, tuple(range(len(inputs))))
        return [made]

    def _joined(self, parts: Sequence[Value], node: NodeProto, handle: Handle) -> Sequence[Value] | None:
        """Floats of several stored constants that become one weight: side by side, or multiplied together."""
        if not all(value.root is not None and value.floats and not value.picked for value in parts):
            return None
        for value in parts:
            value.use()
        largest = max(parts, key=lambda value: value.count)
        made = self._made(largest, node.output[0], handle, shape=None, joined=True)
        made.made = (handle, tuple(range(len(parts))))
        for value in parts:
            if value is not largest:
                value.reads.append(made)
        return [made]

    def _combined(self, node: NodeProto, inputs: Sequence[Value | None], handle: Handle) -> Sequence[Value] | None:
        """An operator of two constants, of which the smaller says what is done to the numbers of the other."""
        if len(inputs) != 2 or len(node.output) != 1 or inputs[0] is None or inputs[1] is None:
            return None
        op, one, other = node.op_type, inputs[0], inputs[1]
        if op in of.MIXING and min(one.count, other.count) > of.TINY:
            return self._joined([one, other], node, handle)
        ranked = [(value.root is not None, value.count, -at) for at, value in enumerate((one, other))]
        main = 0 if ranked[0] >= ranked[1] else 1
        data, side = (one, other)[main], (one, other)[1 - main]
        if (op in of.MIXING and (side.count > of.TINY or data.root is None)) or (side.picked and not data.picked):
            return None
        shape = of.broadcast(data.shape, side.shape)
        if op in of.MIXING:
            shape = of.mixed(data.shape, side.shape) if main == 0 else None
        count, bits = data.count, data.bits
        if op in of.UNPACKING and shape is not None and data.shape is not None:
            times = of.size_of(shape) // max(of.size_of(data.shape), 1)
            if 1 < times <= bits:
                count, bits = count * times, bits // times
        made = self._made(data, node.output[0], handle, shape=shape, count=count, bits=bits)
        made.part, made.made = data.part or op in of.PARTS, (handle, (main,))
        if data.root is None:
            self._read(side, made)
        else:
            self._read(side, data.root if is_aside(op, side, count) else None)
            if op == "Mul" and side.floats and side.root is None and is_aside(op, side, count):
                data.root.scaled_by(side.count)
            made.done = made.picked and made.floats and op in ("Mul", "Div") and side.root is None
            if made.done:
                made.use()
        return [made]

    def _made(self, data: Value, name: str, handle: Handle, **changes: Any) -> Value:
        """What a node makes of numbers, which are noted to be read by it."""
        made = data.becomes(Place(handle.scope, name), handle, **changes)
        self._values.append(made)
        return made

    @staticmethod
    def _read(value: Value | None, by: Root | Value | None) -> None:
        if value is not None:
            value.reads.append(by)

    def found(self) -> Numbers:
        """What there is, when all has been read."""
        serving: dict[int, str] = {}
        packed: dict[Place, Packed] = {}
        aside: dict[Place, Aside] = {}
        steps: dict[Handle, tuple[int, ...]] = {}
        made: dict[Place, Packed] = {}
        for value in reversed(self._values):  # what is made of a value comes after it
            root = value.root if value.root is not None and value.root.numbers else None
            served = None if root else serves(value, serving)
            if served:
                serving[id(value)] = served
            if value.made is not None and (value.picked or not (root or served)):
                continue
            if value.made is not None:
                steps[value.made[0]] = value.made[1]
                if root:
                    made[value.place] = root.packed()
            elif root:
                known = packed.get(value.place)
                if known is None or known.numbers < root.numbers:
                    packed[value.place] = root.packed()
            elif served and value.tensor is not None:
                floats = value.count if value.tensor.data_type in of.FLOATING else 0
                aside[value.place] = Aside(served, floats)
        for place, value in self._returned:
            if value.root is not None and value.root.numbers:
                made[place] = value.root.packed()
        return Numbers(packed, aside, steps, made)
