"""External data: tensors that lie in files beside the model, mapped when read and written back as one file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from onnx_dalr.errors import InputError

_PAGE, _LINE = 4096, 64  # large tensors start on a page, so that a runtime can map them, small ones on a cache line
_LARGE = 1 << 20
_SMALLEST = 1024  # bytes from which a new tensor goes to the data file
_DAMAGED = "the file is damaged: export or download it again"
_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}


def is_external(tensor: TensorProto) -> bool:
    """Whether the values lie in a file of their own."""
    return bool(external_data_helper.uses_external_data(tensor))


def read_external(tensor: TensorProto, path: Path | None) -> NDArray[Any]:
    """The values of an external tensor as a read-only map of the file: only what is touched enters memory.

    Args:
        tensor: With its external data entries.
        path: Of the model file.

    Raises:
        InputError: The file is missing, too short, or not in the model's folder.
    """
    stored = map_bytes(tensor, path)
    if tensor.data_type in _BITS:  # several values a byte: unpacked by onnx
        return numpy_helper.to_array(
            TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=stored.tobytes())
        )
    return stored.view(_dtype(tensor)).reshape(tuple(tensor.dims))


def map_bytes(tensor: TensorProto, path: Path | None) -> NDArray[np.uint8]:
    """The bytes of an external tensor as they lie in its file, [bytes], as a read-only map.

    Raises:
        InputError: As `read_external`.
    """
    file, offset, needed = place(tensor, path)
    try:
        return np.memmap(file, np.uint8, "r", offset, (needed,)) if needed else np.zeros(0, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read the external data of {tensor.name!r}: {error.strerror or error}") from error


def place(tensor: TensorProto, path: Path | None) -> tuple[Path, int, int]:
    """Where an external tensor lies: file, first byte, and how many; nothing is read but the file's size.

    Raises:
        InputError: As `read_external`.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of keys it does not know
            info = external_data_helper.ExternalDataInfo(tensor)
        offset, length = int(info.offset or 0), int(info.length or 0)
    except ValueError as error:
        raise InputError(f"external data of {tensor.name!r} has no usable place: {error}", _DAMAGED) from error
    file, needed = data_file(info.location, tensor, path), tensor_bytes(tensor)
    if not file.is_file():
        hint = "keep it beside the .onnx file"
        if "\\" in info.location and Path(str(file).replace("\\", "/")).is_file():
            hint = "the model names it as on Windows, and here a \\ is part of a name: save it with / in its place"
        raise InputError(f"external data of {tensor.name!r} is missing: no file {file}", hint)
    if length not in (0, needed):
        raise InputError(f"external data of {tensor.name!r} has {length:,} bytes instead of {needed:,}", _DAMAGED)
    if file.stat().st_size < offset + needed:
        raise InputError(f"external data of {tensor.name!r} ends too early in {file.name}", _DAMAGED)
    return file, offset, needed


def follow_links(tensors: Iterable[TensorProto], path: Path) -> Path:
    """Makes external tensors refer to the files that links lead to, and returns the folder these are relative to.

    ONNX Runtime follows the links of a download cache for a model it opens by path, not for one in memory.
    """
    external = [tensor for tensor in tensors if is_external(tensor)]
    files = [place(tensor, path)[0].resolve() for tensor in external]
    folder = path.parent.resolve()
    if not all(file.is_relative_to(folder) for file in files):
        folder = path.resolve().parent
    for tensor, file in zip(external, files, strict=True):
        entry = next(entry for entry in tensor.external_data if entry.key == "location")
        if file.is_relative_to(folder):
            entry.value = file.relative_to(folder).as_posix()
    return folder


def tensor_bytes(tensor: TensorProto) -> int:
    """What the values of a tensor of its shape and type take, packed as raw data and data files are."""
    count = math.prod(tensor.dims)
    bits = _BITS.get(tensor.data_type)
    return (count * bits + 7) // 8 if bits else int(count * _dtype(tensor).itemsize)


def _dtype(tensor: TensorProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))


def data_file(location: str, tensor: TensorProto, path: Path | None) -> Path:
    """The file an external tensor lies in, if it may be read: it must be in the model's folder, links followed.

    Raises:
        InputError: It is elsewhere.
    """
    folder = path.parent if path is not None else Path()
    file = folder / location
    # A model file that is itself a link (a download cache) may have its data beside what it points to.
    allowed = {folder.resolve(), path.resolve().parent} if path is not None else {folder.resolve()}
    try:
        inside = any(file.resolve().is_relative_to(parent) for parent in allowed)
        file.exists()  # which raises where it cannot even be asked
    except (ValueError, RuntimeError, OSError) as error:  # a NUL in the name; a link to itself; a name too long
        raise InputError(f"the external data of {tensor.name!r} cannot be found: {error}", _DAMAGED) from error
    if Path(location).is_absolute() or ".." in Path(location).parts or not inside:
        raise InputError(
            f"external data of {tensor.name!r} points outside the model's folder: {location}",
            "a model that reads other files is not to be trusted",
        )
    return file


def write_external(tensors: Iterable[TensorProto], path: Path | None, data: Path) -> None:
    """Writes the values of tensors to one data file and makes them refer to it, relative to its folder.

    Args:
        tensors: External ones, whose values lie beside `path`, and new ones, whose values are inline.
        path: Of the model file they come from.
        data: The file to write.
    """
    with data.open("wb") as file:
        _move(tensors, path, data.name, file)


def weigh_external(tensors: Iterable[tuple[TensorProto, TensorProto]], path: Path | None, location: str) -> int:
    """The bytes `write_external` would write; the tensors come to refer to that file, which is not written.

    Args:
        tensors: Those that come to refer to it, which may lack their values, each with the one that has them.
        path: Of the model file they come from.
        location: Of the data file.
    """
    end = 0
    for there, tensor in tensors:
        if is_external(tensor) or will_move(tensor):
            length = place(tensor, path)[2] if is_external(tensor) else tensor_bytes(tensor)
            start = end + _padding(end, length)
            end = start + length
            there.ClearField("raw_data")
            _refer(there, location, start, length)
    return end


def will_move(tensor: TensorProto) -> bool:
    """Whether a new tensor is large enough for the data file."""
    return tensor.HasField("raw_data") and tensor_bytes(tensor) >= _SMALLEST


def _move(tensors: Iterable[TensorProto], path: Path | None, location: str, file: BinaryIO) -> None:
    for tensor in tensors:
        if is_external(tensor):
            _append(tensor, map_bytes(tensor, path).data, location, file)
        elif will_move(tensor):
            values = tensor.raw_data
            tensor.ClearField("raw_data")
            _append(tensor, values, location, file)


def _append(tensor: TensorProto, values: bytes | memoryview, location: str, file: BinaryIO) -> None:
    file.write(b"\0" * _padding(file.tell(), len(values)))
    offset = file.tell()
    file.write(values)
    _refer(tensor, location, offset, file.tell() - offset)


def _padding(end: int, length: int) -> int:
    """Bytes between the end of a data file and where a tensor of this length begins."""
    return -end % (_PAGE if length >= _LARGE else _LINE)


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def external_files(tensors: Iterable[TensorProto]) -> set[str]:
    """The external data files that tensors name, relative to the model's folder."""
    return {
        entry.value
        for tensor in tensors
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
