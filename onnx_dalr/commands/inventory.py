"""What is in a model, summed up: by operator, by format, by file; and what an earlier run of this tool made of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from onnx_dalr.candidate.forms import NODES, bytes_in_format
from onnx_dalr.candidate.noted import Noted, read_note
from onnx_dalr.factorize import METHODS, UNTOUCHED, Form
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.graph.contents import Content
from onnx_dalr.graph.in_words import domain_of, in_words
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.results.inspect import TensorFacts
from onnx_dalr.results.inventory import FewerBits, FileFacts, FormatFacts, Made, MadeLayer, OperatorFacts

_EIGHT_BITS = "int8"
_CONSTANT = "Constant"
_PIECE = ".dalr_"
"""What the names of new tensors and nodes have between the old name and what they are."""
_BIAS = "bias"


def operators(
    model: Model, tensors: Iterable[TensorFacts], macs: Mapping[str, int] | None, size: int
) -> tuple[OperatorFacts, ...]:
    """The nodes by operator, with what is stored for them; Constants are among what is stored.

    Args:
        model: Its nodes are counted in bodies and functions too.
        tensors: What is stored in it.
        macs: Multiply-adds by the name of a node's first output, None where they are not known.
        size: Bytes of the artifact.
    """
    counts: Counter[tuple[str, str]] = Counter()
    work: Counter[tuple[str, str]] = Counter()
    said: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for index in model.index.values():
        for node in index.nodes:
            if node.op_type == _CONSTANT:
                continue
            key = (domain_of(node), node.op_type)
            counts[key] += 1
            if (words := in_words(node)) is not None:
                said[key][words.said] = None
            if macs is not None and not index.scope.path and index.scope.function is None:
                work[key] += sum(macs.get(name, 0) for name in node.output[:1])
    stored: dict[tuple[str, str], list[int]] = defaultdict(list)
    for tensor in tensors:
        stored[tensor.domain, tensor.op].append(tensor.bytes)
    made = [
        OperatorFacts(
            op=op,
            domain=domain,
            nodes=counts[domain, op],
            tensors=len(stored.get((domain, op), ())),
            bytes=sum(stored.get((domain, op), ())),
            share=sum(stored.get((domain, op), ())) / size if size else 0.0,
            macs=None if macs is None else work[domain, op],
            says=_one_of(list(said[domain, op])),
        )
        for domain, op in dict.fromkeys((*counts, *stored))
    ]
    return tuple(sorted(made, key=lambda entry: (-entry.bytes, -entry.nodes, entry.op)))


def _one_of(said: Sequence[str]) -> str | None:
    """What nodes of one operator are; where they differ, the first few."""
    return " / ".join(said[:2]) + (" / …" if len(said) > 2 else "") if said else None


def formats(tensors: Iterable[TensorFacts], size: int) -> tuple[FormatFacts, ...]:
    """What is stored by format; scales and zero points belong to the format of what they scale.

    Args:
        tensors: What is stored.
        size: Bytes of the artifact.
    """
    whole: dict[str, list[TensorFacts]] = defaultdict(list)
    taken: Counter[str] = Counter()
    for tensor in tensors:
        format = tensor.aside or tensor.format or tensor.dtype
        taken[format] += tensor.bytes
        if tensor.aside is None:
            whole[format].append(tensor)
    made = []
    for format, count in taken.most_common():
        grains = Counter[str]()
        for tensor in whole[format]:
            grains[tensor.grain] += tensor.bytes
        numbers = sum(tensor.numbers for tensor in whole[format])
        made.append(
            FormatFacts(
                format=format,
                grains=tuple(grain for grain, _ in grains.most_common() if grain),
                tensors=len(whole[format]),
                numbers=numbers,
                bytes=count,
                share=count / size if size else 0.0,
                bits=8 * count / numbers if numbers else 0.0,
            )
        )
    return tuple(made)


def files(model: Model, tensors: Iterable[TensorFacts]) -> tuple[FileFacts, ...]:
    """The files that external data lies in, the largest first."""
    inside: dict[str, list[int]] = defaultdict(list)
    for tensor in tensors:
        if tensor.file is not None:
            inside[tensor.file].append(tensor.bytes)
    made = []
    for path in model.data_files:
        size, held = path.stat().st_size, inside.get(path.name, ())
        name = path.relative_to(model.folder).as_posix() if model.folder else path.name
        made.append(FileFacts(name, size, len(held), max(0, size - sum(held))))
    return tuple(sorted(made, key=lambda entry: -entry.bytes))


def fewer_bits(model: Model, size: int) -> FewerBits | None:
    """What `--weights` reaches; None where that is nothing."""
    layers, _ = find(model, in_one_piece=True)
    if not layers:
        return None
    method, held, left = METHODS["dalr"], 0, size
    for layer in layers:
        before = layer.params * layer.dtype.itemsize
        held += before
        left -= max(before - bytes_in_format(layer, UNTOUCHED, _EIGHT_BITS, method) - NODES, 0)
    return FewerBits(len(layers), held, left)


def made_before(note: str | None, stored: Sequence[Content]) -> Made | None:
    """What an earlier run noted, with what its layers are now; None where there is no note of ours."""
    noted = read_note(note)
    if noted is None:
        return None
    pieces = _pieces(noted, stored)
    return Made(
        version=noted.version,
        method=noted.method,
        calibration=noted.calibration,
        layers=tuple(_layer(name, form, pieces[name]) for name, form in noted.forms.items()),
        original_bytes=noted.original_bytes,
        tuned=noted.tuned,
        again=noted.again,
    )


def _pieces(noted: Noted, stored: Sequence[Content]) -> dict[str, list[Content]]:
    """What took the place of each layer's weight, told by the names: they begin with the weight's."""
    by_weight: dict[str, list[Content]] = defaultdict(list)
    for tensor in stored:
        weight, piece, role = tensor.name.rpartition(_PIECE)
        if piece and not role.startswith(_BIAS):
            by_weight[weight].append(tensor)
    found: dict[str, list[Content]] = {name: [] for name in noted.forms}
    for weight, tensors in by_weight.items():
        nodes = (reader.node.name for tensor in tensors for reader in tensor.readers)
        named = (weight, *(name.rpartition(_PIECE)[0] or name for name in nodes))
        layer = next((name for name in named if name in found), None)
        if layer is not None:
            found[layer] += tensors
    return found


def _layer(name: str, form: Form, pieces: Sequence[Content]) -> MadeLayer:
    weights = [tensor.numbers for tensor in pieces if not tensor.aside and (tensor.packed or _is_float(tensor))]
    return MadeLayer(
        name=name,
        form=str(form),
        tensors=tuple(tensor.name for tensor in pieces),
        numbers_before=_numbers_before(form, weights),
        numbers=sum(weights) if weights else None,
        bytes=sum(tensor.bytes for tensor in pieces) if weights else None,
    )


def _is_float(tensor: Content) -> bool:
    return "float" in tensor.dtype


def _numbers_before(form: Form, pieces: Sequence[int]) -> int | None:
    """Of the weight that pieces took the place of: every rank is a side of two of them, and of none of it.

    So k·n and m·k numbers stand for m·n = k·n·m·k / k².
    """
    expected = len(form.rank) + 1
    known = form.structure in STRUCTURES or not form.rank
    product, ranks = math.prod(pieces), math.prod(form.rank) ** 2
    if not known or len(pieces) != expected or product % ranks:
        return None
    return product // ranks
