"""A plan meets a model and the options of a run: is it for them, and does every layer fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnx_dalr.candidate.forms import forms_of, largest_rank, params_of
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import KEPT, UNTOUCHED
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.plan.choice import Choice, Point, compressed_of, refused
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import Options, from_plan, make_options
from onnx_dalr.request.selection import formats_of
from onnx_dalr.request.weights import WeightRule


def check_plan(choices: Sequence[Choice], of: str | None, model: Model) -> frozenset[str]:
    """Holds a plan against the model it meets.

    Args:
        choices: Of the plan.
        of: Content hash of the model it is for, None where it does not say.
        model: The model it meets.

    Returns:
        Names of the layers it compresses.

    Raises:
        InputError: It is of another model, or names a layer the model does not have.
        NothingToGainError: It keeps every layer.
    """
    found = model.content_hash
    if of is not None and of != found:
        raise InputError(
            f"the plan belongs to another model: it is of {of[:8]}, this is {found[:8]}",
            "give the model it was made for, or analyze this one",
        )
    layers, skipped = find(model, in_one_piece=any(choice.form.format != KEPT for choice in choices))
    known = {layer.name for layer in layers}
    for choice in choices:
        if choice.layer not in known:
            why = next((f": {entry.reason}" for entry in skipped if entry.name == choice.layer), "")
            raise InputError(
                f"the plan has layer {choice.layer!r}, which the model has not{why}",
                "`onnx-dalr inspect` lists the layers",
            )
    return frozenset(choice.layer for choice in compressed_of(choices))


def fitted_to(
    choices: Iterable[Choice], curve: tuple[Point, ...], context: Context, layers: Sequence[Layer]
) -> tuple[tuple[Choice, ...], tuple[Point, ...]]:
    """One choice per layer, in their order; a form that saves nothing leaves its layer as it is. And the curve.

    Where the forms are no longer those that were chosen when the plan was made, no point of its curve is marked as
    chosen, and the run notes it.

    Args:
        choices: Of the plan, of all these layers.
        curve: Of the plan.
        context: Of the run.
        layers: The layers that the plan compresses.

    Raises:
        NothingToGainError: That leaves none.
    """
    by_name = {choice.layer: choice for choice in choices}
    fitted: list[Choice] = []
    params, method = context.original.params, context.options.method
    for layer in layers:
        choice = by_name[layer.name]
        if choice.form not in forms_of(layer, method, formats_of(layer, context.options.weights)):
            choice = replace(choice, form=UNTOUCHED, reason=refused(choice.form, largest_rank(layer, method)))
        fitted.append(choice)
        params += params_of(layer, choice.form, method) - layer.params
    compressed_of(fitted)
    if all(point.params == params for point in curve if point.chosen):
        return tuple(fitted), curve
    context.notes.append(
        "these are not the ranks that were chosen when the plan was made: its reasons and curve are of those"
    )
    return tuple(fitted), tuple(replace(point, chosen=False) for point in curve)


def options_of(method: str, settings: dict[str, str], choices: Iterable[Choice], given: Options) -> Options:
    """The options of a run, with the method, the factors' settings and the formats of the plan.

    Raises:
        InputError: Others are asked for.
    """
    made = make_options(method=method, **from_plan(settings))
    if given.method.name not in (make_options().method.name, method):
        raise InputError(f"the plan is for --method {method}, not {given.method.name}", "leave --method out")
    for name, value in given.described().items():
        if made.described().get(name) != value:
            option = "--no-metric" if name == "metric" else f"--{name} {value}"
            raise InputError(f"the plan was made without {option}", "leave it out, or analyze again with it")
    formats = dict.fromkeys((KEPT, *(choice.form.format for choice in choices)))
    return replace(given, method=made.method, settings=made.settings, weights=(WeightRule("*", tuple(formats)),))
