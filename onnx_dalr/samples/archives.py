"""What an archive of arrays claims to hold, before any of it is loaded."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.samples.files import printable

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
    total = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            where = f"{path}: '{printable(info.filename)}'"
            if not info.filename.isprintable():
                raise InputError(f"{where} in it is no name of an input", "write it with numpy.savez")
            if info.compress_type not in _METHODS:
                raise InputError(f"{where} is compressed as numpy does not write it", "write it with numpy.savez")
            with archive.open(info) as member:
                claimed = _claimed(member, where)
            if claimed > info.file_size:
                raise InputError(
                    f"{where} claims to be an array of {claimed:,} bytes and has {info.file_size:,}",
                    "is the file complete? write it again",
                )
            total += info.file_size
    size = path.stat().st_size
    if total > _ALWAYS_FITS and total > _MOST_RATIO * size:
        raise InputError(
            f"{path}: its {size:,} bytes would become {total:,} in memory, as a decompression bomb's would",
            "if it is none, write the arrays with numpy.savez, uncompressed, or split them into several files",
        )


def _claimed(member: IO[bytes], where: str) -> int:
    """Bytes of the array that a member's header announces; 0 where it is no array."""
    start = member.read(8)
    if start[:6] != b"\x93NUMPY":
        return 0
    version = (start[6], start[7]) if len(start) == 8 else (0, 0)
    wide = version != (1, 0)
    count = member.read(4 if wide else 2)
    length = int.from_bytes(count, "little")
    if length > _MOST_HEADER:
        raise InputError(f"{where} begins with a header of {length:,} bytes", "write it with numpy.savez")
    header = io.BytesIO(count + member.read(length))
    # Version 3 differs from 2 only in the names of record fields.
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    shape, _, dtype = read(header)
    return math.prod(shape) * dtype.itemsize
