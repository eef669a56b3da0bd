"""Gemm: Y = alpha·A'·B' + beta·C with constant B, any transA and transB, any C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds.base import Lying, Refused, Replacement, Use
from onnx_dalr.graph.kinds.matrices import MatrixLayout, RightMatrix
from onnx_dalr.graph.kinds.operands import constant_matrix, one_row


@dataclass(frozen=True)
class Gemm(RightMatrix):
    """`Use.extra` says whether the data are transposed: transA."""

    ops: ClassVar[tuple[str, ...]] = ("Gemm",)

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Takes a Gemm as a Use, or says why it is none."""
        weight = constant_matrix(node, index)
        if isinstance(weight, Refused):
            return weight
        is_W = bool(attribute(node, "transB", 0)) != weight.transposed
        m = weight.tensor.dims[0] if is_W else weight.tensor.dims[1]
        beta = float(attribute(node, "beta", 1.0))
        name = node.input[2] if len(node.input) > 2 and beta != 0 else ""
        bias = index.constant(name) if name else None
        if bias is not None and len(bias.dims) > 2:
            return Refused(f"its bias has {len(bias.dims)} axes, which only some runtimes read")
        row = bias is not None and one_row(bias, m)
        return Use(
            kind=self,
            op=node.op_type,
            node=handle,
            node_name=node.name,
            data=node.input[0],
            weight=weight.name,
            layout=MatrixLayout(is_W, float(attribute(node, "alpha", 1.0))),
            output=node.output[0],
            home=weight.home,
            path=weight.path,
            cast_to=weight.cast_to,
            bias=name if row else None,
            bias_scale=beta,
            loose_bias=name if name and not row else None,
            extra=bool(attribute(node, "transA", 0)),
        )

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """Features lie on axis 0 where the data are transposed."""
        return np.moveaxis(tensor, 0, -1) if use.extra else tensor

    def lying(self, use: Use) -> Lying | None:
        """The inputs as `rows` says."""
        last = super().lying(use)
        return last._replace(inputs=0) if last and use.extra else last

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """A MatMul for every link and an Add for every bias that is not zero.

        transA on the data becomes a Transpose before. A bias that is not constant, or not one row, is scaled by beta
        and added by itself.
        """
        nodes, data = [], use.data
        if use.extra:
            data = new.tensor("transposed")
            nodes.append(new.node(node, "transpose", "Transpose", [use.data], data, perm=[1, 0]))
        for link, entering, made in new.chain(data, use.output):
            nodes.append(new.node(node, link.role, "MatMul", [entering, link.operand], made))
        if new.bias is not None:
            _append_add(nodes, new.node(node, "bias", "Add", [new.tensor("product"), new.bias], use.output))
        if use.loose_bias is not None:
            loose = use.loose_bias
            if use.bias_scale != 1:
                loose, scale = new.tensor("scaled_bias"), new.scalar("beta", use.bias_scale)
                nodes.insert(0, new.node(node, "beta", "Mul", [use.loose_bias, scale], loose))
            _append_add(nodes, new.node(node, "loose_bias", "Add", [new.tensor("sum"), loose], use.output))
        return nodes


def _append_add(nodes: list[NodeProto], add: NodeProto) -> None:
    """Puts an Add at the end of the chain: what the last node made goes into it."""
    nodes[-1].output[0] = add.input[0]
    nodes.append(add)
