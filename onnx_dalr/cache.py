"""What was measured on this machine before: a small JSON file a key, in the user's cache folder."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from onnx_dalr.errors import DalrError
from onnx_dalr.files import write_text


@dataclass(frozen=True)
class Cache:
    """Facts by key. What cannot be read was never there, and what cannot be written is measured again.

    Attributes:
        folder: Where the files lie; it is made with the first of them.
    """

    folder: Path

    def read(self, key: str) -> dict[str, Any]:
        """What is known; nothing where there is no file, or another than one of ours."""
        with suppress(OSError, ValueError, RecursionError):
            facts = json.loads(self._file(key).read_text(encoding="utf-8"))
            if isinstance(facts, dict):
                return facts
        return {}

    def write(self, key: str, facts: dict[str, Any]) -> None:
        """Puts it in the place of what was known before."""
        with suppress(OSError, DalrError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self._file(key), json.dumps(facts, sort_keys=True))

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def cache_of(what: str) -> Cache:
    """The cache of one kind of facts, in the folder that the system has for such things (`$XDG_CACHE_HOME`)."""
    return Cache(platformdirs.user_cache_path("onnx-dalr", appauthor=False) / what)
