"""What a Layer is: one constant weight and all the nodes that use it; and what is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_dalr.factorize.joined import Joined
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import Structure
from onnx_dalr.graph.handle import MAIN, Scope
from onnx_dalr.graph.kinds import Kind, Use

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight matrix W, [m, n], of y = W x + b, and every node that uses it: one decision.

    Attributes:
        name: The first using node's name where it is unique, else the weight's.
        weight: Name of the tensor that holds W, transposed or not.
        kind: The layer kind.
        shape: Of W.
        dtype: Element type the weight is stored in, which its factors keep.
        uses: The nodes, in graph order. All lay out, scale and cast the weight alike.
        bias_growth: Parameters the model gains by a bias correction: none where it lands in a constant row of m
            that nothing else reads, up to m for a scalar, and one row shared by all uses that have no bias.
        plain_growth: Parameters the model gains where biases are left as they are: a Gemm's beta is written out.
        home: The scope in which the weight is stored; every use is in it or in a body inside.
        why_whole: Why it is not taken apart: what its nodes are skipped for where layers in one piece are not asked
            for. Empty where it can be.
        only: Names of the structures that it may be taken apart in; empty for all that apply.
    """

    name: str
    weight: str
    kind: Kind
    shape: Shape
    dtype: np.dtype[Any]
    uses: tuple[Use, ...]
    bias_growth: int
    plain_growth: int
    home: Scope = MAIN
    why_whole: str = ""
    only: tuple[str, ...] = ()

    @property
    def in_one_piece(self) -> bool:
        """Whether it can only be kept, or stored in another format: its nodes stay as they are."""
        return bool(self.why_whole)

    @property
    def can_be_read(self) -> bool:
        """Whether it is known what enters it: the rows of all uses."""
        return all(use.can_be_read for use in self.uses)

    @property
    def m(self) -> int:
        """Outputs."""
        return self.shape.m

    @property
    def n(self) -> int:
        """Inputs."""
        return self.shape.n

    @property
    def structures(self) -> tuple[Structure, ...]:
        """How it can be taken apart."""
        every = () if self.in_one_piece else self.kind.structures(self.shape)
        return tuple(structure for structure in every if not self.only or structure.name in self.only)

    @property
    def joined(self) -> tuple[Joined, ...]:
        """How it can be stored in several ways at once."""
        return self.kind.joined()

    @property
    def sees(self) -> Shape:
        """Of W in y = W x, for x what its nodes read and y what they make of it: its own, or turned where they pick."""
        return Shape(self.n, self.m) if self.kind.picks else self.shape

    def growth(self, *, compensated: bool) -> int:
        """Parameters that biases gain, with or without a correction."""
        return self.bias_growth if compensated else self.plain_growth

    @property
    def op(self) -> str:
        """Operator of the (first) node."""
        return self.uses[0].op

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, empty where they have none."""
        return tuple(use.node_name for use in self.uses)

    @property
    def params(self) -> int:
        """m·n."""
        return self.shape.params

    @property
    def by_rank(self) -> Structure | None:
        """The structure that a rank alone stands for: the first that can be smaller than the weight."""
        return next((structure for structure in self.structures if structure.ranks(self.shape, self.params)), None)

    def break_even(self, *, compensated: bool) -> int:
        """The largest rank at which that structure and a new bias have fewer parameters; 0 where there is none."""
        if self.by_rank is None:
            return 0
        saving = self.by_rank.ranks(self.shape, self.params - self.growth(compensated=compensated))
        return max((rank[0] for rank in saving), default=0)


@dataclass(frozen=True)
class Skipped:
    """A node that looks like a use of a Layer and is none.

    Attributes:
        name: The node's name, or that of its output.
        op: Operator.
        reason: Why, in plain words.
        weight: Name of its constant weight where it has one.
        shape: Shape of that weight.
    """

    name: str
    op: str
    reason: str
    weight: str | None = None
    shape: tuple[int, ...] | None = None


def node_name(node: NodeProto) -> str:
    """A node's name, or that of its output."""
    return node.name or (node.output[0] if node.output else node.op_type)
