"""Conv with a 1×1 kernel, group 1, in 1 to 3 dimensions: a MatMul whose rows are positions × samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds.use import Refused, Replacement, Use, constant_operand, one_row

OPS = ("Conv",)


def operand(factor: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
    """A factor, [out, in], as a kernel: [out, in, 1, …]."""
    return factor.reshape(*factor.shape, *dims[2:])


def read(node: NodeProto, position: int, index: GraphIndex) -> Use | Refused:
    """Takes a 1×1 Conv as a Use, or says why it is none."""
    weight = constant_operand(node, index)
    if isinstance(weight, Refused):
        return weight
    dims = list(weight.tensor.dims)
    kernel = dims[2:]
    if not kernel:
        return Refused(f"its weight has {len(dims)} axes, which is no kernel")
    if math.prod(kernel) != 1:
        return Refused(f"{'×'.join(map(str, kernel))} convolution: only 1×1 is supported")
    if attribute(node, "group", 1) != 1:
        return Refused(f"grouped convolution ({attribute(node, 'group', 1)} groups): only one group is supported")
    name = node.input[2] if len(node.input) > 2 else ""
    bias = index.constant(name) if name else None
    if name and (bias is None or not one_row(bias, dims[0])):
        return Refused("its bias is computed at run time")
    strides, pads = attribute(node, "strides", []), attribute(node, "pads", [])
    return Use(
        op=node.op_type,
        node=position,
        node_name=node.name,
        data=node.input[0],
        feature_axis=1,
        weight=weight.name,
        path=weight.path,
        cast_to=weight.cast_to,
        stored_as_W=True,
        scale=1.0,
        output=node.output[0],
        bias=name or None,
        strides=tuple(strides) if any(step != 1 for step in strides) else (),
        pads=tuple(pads) if any(pads) else (),
    )


def rewrite(use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
    """The nodes in place of a 1×1 Conv: two of them, stride and padding on the first, the bias on the second."""
    geometry: dict[str, Any] = {"strides": list(use.strides)} if use.strides else {}
    if use.pads:
        geometry["pads"] = list(use.pads)
    bias = [new.bias] if new.bias is not None else []
    return [
        new.node(node, "B", "Conv", [use.data, new.B], new.latent, **geometry),
        new.node(node, "A", "Conv", [new.latent, new.A, *bias], use.output),
    ]
