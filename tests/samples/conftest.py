"""Little images, archives and model inputs that the tests of this room share."""

from __future__ import annotations

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
