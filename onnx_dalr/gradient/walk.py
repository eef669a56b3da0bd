"""The walk back: from the seeded tensors to the wanted ones, rule by rule, in reverse order of computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper
from onnx.inliner import inline_local_functions

from onnx_dalr.errors import InputError
from onnx_dalr.gradient.emit import PathEndsError, Tape, Tensor
from onnx_dalr.gradient.facts import DEFAULT_DOMAINS, FLOATS, Facts, facts_about
from onnx_dalr.gradient.order import in_order
from onnx_dalr.gradient.rules import FLAT, RULES
from onnx_dalr.gradient.step import Rule, Step
from onnx_dalr.graph.names import Names
from onnx_dalr.graph.probe import names_read

_OLDEST_OPSET = 7  # before it, broadcasting was an attribute


@dataclass(frozen=True)
class Ended:
    """A node that gradients do not pass.

    Attributes:
        node: Its name, or its first output's where it has none.
        op: Its type, "domain:type" outside the default domain.
        reason: Why, in a sentence.
    """

    node: str
    op: str
    reason: str


@dataclass(frozen=True, eq=False)
class Gradients:
    """A model with the nodes of its vector–Jacobian products.

    Attributes:
        proto: The model and the new nodes after its own. Outputs are the original ones, to be cut with `probe`;
            inputs are the original ones and the seeds; external data is only referred to.
        seeds: Seeded tensor → the input, or the tensor that was named, that takes the gradient there, of the tensor's
            shape and type.
        names: Wanted tensor → the tensor that holds its gradient, of the same shape and type. No entry where no path
            leads from a seed.
        ended: Nodes where paths end that would lead on to a wanted tensor.
        partial: Wanted tensors on such paths: their gradients lack what would have come along them.
    """

    proto: ModelProto
    seeds: dict[str, str]
    names: dict[str, str]
    ended: tuple[Ended, ...]
    partial: tuple[str, ...]


def differentiate(
    proto: ModelProto, seeded: Sequence[str], wanted: Sequence[str], made: Mapping[str, str] | None = None
) -> Gradients:
    """Writes the nodes that carry gradients v = ∂L/∂(seeded) back to ∂L/∂(wanted) = Jᵀv, for any L.

    Args:
        proto: Left as it is.
        seeded: Float tensors of the main graph, its outputs as a rule.
        wanted: Tensors of the main graph, constants among them if asked for.
        made: Seeded tensor → the tensor that holds v already, of its shape and type, where the graph computes it. The
            others get an input.

    Raises:
        InputError: A seeded tensor is not one of floats.
    """
    made = made or {}
    model = inline_local_functions(proto) if proto.functions else _copied(proto)
    order = in_order(model)
    facts, names = facts_about(model, order), Names(model)
    opset = next((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), 0)
    tape = Tape(names, opset)
    walk = _Walk(order, facts, tape, set(wanted))
    seeds = {}
    for name in dict.fromkeys(seeded):
        kind = facts.kinds.get(name, 0)
        if kind not in FLOATS:
            raise InputError(
                f"no gradient can start at {name!r}: it is not known to hold floats", "name another output"
            )
        seeds[name] = made.get(name) or names.new(f"{name}/seed")
        walk.arrive(name, Tensor(tape, seeds[name], kind, facts.dims.get(name)))
    walk.back()
    found = {}
    for name in dict.fromkeys(wanted):
        gradient = walk.total(name)
        if gradient is not None and facts.kinds.get(name, gradient.kind) in FLOATS:
            found[name] = gradient.op("Identity").name
    fed = (name for name in seeds if name not in made)
    model.graph.input.extend(helper.make_value_info(seeds[name], _type(facts, name)) for name in fed)
    model.graph.node.extend(_behind(tape.nodes, set(found.values())))
    partial = tuple(name for name in dict.fromkeys(wanted) if name in walk.cut_off)
    return Gradients(model, seeds, found, tuple(walk.ended), partial)


def _copied(proto: ModelProto) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(proto)
    return model


class _Walk:
    """Gradients that have arrived at tensors so far.

    Attributes:
        ended: Where a path ended.
        cut_off: Tensors on those paths.
    """

    def __init__(self, order: Sequence[NodeProto], facts: Facts, tape: Tape, wanted: set[str]) -> None:
        self.ended: list[Ended] = []
        self.cut_off: set[str] = set()
        self._facts, self._tape = facts, tape
        self._order = order
        self._reads = [names_read(node) for node in self._order]
        self._leading = self._lead_from(wanted)
        self._arrived: dict[str, list[Tensor]] = {}

    def _lead_from(self, wanted: set[str]) -> set[str]:
        """The wanted tensors and all that is computed from them: where gradients have to pass."""
        leading = set(wanted)
        for node, reads in zip(self._order, self._reads, strict=True):
            if not leading.isdisjoint(reads):
                leading.update(name for name in node.output if self._may_lead(node, name))
        return leading

    def _may_lead(self, node: NodeProto, output: str) -> bool:
        return bool(output) and _op(node) not in FLAT and self._facts.kinds.get(output, TensorProto.FLOAT) in FLOATS

    def arrive(self, name: str, gradient: Tensor) -> None:
        """Notes a gradient that arrives at a tensor by one path."""
        self._arrived.setdefault(name, []).append(gradient)

    def total(self, name: str) -> Tensor | None:
        """The sum over all paths to a tensor."""
        parts = self._arrived.get(name, [])
        if len(parts) > 1:
            self._tape.scope = f"{name}/gradient"
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            self._arrived[name] = parts = [total]
        return parts[0] if parts else None

    def back(self) -> None:
        """Passes every node that lies between a seed and a wanted tensor, the last one first."""
        for node, reads in zip(reversed(self._order), reversed(self._reads), strict=True):
            leading = self._leading & reads
            if leading and _op(node) not in FLAT:
                if not self.cut_off.isdisjoint(node.output):
                    self.cut_off |= leading
                gradients = [self.total(name) if name else None for name in node.output]
                if any(gradients):
                    self._pass(node, gradients)

    def _pass(self, node: NodeProto, gradients: Sequence[Tensor | None]) -> None:
        op = _op(node)
        kind = next(gradient.kind for gradient in gradients if gradient is not None)
        inputs = [self._tensor(name, kind) for name in node.input]
        floats = {position for position, tensor in enumerate(inputs) if tensor is not None and tensor.kind in FLOATS}
        wanted = frozenset(position for position in floats if node.input[position] in self._leading)
        self._tape.scope = f"{next(name for name in node.output if name)}/gradient"
        outputs = [self._tensor(name, kind) for name in node.output]
        step = Step(node, self._tape, inputs, outputs, gradients, wanted, self._facts)
        try:
            found = self._rule(op, gradients).write(step)
        except PathEndsError as reason:
            self._end(node, op, reason, self._leading & names_read(node))
            return
        for position in sorted(wanted):
            gradient = found[position] if position < len(found) else None
            if isinstance(gradient, Tensor):
                self.arrive(node.input[position], gradient)
            elif gradient is not None:
                self._end(node, op, gradient, {node.input[position]})

    def _rule(self, op: str, gradients: Sequence[Tensor | None]) -> Rule:
        if op not in RULES:
            raise PathEndsError("no rule for this operator")
        if self._tape.opset < _OLDEST_OPSET:
            raise PathEndsError(f"opset {self._tape.opset} is older than {_OLDEST_OPSET}")
        if not RULES[op].all_outputs and (gradients[0] is None or any(gradients[1:])):
            raise PathEndsError("no rule for outputs after the first")
        return RULES[op]

    def _end(self, node: NodeProto, op: str, reason: PathEndsError, cut_off: set[str]) -> None:
        name = node.name or next(name for name in node.output if name)
        self.ended.append(Ended(name, op, str(reason)))
        self.cut_off |= cut_off

    def _tensor(self, name: str, kind: int) -> Tensor | None:
        """A tensor of the model; what inference knows nothing of has the type of the gradient."""
        if not name:
            return None
        return Tensor(self._tape, name, self._facts.kinds.get(name, kind), self._facts.dims.get(name))


def _op(node: NodeProto) -> str:
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}:{node.op_type}"


def _behind(nodes: Sequence[NodeProto], ends: set[str]) -> list[NodeProto]:
    """The nodes that lead to some tensors, in the same order."""
    needed, kept = set(ends), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _type(facts: Facts, name: str) -> TypeProto:
    """With as many axes as the tensor, but no sizes: inference and runtime may differ on a window at the edge."""
    dims = facts.dims.get(name)
    shape = None if dims is None else [f"{name}_{axis}" for axis in range(len(dims))]
    return helper.make_tensor_type_proto(facts.kinds[name], shape)
