"""What every command shares: exit codes, one line and a hint for errors, where reports go."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from onnx_dalr._version import __version__
from onnx_dalr.cli.console import json_for
from onnx_dalr.cli.consoles import err, out
from onnx_dalr.cli.parameters import as_python
from onnx_dalr.cli.progress import TerminalProgress
from onnx_dalr.errors import DalrError, InputError, one_line
from onnx_dalr.files import ReadsAndWrites, ToWrite, write_text

if TYPE_CHECKING:
    from onnx_dalr.results.result import Result

EXIT_BUG = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

_BOTH = "--json and --markdown are both for standard output"
_ONE_FILE = "give one of them the name of a file"

__all__ = [
    "EXIT_BUG",
    "EXIT_INPUT",
    "EXIT_INTERRUPTED",
    "TerminalProgress",
    "check_json",
    "complain",
    "err",
    "exit_codes",
    "make_model",
    "out",
    "print_json",
    "reporting_on",
    "show",
    "show_line",
    "write_json",
    "write_markdown",
]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turns what goes wrong into one line, a hint and the right exit code (README, Exit codes)."""

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
    """A report on stdout: with colours on a terminal, as plain text elsewhere.

    Raises:
        InputError: It cannot be written there.
    """
    if out.is_terminal:
        with _on_stdout():
            out.print(view)
        return
    from onnx_dalr.report.text import as_text  # noqa: PLC0415 - not for --help

    show_line(Text(as_text(view)))


def show_line(line: Text) -> None:
    """Lines on stdout, broken nowhere else, however long.

    Raises:
        InputError: They cannot be written there.
    """
    with _on_stdout():
        out.print(line, soft_wrap=True)


def print_json(text: str) -> None:
    """JSON on stdout.

    Raises:
        InputError: It cannot be written there.
    """
    with _on_stdout():
        sys.stdout.write(json_for(sys.stdout, text))
        sys.stdout.flush()


def make_model(command: str, run: Callable[..., Result], given: dict[str, Any]) -> None:
    """Runs a command that makes a model, and shows the report: as a table, or as JSON or Markdown where that is "-".

    Raises:
        InputError: An option cannot be used; or the report cannot be written, and the run has written no file.
    """
    from onnx_dalr.report.result import result_view  # noqa: PLC0415 - heavy: not for --help

    verbose, quiet, markdown = (given.pop(name) for name in ("verbose", "quiet", "markdown"))
    if markdown is not None:
        if str(markdown) == str(given["json"]) == "-":
            raise InputError(_BOTH, _ONE_FILE)
        check_json(None, [file for file in given.values() if isinstance(file, Path)], markdown=markdown)
    if given["output"] is None and not given["dry_run"]:
        raise InputError("OUT.onnx is missing: where is the smaller model to go?", "name it, or use --dry-run")
    result = run(**as_python(command, given), progress=TerminalProgress(quiet=quiet))
    with reporting_on(result.output):
        write_markdown(markdown, lambda width: result_view(result, width, verbose=verbose))
        if str(given["json"]) == "-":
            print_json(result.to_json())
        elif str(markdown) != "-":
            show(result_view(result, out.width, verbose=verbose))


@contextmanager
def _on_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write to standard output: {error.strerror or error}") from error


@contextmanager
def reporting_on(*files: Path | None) -> Iterator[None]:
    """Around the report of a run that has written its files: they are there, whether the report can be shown or not.

    Args:
        files: What the run was to write; where that is nothing, the report is all there is, and an error is one.
    """
    written = [str(file) for file in files if file is not None and str(file) != "-"]
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not written:
            raise
        if not isinstance(error, DalrError | KeyboardInterrupt):
            traceback.print_exc()
        why = error.message if isinstance(error, DalrError) else str(error) or type(error).__name__
        complain(f"the report is not shown: {one_line(why)}", f"{one_line(', '.join(written))} is written all the same")


def check_json(path: Path | None, read: Sequence[Path], page: Path | None = None, markdown: Path | None = None) -> None:
    """Finds out before the work whether the reports that are wanted could be written after it.

    Args:
        path: For JSON, "-" for standard output; None for none.
        read: What the run reads.
        page: For HTML.
        markdown: For Markdown, "-" for standard output.

    Raises:
        InputError: One could not, a file is one of those in `read`, or two are for standard output.
    """
    if str(path) == str(markdown) == "-":
        raise InputError(_BOTH, _ONE_FILE)
    given = {"--json": path, "--report": page, "--markdown": markdown}
    files = (ToWrite(file, option) for option, file in given.items() if file is not None and str(file) != "-")
    ReadsAndWrites(tuple(read), tuple(files)).check()


def write_json(path: Path | None, text: str) -> None:
    """Writes a report file, "-" to standard output; None writes nothing.

    Raises:
        InputError: It cannot be written.
    """
    if str(path) == "-":
        print_json(text)
    elif path is not None:
        write_text(path, text)


def write_markdown(path: Path | None, view: Callable[[int], RenderableType]) -> None:
    """Writes a view, made for so many characters a line, as Markdown, "-" to standard output; None writes nothing.

    Raises:
        InputError: It cannot be written.
    """
    if path is None:
        return
    from onnx_dalr.report.html import WIDEST  # noqa: PLC0415 - not for --help
    from onnx_dalr.report.markdown import as_markdown  # noqa: PLC0415 - as above

    text = as_markdown(view(WIDEST))
    if str(path) != "-":
        write_text(path, text)
        return
    with _on_stdout():
        sys.stdout.write(text)
        sys.stdout.flush()
