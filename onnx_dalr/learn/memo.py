"""What was computed and may be asked for again, as long as there is room for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any


class Memo:
    """Keeps what was used last, up to a weight of all together; several threads may ask."""

    def __init__(self, room: int) -> None:
        """Takes how much may be kept, in the unit of `weigh`."""
        self._room, self._held, self._lock = room, 0, Lock()
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any], weigh: Callable[[Any], int]) -> Any:
        """What is kept under a key, or else what `make` makes."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        weight = weigh(made)
        with self._lock:
            if weight <= self._room and key not in self._kept:
                self._kept[key] = made, weight
                self._held += weight
            while self._held > self._room:
                self._held -= self._kept.popitem(last=False)[1][1]
        return made
