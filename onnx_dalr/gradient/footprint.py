"""How large the values of a model are on one feed: what a gradient graph has to hold until it comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import ModelProto, ValueInfoProto, helper

from onnx_dalr.gradient.facts import Facts, facts_about
from onnx_dalr.gradient.order import in_order
from onnx_dalr.graph.shapes import Sizes

_SMALL = 1 << 16  # bytes: axes, shapes and pads have fewer, weights that take memory have more


def activation_bytes(proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Bytes of all values that the nodes of the main graph make, where inference can tell their sizes.

    An axis that only the run decides counts as 1, a value of which nothing is known as nothing.

    Args:
        proto: Left as it is; large weights are not copied.
        shapes: Of what is fed, by input name.
    """
    facts = _facts_on(proto, shapes)
    made = {name for node in proto.graph.node if node.op_type != "Constant" for name in node.output}
    return sum(_width(facts.kinds.get(name, 0)) * _entries(facts.dims[name]) for name in made & facts.dims.keys())


def entries_on(proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """How many numbers each tensor of the main graph holds on a feed of these shapes, as far as that can be told."""
    return {name: _entries(dims) for name, dims in _facts_on(proto, shapes).dims.items()}


def sizes_on(proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> Sizes:
    """The sizes of the tensors of the main graph on a feed of these shapes, as far as they can be told."""
    return _facts_on(proto, shapes).dims


def _facts_on(proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> Facts:
    """What can be known of the tensors where the inputs have these shapes."""
    sized = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    sized.graph.name = "sized"
    sized.graph.node.extend(proto.graph.node)
    sized.graph.input.extend(_fed(value, shapes) for value in proto.graph.input)
    given = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.ByteSize() <= _SMALL:
            sized.graph.initializer.append(tensor)
        elif tensor.name not in given:
            sized.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims)))
    return facts_about(sized, in_order(sized))


def _fed(value: ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> ValueInfoProto:
    if value.name not in shapes:
        return value
    return helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, tuple(shapes[value.name]))


def _entries(dims: Sequence[int | None]) -> int:
    return math.prod(1 if size is None else size for size in dims)


def _width(kind: int) -> int:
    """Bytes of one value."""
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 4
