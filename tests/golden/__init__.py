"""Printed views as they were last approved, one file each; a change shows as a diff of text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
AGAIN = "UPDATE_GOLDEN"


def assert_golden(name: str, text: str) -> None:
    """Compares a text with tests/golden/NAME.txt; with UPDATE_GOLDEN=1 in the environment it becomes that file."""
    file, text = FOLDER / f"{name}.txt", text.rstrip("\n") + "\n"
    if os.environ.get(AGAIN):
        file.write_text(text, encoding="utf-8", newline="\n")
        return
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        test = os.environ["PYTEST_CURRENT_TEST"].split("::")[0]
        pytest.fail(
            f"{file} is not what is printed now:\n\n{text}\nIf that is as it should be: {AGAIN}=1 python -m pytest "
            f"{test}, look at git diff tests/golden, and commit it",
            pytrace=False,
        )
