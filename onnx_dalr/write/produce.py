"""From a Plan to the file on disk and what it is worth: the rewrite, the verification and the report."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_dalr._version import __version__
from onnx_dalr.candidate.candidate import build
from onnx_dalr.candidate.forms import NODES, bytes_in_format, bytes_of, largest_rank, macs_of, params_of
from onnx_dalr.candidate.noted import note_that_it_learned
from onnx_dalr.candidate.small import stays_small
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.costs.latency import LATENCY
from onnx_dalr.choose.in_time import SECONDS, held_to
from onnx_dalr.choose.spectrum import spectrum_of
from onnx_dalr.factorize import UNTOUCHED
from onnx_dalr.factorize.joined import is_one
from onnx_dalr.files import together
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import save
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.picked import notes_of_use
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import REWRITING, SAVING
from onnx_dalr.request.selection import select
from onnx_dalr.request.target import Target
from onnx_dalr.request.wording import told_to
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import CPU
from onnx_dalr.session.versions import versions
from onnx_dalr.tune import Ready, tuned
from onnx_dalr.write.destination import Destination
from onnx_dalr.write.verify import measured_memory, refuse_larger, verify

_MORE_MEMORY = (
    "it takes more memory than the original when it runs: its weights become floats when it is loaded; "
    "--memory small keeps them packed"
)

_EIGHT_BITS = "int8"


def produce(
    analysis: Analysis,
    plan: Plan,
    destination: Destination,
    ready: Ready | None = None,
    *,
    target: Target | None = None,
) -> Result:
    """Rewrites the model by a plan, verifies the file and says what it is worth.

    Args:
        analysis: That the plan was made from.
        plan: The forms.
        destination: Where to write what.
        ready: What the search made of it already.
        target: That the plan is for, where it is held against the file; None for a plan that was given.

    Raises:
        TargetError: A limit of time is missed by more than noise.
        VerificationError: The written model does not behave. Nothing is left behind.
        NothingToGainError: It is not smaller.
        InputError: Something cannot be written.
    """
    context, sets, learned = analysis.context, analysis.sets, analysis.learned
    plan = told_to(context.progress, plan)
    original, options = context.original, context.options
    if ready is None:
        with context.phase("rewrite"), context.progress.stage(REWRITING, len(plan.compressed)) as advance:
            made = build(context, analysis.layers, learned, plan.forms, plan.factors, advance)
    else:
        made = ready.candidate
    after = tuned(made, plan, analysis, ready)
    made, plan, learned = after.candidate, after.plan, analysis.learned
    if options.small_memory:
        with context.phase("rewrite"):
            small = stays_small(context, analysis.layers, made)
        made = small.candidate
        context.notes.extend(small.notes)
    context.notes.extend(notes_of_use(context, analysis.layers, plan.forms, learned, sets))
    proto = made.proto
    if plan.tuning is not None:
        note_that_it_learned(proto)
    pictures = _pictures(sets) if destination.page is not None else ()
    layer_results = tuple(_layer_results(analysis, learned, plan))
    factors, macs = _factors(learned, plan), _macs(analysis, plan)
    fitted, calibration, passes = learned.digests, learned.calibration, learned.passes
    with together() as files, destination.place(files) as written:
        destination.write_beside(files, analysis, plan)
        del learned
        analysis.forget()  # the largest thing in memory, and verification needs none of it
        with context.phase("save and verify"):
            with context.progress.stage(SAVING, None):
                save(proto, original, written)
                size = refuse_larger(written, original)
            seconds = 1.0 if target is None or target.name != LATENCY else SECONDS
            verified = verify(written, original, sets, analysis.task, options.runtime, context.progress, seconds)
            promise = None if target is None else held_to(target, verified.latency, context.notes)
            wants = options.concerns_memory and analysis.provider == CPU
            memory = measured_memory(written, original, sets, options.runtime) if wants else None
        if memory is not None and memory.grows and not options.small_memory:
            context.notes.append(_MORE_MEMORY)
        facts = Result(
            version=__version__,
            input=original.path,
            output=None if destination.dry_run else destination.output,
            dry_run=destination.dry_run,
            method=options.method.name,
            factors=factors,
            target=plan.target,
            bytes_before=original.size,
            bytes_after=size,
            params_before=original.params,
            params_after=made.params,
            macs_before=macs[0],
            macs_after=macs[1],
            layers=layer_results,
            skipped=tuple(analysis.skipped),
            samples=None if sets is None else sets.facts(calibration),
            quality=verified.quality,
            latency=verified.latency,
            promise=promise,
            memory=memory,
            command=destination.command,
            versions=versions(analysis.provider if sets is not None else ""),
            pictures=pictures,
            device=options.device,
            provider=analysis.provider,
            evaluations=plan.evaluations,
            passes=plan.passes,
            metric_passes=passes,
            curve=plan.curve,
            seconds=dict(context.seconds),
            notes=(*context.notes, *verified.notes(fitted)),
            tuning=after.tuning,
            refitted=tuple(layer.name for layer in analysis.layers if layer.name in made.refitted),
            bytes_with_formats=_bytes_with_formats(analysis, plan, size),
            model=proto if destination.output is None else None,
        )
        result = told_to(context.progress, facts)
        destination.write_report(files, result)
    return result


def _pictures(sets: Sets | None) -> tuple[tuple[str, bytes], ...]:
    """Some fit samples as the model sees them."""
    if sets is None or sets.only_report:
        return ()
    from onnx_dalr.samples.images.gallery import thumbnails  # noqa: PLC0415 - Pillow is loaded when it is needed

    return thumbnails(sets.fit.source, sets.fit.indices)


def _macs(analysis: Analysis, plan: Plan) -> tuple[int, int] | tuple[None, None]:
    """Multiply-adds for one sample, before and after; None where not all are known."""
    known = analysis.context.macs
    if known is None or known.unknown:
        return None, None
    pairs = zip(analysis.layers, plan.forms, strict=True)
    saved = sum(macs_of(layer, UNTOUCHED, known) - macs_of(layer, form, known) for layer, form in pairs)
    return known.whole, known.whole - round(saved)


def _bytes_with_formats(analysis: Analysis, plan: Plan, size: int) -> int | None:
    """About what the file would weigh with all of its weights in eight bits, which loses next to nothing."""
    options = analysis.context.options
    if not options.keeps:
        return None
    forms = dict(zip((layer.name for layer in analysis.layers), plan.forms, strict=True))
    layers, _ = select(*find(analysis.context.original, in_one_piece=True), options.include, options.exclude)
    for layer in layers:
        form = forms.get(layer.name, UNTOUCHED)
        then = bytes_in_format(layer, form, _EIGHT_BITS, options.method)
        size -= max(bytes_of(layer, form, options.method) - then - NODES * (1 + len(form.rank)), 0)
    return size


def _factors(learned: Learned, plan: Plan) -> str:
    """What the factors of the compressed layers are called: layers with enough samples use the default in any plan."""
    special = learned.by_factors.get(plan.factors, {})
    return plan.factors if any(choice.layer in special for choice in plan.compressed) else DEFAULT


def _layer_results(analysis: Analysis, learned: Learned, plan: Plan) -> Iterator[LayerResult]:
    method = analysis.context.options.method
    for layer, choice in zip(analysis.layers, plan.choices, strict=True):
        form, spectra = choice.form, learned.of(layer.name, plan.factors)
        changed, first = not form.untouched, spectra.of(form)
        yield LayerResult(
            name=layer.name,
            weight=layer.weight,
            op=layer.op,
            nodes=layer.nodes,
            m=layer.m,
            n=layer.n,
            rank=form.rank[0] if len(form.rank) == 1 and not is_one(form) else None,
            form=form,
            break_even=largest_rank(layer, method),
            params_before=layer.params,
            params_after=params_of(layer, form, method),
            bytes_before=bytes_of(layer, UNTOUCHED, method),
            bytes_after=bytes_of(layer, form, method),
            method=first.method if changed else None,
            calibration_error=spectra.calibration_error(form) if changed else None,
            expected_error=spectra.expected_error(form) if changed else None,
            expected_distortion=spectra.known_effect(form) if changed else None,
            rows=learned.rows.get(layer.name, 0),
            ridge=first.ridge,
            shrinkage=first.shrinkage,
            metric_shrinkage=first.metric_shrinkage,
            reason=choice.reason,
            spectrum=spectrum_of(layer, spectra, form, method),
        )
