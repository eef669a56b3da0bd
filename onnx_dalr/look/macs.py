"""Multiply-adds of the original: for the sizes that its file declares, or for those of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.macs import MultiplyAdds, multiply_adds
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import Runtime, open_session

_TOKENS = "iu"
"""Kinds of numbers that tokens are: of an open number of these one is counted. One pixel is nothing anyone runs."""


@dataclass(frozen=True, eq=False)
class Declared:
    """What a file says of its multiply-adds.

    Attributes:
        counted: Of one run.
        open_axes: The axes beside the samples' that it leaves open, of tokens: counted as one.
    """

    counted: MultiplyAdds
    open_axes: tuple[str, ...]


def as_declared(model: Model) -> Declared | None:
    """Of one sample, as far as the file declares what one is; None where it leaves open how large an image is."""
    try:
        specs = input_specs(model.proto)
    except InputError:
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[str, None] = {}
    for spec in specs:
        if spec.shape is None or (None in spec.shape[1:] and spec.dtype.kind not in _TOKENS):
            return None
        named = list(zip(spec.shape, spec.axes or [None] * len(spec.shape), strict=True))
        axes |= {name or "an open axis": None for size, name in named[1:] if size is None}
        shapes[spec.name] = tuple(size or 1 for size in spec.shape)
    return Declared(multiply_adds(model, sizes_on(model.proto, shapes)), tuple(axes))


def on_a_sample(model: Model, runtime: Runtime, sets: Sets | None) -> MultiplyAdds | None:
    """Of one sample; None where there is none, and the file does not say how large one is.

    Sizes that only the run decides, as of the regions that a detector looks at, are read off a run on that sample.

    Raises:
        InputError: ONNX Runtime cannot run the model.
    """
    if sets is None:
        found = as_declared(model)
        return found.counted if found else None
    shown = next((each for each in (sets.fit, sets.select, sets.report) if len(each)), sets.fit)
    samples, feed = shown.one()
    sizes = dict(sizes_on(model.proto, {name: array.shape for name, array in feed.items()}))
    counted = multiply_adds(model, sizes, samples)
    if not counted.missing:
        return counted
    made, folder = model.in_memory(probe(model.proto, counted.missing))
    values = open_session(made, runtime, folder).run(feed)
    sizes |= {name: np.shape(value) for name, value in zip(counted.missing, values, strict=True)}
    return multiply_adds(model, sizes, samples)
