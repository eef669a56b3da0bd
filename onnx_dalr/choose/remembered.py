"""Scores that are kept in a folder: a search that was killed asks for none of them a second time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_dalr._version import __version__
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import Scorer, Trial
from onnx_dalr.plan.plan import Plan
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import Sets, fed
from onnx_dalr.session.versions import versions
from onnx_dalr.work_dir import WorkDir, key_of

_KIND = "trial"
_PHASE = "decide"


def remembered(context: Context, space: SearchSpace, sets: Sets, task: Task, score: Scorer) -> Scorer:
    """A scorer that looks into the work folder of the run first, and puts there what it finds out.

    The scorer itself where there is no such folder; or the user scores: nobody knows what that depends on.
    """
    if context.work is None:
        return score
    if task.score is not None:
        context.progress.say("note: scores of your own are not kept in --work-dir: what they depend on is not known")
        return score
    return _Remembered(context, context.work, key_of(*_depends_on(context, space, sets, task)), score)


class _Remembered:
    def __init__(self, context: Context, work: WorkDir, run: str, score: Scorer) -> None:
        self._context, self._work, self._run, self._score = context, work, run, score

    def __call__(self, plan: Plan) -> Trial:
        key = key_of(self._run, plan.factors, plan.forms)
        facts = self._work.read_facts(_KIND, key)
        if facts is not None:
            # The time it took then: tuning takes as long as the search.
            seconds = self._context.seconds
            seconds[_PHASE] = seconds.get(_PHASE, 0.0) + float(facts["seconds"])
            self._context.progress.detail("known from --work-dir: a candidate that was scored before")
            if self._work.taken[_KIND] == 1:
                self._context.notes.append(f"{self._work}: candidates that were scored before are not scored again")
            return Trial(**facts["trial"] | {"distortions": tuple(facts["trial"]["distortions"])})
        start = time.perf_counter()
        trial = self._score(plan)
        self._work.write_facts(_KIND, key, {"trial": dataclasses.asdict(trial), "seconds": time.perf_counter() - start})
        return trial


def _depends_on(context: Context, space: SearchSpace, sets: Sets, task: Task) -> Sequence[Any]:
    """What a score depends on, beside the forms: to the last bit of what the layers lose."""
    options, select = context.options, sets.select
    digests: list[str] = []
    for _ in fed(select, lambda count: None, digests):
        pass
    labels = None if select.labels is None else select.labels[select.indices].tolist()
    measures = [(one.name, one.position, one.measure, one.counts, one.hidden, one.padded) for one in task.measured]
    tails = [np.asarray(tail, np.float64) for tail in space.tails]
    return (
        __version__,
        {name: said for name, said in versions(options.device).items() if name in ("onnxruntime", "numpy", "BLAS")},
        context.original.content_hash,
        context.file if context.original.has_external_data else None,
        space.learned.calibration if space.learned is not None else "",
        tails,
        [layer.name for layer in space.layers],
        space.names_of_factors,
        [options.method.name, options.settings, options.weights, options.structures, options.memory],
        [options.device, options.ops_libraries],
        [digests, select.batch_size, select.positions, labels, sets.mask_input],
        [measures, task.labelled, task.complete],
        space.target.confidence,
    )
