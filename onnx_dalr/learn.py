"""The fit samples become Spectra: capture and factorize, as many layers at a time as memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from onnx_dalr.capture import Capture, capture, memory_limit, passes
from onnx_dalr.factorize import Spectrum
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.run import Run
from onnx_dalr.sets import Sets, fed, fingerprint

STATISTICS_FLOOR = 1 << 30
"""Bytes of statistics that are always allowed at a time; above, as much as the model itself."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What the fit samples taught.

    Attributes:
        spectra: By layer name.
        rows: Rows behind each, by layer name.
        digests: Of the fit samples.
        notes: What a user should know.
    """

    spectra: dict[str, Spectrum]
    rows: dict[str, int]
    digests: frozenset[str]
    notes: tuple[str, ...]

    @property
    def calibration(self) -> str:
        """Fingerprint of the fit samples."""
        return fingerprint(self.digests)


def learn(run: Run, layers: Sequence[Layer], sets: Sets) -> Learned:
    """Statistics and from them a Spectrum of every layer, in as few passes over the samples as memory allows."""
    method = run.options.method
    groups = passes(layers, method, min(memory_limit(), max(STATISTICS_FLOOR, run.original.size)))
    learned = Learned({}, {}, frozenset(), ())
    for number, group in enumerate(groups, start=1):
        which = f" ({number}/{len(groups)})" if len(groups) > 1 else ""
        seen: list[str] = []
        with run.phase("capture"), run.progress.stage(f"capturing{which}", len(sets.fit)) as advance:
            captured = capture(
                run.original,
                group,
                method,
                fed(sets.fit, advance, seen),
                device=run.options.device,
                mask_input=sets.mask_input,
            )
        learned.rows.update((name, statistics.count) for name, statistics in captured.statistics.items())
        learned.spectra.update(_factorize(run, group, captured, which))
        learned = replace(learned, digests=frozenset(seen), notes=(*learned.notes, *captured.notes))
    return learned


def _factorize(run: Run, layers: Sequence[Layer], captured: Capture, which: str) -> dict[str, Spectrum]:
    """Takes the statistics out of the capture as it goes: one layer's at a time is let go."""
    spectra = {}
    # One BLAS thread: two on a busy machine take many times as long for an eigendecomposition (METHODS §7).
    with (
        run.phase("factorize"),
        run.progress.stage(f"factorizing{which}", len(layers)) as advance,
        threadpool_limits(1, user_api="blas"),
    ):
        for layer in layers:
            advance(1)
            if layer.name not in captured.statistics:
                continue
            W, statistics = matrix(run.original, layer), captured.statistics.pop(layer.name)
            spectrum = run.options.method.spectrum(W, statistics, run.options.ridge)
            spectra[layer.name] = spectrum.compact() if W.dtype == np.float32 else spectrum
    return spectra
