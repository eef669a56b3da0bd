"""What every command shares: exit codes, one line and a hint for errors, progress on a terminal and off it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError, InputError, one_line

PLAIN_WIDTH = 120
EXIT_BUG = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


class Terminal(Console):
    """A console whose reader may go away: `onnx-dalr inspect model.onnx | head` ends well."""

    def on_broken_pipe(self) -> None:
        """Leaves quietly."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


out = Terminal(highlight=False)
if not out.is_terminal:
    out.width = PLAIN_WIDTH
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turns what goes wrong into one line, a hint and the right exit code (DESIGN.md, Contracts)."""

    def interrupt(number: int, frame: Any) -> None:
        del number, frame
        raise KeyboardInterrupt

    # A closed terminal (SIGHUP) must leave no half-written file either; `nohup` has it ignored, and so it stays.
    ends = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in ends}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
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
            out.on_broken_pipe()
        complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        raise typer.Exit(EXIT_INPUT) from error
    except typer.Exit:
        raise
    except Exception as error:
        traceback.print_exc()
        complain(
            f"a bug in onnx-dalr {__version__}: {type(error).__name__}: {error}",
            "please report it with the lines above",
        )
        raise typer.Exit(EXIT_BUG) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(message: str, hint: str = "") -> None:
    """An error, and what to do about it, on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), message))
    if hint:
        err.print(Text.assemble(("hint: ", "bold"), hint))


def show(view: RenderableType) -> None:
    """A report on stdout: with colours on a terminal, as plain text elsewhere."""
    if out.is_terminal:
        out.print(view)
        return
    from onnx_dalr.report.text import as_text  # noqa: PLC0415 - not for --help

    out.print(Text(as_text(view)), soft_wrap=True)


def write_json(path: Path | None, text: str, read: Sequence[Path]) -> None:
    """Writes a report file, "-" to standard output; None writes nothing.

    Raises:
        InputError: It cannot be written, or is one of the files in `read`.
    """
    from onnx_dalr.destination import same_file, write_text  # noqa: PLC0415 - heavy: not for --help

    if path is None:
        return
    if str(path) == "-":
        sys.stdout.write(text)
        return
    if any(same_file(path, file) for file in read):
        raise InputError(f"--json {path} would overwrite another file of this run", "give it its own name")
    if path.exists() and not path.is_file():
        raise InputError(f"--json {path} is no regular file", "give the name of a file")
    write_text(path, text)


class TerminalProgress:
    """Lines of fact on stderr; stages as bars with the time left, or as one line each where it is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, line: str) -> None:
        """Prints a fact."""
        if not self._quiet:
            err.print(Text(one_line(line), style="dim"))

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
