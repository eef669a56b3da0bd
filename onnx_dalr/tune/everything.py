"""Once all is chosen, factors are made of every sample but those of the report (methods.md §11)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_dalr.candidate.candidate import Candidate, build
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.factorize.joined import is_one
from onnx_dalr.learn.learn import MEMO, learn, learn_more
from onnx_dalr.learn.memo import Memo
from onnx_dalr.learn.trust import gains_by_more
from onnx_dalr.plan.plan import Plan
from onnx_dalr.samples.sets import Sets


def with_everything(candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
    """The candidate with factors of fit, proof and select samples, where a layer has so few rows that it matters.

    What was chosen stays: forms, how far samples are trusted, which layers are refitted and to what. The report samples
    stay untouched; where they are the select samples, these do too. What was learned of all is what the analysis has
    learned from then on.

    Args:
        candidate: With factors of the fit samples.
        plan: What it was made by.
        analysis: The original, its samples, and what was learned of them.
    """
    sets, learned, context = analysis.sets, analysis.learned, analysis.context
    if sets is None or learned.statistics or not context.options.method.takes_metric:
        return candidate  # statistics that were given, or are to be saved, are of the fit samples
    if sum(len(each) > 0 for each in sets.teaching) < 2 or not len(sets.fit):
        return candidate
    few = [
        layer
        for layer, form in zip(analysis.layers, plan.forms, strict=True)
        if not is_one(form)
        and layer.name not in candidate.instead
        and gains_by_more(layer, learned.rows.get(layer.name, 0))
    ]
    if not few:
        return candidate
    added = _added(sets)
    if all(layer.name in learned.sums for layer in few):
        more = learn_more(context, few, learned, added, analysis.task)
    else:
        more = learn(context, few, _together(sets), analysis.task, waits=True)
    with context.phase("factorize"):
        forms = {layer.name: form for layer, form in zip(analysis.layers, plan.forms, strict=True)}
        more.make_ready(few, [forms[layer.name] for layer in few], plan.factors)
    by_factors = {name: dict(held) for name, held in learned.by_factors.items()}
    for held in by_factors.values():
        for layer in few:
            held.pop(layer.name, None)
    for name, found in more.by_factors.items():
        by_factors.setdefault(name, {}).update(found)
    analysis.learned = replace(
        learned,
        by_factors=by_factors,
        rows={**learned.rows, **more.rows},
        digests=learned.digests | more.digests,
        passes=learned.passes + more.passes,
        made=Memo(MEMO),
        sums={},
    )
    with context.phase("rewrite"):
        made = build(context, analysis.layers, analysis.learned, plan.forms, plan.factors, instead=candidate.instead)
    context.notes.append(
        f"once all was chosen, factors of {len(few)} layer{'s' * (len(few) != 1)} with few rows were made again of "
        f"all {len(sets.fit) + len(added.fit)} samples but those of the report, {len(added.fit)} more than they were "
        "chosen with"
    )
    return replace(made, instead=candidate.instead)


def _together(sets: Sets) -> Sets:
    """Sets whose fit samples are all but those of the report."""
    indices = np.sort(np.concatenate([each.indices for each in sets.teaching]))
    return replace(sets, fit=replace(sets.fit, indices=indices))


def _added(sets: Sets) -> Sets:
    """Sets whose fit samples are those that were not learned from, but for the report's."""
    new = np.setdiff1d(np.concatenate([each.indices for each in sets.teaching]), sets.fit.indices)
    return replace(sets, fit=replace(sets.fit, indices=new))
