"""Arrays in, arrays out: statistics of a layer → its Spectrum → its Factors at a rank. Knows no ONNX."""

from __future__ import annotations

from onnx_dalr.factorize.dalr2017 import Ridge
from onnx_dalr.factorize.form import DENSE, KEPT, PAIR, UNTOUCHED, Form, Rank, parse_form
from onnx_dalr.factorize.methods import METHODS, Method
from onnx_dalr.factorize.metric import metric_shrinkage
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.shrinkage import shrinkage_of
from onnx_dalr.factorize.spectrum import Factors, Spectrum
from onnx_dalr.factorize.statistics import Need, Statistics

__all__ = [
    "DENSE",
    "KEPT",
    "METHODS",
    "PAIR",
    "UNTOUCHED",
    "Factors",
    "Form",
    "Method",
    "Need",
    "Rank",
    "Ridge",
    "Settings",
    "Shape",
    "Spectrum",
    "Statistics",
    "metric_shrinkage",
    "parse_form",
    "shrinkage_of",
]
