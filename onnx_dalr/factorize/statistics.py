"""What a layer saw on the fit samples, as sums that add up over batches, shards and machines (methods.md §2, §7.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Flag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.fields import take, take_integer
from onnx_dalr.factorize.gram import MANY, SKETCH_WIDTH, Float64, add_gram, as_exact, product, sketch_matrix, symmetric
from onnx_dalr.factorize.moment import Moment, add_blocks, blocks_shape

_CHUNK = 4096  # gradient rows taken to double precision at a time
_INTEGERS = ("m", "n", "count", "metric_rows", "metric_probes")
_ALWAYS = ("total", "squares", "metric_spread")


class Need(Flag):
    """The statistics a factorization method asks for, beside count, sum and squares, which are always kept.

    The values are stored by `Statistics.to_arrays`: a new member takes the next one.
    """

    NONE = 0
    OUTPUT = 1
    """Second moment of W x, m×m."""
    INPUT = 2
    """Second moment of x, n×n."""
    SKETCH = 4
    """Second moment of x times a fixed ±1 matrix, n×64: enough for tr C²."""
    ROWS = 8
    """The rows themselves while there are fewer than n of them, the second moment of x from then on."""
    METRIC = 16
    """Second moment of the gradients at the layer's output: m×m, or through W n×n where that is smaller."""
    BLOCKS = 32
    """Second moment of x, n×1024 at most: the blocks along its diagonal."""

    CHANNELS = 64
    """Second moment of the channels of x, summed over the taps of a kernel, C×C: of what lies within a tap alone."""


SPARED = Need.METRIC | Need.BLOCKS
"""What statistics may lack: without gradients there is no metric, without a moment rounding is to nearest."""

_OPTIONAL = {
    "output_total": Need.OUTPUT,
    "output": Need.OUTPUT,
    "input": Need.INPUT | Need.ROWS,
    "sketch": Need.SKETCH,
    "metric": Need.METRIC,
    "blocks": Need.BLOCKS,
    "channels": Need.CHANNELS,
}
"""The sums that are not always there, and what each is kept for."""

_EMPTY_WITHOUT = {"rows": Need.ROWS} | dict.fromkeys(
    ("metric_rows", "metric_probes", "metric_power", "metric_spread"), Need.METRIC
)
"""What else there is for a need alone: rows, and numbers that are 0 without it."""


class Statistics:
    """Sums over the rows x (n inputs each) that entered one layer y = W x, W m×n.

    Everything is a plain sum in float64, so `a + b` is the statistics of both sets of rows, in any order. Moments
    are kept uncentred and centred on reading.

    Attributes:
        m: Outputs of the layer.
        n: Inputs of the layer.
        needs: Which of the optional sums are kept.
        count: Rows that entered.
        total: Σ x, [n].
        squares: Σ x∘x, [n].
        output_total: Σ W x, [m], kept with OUTPUT.
        output: Σ (W x)(W x)ᵀ, [m, m], or None.
        input: Σ x xᵀ, [n, n], or None.
        sketch: Σ x (xᵀ Ω), [n, 64], or None.
        rows: With ROWS and fewer than n rows: the rows, [count, n] float64; else None.
        metric: Over gradient rows g, with METRIC: Σ g gᵀ, [m, m], or, where m > n, Σ (Wᵀg)(Wᵀg)ᵀ, [n, n]: only
            Wᵀ G W enters a factorization (methods.md §3), and unlike coordinates of a QR it adds up. Else None.
        taps: Numbers of a channel in one row, its inputs ordered as (channel, tap); told apart with CHANNELS alone.
        channels: Σ over rows and taps of the moment of the channels, [n/taps, n/taps], kept with CHANNELS; else None.
        blocks: The blocks along the diagonal of Σ x xᵀ, [count, size, size], kept with BLOCKS; else None.
        metric_rows: Gradient rows that entered.
        metric_probes: Samples times probes behind them, however many rows each brought; 0 means there is no metric.
        metric_power: Σ ‖g‖².
        metric_spread: [2], Σ ‖g‖⁴ over rows, and Σ (Σ ‖g‖²)² over probes, the inner sum over the rows of one.
    """

    def __init__(self, m: int, n: int, needs: Need, taps: int = 1) -> None:
        self.m, self.n, self.needs = m, n, needs
        self.taps = taps if Need.CHANNELS in needs else 1
        self.count = 0
        self.total: Float64 = np.zeros(n)
        self.squares: Float64 = np.zeros(n)
        self.output_total: Float64 | None = np.zeros(m) if Need.OUTPUT in needs else None
        self.output: Float64 | None = np.zeros((m, m)) if Need.OUTPUT in needs else None
        self.input: Float64 | None = np.zeros((n, n)) if Need.INPUT in needs else None
        self.sketch: Float64 | None = np.zeros((n, SKETCH_WIDTH)) if Need.SKETCH in needs else None
        self._rows: list[Float64] | None = [] if Need.ROWS in needs and Need.INPUT not in needs else None
        self.metric: Float64 | None = np.zeros((min(m, n), min(m, n))) if Need.METRIC in needs else None
        self.blocks: Float64 | None = np.zeros(blocks_shape(n)) if Need.BLOCKS in needs else None
        self.channels: Float64 | None = np.zeros((n // self.taps,) * 2) if Need.CHANNELS in needs else None
        self.metric_rows = self.metric_probes = 0
        self.metric_power = 0.0
        self.metric_spread: Float64 = np.zeros(2)

    @property
    def rows(self) -> Float64 | None:
        """The kept rows, [count, n], or None when they are not kept (any more)."""
        if self._rows is None:
            return None
        return np.concatenate(self._rows) if self._rows else np.zeros((0, self.n))

    def update(self, x: NDArray[Any], weight: NDArray[Any] | None = None) -> None:
        """Adds the rows of `x`, [p, n], that entered the layer with weight W, [m, n]; OUTPUT alone reads W.

        The products W x are taken in the wider of the two precisions (at least float32): they only choose a
        subspace. Every sum is float64, but for products of some thousand rows of a large layer (`gram.as_exact`).
        """
        wide = x.astype(np.float64)
        self.count += len(x)
        self.total += wide.sum(axis=0)
        self.squares += np.einsum("pn,pn->n", wide, wide)
        if self.sketch is not None:
            self.sketch += wide.T @ (wide @ sketch_matrix(self.n))
        if self.input is not None:
            add_gram(self.input, as_exact(x) if self.n >= MANY else wide)
        if self.blocks is not None:
            add_blocks(self.blocks, wide)
        if self.channels is not None:
            by_tap = wide.reshape(len(wide), -1, self.taps)
            for tap in range(self.taps):
                add_gram(self.channels, np.ascontiguousarray(by_tap[:, :, tap]))
        if self._rows is not None:
            self._keep_rows([wide])
        if self.output is not None and self.output_total is not None:
            if weight is None:
                raise ValueError("the output moment needs the weight")
            y = product(x, weight.T, light=x.dtype == np.float32 and self.m >= MANY)
            self.output_total += y.sum(axis=0, dtype=np.float64)
            add_gram(self.output, as_exact(y))

    def update_picked(self, numbers: NDArray[np.integer[Any]]) -> None:
        """Adds rows x of a single 1, at these inputs; from the end where they are negative. No moment of x is kept."""
        assert not self.needs & ~Need.METRIC
        counts = np.bincount(np.where(numbers < 0, numbers + self.n, numbers), minlength=self.n)
        self.count += len(numbers)
        self.total += counts
        self.squares += counts

    def update_metric(
        self, g: NDArray[Any], weight: NDArray[Any], probes: int, owners: NDArray[np.integer[Any]] | None = None
    ) -> None:
        """Adds gradient rows g, [p, m], of the network's output with respect to the layer's output y = W x (+ b).

        Args:
            g: One row per row x of the layer and probe (methods.md §3: g = Jᵀv for a random seed v).
            weight: W, [m, n]; read where m > n.
            probes: Samples times probes that these rows are of; 0 for more rows of probes that have been counted. A
                probe counts even where it brings no rows.
            owners: Which of the probes each row is of, [p], counted from 0: all rows of a probe come in one update.
                None: they come one probe after the other, as many rows of each.

        Raises:
            ValueError: These statistics keep no metric.
        """
        if self.metric is None:
            raise ValueError("these statistics keep no metric")
        self.metric_rows += len(g)
        self.metric_probes += probes
        power = np.zeros(len(g))
        for start in range(0, len(g), _CHUNK):
            rows = g[start : start + _CHUNK]
            wide = rows.astype(np.float64)
            power[start : start + _CHUNK] = np.einsum("pm,pm->p", wide, wide)
            seen = rows if self.m <= self.n else product(rows, weight, light=True)
            add_gram(self.metric, as_exact(seen) if len(self.metric) >= MANY else seen.astype(np.float64))
        if owners is None:
            owners = np.arange(len(g)) * (probes or len(g)) // max(len(g), 1)
        by_probe = np.bincount(owners, power)
        self.metric_power += float(power.sum())
        self.metric_spread += np.array([power @ power, by_probe @ by_probe])

    def forget_metric(self) -> None:
        """Takes back every gradient that entered: there is no metric again."""
        self.metric_rows = self.metric_probes = 0
        self.metric_power = 0.0
        self.metric_spread[:] = 0
        if self.metric is not None:
            self.metric[:] = 0

    def drop_metric(self) -> None:
        """Forgets it and the room for it: these are the statistics of a layer that was never asked for gradients."""
        self.forget_metric()
        self.metric, self.needs = None, self.needs & ~Need.METRIC

    def restricted(self, needs: Need) -> Statistics:
        """These statistics with no more than the sums that are needed, as if only those had been kept.

        Raises:
            ValueError: They do not keep all of them.
        """
        if needs == self.needs:
            return self
        if needs not in self.needs:
            raise ValueError(f"statistics of {self.needs} do not hold {needs}")
        without = {name for name, need in (_OPTIONAL | _EMPTY_WITHOUT).items() if not need & needs}
        kept = {name: array for name, array in self.to_arrays().items() if name not in without}
        empty = Statistics(self.m, self.n, Need.NONE).to_arrays()
        return Statistics.from_arrays(empty | kept | {"needs": np.array(needs.value, np.int64)})

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of both sets of rows.

        Raises:
            ValueError: The two are not of the same layer shape or do not keep the same sums.
        """
        if (self.m, self.n, self.needs, self.taps) != (other.m, other.n, other.needs, other.taps):
            raise ValueError("statistics of different layers or needs do not add up")
        both = Statistics(self.m, self.n, self.needs, self.taps)
        both._rows = [] if both._rows is not None else None
        for part in (self, other):
            both.count += part.count
            both.total += part.total
            both.squares += part.squares
            both.metric_rows += part.metric_rows
            both.metric_probes += part.metric_probes
            both.metric_power += part.metric_power
            both.metric_spread += part.metric_spread
            for name in ("output_total", "output", "sketch", "metric", "blocks", "channels"):
                mine, more = getattr(both, name), getattr(part, name)
                if mine is not None and more is not None:
                    mine += more
            if part.input is not None:
                both._fold_rows()
                assert both.input is not None
                both.input += part.input
            if part._rows:
                both._keep_rows(part._rows)
        return both

    def _keep_rows(self, parts: Iterable[Float64]) -> None:
        if self._rows is None:
            if self.input is not None:
                for part in parts:
                    add_gram(self.input, part)
            return
        self._rows.extend(part.astype(np.float64) for part in parts)
        if sum(map(len, self._rows)) >= self.n:
            self._fold_rows()

    def _fold_rows(self) -> None:
        """With as many rows as inputs the n×n moment is the smaller of the two."""
        if self._rows is None:
            return
        parts, self._rows = self._rows, None
        self.input = np.zeros((self.n, self.n))
        for part in parts:
            add_gram(self.input, part)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name, for storage: `from_arrays` of it is the same statistics to the last bit.

        The arrays are views where they can be: write them before the next update. Symmetric sums hold their upper
        block triangle.
        """
        arrays: dict[str, NDArray[Any]] = {name: np.array(getattr(self, name), np.int64) for name in _INTEGERS}
        arrays["needs"] = np.array(self.needs.value, np.int64)
        arrays["metric_power"] = np.array(self.metric_power)
        sums = {name: getattr(self, name) for name in (*_ALWAYS, *_OPTIONAL, "rows")}
        return arrays | {name: array for name, array in sums.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Statistics:
        """The statistics of which `arrays` is what `to_arrays` gave; the arrays are copied.

        Raises:
            ValueError: A field is missing, unknown, of a wrong type or shape, or out of range; the message names it.
        """
        fields = dict(arrays)
        integers = {name: take_integer(fields, name) for name in ("needs", *_INTEGERS)}
        if integers["needs"] >= 2 * max(need.value for need in Need):
            raise ValueError(f"field 'needs' is {integers['needs']}, which this version does not know")
        channels = np.shape(fields.get("channels", ()))[:1]  # how many there are says how many taps: that has no field
        taps = max(integers["n"] // (channels[0] or 1), 1) if channels else 1
        stats = cls(integers["m"], integers["n"], Need(integers["needs"]), taps)
        stats.count, stats.metric_rows, stats.metric_probes = (
            integers[name] for name in ("count", "metric_rows", "metric_probes")
        )
        stats.metric_power = float(take(fields, "metric_power", ()))
        if stats._rows is not None and "rows" in fields:
            stats._rows = [take(fields, "rows", (stats.count, stats.n))]
        elif stats._rows is not None:
            stats._fold_rows()
        for name in (*_ALWAYS, *_OPTIONAL):
            mine = getattr(stats, name)
            if mine is not None:
                setattr(stats, name, take(fields, name, mine.shape))
        if fields:
            raise ValueError(f"field {sorted(fields)[0]!r} does not belong to statistics that need {stats.needs}")
        return stats

    @staticmethod
    def bytes_needed(m: int, n: int, needs: Need, rows: int, taps: int = 1) -> int:
        """Bytes these statistics hold once `rows` rows have entered."""
        held = 16 * n + 8 * SKETCH_WIDTH * n * (Need.SKETCH in needs)
        held += 8 * (m * m + m) * (Need.OUTPUT in needs)
        held += 8 * min(m, n) ** 2 * (Need.METRIC in needs)
        held += 8 * math.prod(blocks_shape(n)) * (Need.BLOCKS in needs)
        held += 8 * (n // taps) ** 2 * (Need.CHANNELS in needs)
        held += 8 * n * n * (Need.INPUT in needs or (Need.ROWS in needs and rows >= n))
        held += 8 * n * rows * (Need.ROWS in needs and Need.INPUT not in needs and rows < n)
        return int(held)

    # What the methods read: per-row averages, centred where their name says covariance.

    @property
    def mean(self) -> Float64:
        """μ, [n]."""
        return self.total / self.count

    @property
    def moment(self) -> Moment | None:
        """E[x xᵀ], uncentred, or the blocks along its diagonal; None where neither is kept."""
        if self.input is not None:
            return Moment.of(symmetric(self.input) / self.count)
        return None if self.blocks is None else Moment.of_blocks(self.n, self.blocks / self.count)

    @property
    def input_covariance(self) -> Float64:
        """C = (X−μ)(X−μ)ᵀ/p, [n, n]."""
        assert self.input is not None
        found = symmetric(self.input)
        found /= self.count
        return np.subtract(found, np.outer(self.mean, self.mean), out=found)

    @property
    def channel_covariance(self) -> Float64:
        """The mean over the taps of the covariance of the channels, [C, C]."""
        assert self.channels is not None
        means = self.mean.reshape(-1, self.taps)
        return (symmetric(self.channels) / self.count - means @ means.T) / self.taps

    @property
    def output_covariance(self) -> Float64:
        """S = W C Wᵀ, [m, m]."""
        assert self.output is not None
        assert self.output_total is not None
        mean = self.output_total / self.count
        return symmetric(self.output) / self.count - np.outer(mean, mean)

    @property
    def trace(self) -> float:
        """Tr C, the summed variance of the inputs; never negative."""
        return float(np.maximum(self.squares / self.count - self.mean**2, 0.0).sum())

    @property
    def trace_of_square(self) -> float:
        """Tr C²: exact where the input moment is kept, else estimated as ‖C Ω‖²/64, as E[Ω Ωᵀ] = 64·I."""
        if self.input is not None:
            return float(np.sum(self.input_covariance**2))
        assert self.sketch is not None
        omega = sketch_matrix(self.n)
        centred = self.sketch / self.count - np.outer(self.mean, self.mean @ omega)
        return float(np.sum(centred**2) / SKETCH_WIDTH)

    @property
    def output_metric(self) -> Float64:
        """G, [m, m], per sample and summed over its rows; where m > n, Wᵀ G W, [n, n]."""
        assert self.metric is not None
        return symmetric(self.metric) / self.metric_probes

    @property
    def metric_trace(self) -> float:
        """Tr G."""
        return self.metric_power / self.metric_probes

    @property
    def metric_count(self) -> float:
        """How many independent gradients G is worth, from 1 to the number of rows.

        Gradients are far from equal: a classifier's are near zero on all samples it is sure of, and G is made by the
        few others. So rows and probes count by their participation, (Σ q)² / Σ q² with q the share ‖g‖² of each. The
        rows of one probe are neither copies of one another nor independent: the geometric mean of the two counts is
        the design effect of a correlation of 1 / (1 + √rows) between them.
        """
        if not self.metric_spread.all():
            return 1.0
        return float(self.metric_power**2 / np.sqrt(self.metric_spread[0]) / np.sqrt(self.metric_spread[1]))

    @property
    def learned_nothing(self) -> bool:
        """One row or a constant input: t ≤ 1e-12·‖μ‖²/n leaves no covariance to learn from."""
        return self.trace <= 1e-12 * float(self.mean @ self.mean)
