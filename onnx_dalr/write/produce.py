"""From a Plan to the file on disk and what it is worth: the rewrite, the verification and the report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr._version import __version__
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.decide import note, substitutions
from onnx_dalr.choose.space import sizes_of
from onnx_dalr.files import Files, together
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import count_params, save
from onnx_dalr.learn.learn import DEFAULT, Learned
from onnx_dalr.learn.statistics_file import save_statistics
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import REWRITING, SAVING, counted
from onnx_dalr.request.wording import told_to
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.write.destination import STANDARD_OUTPUT, Destination, refuse_larger, write_text
from onnx_dalr.write.verify import verify


@dataclass(frozen=True)
class Extras:
    """What a run writes beside the model.

    Attributes:
        plan: Where the plan goes, None for nowhere.
        stats: Where the statistics go.
        force: Existing ones may be replaced.
    """

    plan: Path | None = None
    stats: Path | None = None
    force: bool = False

    def write(self, files: Files, analysis: Analysis, plan: Plan) -> None:
        """Writes them among the files of the run.

        Raises:
            InputError: One cannot be written.
        """
        if self.stats is not None:
            with files.at(self.stats, force=self.force) as path:
                save_statistics(analysis.stats, path)
        if self.plan is not None:
            with files.at(self.plan, force=self.force) as path:
                plan.save(path)


def produce(analysis: Analysis, plan: Plan, destination: Destination, extras: Extras) -> Result:
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
        substituted = counted(substitutions(analysis.layers, learned.spectra, plan), advance)
        proto = rewrite(original, substituted, text).proto
    layer_results = tuple(_layer_results(analysis, learned, plan))
    factors = _factors(learned, plan)
    fitted, calibration, passes = learned.digests, learned.calibration, learned.passes
    with together() as files, destination.place(files) as written:
        if not destination.dry_run:
            extras.write(files, analysis, plan)
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
        if destination.report not in (None, STANDARD_OUTPUT):
            with files.at(destination.report, force=True) as path:
                write_text(path, result.to_json())
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


def files_read(*given: Any, code: Sequence[Any] = ()) -> list[Path]:
    """Files and folders among what a user gave; of "file.py:function" the file."""
    named = [text.rpartition(":")[0] or None for text in code if isinstance(text, str)]
    return [Path(path) for path in (*given, *named) if isinstance(path, str | os.PathLike)]
