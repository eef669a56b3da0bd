"""A model without the values of its large weights: copied, and weighed, without going through them."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

from onnx_dalr.graph.storage.external import tensor_bytes

_LARGE = 1 << 12  # bytes
_BESIDE = ("dims", "data_type", "name", "doc_string", "metadata_props")
"""Fields of a tensor that holds raw data."""


def without(proto: ModelProto, names: Collection[str]) -> ModelProto:
    """A copy without some of the initializers of its graph, whose values are not copied."""
    made = ModelProto()
    _copy(proto, made, "graph")
    _copy(proto.graph, made.graph, "initializer")
    made.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name not in names)
    return made


def size_in_file(proto: ModelProto) -> int:
    """The bytes a model takes when it is serialized, external data left aside: `ByteSize` would serialize it."""
    large = [tensor for tensor in proto.graph.initializer if _is_large(tensor)]
    shell = without(proto, {tensor.name for tensor in large})
    if len(shell.graph.initializer) + len(large) != len(proto.graph.initializer):  # two of a name
        return int(proto.ByteSize())
    graph = shell.graph.ByteSize() + sum(_inside(_size_of(tensor)) for tensor in large)
    shell.ClearField("graph")
    return int(shell.ByteSize()) + _inside(graph)


def _is_large(tensor: TensorProto) -> bool:
    return tensor.HasField("raw_data") and tensor_bytes(tensor) >= _LARGE


def _size_of(tensor: TensorProto) -> int:
    bare = TensorProto()
    for name in _BESIDE:
        value = getattr(tensor, name)
        if hasattr(value, "extend"):
            getattr(bare, name).extend(value)
        elif tensor.HasField(name):
            setattr(bare, name, value)
    return int(bare.ByteSize()) + _inside(tensor_bytes(tensor))


def _inside(length: int) -> int:
    """Bytes of a field of a message that has so many: its number, its length and they."""
    return 1 + max((length.bit_length() + 6) // 7, 1) + length


def _copy(one: Message, other: Message, but: str) -> None:
    """Copies what a message holds, except for one field."""
    for field, value in one.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "extend"):
            getattr(other, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(other, field.name).CopyFrom(value)
        else:
            setattr(other, field.name, value)
