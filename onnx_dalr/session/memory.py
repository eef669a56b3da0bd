"""How much of the machine's memory a run may take."""

from __future__ import annotations

import os

MEMORY_SHARE = 0.5
_UNKNOWN_MACHINE = 8 << 30


def memory_limit() -> int:
    """Bytes of statistics allowed: half of the machine's memory."""
    try:
        return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _UNKNOWN_MACHINE
