"""Tools that people run after ours leave the factors as they are: two thin weights, never multiplied back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.graph.helpers import model
from tests.survival import neighbours
from tests.survival.helpers import compressed, largest_error, optimize, rows, shapes
from tests.survival.neighbours import NEIGHBOURS, Neighbour, Ours, kept_thin


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ours]:
    """Compresses each model once."""
    made: dict[str, Ours] = {}

    def get(name: str, *arguments: Path) -> Ours:
        if name not in made:
            made[name] = getattr(neighbours, name)(tmp_path_factory.mktemp(name), *arguments)
        return made[name]

    return get


@pytest.fixture(params=NEIGHBOURS, ids=lambda neighbour: neighbour.name)
def neighbour(request: pytest.FixtureRequest) -> Neighbour:
    tool: Neighbour = request.param
    pytest.importorskip(tool.module, reason=f"{tool.package} is not installed: pip install --no-deps {tool.package}")
    return tool


def expect_survival(tool: Neighbour, ours: Ours, output: Path) -> None:
    tool.run(ours.path, output)
    after = onnx.load(output)
    if tool.standard:
        onnx.checker.check_model(after, full_check=True)
    assert largest_error(onnx.load(ours.path), after, ours.feeds) < 1e-5
    assert kept_thin(ours, after)
    assert output.stat().st_size < 1.1 * ours.path.stat().st_size + 4096
    assert output.stat().st_size < ours.result.bytes_before


@pytest.mark.parametrize("name", ["digits", "transformer", "pointwise"])
def test_a_compressed_model_survives(
    neighbour: Neighbour, ours: Callable[..., Ours], name: str, tmp_path: Path
) -> None:
    expect_survival(neighbour, ours(name), tmp_path / "after.onnx")


@pytest.mark.assets
def test_a_compressed_network_of_the_assets_survives(
    neighbour: Neighbour, ours: Callable[..., Ours], assets: Path, tmp_path: Path
) -> None:
    expect_survival(neighbour, ours("mnist", assets), tmp_path / "after.onnx")


@pytest.mark.assets
@pytest.mark.parametrize("name", ["onnxruntime, all", "onnxslim", "onnxscript.optimizer"])
def test_a_compressed_transformer_of_the_assets_survives(
    ours: Callable[..., Ours], assets: Path, name: str, tmp_path: Path
) -> None:
    (tool,) = (tool for tool in NEIGHBOURS if tool.name == name)
    pytest.importorskip(tool.module, reason=f"{tool.package} is not installed: pip install --no-deps {tool.package}")
    expect_survival(tool, ours("minilm", assets), tmp_path / "after.onnx")


@pytest.mark.parametrize("name", ["digits", "transformer", "pointwise"])
def test_the_models_of_these_tests_lose_little_by_compression(ours: Callable[..., Ours], name: str) -> None:
    made = ours(name)
    assert made.result.quality is not None
    assert made.result.quality.error.value < 0.2
    assert made.path.stat().st_size < 0.7 * made.result.bytes_before


def test_multiplying_the_factors_back_would_be_noticed(ours: Callable[..., Ours]) -> None:
    made = ours("digits")
    assert not kept_thin(made, made.before)


@pytest.mark.parametrize("name", ["digits", "transformer", "pointwise"])
def test_onnxruntime_gives_the_same_results_at_every_level(ours: Callable[..., Ours], name: str) -> None:
    made = ours(name)
    found = {}
    for level, value in neighbours.LEVELS.items():
        options = ort.SessionOptions()
        options.graph_optimization_level = value
        session = ort.InferenceSession(str(made.path), options, providers=["CPUExecutionProvider"])
        (found[level],) = session.run(None, made.feeds)
    for level in neighbours.LEVELS:
        np.testing.assert_allclose(found[level], found["disable"], rtol=1e-4, atol=1e-5, err_msg=level)


@pytest.mark.parametrize("first", NEIGHBOURS, ids=lambda neighbour: neighbour.name)
def test_a_model_that_a_neighbour_went_over_first_is_compressed_or_explained(
    first: Neighbour, ours: Callable[..., Ours], tmp_path: Path
) -> None:
    pytest.importorskip(first.module, reason=f"{first.package} is not installed: pip install --no-deps {first.package}")
    made = ours("transformer")
    onnx.save(made.before, tmp_path / "before.onnx")
    first.run(tmp_path / "before.onnx", tmp_path / "first.onnx")
    result = optimize(tmp_path / "first.onnx", tmp_path / "small.onnx", calib=rows((64, 5, 64)), rank=12)
    layers = {layer.name for layer in result.layers}
    assert layers == compressed(result)
    assert layers
    assert all(entry.reason for entry in result.skipped)
    assert largest_error(made.before, str(tmp_path / "small.onnx"), made.feeds) < 0.05


def test_no_node_has_the_two_factors_as_its_inputs() -> None:
    """What keeps them apart: optimizers fold nodes whose inputs are all constant; x·B·A is (x·B)·A and x never is."""
    proto = model("g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, W) }", W=(64, 64))
    made = optimize(proto, calib=rows((64, 64)), rank=8, method="svd").model
    first, second = made.graph.node
    assert (first.input[0], second.input[0]) == ("x", first.output[0])
    assert shapes(made) == [(8, 64), (8, 64)]
