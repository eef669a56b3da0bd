"""What people see, as files: tests/golden."""

from __future__ import annotations

import pytest
from rich.console import RenderableType

from onnx_dalr.report.compare import comparison_view
from onnx_dalr.report.plan import plan_view
from onnx_dalr.report.result import result_view
from onnx_dalr.report.text import as_text
from tests.golden import assert_golden
from tests.report.made_results import CLASSIFIER, COMPARED, DETECTOR, PLAN

WIDTHS = [60, 80, 100, 160]


def view(name: str, width: int) -> RenderableType:
    if name == "compare":
        return comparison_view(COMPARED, width)
    if name == "plan":
        return plan_view(PLAN, width)
    made = DETECTOR if name == "detector" else CLASSIFIER
    return result_view(made, width, verbose=name == "verbose")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["classifier", "detector", "verbose", "compare", "plan"])
def test_what_is_printed_is_as_reviewed(name: str, width: int) -> None:
    text = as_text(view(name, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert_golden(f"{name}-{width}", text)


@pytest.mark.parametrize("width", [60, 80])
def test_the_first_screen_says_what_came_out(width: int) -> None:
    """The file, how much smaller and faster, how good and how sure, within 24 lines."""
    first = "\n".join(as_text(view("classifier", width), width).splitlines()[:24])
    for said in (
        "digits-small.onnx",
        "17.5 %",
        "5.7× smaller",
        "lost 0.79 points",
        "1.94× as fast",
        "253 held out",
        "next:",
    ):
        assert said in " ".join(first.split()), said
