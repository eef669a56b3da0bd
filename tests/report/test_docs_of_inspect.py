"""docs/inspect.md shows what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_dalr.commands.inspect import inspect
from onnx_dalr.graph.in_words import in_words
from tests.commands.test_inventory import fused
from tests.conftest import REPOSITORY
from tests.test_docs import find


def test_the_tables_are_those_that_are_printed(monkeypatch: pytest.MonkeyPatch, demo: Path) -> None:
    monkeypatch.chdir(demo.parent)
    lines = inspect("models/digits-target.onnx").render("text", width=120).splitlines()
    shown = find("inspect.md", "text", "by operator").text.replace("--weights int8", 'weights="int8"').splitlines()
    assert lines[: len(shown)] == shown


def test_operators_are_what_the_page_says() -> None:
    page = (REPOSITORY / "docs" / "inspect.md").read_text(encoding="utf-8")
    for node in fused().graph.node[:4]:
        words = in_words(node)
        assert words is not None
        assert f"| `{node.op_type}` | {words.said.replace('of 4', 'of 12').replace('of 16', 'of 32')} |" in page
