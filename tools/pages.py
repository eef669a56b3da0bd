"""The part of a page of the docs that a tool writes: what stands between two lines of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A place in a page.

    Attributes:
        page: Name of the file in the folder of the docs.
        begin: The line before it.
        end: The line after it.
    """

    page: str
    begin: str
    end: str

    def put(self, page: str, made: str) -> str:
        """The text of the page with what stands between the lines replaced.

        Raises:
            SystemExit: The page has no such lines.
        """
        before, start, rest = page.partition(self.begin)
        _, stop, after = rest.partition(self.end)
        if not start or not stop:
            raise SystemExit(f"{self.page} has no lines {self.begin} and {self.end}")
        return f"{before}{start}\n\n{made}\n\n{stop}{after}"

    def update(self, folder: Path, made: str) -> None:
        """The page in the folder of the docs, all else as it is.

        Raises:
            SystemExit: The page has no such lines.
        """
        path = folder / self.page
        path.write_text(self.put(path.read_text(encoding="utf-8"), made), encoding="utf-8")
