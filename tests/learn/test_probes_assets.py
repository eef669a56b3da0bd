"""On real networks: what the metric says of a layer before anything is tried is what compressing it then does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import input_specs, load
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.probes import add_metric
from onnx_dalr.quality.evaluate import evaluate
from onnx_dalr.quality.measures import Classes
from onnx_dalr.request.options import read_options
from onnx_dalr.samples.sets import opened
from onnx_dalr.session.session import open_session
from tests.forms import paired
from tests.quality.task_cases import task

pytestmark = pytest.mark.assets

VGG = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


@pytest.mark.parametrize(
    ("name", "data", "options", "layer", "rank"),
    [
        ("mnist-mlp", "mnist-calib.npz", {}, "/3/Gemm", 63),
        ("vgg-cifar-target", "cifar-animals-images/calib", VGG, "/fc6/Gemm", 95),
        ("vgg-cifar-target", "cifar-animals-images/calib", VGG, "/fc8/Gemm", 2),
    ],
)
def test_the_tail_of_a_layer_is_the_divergence_it_causes_within_a_factor_of_two(
    assets: Path, name: str, data: str, options: dict[str, Any], layer: str, rank: int
) -> None:
    found = load(assets / f"models/{name}.onnx")
    (chosen,) = [each for each in find(found)[0] if each.name == layer]
    how, samples = read_options(assets / "data" / data, {**options, "device": "cpu"})  # type: ignore[typeddict-item]
    asked = task(Classes(), names=[found.proto.graph.output[0].name])
    with opened(samples, input_specs(found.proto)) as sets:
        batches = (batch for _, batch in sets.fit)
        stats = capture(found, [chosen], how.method, batches, device="cpu", metric=True).statistics
        add_metric(found, [chosen], stats, sets.fit, asked, device="cpu")
        spectrum = how.method.spectrum(matrix(found, chosen), stats[layer], how.settings)
        new = rewrite(found, [paired(chosen, spectrum.factors(rank))], "{}").proto
        original, compressed = (open_session(each.SerializeToString(), "cpu") for each in (found.proto, new))
        measured = evaluate(original, compressed, sets.fit, asked).distortion
    assert spectrum.metric_tails is not None
    assert measured / 2 < spectrum.metric_tails[rank] < 2 * measured
