"""Fixtures every room's tests share: tiny models as ONNX text, and the real models where they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from hypothesis import settings

from onnx_dalr.tune import transfer

REPOSITORY = Path(__file__).resolve().parent.parent

settings.register_profile("busy", deadline=None)  # nothing in the suite measures time: a busy machine is no failure
settings.load_profile("busy")


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT, and so would the commands that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def assets_folder() -> Path | None:
    """Where the real models and data are, or None."""
    named = os.environ.get("ONNX_DALR_ASSETS")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "assets"
    return folder if (folder / "models").is_dir() else None


@pytest.fixture(autouse=True, scope="module")
def _tunes_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Thousands of tests make models to look at something else: only those in tests/tune/ wait for tuning.

    And modules that are marked `tunes`.
    """
    with pytest.MonkeyPatch.context() as patch:
        tunes = request.node.get_closest_marker("tunes") or request.path.parent.name == "tune"
        if not tunes:
            patch.setattr(transfer, "FEWEST", 1_000_000)
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data; skips the test where it is not there."""
    folder = assets_folder()
    if folder is None:
        pytest.skip("the real models are not here: set ONNX_DALR_ASSETS to the folder that holds models/ and data/")
    return folder


@pytest.fixture(scope="session")
def demo() -> Path:
    """The folder of the demo model and its images."""
    return REPOSITORY / "models"


@pytest.fixture
def parse() -> Callable[[str], onnx.ModelProto]:
    """Makes a checked model of ONNX text."""

    def made(text: str) -> onnx.ModelProto:
        model = onnx.parser.parse_model(text)
        onnx.checker.check_model(model, full_check=True)
        return model

    return made
