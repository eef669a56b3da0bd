"""What the tests of the command line share: the command in this process, and a bench to break things on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from onnx_dalr.cli.main import app
from tests.cli import tiny


@dataclass(frozen=True)
class Outcome:
    """What a run of the command left on the screen."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what is wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]

    @property
    def hints(self) -> list[str]:
        """The lines that say what to do."""
        return [line for line in self.stderr.splitlines() if line.startswith("hint: ")]


Run = Callable[..., Outcome]


@pytest.fixture
def run() -> Run:
    """Runs `onnx-dalr` with these arguments in this process."""

    def called(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return called


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a tiny model, samples for it and an empty folder for the output."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.mlp(), "model.onnx")
    np.savez("calib.npz", x=tiny.rows())
    Path("out").mkdir()
    return tmp_path
