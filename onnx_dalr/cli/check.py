"""`onnx-dalr check`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from onnx_dalr.cli.common import (
    TerminalProgress,
    complain,
    exit_codes,
    out,
    print_json,
    reporting_on,
    show,
    show_line,
    write_json,
)
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.errors import InputError, one_line
from onnx_dalr.files import ReadsAndWrites, ToWrite, files_read
from onnx_dalr.request.table import of_command

if TYPE_CHECKING:
    from onnx_dalr.results.check import CheckResult

_OVER_BUDGET = 3
_SUMMARY = "GITHUB_STEP_SUMMARY"
_STANDARD = Path("-")


@takes_its_options
def check(**given: Any) -> None:
    """Fail (exit code 3) when a model is over its budget: one line per budget, and what grew.

    Budgets are those of the options, or of onnx-dalr.toml or [tool.onnx-dalr] of pyproject.toml, here or above.

        onnx-dalr check model.onnx --max-size 25MB
    """
    with exit_codes():
        command = dict(given)
        json, report, formats, update, margin, quiet = (
            given.pop(name) for name in ("json", "report", "format", "update", "margin", "quiet")
        )
        asked = as_python("check", given)
        if margin is not None and not update:
            raise InputError("--margin means nothing without --update", "add --update, or leave it out")
        if update:
            given_too = {"--format": formats, "--json": json, "--report": report}
            _update(asked, margin, [flag for flag, value in given_too.items() if value])
            return
        from onnx_dalr.commands.check import check as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.request.command import as_typed  # noqa: PLC0415 - as above

        written = _written(formats, json)
        read = [*(given["models"] or ()), given["baseline"], given["reference"], given["config"], given["data"]]
        ReadsAndWrites(tuple(files_read(*read)), tuple(_to_write(written, report))).check()
        result = run(**asked, progress=TerminalProgress(quiet=quiet))
        if report is not None:
            result.save_html(report, command=as_typed("check", command))
        _report(result, written)
        if not result.passed:
            raise typer.Exit(_OVER_BUDGET)


def _to_write(written: dict[str, Path], report: Path | None) -> Iterator[ToWrite]:
    """The files of a run."""
    yield from (ToWrite(file, f"--format {name}") for name, file in written.items() if file != _STANDARD)
    if report is not None:
        yield ToWrite(report, "--report")


def _written(formats: list[str] | None, json: Path | None) -> dict[str, Path]:
    """Where each format goes that is asked for; what is read goes to standard output where nothing else does.

    Raises:
        InputError: A format is not known, or two go to one place.
    """
    found: dict[str, Path] = {}
    for word in formats or ():
        name, _, file = word.partition("=")
        known = of_command("check")["format"].known_words()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
            raise InputError(f"--format {name!r} is not known", hint)
        found[name] = Path(file) if file else _STANDARD
    if json is not None:
        found["json"] = json
    places = list(found.values())
    if len(set(places)) < len(places):
        raise InputError("two formats go to one place", "give all but one of them a file: --format junit=report.xml")
    return found if _STANDARD in places else {"text": _STANDARD, **found}


def _report(result: CheckResult, written: dict[str, Path]) -> None:
    """Files first: what is shown can fail without losing them."""
    from onnx_dalr.report.check import check_view  # noqa: PLC0415 - heavy: not for --help
    from onnx_dalr.report.check_formats import CHECK_FORMATS  # noqa: PLC0415 - as above

    for name, file in written.items():
        if file != _STANDARD:
            write_json(file, CHECK_FORMATS[name](result))
    if "github" in written:
        _summarize(CHECK_FORMATS["markdown"](result))
    (shown,) = (name for name, file in written.items() if file == _STANDARD)
    with reporting_on(*(file for file in written.values() if file != _STANDARD)):
        if shown == "json":
            print_json(result.to_json())
        elif shown == "text" and out.is_terminal:
            show(check_view(result, out.width))
        else:
            show_line(Text(CHECK_FORMATS[shown](result).rstrip("\n")))


def _summarize(text: str) -> None:
    """Adds a text to the summary of the job, where GitHub Actions has one; the log has all of it anyway."""
    if file := os.environ.get(_SUMMARY):
        try:
            with Path(file).open("a", encoding="utf-8") as summary:
                summary.write(text + "\n")
        except OSError as error:
            complain(f"cannot write {_SUMMARY}: {error.strerror or error}")


def _update(asked: dict[str, Any], margin: str | None, meaningless: list[str]) -> None:
    """Writes today's sizes, and says what became of each limit.

    Raises:
        InputError: Another option has no meaning beside it, or the config cannot be written.
    """
    from onnx_dalr.commands.checking.update import update  # noqa: PLC0415 - heavy: not for --help

    if meaningless:
        raise InputError(f"{meaningless[0]} means nothing beside --update", "nothing is checked: leave it out")
    done = update(asked, margin)
    with reporting_on(done.file):
        for change in done.changes:
            show_line(Text(one_line(str(change))))
        show_line(Text(one_line(f"{done.file} is {'written' if done.changes else 'up to date'}")))
