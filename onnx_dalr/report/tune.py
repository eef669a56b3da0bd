"""The view of what `tune` did: the student beside its teacher before and after."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.report.figures import quality_rows
from onnx_dalr.report.parts import facts_table, note_lines
from onnx_dalr.report.tuning import tuning_facts, tuning_text
from onnx_dalr.results.tune import TuneResult
from onnx_dalr.shown import PLAIN_WIDTH


def tune_view(result: TuneResult, width: int = PLAIN_WIDTH, *, words: Callable[[str], str] = str) -> Group:
    """What it learned, and what it is worth on samples that no decision saw.

    Args:
        result: What there is to show.
        width: Characters a line has.
        words: What a sentence with options in it becomes.
    """
    del width
    place = "written" if result.output else "model"
    facts = [
        (place, str(result.output) if result.output else "in memory"),
        ("tuning", words(tuning_text(result.tuning))),
        *tuning_facts(result.tuning),
    ]
    parts: list[RenderableType] = [facts_table(facts)]
    for name, quality in (("before", result.before), ("after", result.after)):
        parts += [Text(), Text(name, style="bold"), facts_table(quality_rows(quality, verbose=False))]
    notes = note_lines(map(words, result.notes))
    return Group(*parts, *([Text(), *notes] if notes else []))
