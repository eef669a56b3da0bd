"""How much of the machine's memory a run may take."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_SHARE = 0.5
_UNKNOWN_MACHINE = 8 << 30


def memory_limit() -> int:
    """Bytes of statistics allowed: half of the machine's memory."""
    try:
        return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _UNKNOWN_MACHINE


def memory_available() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
