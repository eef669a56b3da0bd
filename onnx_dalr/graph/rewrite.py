"""A Layer becomes what takes its place and an adjusted bias; everything else in the file stays as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.factorize.formats import LEARNABLE, Decoding, Encoded, Format
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.handle import MAIN, Handle, Scope
from onnx_dalr.graph.kinds import Link, Use
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import names_read
from onnx_dalr.graph.storage.model import Model, set_metadata

Graph = GraphProto | FunctionProto
_NodesAt = Mapping[int, list[NodeProto]]


@dataclass(frozen=True, eq=False)
class Part:
    """One of the weights that take the place of one, as it is stored.

    Attributes:
        role: What it is called in the names of its tensors and nodes.
        encoded: Its arrays, [out, in] or [out, in, *kernel], and the steps that make floats of them: of the element
            type that the layer computes in, where there are any; else the type is the weight's.
        axes: Of a kernel: the spatial axes it spans, the first to span one gets its stride and padding; all where None.
    """

    role: str
    encoded: Encoded
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Substitution:
    """What takes the place of one Layer's weight.

    Attributes:
        layer: The Layer.
        parts: One or more, in the order in which data meet them.
        shift: [m], added to every bias of the layer; all zeros to leave them alone.
    """

    layer: Layer
    parts: tuple[Part, ...]
    shift: NDArray[Any]

    @classmethod
    def of(cls, layer: Layer, pieces: Iterable[Piece], format: Format, shift: NDArray[Any]) -> Substitution:
        """All pieces in one format."""
        encoded = (Part(piece.role, format.encode(piece.values, layer.dtype), piece.axes) for piece in pieces)
        return cls(layer, tuple(encoded), shift)


@dataclass(frozen=True, eq=False)
class Rewritten:
    """What `rewrite` makes.

    Attributes:
        proto: The new model.
        tensors: Names of the constants that are new in it, by the name of the layer they belong to.
        learnable: Those of them whose floats could be others: weights, scales of rounded ones, biases.
    """

    proto: ModelProto
    tensors: Mapping[str, tuple[str, ...]]
    learnable: Mapping[str, tuple[str, ...]]


def rewrite(model: Model, substitutions: Iterable[Substitution], note: str | None = None) -> Rewritten:
    """A new model in which the parts stand for the weight of each given Layer, with its bias adjusted.

    Requires: layers as `find` gave them for this very model. Ensures: only the nodes and constants of these
    layers changed; weights and biases that nothing reads any more are gone; new names derive from old ones and
    are unique; with no substitution the result equals the model. A layer in one piece takes one part and no shift: the
    part is made under the name of the weight, and what reads it stays as it is.

    Args:
        model: Left as it is.
        substitutions: One per Layer; taken one at a time.
        note: Value of the model's `onnx_dalr` metadata entry, which replaces an older one; None leaves it alone.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    names = Names(proto)
    scopes: dict[Scope, _Changes] = defaultdict(_Changes)
    tensors: dict[str, tuple[str, ...]] = {}
    learnable: dict[str, tuple[str, ...]] = {}
    for substitution in substitutions:
        layer, work = substitution.layer, _LayerRewrite(model, substitution, names)
        readers: Iterable[Handle] = (layer.uses[0].node,)
        if layer.in_one_piece:
            work.keep_the_name()
            scopes[layer.home].renewed.add(layer.weight)
            readers = model.index[layer.home].readers(layer.weight)
        else:
            scopes[layer.home].old.add(layer.weight)
        for use in () if layer.in_one_piece else layer.uses:
            read = {*use.node.node(proto).input, use.bias}
            scopes[use.node.scope].nodes[use.node.position] = work.nodes(use, proto)
            for scope in use.node.scope.around():
                scopes[scope].path |= set(use.path)
                scopes[scope].old |= {name for name in read if name and model.index[scope].holds(name)}
        scopes[layer.home].before[min(reader.within(layer.home) for reader in readers)] += work.steps
        scopes[layer.home].made[layer.weight] = work.constants
        tensors[layer.name] = tuple(tensor.name for tensor in work.constants)
        learnable[layer.name] = tuple(tensor.name for tensor in work.learnable)
    for scope in sorted(scopes, key=lambda scope: len(scope.path), reverse=True):  # what is inside moves with its node
        scopes[scope].apply(scope.of(proto), listed=scope == MAIN and proto.ir_version < 4)
    if note is not None:
        set_metadata(proto, note)
    return Rewritten(proto, tensors, learnable)


class _LayerRewrite:
    """The constants of one layer and, use by use, its nodes. It is the Replacement the layer kinds are handed."""

    def __init__(self, model: Model, substitution: Substitution, names: Names) -> None:
        self._model, self._names, self._layer = model, names, substitution.layer
        self._shift = substitution.shift
        self._biases: dict[tuple[Scope | None, str | None, float, bool], str | None] = {}
        self._scalars: dict[float, str] = {}
        self._use = self._layer.uses[0]
        self._tensors: dict[str, str] = {}
        self._latents: list[str] = []
        self.constants: list[TensorProto] = []
        self.learnable: list[TensorProto] = []
        self.steps: list[NodeProto] = []
        weight = model.index[self._layer.home].constant(self._layer.weight)
        assert weight is not None
        # W, and so its parts, contain a Gemm's alpha already.
        self._links = tuple(Link(part.role, self._floats(part, weight.dims), part.axes) for part in substitution.parts)
        self.bias: str | None = None

    def nodes(self, use: Use, proto: ModelProto) -> list[NodeProto]:
        """The nodes in place of the use's node; where an Add carries its bias, that Add is turned to the new one."""
        self._use, self._tensors = use, {}
        counted = range(1, len(self._links))
        self._latents = [self.tensor("latent" if number == 1 else f"latent_{number}") for number in counted]
        self.bias = self._bias(use)
        if use.add is not None and use.bias is not None and self.bias is not None:
            add = use.add.node(proto)
            if use.bias in add.input:  # it was turned already where, in a damaged file, two nodes make one tensor
                add.input[list(add.input).index(use.bias)] = self.bias
        return use.kind.nodes(use, use.node.node(self._model.proto), self)

    def keep_the_name(self) -> None:
        """Makes the one part under the name of the weight, so that whoever reads it stays as it is."""
        (link,) = self._links
        assert not self._shift.any(), self._layer.name
        if self.steps:
            self.steps[-1].output[0] = self._layer.weight
        else:
            next(tensor for tensor in self.constants if tensor.name == link.operand).name = self._layer.weight

    def chain(self, data: str, output: str) -> Iterator[tuple[Link, str, str]]:
        """Link by link: (link, the tensor that enters, the tensor it makes)."""
        return zip(self._links, (data, *self._latents), (*self._latents, output), strict=True)

    def tensor(self, role: str) -> str:
        """A new tensor name; the same for the same role of one use."""
        if role not in self._tensors:
            self._tensors[role] = self._names.new(f"{self._use.output}.dalr_{role}")
        return self._tensors[role]

    def scalar(self, role: str, value: float) -> str:
        """A new scalar constant of the element type the layer computes in."""
        if value not in self._scalars:
            self._scalars[value] = self._bias_constant(f"{self._layer.weight}.dalr_{role}", np.array(value))
        return self._scalars[value]

    def node(self, old: NodeProto, role: str, op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        """A node that inherits the old one's name, domain, doc string and metadata."""
        name = self._names.new(f"{old.name or old.output[0]}.dalr_{role}")
        made = helper.make_node(op, inputs, [output], name=name, **attributes)
        made.MergeFrom(_inherited(old))
        return made

    def _floats(self, part: Part, dims: Sequence[int]) -> str:
        """Stores a part; the tensor of its floats, which the steps make. It is cast where the weight was."""
        encoded, base = part.encoded, f"{self._layer.weight}.dalr_{part.role}"
        steps, types = self._typed(encoded, self._computed)
        if not steps and self._use.cast_to:
            steps = [self._cast(self._computed)]
        if encoded.canonical:
            steps += self._layer.kind.laying_out(encoded.values.shape, dims)
        stored = {}
        for ending, array in encoded.arrays.items():
            laid_out = array if encoded.canonical else self._layer.kind.operand(array, dims)
            if ending and array.dtype.kind == "f":
                laid_out = laid_out.astype(types.get(ending, self._computed))
            stored[ending] = self._constant(f"{base}{ending}", laid_out)
            if ending in LEARNABLE and laid_out.dtype.kind == "f":
                self.learnable.append(self.constants[-1])
        return self._made(encoded, steps, stored, base)

    def _numbers(self, encoded: Encoded, base: str) -> str:
        """Stores what a part is made of; the tensor of its numbers, floats being float32."""
        steps, _ = self._typed(encoded, np.dtype(np.float32))
        stored = {ending: self._constant(f"{base}{ending}", array) for ending, array in encoded.arrays.items()}
        return self._made(encoded, steps, stored, base)

    def _made(self, encoded: Encoded, steps: Sequence[Decoding], stored: dict[str, str], base: str) -> str:
        """Writes the steps after those of all parts; the tensor that the last one makes."""
        for ending, part in encoded.parts.items():
            stored[ending] = self._numbers(part, f"{base}{ending}")
        current = stored[""]
        for step in steps:
            made = self._names.new(f"{base}_{step.op.lower()}")
            inputs, attributes = [current], dict(step.attributes)
            if step.operand is not None:
                inputs.append(stored[step.operand])
            if "shape" in attributes:
                inputs.append(self._constant(f"{base}_shape", np.array(attributes.pop("shape"), np.int64)))
            self.steps.append(helper.make_node(step.op, inputs, [made], name=self._names.new(made), **attributes))
            current = made
        return current

    def _typed(self, encoded: Encoded, computed: np.dtype[Any]) -> tuple[list[Decoding], dict[str, np.dtype[Any]]]:
        """The steps that a part needs, and by key what its operands have to be: of one type with what they meet."""
        steps: list[Decoding] = []
        types: dict[str, np.dtype[Any]] = {}
        current = encoded.arrays[""].dtype if "" in encoded.arrays else np.dtype(np.float32)
        for step in encoded.steps:
            if "to" in step.attributes:
                to = step.attributes["to"]
                if to is None and current == computed:
                    continue
                cast = self._cast(computed if to is None else np.dtype(to))
                current = np.dtype(helper.tensor_dtype_to_np_dtype(cast.attributes["to"]))
                steps.append(cast)
            else:
                steps.append(step)
                if step.operand is not None:
                    types[step.operand] = current
        return steps, types

    @staticmethod
    def _cast(to: np.dtype[Any]) -> Decoding:
        return Decoding("Cast", attributes={"to": helper.np_dtype_to_tensor_dtype(to)})

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        name = self._names.new(name)
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def _bias_constant(self, name: str, values: NDArray[Any]) -> str:
        with np.errstate(over="ignore"):  # what does not fit into float16 is found by the verification
            return self._constant(name, values.astype(self._computed))

    @property
    def _computed(self) -> np.dtype[Any]:
        """Element type the layer computes in: that of its biases."""
        cast_to = self._use.cast_to
        return np.dtype(helper.tensor_dtype_to_np_dtype(cast_to)) if cast_to else self._layer.dtype

    def _bias(self, use: Use) -> str | None:
        """The constant of the use's new bias: the old one where nothing changes, None where it is zero.

        An Add that is there already carries a zero too.
        """
        home = self._model.index[use.node.scope].home(use.bias) if use.bias else None
        key = (home, use.bias, use.bias_scale if use.bias else 1.0, use.add is not None)
        if key not in self._biases:
            self._biases[key] = self._new_bias(*key)
        return self._biases[key]

    def _new_bias(self, home: Scope | None, bias: str | None, scale: float, has_add: bool) -> str | None:
        if bias is None or home is None:
            return self._bias_row(f"{self._layer.weight}.dalr_bias", self._shift) if self._shift.any() else None
        tensor = self._model.index[home].constant(bias)
        assert tensor is not None
        stored = self._model.array(tensor).astype(np.float64)
        if not self._shift.any() and scale == 1:
            return bias if stored.any() or has_add else None
        row = stored * scale + self._shift if self._shift.any() else stored * scale
        return self._bias_row(f"{bias}.dalr", row) if row.any() or has_add else None

    def _bias_row(self, name: str, values: NDArray[Any]) -> str:
        made = self._bias_constant(name, values)
        self.learnable.append(self.constants[-1])
        return made


class _Changes:
    """What happens to one scope.

    Attributes:
        nodes: In place of others, by their positions.
        before: Further nodes, by the positions of those that they stand before.
        path: Tensors on the way from weights to nodes, which may have become useless.
        made: New constants by the name of the weight in whose place they stand.
        old: Constants that may have become useless.
        renewed: Constants whose name something else has now.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, list[NodeProto]] = {}
        self.before: dict[int, list[NodeProto]] = defaultdict(list)
        self.path: set[str] = set()
        self.made: dict[str, list[TensorProto]] = {}
        self.old: set[str] = set()
        self.renewed: set[str] = set()

    def apply(self, graph: Graph, *, listed: bool) -> None:
        """Makes the changes; `listed` where initializers have to be among the inputs."""
        _replace_nodes(graph, self.nodes, self.before)
        _remove_unread_nodes(graph, self.path)
        _replace_constants(graph, self.made, _unread(graph, self.old), self.renewed, listed=listed)


def _inherited(old: NodeProto) -> NodeProto:
    """What of a node goes on to those in its place; copied as it is, since a text that is not UTF-8 cannot be set."""
    kept = NodeProto()
    kept.CopyFrom(old)
    for field in kept.DESCRIPTOR.fields:
        if field.name not in ("domain", "doc_string", "metadata_props"):
            kept.ClearField(field.name)
    return kept


def _replace_nodes(graph: Graph, replaced: _NodesAt, before: _NodesAt) -> None:
    for position in sorted({*replaced, *before}, reverse=True):
        if position in replaced:
            del graph.node[position]
        for node in reversed([*before.get(position, ()), *replaced.get(position, ())]):
            graph.node.insert(position, node)


def _remove_unread_nodes(graph: Graph, names: set[str]) -> None:
    """Takes out what led from old weights to old nodes, from the nodes back to the weights."""
    while gone := _unread(graph, names):
        _remove_makers(graph, gone)
        names = names - gone


def _remove_makers(graph: Graph, gone: set[str]) -> None:
    _remove(graph.node, lambda node: set(node.output) <= gone)
    _remove(graph.value_info, lambda value: value.name in gone)


def _unread(graph: Graph, names: set[str]) -> set[str]:
    """The names among these that no node and no output reads any more."""
    read = {value if isinstance(value, str) else value.name for value in graph.output}
    for node in graph.node:
        read |= names_read(node)
    return names - read


def _replace_constants(
    graph: Graph, made: dict[str, list[TensorProto]], gone: set[str], renewed: set[str], *, listed: bool
) -> None:
    """Puts new constants where the old weight stood, and takes out what is read no more."""
    old = gone | renewed
    _remove(graph.node, lambda node: node.op_type == "Constant" and set(node.output) <= old)
    _remove(graph.value_info, lambda value: value.name in old)
    if isinstance(graph, GraphProto):
        _replace_initializers(graph, made, gone, renewed)
        # Before IR version 4 every initializer had to be listed among the inputs as well; later it may be.
        _remove(graph.input, lambda value: value.name in old)
        if listed:
            for tensors in made.values():
                graph.input.extend(_as_input(tensor) for tensor in tensors)
    else:  # a function has no initializers
        for tensor in reversed([tensor for tensors in made.values() for tensor in tensors]):
            graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def _replace_initializers(
    graph: GraphProto, made: dict[str, list[TensorProto]], gone: set[str], renewed: set[str]
) -> None:
    places = {tensor.name: position for position, tensor in enumerate(graph.initializer)}
    # Weights of Constant nodes have no place among the initializers: their factors go to the end.
    for weight in sorted(made, key=lambda name: places.get(name, len(places)), reverse=True):
        if weight in renewed and weight in places:
            del graph.initializer[places[weight]]
        for tensor in reversed(made[weight]):
            graph.initializer.insert(places.get(weight, len(places)), tensor)
    _remove(graph.initializer, lambda tensor: tensor.name in gone)
    _remove(graph.quantization_annotation, lambda annotation: annotation.tensor_name in gone | renewed)


def _remove(entries: Any, unwanted: Callable[[Any], bool]) -> None:
    for position in reversed(range(len(entries))):
        if unwanted(entries[position]):
            del entries[position]


def _as_input(tensor: TensorProto) -> ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
