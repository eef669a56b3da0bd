"""What every command shares: exit codes, one line and a hint for errors, progress on a terminal and off it."""

from __future__ import annotations

import errno
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError, InputError

PLAIN_WIDTH = 120
EXIT_BUG = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

out = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turns what goes wrong into one line, a hint and the right exit code (DESIGN.md, Contracts)."""

    def interrupt(number: int, frame: Any) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except DalrError as error:
        complain(error.message, error.hint)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        complain("interrupted: nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except MemoryError as error:
        complain("out of memory", "try a smaller --batch-size, or --exclude the largest layers")
        raise typer.Exit(EXIT_INPUT) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise typer.Exit(0) from error
        complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        raise typer.Exit(EXIT_INPUT) from error
    except typer.Exit:
        raise
    except Exception as error:
        traceback.print_exc()
        complain(
            f"a bug in onnx-dalr {__version__}: {type(error).__name__}: {error}",
            "please report it with the lines above; nothing was written",
        )
        raise typer.Exit(EXIT_BUG) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def complain(message: str, hint: str = "") -> None:
    """An error, and what to do about it, on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), message))
    if hint:
        err.print(Text.assemble(("hint: ", "bold"), hint))


def write_json(path: Path, text: str) -> None:
    """Writes a report file; "-" is standard output.

    Raises:
        InputError: It cannot be written.
    """
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


class TerminalProgress:
    """Lines of fact on stderr; stages as bars with the time left, or as one line each where it is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, line: str) -> None:
        """Prints a fact."""
        if not self._quiet:
            err.print(Text(line, style="dim"))

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Shows a stretch of work."""
        if self._quiet:
            yield lambda steps: None
        elif err.is_terminal:
            with _bar() as bar:
                task = bar.add_task(name, total=total or None)
                yield lambda steps: bar.advance(task, steps)
        else:
            start, done = time.perf_counter(), [0]
            yield lambda steps: done.__setitem__(0, done[0] + steps)
            self.say(f"{name}: {done[0]} in {time.perf_counter() - start:.1f} s")


def _bar() -> Any:
    from rich.progress import (  # noqa: PLC0415 - only on a terminal
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True)
