"""One use of a layer as a model of its own, at the sizes it really sees: what is run to find out how long it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.factorize import Form, Method
from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import slots_of
from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.index import GraphIndex
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.rewrite import Part, Substitution, rewrite
from onnx_dalr.graph.shapes import Sizes, exactly
from onnx_dalr.graph.storage.model import Model

_OLDEST = 8  # IR version: constants need not be inputs
_PERIOD = 4099  # numbers that are drawn; large tensors repeat them
_SHIFT = 1e-3  # any: a bias of zeros is left out


@dataclass(frozen=True, eq=False)
class Alone:
    """A model of one layer.

    Attributes:
        model: Its nodes, with any values.
        layer: The one layer in it.
        key: Fingerprint of its nodes, sizes and types: equal where it takes equally long.
        inputs: Shape and element type of what is fed.
    """

    model: Model
    layer: Layer
    key: str
    inputs: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]

    def feed(self) -> dict[str, NDArray[np.generic]]:
        """Any data of these shapes."""
        return {name: _values(shape, dtype) for name, (shape, dtype) in self.inputs.items()}

    def dense(self) -> bytes:
        """The model as it is, serialized."""
        return bytes(self.model.proto.SerializeToString())

    def in_form(self, form: Form, method: Method) -> bytes:
        """The model with its layer in a form, in the element type it has."""
        parts = tuple(
            Part(
                slot.role,
                FORMATS[KEPT].encode(_values(slot.shape.dims, np.dtype(np.float32)), self.layer.dtype),
                slot.axes,
            )
            for slot in slots_of(self.layer.shape, form)
        )
        shift = np.full(self.layer.m, _SHIFT if method.compensates else 0.0)
        return bytes(rewrite(self.model, [Substitution(self.layer, parts, shift)]).proto.SerializeToString())


def alone(model: Model, layer: Layer, use: Use, sizes: Sizes) -> Alone:
    """A use of a layer as a model of its own.

    Args:
        model: That it is a part of; its weights are not read.
        layer: The layer.
        use: The node.
        sizes: Of the tensors of the main graph.

    Raises:
        LookupError: The sizes are not known, or the nodes say nothing by themselves.
    """
    if use.node.scope != MAIN:
        raise LookupError(use.output)
    index = model.index[MAIN]
    carriers = [made for name in reversed(use.path) if (made := index.made_by(name)) is not None]
    nodes = [*carriers, use.node.node(model.proto), *([use.add.node(model.proto)] if use.add else [])]
    computed = use.cast_to or helper.np_dtype_to_tensor_dtype(layer.dtype)
    cut = _Cut(index, sizes, computed)
    copies = [cut.copy(node, number) for number, node in enumerate(nodes)]
    output = nodes[-1].output[0]
    # What an Add of one row makes is as large as what enters it, of which the size is known more often.
    made = helper.make_tensor_value_info(cut.name(output), computed, exactly(sizes, use.output))
    graph = helper.make_graph(copies, "layer", cut.inputs, [made], cut.constants)
    version = max(model.proto.ir_version, _OLDEST)
    proto = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=version)
    key = hashlib.blake2b(proto.SerializeToString(deterministic=True), digest_size=16).hexdigest()
    for tensor in proto.graph.initializer:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        tensor.CopyFrom(numpy_helper.from_array(_values(tuple(tensor.dims), dtype), tensor.name))
    held = Model(proto)
    found, _ = find(held)
    if len(found) != 1 or found[0].shape != layer.shape:
        raise LookupError(use.output)
    return Alone(held, found[0], key, _shapes(proto))


class _Cut:
    """Nodes cut out of a graph, their tensors by new names: what is computed elsewhere is fed."""

    def __init__(self, index: GraphIndex, sizes: Sizes, computed: int) -> None:
        self._index, self._sizes, self._computed = index, sizes, computed
        self._names: dict[str, str] = {"": ""}
        self.inputs: list[ValueInfoProto] = []
        self.constants: list[TensorProto] = []

    def name(self, tensor: str) -> str:
        """The new one: names of layers that are alike are alike."""
        return self._names.setdefault(tensor, f"t{len(self._names)}")

    def copy(self, node: NodeProto, number: int) -> NodeProto:
        """The node, reading and making tensors by their new names."""
        for tensor in node.input:
            if tensor not in self._names:
                self._bring(tensor)
        made = NodeProto()
        made.op_type, made.domain, made.name = node.op_type, node.domain, f"n{number}"
        made.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        made.input.extend(map(self.name, node.input))
        made.output.extend(map(self.name, node.output))
        return made

    def _bring(self, tensor: str) -> None:
        constant = self._index.constant(tensor)
        if constant is None:
            shape = exactly(self._sizes, tensor)
            self.inputs.append(helper.make_tensor_value_info(self.name(tensor), self._computed, shape))
        else:
            empty = TensorProto(name=self.name(tensor), data_type=constant.data_type)
            empty.dims.extend(constant.dims)
            self.constants.append(empty)


def _shapes(proto: ModelProto) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    found = {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape = tuple(axis.dim_value for axis in kind.shape.dim)
        found[value.name] = shape, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return found


def _values(shape: Sequence[int], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Small numbers of any sign: no zeros, and nothing that grows out of range."""
    drawn = np.random.default_rng(0).uniform(0.01, 0.02, _PERIOD) * np.resize([1.0, -1.0], _PERIOD)
    return np.resize(drawn.astype(dtype), tuple(shape))
