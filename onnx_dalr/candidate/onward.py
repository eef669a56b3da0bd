"""Candidates run from where they first differ from the original: what comes before that is computed once for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from onnx_dalr.candidate.lean import Lean
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.remainder import Cut, behind, can_be_fed, cut_before
from onnx_dalr.quality.evaluate import Recalled, Runs
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import PACKED_BELOW, Session, reference_session

_WORTH = 0.05
"""Share of the model's multiply-adds, or of its bytes, from which what lies before the cut is left out."""


@dataclass(frozen=True, eq=False)
class Onward:
    """Where all candidates are cut, and what crosses the cut on every batch.

    Attributes:
        cut: Where.
        reference: Holds what crosses.
    """

    cut: Cut
    reference: Recalled

    def shortened(self, proto: ModelProto) -> ModelProto:
        """A candidate from the cut on; the model itself is left as it is."""
        said = [self.reference.said(batch) for _, batch in self.reference]
        return behind(proto, self.cut, {name: [each[name] for each in said] for name in self.cut.tensors})

    def running(self, session: Session) -> _Shortened:
        """A shortened candidate in a session, as what runs the whole of it."""
        return _Shortened(session, self)


class _Shortened:
    def __init__(self, session: Session, onward: Onward) -> None:
        self.outputs = onward.reference.outputs
        self._session, self._onward = session, onward
        self._read = {value.name for value in session.raw.get_inputs()}

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> list[Any]:
        said = self._onward.reference.said(batch)
        crossing = {name: said[name] for name in self._onward.cut.tensors}
        feed = {name: array for name, array in (batch | crossing).items() if name in self._read}
        found = crossing | dict(zip(self._session.outputs, self._session.run(feed), strict=True))
        return [found[name] for name in outputs or self.outputs]


class Runner:
    """Runs candidates on the select samples: of each no more than it takes, and of the original once.

    Attributes:
        reference: The original on these samples.
    """

    def __init__(
        self,
        context: Context,
        layers: Sequence[Layer],
        sets: Sets,
        task: Task,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Takes what `recalled` takes."""
        self.reference, self._onward = recalled(context, layers, sets, task, advance)
        self._hidden = task.hidden
        self._lean = Lean(context.original, context.options.runtime, self.reference.provider)

    def open(self, proto: ModelProto) -> Runs:
        """A candidate, ready to be run.

        Raises:
            InputError: As `open_session`.
        """
        session = self._lean.open(proto, self._shortened)
        return session if self._onward is None else self._onward.running(session)

    def _shortened(self, proto: ModelProto) -> ModelProto:
        made = exposing(proto, self._hidden)
        return made if self._onward is None else self._onward.shortened(made)


def recalled(
    context: Context, layers: Sequence[Layer], sets: Sets, task: Task, advance: Callable[[int], None]
) -> tuple[Recalled, Onward | None]:
    """The original on the select samples; and where candidates go on from, where that saves enough and memory takes it.

    Args:
        context: Of the run.
        layers: That may change.
        sets: Of which the select samples are run: at once where a cut is worth it, else with the first candidate.
        task: What the outputs are.
        advance: Told of the samples that are run.
    """
    runtime, original = context.options.runtime, context.original
    cut = cut_before(original, layers, task.hidden)
    if cut is not None and _share(context, cut) >= _WORTH:
        ends = {*task.hidden, *(value.name for value in original.proto.graph.output)}
        beside = [name for name in cut.tensors if name not in ends]
        session = reference_session(original, runtime, (*task.hidden, *beside))
        reference = Recalled(session, sets.select, beside=len(beside))
        if reference.keeps_all(advance):
            crossing = (reference.said(batch)[name] for _, batch in reference for name in cut.tensors)
            return reference, Onward(cut, reference) if all(map(can_be_fed, crossing)) else None
    reference = Recalled(reference_session(original, runtime, task.hidden), sets.select)
    if original.size >= PACKED_BELOW:
        reference.keeps_all(advance)  # its session is gone before those of candidates are there
    return reference, None


def _share(context: Context, cut: Cut) -> float:
    """Of the model, what lies before the cut: of its multiply-adds or its bytes, whichever is more."""
    macs, size = context.macs, context.original.size
    multiplied = 0 if macs is None else sum(macs.by_node.values())
    before = 0.0 if macs is None else sum(macs.by_node.get(name, 0) for name in cut.nodes) / max(multiplied, 1)
    return max(before, cut.weight_bytes / max(size, 1))
