"""What a folder holds, in the order people read it, and names that are fit to be printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted

from onnx_dalr.errors import InputError, one_line


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in natural order (2 before 10), without hidden ones and the leftovers of macOS archives."""
    # Sorted first: names that are equal in natural order (1, 01) must not depend on the file system.
    names = natsorted(sorted(entry.name for entry in folder.iterdir()))
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]


def visible_files(folder: Path) -> Iterator[Path]:
    """All visible files of a folder and, after them, of the folders in it; links to folders are not followed."""
    # A stack in place of recursion: folders can be nested deeper than Python's calls.
    left = [folder]
    while left:
        entries = visible(left.pop())
        yield from (entry for entry in entries if not entry.is_dir())
        left.extend(entry for entry in reversed(entries) if entry.is_dir() and not entry.is_symlink())


def check_regular(path: Path) -> None:
    """Refuses what is no file: reading a pipe or a device could wait forever.

    Raises:
        InputError: It exists and is neither a file nor a folder.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{one_line(path)}: this is no file but a pipe, a socket or a device", "take it away")
