"""Quality figures with their 95 % intervals. Arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Float64 = NDArray[np.float64]
LEVEL = 0.95
_FEW_RUNS = 10
_DRAWS, _AT_A_TIME = 1000, 50  # of the bootstrap
SESSIONS = 0.02
"""Share by which the speeds of two sessions of one model differ: twice the standard deviation that was measured."""


@dataclass(frozen=True)
class Estimate:
    """A quality figure with its 95 % interval.

    Attributes:
        value: The figure on the samples.
        low: Lower end of the interval.
        high: Upper end.
        n: Samples behind it.
    """

    value: float
    low: float
    high: float
    n: int


def relative_error(difference: Any, power: Any) -> float:
    """√(Σ‖y−ŷ‖² / Σ‖y‖²); infinite where there is an error and nothing it is relative to."""
    if power > 0:
        return float(np.sqrt(difference / power))
    return 0.0 if difference == 0 else float("inf")


def error_estimate(difference: Float64, power: Float64) -> Estimate:
    """The relative error of samples whose ‖y−ŷ‖² and ‖y‖² are given, [n] each."""
    value = relative_error(difference.sum(), power.sum())
    if len(difference) < 2 or not np.isfinite(value):
        return Estimate(value, value, value, len(difference))

    def statistic(d: Float64, p: Float64, axis: int = -1) -> Float64:
        return np.asarray(np.sqrt(d.sum(axis=axis) / np.maximum(p.sum(axis=axis), 1e-300)))

    low, high = _bootstrap((difference, power), statistic)
    return Estimate(value, low, high, len(difference))


def mean_estimate(values: Float64) -> Estimate:
    """A mean with its interval: Wilson's for shares of 0/1 values, the bootstrap's for others."""
    value, n = float(values.mean()), len(values)
    if np.isin(values, (0, 1)).all():
        return Estimate(value, *_wilson(value, n), n)
    if n < 2:
        return Estimate(value, value, value, n)
    low, high = _bootstrap((values,), lambda v, axis=-1: np.asarray(v.mean(axis=axis)))
    return Estimate(value, low, high, n)


def resampled(tables: Sequence[Float64], statistic: Callable[..., Float64], draws: int = 200) -> Estimate:
    """A figure of sums over the samples of tables [n, …], with the bootstrap's interval.

    Args:
        tables: What is added up.
        statistic: (sums […] of each table) → the figure; it is also given sums with the draws on axis 0.
        draws: Of the bootstrap.
    """
    n = len(tables[0])
    value = float(statistic(*(table.sum(axis=0) for table in tables)))
    if n < 2:
        return Estimate(value, value, value, n)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    found = statistic(*(np.tensordot(counts, table, axes=1) for table in tables))
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def ratio_of_medians(one: Float64, other: Float64, draws: int = 400) -> Estimate:
    """median(one) / median(other) of runs taken in turn, [n] each, with an interval that two equal models are within.

    What slows one run down slows its neighbours too: the bootstrap draws blocks of √n pairs in a row (Politis and
    Romano 1992, in a circle). And two sessions of one and the same model differ by how their memory happens to lie:
    the interval has at least `SESSIONS` on either side. Of so few runs that drawing them again says nothing, it is all
    that their ratio may be.
    """
    n = len(one)
    value = float(np.median(one) / max(np.median(other), 1e-12))
    block = max(1, round(math.sqrt(n)))
    starts = np.random.default_rng(0).integers(0, n, size=(draws, -(-n // block), 1))
    picked = ((starts + np.arange(block)) % n).reshape(draws, -1)[:, :n]
    found = np.median(one[picked], axis=1) / np.maximum(np.median(other[picked], axis=1), 1e-12)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if n < _FEW_RUNS:
        low, high = one.min() / max(other.max(), 1e-12), one.max() / max(other.min(), 1e-12)
    sides = (math.hypot(max(gap, 0.0), SESSIONS * value) for gap in (value - float(low), float(high) - value))
    return Estimate(value, value - next(sides), value + next(sides), n)


def weighted_estimate(values: Float64, weights: Float64) -> Estimate:
    """Σ w·v of shares v whose weights add up to one, [n] each; Wilson's interval at the effective number of samples.

    That number is (Σw)²/Σw² (Kish): few rare samples carry much weight, so the interval is as wide as theirs.
    """
    value, total = float(np.sum(values * weights)), float(np.sum(weights))
    value = min(max(value / total, 0.0), 1.0) if total else 1.0
    effective = max(total**2 / float(np.sum(weights**2)), 1.0) if total else 1.0
    low, high = _wilson(value, effective)
    return Estimate(value, low, high, len(values))


def _wilson(share: float, n: float) -> tuple[float, float]:
    z = float(special.ndtri((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _bootstrap(data: tuple[Float64, ...], statistic: Callable[..., Float64]) -> tuple[float, float]:
    """The percentile interval of a figure of samples [n, …] that are drawn together, with replacement."""
    n, generator = len(data[0]), np.random.default_rng(0)
    found = []
    for _ in range(_DRAWS // _AT_A_TIME):
        drawn = generator.integers(0, n, (_AT_A_TIME, n))
        found.append(statistic(*(each[drawn] for each in data), axis=-1))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_drop(before: Float64, after: Float64) -> Estimate:
    """Difference of two accuracies on the same samples; interval of Agresti and Min (2005), half a sample added."""
    lost, won, n = float((before > after).sum()), float((after > before).sum()), len(before)
    centre = (lost - won) / (n + 2)
    spread = 1.96 * np.sqrt(max(lost + won + 1 - (lost - won) ** 2 / (n + 2), 0)) / (n + 2)
    return Estimate((lost - won) / n, max(float(centre - spread), -1.0), min(float(centre + spread), 1.0), n)


def paired_difference(before: Float64, after: Float64) -> Estimate:
    """Mean of before − after on the same samples: `paired_drop` for 0/1 values, the bootstrap for others."""
    if np.isin([before, after], (0, 1)).all():
        return paired_drop(before, after)
    difference = before - after
    value, n = float(difference.mean()), len(difference)
    if n < 2:
        return Estimate(value, value, value, n)
    low, high = _bootstrap((difference,), lambda v, axis=-1: np.asarray(v.mean(axis=axis)))
    return Estimate(value, low, high, n)


def subsampled_estimate(value: float, found: Float64, size: int, n: int) -> Estimate:
    """A figure of n samples, given what it is on subsets of `size` of them, drawn without replacement.

    What it deviates by from their mean, times √(size / (n − size)), is what it deviates by on all (the delete-d
    jackknife of Shao and Wu, 1989). Unlike the bootstrap's, no subset holds a sample twice, which would be its own
    nearest neighbour; and the interval lies about `value` also where a figure depends on how many samples there are.
    """
    if len(found) < 2:
        return Estimate(value, value, value, n)
    spread = (found - found.mean()) * math.sqrt(size / (n - size))
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, value + float(low), value + float(high), n)


def upper_bound(estimate: Estimate, losses: Float64, level: float) -> float:
    """What a loss is below with a confidence of `level`, one-sided.

    Answers that change, or are lost and won, are counted: without any in n, the bound is 1 − (1 − level)^(1/n), which
    is about 3/n at 95 % (Clopper and Pearson 1934); with some, Agresti and Min's interval of the difference. A mean of
    other losses has Student's bound; a figure that is no mean the upper end of its interval, stretched to the level.

    Args:
        estimate: Of the loss.
        losses: By sample, [n]; empty where the figure is no mean over them.
        level: Between 0 and 1.
    """
    z = float(special.ndtri(level))
    n = len(losses)
    if not n:
        return estimate.value + (estimate.high - estimate.value) * z / float(special.ndtri((1 + LEVEL) / 2))
    if np.isin(losses, (-1, 0, 1)).all():
        lost, won = float((losses > 0).sum()), float((losses < 0).sum())
        if not won:
            return float(special.betaincinv(lost + 1, n - lost, level)) if lost < n else 1.0
        spread = z * math.sqrt(max(lost + won + 1 - (lost - won) ** 2 / (n + 2), 0)) / (n + 2)
        return min((lost - won) / (n + 2) + spread, 1.0)
    if n < 2:
        return math.inf
    return float(losses.mean() + special.stdtrit(n - 1, level) * losses.std(ddof=1) / math.sqrt(n))


def samples_for_bound(loss: float, level: float) -> int:
    """How many samples without a change it takes for `upper_bound` to be this loss."""
    return math.ceil(math.log(1 - level) / math.log(1 - loss)) if 0 < loss < 1 else 0


def complement(estimate: Estimate) -> Estimate:
    """1 − a share: what is lost of it."""
    return Estimate(1 - estimate.value, 1 - estimate.high, 1 - estimate.low, estimate.n)


def is_near_chance(correct: Float64, classes: int) -> bool:
    """Whether the original could as well have guessed: within two standard errors of 1/classes, or below."""
    chance = 1 / max(classes, 2)
    return float(correct.mean()) <= chance + 2 * math.sqrt(chance * (1 - chance) / len(correct))
