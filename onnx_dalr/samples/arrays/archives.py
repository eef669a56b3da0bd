"""What files of arrays claim to hold, before any of it is loaded."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from onnx_dalr.errors import InputError, one_line

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_HEADER = 65_536

# Deflate makes at most 1032 bytes of one. Real data with masks and zeros stays far below: an archive that would fill
# memory with nothing is refused, one below the first figure always fits.
_ALWAYS_FITS = 2_000_000_000
_MOST_RATIO = 100


def check_archive(path: Path) -> None:
    """Checks that the members of an `.npz` hold what they claim, and together no more than such a file can mean.

    Args:
        path: A zip file; other files are left to the loader's error.

    Raises:
        InputError: A member that claims more than it holds, a compression that numpy does not write, a name with
            control characters, a decompression bomb.
        Exception: Whatever zipfile and numpy raise on broken files.
    """
    if not zipfile.is_zipfile(path):
        return
    total, name = 0, one_line(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            where = f"{name}: '{one_line(info.filename)}'"
            if not info.filename.isprintable():
                raise InputError(f"{where} in it is no name of an input", "write it with numpy.savez")
            if info.compress_type not in _METHODS:
                raise InputError(f"{where} is compressed as numpy does not write it", "write it with numpy.savez")
            with archive.open(info) as member:
                _check_claim(member, info.file_size, where)
            total += info.file_size
    size = path.stat().st_size
    if total > _ALWAYS_FITS and total > _MOST_RATIO * size:
        raise InputError(
            f"{name}: its {size:,} bytes would become {total:,} in memory, as a decompression bomb's would",
            "if it is none, write the arrays with numpy.savez, uncompressed, or split them into several files",
        )


def check_array(path: Path) -> None:
    """Checks that a `.npy` file holds the array that it claims to hold.

    Raises:
        InputError: It does not.
        Exception: Whatever numpy raises on broken files.
    """
    with path.open("rb") as file:
        _check_claim(file, path.stat().st_size, f"{one_line(path)}: it")


def _check_claim(file: IO[bytes], size: int, where: str) -> None:
    """Compares the array that a header announces with the bytes there are; what is no array is left to the loader."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY":
        return
    wide = start[6:8] != b"\x01\x00"
    count = file.read(4 if wide else 2)
    length = int.from_bytes(count, "little")
    if length > _MOST_HEADER:
        raise InputError(f"{where} begins with a header of {length:,} bytes", "write it with numpy.savez")
    header = io.BytesIO(count + file.read(length))
    # Version 3 differs from 2 only in the names of record fields.
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    shape, _, dtype = read(header)
    # numpy 2.4 divides by zero, and takes Python with it, where it maps entries of no bytes with a length of −1.
    if dtype.itemsize == 0 or any(length < 0 for length in shape):
        raise InputError(
            f"{where} claims to be an array of shape {list(shape)} of entries of {dtype.itemsize} bytes",
            "write it again with numpy.save or numpy.savez",
        )
    claimed = math.prod(shape) * dtype.itemsize
    # Python objects are pickled, in any number of bytes; the loader refuses them.
    if claimed > size and not dtype.hasobject:
        raise InputError(
            f"{where} claims to be an array of {claimed:,} bytes and has {size:,}",
            "is the file complete? write it again",
        )
