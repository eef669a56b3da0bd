"""What was computed and may be asked for again, as long as there is room for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Memo:
    """Keeps what was used last, up to a weight of all together."""

    def __init__(self, room: int) -> None:
        """Takes how much may be kept, in the unit of `weigh`."""
        self._room, self._held = room, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any], weigh: Callable[[Any], int]) -> Any:
        """What is kept under a key, or else what `make` makes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        made = make()
        weight = weigh(made)
        if weight <= self._room:
            self._kept[key] = made, weight
            self._held += weight
        while self._held > self._room:
            self._held -= self._kept.popitem(last=False)[1][1]
        return made
