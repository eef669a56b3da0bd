"""The user's data: what the model is fed, from images, arrays or a reader, and how it is split.

The only room that reads user data. It never imports onnx or onnxruntime.
"""

from onnx_dalr.samples.base import Array, Batch, InputSpec, Samples, digest
from onnx_dalr.samples.image_settings import ImageSettings
from onnx_dalr.samples.labels import read_labels
from onnx_dalr.samples.sources import open_samples
from onnx_dalr.samples.split import Split, split

__all__ = [
    "Array",
    "Batch",
    "ImageSettings",
    "InputSpec",
    "Samples",
    "Split",
    "digest",
    "open_samples",
    "read_labels",
    "split",
]
