"""ONNX Runtime keeps to itself what it is used for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_dalr.session.installed import onnxruntime
from tests.conftest import REPOSITORY

QUIETS_IT = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL")
"""Variables that stop ONNX Runtime's telemetry whatever we do."""


def left_in_the_home_of(script: str, home: Path) -> list[Path]:
    """The files that a Python script leaves in the home of a user who runs it."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in QUIETS_IT and not name.startswith("XDG_")}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, timeout=120)
    return [path for path in home.rglob("*") if path.is_file()]


def test_no_identity_of_this_machine_is_made_and_no_events_are_kept(tmp_path: Path) -> None:
    opens_a_session = "from onnx_dalr.session.versions import versions; assert versions()['runs on'] != 'nothing'"
    assert left_in_the_home_of(opens_a_session, tmp_path / "home") == []


def test_who_wants_it_sent_can_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
