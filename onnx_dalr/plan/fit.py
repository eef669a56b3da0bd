"""A Plan meets a model: is it the one, does every layer fit, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto

from onnx_dalr.choose.decide import note, refuse_all_dense, substitutions
from onnx_dalr.choose.space import sizes_of
from onnx_dalr.errors import InputError
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn.capture import needs_of
from onnx_dalr.learn.learn import learn_from
from onnx_dalr.learn.statistics_file import load_statistics
from onnx_dalr.learn.statistics_set import StatisticsSet, check_fits, model_hash
from onnx_dalr.plan.plan import REFUSED, Choice, Plan
from onnx_dalr.progress import Silent
from onnx_dalr.request.context import Run
from onnx_dalr.request.options import Options, from_plan, make_options


def check_plan(plan: Plan, model: Model) -> frozenset[str]:
    """The layers a plan compresses.

    Raises:
        InputError: It is of another model, or names a layer the model does not have.
        NothingToGainError: It keeps every layer.
    """
    found = model_hash(model)
    if plan.model is not None and plan.model != found:
        raise InputError(
            f"the plan belongs to another model: it is of {plan.model[:8]}, this is {found[:8]}",
            "give the model it was made for, or analyze this one",
        )
    layers, skipped = find(model)
    known = {layer.name for layer in layers}
    for choice in plan.choices:
        if choice.layer not in known:
            why = next((f": {entry.reason}" for entry in skipped if entry.name == choice.layer), "")
            raise InputError(
                f"the plan has layer {choice.layer!r}, which the model has not{why}",
                "`onnx-dalr inspect` lists the layers",
            )
    return frozenset(choice.layer for choice in refuse_all_dense(plan).compressed)


def fitted_to(plan: Plan, run: Run, layers: Sequence[Layer]) -> Plan:
    """The plan with one choice per layer, in their order; a rank that saves nothing keeps its layer dense.

    Where its ranks are no longer those that were chosen when it was made, no point of its curve is marked as chosen,
    and the run notes it.

    Raises:
        NothingToGainError: That leaves none.
    """
    by_name = {choice.layer: choice for choice in plan.choices}
    choices: list[Choice] = []
    params = run.original.params
    for layer, size in zip(layers, sizes_of(layers, run.options.method), strict=True):
        choice = by_name[layer.name]
        if choice.rank is not None and choice.rank > size.largest_rank:
            why = f"rank {choice.rank} {REFUSED}: {size.largest_rank} is the largest"
            choice = replace(choice, rank=None, reason=why)
        choices.append(choice)
        params += size.params(choice.rank) - size.params(None)
    fitted = refuse_all_dense(replace(plan, choices=tuple(choices)))
    if all(point.params == params for point in plan.curve if point.chosen):
        return fitted
    run.notes.append(
        "these are not the ranks that were chosen when the plan was made: its reasons and curve are of those"
    )
    return replace(fitted, curve=tuple(replace(point, chosen=False) for point in plan.curve))


def options_of(plan: Plan, given: Options) -> Options:
    """The options of a run, with the method and the factors' settings that the plan was made with.

    Raises:
        InputError: Others are asked for.
    """
    made = make_options(method=plan.method, **from_plan(plan.settings))
    if given.method.name not in (make_options().method.name, plan.method):
        raise InputError(f"the plan is for --method {plan.method}, not {given.method.name}", "leave --method out")
    for name, value in given.described().items():
        if made.described().get(name) != value:
            option = "--no-metric" if name == "metric" else f"--{name} {value}"
            raise InputError(f"the plan was made without {option}", "leave it out, or analyze again with it")
    return replace(given, method=made.method, settings=made.settings)


def apply_to_proto(
    plan: Plan, model: str | os.PathLike[str] | ModelProto, stats: StatisticsSet | str | os.PathLike[str]
) -> ModelProto:
    """The model rewritten by a plan, from statistics alone. See `Plan.apply`."""
    options = options_of(plan, make_options())
    run = Run(load(model), options, Silent())
    wanted = check_plan(plan, run.original)
    layers = [layer for layer in find(run.original)[0] if layer.name in wanted]
    held = stats if isinstance(stats, StatisticsSet) else load_statistics(Path(stats))
    name = "the set of statistics" if isinstance(stats, StatisticsSet) else str(stats)
    check_fits(
        held,
        name,
        model=model_hash(run.original),
        method=options.method,
        settings=held.settings,
        layers=layers,
        needs=lambda layer: needs_of(layer, options.method, metric=options.wants_metric),
    )
    learned = learn_from(run, layers, held)
    fitted = fitted_to(plan, run, layers)
    text = note(run, fitted, learned.calibration)
    return rewrite(run.original, substitutions(layers, learned.spectra, fitted), text).proto
