"""The written file, fresh from disk, against the original: smaller, valid, the same to its callers, and how good."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError, NothingToGainError, VerificationError
from onnx_dalr.graph.storage.model import Model, artifact_size, is_valid
from onnx_dalr.progress import TIMING, VERIFYING, Progress
from onnx_dalr.quality.evaluate import Latency, Quality, Task, evaluate, measure_latency
from onnx_dalr.quality.memory import Memory, measure_memory
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import Sets, watched
from onnx_dalr.session.session import Device, Runtime, Session, open_session
from onnx_dalr.session.values import all_finite

SLOWER = 1.05
NOTICEABLE_MS = 0.02


@dataclass(frozen=True)
class Verified:
    """What the written file is worth.

    Attributes:
        quality: On the report samples, None without any.
        latency: Of both models, None without any samples.
        digests: Of the report samples.
    """

    quality: Quality | None
    latency: Latency | None
    digests: tuple[str, ...]

    def notes(self, fitted: Collection[str]) -> tuple[str, ...]:
        """What a reader should know, given the digests of the fit samples."""
        found = list(self.quality.notes) if self.quality else []
        known = set(fitted)
        both = sum(each in known for each in self.digests)  # a sample that is there twice is two of them
        if both:
            found.append(f"{both} of the {len(self.digests)} report samples are among those that were fitted on")
        if self.latency is None:
            return tuple(found)
        before, after = self.latency.before, self.latency.after
        if after > SLOWER * before and after - before > NOTICEABLE_MS:
            found.append(
                f"slower: {after:.3g} ms instead of {before:.3g} ms a run (batch {self.latency.batch}); two thin "
                "products can cost more than one small one, a lower rank or --exclude may help"
            )
        return tuple(found)


def refuse_larger(written: Path, original: Model) -> int:
    """The size of the written artifact.

    Raises:
        NothingToGainError: It is not smaller than the original.
    """
    size = artifact_size(written) if original.has_external_data else written.stat().st_size
    if size >= original.size:
        raise NothingToGainError(
            f"nothing to gain: at these ranks the file would have {size:,} bytes instead of {original.size:,}",
            "ask for a smaller model, --params 50% for example",
        )
    return size


def verify(
    written: Path,
    original: Model,
    sets: Sets | None,
    task: Task | None,
    device: Device,
    progress: Progress,
    seconds: float = 1.0,
) -> Verified:
    """Checks the file on disk and measures it on the report samples.

    Latency is measured for about so many seconds. Without report samples only one batch of the fit samples is run, and
    quality is None; without any the file is loaded and its signature compared.

    Raises:
        VerificationError: Not a valid model, another signature, or outputs that are not finite.
    """
    count = 0 if sets is None else len(sets.report)
    with progress.stage(VERIFYING, count) as advance:
        reference, session = _opened(written, original, device)
        if sets is None:
            return Verified(None, None, ())
        quality, digests = None, list[str]()
        if len(sets.report) and task is not None:
            batches = watched(sets.report, digests)
            padding = partial(kept_in, name=sets.mask_input)
            quality = evaluate(reference, session, batches, task, sets.report.labels, advance, padding=padding)
            finite = quality.finite
        else:
            _, batch = next(iter(sets.fit))
            finite = all_finite(session.run(batch)) or not all_finite(reference.run(batch))
    if not finite:
        raise VerificationError(
            "the written model gives NaN or infinity where the original does not", "try a higher rank, or --exclude"
        )
    with progress.stage(TIMING, None):
        count, batch = (sets.report if len(sets.report) else sets.fit).one()
        latency = measure_latency(reference, session, batch, count, seconds)
    return Verified(quality, latency, tuple(digests))


def measured_memory(written: Path, original: Model, sets: Sets | None, runtime: Runtime) -> Memory | None:
    """What both models take in fresh processes, on the batch that latency is measured on; None without samples."""
    if sets is None:
        return None
    count, batch = (sets.report if len(sets.report) else sets.fit).one()
    return measure_memory(original.source(), written, batch, count, runtime.ops_libraries)


def _opened(written: Path, original: Model, device: Device) -> tuple[Session, Session]:
    """Sessions of the original and of the file.

    Raises:
        VerificationError: It is not a valid model, does not load, or looks other to its callers.
    """
    fault = is_valid(written)
    if fault is not None and is_valid(original.path or original.proto) is None:
        raise VerificationError(f"the written model is not valid: {fault}", "please report this, with the model")
    reference = open_session(original.source(), device)
    try:
        session = open_session(written, device)
    except InputError as error:
        raise VerificationError(f"the written model does not load: {error.message}", "please report this") from error
    if not _same_signature(session, reference):
        raise VerificationError("the written model has another signature than the original", "please report this")
    return reference, session


def _same_signature(new: Session, old: Session) -> bool:
    """Whether callers see the same inputs and outputs.

    ONNX Runtime infers the shape of an output that declares none from the nodes behind it, so two shapes differ only
    where both know a number.
    """
    pairs = list(zip(new.signature, old.signature, strict=False))
    same = all(a[:3] == b[:3] and _compatible(a[3], b[3]) for a, b in pairs)
    return same and len(new.signature) == len(old.signature)


def _compatible(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if not one or not other:
        return True
    pairs = list(zip(one, other, strict=False))
    known = [(a, b) for a, b in pairs if all(isinstance(size, int) and size > 0 for size in (a, b))]
    return len(one) == len(other) and all(a == b for a, b in known)
