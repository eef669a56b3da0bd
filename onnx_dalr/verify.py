"""The written file, fresh from disk, against the original: valid, the same to its callers, and how good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnx_dalr.errors import InputError, VerificationError
from onnx_dalr.evaluate import Latency, Quality, Task, evaluate, measure_latency
from onnx_dalr.graph.model import Model, is_valid
from onnx_dalr.runtime import Device, all_finite, open_session
from onnx_dalr.sets import SampleSet, Sets

SLOWER = 1.05


def verify(
    written: Path,
    original: Model,
    sets: Sets,
    task: Task | None,
    device: Device,
    each: Callable[[int], None],
) -> tuple[Quality | None, Latency]:
    """Checks the file on disk and measures it on the report samples.

    Without report samples only one batch of the fit samples is run, and quality is None.

    Raises:
        VerificationError: Not a valid model, another signature, or outputs that are not finite.
    """
    problem = is_valid(written)
    if problem is not None and (original.path is None or is_valid(original.path) is None):
        raise VerificationError(f"the written model is not valid: {problem}", "please report this, with the model")
    try:
        reference, session = open_session(original.source(), device), open_session(written, device)
    except InputError as error:
        raise VerificationError(f"the written model does not load: {error.message}") from error
    if session.signature != reference.signature:
        raise VerificationError("the written model has another signature than the original", "please report this")
    quality = None
    if len(sets.report) and task is not None:
        quality = evaluate(reference, session, sets.report, task, sets.report.source.labels, each)
        finite = quality.finite
    else:
        _, batch = next(iter(sets.fit))
        finite = all_finite(session.run(batch)) or not all_finite(reference.run(batch))
    if not finite:
        raise VerificationError(
            "the written model gives NaN or infinity where the original does not", "try a higher rank, or --exclude"
        )
    shown: SampleSet = sets.report if len(sets.report) else sets.fit
    count, batch = shown.one()
    return quality, measure_latency(reference, session, batch, count)


def slower_note(latency: Latency) -> str | None:
    """A warning where the new model takes more time than the original."""
    if latency.after <= SLOWER * latency.before:
        return None
    return (
        f"slower: {latency.after:.2f} ms instead of {latency.before:.2f} ms a run (batch {latency.batch}); two thin "
        "products can cost more than one small one, a lower rank or --exclude may help"
    )
