"""Every file a run writes: what could stand in the way, found out before the work, and all of them in place at once."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError

PathLike = str | os.PathLike[str]
"""A path, as everybody gives it."""

_HINT = "check the folder, its rights and the room on its disk"
_REPLACE = "give another name, or --force to replace it"
_NO_SAMPLES = (".onnx", ".data", ".json")
"""What an earlier run may have left among the samples."""


@dataclass(frozen=True)
class ToWrite:
    """A file that a run is going to write.

    Attributes:
        path: Where it goes.
        option: What names it on the command line, `--json` say; "" for the model and its data file.
        replaces: An existing one may be replaced.
        stays: It is going to be there after the run; not so the model of a dry run.
    """

    path: Path
    option: str = ""
    replaces: bool = True
    stays: bool = True

    def __str__(self) -> str:
        return f"{self.option} {self.path}" if self.option else str(self.path)


@dataclass(frozen=True)
class ReadsAndWrites:
    """All files of a run, as they are known before its work.

    Attributes:
        reads: Files, and folders of samples.
        writes: In the order in which they are checked.
    """

    reads: tuple[Path, ...]
    writes: tuple[ToWrite, ...]

    def check(self) -> None:
        """Finds out whether everything could be written after the work; nothing is there afterwards that was not.

        Raises:
            InputError: A file would overwrite one that is read, another that is written, or an existing one that may
                not be replaced; it is no regular file; it cannot be written.
        """
        taken = list(self.reads)
        for file in self.writes:
            self._check_clash(file, taken)
            _check_regular(file)
            if file.path.exists() and not file.replaces:
                raise InputError(f"{file} exists already", _REPLACE)
            if file.stays:
                if not file.option and not file.path.parent.is_dir():
                    raise InputError(f"no such folder: {file.path.parent}", "make it first")
                try_writing(file.path)
            taken.append(file.path)

    def _check_clash(self, file: ToWrite, taken: list[Path]) -> None:
        others = taken if file.option else self.reads  # the model comes first: no option of ours can be in its way
        if not any(same_file(file.path, other) or _is_sample(file.path, other) for other in others):
            return
        if file.option:
            raise InputError(f"{file} would overwrite another file of this run", "give it its own name")
        raise InputError(f"{file} is read by this run", "give the output another name")


class Files:
    """What is to be written by one run, each file in a folder of its own beside where it goes."""

    def __init__(self, stack: ExitStack) -> None:
        """Takes the stack that clears the folders away."""
        self._stack = stack
        self._staged: list[tuple[Path, Path, bool] | None] = []

    @contextmanager
    def at(self, output: Path, *, force: bool) -> Iterator[Path]:
        """A path to write to in place of `output`; files written beside it go along and are moved before it.

        The folder it lies in is made beside the target, so that moving copies nothing but what links lead elsewhere.

        Raises:
            InputError: The target exists and `force` is not given; it is a folder; it cannot be written.
        """
        with _blaming(output):
            _check(output, force)
            folder = self._beside(leads_to(output))
            place = len(self._staged)
            self._staged.append(None)
            yield folder / output.name
            self._staged[place] = (folder, output, force)  # whole, and moved in the order they were begun

    def write_text(self, output: Path, text: str, *, force: bool) -> None:
        """Writes a text as UTF-8, its line ends as they are.

        Raises:
            InputError: As `at`.
        """
        with self.at(output, force=force) as path:
            path.write_bytes(text.encode())

    def move(self) -> None:
        """Moves everything into place; where one of them cannot go, what was there before is there again.

        Raises:
            InputError: One cannot be written, or appeared meanwhile and `force` was not given.
        """
        moves: list[tuple[Path, Path]] = []
        for folder, output, force in filter(None, self._staged):
            with _blaming(output):
                # Data files first: a model that is there can be read.
                for file in sorted(folder.iterdir(), key=lambda file: file.name == output.name):
                    target = leads_to(output.with_name(file.name))
                    _check(target, force)
                    written = file
                    if target.parent != folder.parent:  # perhaps on another disk: only the last step may be a move
                        written = Path(shutil.move(file, self._beside(target) / target.name))
                    if target.exists():  # who could read the old one can read the new
                        written.chmod(stat.S_IMODE(target.stat().st_mode))
                    _sync(written)
                    moves.append((written, target))
        undo: list[tuple[Path, Path, Path]] = []
        try:
            for written, target in moves:
                with _blaming(target):
                    if len(moves) > 1:  # one alone is one step, with nothing to take back
                        old = Path(tempfile.mkdtemp(dir=written.parent)) / target.name
                        undo.append((written, target, old))
                        _keep(target, old)
                    written.replace(target)
        except BaseException:  # an interrupt too
            for written, target, old in reversed(undo):
                with suppress(OSError):
                    _put_back(written, target, old)
            raise

    def _beside(self, target: Path) -> Path:
        made = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
        return Path(self._stack.enter_context(made))


@contextmanager
def together() -> Iterator[Files]:
    """Files of one run: all are moved into place when the block ends without an error, or none of them.

    As far as a file system allows: each move is one step, and what fails between two of them is undone. Whatever
    happens in the block, nothing half-written stays behind. A file that replaces another has its permissions, a new
    one those of new files here; a symbolic link stays, and what it leads to is written.
    """
    with ExitStack() as stack:
        files = Files(stack)
        yield files
        files.move()


@contextmanager
def staged(output: Path, *, force: bool = True) -> Iterator[Path]:
    """A path to write one artifact to, moved to `output` in one step when the block ends without an error.

    Raises:
        InputError: As `Files.at` and `Files.move`.
    """
    with together() as files, files.at(output, force=force) as written:
        yield written


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step, in place of an older one.

    Raises:
        InputError: It cannot be written.
    """
    with together() as files:
        files.write_text(path, text, force=True)


def try_writing(path: Path) -> None:
    """Finds out whether a file could be written there; what is there stays.

    Raises:
        InputError: It could not.
    """
    place = leads_to(path)
    with _blaming(path), tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        (Path(folder) / place.name).touch()


def files_read(*given: Any, code: Sequence[Any] = ()) -> list[Path]:
    """Files and folders among what a user gave; of "file.py:function" the file."""
    named = [text.rpartition(":")[0] or None for text in code if isinstance(text, str)]
    return [Path(path) for path in (*given, *named) if isinstance(path, str | os.PathLike)]


def leads_to(path: Path) -> Path:
    """Where a file is that is written at a path: what a symbolic link there leads to; a link to itself is its own."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def near_path(path: Path) -> Path:
    """A path as somebody writes it who stands in the current folder: relative to it where there is such a path."""
    try:
        return Path(os.path.relpath(path))
    except ValueError:  # on another drive
        return path


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are or would be the same file, links followed."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)  # `Path.resolve` raises at a link to itself


def _is_sample(file: Path, given: Path) -> bool:
    """Whether a file lies in a folder of samples and may be one of them: no model or report of an earlier run."""
    if not given.is_dir() or not file.is_file() or file.suffix.lower() in _NO_SAMPLES:
        return False
    return given.resolve() in file.resolve().parents


def _check_regular(file: ToWrite) -> None:
    hint = "give the name of a file" if file.option else "give the name of the .onnx file to write"
    if file.path.is_dir() and not file.option:
        raise InputError(f"{file} is a folder", hint)
    if file.path.exists() and not file.path.is_file():
        raise InputError(f"{file} is no regular file", hint)


def _check(output: Path, force: bool) -> None:
    """What is looked for once more when a file is written: the work takes a while."""
    if output.is_dir():
        raise InputError(f"{output} is a folder", "give the name of the file to write")
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is no regular file", "give the name of the file to write")
    if output.exists() and not force:
        raise InputError(f"{output} exists already", _REPLACE)


def _keep(target: Path, old: Path) -> None:
    """Makes what is at the target, if anything is, be at `old` too."""
    if not os.path.lexists(target):
        return
    try:
        os.link(target, old, follow_symlinks=False)  # so the target is never missing
    except (OSError, NotImplementedError):  # a file system without links
        target.replace(old)


def _put_back(written: Path, target: Path, old: Path) -> None:
    if os.path.lexists(old):
        old.replace(target)
    elif not written.exists():  # it was moved; what is there otherwise is not ours
        target.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}", _HINT) from error
