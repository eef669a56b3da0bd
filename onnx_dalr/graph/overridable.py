"""The model with its layers' weights and biases as inputs: another weight is tried by feeding it, without a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

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
        shift: Input that takes what is added to the layer's bias.
        dims: Shape of the stored weight.
        dtype: Element type of the shift.
    """

    layer: Layer
    weight: str
    shift: str
    dims: tuple[int, ...]
    dtype: np.dtype[Any]

    def feed(self, W: NDArray[Any], shift: NDArray[Any]) -> Batch:
        """The inputs that make the layer compute with W, [m, n], and a bias moved by `shift`, [m]."""
        use = self.layer.uses[0]
        stored = (W / use.scale) if use.scale else W
        stored = stored.reshape(self.dims) if use.stored_as_W else stored.T
        return {
            self.weight: np.ascontiguousarray(stored, dtype=self.layer.dtype),
            self.shift: shift.astype(self.dtype).reshape(_row(len(shift), self.dims)),
        }


def overridable(model: Model, layers: Sequence[Layer]) -> tuple[ModelProto, dict[str, Override]]:
    """A model that computes what the original does, unless a layer's Override is fed.

    Returns:
        The model, external data still referred to, and the Override of each layer by name.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    proto.ir_version = max(proto.ir_version, 4)  # before, initializers among the inputs could not be overridden
    names, graph = Names(proto), proto.graph
    listed = {value.name for value in graph.input}
    adds: dict[int, list[Any]] = {}
    made: dict[str, Override] = {}
    for layer in layers:
        tensor = model.constants[layer.weight]
        if all(stored.name != layer.weight for stored in graph.initializer):
            _constant_to_initializer(proto, layer.weight)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(layer.uses[0].cast_to or tensor.data_type))
        shift = names.new(f"{layer.weight}.shift")
        zeros = np.zeros(_row(layer.m, tensor.dims), dtype)
        graph.initializer.append(numpy_helper.from_array(zeros, shift))
        for name, kind, dims in (
            (layer.weight, tensor.data_type, list(tensor.dims)),
            (shift, helper.np_dtype_to_tensor_dtype(dtype), list(zeros.shape)),
        ):
            if name not in listed:
                graph.input.append(helper.make_tensor_value_info(name, kind, dims))
        for use in layer.uses:
            raw = names.new(f"{use.output}.raw")
            adds[use.node] = [raw, helper.make_node("Add", [raw, shift], [use.output])]
        made[layer.name] = Override(layer, layer.weight, shift, tuple(tensor.dims), dtype)
    nodes = list(model.proto.graph.node)
    del graph.node[:]
    for position, node in enumerate(nodes):
        if node.op_type == "Constant" and node.output[0] in {override.weight for override in made.values()}:
            continue
        graph.node.append(node)
        if position in adds:
            raw, add = adds[position]
            graph.node[-1].output[0] = raw
            graph.node.append(add)
    return proto, made


def _constant_to_initializer(proto: ModelProto, name: str) -> None:
    """Copies the value of a Constant node; the node itself is left out when the nodes are written."""
    node = next(node for node in proto.graph.node if name in node.output)
    value = TensorProto()
    value.CopyFrom(next(entry.t for entry in node.attribute if entry.name == "value"))
    value.name = name
    proto.graph.initializer.append(value)


def _row(m: int, dims: Sequence[int]) -> tuple[int, ...]:
    """Shape of a bias that broadcasts over the layer's output: [m], or [m, 1, …] for a kernel of such dims."""
    return (m, *([1] * (len(dims) - 2)))
