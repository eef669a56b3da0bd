"""The samples of a run: opened, announced and, where that is asked for, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnx_dalr.commands.asked import Asked
from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import input_specs, metadata
from onnx_dalr.request.context import Context
from onnx_dalr.request.without_samples import check_given
from onnx_dalr.samples.sets import Sets, opened


@contextmanager
def opened_samples(context: Context, asked: Asked) -> Iterator[Sets | None]:
    """The samples, open while the block runs; None where there are statistics alone.

    Raises:
        InputError: There are neither, they cannot be used, or an option means nothing without them.
    """
    samples = asked.samples
    if samples.calib is None and not asked.stats:
        raise InputError("there are no samples", "give --calib PATH, or --stats FILE")
    if samples.calib is None:
        check_given(context.options, samples, thumbnails=asked.thumbnails is not None)
    if samples.calib is None and samples.eval is None:
        yield None
        return
    with opened(samples, input_specs(context.original.proto)) as sets:
        yield sets


def announce_samples(context: Context, sets: Sets | None, *, from_files: bool) -> None:
    """Says what the samples are and how they are divided, and keeps for the report what its reader should know."""
    earlier = metadata(context.original.proto)
    if earlier is not None:
        context.notes.append(f"the model has been optimized before: {earlier}")
        context.progress.say(context.notes[-1])
    if sets is None:
        return
    context.progress.say(f"samples: {sets.fit.source.description}")
    settings = ", ".join(f"{name} {value}" for name, value in sets.fit.source.settings.items())
    if settings:
        context.progress.say(f"images: {settings}")
    for said in sets.notes:
        context.notes.append(said)
        context.progress.say(f"note: {said}")
    if sets.mask is not None:
        context.progress.say(f"padding: {sets.mask}")
    if sets.report.source.complete:
        context.notes.append(
            "the samples are complete feeds: every step starts from its recorded state, so drift that builds up over "
            "many steps is not in these figures"
        )
    if sets.only_report:
        context.progress.say(
            f"split: report {len(sets.report)}; statistics are given, and nothing is chosen on samples"
        )
        return
    fit = f"fit {len(sets.fit)} (not run: statistics are given)" if from_files else f"fit {len(sets.fit)}"
    proof = f", proof {len(sets.proof)}" if sets.proof is not None else ""
    counts = f"{fit}{proof}, select {len(sets.select)}, report {len(sets.report)}"
    shared = " (the same set)" if sets.split.select_is_report else ""
    context.progress.say(f"split: {counts}{shared}, seed {sets.options.seed}")


def draw_thumbnails(sets: Sets | None, asked: Asked) -> None:
    """Draws some of the fit images as the model sees them, where that is asked for.

    Raises:
        InputError: They are no images, or the file cannot be written.
    """
    if asked.thumbnails is None or sets is None:
        return
    from onnx_dalr.samples.images.contact_sheet import write_thumbnails  # noqa: PLC0415 - Pillow is loaded when it is needed

    path, force = asked.thumbnails
    write_thumbnails(sets.fit.source, sets.fit.indices, path, force=force)
