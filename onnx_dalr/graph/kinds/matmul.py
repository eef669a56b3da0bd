"""MatMul with a constant matrix on the right and, where it follows at once, the Add that carries its bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx import NodeProto

from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import STANDARD, GraphIndex
from onnx_dalr.graph.kinds.base import Refused, Replacement, Use
from onnx_dalr.graph.kinds.matrices import MatrixLayout, RightMatrix
from onnx_dalr.graph.kinds.operands import constant_matrix, one_row


@dataclass(frozen=True)
class MatMul(RightMatrix):
    """Needs nothing in `Use.extra`."""

    ops: ClassVar[tuple[str, ...]] = ("MatMul",)

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Takes a MatMul as a Use, or says why it is none."""
        weight = constant_matrix(node, index)
        if isinstance(weight, Refused):
            return weight
        add, bias = _bias(node, weight.tensor.dims[0 if weight.transposed else 1], index)
        return Use(
            kind=self,
            op=node.op_type,
            node=handle,
            node_name=node.name,
            data=node.input[0],
            weight=weight.name,
            layout=MatrixLayout(weight.transposed),
            output=node.output[0],
            home=weight.home,
            path=weight.path,
            cast_to=weight.cast_to,
            bias=bias,
            add=add,
        )

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """A MatMul for every link and, where no Add carries the new bias already, an Add."""
        product = use.output if use.add is not None or new.bias is None else new.tensor("product")
        nodes = [
            new.node(node, link.role, "MatMul", [data, link.operand], made)
            for link, data, made in new.chain(use.data, product)
        ]
        if product != use.output and new.bias is not None:
            nodes.append(new.node(node, "bias", "Add", [product, new.bias], use.output))
        return nodes


def _bias(node: NodeProto, m: int, index: GraphIndex) -> tuple[Handle | None, str | None]:
    """(the Add, its constant) where one follows at once and nothing else reads the MatMul's output."""
    readers = index.readers(node.output[0])
    if len(readers) != 1 or readers[0].scope != index.scope or index.is_output(node.output[0]):
        return None, None
    add = index.nodes[readers[0].position]
    if add.op_type != "Add" or add.domain not in STANDARD or len(set(add.input)) != 2:
        return None, None
    other = add.input[1] if add.input[0] == node.output[0] else add.input[0]
    constant = index.constant(other)
    if constant is None or not one_row(constant, m):
        return None, None
    return readers[0], other
