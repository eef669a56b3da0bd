"""Results as JSON: the dataclasses field by field, with a schema number in front."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from onnx_dalr.factorize.form import Form

SCHEMA = 2
_NO_TEXT = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in a file's name that are not UTF-8: no encoding takes it, an escape does."""


def to_json(result: Any) -> str:
    """A result as JSON text, of its dataclass or of facts by name.

    What is infinite or not a number becomes null; fields that are not in the `repr`, models say, are left out.
    """
    text = json.dumps({"schema": SCHEMA, **_plain(result)}, indent=2, ensure_ascii=False, allow_nan=False)
    return _NO_TEXT.sub(lambda half: f"\\u{ord(half[0]):04x}", text) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Form | Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
