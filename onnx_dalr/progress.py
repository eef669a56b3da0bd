"""How a long run says where it is: a protocol, the silent one to build on, and how much time is left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

LOOKING = "looking at the original"
CAPTURING = "capturing"
PROBING = "probing"
FACTORIZING = "factorizing"
MEASURING = "measuring layers"
SCORING = "scoring"
REWRITING = "rewriting"
REFITTING = "refitting"
TUNING = "tuning"
SAVING = "saving"
VERIFYING = "verifying"
TIMING = "measuring latency"
TIMING_LAYERS = "timing layers"
LOADING = "loading"
COMPARING = "comparing"
LOOKING_INSIDE = "looking inside"

Thing = TypeVar("Thing")

_PART = re.compile(r"(?P<phase>.*) \((?P<part>\d+)/(?P<parts>\d+)\)")
_PRIOR = 1.0  # seconds of phases that went as expected: what the first tenths of a second say of a machine is little
_TRUSTED = 0.1  # share of a phase after which its own pace counts as much as what was expected of it
_MOST_CORRECTED = 10.0


class Progress(Protocol):
    """Where a run reports to; the command line shows it, the Python API is silent by default.

    To listen, make a subclass of `Silent` and override what you want to hear.
    """

    def say(self, line: str) -> None:
        """A fact worth a line."""
        ...

    def detail(self, line: str) -> None:
        """A fact for those who want to know all of them: every model that was tried, say."""
        ...

    def expect(self, seconds: Mapping[str, float]) -> None:
        """About how long each phase that is still to come will take, in the order they come in."""
        ...

    def about(self, *texts: str) -> None:
        """What the stage that is going on, or else the next, is at: for a line that is kept up to date.

        The longest that it has room for. It goes with the stage.
        """
        ...

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """A stretch of work of `total` steps; the context's value is called with the steps done since.

        Its name is that of its phase; a phase of several stages numbers them, "capturing (1/2)", see `numbered`. There
        may turn out to be fewer of them.
        """
        ...


class Silent:
    """Reports nothing: the base of listeners."""

    def say(self, line: str) -> None:
        """Does nothing with the line."""

    def detail(self, line: str) -> None:
        """Does nothing with the line."""

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Does nothing with what is expected."""

    def about(self, *texts: str) -> None:
        """Does nothing with what is going on."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Does nothing with the steps."""
        del name, total
        yield lambda steps: None


def counted(things: Iterable[Thing], advance: Callable[[int], None]) -> Iterator[Thing]:
    """Hands things on, and counts a step as done when the next is asked for."""
    for thing in things:
        yield thing
        advance(1)


def numbered(phase: str, part: int, parts: int) -> str:
    """The name of one stage of a phase."""
    return f"{phase} ({part}/{parts})" if parts > 1 else phase


def part_of(name: str) -> tuple[str, int, int]:
    """Phase, part and parts, from the name of a stage."""
    found = _PART.fullmatch(name)
    return (found["phase"], int(found["part"]), max(int(found["parts"]), 1)) if found else (name, 1, 1)


class TimeLeft:
    """How long a run will still take: what was expected of each phase, corrected by how the phases so far went."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._expected: dict[str, float] = {}
        self._spent: dict[str, float] = {}  # by phase, in stages that have ended
        self._done: dict[str, float] = {}  # share of each phase
        self._furthest = -1  # of the expected phases that have begun
        self._current: str | None = None
        self._part, self._parts = 1, 1
        self._began = self._moved = 0.0

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Takes what is to come, by phase in order; what was expected before no longer counts."""
        self._expected, self._furthest = dict(seconds), -1
        self._spent.clear()
        self._done.clear()

    def begin(self, name: str) -> None:
        """A stage begins: the phases expected before it are over."""
        self._current, self._part, self._parts = part_of(name)
        self._began = self._moved = self._clock()
        self._done[self._current] = (self._part - 1) / self._parts
        if self._part == 1:
            self._spent.pop(self._current, None)  # it begins anew
        if self._current in self._expected:
            self._furthest = max(self._furthest, list(self._expected).index(self._current))

    def reach(self, share: float) -> None:
        """So much of the stage is done."""
        if self._current is not None:
            self._done[self._current] = (self._part - 1 + min(share, 1.0)) / self._parts
            self._moved = self._clock()

    def end(self) -> None:
        """The stage is over."""
        if self._current is not None:
            self.reach(1.0)
            self._spent[self._current] = self._spent.get(self._current, 0.0) + self._moved - self._began
            self._current = None

    @property
    def seconds(self) -> float | None:
        """How many are left; None where nothing is expected (yet)."""
        if not self._expected:
            return None
        correction = self._correction()
        phases = list(self._expected)[max(self._furthest, 0) :]
        left = sum(self._left(phase, correction * self._expected[phase]) for phase in phases)
        # A phase that nobody expected, or not again, goes by its own pace.
        return left if self._current is None or self._current in phases else left + self._left(self._current, 0.0)

    def _correction(self) -> float:
        """By what factor the phases that are over took longer than expected of as much of them as was done."""
        over = list(self._expected)[: max(self._furthest, 0)]
        taken = sum(self._spent.get(phase, 0.0) for phase in over) + _PRIOR
        expected = sum(self._expected[phase] * self._done.get(phase, 0.0) for phase in over) + _PRIOR
        return min(max(taken / expected, 1 / _MOST_CORRECTED), _MOST_CORRECTED)

    def _left(self, phase: str, expected: float) -> float:
        """Seconds left of one phase: as expected at first, more and more by its own pace."""
        spent = moved = self._spent.get(phase, 0.0)  # until now, and until its last step
        done = self._done.get(phase, 0.0)
        if self._current == phase:
            spent, moved = spent + self._clock() - self._began, spent + self._moved - self._began
        if done >= 1:
            return 0.0
        if done <= 0:
            return max(expected - spent, 0.0)
        by_pace, trust = moved / done, done / (done + _TRUSTED)
        whole = trust * by_pace + (1 - trust) * max(expected, spent)
        return max(whole - spent, 0.0)
