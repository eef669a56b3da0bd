"""The user's data: what the model is fed, from images, arrays or a reader, and how it is split.

The only room that reads user data. It never imports onnx or onnxruntime.
"""

from onnx_dalr.samples.base import CLASS_FOLDERS, Array, Batch, InputSpec, Samples, digest
from onnx_dalr.samples.classes import ClassOrder, class_orders, match_classes, near_class
from onnx_dalr.samples.images.settings import ImageSettings
from onnx_dalr.samples.labels import NO_LABEL, GivenLabels, read_labels
from onnx_dalr.samples.masks import Mask, find_mask
from onnx_dalr.samples.sources import open_samples
from onnx_dalr.samples.split import Split, split

__all__ = [
    "CLASS_FOLDERS",
    "NO_LABEL",
    "Array",
    "Batch",
    "ClassOrder",
    "GivenLabels",
    "ImageSettings",
    "InputSpec",
    "Mask",
    "Samples",
    "Split",
    "class_orders",
    "digest",
    "find_mask",
    "match_classes",
    "near_class",
    "open_samples",
    "read_labels",
    "split",
]
