"""What ONNX Runtime says where it refuses a model, in one line that a user can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from onnx_dalr.errors import InputError
from onnx_dalr.session.installed import onnxruntime

_UNKNOWN = (
    re.compile(r"(?P<domain>[^\s:]*):(?P<op>[^\s:(]+)\S*\(-?\d+\) is not a registered function/op"),
    re.compile(r'In Node, \(".*?", (?P<op>[^,]+), "(?P<domain>[^"]*)", .*No Op registered for'),
)
"""How ONNX Runtime says that it does not know an operator, with an import of its domain's operator set and without."""

_OWN = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
_EXTENSIONS = ("ai.onnx.contrib", "com.microsoft.extensions")


def reason_of(error: BaseException) -> str:
    """The part of an ONNX Runtime message a user can use: its last sentence, without the source location."""
    text = " ".join(str(error).split())
    text = text.split("Status Message: ")[-1]
    return text.removeprefix("[ONNXRuntimeError] : ")[:300]


def cannot_load(what: str, reason: str, libraries: Sequence[Path]) -> InputError:
    """The error of a model that ONNX Runtime refuses; of an operator that it does not know, where that may be found."""
    found = next(filter(None, (pattern.search(reason) for pattern in _UNKNOWN)), None)
    if found is None:
        return InputError(f"ONNX Runtime cannot load {what}: {reason}")
    op, domain = found["op"], found["domain"]
    if domain in _OWN:
        hint = f"ONNX Runtime {onnxruntime().__version__} does not have it, a newer one may"
    elif domain in _EXTENSIONS:
        path = "python -c 'import onnxruntime_extensions as e; print(e.get_library_path())'"
        hint = f'it is a custom operator of onnxruntime-extensions: --ops-library "$({path})"'
    else:
        but = f", and {', '.join(map(str, libraries))} does not hold it" if libraries else ""
        hint = f"a custom operator needs the library that brings it{but}: --ops-library FILE"
    return InputError(
        f"ONNX Runtime cannot load {what}: it does not know the operator {op!r} of the domain {domain or 'ai.onnx'!r}",
        hint,
    )
