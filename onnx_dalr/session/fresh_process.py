"""A program of its own, which `resident` starts: how much memory a process holds before and after it runs a model.

It imports nothing of ours, so that little is in memory but ONNX Runtime. Its arguments are the model, the `.npz` of a
batch, and libraries of operators. It prints two numbers of bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(model: str, batch: str, *libraries: str) -> None:
    """Loads the model, runs it once on the batch, and says what is resident before and after."""
    with np.load(batch) as held:
        feed = {name: held[name] for name in held.files}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for library in libraries:
        options.register_custom_ops_library(library)
    before = _resident()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answer = session.run(None, feed)
    print(before, _resident())
    del answer, session


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(*sys.argv[1:])
