"""Layers as sizes and strategies of them, and what they cost by plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Ladder, Rank, Size

often = settings(max_examples=150, deadline=None, derandomize=True)


def size(m: int, n: int, growth: int = 0) -> Size:
    return Size(m, n, growth, max(0, (m * n - growth - 1) // (m + n)))


def ladders(sizes: Sequence[Size]) -> list[Ladder]:
    """What each layer may become, at what it costs in parameters."""
    return [allocate.ladder(one, one.params) for one in sizes]


def cost_of(sizes: Sequence[Size], ranks: Sequence[Rank]) -> int:
    return sum(one.params(rank) for one, rank in zip(sizes, ranks, strict=True))


def least_cost(sizes: Sequence[Size]) -> int:
    """Of rank 1 wherever that saves anything."""
    return cost_of(sizes, [1 if one.largest_rank else None for one in sizes])


def gains(m: int, n: int) -> bool:
    """A layer that some rank makes smaller without a new bias: what the search for layers lets through."""
    return (m * n - 1) // (m + n) >= 1


EXTENTS = st.one_of(st.integers(2, 200), st.integers(2, 5))
SHAPES = st.tuples(EXTENTS, EXTENTS).filter(lambda shape: gains(*shape))
SIZES = st.lists(st.builds(lambda shape, own: size(*shape, shape[0] * own), SHAPES, st.integers(0, 1)), max_size=6)
SOME_SIZES = SIZES.filter(bool)
GAINING = SOME_SIZES.map(lambda sizes: [one for one in sizes if one.largest_rank]).filter(bool)

# Of sizes that differ too little for any to count as small.
ALIKE = st.lists(st.builds(size, st.integers(20, 60), st.integers(20, 60)), min_size=1, max_size=6)


def dense_cost(sizes: list[Size]) -> int:
    return cost_of(sizes, [None] * len(sizes))


FEW = st.lists(
    st.builds(lambda m, n, own: size(m, n, m * own), st.integers(3, 9), st.integers(3, 9), st.integers(0, 1)),
    min_size=1,
    max_size=3,
)
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1.05)
