"""The Python that README.md and docs/ show has types that a strict checker takes; tests/test_docs.py runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FREE_NAMES = {
    "model": "import onnx; model = onnx.ModelProto()",
    "model_proto": "import onnx; model_proto = onnx.ModelProto()",
    "reader": "import numpy; from numpy.typing import NDArray; reader: list[dict[str, NDArray[numpy.float32]]] = []",
}
"""What a reader of the documents has already, as typed code."""


BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^\n]*) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
NOT_HERE = re.compile("PyTorch|TensorFlow|tokenizer|exporter")


def blocks() -> Iterator[tuple[str, str]]:
    """(where it is from, the code) of every fenced block of Python but those that are about packages not used here."""
    for document in DOCUMENTS:
        for position, found in enumerate(BLOCK.finditer(document.read_text("utf-8"))):
            if not NOT_HERE.search(found["why"] or ""):
                yield f"{document.stem.lower()}_{position}", found["code"]


def given(code: str) -> list[str]:
    """The free names that a block does not define itself."""
    return [line for name, line in FREE_NAMES.items() if not re.search(rf"^{name} = ", code, re.MULTILINE)]


def checked(folder: Path, sources: dict[str, str]) -> str:
    """What mypy has to say, by a strict user's settings, of files that use the package."""
    pytest.importorskip("mypy", reason="mypy is not installed: pip install mypy")
    for name, code in sources.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    # ONNX Runtime has no types: what is made of its classes is Any, also to a strict user.
    settings = ["--strict", "--ignore-missing-imports", "--allow-subclassing-any", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", "--config-file=", *settings, "--cache-dir", str(folder / "cache")]
    done = subprocess.run(
        [*command, *(f"{name}.py" for name in sources)],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_what_is_documented_passes_strict_mypy_and_what_is_misspelt_does_not(tmp_path: Path) -> None:
    documented = {name: "\n".join([*given(code), code]) for name, code in blocks()}
    assert len(documented) >= 3
    misspelt = """\
        import onnx_dalr

        onnx_dalr.optimise("in.onnx")
        onnx_dalr.optimize("in.onnx", max_dorp=0.01)
        onnx_dalr.Plan.load("plan.json").aply("in.onnx", stats="stats.npz")
        onnx_dalr.analyze("in.onnx", calib="images/").plan(siez="40%")
        size: str = onnx_dalr.inspect("in.onnx").bytes
        passed: str = onnx_dalr.check("in.onnx", max_size="1MB").passed
        drop: str = onnx_dalr.compare("a.onnx", "b.onnx", data="images/").quality.drop
        """
    said = checked(tmp_path, {**documented, "misspelt": textwrap.dedent(misspelt)})
    wrong = [line for line in said.splitlines() if ": error: " in line]
    assert [line for line in wrong if not line.startswith("misspelt.py")] == []
    assert [int(line.split(":")[1]) for line in wrong] == [3, 4, 5, 6, 7, 8, 9], said
