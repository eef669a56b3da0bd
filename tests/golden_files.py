"""Printed text compared with files: what a reader sees is reviewed as a diff.

`UPDATE_GOLDEN=1 python -m pytest tests/report` writes them again.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check_golden(name: str, text: str) -> None:
    """Compares with tests/golden/NAME.txt, or writes it where UPDATE_GOLDEN is set."""
    file, wanted = FOLDER / f"{name}.txt", text.rstrip("\n") + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(wanted, encoding="utf-8")
    assert file.exists(), f"{file.name} is missing: UPDATE_GOLDEN=1 writes it"
    assert file.read_text(encoding="utf-8") == wanted
