"""The `onnx-dalr` command: one file per command, gathered here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from onnx_dalr._version import __version__
from onnx_dalr.cli.analyze import analyze
from onnx_dalr.cli.apply import apply
from onnx_dalr.cli.check import check
from onnx_dalr.cli.common import EXIT_INPUT, EXIT_INTERRUPTED
from onnx_dalr.cli.compare import compare
from onnx_dalr.cli.console import lasting_streams
from onnx_dalr.cli.inspect import inspect
from onnx_dalr.cli.optimize import optimize

app = typer.Typer(
    name="onnx-dalr",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (optimize, inspect, analyze, apply, compare, check):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"onnx-dalr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make an ONNX model smaller for the data it will really see.

    Exit codes: 0 done, 1 a bug, 2 wrong input, 3 target or budget not met, 4 the written model failed verification,
    5 nothing to gain, 130 interrupted. All but 0 leave no output file.
    """


def main() -> None:
    """Entry point of the console script."""
    if not os.environ.get("COLUMNS", "80").strip("0"):  # nobody knows how wide it is: rich would show nothing
        del os.environ["COLUMNS"]
    with lasting_streams():
        try:
            app(standalone_mode=True)
        except KeyboardInterrupt:  # before or after a command's own handling
            sys.stderr.write("error: interrupted\n")
            sys.exit(EXIT_INTERRUPTED)
        except OSError as error:  # of a help text, say
            sys.stderr.write(f"error: cannot write to standard output: {error.strerror or error}\n")
            sys.exit(EXIT_INPUT)
