"""What a user could try next, from what came out: one line each, at most three."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from onnx_dalr.results.result import Result
from onnx_dalr.units import format_share

_FEW = 200
_LITTLE_LEFT = 0.5  # share of the new file in eligible layers, below which the rest is what is large
_SLOWER = 1.02


def next_steps(result: Result) -> list[str]:
    """At most three, the most useful first."""
    return list(islice(_steps(result), 3))


def _steps(result: Result) -> Iterator[str]:
    quality = result.quality
    if quality is None:
        yield "--holdout 0.3, or --eval PATH with samples of their own, measures what it cost"
    elif quality.n < _FEW:
        width = 50 * (quality.drop.high - quality.drop.low)
        yield f"more samples: the drop is known to about ±{width:.2g} points from {quality.n}"
    inside = sum(layer.bytes_after for layer in result.layers)
    rest = result.bytes_after - inside
    if result.skipped and inside < _LITTLE_LEFT * result.bytes_after:
        share = format_share(rest, result.bytes_after)
        yield f"{share} of the new file is outside the layers that ranks reach: `onnx-dalr inspect` shows where"
    if result.latency and result.latency.after > _SLOWER * result.latency.before:
        yield "--rank-multiple 8, or --exclude the small layers: two thin products can be slower than one small one"
    if result.target.startswith("max-drop") and quality is not None and quality.drop.value <= 0:
        yield "--max-drop 2% for a smaller file: this one lost nothing on the samples"
    if not result.dry_run and result.output is not None:
        count = len(result.curve)
        tried = f"; --verbose shows the {count} model{'s' if count > 1 else ''} tried" if count else ""
        yield f"`onnx-dalr compare` on samples of another day{tried}"
