"""What `check` found as GitHub Actions shows it: the lines of the log, and an annotation for every budget over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from onnx_dalr.errors import one_line
from onnx_dalr.report.amounts import sentence
from onnx_dalr.report.check import check_view, details, heading, moved, named, shown
from onnx_dalr.report.text import UNBROKEN, as_text
from onnx_dalr.results.check import BudgetLine, CheckResult


def as_github(found: CheckResult) -> str:
    """The text with workflow commands after it; no line of it begins as these do, whatever a model is called."""
    return "\n".join((as_text(check_view(found), UNBROKEN), *_annotations(found))) + "\n"


def _annotations(found: CheckResult) -> Iterator[str]:
    for line in found.over:
        title = f"onnx-dalr: {line.budget} over its budget"
        yield f"::error file={_property(_in_repository(line.model))},title={_property(title)}::{_message(line)}"
    for note in found.notes:
        yield f"::notice title=onnx-dalr::{_escaped(one_line(note))}"


def _message(line: BudgetLine) -> str:
    said = [f"{line.model}: {sentence(line)}", *(f"{what}: {words}" for what, words in details(line))]
    for one in shown(line):
        grown, both = moved(line, one)
        said.append(f"{heading(line)}: {named(one)} {grown}{f' ({both})' if both else ''}")
    return _escaped("\n".join(map(one_line, said)))


def _in_repository(model: str) -> str:
    """A path from the root of the repository, with slashes: by this annotations find a file."""
    root = os.environ.get("GITHUB_WORKSPACE")
    path = Path(model)
    inside = root is not None and path.absolute().is_relative_to(root)
    return (path.absolute().relative_to(root) if root is not None and inside else path).as_posix()


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(one_line(text)).replace(":", "%3A").replace(",", "%2C")
