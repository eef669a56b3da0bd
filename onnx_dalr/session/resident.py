"""How much memory a model takes in a process that does nothing else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_dalr.samples.base import Batch

_PROGRAM = Path(__file__).with_name("fresh_process.py")
_KERNEL = Path("/proc/self/statm")
_SECONDS = 60.0
_FACTOR = 3  # a model is read, and its weights are laid out anew


def resident(model: Path | bytes, batch: Batch, libraries: Sequence[Path] = (), room: int | None = None) -> int | None:
    """Bytes that are resident after a model is loaded and run once on the CPU, more than before: in a fresh process.

    None where that cannot be measured: the system does not say it, no process can be started, or the model does not
    run in one, or takes more than a minute.

    Args:
        model: A path, or a serialized model.
        batch: What it is run on.
        libraries: Of operators.
        room: Bytes of memory there are; None where that is not known.
    """
    if not (_KERNEL.is_file() and sys.executable) or any(
        np.asarray(array).dtype.kind == "O" for array in batch.values()
    ):
        return None
    size = len(model) if isinstance(model, bytes) else model.stat().st_size
    if room is not None and _FACTOR * size > room:
        return None
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
        path, feed = Path(folder) / "model.onnx", Path(folder) / "batch.npz"
        try:
            if isinstance(model, bytes):
                path.write_bytes(model)
            with feed.open("wb") as file:
                np.savez(file, **batch)  # type: ignore[arg-type]
            named = [str((path if isinstance(model, bytes) else model).resolve()), str(feed)]
            # -P: our folder is not where that program is to look for modules.
            done = subprocess.run(
                [sys.executable, "-P", str(_PROGRAM), *named, *(str(library.resolve()) for library in libraries)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
            before, after = map(int, done.stdout.split())
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return max(after - before, 0)
