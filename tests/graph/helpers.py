"""What the tests of the graph room share: models as ONNX text, exact factors, protos compared field by field."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import Layer, Skipped, find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model

ort.set_default_logger_severity(4)


def model(text: str, *, opset: int = 17, ir_version: int = 8, checked: bool = True, **constants: Any) -> ModelProto:
    """A model of a graph in ONNX text, with its initializers beside: an array, or a shape to be filled.

    Text that begins with "<" brings its own header. Dots in an initializer's name are written as two underscores.
    """
    if not text.lstrip().startswith("<"):
        domains = f'"" : {opset}, "com.microsoft" : 1, "custom" : 1'
        text = f"<ir_version: {ir_version}, opset_import: [{domains}]>\n{text}"
    proto = onnx.parser.parse_model(text)
    for name, value in constants.items():
        tensor = value if isinstance(value, np.ndarray) else values(name, value)
        proto.graph.initializer.append(numpy_helper.from_array(tensor, name.replace("__", ".")))
    if checked:
        onnx.checker.check_model(proto, full_check=True)
    return proto


def values(name: str, shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """Normal numbers that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(dtype)


def with_constant_nodes(proto: ModelProto, *names: str) -> ModelProto:
    """The same model, the named initializers in Constant nodes at its beginning."""
    made = ModelProto()
    made.CopyFrom(proto)
    for name in names:
        tensor = next(t for t in made.graph.initializer if t.name == name)
        made.graph.node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
        made.graph.initializer.remove(tensor)
    return made


def layers_of(proto: ModelProto) -> list[Layer]:
    return find(Model(proto))[0]


def skipped_of(proto: ModelProto) -> list[Skipped]:
    return find(Model(proto))[1]


def only_layer(proto: ModelProto) -> Layer:
    """The one Layer of a model in which nothing else looks like one."""
    layers, skipped = find(Model(proto))
    assert not skipped, skipped
    assert len(layers) == 1, layers
    return layers[0]


def reason(proto: ModelProto) -> str:
    """Why the one candidate of a model is no Layer."""
    layers, skipped = find(Model(proto))
    assert not layers, layers
    assert len(skipped) == 1, skipped
    return skipped[0].reason


def exact(proto: ModelProto, layer: Layer, shift: np.ndarray | float = 0.0) -> Substitution:
    """Full-rank factors of the layer's matrix: A·B = W."""
    U, s, Vt = np.linalg.svd(matrix(Model(proto), layer).astype(np.float64), full_matrices=False)
    return pair(layer, U * s, Vt, np.broadcast_to(np.asarray(shift, np.float64), (layer.m,)))


def thin(layer: Layer, rank: int, shift: float = 1.0) -> Substitution:
    """Factors of any numbers: for tests of what is where, not of what it computes."""
    return pair(layer, np.ones((layer.m, rank)), np.ones((rank, layer.n)), np.full(layer.m, shift))


def pair(layer: Layer, A: np.ndarray, B: np.ndarray, shift: np.ndarray) -> Substitution:
    """A·B in place of the layer's matrix, in the element type it has: of a larger kernel that is `out`."""
    if layer.shape.taps > 1:
        B, A = B.reshape(len(B), *layer.shape.dims[1:]), A.reshape(*A.shape, *[1] * len(layer.shape.kernel))
        return Substitution.of(layer, (Piece("B", B), Piece("A", A, ())), FORMATS["keep"], shift)
    return Substitution.of(layer, (Piece("B", B), Piece("A", A)), FORMATS["keep"], shift)


def rewritten(proto: ModelProto, shift: np.ndarray | float = 0.0) -> ModelProto:
    """Every Layer replaced by its exact factors, and the result checked."""
    layers = layers_of(proto)
    assert layers
    made = rewrite(Model(proto), [exact(proto, layer, shift) for layer in layers]).proto
    onnx.checker.check_model(made, full_check=True)
    return made


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def initializers(proto: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def session(proto: ModelProto | str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def some_feeds(proto: ModelProto | str) -> dict[str, np.ndarray]:
    """Numbers for every input of a model; symbolic axes are 5 long."""
    feeds = {}
    for value in session(proto).get_inputs():
        shape = [axis if isinstance(axis, int) else 5 for axis in value.shape]
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
        numbers = values(value.name, shape)
        feeds[value.name] = np.asarray(numbers > 0 if dtype == "bool" else numbers).astype(dtype)
    return feeds


def run(proto: ModelProto | str, feeds: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The outputs of a model by name, computed by onnxruntime on the CPU."""
    made = session(proto)
    found = made.run(None, some_feeds(proto) if feeds is None else feeds)
    return dict(zip([value.name for value in made.get_outputs()], found, strict=True))


def assert_same_outputs(proto: ModelProto, other: ModelProto, moved_by: Any = 0.0, tolerance: float = 1e-4) -> None:
    """Both models give the same outputs, but for `moved_by`."""
    feeds = some_feeds(proto)
    before, after = run(proto, feeds), run(other, feeds)
    assert list(before) == list(after)
    for name, expected in before.items():
        assert after[name].dtype == expected.dtype
        assert after[name].shape == expected.shape
        np.testing.assert_allclose(after[name], expected + moved_by, rtol=tolerance, atol=tolerance, err_msg=name)


def differences(a: Any, b: Any, path: str = "model") -> Iterator[str]:
    """The path of every field in which two protos differ."""
    for field in a.DESCRIPTOR.fields:
        where = f"{path}.{field.name}"
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.is_repeated:
            if len(left) != len(right):
                yield f"{where}: {len(left)} != {len(right)} entries"
                continue
            pairs = list(zip(left, right, strict=True))
            if field.message_type:
                for position, (one, other) in enumerate(pairs):
                    yield from differences(one, other, f"{where}[{position}]")
            elif any(one != other for one, other in pairs):
                yield f"{where}: values differ"
        elif field.message_type:
            if a.HasField(field.name) != b.HasField(field.name):
                yield f"{where}: is set in one only"
            elif a.HasField(field.name):
                yield from differences(left, right, where)
        elif left != right:
            yield f"{where}: {left!r} != {right!r}"
    if list(a.DESCRIPTOR.fields) and a.ByteSize() != b.ByteSize():
        yield f"{path}: {a.ByteSize()} != {b.ByteSize()} bytes"


def node_named(proto: ModelProto, name: str) -> NodeProto:
    return next(node for node in proto.graph.node if node.name == name)
