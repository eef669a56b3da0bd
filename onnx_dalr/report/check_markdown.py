"""What `check` found as Markdown: a comment on a pull request, as GitHub and GitLab show it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from onnx_dalr.errors import one_line
from onnx_dalr.report.amounts import brief, interval_text, left_text, sentence, value_text
from onnx_dalr.report.check import details, heading, moved, shown, summary
from onnx_dalr.report.markdown import escaped
from onnx_dalr.results.check import BudgetLine, CheckResult

_MOST = 10


def as_markdown(found: CheckResult) -> str:
    """A heading, a table of all budgets, and for each that is not met a part to unfold."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: CheckResult) -> Iterator[str]:
    yield f"### onnx-dalr check: {summary(found)}"
    yield ""
    yield "| | model | budget | value | limit | left |"
    yield "|---|---|---|--:|--:|--:|"
    for line in found.lines:
        mark = "ok" if line.passed else "**over**"
        value = " ".join(filter(None, (value_text(line), interval_text(line))))
        cells = (
            mark,
            code(line.model),
            line.budget,
            escaped(value),
            brief(line.unit, line.limit),
            escaped(left_text(line)),
        )
        yield f"| {' | '.join(cells)} |"
    for line in found.over:
        yield from _unfolded(line)
    read = [f"{line.model}, {line.budget}: {note}" for line in found.lines if line.passed for note in line.notes]
    if notes := (*found.notes, *read):
        yield ""
        yield from (f"- {escaped(note)}" for note in notes)


def _unfolded(line: BudgetLine) -> Iterator[str]:
    yield ""
    yield "<details>"
    yield f"<summary>{code(line.model)}: {escape(sentence(line))}</summary>"
    yield ""
    yield from (f"- {what}: {code(said) if what == 'change' else escaped(said)}" for what, said in details(line))
    if line.contributors:
        yield ""
        yield f"| {heading(line)} | {'by' if heading(line) == 'grew' else 'is'} | |"
        yield "|---|--:|--:|"
        for one in shown(line, _MOST):
            grown, both = moved(line, one)
            yield f"| {code(one.name)} {escaped(one.what)} | {grown} | {both} |".replace("  ", " ")
    yield ""
    yield "</details>"


def code(text: str) -> str:
    """A name as it is, whatever is in it: in a table a | would end the cell."""
    return f"<code>{escape(one_line(text)).replace('|', '&#124;')}</code>"
