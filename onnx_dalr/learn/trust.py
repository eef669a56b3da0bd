"""How far statistics of few samples are trusted: factors by name, to choose from on the select samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from onnx_dalr.factorize import Settings, Statistics, metric_shrinkage, shrinkage_of
from onnx_dalr.graph.layers import Layer
from onnx_dalr.request.context import Context

DEFAULT = "default"
_CAUTIOUS, _NO_METRIC, _SVD = "cautious", "no metric", "svd-bc"
_CAUTIOUS_METRIC = 0.8
LARGE_MODEL = 500_000_000  # bytes from which every choice of factors would be another model in memory
LARGE = 2048  # an eigendecomposition of this size takes seconds
ROWS_PER_INPUT = 10
"""Rows for every input of a layer, from which more of them say nothing new."""

_FEW = 4
"""Rows of which there are fewer than directions over this are so few that a large layer is taken apart once more."""


def trusts(context: Context, W: NDArray[Any], held: Statistics) -> dict[str, Callable[[], Settings]]:
    """What makes the settings to choose between where rows, p < 2n, or probes are few (methods.md §3).

    They say how far C and G are trusted.
    What the user fixed stays fixed. The last is `svd-bc`, which is all there is beside the default for large layers,
    and that where rows are very few; for large models there is no choice.
    """
    asked, weighs = context.options.settings, _weighs(context, held)
    made: dict[str, Callable[[], Settings]] = {
        DEFAULT: lambda: asked,
        _CAUTIOUS: lambda: replace(
            asked,
            metric=max(_CAUTIOUS_METRIC, metric_shrinkage(W, held)) if weighs else asked.metric,
            shrinkage=(1 + shrinkage_of(held)) / 2 if _shrinks(context, held) else asked.shrinkage,
        ),
        _NO_METRIC: lambda: replace(asked, metric=1.0),
        _SVD: lambda: replace(asked, metric=1.0 if weighs else asked.metric, shrinkage=1.0),
    }
    return {name: made[name] for name in names_of_factors(context, held)}


def names_of_factors(context: Context, held: Statistics) -> list[str]:
    """Names of the settings that `trusts` makes."""
    weighs = _weighs(context, held)
    few = held.count < 2 * held.n or (weighs and held.metric_count < 2 * min(held.m, held.n))
    if not context.options.method.takes_metric or not few or context.original.size > LARGE_MODEL:
        return [DEFAULT]
    wanted = {
        DEFAULT: True,
        _CAUTIOUS: (weighs or _shrinks(context, held)) and min(held.m, held.n) <= LARGE,
        _NO_METRIC: weighs and min(held.m, held.n) <= LARGE,
        _SVD: context.options.settings.shrinkage is None and is_worth_it(held.m, held.n, held.count),
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def gains_by_more(layer: Layer, rows: int) -> bool:
    """Whether so few rows entered a layer that its factors are made again once more of them may be learned from."""
    return 0 < rows < ROWS_PER_INPUT * layer.n and is_worth_it(layer.m, layer.n, rows)


def is_worth_it(m: int, n: int, rows: int) -> bool:
    """Whether a layer is taken apart in other factors, or of more samples: a large one, where rows are very few."""
    return min(m, n) <= LARGE or _FEW * rows < min(m, n)


def _weighs(context: Context, held: Statistics) -> bool:
    """Whether there is a metric, and how far it is trusted is not fixed."""
    return context.options.settings.metric == "auto" and held.metric_probes > 0


def _shrinks(context: Context, held: Statistics) -> bool:
    """Whether there is a covariance, and how far it is trusted is not fixed."""
    return context.options.settings.shrinkage is None and not held.learned_nothing
