"""The written file is smaller than the original, or refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_dalr.errors import NothingToGainError
from onnx_dalr.graph.storage.model import load
from onnx_dalr.write.verify import refuse_larger
from tests.cli import tiny


def test_a_file_that_is_not_smaller_is_refused(tmp_path: Path) -> None:
    large, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(tiny.mlp(), large)
    onnx.save(tiny.mlp((16, 2, 2, 4)), small)
    original = load(large)
    size = original.size
    with pytest.raises(NothingToGainError, match=f"{size:,} bytes instead of {size:,}"):
        refuse_larger(large, original)
    assert refuse_larger(small, original) == small.stat().st_size < size
