"""Files that come into place together: written beside their destinations, moved when all is done, or none of them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from onnx_dalr.errors import InputError

_HINT = "check the folder, its rights and the room on its disk"


class Files:
    """What is to be written by one run, each file in a folder of its own beside where it goes."""

    def __init__(self, stack: ExitStack) -> None:
        """Takes the stack that clears the folders away."""
        self._stack = stack
        self._staged: list[tuple[Path, Path, bool] | None] = []

    @contextmanager
    def at(self, output: Path, *, force: bool) -> Iterator[Path]:
        """A path to write to in place of `output`; files written beside it go along and are moved before it.

        The folder it lies in is made beside the target, so that moving never copies.

        Raises:
            InputError: The target exists and `force` is not given; it is a folder; its folder is not there or cannot be
                written.
        """
        _check(output, force)
        with _blaming(output):
            made = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
            folder = Path(self._stack.enter_context(made))
            place = len(self._staged)
            self._staged.append(None)
            yield folder / output.name
            self._staged[place] = (folder, output, force)  # whole, and moved in the order they were begun

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
                    target = output.with_name(file.name)
                    _check(target, force)
                    if target.exists():
                        file.chmod(stat.S_IMODE(target.stat().st_mode))  # who could read the old one can read the new
                    _sync(file)
                    moves.append((file, target))
        undo: list[tuple[Path, Path, Path]] = []
        try:
            for written, target in moves:
                with _blaming(target):
                    old = Path(tempfile.mkdtemp(dir=written.parent)) / target.name
                    undo.append((written, target, old))
                    _keep(target, old)
                    written.replace(target)
        except BaseException:  # an interrupt too
            for written, target, old in reversed(undo):
                with suppress(OSError):
                    _put_back(written, target, old)
            raise


@contextmanager
def together() -> Iterator[Files]:
    """Files of one run: all are moved into place when the block ends without an error, or none of them.

    As far as a file system allows: each move is one step, and what fails between two of them is undone. Whatever
    happens in the block, nothing half-written stays behind.
    """
    with ExitStack() as stack:
        files = Files(stack)
        yield files
        files.move()


@contextmanager
def staged(output: Path, *, force: bool) -> Iterator[Path]:
    """A path to write one artifact to, moved to `output` in one step when the block ends without an error.

    Raises:
        InputError: As `Files.at` and `Files.move`.
    """
    with together() as files, files.at(output, force=force) as written:
        yield written


def _check(output: Path, force: bool) -> None:
    if output.is_dir():
        raise InputError(f"{output} is a folder", "give the name of the file to write")
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is no regular file", "give the name of the file to write")
    if output.exists() and not force:
        raise InputError(f"{output} exists already", "give another name, or --force to replace it")
    if not output.parent.is_dir():
        raise InputError(f"no such folder: {output.parent}", "make it first")


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
