"""Layers as menus of forms and strategies of them, and what they cost by plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder, Menu
from onnx_dalr.factorize import UNTOUCHED, Form

often = settings(max_examples=150, deadline=None, derandomize=True)


def pair(rank: int | None) -> Form:
    """Two thin matrices; None is the layer as it is."""
    return UNTOUCHED if rank is None else Form("pair", (rank,))


def pairs(*ranks: int | None) -> Forms:
    """A form per layer."""
    return [pair(rank) for rank in ranks]


def menu(*ranks: int | None) -> Menu:
    """The choices of one layer."""
    return tuple(pairs(*ranks))


def curve(*distortions: float) -> Curve:
    """What is lost at rank 1, 2, …, and nothing as it is."""
    return np.array([*distortions, 0.0])


def steady(first: float, last: float, count: int) -> Curve:
    """A curve of so many ranks that falls in equal steps."""
    return curve(*np.linspace(first, last, count))


@dataclass(frozen=True)
class Size:
    """A layer of which nothing counts but how large it is; `growth` parameters are added by new biases."""

    m: int
    n: int
    growth: int = 0

    @property
    def largest_rank(self) -> int:
        return max(0, (self.m * self.n - self.growth - 1) // (self.m + self.n))

    @property
    def menu(self) -> Menu:
        return menu(*range(1, self.largest_rank + 1), None)

    def params(self, form: Form) -> int:
        return self.m * self.n if form.untouched else form.rank[0] * (self.m + self.n) + self.growth

    def ladder(self) -> Ladder:
        return allocate.ladder(self.menu, self.params)

    def pinned(self, rank: int | None) -> Ladder:
        return allocate.pinned(self.menu, menu(rank), self.params)


def ladders(sizes: Sequence[Size]) -> list[Ladder]:
    """What each layer may become, at what it costs in parameters."""
    return [one.ladder() for one in sizes]


def cost_of(sizes: Sequence[Size], forms: Forms) -> int:
    return sum(one.params(form) for one, form in zip(sizes, forms, strict=True))


def least_cost(sizes: Sequence[Size]) -> int:
    """Of rank 1 wherever that saves anything."""
    return cost_of(sizes, [one.menu[0] for one in sizes])


def dense_cost(sizes: Sequence[Size]) -> int:
    return cost_of(sizes, [UNTOUCHED] * len(sizes))


EXTENTS = st.one_of(st.integers(2, 200), st.integers(2, 5))
# What the search for layers lets through: some rank makes it smaller without a new bias.
SHAPES = st.tuples(EXTENTS, EXTENTS).filter(lambda shape: Size(*shape).largest_rank >= 1)
SIZES = st.lists(
    st.builds(lambda shape, own: Size(shape[0], shape[1], shape[0] * own), SHAPES, st.integers(0, 1)), max_size=6
)
SOME_SIZES = SIZES.filter(bool)
GAINING = SOME_SIZES.map(lambda sizes: [one for one in sizes if one.largest_rank]).filter(bool)

# Of sizes that differ too little for any to count as small.
ALIKE = st.lists(st.builds(Size, st.integers(20, 60), st.integers(20, 60)), min_size=1, max_size=6)

FEW = st.lists(
    st.builds(lambda m, n, own: Size(m, n, m * own), st.integers(3, 9), st.integers(3, 9), st.integers(0, 1)),
    min_size=1,
    max_size=3,
)
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1.05)
