"""Where a run is, on standard error: one line that is kept up to date on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from onnx_dalr.cli.consoles import err
from onnx_dalr.errors import one_line
from onnx_dalr.progress import TimeLeft, part_of
from onnx_dalr.units import format_duration

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

LONG = 2.0
"""Seconds from which a phase is worth a line when it is over, there."""

_REFRESHED = 4  # times a second
_LONGEST_BAR, _SHORTEST_BAR = 40, 6
_LEFT = len("a few seconds left")  # what stands before it should not move


class TerminalProgress:
    """Facts and progress on standard error.

    On a terminal a single line says which phase it is, how much of it is done and how long the whole run will still
    take; it goes when the phase is over. Elsewhere there is a line every ten seconds at most, and one at the end of a
    phase that took long.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        console: Console = err,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Takes what the user wants to read: nothing (quiet), facts, or every detail (verbose)."""
        self._quiet, self._verbose, self._console, self._clock = quiet, verbose, console, clock
        self._left = TimeLeft(clock)
        self._lines = _Lines(self._print, clock)
        self._is_busy = False
        self._stage: Stage | None = None
        self._next: tuple[str, ...] = ()

    def say(self, line: str) -> None:
        """Prints a fact, above the line of progress where there is one."""
        if not self._quiet:
            self._lines.printed()
            self._print(line)

    def detail(self, line: str) -> None:
        """Prints a fact for those who asked for all of them."""
        if self._verbose:
            self.say(line)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Takes what the rest of the run is going to take."""
        self._left.expect(seconds)

    def about(self, *texts: str) -> None:
        """Takes what the stage that is shown, or the next, is at."""
        if self._stage is None:
            self._next = texts
        else:
            self._stage.about = texts

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Shows a stretch of work; one inside another is not shown."""
        if self._quiet or self._is_busy:
            yield lambda steps: None
            return
        stage = Stage(name, total, self._left)
        stage.about, self._next = self._next, ()
        self._left.begin(name)
        self._is_busy, self._stage = True, stage
        try:
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                with _live(stage, self._console):
                    yield stage.advance
            else:
                with self._lines.of(stage) as advance:
                    yield advance
        finally:
            self._left.end()
            self._is_busy, self._stage = False, None

    def _print(self, line: str) -> None:
        self._console.print(Text(one_line(line), style="dim"))


class Stage:
    """A stretch of work that is going on, and what to say of it."""

    def __init__(self, name: str, total: int | None, left: TimeLeft) -> None:
        self.name, self.total, self.done, self._left = name, total, 0, left
        self.about: tuple[str, ...] = ()

    def advance(self, steps: int) -> None:
        """So many steps more are done."""
        self.done += steps
        if self.total:
            self._left.reach(self.done / self.total)

    @property
    def left(self) -> str:
        """How long the whole run will still take, "" where nobody can tell."""
        seconds = self._left.seconds
        return "" if seconds is None else f"{format_duration(seconds)} left"

    def text(self) -> str:
        """A line of its own."""
        count = f"{self.done} of {self.total}" if self.total else "at work"
        return f"{self.name}: {count}" + (f", {self.left}" if self.left else "")

    def line(self, width: int, *, ascii_only: bool = False) -> Text:
        """The line that is kept up to date, in less than `width` columns, whatever has to go for it."""
        count = f"{self.done:>{len(str(self.total))}}/{self.total}" if self.total else ""
        left = self.left
        parts, room = [self.name, count, f"{left:<{_LEFT}}" if left else ""], width - 1
        whole = _columns(parts) <= room
        if not whole:
            parts[1] = ""
        if _columns(parts) > room:
            parts[2] = ""
        spare = room - _columns(parts) - (2 + _SHORTEST_BAR if self.total else 0)
        fitting = [about for about in self.about if whole and len(about) + 2 <= spare]
        parts += fitting[:1]
        free = min(room - _columns(parts) - 2, _LONGEST_BAR)
        bar = self._bar(free, ascii_only=ascii_only) if self.total and free >= _SHORTEST_BAR else None
        line = Text(no_wrap=True, overflow="crop", end="").append(parts[0])
        for part in (bar, *parts[1:]):
            if part:
                line.append("  ").append(part)
        line.truncate(max(room, 0), overflow="crop")
        return line

    def _bar(self, length: int, *, ascii_only: bool) -> Text:
        """How much of the phase is done."""
        _, part, parts = part_of(self.name)
        share = (part - 1 + min(self.done / (self.total or 1), 1.0)) / parts
        full, rest = ("#", ".") if ascii_only else ("━", "─")
        filled = min(round(share * length), length)
        return Text().append(full * filled, "cyan").append(rest * (length - filled), "dim")


class _Lines:
    """Progress where nothing can be taken back: in a file, a pipe, a log, a terminal without a cursor."""

    def __init__(self, show: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._show, self._clock = show, clock
        self._last: float | None = None
        self._phase, self._spent = "", 0.0

    def printed(self) -> None:
        """Something else is printed: a sign of life."""
        self._last = self._clock()

    @contextmanager
    def of(self, stage: Stage) -> Iterator[Callable[[int], None]]:
        """Watches a stage."""
        phase, part, parts = part_of(stage.name)
        if phase != self._phase:
            self._end_of_phase()
        self._phase, began = phase, self._clock()
        self._last = began if self._last is None else self._last

        def advance(steps: int) -> None:
            stage.advance(steps)
            if self._last is None or self._clock() - self._last >= EVERY:
                self._tell(stage.text())

        yield advance
        self._spent += self._clock() - began
        if part == parts:
            self._end_of_phase()

    def _end_of_phase(self) -> None:
        if self._spent > LONG:
            self._tell(f"{self._phase} took {self._spent:.0f} s")
        self._phase, self._spent = "", 0.0

    def _tell(self, line: str) -> None:
        self.printed()
        self._show(line)


def _columns(parts: list[str]) -> int:
    shown = [part for part in parts if part]
    return sum(map(len, shown)) + 2 * (len(shown) - 1)


@contextmanager
def _live(stage: Stage, console: Console) -> Iterator[None]:
    """Keeps the stage's line on the terminal; afterwards it is as it was."""
    from rich.live import Live  # noqa: PLC0415 - only on a terminal

    live = Live(
        get_renderable=lambda: stage.line(console.width, ascii_only=console.options.ascii_only),
        console=console,
        transient=True,
        refresh_per_second=_REFRESHED,
        redirect_stdout=sys.stdout.isatty(),  # what is piped elsewhere must get there
    )
    try:
        live.start(refresh=True)
        yield
    finally:
        live.stop()
