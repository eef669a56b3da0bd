"""How far the covariance of few rows is to be trusted (methods.md §2.2)."""

from __future__ import annotations

from onnx_dalr.factorize.statistics import Statistics

SMALLEST = 1e-3
"""However many the rows: on what they never showed, C is zero, and only the ridge knows which of W to keep there."""


def oas(count: float, n: int, trace: float, trace_of_square: float) -> float:
    """Oracle approximating shrinkage: the share `a` of t·I in (1−a)·C + a·t·I, t = tr C / n.

    Chen, Wiesel, Eldar, Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE TSP 2010, eq. 23, with
    tr Ĉ² and tr² Ĉ of the sample covariance of `count` rows: n there is our count, and p there our n.

    Args:
        count: p, the independent rows that entered.
        n: Dimension of a row.
        trace: tr C.
        trace_of_square: tr C², or an estimate of it.

    Returns:
        a in [1e-3, 1].
    """
    if n == 1:  # a single variance is t·I
        return 1.0
    numerator = (1 - 2 / n) * trace_of_square + trace**2
    denominator = (count + 1 - 2 / n) * (trace_of_square - trace**2 / n)
    # tr C² ≥ tr² C / n, and equal only where C is t·I: what is below is rounding.
    if denominator <= 0 or numerator >= denominator:
        return 1.0
    return max(numerator / denominator, SMALLEST)


def shrinkage_of(stats: Statistics) -> float:
    """The OAS share of t·I in the covariance of these statistics, which have learned something."""
    return oas(stats.count, stats.n, stats.trace, stats.trace_of_square)


def ridge_of(a: float, t: float) -> float:
    """λ of C + λI, which is (1−a)·C + a·t·I up to scale; infinite at a = 1."""
    return t * a / (1 - a) if a < 1 else float("inf")
