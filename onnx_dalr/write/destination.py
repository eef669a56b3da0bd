"""Where results go: found out before the work, written in one move after it, and never over something else."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from onnx import ModelProto

from onnx_dalr.errors import InputError, NothingToGainError
from onnx_dalr.files import Files, staged
from onnx_dalr.graph.storage.model import Model, artifact_size, save
from onnx_dalr.session.session import check_path

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Destination:
    """Files one run writes.

    Attributes:
        output: The model, or None.
        report: The JSON report, or None; "-" is standard output and none of ours.
        force: Existing files may be replaced; a report may be in any case.
        dry_run: The model is written nowhere that lasts.
        thumbnails: The sheet of images, or None.
    """

    output: Path | None
    report: Path | None
    force: bool
    dry_run: bool
    thumbnails: Path | None = None

    def check(self, original: Model, read: Sequence[Path], more: Mapping[str, Path | None] | None = None) -> None:
        """Finds out before the work whether everything could be written after it.

        Args:
            original: The input model.
            read: What else the run reads.
            more: What else it writes, by option; as precious as the model.

        Raises:
            InputError: Something would be overwritten, or cannot be written.
        """
        inputs = [*([original.path] if original.path else []), *original.data_files, *read]
        if self.output is not None:
            self._check_output(original, inputs)
        if self.report is not None and self.report != STANDARD_OUTPUT:
            self._check_beside("--json", self.report, [*inputs, *self._written(original)])
            write_text(self.report, None)
        if self.thumbnails is not None:
            others = [*inputs, *self._written(original), *([self.report] if self.report else [])]
            self._check_beside("--thumbnails", self.thumbnails, others)
        taken = [*inputs, *self._written(original), *filter(None, (self.report, self.thumbnails))]
        for option, file in (more or {}).items():
            if file is not None:
                self._check_beside(option, file, taken)
                if file.exists() and not self.force and not self.dry_run:
                    raise InputError(f"{option} {file} exists already", "give another name, or --force to replace it")
                write_text(file, None)
                taken.append(file)

    def _check_output(self, original: Model, inputs: Sequence[Path]) -> None:
        assert self.output is not None
        if original.path is not None and same_file(self.output, original.path):
            raise InputError("the output is the input", "give the output another name; the original is never replaced")
        check_path(self.output)  # it is going to be verified
        for file in self._written(original):
            if any(same_file(file, given) or _is_sample(file, given) for given in inputs):
                raise InputError(f"{file} is read by this run", "give the output another name")
            if file.is_dir():
                raise InputError(f"{file} is a folder", "give the name of the .onnx file to write")
            if file.exists() and not file.is_file():
                raise InputError(f"{file} is no regular file", "give the name of the .onnx file to write")
            if file.exists() and not self.force and not self.dry_run:
                raise InputError(f"{file} exists already", "give another name, or --force to replace it")
        if not self.dry_run:
            with staged(self.output, force=self.force) as stage:
                stage.touch()
                stage.unlink()

    def _written(self, original: Model) -> list[Path]:
        """The model and the data file that comes with it."""
        if self.output is None:
            return []
        data = [self.output.with_name(self.output.name + ".data")] if original.has_external_data else []
        return [self.output, *data]

    def _check_beside(self, option: str, file: Path, others: Sequence[Path]) -> None:
        if any(same_file(file, other) or _is_sample(file, other) for other in others):
            raise InputError(f"{option} {file} would overwrite another file of this run", "give it its own name")
        if file.exists() and not file.is_file():
            raise InputError(f"{option} {file} is no regular file", "give the name of a file")

    @contextmanager
    def place(self, files: Files) -> Iterator[Path]:
        """Where the model is written to be verified: beside its destination, or nowhere that lasts."""
        if self.output is not None and not self.dry_run:
            with files.at(self.output, force=self.force) as written:
                yield written
            return
        try:
            with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
                yield Path(folder) / (self.output.name if self.output else "model.onnx")
        except OSError as error:
            raise InputError(
                f"cannot write to the temporary folder: {error.strerror or error}", "set TMPDIR to one with room"
            ) from error


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are or would be the same file, links followed."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _is_sample(file: Path, given: Path) -> bool:
    """Whether a file lies in a folder of samples and may be one of them: no model or report of an earlier run."""
    if not given.is_dir() or not file.is_file() or file.suffix.lower() in (".onnx", ".data", ".json"):
        return False
    return given.resolve() in file.resolve().parents


def write_text(path: Path, text: str | None) -> None:
    """Writes a text file in one step, through a temporary file beside it; None only tries whether that would work.

    Raises:
        InputError: It cannot be written.
    """
    with replacing(path, keep=text is not None) as file:
        file.write((text or "").encode("utf-8"))


@contextmanager
def replacing(path: Path, *, keep: bool = True) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when the block ends without an error; `keep` false only tries.

    Raises:
        InputError: It cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            made = Path(file.name)
            try:
                yield file
                file.close()
                if keep:
                    made.chmod(_mode(path))
                    made.replace(path)
                else:
                    made.unlink()
            except BaseException:
                made.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}", "check the folder, its rights and the room on its disk"
        ) from error


def _mode(path: Path) -> int:
    """Permissions of the file that is replaced, else those a new file gets here."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextmanager
def loadable(original: Model, proto: ModelProto, name: str) -> Iterator[tuple[Path | bytes, int]]:
    """A candidate as ONNX Runtime can load it, from memory, or from disk where it may be too large for that.

    Also what the artifact weighs under the name of a file.
    """
    if not original.has_external_data:
        made = proto.SerializeToString()
        yield made, len(made)
        return
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
        save(proto, original, Path(folder) / name)
        yield Path(folder) / name, artifact_size(Path(folder) / name)


def refuse_larger(written: Path, original: Model) -> int:
    """The size of the written artifact.

    Raises:
        NothingToGainError: It is not smaller than the original.
    """
    size = artifact_size(written) if original.has_external_data else written.stat().st_size
    if size >= original.size:
        raise NothingToGainError(
            f"nothing to gain: at these ranks the file would have {size:,} bytes instead of {original.size:,}",
            "ask for a smaller model, --params 50% for example",
        )
    return size
