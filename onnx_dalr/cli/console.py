"""Standard output and error that take any text: plain characters where an encoding lacks one, no end by a lost reader.

A console of cp437, a pipe of cp1252 (Windows) or of ASCII (a C locale) cannot show → or ×, nor every file's name, and
`onnx-dalr … | head -1` reads no further than it likes. Nothing of this is a reason to lose a result.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TextIO

PLAIN: Mapping[str, str] = MappingProxyType(
    {
        "→": "->",
        "←": "<-",
        "×": "x",
        "·": "*",
        "−": "-",
        "–": "-",
        "—": "-",
        "±": "+-",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "√": "sqrt",
        "Σ": "sum",
        "‖": "||",
        "λ": "lambda",
        "μ": "mu",
        "µ": "u",
        "ᵀ": "^T",
        "²": "^2",
        "…": "...",
        "•": "*",
        "§": "section ",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "\N{NO-BREAK SPACE}": " ",
        **dict.fromkeys("─━╌╴╶╸╺", "-"),
        **dict.fromkeys("│┃", "|"),
        **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋", "+"),
    }
)
"""What stands for a character where it cannot be shown; any other is written out, as \\xe4 or \\u65e5."""

_HANDLER = "onnx_dalr.plain"
_ASKED_FOR = ("replace", "ignore", "xmlcharrefreplace", "namereplace")  # in PYTHONIOENCODING, by the user


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Makes sys.stdout and sys.stderr take any text while the block runs.

    A reader of standard output that goes away is no error; what else goes wrong there (a full disk) is. On standard
    error nothing is: there is nowhere left to say it.
    """
    codecs.register_error(_HANDLER, _plainly)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout, BrokenPipeError), _lasting(sys.stderr, OSError)
    made = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream, old in zip(made, before, strict=True):
            if isinstance(stream, _Stream):
                stream.flush()
                stream.detach()  # or it would close the buffer that both have
            elif stream is not old:
                stream.close()
        sys.stdout, sys.stderr = before


def json_for(stream: TextIO, text: str) -> str:
    """JSON text as a stream can write it without changing what it says: escaped where it would not be UTF-8."""
    name = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
    return text if name == "utf-8" else "".join(char if char.isascii() else _escaped(char) for char in text)


class _Stream(io.TextIOWrapper):
    """A text stream of which a failure is the end: what follows goes nowhere, and of the given kind nobody hears."""

    def __init__(self, stream: TextIO, forgiven: type[OSError]) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors if stream.errors in _ASKED_FOR else _HANDLER,
            line_buffering=getattr(stream, "line_buffering", False),
            write_through=getattr(stream, "write_through", False),
        )
        self._forgiven = forgiven

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        """What waits in the buffers goes nowhere too, or it would fail again when Python ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if not isinstance(error, self._forgiven):
            raise error


def _lasting(stream: TextIO | None, forgiven: type[OSError]) -> TextIO:
    if stream is None:  # closed before we began
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - no file of ours
    stream.flush()
    return _Stream(stream, forgiven) if hasattr(stream, "buffer") else stream


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler of `codecs` that writes plain characters for those an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(char, _written_out(char)) for char in lacking), error.end


def _written_out(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode("ascii")


def _escaped(char: str) -> str:
    """A character as JSON writes it in ASCII."""
    units: Any = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
