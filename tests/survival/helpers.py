"""What the survival tests share: samples on which low rank loses little, and two models held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper

import onnx_dalr
from onnx_dalr.graph.storage.model import stored_tensors
from tests.graph.helpers import run, values

ort.set_default_logger_severity(4)

FLOATING = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def rows(shape: tuple[int, ...], *, latent: int = 4, axis: int = -1, seed: int = 1, dtype: Any = np.float32) -> Any:
    """Samples of this shape that vary along few directions of `axis`, around a mean of their own."""
    random = np.random.default_rng(seed)
    width = shape[axis]
    others = tuple(np.delete(shape, axis))
    basis, mean = random.standard_normal((latent, width)) / np.sqrt(latent), 0.3 * random.standard_normal(width)
    noise = 1e-3 * random.standard_normal((*others, width))
    made = random.standard_normal((*others, latent)) @ basis + mean + noise
    return np.moveaxis(made, -1, axis).astype(dtype)


def optimize(model: ModelProto | Path, output: Path | None = None, **options: Any) -> onnx_dalr.Result:
    """`onnx_dalr.optimize` on the CPU, the score an error."""
    return onnx_dalr.optimize(model, output, **{"device": "cpu", "task": "regress", **options})


def compressed(result: onnx_dalr.Result) -> set[str]:
    """Names of the layers that got a rank."""
    return {layer.name for layer in result.layers if layer.rank is not None}


def reasons(result: onnx_dalr.Result) -> dict[str, str]:
    """Why nodes were skipped, by name."""
    return {entry.name: entry.reason for entry in result.skipped}


def largest_error(before: ModelProto | str, after: ModelProto | str, feeds: dict[str, Any]) -> float:
    """‖y − ŷ‖ / ‖y‖ of the worst output; both models have the same outputs, of the same types and shapes."""
    one, two = run(before, feeds), run(after, feeds)
    assert list(one) == list(two)
    worst = 0.0
    for name, expected in one.items():
        assert (two[name].dtype, two[name].shape) == (expected.dtype, expected.shape), name
        exact = expected.astype(np.float64)
        worst = max(worst, float(np.linalg.norm(two[name] - exact) / max(np.linalg.norm(exact), 1e-30)))
    return worst


def signature(model: ModelProto | str) -> list[tuple[str, str, tuple[Any, ...]]]:
    """What a caller of an ONNX Runtime session sees: inputs, overridable initializers, outputs."""
    source = model if isinstance(model, str) else model.SerializeToString()
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    ends = (*session.get_inputs(), *session.get_overridable_initializers(), *session.get_outputs())
    return [(end.name, end.type, tuple(end.shape)) for end in ends]


def numbers(model: ModelProto) -> int:
    """Floating constants stored anywhere in a model."""
    return sum(int(np.prod(tensor.dims)) for tensor in stored_tensors(model.graph) if tensor.data_type in FLOATING)


def shapes(model: ModelProto) -> list[tuple[int, ...]]:
    """Shapes of all matrices and kernels in a model, ones left out, smaller axis first: transposing changes nothing."""
    found = (tuple(sorted(axis for axis in tensor.dims if axis != 1)) for tensor in stored_tensors(model.graph))
    return sorted(shape for shape in found if len(shape) > 1)


def dtypes(model: ModelProto) -> dict[str, str]:
    """Element type of every initializer."""
    return {tensor.name: TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}


def named(model: ModelProto) -> dict[str, NodeProto]:
    """Nodes of the main graph by name, or by first output where they have none."""
    return {node.name or node.output[0]: node for node in model.graph.node}


def node_model(
    nodes: list[NodeProto],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any] | None]],
    constants: list[TensorProto],
    opsets: Mapping[str, int] | None = None,
    ir_version: int = 8,
) -> ModelProto:
    """A model for what ONNX text cannot say; not checked."""
    ends = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]
        for values in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *ends, initializer=constants)
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def checked(result: onnx_dalr.Result) -> ModelProto:
    """The new model of a result, after the full check of onnx."""
    onnx.checker.check_model(result.model, full_check=True)
    return result.model


WIDE = rows((96, 64))
W = {name: values(name, (64, 64)) / np.float32(8) for name in "UVWZ"}
"""64 inputs, and four matrices for them."""


def feeds(**others: Any) -> list[dict[str, Any]]:
    """Batches of 8 rows for x, and the same value of everything else."""
    return [{"x": part, **others} for part in np.split(WIDE[:80], 10)]


def untouched(proto: ModelProto, result: onnx_dalr.Result, *names: str) -> bool:
    """Whether the named nodes are byte for byte as they were."""
    before, after = named(proto), named(result.model)
    return all(before[name].SerializeToString() == after[name].SerializeToString() for name in names)
