"""How fast the original is here: what a first look at it learns beside what its outputs are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Seconds that the original takes on this machine.

    Attributes:
        load: Into a session.
        read: To read one sample.
        run: To run one sample, among others in a batch.
    """

    load: float
    read: float
    run: float
