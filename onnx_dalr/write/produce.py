"""From a Plan to the file on disk and what it is worth: the rewrite, the verification and the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx_dalr._version import __version__
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.decide import note, substitutions
from onnx_dalr.choose.space import sizes_of
from onnx_dalr.files import together
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import count_params, save
from onnx_dalr.learn.learn import DEFAULT, Learned
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import REWRITING, SAVING, counted
from onnx_dalr.request.wording import told_to
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.write.destination import Destination
from onnx_dalr.write.verify import refuse_larger, verify


def produce(analysis: Analysis, plan: Plan, destination: Destination) -> Result:
    """Rewrites the model by a plan, verifies the file and says what it is worth.

    Raises:
        VerificationError: The written model does not behave. Nothing is left behind.
        NothingToGainError: It is not smaller.
        InputError: Something cannot be written.
    """
    run, sets, learned = analysis.run, analysis.sets, analysis.learned
    plan = told_to(run.progress, plan)
    original, options = run.original, run.options
    with run.phase("rewrite"), run.progress.stage(REWRITING, len(plan.compressed)) as advance:
        text = note(run, plan, learned.calibration)
        proto = rewrite(original, counted(substitutions(analysis.layers, learned.spectra, plan), advance), text)
    layer_results = tuple(_layer_results(analysis, learned, plan))
    factors = _factors(learned, plan)
    fitted, calibration, passes = learned.digests, learned.calibration, learned.passes
    with together() as files, destination.place(files) as written:
        destination.write_beside(files, analysis, plan)
        del learned
        analysis.forget()  # the largest thing in memory, and verification needs none of it
        with run.phase("save and verify"):
            with run.progress.stage(SAVING, None):
                save(proto, original, written)
                size = refuse_larger(written, original)
            verified = verify(written, original, sets, analysis.task, options.runtime, run.progress)
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
            params_after=count_params(proto),
            layers=layer_results,
            skipped=tuple(analysis.skipped),
            samples=None if sets is None else sets.facts(calibration),
            quality=verified.quality,
            latency=verified.latency,
            device=options.device,
            provider=analysis.provider,
            evaluations=plan.evaluations,
            passes=plan.passes,
            metric_passes=passes,
            curve=plan.curve,
            seconds=dict(run.seconds),
            notes=(*run.notes, *verified.notes(fitted)),
            model=proto if destination.output is None else None,
        )
        result = told_to(run.progress, facts)
        destination.write_report(files, result)
    return result


def _factors(learned: Learned, plan: Plan) -> str:
    """What the factors of the compressed layers are called: layers with enough samples use the default in any plan."""
    special = learned.spectra.get(plan.factors, {})
    return plan.factors if any(choice.layer in special for choice in plan.compressed) else DEFAULT


def _layer_results(analysis: Analysis, learned: Learned, plan: Plan) -> Iterator[LayerResult]:
    sizes = sizes_of(analysis.layers, analysis.run.options.method)
    chosen: dict[str, Any] = learned.spectra[DEFAULT] | learned.spectra.get(plan.factors, {})
    for layer, size, choice in zip(analysis.layers, sizes, plan.choices, strict=True):
        spectrum, rank = chosen[layer.name], choice.rank
        after = size.params(rank)
        effect = spectrum.metric_tails
        yield LayerResult(
            name=layer.name,
            weight=layer.weight,
            op=layer.op,
            nodes=layer.nodes,
            m=layer.m,
            n=layer.n,
            rank=rank,
            break_even=size.largest_rank,
            params_before=layer.params,
            params_after=after,
            bytes_before=layer.params * layer.dtype.itemsize,
            bytes_after=after * layer.dtype.itemsize,
            method=None if rank is None else spectrum.method,
            calibration_error=None if rank is None else spectrum.calibration_error(rank),
            expected_error=None if rank is None else spectrum.expected_error(rank),
            expected_distortion=None if rank is None or effect is None else float(effect[rank]),
            rows=learned.rows[layer.name],
            ridge=spectrum.ridge,
            shrinkage=spectrum.shrinkage,
            metric_shrinkage=spectrum.metric_shrinkage,
            reason=choice.reason,
        )
