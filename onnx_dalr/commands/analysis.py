"""What `optimize` and `analyze` share: everything up to what the samples say of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from onnx_dalr.ahead.announce import announce_size
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.in_time import timed
from onnx_dalr.commands.asked import Asked
from onnx_dalr.commands.layers import choose_layers
from onnx_dalr.commands.learning import analyzed, refuse_by_sizes
from onnx_dalr.commands.opening import announce_samples, draw_thumbnails, opened_samples
from onnx_dalr.look.macs import on_a_sample
from onnx_dalr.request.context import Context
from onnx_dalr.request.target import make_target
from onnx_dalr.samples.proof import with_proof
from onnx_dalr.samples.sets import Sets
from onnx_dalr.tune.transfer import are_enough
from onnx_dalr.work_dir import WorkDir, opened_work_dir


@contextmanager
def analysis_of(context: Context, asked: Asked) -> Iterator[Analysis]:
    """Finds the layers, opens the samples and learns from the fit samples, or from statistics on disk in their place.

    Raises:
        InputError: Samples, statistics or options that cannot be used.
        TargetError: The target cannot be met.
        NothingToGainError: No layer is eligible, or all stay as they are.
    """
    layers, skipped = choose_layers(context, asked)
    with opened_samples(context, asked) as opened, _work_dir(context) as work:
        context = replace(context, work=work)
        sets = opened if opened is None or not _may_tune(context, asked, opened) else with_proof(opened)
        announce_samples(context, sets, from_files=bool(asked.stats))
        if asked.only is None:
            announce_size(context, asked.target or make_target(), layers)
        context = replace(context, macs=on_a_sample(context.original, context.options.runtime, sets))
        if asked.target is not None:
            context = timed(context, asked.target, layers, sets)
        refuse_by_sizes(context, asked, layers, sets)
        draw_thumbnails(sets, asked)
        # No name here for what was learned: while it waits, this frame would hold what the analysis is told to forget.
        yield analyzed(context, asked, layers, skipped, sets)


@contextmanager
def _work_dir(context: Context) -> Iterator[WorkDir | None]:
    """Where what was done is kept, for this run alone; None where that is not asked for.

    Raises:
        InputError: It cannot be used, or another run uses it.
    """
    path = context.options.work_dir
    if path is None:
        yield None
        return
    with opened_work_dir(path, context.progress.say) as work:
        yield work


def _may_tune(context: Context, asked: Asked, sets: Sets) -> bool:
    """Whether samples are to be set apart, to prove what tuning gains on."""
    return asked.written and not asked.stats and context.options.tunes and are_enough(sets)
