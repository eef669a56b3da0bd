"""What is found out of constants that are not stored as the floats they stand for, and how it is noted on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from onnx import TensorProto

from onnx_dalr.graph.handle import Handle, Scope
from onnx_dalr.graph.storage import operators as of
from onnx_dalr.graph.storage.operators import Shape


class Place(NamedTuple):
    """A name, and the scope it is of."""

    scope: Scope
    name: str


class Aside(NamedTuple):
    """A constant that scales or unpacks others.

    Attributes:
        format: Of those.
        floats: How many floating numbers it has.
    """

    format: str
    floats: int


@dataclass(frozen=True)
class Packed:
    """A constant that is not stored as the floats it stands for.

    Attributes:
        name: Of the constant.
        type: Its element type.
        numbers: How many it stands for.
        format: "int8", "int4", …: bits of each.
        shape: Of the floats as nodes read them, as far as it is known; else of the constant.
        stored: Shape of the constant.
        block: How many of them share a scale, None where that is not known.
    """

    name: str
    type: int
    numbers: int
    format: str
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    block: int | None = None


@dataclass(frozen=True)
class Numbers:
    """What is packed in a model, and what belongs to that.

    Attributes:
        packed: Constants that stand for floats.
        aside: Scales, zero points and whatever unpacks, where nothing else reads them.
        steps: Nodes that only make floats of constants, with those of their inputs that hold the numbers.
        made: The tensors that they make, and of which constant.
    """

    packed: Mapping[Place, Packed] = field(default_factory=dict)
    aside: Mapping[Place, Aside] = field(default_factory=dict)
    steps: Mapping[Handle, tuple[int, ...]] = field(default_factory=dict)
    made: Mapping[Place, Packed] = field(default_factory=dict)

    @property
    def beside_floats(self) -> int:
        """How many numbers the model has beyond its floating constants; scales are no numbers of its own."""
        packed = sum(one.numbers for one in self.packed.values() if one.type not in of.FLOATING)
        return packed - sum(one.floats for one in self.aside.values())


class Root:
    """A constant of whole numbers, while it is being found out whether they stand for floats."""

    def __init__(self, tensor: TensorProto, name: str) -> None:
        self.name, self.dims, self.type = name, tuple(tensor.dims), tensor.data_type
        self.bits = of.BITS.get(tensor.data_type, 8)
        self.numbers = 0
        self.format = ""
        self.shape: Shape = None
        self.block = self.scales = 0

    def scaled_by(self, count: int, block: int = 0) -> None:
        """So many scales say what its numbers stand for; the operator may say how many share one."""
        self.scales, self.block = max(count, self.scales), block or self.block

    def use(self, count: int, bits: int, shape: Shape = None) -> None:
        """It stands for so many floats."""
        if count <= self.numbers:
            return
        self.numbers, self.shape = count, shape
        name = TensorProto.DataType.Name(self.type).lower()
        self.format = name if name.startswith("float") else f"int{bits}"

    def packed(self) -> Packed:
        """What it is."""
        block = self.block or (self.numbers // self.scales if self.scales else None)
        return Packed(self.name, self.type, self.numbers, self.format, self.shape or self.dims, self.dims, block)


class Value:
    """A constant, or what a node makes of constants.

    Attributes:
        place: Its name and scope.
        shape: Its shape.
        count: How many stored numbers it stands for.
        tensor: Its values, where it is a constant.
        root: The whole numbers it is made of, None where there are none.
        bits: Of a number of the root.
        floats: They have become floats.
        picked: Some rows of it are, by indices.
        done: What comes after is no step any more.
        part: It may be only some of the bits of its root.
        joined: It is made of several roots, of which its own is the one with the most numbers.
        made: The node that makes it, and which of its inputs are the numbers.
        reads: For each node that reads it: the root that it serves there, or what it becomes; None for anything else.
    """

    __slots__ = (
        *("place", "shape", "count", "tensor", "root", "bits", "floats", "picked", "done", "part", "joined", "made"),
        "reads",
    )

    def __init__(self, place: Place, shape: Shape, count: int, *, tensor: TensorProto | None, floats: bool) -> None:
        self.place, self.shape, self.count, self.tensor, self.floats = place, shape, count, tensor, floats
        self.root: Root | None = None
        self.bits = 0
        self.picked = self.done = self.part = self.joined = False
        self.made: tuple[Handle, tuple[int, ...]] | None = None
        self.reads: list[Root | Value | None] = []

    def becomes(self, place: Place, by: Handle, **changes: Any) -> Value:
        """What a node makes of it, which reads it for that."""
        made = Value(place, self.shape, self.count, tensor=None, floats=self.floats)
        made.root, made.bits, made.picked, made.part = self.root, self.bits, self.picked, self.part
        made.joined = self.joined
        made.made = (by, (0,))
        for name, value in changes.items():
            setattr(made, name, value)
        self.reads.append(made)
        return made

    def use(self) -> None:
        """Its floats are what a node computes with."""
        if self.root is not None:
            self.root.use(self.count, self.bits, None if self.picked else self.shape)


def is_aside(op: str, side: Value, count: int) -> bool:
    """Whether so few numbers say what others stand for; as many that are added to them are a weight themselves."""
    return side.count <= max(of.TINY, count - (op == "Add"))


def serves(value: Value, serving: Mapping[int, str]) -> str | None:
    """The format of the numbers that it unpacks or scales, None where it is also read for anything else."""
    formats = [
        serving.get(id(by)) if isinstance(by, Value) else by.format if by is not None and by.numbers else None
        for by in value.reads
    ]
    return formats[0] if formats and all(formats) else None
