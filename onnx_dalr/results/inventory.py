"""What `inspect` sums up: operators, formats, files, what an earlier run made of it, what fewer bits reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorFacts:
    """All nodes of an operator, in bodies and functions too, and what is stored for them.

    Attributes:
        op: Operator; empty for what no node reads.
        domain: Of the operator, "" for ONNX itself.
        nodes: How many.
        tensors: Stored tensors that they read; what several operators read is counted for one of them, that multiplies
            by it.
        bytes: Of these.
        share: Of the file.
        macs: Multiply-adds; None where those of the model are not known.
        says: What it is, in words; None where its name says it.
    """

    op: str
    domain: str
    nodes: int
    tensors: int
    bytes: int
    share: float
    macs: int | None
    says: str | None


@dataclass(frozen=True)
class FormatFacts:
    """All that is stored in one format.

    Attributes:
        format: "float32", "int8", "int4", …
        grains: How many numbers share a scale, in words, the most frequent first.
        tensors: Stored tensors, without their scales.
        numbers: How many they stand for.
        bytes: Of these, with scales and zero points.
        share: Of the file.
        bits: What a number takes, with its part of a scale.
    """

    format: str
    grains: tuple[str, ...]
    tensors: int
    numbers: int
    bytes: int
    share: float
    bits: float

    @property
    def is_of_floats(self) -> bool:
        """Whether its numbers are floats or stand for such."""
        return "float" in self.format or bool(self.grains)


@dataclass(frozen=True)
class FileFacts:
    """A file of external data.

    Attributes:
        name: From the model's folder.
        bytes: On disk.
        tensors: Stored tensors that lie in it.
        unclaimed: Bytes of it that belong to none.
    """

    name: str
    bytes: int
    tensors: int
    unclaimed: int


@dataclass(frozen=True)
class MadeLayer:
    """What a layer became in an earlier run of this tool.

    Attributes:
        name: Of the layer, in the model that this one was made of.
        form: What was chosen, "pair 64" or "dense int8".
        tensors: Names of what took its weight's place, where they are still found.
        numbers_before: Of its weight, where they are found.
        numbers: Of these.
        bytes: Of these and their scales.
    """

    name: str
    form: str
    tensors: tuple[str, ...]
    numbers_before: int | None
    numbers: int | None
    bytes: int | None


@dataclass(frozen=True)
class Made:
    """What an earlier run of this tool wrote into the model of what it did.

    Attributes:
        version: Of onnx-dalr.
        method: Of the factorization.
        calibration: Fingerprint of the samples.
        layers: That changed, in graph order.
        original_bytes: Size of the model it was made of, None where that is not noted.
        tuned: Whether it learned from that model afterwards; None where that is not noted.
        again: The model it was made of had been made by this tool too.
    """

    version: str
    method: str
    calibration: str
    layers: tuple[MadeLayer, ...]
    original_bytes: int | None = None
    tuned: bool | None = None
    again: bool = False


@dataclass(frozen=True)
class FewerBits:
    """What can be stored in fewer bits, whether ranks reach it or not.

    Attributes:
        weights: How many.
        bytes: Of these.
        in_int8: About what the artifact would take with all of them in int8.
    """

    weights: int
    bytes: int
    in_int8: int
