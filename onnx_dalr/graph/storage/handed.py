"""Weights handed over as arrays to whoever runs a model, instead of inside it or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_dalr.graph.probe import names_read
from onnx_dalr.graph.storage.external import follow_links, is_external, tensor_bytes
from onnx_dalr.graph.storage.model import Model, all_tensors
from onnx_dalr.graph.storage.shell import emptied
from onnx_dalr.samples.base import Array

_SMALLEST = 1 << 12
"""Bytes of a tensor: of small ones ONNX Runtime wants to know the values, to see what shapes they make."""

_TYPES = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8))


class Handed:
    """The large weights of models that are made from one: an array that both have is there once.

    External data is mapped, and so read only where somebody computes with it.
    """

    def __init__(self, original: Model) -> None:
        self._original = original
        self._stored = {tensor.name: tensor for tensor in original.proto.graph.initializer}
        self._shared: dict[str, Array] = {}

    def named_only(self, proto: ModelProto) -> tuple[ModelProto, Path | None]:
        """A copy of a model that only names its large weights, and the folder of other external data.

        Args:
            proto: Left as it is.
        """
        found = _found(proto)
        named = emptied(proto, lambda tensor: _is_large(tensor) and tensor.name in found)
        folder = follow_links(all_tensors(named), self._original.path) if self._original.path else None
        for tensor, there in zip(proto.graph.initializer, named.graph.initializer, strict=True):
            if _is_large(tensor) and tensor.name in found:
                there.data_location = TensorProto.EXTERNAL
                there.external_data.add(key="location", value="handed over")
        return named, folder

    def values(self, proto: ModelProto, named: ModelProto) -> dict[str, Array]:
        """By name: the large weights of a model that another, made of what `named_only` gave, still names."""
        left = {tensor.name for tensor in named.graph.initializer} & _found(proto)
        return {
            tensor.name: self._array(tensor)
            for tensor in proto.graph.initializer
            if tensor.name in left and _is_large(tensor)
        }

    def _array(self, tensor: TensorProto) -> Array:
        if self._stored.get(tensor.name) != tensor:
            return _aligned(self._original.array(tensor))
        if tensor.name not in self._shared:
            self._shared[tensor.name] = _aligned(self._original.array(tensor))
        return self._shared[tensor.name]


def _found(proto: ModelProto) -> set[str]:
    """Names under which ONNX Runtime finds what it is handed: those that nodes of the graph read, and no body does."""
    read = {name for node in proto.graph.node for name in node.input}
    return read - {name for node in proto.graph.node for name in names_read(node) - set(node.input)}


def _is_large(tensor: TensorProto) -> bool:
    stored = is_external(tensor) or tensor.HasField("raw_data")
    return stored and tensor.data_type in _TYPES and tensor_bytes(tensor) >= _SMALLEST


def _aligned(array: Array) -> Array:
    return np.require(array, requirements=("C", "A"))
