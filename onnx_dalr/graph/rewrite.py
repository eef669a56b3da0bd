"""A Layer becomes two thin nodes and an adjusted bias; everything else in the file stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.graph.kinds.use import Use
from onnx_dalr.graph.layers import KINDS, Layer
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import names_read
from onnx_dalr.graph.storage.model import METADATA_KEY, Model


@dataclass(frozen=True, eq=False)
class Substitution:
    """What takes the place of one Layer's weight.

    Attributes:
        layer: The Layer.
        A: [m, k], any float dtype; stored in the layer's own.
        B: [k, n].
        shift: [m], added to every bias of the layer; all zeros to leave them alone.
    """

    layer: Layer
    A: NDArray[Any]
    B: NDArray[Any]
    shift: NDArray[Any]


def rewrite(model: Model, substitutions: Iterable[Substitution], note: str | None = None) -> ModelProto:
    """A new model in which each given Layer is two MatMul, with its bias adjusted.

    Requires: layers as `find` gave them for this very model. Ensures: only the nodes and initializers of these
    layers changed; weights and biases that nothing reads any more are gone; new names derive from old ones and
    are unique; with no substitution the result equals the model.

    Args:
        model: Left as it is.
        substitutions: One per Layer; taken one at a time.
        note: Value of the model's `onnx_dalr` metadata entry, which replaces an older one; None leaves it alone.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    names = Names(proto)
    replaced: dict[int, list[NodeProto]] = {}
    made: dict[str, list[TensorProto]] = {}
    old: set[str] = set()
    path: set[str] = set()
    for substitution in substitutions:
        work = _LayerRewrite(model, substitution, names)
        for use in substitution.layer.uses:
            replaced[use.node] = work.nodes(use, proto.graph)
        made[substitution.layer.weight] = work.constants
        path |= {name for use in substitution.layer.uses for name in use.path}
        old |= {substitution.layer.weight}
        for use in substitution.layer.uses:
            old |= {name for name in proto.graph.node[use.node].input if name in model.constants}
            old |= {use.bias} if use.bias else set()
    if made:
        _replace_nodes(proto.graph, replaced)
        _remove_unread_nodes(proto.graph, path)
        _replace_constants(proto, made, _unread(proto.graph, old))
    if note is not None:
        _set_metadata(proto, note)
    return proto


class _LayerRewrite:
    """The constants of one layer and, use by use, its nodes. It is the Replacement the layer kinds are handed."""

    def __init__(self, model: Model, substitution: Substitution, names: Names) -> None:
        self._model, self._names, self._layer = model, names, substitution.layer
        self._shift = substitution.shift
        self._biases: dict[tuple[str | None, float, bool], str | None] = {}
        self._scalars: dict[float, str] = {}
        self._use = self._layer.uses[0]
        self._tensors: dict[str, str] = {}
        self.constants: list[TensorProto] = []
        self._kind = next(kind for kind in KINDS if self._layer.op in kind.OPS)
        self._casts: list[NodeProto] = []
        # W, and so its factors, contain a Gemm's alpha already.
        self.B = self._factor("B", substitution.B)
        self.A = self._factor("A", substitution.A)
        self.bias: str | None = None
        self.latent = ""

    def nodes(self, use: Use, graph: GraphProto) -> list[NodeProto]:
        """The nodes in place of the use's node; where an Add carries its bias, that Add is turned to the new one."""
        self._use, self._tensors = use, {}
        self.latent = self.tensor("latent")
        self.bias = self._bias(use)
        if use.add is not None and use.bias is not None and self.bias is not None:
            add = graph.node[use.add]
            add.input[list(add.input).index(use.bias)] = self.bias
        casts, self._casts = self._casts, []
        kind = next(kind for kind in KINDS if use.op in kind.OPS)
        return [*casts, *kind.rewrite(use, graph.node[use.node], self)]

    def tensor(self, role: str) -> str:
        """A new tensor name; the same for the same role of one use."""
        if role not in self._tensors:
            self._tensors[role] = self._names.new(f"{self._use.output}.dalr_{role}")
        return self._tensors[role]

    def scalar(self, role: str, value: float) -> str:
        """A new scalar constant of the element type the layer computes in."""
        if value not in self._scalars:
            self._scalars[value] = self._constant(f"{self._layer.weight}.dalr_{role}", np.array(value))
        return self._scalars[value]

    def node(self, old: NodeProto, role: str, op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        """A node that inherits the old one's name, domain, doc string and metadata."""
        name = self._names.new(f"{old.name or old.output[0]}.dalr_{role}")
        made = helper.make_node(op, inputs, [output], name=name, **attributes)
        made.MergeFrom(_inherited(old))
        return made

    def _factor(self, role: str, values: NDArray[Any]) -> str:
        """A factor stored in the weight's element type and, where the weight was cast, cast likewise."""
        weight, cast_to = self._layer.weight, self._use.cast_to
        laid_out = self._kind.operand(values, self._model.constants[weight].dims)
        stored = self._constant(f"{weight}.dalr_{role}", laid_out, self._layer.dtype)
        if not cast_to:
            return stored
        cast = self._names.new(f"{weight}.dalr_{role}_cast")
        self._casts.append(helper.make_node("Cast", [stored], [cast], name=self._names.new(cast), to=cast_to))
        return cast

    def _constant(self, name: str, values: NDArray[Any], dtype: np.dtype[Any] | None = None) -> str:
        name = self._names.new(name)
        with np.errstate(over="ignore"):  # what does not fit into float16 is found by the verification
            made = np.asarray(values).astype(dtype or self._computed, order="C")
        self.constants.append(numpy_helper.from_array(made, name))
        return name

    @property
    def _computed(self) -> np.dtype[Any]:
        """Element type the layer computes in: that of its biases."""
        cast_to = self._use.cast_to
        return np.dtype(helper.tensor_dtype_to_np_dtype(cast_to)) if cast_to else self._layer.dtype

    def _bias(self, use: Use) -> str | None:
        """The constant of the use's new bias: the old one where nothing changes, None where it is zero.

        An Add that is there already carries a zero too.
        """
        key = (use.bias, use.bias_scale if use.bias else 1.0, use.add is not None)
        if key not in self._biases:
            self._biases[key] = self._new_bias(*key)
        return self._biases[key]

    def _new_bias(self, bias: str | None, scale: float, has_add: bool) -> str | None:
        if bias is None:
            return self._constant(f"{self._layer.weight}.dalr_bias", self._shift) if self._shift.any() else None
        stored = self._model.array(self._model.constants[bias]).astype(np.float64)
        if not self._shift.any() and scale == 1:
            return bias if stored.any() or has_add else None
        row = stored * scale + self._shift if self._shift.any() else stored * scale
        return self._constant(f"{bias}.dalr", row) if row.any() or has_add else None


def _inherited(old: NodeProto) -> NodeProto:
    """What of a node goes on to those in its place; copied as it is, since a text that is not UTF-8 cannot be set."""
    kept = NodeProto()
    kept.CopyFrom(old)
    for field in kept.DESCRIPTOR.fields:
        if field.name not in ("domain", "doc_string", "metadata_props"):
            kept.ClearField(field.name)
    return kept


def _replace_nodes(graph: GraphProto, replaced: dict[int, list[NodeProto]]) -> None:
    for position in sorted(replaced, reverse=True):
        del graph.node[position]
        for node in reversed(replaced[position]):
            graph.node.insert(position, node)


def _remove_unread_nodes(graph: GraphProto, candidates: set[str]) -> None:
    """Takes out what led from old weights to old nodes, from the nodes back to the weights."""
    while gone := _unread(graph, candidates):
        _remove_makers(graph, gone)
        candidates = candidates - gone


def _remove_makers(graph: GraphProto, gone: set[str]) -> None:
    _remove(graph.node, lambda node: set(node.output) <= gone)
    _remove(graph.value_info, lambda value: value.name in gone)


def _unread(graph: GraphProto, names: set[str]) -> set[str]:
    """Those of `names` that no node and no output reads any more."""
    read = {value.name for value in graph.output}
    for node in graph.node:
        read |= names_read(node)
    return names - read


def _replace_constants(proto: ModelProto, made: dict[str, list[TensorProto]], gone: set[str]) -> None:
    """Puts new constants where the old weight stood, and takes out what is read no more."""
    graph = proto.graph
    places = {tensor.name: position for position, tensor in enumerate(graph.initializer)}
    # Weights of Constant nodes have no place among the initializers: their factors go to the end.
    for weight in sorted(made, key=lambda name: places.get(name, len(places)), reverse=True):
        for tensor in reversed(made[weight]):
            graph.initializer.insert(places.get(weight, len(places)), tensor)
    _remove(graph.initializer, lambda tensor: tensor.name in gone)
    _remove(graph.node, lambda node: node.op_type == "Constant" and set(node.output) <= gone)
    _remove(graph.value_info, lambda value: value.name in gone)
    _remove(graph.quantization_annotation, lambda annotation: annotation.tensor_name in gone)
    # Before IR version 4 every initializer had to be listed among the inputs as well; later it may be.
    _remove(graph.input, lambda value: value.name in gone)
    if proto.ir_version < 4:
        for tensors in made.values():
            graph.input.extend(_as_input(tensor) for tensor in tensors)


def _remove(entries: Any, unwanted: Callable[[Any], bool]) -> None:
    for position in reversed(range(len(entries))):
        if unwanted(entries[position]):
            del entries[position]


def _as_input(tensor: TensorProto) -> ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _set_metadata(proto: ModelProto, note: str) -> None:
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = note
            return
    proto.metadata_props.add(key=METADATA_KEY, value=note)
