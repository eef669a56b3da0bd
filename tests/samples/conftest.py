"""Little images, archives and model inputs that the tests of this room share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.samples import InputSpec

MakeImage = Callable[..., Path]


def spec(*shape: int | None, name: str = "x", dtype: str = "float32") -> InputSpec:
    """One input of an imagined model."""
    return InputSpec(name, shape, np.dtype(dtype))


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Writes an image of random or given pixels under tmp_path and returns its path."""

    def make(name: str, pixels: np.ndarray | None = None, size: tuple[int, int] = (4, 4), **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return make


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data, or a skip."""
    repository = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("ONNX_DALR_ASSETS", repository.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip("the real models and data are not here: set ONNX_DALR_ASSETS to their folder")
    return folder
