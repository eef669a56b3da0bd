"""A model without the values of its large weights: copied, and weighed, without going through them."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

from onnx_dalr.graph.storage.external import tensor_bytes

_LARGE = 1 << 12  # bytes
_BESIDE = ("dims", "data_type", "name", "doc_string", "metadata_props")
"""Fields of a tensor, without those that hold its values or say where they lie."""


def emptied(proto: ModelProto, leaves: Callable[[TensorProto], bool]) -> ModelProto:
    """A copy in which some initializers of its graph have no values, which are not copied.

    Args:
        proto: Left as it is.
        leaves: Whether a tensor's values are left out.
    """
    made = ModelProto()
    try:
        _copy(proto, made, "graph")
        _copy(proto.graph, made.graph, "initializer")
        for tensor in proto.graph.initializer:
            made.graph.initializer.add().CopyFrom(_bare(tensor) if leaves(tensor) else tensor)
    except UnicodeDecodeError:  # text that is not UTF-8 is copied with all around it, or not at all
        made.CopyFrom(proto)
        for tensor in filter(leaves, made.graph.initializer):
            for field, _ in tensor.ListFields():
                if field.name not in _BESIDE:
                    tensor.ClearField(field.name)
    return made


def size_in_file(proto: ModelProto) -> int:
    """The bytes a model takes when it is serialized, external data left aside: `ByteSize` would serialize it."""
    shell = emptied(proto, _is_large)
    graph = int(shell.graph.ByteSize())
    for tensor, bare in zip(proto.graph.initializer, shell.graph.initializer, strict=True):
        if _is_large(tensor):
            size = int(bare.ByteSize())
            graph += _inside(size + _inside(tensor_bytes(tensor))) - _inside(size)
    shell.ClearField("graph")
    return int(shell.ByteSize()) + _inside(graph)


def _is_large(tensor: TensorProto) -> bool:
    return tensor.HasField("raw_data") and tensor_bytes(tensor) >= _LARGE


def _bare(tensor: TensorProto) -> TensorProto:
    bare = TensorProto()
    for name in _BESIDE:
        value = getattr(tensor, name)
        if hasattr(value, "extend"):
            getattr(bare, name).extend(value)
        elif tensor.HasField(name):
            setattr(bare, name, value)
    return bare


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
