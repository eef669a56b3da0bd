"""What every layer kind is, and one node's use of a weight in terms that all kinds share."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.factorize.formats import Decoding
from onnx_dalr.factorize.joined import Joined
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.structures import STRUCTURES, Structure
from onnx_dalr.graph.handle import MAIN, Handle, Scope
from onnx_dalr.graph.index import GraphIndex
from onnx_dalr.graph.kinds.readings import Patches, Pick
from onnx_dalr.graph.shapes import Sizes, exactly

Spanned = tuple[int, ...] | None
"""The spatial axes that a kernel spans; all where None."""


@dataclass(frozen=True)
class Refused:
    """Why a node is no Use, in plain words."""

    reason: str


@dataclass(frozen=True)
class Use:
    """A node (with the Add that carries its bias, where it has one) that computes rows·Wᵀ + b.

    Attributes:
        kind: The layer kind that reads and writes such nodes.
        op: Operator of the node.
        node: Where it is.
        node_name: Its name, empty where it has none.
        data: The tensor whose rows enter the weight.
        weight: The constant that holds the weight.
        layout: How the constant becomes W, in the kind's terms: all users of one weight have to agree.
        output: The tensor the node makes.
        home: Scope in which the constant is stored.
        path: Tensors between the node and the constant (Identity, Transpose, Cast), the node's operand first.
        cast_to: Element type the weight is cast to on the way, 0 where it is used as it is stored.
        bias: Constant bias of one row, or None.
        bias_scale: Factor on the bias (a Gemm's beta).
        add: The Add that carries the bias, in the same scope, where it is not in the node itself.
        loose_bias: A bias that is not constant or not one row; it stays in an Add of its own.
        extra: What else the kind has to know of the node; nobody else reads it.
    """

    kind: Kind
    op: str
    node: Handle
    node_name: str
    data: str
    weight: str
    layout: Hashable
    output: str
    home: Scope = MAIN
    path: tuple[str, ...] = ()
    cast_to: int = 0
    bias: str | None = None
    bias_scale: float = 1.0
    add: Handle | None = None
    loose_bias: str | None = None
    extra: Any = None

    def rows(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The rows that its data feed into the weight, [..., n]: padding is in them, what is stepped over is not."""
        return self.kind.rows(tensor, self)

    @property
    def can_be_read(self) -> bool:
        """Whether there are rows to be read."""
        return self.kind.can_read(self)

    @property
    def lying(self) -> Lying | None:
        """Where its rows lie; None where that is not so simple."""
        return self.kind.lying(self)

    def some_rows(self, tensor: NDArray[Any], pick: Pick) -> NDArray[Any]:
        """Some of the rows that its data feed into the weight, [p, n]."""
        return self.kind.some_rows(tensor, self, pick)

    def answers(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The rows that leave the weight, [..., m], of a tensor that has the shape of its output."""
        return self.kind.answers(tensor, self)

    def row_count(self, entries: float, shape: Shape) -> float:
        """How many rows its data feed into the weight, where they have so many entries; padding is not counted."""
        return self.kind.row_count(entries, shape, self)


@dataclass(frozen=True)
class Link:
    """One of the weights in place of one, as the nodes read it.

    Attributes:
        role: What it is called in the names of tensors and nodes.
        operand: The tensor that holds it, laid out by the kind's `operand`.
        axes: Of a kernel: the spatial axes it spans; all where None.
    """

    role: str
    operand: str
    axes: tuple[int, ...] | None = None


class Lying(NamedTuple):
    """Where the rows of a node lie in its tensors, whose entries they are.

    Attributes:
        inputs: Axis of its data along which the inputs of a row lie; its other axes tell rows apart. None where
            `patches` says which entries make a row.
        outputs: Axis of its output along which the outputs of a row lie.
        is_W: The constant, its axes from the second on taken for one, is W itself, [m, n]; else Wᵀ.
        scale: Factor on the product.
        patches: What a kernel sees.
    """

    inputs: int | None = -1
    outputs: int = -1
    is_W: bool = True
    scale: float = 1.0
    patches: Patches | None = None


class Replacement(Protocol):
    """What a layer kind is handed to write the nodes of one use: names of tensors and a maker of new ones.

    Attributes:
        bias: Constant one-row bias to add, or None where it is zero.
    """

    bias: str | None

    def chain(self, data: str, output: str) -> Iterable[tuple[Link, str, str]]:
        """Link by link, in the order in which data meet them: (link, the tensor that enters, the tensor it makes)."""
        ...

    def tensor(self, role: str) -> str:
        """A new tensor name derived from the use's output; the same for the same role."""
        ...

    def scalar(self, role: str, value: float) -> str:
        """A new scalar constant of the layer's dtype."""
        ...

    def node(self, old: NodeProto, role: str, op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        """A node with a new name derived from the old node's, with its doc string and metadata."""
        ...


class Kind(Protocol):
    """A kind of layer: everything about a weight that depends on which operator multiplies by it.

    A kind is a file in this folder and a line in `KINDS`. Nobody outside asks what operator a layer is.

    Attributes:
        ops: The standard operators it reads.
    """

    ops: ClassVar[tuple[str, ...]]
    picks: ClassVar[bool] = False
    """Whether its data are the numbers of outputs, and not multiplied: y = Wᵀ x, x with a single 1."""

    def read(self, node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
        """Takes a node as a Use, or says why it is none."""
        ...

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of W, from the dimensions of the constant that holds it."""
        ...

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """W, [m, n], as the node applies it, of the stored values."""
        ...

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """What has to be stored, of these dimensions, for the node to apply W."""
        ...

    def bias_row(self, m: int, dims: Sequence[int]) -> tuple[int, ...]:
        """Shape in which m values are added to the node's output; `dims` are those of the stored weight."""
        ...

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The rows, [..., n], that the data of a use feed into the weight; padding is in them."""
        ...

    def can_read(self, use: Use) -> bool:
        """Whether the rows that the data of a use feed into the weight are known."""
        return True

    def lying(self, use: Use) -> Lying | None:
        """Where its rows lie; None where that is not so simple."""
        return None

    def some_rows(self, tensor: NDArray[Any], use: Use, pick: Pick) -> NDArray[Any]:
        """Some of these rows, [p, n].

        Args:
            tensor: The data of the use.
            use: The use.
            pick: From how many rows there are along each axis, samples first, to the numbers of those that are wanted.
        """
        rows = self.rows(tensor, use)
        return rows.reshape(-1, rows.shape[-1])[pick(rows.shape[:-1])]

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The rows, [..., m], that leave the weight, of a tensor that has the shape of the use's output."""
        ...

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """How many rows the data of a use feed into the weight where they have so many entries, without padding."""
        ...

    def positions(self, pieces: Sequence[Spanned], shape: Shape, use: Use, sizes: Sizes) -> tuple[int, ...]:
        """At how many positions each of the weights in place of one is applied, samples included.

        This one serves kinds whose weights all meet the same rows.

        Args:
            pieces: Of each, in the order in which data meet them, the spatial axes it spans.
            shape: Of the weight they take the place of.
            use: The node.
            sizes: Of the tensors of its graph.

        Raises:
            LookupError: The sizes that count are not known.
        """
        return (math.prod(exactly(sizes, use.output)) // shape.m,) * len(pieces)

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """A weight, [out, in] or [out, in, *kernel], as its nodes read it; `dims` are those of the one it replaces."""
        ...

    def laying_out(self, shape: Sequence[int], dims: Sequence[int]) -> tuple[Decoding, ...]:
        """What `operand` does, in steps, to floats that are not known before the model runs.

        This one serves kinds that leave the order of the numbers as it is.

        Args:
            shape: Of the floats, [out, in] or [out, in, *kernel].
            dims: Of the weight that they replace.
        """
        target = self.operand(np.empty(shape, np.bool_), dims).shape
        return () if target == tuple(shape) else (Decoding("Reshape", attributes={"shape": target}),)

    def nodes(self, use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
        """The nodes in place of the use's node."""
        ...

    def structures(self, shape: Shape) -> tuple[Structure, ...]:
        """How such a weight can be taken apart."""
        return tuple(structure for structure in STRUCTURES.values() if structure.applies(shape))

    def joined(self) -> tuple[Joined, ...]:
        """How such a weight can be stored in several ways at once."""
        return ()
