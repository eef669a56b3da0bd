"""onnx-graphsurgeon's view of a model's graph: tensors that know who makes and who reads them.

It is only asked. Whatever is changed is changed on the ModelProto, since its export drops parts of a file: metadata,
doc strings, quantization annotations.
"""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs
from onnx import ModelProto


def graph_of(proto: ModelProto) -> Any:
    """The main graph, constants shared and all, without model-local functions: a `gs.Graph`."""
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL + 1  # it raises what it would print
    if not proto.functions:
        return gs.import_onnx(proto)
    bare = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    bare.graph.CopyFrom(proto.graph)
    return gs.import_onnx(bare)
