"""What must hold before anything else is asked of a model file, and whose fault it is when reading one fails."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnx_dalr.errors import DalrError, InputError

_DAMAGED = "the file is damaged: export or download it again"
_TYPES = frozenset(TensorProto.DataType.values())
_PACKED = 8  # values a byte of the file can hold at most

_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer", "get the file itself: git lfs pull"),
    (b"PK\x03\x04", "a zip archive", "unpack it and give the .onnx file inside"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the .onnx file inside"),
    (b"<!doctype", "a web page", "the download failed: get the file itself"),
    (b"<html", "a web page", "the download failed: get the file itself"),
)


def what_it_is(path: Path) -> tuple[str, str]:
    """What a file that is no model is instead, and what to do: ("", a general hint) where that is not known."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "empty", "export or download it again"
    found = (entry[1:] for entry in _SIGNATURES if start.lstrip().lower().startswith(entry[0].lower()))
    return next(found, ("", "export or download it again"))


def check(proto: ModelProto, room: int) -> None:
    """Refuses what no reader of a model expects: names that are not text, unknown element types, impossible sizes.

    Args:
        proto: As it was parsed, external data not loaded.
        room: Bytes of the file.

    Raises:
        InputError: One of them.
    """
    _check_text(entry.domain for entry in proto.opset_import)
    for function in proto.functions:
        _check_text((function.name, function.domain))
        for node in function.node:
            _check_node(node, room)
    waiting = [proto.graph, *(body for function in proto.functions for body in _bodies(function.node))]
    while waiting:
        graph = waiting.pop()
        _check_graph(graph, room)
        waiting += _bodies(graph.node)


def _bodies(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _check_graph(graph: GraphProto, room: int) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_value(value)
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        _check_tensor(tensor, room)
    for node in graph.node:
        _check_node(node, room)


def _check_text(texts: Iterable[str | bytes]) -> None:
    """Protobuf hands out bytes where a string is not UTF-8."""
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"the model holds a name that is not UTF-8 text: {text[:40]!r}", _DAMAGED)


def _check_value(value: ValueInfoProto) -> None:
    _check_text((value.name,))
    if value.type.HasField("tensor_type"):
        kind = value.type.tensor_type
        _check_type(kind.elem_type, value.name)
        _check_text(axis.dim_param for axis in kind.shape.dim)


def _check_type(stored: int, name: str) -> None:
    if stored not in _TYPES:
        raise InputError(
            f"{name!r} has the element type {stored}, which onnx {onnx.__version__} does not know",
            "the file is damaged, or made by a newer onnx: pip install -U onnx",
        )


def _check_tensor(tensor: TensorProto, room: int) -> None:
    _check_text((tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value))))
    _check_type(tensor.data_type or -1, tensor.name)
    count = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or count >= 2**62:
        raise InputError(f"{tensor.name!r} has the impossible shape {list(tensor.dims)}", _DAMAGED)
    if tensor.data_location != TensorProto.EXTERNAL and count > room * _PACKED:
        raise InputError(f"{tensor.name!r} of shape {list(tensor.dims)} is larger than the file it is in", _DAMAGED)


def _check_node(node: NodeProto, room: int) -> None:
    _check_text((node.name, node.op_type, node.domain, *node.input, *node.output))
    for attribute in node.attribute:
        _check_text((attribute.name,))
        if attribute.type == AttributeProto.TENSOR:
            _check_tensor(attribute.t, room)


@contextmanager
def blaming(proto: ModelProto, path: Path | None) -> Iterator[None]:
    """Turns what goes wrong while a graph is read into the user's error where onnx's own checker refuses it too.

    What it accepts and we cannot read is a bug of ours and stays one.
    """
    try:
        yield
    except (DalrError, MemoryError):
        raise
    except Exception as error:
        try:
            onnx.checker.check_model(proto if path is None else path)
        except Exception as refusal:  # its own, unrelated types
            wrong = " ".join(str(refusal).split())[:300]
            raise InputError(f"the graph cannot be read: {wrong}", _DAMAGED) from error
        raise
