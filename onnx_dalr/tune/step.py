"""One graph from what enters the student to the loss and to the gradient of every tuned tensor: a run is a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_dalr.gradient import differentiate
from onnx_dalr.gradient.emit import FLOAT, Tape, Tensor
from onnx_dalr.gradient.facts import DEFAULT_DOMAINS, facts_about
from onnx_dalr.gradient.order import in_order
from onnx_dalr.gradient.walk import Ended
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import probe
from onnx_dalr.session.session import Session
from onnx_dalr.tune.terms import Term, target_name, weight_name

LOSS = "tuning/loss"


@dataclass(frozen=True, eq=False)
class StepGraph:
    """The student with loss and gradients.

    Attributes:
        proto: Its inputs are those of the student, targets and weights of the terms, and the tuned tensors.
        gradients: Tuned tensor → the output that holds its gradient. Only those that a path leads to.
        ended: Where paths end.
        partial: Tuned tensors whose gradients lack what would have come along paths that ended.
    """

    proto: ModelProto
    gradients: dict[str, str]
    ended: tuple[Ended, ...]
    partial: frozenset[str]

    def student(self, tensors: Sequence[str]) -> ModelProto:
        """The student alone with the same inputs, as far as these tensors need it."""
        return probe(self.proto, tensors)


def step_graph(student: ModelProto, terms: Sequence[Term], tuned: Mapping[str, NDArray[Any]]) -> StepGraph:
    """Writes loss and gradients behind the student, and makes inputs of the tuned tensors.

    Differentiated first, while the tuned tensors are constants of known sizes.

    Args:
        student: Left as it is.
        terms: What is learned.
        tuned: Initializers of the student, in the element type that they are fed in.
    """
    lost, seeds = _with_losses(_typed(student, tuned), terms)
    found = differentiate(lost, list(seeds), list(tuned), seeds)
    proto = found.proto
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in found.names]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    listed = {value.name for value in proto.graph.input}
    proto.graph.input.extend(
        helper.make_tensor_value_info(name, _kind(tuned[name]), tuned[name].shape)
        for name in found.names
        if name not in listed
    )
    outputs = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        ValueInfoProto(name=name) for name in (LOSS, *found.names.values()) if name not in outputs
    )
    return StepGraph(proto, found.names, found.ended, frozenset(found.partial))


def _kind(values: NDArray[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def _typed(student: ModelProto, tuned: Mapping[str, NDArray[Any]]) -> ModelProto:
    """A copy with tuned tensors in the types that they are fed in: their gradients have these too."""
    made = ModelProto()
    made.CopyFrom(student)
    for tensor in made.graph.initializer:
        if tensor.name in tuned:
            tensor.CopyFrom(numpy_helper.from_array(tuned[tensor.name], tensor.name))
    for value in made.graph.input:
        if value.name in tuned:  # initializers are listed among the inputs before IR version 4
            value.type.tensor_type.elem_type = _kind(tuned[value.name])
    return made


def _with_losses(made: ModelProto, terms: Sequence[Term]) -> tuple[ModelProto, dict[str, str]]:
    """The student with the nodes of its loss, written behind it; by tensor, what holds its seed."""
    facts = facts_about(made, in_order(made))
    opset = next((o.version for o in made.opset_import if o.domain in DEFAULT_DOMAINS), 0)
    tape, seeds = Tape(Names(made), opset), {}
    parts: list[Tensor] = []
    for term in terms:
        kind, dims = facts.kinds.get(term.tensor, FLOAT), facts.dims.get(term.tensor)
        rank = None if dims is None else len(dims)
        tape.scope = f"{term.tensor}/loss"
        y = Tensor(tape, term.tensor, kind, dims).to(FLOAT)
        t, w = (Tensor(tape, name(term.tensor), FLOAT) for name in (target_name, weight_name))
        for tensor in (t, w):
            shape = None if rank is None else [f"{tensor.name}_{axis}" for axis in range(rank)]
            made.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape))
        written = term.loss.write(_counted(y, t, w), t, w)
        parts.append(written.parts.sum(keep=False))
        seeds[term.tensor] = written.seed.to(kind).name
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    tape.nodes.append(helper.make_node("Identity", [total.name], [LOSS], name=LOSS))
    made.graph.node.extend(tape.nodes)
    return made, seeds


def _counted(y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """What the student says where it counts; elsewhere what the teacher does, so that nothing infinite is added."""
    if y.tape.opset < 9:  # which has no Where
        return t + (y - t) * (w > 0)
    return (w > 0).where(y, t)


class Stepper:
    """Sessions of the step, whatever tensors they are fed: loss and gradients in one, what the student says in another.

    ONNX Runtime computes all nodes of a session, whichever outputs are asked for.
    """

    def __init__(self, graph: StepGraph, step: Session, student: Session) -> None:
        """Takes the sessions.

        Args:
            graph: What the first is of.
            step: Of `graph.proto`.
            student: Of `graph.student`.
        """
        self._graph, self._step, self._student = graph, step.raw, student.raw
        self._names = [LOSS, *graph.gradients.values()]

    @property
    def tuned(self) -> list[str]:
        """Names of the tensors that have a gradient."""
        return list(self._graph.gradients)

    def gradients(
        self, feed: Mapping[str, NDArray[Any]], tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """(loss, gradient by tensor) on a batch."""
        loss, *found = self._step.run(self._names, {**feed, **tensors})
        return float(loss), {
            name: np.asarray(g, np.float32) for name, g in zip(self._graph.gradients, found, strict=True)
        }

    def says(
        self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], tensors: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Tensors of the student on a batch."""
        return list(self._student.run(list(names), {**feed, **tensors}))
