"""What can be said of a target before the work: sizes that rule it out, samples too few for its confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.search import make_plan
from onnx_dalr.choose.space import space_of
from onnx_dalr.choose.trials import plan_of
from onnx_dalr.errors import TargetError
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan.choice import compressed_of
from onnx_dalr.quality.intervals import samples_for_bound
from onnx_dalr.quality.measures import Classes, Values
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.target import MEASURED, Target
from onnx_dalr.samples.sets import Sets
from onnx_dalr.samples.split import SHARED_BELOW


def check_target(context: Context, target: Target, layers: Sequence[Layer], *, select: bool) -> None:
    """Refuses what the sizes of the layers say cannot be done, before anything is run.

    Args:
        context: Of the run.
        target: What was asked for.
        layers: The layers that take part.
        select: There will be samples to score on.

    Raises:
        TargetError: The target cannot be met.
        NothingToGainError: All layers stay as they are.
        InputError: A tolerance is asked for and there is nothing to measure it on.
    """
    space, name = space_of(context, target, layers, None), target.name
    amount = target.amount
    if amount is not None and not context.options.keeps:  # to plan it would take as long as it takes afterwards
        cost = COSTS[name]
        budget = cost.budget(space, amount.of(cost.whole(space)))
        if not (target.best_effort or budget.can_be_met):
            raise budget.refusal()
        return
    unknown = name == "energy" or (name in COSTS and COSTS[name].needs_samples)
    if not unknown and not (name in MEASURED and select):
        compressed_of(make_plan(space, None).choices)
    elif not space.saves:
        compressed_of(plan_of(space, space.in_one_piece, "").choices)


def check_confidence(target: Target, task: Task | None, sets: Sets) -> None:
    """Refuses a confidence that so few samples cannot give, before the work.

    Raises:
        TargetError: Even if no answer changed, the bound would be above what may be lost; says how many it takes.
    """
    if target.confidence is None or target.name != "max-drop" or task is None or task.score is not None:
        return
    if not isinstance(task.main.measure, Classes | Values):
        return
    if target.value <= 0:
        raise TargetError(
            f"no number of samples shows a drop of {100 * target.value:g} % with a confidence of "
            f"{100 * target.confidence:g} %",
            "allow a little (--max-drop 1%), or leave --confidence out",
        )
    n, wanted = len(sets.select), samples_for_bound(target.value, target.confidence)
    if not n or n >= wanted:
        return
    separate = sets.report.source is not sets.select.source
    outside = wanted if separate or wanted < SHARED_BELOW else 2 * wanted
    least = 1 - (1 - target.confidence) ** (1 / n)
    raise TargetError(
        f"{n} select samples cannot show a drop of at most {100 * target.value:g} % with a confidence of "
        f"{100 * target.confidence:g} %: with no answer changed, the bound is {100 * least:.2g} points",
        f"it takes {wanted} of them, {math.ceil(outside / max(sets.options.holdout, 1e-9))} samples at --holdout "
        f"{sets.options.holdout:g}; or allow more (--max-drop {math.ceil(1000 * least) / 10:g}%)",
    )
