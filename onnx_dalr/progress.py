"""How a long run says where it is: a protocol, and the silent one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Where the pipeline reports to; the command line shows it, the Python API is silent by default."""

    def say(self, line: str) -> None:
        """A fact worth a line."""
        ...

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """A stretch of work of `total` steps; the context's value is called with the steps done since."""
        ...


class Silent:
    """Reports nothing."""

    def say(self, line: str) -> None:
        """Does nothing with the line."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Does nothing with the steps."""
        del name, total
        yield lambda steps: None
