"""What `inspect` found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnx_dalr.ahead.reachable import Reachable
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.results.inventory import FewerBits, FileFacts, FormatFacts, Made, OperatorFacts
from onnx_dalr.results.json import to_json
from onnx_dalr.shown import Shown
from onnx_dalr.units import format_bytes

SMALL = "small constants"


OTHER = "other constants"


_SMALL_SHARE = 1000


_SMALL_BYTES = 1000
"""A constant that is no weight is small with at most so many bytes, or a thousandth of the file."""


@dataclass(frozen=True)
class StructureFacts:
    """A way to take a layer apart.

    Attributes:
        name: Of the structure.
        largest: The largest rank at which it has fewer parameters than the weight, with an adjusted bias; empty where
            it has not at any.
    """

    name: str
    largest: tuple[int, ...]


@dataclass(frozen=True)
class LayerFacts:
    """One Layer of a model.

    Attributes:
        name: Layer name.
        weight: Name of the weight.
        op: Operator.
        uses: Nodes that use the weight.
        m: Outputs.
        n: Inputs.
        dtype: Element type.
        params: m·n.
        bytes: Bytes of the weight.
        share: Of the file.
        break_even: The largest rank that saves parameters, with an adjusted bias: of the first structure that can.
        macs: Multiply-adds of its nodes; None where those of the model are not known.
        structures: How it can be taken apart, and up to which rank each pays.
    """

    name: str
    weight: str
    op: str
    uses: int
    m: int
    n: int
    dtype: str
    params: int
    bytes: int
    share: float
    break_even: int
    macs: int | None = None
    structures: tuple[StructureFacts, ...] = ()


@dataclass(frozen=True)
class TensorFacts:
    """One tensor stored in a model.

    Attributes:
        name: Of the tensor; of one in an attribute, the node's and the attribute's.
        also: Names of further tensors at the same place of a data file.
        where: The body or function it is stored in, empty for the main graph.
        op: Operator of the node that reads it, of several the one that says what it is; empty where none does.
        node: Name of that node.
        ops: Operators of all that read it, each once, that one first.
        uses: Nodes that read it.
        dtype: Element type.
        shape: Its shape.
        bytes: What its values take in the file.
        share: Of the file.
        file: The data file it lies in, None for the model file.
        kind: What it is: "Gemm", "3×3 Conv", "embedding", "bias", …
        layer: Name of the Layer it is the weight of, or None.
        break_even: Of that layer.
        reason: Why a weight is in no layer; None for what is in one, and for biases, shapes and the like.
        format: "int8", "int4", …: what the floats are stored as that it stands for; None where it is what it says.
        macs: Multiply-adds of the nodes that multiply by it, each counted for one weight; None where those of the model
            are not known.
        numbers: How many it stands for.
        grain: How many of them share a scale, in words; empty where it is stored as floats, or that is not known.
        aside: The format of the numbers that it scales or unpacks, where it does nothing else.
        domain: Of the operator that reads it, "" for ONNX itself.
        says: What that operator is, in words; None where its name says it.
    """

    name: str
    also: tuple[str, ...]
    where: str
    op: str
    node: str
    ops: tuple[str, ...]
    uses: int
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    share: float
    file: str | None
    kind: str
    layer: str | None
    break_even: int | None
    reason: str | None
    format: str | None = None
    macs: int | None = None
    numbers: int = 0
    grain: str = ""
    aside: str | None = None
    domain: str = ""
    says: str | None = None

    @property
    def is_weight(self) -> bool:
        """Whether it is something that is multiplied or looked up."""
        return self.layer is not None or self.reason is not None


@dataclass(frozen=True)
class KindFacts:
    """All tensors of a kind that are, or are not, eligible for one reason; or nodes that multiply without a weight.

    Attributes:
        kind: As of its tensors; constants that are no weights are in two kinds, the small and the others. Of nodes
            without a weight their operator.
        eligible: They are weights of layers.
        reason: Why not, without what holds for a single node.
        count: How many.
        bytes: Together.
        share: Of the file.
        macs: Multiply-adds, together; None where those of the model are not known.
    """

    kind: str
    eligible: bool
    reason: str | None
    count: int
    bytes: int
    share: float
    macs: int | None = None


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """What `inspect` found. `str()` is the table, `to_json()` the same facts.

    The bytes of all tensors, `other_bytes` and `unclaimed_bytes` add up to the size of the artifact.

    Attributes:
        path: Path of the model, None for a ModelProto.
        bytes: Size of the whole artifact.
        params: Numbers it computes with, in whatever format.
        opsets: Operator sets by domain; "" is ONNX itself.
        layers: Eligible layers, largest first.
        skipped: Nodes that look like one and are not.
        optimized: What an earlier run of this tool wrote into the model, as it stands there, or None.
        reachable: What is in layers, and how small the file becomes at best.
        kinds: The tensors summed up by kind, largest first.
        tensors: Everything that is stored, largest first.
        other_bytes: What is no tensor: nodes, names, shapes, metadata.
        remark_bytes: What of it are doc strings and metadata, which runtimes do not read.
        unclaimed_bytes: What lies in data files and belongs to no tensor.
        macs: Multiply-adds of one run; None where the file does not say how large a sample is, or what is inside.
        counted_as_one: Axes that the file leaves open, tokens say, which count as one in `macs`.
        operators: The nodes by operator, what takes most bytes first.
        formats: What is stored, by format, the most bytes first.
        files: Files of external data, the largest first.
        made: What `optimized` says; None where it is not what this tool writes.
        fewer_bits: What `--weights` reaches, layers among it.
    """

    path: Path | None
    bytes: int
    params: int
    opsets: dict[str, int]
    layers: tuple[LayerFacts, ...]
    skipped: tuple[Skipped, ...]
    optimized: str | None
    reachable: Reachable
    kinds: tuple[KindFacts, ...]
    tensors: tuple[TensorFacts, ...]
    other_bytes: int
    remark_bytes: int
    unclaimed_bytes: int
    macs: int | None = None
    counted_as_one: tuple[str, ...] = ()
    operators: tuple[OperatorFacts, ...] = ()
    formats: tuple[FormatFacts, ...] = ()
    files: tuple[FileFacts, ...] = ()
    made: Made | None = None
    fewer_bits: FewerBits | None = None

    @property
    def tied(self) -> tuple[TensorFacts, ...]:
        """Weights that several nodes use: they are stored once, and counted once."""
        return tuple(tensor for tensor in self.tensors if tensor.is_weight and tensor.uses > 1)

    def _brief(self) -> str:
        share = sum(layer.share for layer in self.layers)
        eligible = f"{len(self.layers)} eligible layers, {100 * share:.1f} % of the file"
        return f"{self.path.name if self.path else 'in memory'}: {format_bytes(self.bytes)}, {eligible}"

    def to_text(self, *, top: int | None = 20, width: int = 120) -> str:
        """The table as `str()` has it, or with more or fewer tensors.

        Args:
            top: So many tensors, the largest; None for all but the small constants.
            width: Characters a line has.

        Returns:
            Plain text.
        """
        return self.render("text", width=width, top=top)

    def to_json(self) -> str:
        """The facts of the table as JSON text."""
        return to_json(self)


def is_small(tensor: TensorFacts, size: int) -> bool:
    """Whether a tensor is no weight in use and hardly counts in a file of this size."""
    return (not tensor.is_weight or not tensor.uses) and tensor.bytes <= max(_SMALL_BYTES, size // _SMALL_SHARE)
