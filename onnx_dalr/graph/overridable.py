"""The model with its layers' weights and biases as inputs: another weight is tried by feeding it, without a session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from onnx_dalr.graph.handle import MAIN, Scope
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.samples.base import Batch


@dataclass(frozen=True, eq=False)
class Override:
    """How one layer's weight and bias are replaced in a feed.

    Attributes:
        layer: The layer.
        weight: Input that takes the weight, as it is stored.
        shift: Input that takes what is added to the layer's bias; None for a layer in one piece, whose stays.
        dims: Shape of the stored weight.
        dtype: Element type of the shift.
    """

    layer: Layer
    weight: str
    shift: str | None
    dims: tuple[int, ...]
    dtype: np.dtype[Any]

    def feed(self, W: NDArray[Any], shift: NDArray[Any]) -> Batch:
        """The inputs that make the layer compute with W, [m, n], and a bias moved by `shift`, [m]."""
        kind, use = self.layer.kind, self.layer.uses[0]
        stored = kind.unmatrix(W, self.dims, use)
        feed = {self.weight: np.ascontiguousarray(stored, dtype=self.layer.dtype)}
        if self.shift is not None:
            feed[self.shift] = shift.astype(self.dtype).reshape(kind.bias_row(len(shift), self.dims))
        return feed


def overridable(model: Model, layers: Sequence[Layer]) -> tuple[ModelProto, dict[str, Override]]:
    """A model that computes what the original does, unless a layer's Override is fed.

    Args:
        model: Left as it is.
        layers: Of the graph or of bodies in it: what is fed to a model does not reach into its functions.

    Returns:
        The model, external data still referred to, and the Override of each layer by name.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    proto.ir_version = max(proto.ir_version, 4)  # before, initializers among the inputs could not be overridden
    names, graph = Names(proto), proto.graph
    listed = {value.name for value in graph.input}
    scopes: dict[Scope, _Changes] = defaultdict(_Changes)
    made: dict[str, Override] = {}
    for layer in layers:
        assert layer.home.function is None, layer.name
        tensor = model.index[layer.home].constant(layer.weight)
        assert tensor is not None
        weight = layer.weight if layer.home == MAIN else names.new(layer.weight)
        if weight != layer.weight:
            scopes[layer.home].handed_in[layer.weight] = weight
        if all(stored.name != weight for stored in graph.initializer):
            scopes[layer.home].lifted.add(layer.weight)
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = weight
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(layer.uses[0].cast_to or tensor.data_type))
        if weight not in listed:
            graph.input.append(helper.make_tensor_value_info(weight, tensor.data_type, list(tensor.dims)))
        shift = None if layer.in_one_piece else names.new(f"{layer.weight}.shift")
        if shift is not None:
            zeros = np.zeros(layer.kind.bias_row(layer.m, tensor.dims), dtype)
            graph.initializer.append(numpy_helper.from_array(zeros, shift))
            kind = helper.np_dtype_to_tensor_dtype(dtype)
            graph.input.append(helper.make_tensor_value_info(shift, kind, list(zeros.shape)))
            for use in layer.uses:
                raw = names.new(f"{use.output}.raw")
                scopes[use.node.scope].adds[use.node.position] = helper.make_node("Add", [raw, shift], [use.output])
        made[layer.name] = Override(layer, weight, shift, tuple(tensor.dims), dtype)
    for scope in sorted(scopes, key=lambda scope: len(scope.path), reverse=True):  # what is inside moves with its node
        held = scope.of(proto)
        assert isinstance(held, GraphProto)
        scopes[scope].apply(held)
    return proto, made


class _Changes:
    """What happens to one scope.

    Attributes:
        adds: Nodes that follow others, by their positions, and take over their outputs.
        lifted: Constants that are stored in the graph of the model instead.
        handed_in: What they are called there, where that is another name.
    """

    def __init__(self) -> None:
        self.adds: dict[int, NodeProto] = {}
        self.lifted: set[str] = set()
        self.handed_in: dict[str, str] = {}

    def apply(self, graph: GraphProto) -> None:
        """Makes the changes."""
        for position in sorted(self.adds, reverse=True):
            graph.node[position].output[0] = self.adds[position].input[0]
            graph.node.insert(position + 1, self.adds[position])
        for position in reversed(range(len(graph.node))):
            node = graph.node[position]
            if node.op_type == "Constant" and node.output[0] in self.lifted:
                del graph.node[position]
        if self.handed_in:
            for position in reversed(range(len(graph.initializer))):
                if graph.initializer[position].name in self.lifted:
                    del graph.initializer[position]
            for name, outside in self.handed_in.items():
                graph.node.insert(0, helper.make_node("Identity", [outside], [name]))
