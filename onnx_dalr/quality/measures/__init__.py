"""The kinds of outputs, each with its figures, its distortion and its seeds: a new kind is a file and a line here."""

from onnx_dalr.quality.measures.base import Figures, Measure, RowPairs, Sums, as_output, as_rows
from onnx_dalr.quality.measures.classes import Classes
from onnx_dalr.quality.measures.dense import Dense
from onnx_dalr.quality.measures.embedding import Embedding
from onnx_dalr.quality.measures.numbers import Numbers, Scales
from onnx_dalr.quality.measures.values import Values

__all__ = [
    "Classes",
    "Dense",
    "Embedding",
    "Figures",
    "Measure",
    "Numbers",
    "RowPairs",
    "Scales",
    "Sums",
    "Values",
    "as_output",
    "as_rows",
]
