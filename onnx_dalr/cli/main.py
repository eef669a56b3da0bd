"""The `onnx-dalr` command: one file per command, gathered here."""

from __future__ import annotations

import os
import sys
from textwrap import wrap
from typing import Annotated

import typer
from rich.text import Text

from onnx_dalr.cli.analyze import analyze
from onnx_dalr.cli.apply import apply
from onnx_dalr.cli.check import check
from onnx_dalr.cli.common import EXIT_INPUT, EXIT_INTERRUPTED, exit_codes, out, show_line
from onnx_dalr.cli.compare import compare
from onnx_dalr.cli.completion import install, mend_bash_words, show
from onnx_dalr.cli.console import lasting_streams
from onnx_dalr.cli.inspect import inspect
from onnx_dalr.cli.optimize import optimize

_NAMES = 13
"""Columns that the names take before the versions."""

app = typer.Typer(
    name="onnx-dalr",
    no_args_is_help=True,
    add_completion=False,  # the same two options are below: shown in a panel their names would be cut short
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (optimize, inspect, analyze, apply, compare, check):
    app.command()(command)


def _version(context: typer.Context, asked: bool) -> None:
    """The version alone in the first line, where scripts find it; below it what that stands on."""
    if not asked or context.resilient_parsing:
        return
    with exit_codes():
        from onnx_dalr.session.versions import versions  # noqa: PLC0415 - heavy: not for --help

        first, *rest = versions().items()
        show_line(Text(" ".join(first)))
        for name, version in rest:
            beside = out.width - _NAMES
            show_line(Text(f"{name:{_NAMES}}" + f"\n{'':{_NAMES}}".join(wrap(version, max(beside, _NAMES)))))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and those it stands on."),
    ] = False,
    install_completion: Annotated[
        bool, typer.Option("--install-completion", callback=install, is_eager=True, hidden=True)
    ] = False,
    show_completion: Annotated[
        bool, typer.Option("--show-completion", callback=show, is_eager=True, hidden=True)
    ] = False,
) -> None:
    """Make an ONNX model smaller for the data it will really see.

    `onnx-dalr --install-completion` teaches your shell to complete commands, options and their words;
    `--show-completion` prints the script for it.

    Exit codes: 0 done, 1 a bug, 2 wrong input, 3 target or budget not met, 4 the written model failed verification,
    5 nothing to gain, 130 interrupted. All but 0 leave no output file.
    """


def main() -> None:
    """Entry point of the console script."""
    if not os.environ.get("COLUMNS", "80").strip("0"):  # nobody knows how wide it is: rich would show nothing
        del os.environ["COLUMNS"]
    mend_bash_words(os.environ)
    with lasting_streams():
        try:
            app(standalone_mode=True, prog_name=app.info.name)
        except KeyboardInterrupt:  # before or after a command's own handling
            sys.stderr.write("error: interrupted\n")
            sys.exit(EXIT_INTERRUPTED)
        except OSError as error:  # of a help text, say
            sys.stderr.write(f"error: cannot write to standard output: {error.strerror or error}\n")
            sys.exit(EXIT_INPUT)
