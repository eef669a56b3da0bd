"""A candidate as ONNX Runtime can load it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx import ModelProto

from onnx_dalr.graph.storage.model import Model, artifact_size, save


@contextmanager
def loadable(original: Model, proto: ModelProto, name: str) -> Iterator[tuple[Path | bytes, int]]:
    """A candidate as ONNX Runtime can load it, from memory, or from disk where it may be too large for that.

    Also what the artifact weighs under the name of a file.
    """
    if not original.has_external_data:
        made = proto.SerializeToString()
        yield made, len(made)
        return
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
        save(proto, original, Path(folder) / name)
        yield Path(folder) / name, artifact_size(Path(folder) / name)
