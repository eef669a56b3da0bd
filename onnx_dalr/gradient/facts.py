"""What can be known of the tensors of a model before it runs: element types, sizes, small constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper, shape_inference

from onnx_dalr.gradient.sizes import reshaped_to
from onnx_dalr.graph.shapes import Dims, opened

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
DEFAULT_DOMAINS = ("", "ai.onnx")
_SMALL = 4096  # elements: axes, shapes and pads have fewer, weights that take memory have more
_SMALL_NODE = 1_000_000  # bytes: a node that holds more is not copied
_SHAPED_LIKE_FIRST = frozenset(
    {"BiasGelu", "FastGelu", "Gelu", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
)


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of each tensor of the main graph, by name; a tensor of which nothing is known has no entry.

    Attributes:
        kinds: Element types (TensorProto.FLOAT, …).
        dims: Sizes, None where only the run decides.
        values: Constants of few elements.
    """

    kinds: Mapping[str, int]
    dims: Mapping[str, Dims]
    values: Mapping[str, NDArray[np.generic]]


def facts_about(proto: ModelProto, nodes: Sequence[NodeProto]) -> Facts:
    """Infers types and sizes from the inputs on; what a file claims of inner tensors is believed only where that fails.

    Large constants are left out: their data is not copied, and no external data is read.

    Args:
        proto: The model.
        nodes: Its nodes in an order of computation.
    """
    light = _light(proto, nodes)
    small = {name: _values(tensor) for name, tensor in _constants(proto) if _is_small(tensor)}
    values = {name: value for name, value in small.items() if value is not None}
    integers = {
        name: [int(entry) for entry in value.ravel()]
        for name, value in values.items()
        if value.dtype.kind == "i" and value.ndim < 2
    }
    while True:
        kinds, dims = _inferred(light)
        for name, tensor in _constants(proto):
            kinds[name], dims[name] = tensor.data_type, tuple(tensor.dims)
        new = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
            for name, shape in reshaped_to(light.graph.node, integers, dims).items()
            if name not in dims
        ]
        if not new:
            return Facts(kinds, dims, values)
        light.graph.value_info.extend(new)


def _values(tensor: TensorProto) -> NDArray[Any] | None:
    """What a tensor holds; None where a damaged file, which some runtimes load, has too few bytes of it."""
    with suppress(ValueError):
        return np.asarray(numpy_helper.to_array(tensor))
    return None


def _inferred(light: ModelProto) -> tuple[dict[str, int], dict[str, Dims]]:
    """Element types and shapes; less of them where inference gives up on the model."""
    with suppress(shape_inference.InferenceError, checker.ValidationError):
        light = shape_inference.infer_shapes(light, data_prop=True)
    kinds: dict[str, int] = {}
    dims: dict[str, Dims] = {}
    for info in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        tensor = info.type.tensor_type
        if tensor.elem_type:
            kinds[info.name] = tensor.elem_type
        if tensor.HasField("shape"):
            dims[info.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return kinds, dims


def _constants(proto: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in proto.graph.initializer:
        yield tensor.name, tensor
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
            for attribute in node.attribute:
                if attribute.name == "value" and node.output:  # a damaged one makes nothing
                    yield node.output[0], attribute.t


def _is_small(tensor: TensorProto) -> bool:
    return tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= _SMALL


def _light(proto: ModelProto, nodes: Sequence[NodeProto]) -> ModelProto:
    """The model for inference: large constants are inputs, fused operators that keep their shape are Identity."""
    light = ModelProto(ir_version=max(proto.ir_version, 4), opset_import=proto.opset_import, functions=proto.functions)
    graph = light.graph
    graph.name = "light"
    graph.input.extend(opened(proto.graph.input))
    graph.initializer.extend(tensor for tensor in proto.graph.initializer if _is_small(tensor))
    given = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(name, tensor.data_type, tuple(tensor.dims))
        for name, tensor in _constants(proto)
        if not _is_small(tensor) and name not in given
    )
    opaque: set[str] = set()
    for node in nodes:
        if node.domain == "com.microsoft" and node.op_type in _SHAPED_LIKE_FIRST:
            graph.node.add(op_type="Identity", input=node.input[:1], output=node.output[:1])
        elif node.ByteSize() > _SMALL_NODE:
            opaque |= set(node.output)
        else:
            graph.node.add().CopyFrom(node)
            opaque |= set(node.output) if _is_opaque(node) else set()
    graph.value_info.extend(opened(value for value in proto.graph.value_info if value.name in opaque))
    graph.output.extend(opened(value if value.name in opaque else _typed(value) for value in proto.graph.output))
    return light


def _is_opaque(node: NodeProto) -> bool:
    """Inference may know nothing of its outputs."""
    return node.domain not in DEFAULT_DOMAINS or node.op_type in ("If", "Loop", "Scan")


def _typed(value: ValueInfoProto) -> ValueInfoProto:
    """An output without the shape that the file claims for it."""
    bare = ValueInfoProto(name=value.name)
    if value.type.tensor_type.elem_type:
        bare.type.tensor_type.elem_type = value.type.tensor_type.elem_type
    return bare
