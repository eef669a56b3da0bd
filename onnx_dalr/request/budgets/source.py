"""Where a budget is said: on the command line, or in a table of a config file; how messages point there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.files import near_path
from onnx_dalr.request.option import Option
from onnx_dalr.request.table import of_command

OPTIONS = of_command("check")


@dataclass(frozen=True)
class Where:
    """What to change to change a limit.

    Attributes:
        key: The option, or the key in the file.
        file: The config file, None for an option.
        line: The line in it, None where it was not found.
        budget: Which of the budgets of the file it belongs to, from 0; None for an option.
    """

    key: str
    file: Path | None = None
    line: int | None = None
    budget: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return self.key
        place = f"budgets[{self.budget}] of {self.file}" if self.line is None else f"{self.file}:{self.line}"
        return f"{self.key} in {place}"


@dataclass(frozen=True)
class Source:
    """Options, or one table of budgets of a config file.

    Attributes:
        file: The config file, as it is shown; None for options.
        folder: What paths in it are relative to.
        position: Which of the budgets it is, from 0.
        lines: The line of each key in the file, and under "" of the table, as far as they are known.
    """

    file: Path | None = None
    folder: Path = field(default_factory=Path)
    position: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)

    def word(self, name: str) -> str:
        """How what Python calls `name` is written here."""
        return OPTIONS[name].flag if self.file is None else key_of(OPTIONS[name])

    def where(self, name: str) -> Where:
        """What to change to change it."""
        key = self.word(name)
        return Where(key) if self.file is None else Where(key, self.file, self.lines.get(key), self.position)

    def said(self, name: str, value: Any) -> str:
        """The limit as it is written here."""
        if self.file is None:
            return f"{self.word(name)} {value}"
        return f'{self.word(name)} = "{value}"' if isinstance(value, str) else f"{self.word(name)} = {value}"

    def add(self, name: str, value: str) -> str:
        """A hint to give one thing more."""
        return f"add {self.word(name)} {value}" if self.file is None else f'add {self.word(name)} = "{value}"'

    def error(self, message: str, hint: str = "", *, at: str = "") -> InputError:
        """An error that begins with the place, of the key of the thing that Python calls `at`."""
        if self.file is None:
            return InputError(message, hint)
        line = self.lines.get(self.word(at) if at else "")
        return InputError(f"{placed(self.file, line, self.position)}: {message}", hint)

    def path(self, path: str | PathLike[str]) -> Path:
        """A path that is given here, from where the command runs; either slash parts folders in a config."""
        if self.file is None:
            return Path(path)
        return near_path(self.folder / str(path).replace("\\", "/"))


def key_of(option: Option) -> str:
    """How a config writes an option."""
    return option.flag.removeprefix("--")


def placed(file: Path, line: int | None, position: int) -> str:
    """Where in a file: a line, or a table where the line is not known."""
    return f"{file}: budgets[{position}]" if line is None else f"{file}:{line}"
