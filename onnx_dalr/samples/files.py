"""What a folder holds, in the order people read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in natural order (2 before 10), without hidden ones and the leftovers of macOS archives."""
    # Sorted first: names that are equal in natural order (1, 01) must not depend on the file system.
    names = natsorted(sorted(entry.name for entry in folder.iterdir()))
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]


def visible_files(folder: Path) -> Iterator[Path]:
    """All visible files of a folder and, after them, of the folders in it; links to folders are not followed."""
    entries = visible(folder)
    yield from (entry for entry in entries if not entry.is_dir())
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from visible_files(entry)
