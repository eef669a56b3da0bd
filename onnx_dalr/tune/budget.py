"""How many steps there is time for: tuning takes no longer than the search before it (methods.md §10.6)."""

from __future__ import annotations

FLOOR = 5.0
"""Seconds that are always allowed: of a small network the search is over before Python has started."""

RATE = 5e-3
"""η where there is no time to choose it."""

TRIALS = (1e-2, 3e-3, 1e-3)
"""Rates to choose from, where there is time for it."""

TRIAL = 40
"""Steps of a trial, and the fewest that are worth it."""

_LADDER = (40, 60, 80, 120, 160, 240, 320, 480, 640, 1000, 1400, 2000, 3000, 4000)
_FOR_TRIALS = 480  # steps from which trials are worth theirs


def steps_within(affordable: float) -> int:
    """How many steps a course gets; 0 where they would be too few.

    Rungs of a ladder: a clock never says the same twice, and the file should depend on it as little as can be.

    Args:
        affordable: Steps there is time for.
    """
    return max((steps for steps in _LADDER if steps <= affordable), default=0)


def worth_trials(steps: int) -> bool:
    """Whether a course is so long that some steps may go into choosing its rate."""
    return steps >= _FOR_TRIALS
