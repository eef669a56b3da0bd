"""The tools keep up with the code: all can be imported, and the zoo holds a report to both files on disk."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import zoo

from tests.conftest import REPOSITORY


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "tools").glob("*.py")))
def test_a_tool_can_be_imported(name: str) -> None:
    if name.endswith("_torch"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    importlib.import_module(name)


def test_the_zoo_finds_the_report_right(demo: Path) -> None:
    rows = zoo.rows(demo / "digits-target.onnx", [f"*={demo / 'digits' / 'calib'} --samples 120"], ["svd-bc"], ["90%"])
    (row,) = rows
    assert "| svd-bc | 90% | ok, " in row
    assert "TOLD" not in row
