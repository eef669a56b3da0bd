"""What of a model comes before all layers that may change, and a model cut down to what comes behind that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.inside import depends_on_feed
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.probe import names_read, probe
from onnx_dalr.graph.storage.external import tensor_bytes
from onnx_dalr.graph.storage.model import Model

_TYPES = frozenset(map(np.dtype, ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")))


@dataclass(frozen=True)
class Cut:
    """Where a model is cut so that no layer that may change lies before it.

    Attributes:
        tensors: Names of what crosses the cut: made before it, and read behind it or asked for.
        nodes: First outputs of the nodes before it; those that depend on nothing that is fed are behind.
        weight_bytes: Of what is stored for those nodes alone.
    """

    tensors: tuple[str, ...]
    nodes: frozenset[str]
    weight_bytes: int


def cut_before(model: Model, layers: Iterable[Layer], asked: Sequence[str] = ()) -> Cut | None:
    """The cut before some layers; None where nothing that is computed lies before them.

    Args:
        model: Left as it is.
        layers: That may change: nothing that depends on any of their nodes is before the cut.
        asked: Tensors inside the model that are asked for, beside its outputs.
    """
    nodes, fed = model.index[MAIN].nodes, depends_on_feed(model.proto)
    late = _late(model, layers)
    before = [at for at, node in enumerate(nodes) if at not in late and fed.intersection(filter(None, node.output))]
    made = {name for position in before for name in nodes[position].output if name}
    held = set(before)
    read_behind = {name for at, node in enumerate(nodes) if at not in held for name in names_read(node)}
    ends = {*asked, *(value.name for value in model.proto.graph.output)}
    crossing = tuple(sorted(made & (read_behind | ends)))
    if not crossing:
        return None
    read_before = {name for position in before for name in names_read(nodes[position])} - read_behind - ends
    stored = (tensor for tensor in model.proto.graph.initializer if tensor.name in read_before)
    firsts = frozenset(nodes[position].output[0] for position in before)
    return Cut(crossing, firsts, sum(map(tensor_bytes, stored)))


def _late(model: Model, layers: Iterable[Layer]) -> set[int]:
    """Positions of the nodes of the main graph that layers change or that hold one, and of all that depend on these.

    Of a layer in a function these are all nodes that call any function.
    """
    nodes = model.index[MAIN].nodes
    functions = {(function.domain, function.name) for function in model.proto.functions}
    waiting: list[int] = []
    for layer in layers:
        for reader in [*(use.node for use in layer.uses), *model.index[layer.home].readers(layer.weight)]:
            if reader.scope.function is None:
                waiting.append(reader.within(MAIN))
            else:
                waiting += [at for at, node in enumerate(nodes) if (node.domain, node.op_type) in functions]
    readers: dict[str, list[int]] = defaultdict(list)
    for at, node in enumerate(nodes):
        for name in names_read(node):
            readers[name].append(at)
    late: set[int] = set()
    while waiting:
        at = waiting.pop()
        if at not in late:
            late.add(at)
            waiting += [reader for name in nodes[at].output if name for reader in readers[name]]
    return late


def behind(proto: ModelProto, cut: Cut, examples: Mapping[str, Sequence[NDArray[Any]]]) -> ModelProto:
    """A model that goes on from the cut: what crosses it is fed, beside those inputs that are read behind it too.

    Args:
        proto: Of the model that was cut, or made from it by changing layers behind the cut. Left as it is; external
            data is still only referred to.
        cut: Where.
        examples: Of what crosses it, by name, all that is going to be fed: the axes they agree on are declared.
    """
    crossing = set(cut.tensors)
    wanted = [value for value in proto.graph.output if value.name not in crossing]
    made = probe(proto, [value.name for value in wanted], given=crossing)
    del made.graph.output[:]
    made.graph.output.extend(wanted)
    read = {name for node in made.graph.node for name in names_read(node)}
    unread = [at for at, value in enumerate(made.graph.input) if value.name not in read]
    for at in reversed(unread):
        del made.graph.input[at]
    for name in (name for name in cut.tensors if name in read):
        arrays = examples[name]
        made.graph.input.append(helper.make_tensor_value_info(name, _type_of(arrays[0]), _common(arrays)))
    return made


def can_be_fed(value: object) -> bool:
    """Whether something that crosses a cut can be handed to a model as it came out of one."""
    return isinstance(value, np.ndarray) and value.dtype in _TYPES


def _type_of(array: NDArray[Any]) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def _common(arrays: Sequence[NDArray[Any]]) -> list[int | None] | None:
    """The axes that arrays agree on, others open; None where ranks differ."""
    if len({array.ndim for array in arrays}) != 1:
        return None
    axes = [set(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    return [min(sizes) if len(sizes) == 1 else None for sizes in axes]
