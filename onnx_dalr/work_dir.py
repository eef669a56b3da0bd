"""What a run leaves in a folder for the one that comes after it, should it be killed: records, each known by its key.

Nothing in it is trusted: a record that is damaged, or is another's, is passed over, and made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnx_dalr.errors import DalrError, InputError, one_line
from onnx_dalr.files import staged

_LOCK = "onnx-dalr.lock"
_PREFIX = "onnx-dalr-"


class WorkDir:
    """A folder of records, which one run has to itself.

    Attributes:
        path: Of the folder.
        taken: How many records of earlier runs were used, by kind.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        """Takes the folder, and who is told what is passed over."""
        self.path, self.taken = path, dict[str, int]()
        self._say = say

    def __str__(self) -> str:
        return f"--work-dir {self.path}"

    def place(self, kind: str, key: str, suffix: str) -> Path:
        """Where a record lies."""
        return self.path / f"{_PREFIX}{kind}-{key}{suffix}"

    def read(self, kind: str, key: str, suffix: str, reader: Callable[[Path], Any]) -> Any:
        """What a reader makes of a record; None where there is none that can be used.

        Args:
            kind: Of the record.
            key: Its key.
            suffix: Of its file.
            reader: Raises ValueError or InputError for what it does not trust.
        """
        path = self.place(kind, key, suffix)
        if not path.exists():
            return None
        try:
            found = reader(path)
        except (DalrError, ValueError, TypeError, KeyError, OSError) as error:
            why = error.message if isinstance(error, DalrError) else str(error)
            self._say(f"note: {path} is passed over, and made anew: {one_line(why)}")
            return None
        self.taken[kind] = self.taken.get(kind, 0) + 1
        return found

    def write(self, kind: str, key: str, suffix: str, writer: Callable[[Path], None]) -> None:
        """Puts a record into place in one step.

        Raises:
            InputError: It cannot be written.
        """
        with staged(self.place(kind, key, suffix)) as path:
            writer(path)

    def read_facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """A record of a few facts; None where there is none that can be used."""
        found: dict[str, Any] | None = self.read(kind, key, ".json", lambda path: _checked(path, key))
        return found

    def write_facts(self, kind: str, key: str, facts: dict[str, Any]) -> None:
        """Keeps a few facts: numbers, text, and lists and dicts of these.

        Raises:
            InputError: They cannot be written.
        """

        def writer(path: Path) -> None:
            path.write_bytes(_sealed(facts, key))

        self.write(kind, key, ".json", writer)


def _sealed(facts: dict[str, Any], key: str) -> bytes:
    return json.dumps({"key": key, "seal": key_of(key, facts), "facts": facts}, indent=1).encode()


def _checked(path: Path, key: str) -> dict[str, Any]:
    """Facts, as they were written.

    Raises:
        ValueError: They are not.
    """
    record = json.loads(path.read_bytes())
    facts = record["facts"] if isinstance(record, dict) else None
    if not isinstance(facts, dict) or record["key"] != key or record["seal"] != key_of(key, facts):
        raise ValueError("it is damaged")
    return facts


def key_of(*facts: object) -> str:
    """One name for everything that something depends on, to the last bit.

    Args:
        facts: Text, numbers, arrays, paths and dataclasses, and lists and dicts of these.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).

    Raises:
        TypeError: Something else is among them.
    """
    text = json.dumps(facts, sort_keys=True, default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(fact: Any) -> object:
    """A fact in other words, which JSON has."""
    if isinstance(fact, np.ndarray):
        return [fact.dtype.str, fact.shape, hashlib.blake2b(np.ascontiguousarray(fact).tobytes()).hexdigest()]
    if isinstance(fact, np.generic):
        return fact.item()
    if isinstance(fact, np.dtype | Path):
        return str(fact)
    if isinstance(fact, set | frozenset):
        return sorted(fact)
    if dataclasses.is_dataclass(fact) and not isinstance(fact, type):
        return [type(fact).__qualname__, {each.name: getattr(fact, each.name) for each in dataclasses.fields(fact)}]
    raise TypeError(f"{type(fact).__name__} is no fact that a key can be made of")


@contextmanager
def opened_work_dir(path: Path, say: Callable[[str], None]) -> Iterator[WorkDir]:
    """A folder of records, made where there is none, which no other run uses while the block runs.

    What a run that was killed has left half-written is cleared away.

    Args:
        path: Of the folder.
        say: Is told what is passed over.

    Raises:
        InputError: It is no folder, it cannot be written, or another run uses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / _LOCK).open("a+b") as lock:
            if not _locked(lock):
                raise InputError(f"--work-dir {path} is used by another run", "wait for it, or give another folder")
            for left in path.glob(f".{_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield WorkDir(path, say)
    except FileExistsError as error:
        raise InputError(f"--work-dir {path} is no folder", "give the name of a folder") from error
    except OSError as error:
        if error.filename is None or Path(error.filename) not in (path, path / _LOCK, *path.parents):
            raise
        raise InputError(
            f"--work-dir {path} cannot be used: {error.strerror or error}", "check the folder and its rights"
        ) from error


def _locked(file: IO[bytes]) -> bool:
    """Whether the lock is ours now; the system lets go of it when this process ends, however it does."""
    try:
        if os.name == "nt":
            import msvcrt  # noqa: PLC0415 - there alone

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl  # noqa: PLC0415 - not there

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
