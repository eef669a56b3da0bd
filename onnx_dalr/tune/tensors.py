"""Which numbers of a student are tuned: factors, scales of rounded weights, biases, scales and shifts of norms."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_dalr.graph.storage.external import is_external

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_BIAS_AT = {"Gemm": 2, "Conv": 2, "ConvTranspose": 2}
_NORMS = {
    "LayerNormalization": (1, 2),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3, 4),
    "RMSNormalization": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}
_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def numbers_beside(proto: ModelProto) -> list[str]:
    """Names of the initializers that hold one number for every channel of a node's output: biases, and those of norms.

    Of an Add only what is added to a product: constants elsewhere may be anything, the anchors of a detector, say.
    """
    makers = {output: node for node in proto.graph.node for output in node.output if output}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    found: dict[str, None] = {}
    for node in proto.graph.node:
        for name in _of(node, makers):
            if name in stored and _is_row(stored[name]):
                found[name] = None
    return list(found)


def _of(node: NodeProto, makers: Mapping[str, NodeProto]) -> Iterator[str]:
    inputs = list(node.input)
    if node.op_type in _BIAS_AT:
        yield from inputs[_BIAS_AT[node.op_type] :][:1]
    yield from (inputs[at] for at in _NORMS.get(node.op_type, ()) if at < len(inputs))
    if node.op_type == "Add":
        for name, other in zip(inputs, reversed(inputs), strict=True):
            if other in makers and makers[other].op_type in _PRODUCTS:
                yield name


def _is_row(tensor: TensorProto) -> bool:
    return (
        tensor.data_type in _FLOATS
        and not is_external(tensor)
        and math.prod(tensor.dims) > 1
        and sum(size > 1 for size in tensor.dims) == 1
    )


def masters(proto: ModelProto, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The values of some initializers in float32: what is tuned, whatever the file holds."""
    wanted = set(names)
    return {
        tensor.name: np.array(numpy_helper.to_array(tensor), np.float32)
        for tensor in proto.graph.initializer
        if tensor.name in wanted
    }


def fed_types(proto: ModelProto, names: Collection[str]) -> dict[str, np.dtype[Any]]:
    """The element types in which tuned tensors are fed: float32 where all that reads them is a Cast anyway."""
    readers: dict[str, list[NodeProto]] = {name: [] for name in names}
    for node in proto.graph.node:
        for name in set(node.input) & readers.keys():
            readers[name].append(node)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    return {
        name: np.dtype(np.float32)
        if nodes and all(node.op_type == "Cast" for node in nodes)
        else np.dtype(helper.tensor_dtype_to_np_dtype(stored[name].data_type))
        for name, nodes in readers.items()
    }


def replaced(proto: ModelProto, tensors: Mapping[str, NDArray[np.float32]]) -> ModelProto:
    """A copy of a model with other values in some initializers, in the element types that these have."""
    made = ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        if tensor.name in tensors:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(tensors[tensor.name].astype(dtype), tensor.name))
    return made
