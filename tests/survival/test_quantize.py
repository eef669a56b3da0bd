"""Compress first, quantize after: the recipe of docs/quantize.md, run as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

import onnx_dalr
from tests.conftest import REPOSITORY
from tests.survival.helpers import reasons

RECIPE = REPOSITORY / "docs" / "quantize.md"
QUANTIZED = ("dynamic.onnx", "static.onnx")


def follow(folder: Path, model: Path, calib: Any, params: str) -> None:
    """Runs the fenced Python block of the document in a folder, its first lines' names given by the caller."""
    blocks = re.findall(r"```python\n(.*?)```", RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "quantize_dynamic" in block]
    setup, separator, recipe = code.partition("# The recipe\n")
    assert separator, "the block tells its settings apart from the recipe"
    given = {"model": str(model), "calib": calib, "params": params, "folder": folder}
    assert all(re.search(rf"^{name} = ", setup, re.MULTILINE) for name in given)
    imports = "\n".join(line for line in setup.splitlines() if line.startswith(("import ", "from ")))
    exec(compile(f"{imports}\n{recipe}", str(RECIPE), "exec"), given)


def outputs(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, feeds)[0]
    return found


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean(found.argmax(axis=-1) == expected.argmax(axis=-1)))


def digits(folder: Path) -> np.ndarray:
    files = sorted(folder.rglob("*.png"))
    return np.stack([np.asarray(Image.open(file), np.float32)[None] / 255 for file in files])


@pytest.fixture(scope="module")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    models = REPOSITORY / "models"
    follow(folder, models / "digits-target.onnx", digits(models / "digits" / "calib"), "20%")
    return folder


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_demo_model_stays_accurate(demo_models: Path, name: str) -> None:
    images = digits(REPOSITORY / "models" / "digits" / "test")
    expected = outputs(demo_models / "small.onnx", {"image": images})
    found = outputs(demo_models / name, {"image": images})
    assert agreement(found, expected) > 0.98
    assert error(found, expected) < 0.1


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_quantized_model_is_valid_and_about_a_quarter_of_the_compressed_one(demo_models: Path, name: str) -> None:
    onnx.checker.check_model(demo_models / name, full_check=True)
    small, quantized = ((demo_models / file).stat().st_size for file in ("small.onnx", name))
    assert quantized < 0.45 * small


def test_all_thin_weights_are_integers_afterwards(demo_models: Path) -> None:
    factors = {tensor.name for tensor in onnx.load(demo_models / "small.onnx").graph.initializer}
    factors = {name for name in factors if name.endswith((".dalr_A", ".dalr_B"))}
    assert len(factors) >= 4
    for name in QUANTIZED:
        kinds = {tensor.name: tensor.data_type for tensor in onnx.load(demo_models / name).graph.initializer}
        integers = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
        assert {f"{factor}_quantized" for factor in factors} <= {n for n, kind in kinds.items() if kind in integers}


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_other_way_round_there_is_nothing_to_gain_and_the_reason_says_what_to_do(
    demo_models: Path, name: str
) -> None:
    calib = REPOSITORY / "models" / "digits" / "calib"
    with pytest.raises(onnx_dalr.NothingToGainError, match="compress the float model first, quantize after"):
        onnx_dalr.optimize(demo_models / name, calib=calib, rank=8, device="cpu")


def test_what_is_quantized_in_part_is_compressed_in_the_rest(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    original = REPOSITORY / "models" / "digits-target.onnx"
    quantize_dynamic(original, tmp_path / "part.onnx", weight_type=QuantType.QInt8, nodes_to_quantize=["fc6_MatMul"])
    images = digits(REPOSITORY / "models" / "digits" / "test")
    result = onnx_dalr.optimize(
        tmp_path / "part.onnx", tmp_path / "small.onnx", calib={"image": images}, rank="fc7*=43", device="cpu"
    )
    assert {layer.name for layer in result.layers if layer.rank} == {"fc7_MatMul"}
    assert "quantized: compress the float model first, quantize after" in reasons(result).values()
    found, expected = (outputs(tmp_path / file, {"image": images}) for file in ("small.onnx", "part.onnx"))
    assert agreement(found, expected) > 0.98


@pytest.mark.assets
@pytest.mark.parametrize("params", ["30%"])
def test_a_network_of_the_assets_stays_accurate(assets: Path, tmp_path: Path, params: str) -> None:
    with np.load(assets / "data" / "mnist-calib.npz") as arrays:
        calib = arrays["image"][:512]
    follow(tmp_path, assets / "models" / "mnist-mlp.onnx", calib, params)
    with np.load(assets / "data" / "mnist-test.npz") as arrays:
        images = arrays["x"][:2000].reshape(-1, 784).astype(np.float32) / 255
        labels = arrays["y"][:2000]
    expected = outputs(tmp_path / "small.onnx", {"image": images})
    small = float(np.mean(expected.argmax(axis=1) == labels))
    for name in QUANTIZED:
        found = outputs(tmp_path / name, {"image": images})
        assert agreement(found, expected) > 0.985, name
        assert error(found, expected) < 0.1, name
        assert float(np.mean(found.argmax(axis=1) == labels)) > small - 0.01, name
