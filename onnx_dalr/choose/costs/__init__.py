"""Costs: what forms cost, in the terms of a target. One file each, gathered here by the target's name."""

from __future__ import annotations

from onnx_dalr.choose.costs.additive import Params
from onnx_dalr.choose.costs.base import Budget, Cost
from onnx_dalr.choose.costs.bytes import Bytes
from onnx_dalr.choose.costs.latency import Latency
from onnx_dalr.choose.costs.macs import Macs

__all__ = ["COSTS", "Budget", "Cost"]

COSTS: dict[str, Cost] = {cost.name: cost for cost in (Params(), Bytes(), Macs(), Latency())}
