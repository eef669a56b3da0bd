"""An ONNX model on disk or in memory: loading, its constants, its size, and writing it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from onnx_dalr.errors import InputError, first_line
from onnx_dalr.graph.handle import Scope
from onnx_dalr.graph.index import GraphIndex, index_of
from onnx_dalr.graph.shapes import declared
from onnx_dalr.graph.soundness import check, what_it_is
from onnx_dalr.graph.storage import numbers
from onnx_dalr.graph.storage.external import (
    external_files,
    follow_links,
    is_external,
    map_bytes,
    place,
    read_external,
    weigh_external,
    will_move,
    write_external,
)
from onnx_dalr.graph.storage.maps import Maps
from onnx_dalr.graph.storage.operators import FLOATING, ORDINARY
from onnx_dalr.graph.storage.packed import Numbers
from onnx_dalr.graph.storage.shell import emptied, size_in_file
from onnx_dalr.samples.base import InputSpec

METADATA_KEY = "onnx_dalr"


@dataclass(frozen=True, eq=False)
class Model:
    """A model as it was found. Never changed: a rewrite makes a new ModelProto.

    So what goes through all of it is worked out once: a run asks for size and parameters wherever it decides something.

    Attributes:
        proto: The model, external data not loaded into it.
        path: Where it was loaded from, or None.
    """

    proto: ModelProto
    path: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where external data lies."""
        return self.path.parent if self.path else None

    @cached_property
    def has_external_data(self) -> bool:
        """Whether any tensor lies in a file of its own."""
        return any(map(is_external, all_tensors(self.proto)))

    @cached_property
    def data_files(self) -> list[Path]:
        """The files external data lies in."""
        return [(self.folder or Path()) / name for name in external_files(all_tensors(self.proto))]

    @cached_property
    def size(self) -> int:
        """Bytes on disk of the whole artifact, proto and external data."""
        return _bytes_on_disk({self.path, *self.data_files}) if self.path else int(self.proto.ByteSize())

    @cached_property
    def params(self) -> int:
        """All numbers the model computes with, in whatever format, shared ones once."""
        return count_params(self.proto)

    @cached_property
    def numbers(self) -> Numbers:
        """Which constants are not stored as the floats that they stand for."""
        return numbers_of(self.proto)

    @cached_property
    def content_hash(self) -> str:
        """Fingerprint of everything the model says: graph, metadata and the values of every tensor.

        It depends neither on the names and folders of the files, nor on where in them tensor values lie, nor on whether
        they lie in the proto or beside it. External data is mapped and goes through once.

        32 hexadecimal digits (BLAKE2b of 16 bytes).

        Raises:
            InputError: External data that cannot be read.
        """
        hasher = hashlib.blake2b(digest_size=16)
        emptied = ModelProto()
        emptied.CopyFrom(self.proto)
        for tensor in all_tensors(emptied):
            values = map_bytes(tensor, self.path).data if is_external(tensor) else tensor.raw_data
            hasher.update(f"{len(values)} ".encode())
            hasher.update(values)
            for field in ("raw_data", "external_data", "data_location"):
                tensor.ClearField(field)
        hasher.update(emptied.SerializeToString(deterministic=True))
        return hasher.hexdigest()

    @cached_property
    def index(self) -> dict[Scope, GraphIndex]:
        """Who makes and who reads a tensor, by scope: the graph first, each followed by those inside it."""
        return index_of(self.proto)

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """Constants of the main graph by name: initializers and values of Constant nodes."""
        found = {tensor.name: tensor for tensor in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if node.op_type == "Constant" and node.output and node.domain in ("", "ai.onnx"):
                found.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
        return found

    @cached_property
    def _maps(self) -> Maps:
        """Through which external data is read."""
        return Maps()

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """The values of a constant, read-only; external data is mapped, not read.

        Raises:
            InputError: The external data is missing, too short or outside the model's folder; a damaged tensor.
        """
        if is_external(tensor):
            return self._maps.add(read_external(tensor, self.path))
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise InputError(f"the values of {tensor.name!r} do not fit its shape", "the file is damaged") from error

    def put_away(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array that is as large as a weight, where it waits without taking memory; a small one as it is."""
        return self._maps.put(array)

    def let_go(self) -> None:
        """What was read of external data leaves memory, whoever holds on to it."""
        self._maps.let_go()

    def source(self) -> Path | bytes:
        """What a fresh ONNX Runtime session loads."""
        return self.path if self.path else self.proto.SerializeToString()

    def in_memory(self, made: ModelProto) -> tuple[bytes, Path | None]:
        """A model made from this one, as ONNX Runtime takes it from memory: its bytes and its data's folder."""
        folder = follow_links(all_tensors(made), self.path) if self.path else None
        return made.SerializeToString(), folder


def load(model: str | os.PathLike[str] | ModelProto | Model) -> Model:
    """Loads a model from a path, or takes a ModelProto, or a Model that is loaded already, as it is.

    Raises:
        InputError: No such file, no permission, not an ONNX model, or a ModelProto with external data.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, ModelProto):
        if any(map(is_external, (*all_tensors(model), *_parts_of_sparse(model)))):
            raise InputError("the ModelProto refers to external data files", "pass the path of the model instead")
        check(model, model.ByteSize())
        return Model(model)
    path = Path(model)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is not a regular file", "give the path of an .onnx file")
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except FileNotFoundError as error:
        raise InputError(f"no such model: {path}", "give the path of an .onnx file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder", "give the .onnx file inside it") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        found, hint = what_it_is(path)
        what = f"it is {found}" if found else "or it is damaged"
        raise InputError(f"{path} is not an ONNX model, {what}", hint) from error
    if not proto.graph.node and not proto.graph.output:
        found, hint = what_it_is(path)
        raise InputError(f"{path} is not an ONNX model: it {f'is {found}' if found else 'holds no graph'}", hint)
    check(proto, path.stat().st_size)
    for tensor in filter(is_external, (*all_tensors(proto), *_parts_of_sparse(proto))):
        place(tensor, path)
    return Model(proto, path)


def stored_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor stored in a graph: initializers and tensor attributes, in bodies of control flow too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
    yield from _in_attributes(graph.node)


def _in_attributes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in (attribute.g, *attribute.graphs):
                if body.ByteSize():
                    yield from stored_tensors(body)


def all_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in a model: those of its graph and of its functions."""
    yield from stored_tensors(proto.graph)
    for function in proto.functions:
        yield from _in_attributes(function.node)


def _parts_of_sparse(proto: ModelProto) -> Iterator[TensorProto]:
    """Values and indices of every sparse tensor: nothing computes with them here, but who runs the model reads them."""
    found = [*proto.graph.sparse_initializer, *_sparse_among(proto.graph.node)]
    for function in proto.functions:
        found += _sparse_among(function.node)
    for sparse in found:
        yield from (sparse.values, sparse.indices)


def _sparse_among(nodes: Iterable[NodeProto]) -> Iterator[SparseTensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.sparse_tensor, *attribute.sparse_tensors)
        for body in (attribute.g, *attribute.graphs):
            if body.ByteSize():
                yield from body.sparse_initializer
                yield from _sparse_among(body.node)


def count_params(proto: ModelProto) -> int:
    """All numbers a model computes with, in whatever format, shared ones once.

    These are its floating constants, and whole numbers that stand for floats instead of the scales of these.
    """
    stored = all_tensors(proto)
    floats = sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in stored if tensor.data_type in FLOATING)
    return floats + numbers_of(proto).beside_floats


def numbers_of(proto: ModelProto) -> Numbers:
    """Which constants of a model are not stored as the floats that they stand for."""
    ordinary = all(tensor.data_type in ORDINARY for tensor in all_tensors(proto))
    return Numbers() if ordinary else numbers.find(proto)


def artifact_size(path: Path) -> int:
    """Bytes on disk of a model file and of its external data files, each once."""
    proto = onnx.load(path, format="protobuf", load_external_data=False)
    return _bytes_on_disk({path, *(path.parent / name for name in external_files(all_tensors(proto)))})


def _bytes_on_disk(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.exists())


def input_specs(proto: ModelProto) -> tuple[InputSpec, ...]:
    """What the model wants to be fed: its inputs without those that an initializer gives a value.

    Raises:
        InputError: An input is not a tensor.
    """
    given = {tensor.name for tensor in proto.graph.initializer}
    return tuple(_input_spec(value) for value in proto.graph.input if value.name not in given)


def _input_spec(value: onnx.ValueInfoProto) -> InputSpec:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise InputError(f"model input {value.name!r} is not a tensor", "models with sequence inputs cannot be fed")
    if kind.elem_type == TensorProto.UNDEFINED:
        raise InputError(f"model input {value.name!r} has no element type", "the file is damaged")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if dtype.isbuiltin != 1:  # bfloat16, float8, int4: NumPy has them from another package
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise InputError(
            f"model input {value.name!r} is {name}, which ONNX Runtime cannot be fed from NumPy",
            f"let it be float32, with a Cast to {name} behind it",
        )
    names = tuple(axis.dim_param or None for axis in kind.shape.dim)
    return InputSpec(value.name, declared(kind), dtype, names)


def metadata(proto: ModelProto) -> str | None:
    """What an earlier run of this tool wrote into the model, or None."""
    found = next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)
    return found.decode(errors="replace") if isinstance(found, bytes) else found  # bytes, where they are no UTF-8


def set_metadata(proto: ModelProto, note: str) -> None:
    """Writes what `metadata` reads, in place of what an earlier run wrote."""
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = note
            return
    proto.metadata_props.add(key=METADATA_KEY, value=note)


def is_valid(model: Path | ModelProto) -> str | None:
    """None for a model that passes the full check of onnx; else the first line of what is wrong."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference raise their own types
        return first_line(error)
    return None


def save(proto: ModelProto, original: Model, path: Path) -> None:
    """Writes a model made from `original`.

    Where tensors of the original are external they stay so, with the large ones that are new, in one file beside the
    proto and named after it, even if only new ones are left: they too may be more than a proto can hold. Saving
    twice gives the same bytes.
    """
    if not original.has_external_data:
        path.write_bytes(proto.SerializeToString())
        return
    copy, moved = _to_move(proto, original)
    data = path.with_name(path.name + ".data")
    write_external(moved, original.path, data)
    if not any(map(is_external, moved)):
        data.unlink()
    path.write_bytes(copy.SerializeToString())


def saved_size(proto: ModelProto, original: Model, name: str) -> int:
    """Bytes of the artifact that `save` would write under a file name, proto and external data."""
    if not original.has_external_data:
        return size_in_file(proto)
    new = _new_in(proto, original)
    shell = emptied(proto, lambda tensor: tensor.name in new and will_move(tensor))
    pairs = zip(all_tensors(proto), all_tensors(shell), strict=True)
    moved = [(there, tensor) for tensor, there in pairs if is_external(tensor) or tensor.name in new]
    data = weigh_external(moved, original.path, f"{name}.data")
    return int(shell.ByteSize()) + data


def _to_move(proto: ModelProto, original: Model) -> tuple[ModelProto, list[TensorProto]]:
    """A copy, and those of its tensors that belong into the data file if they are large enough."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    new = _new_in(copy, original)
    return copy, [tensor for tensor in all_tensors(copy) if is_external(tensor) or tensor.name in new]


def _new_in(proto: ModelProto, original: Model) -> set[str]:
    known = {tensor.name for tensor in original.proto.graph.initializer}
    return {tensor.name for tensor in proto.graph.initializer} - known
