"""Real models of others, end to end: their quality is measured by ONNX Runtime alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

import onnx_dalr
from onnx_dalr.samples.sets import SampleSets

pytestmark = pytest.mark.assets

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
Feed = dict[str, np.ndarray]


def outputs(path: Path, feed: Feed, batch: int = 100) -> np.ndarray:
    """The first output over all rows of the feed, a hundred at a time."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    count = len(next(iter(feed.values())))
    parts = [
        session.run(None, {name: values[i : i + batch] for name, values in feed.items()})[0]
        for i in range(0, count, batch)
    ]
    return np.concatenate(parts)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(logits.argmax(axis=1) == labels))


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(np.mean(np.sum(one.astype(float) * two, axis=1) / lengths))


def drift(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.linalg.norm(two.astype(float) - one) / np.linalg.norm(one.astype(float)))


def sets_of(result: onnx_dalr.Result) -> SampleSets:
    assert result.samples is not None
    return result.samples


def positions(names: tuple[str, ...]) -> list[int]:
    """calib.npz[17] is row 17."""
    return [int(name.rpartition("[")[2].rstrip("]")) for name in names]


def expect_smaller_and_valid(result: onnx_dalr.Result, original: Path) -> Path:
    assert result.output is not None
    onnx.checker.check_model(result.output, full_check=True)
    assert result.bytes_after == result.output.stat().st_size < result.bytes_before == original.stat().st_size
    return result.output


def pixels(folder: Path, ids: tuple[str, ...]) -> np.ndarray:
    """The images of a CIFAR folder as the VGG was trained on them."""
    images = np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in ids])
    values = (images.astype(np.float64) / 255 - MEAN) / STD
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)


def test_vgg_on_its_image_folder(assets: Path, tmp_path: Path) -> None:
    original, folder = assets / "models/vgg-cifar-target.onnx", assets / "data/cifar-animals-images"
    result = onnx_dalr.optimize(
        original, tmp_path / "vgg.onnx", calib=folder / "calib", mean=MEAN, std=STD, eval=folder / "test", device="cpu"
    )
    small = expect_smaller_and_valid(result, original)
    assert result.bytes_after < 0.4 * result.bytes_before
    quality, ids = result.quality, sets_of(result).report
    assert quality is not None
    assert len(ids) == quality.n == 600
    x = pixels(folder / "test", ids)
    labels = np.array([int(name[0]) for name in ids])
    before, after = outputs(original, {"image": x}), outputs(small, {"image": x})
    assert quality.accuracy_before is not None
    assert quality.accuracy_after is not None
    assert quality.accuracy_before.value == pytest.approx(accuracy(before, labels), abs=0.002)
    assert quality.accuracy_after.value == pytest.approx(accuracy(after, labels), abs=0.002)
    assert quality.error.value == pytest.approx(drift(before, after), rel=0.01)
    assert accuracy(after, labels) > accuracy(before, labels) - 0.04


def test_mnist_at_five_percent_dalr_holds_where_svd_falls(assets: Path, tmp_path: Path) -> None:
    original, test = assets / "models/mnist-mlp.onnx", np.load(assets / "data/mnist-test.npz")
    x, y = test["x"].reshape(-1, 784).astype(np.float32) / 255, test["y"]
    reached = {}
    for method in ("dalr", "svd"):
        result = onnx_dalr.optimize(
            original,
            tmp_path / f"{method}.onnx",
            calib=assets / "data/mnist-calib.npz",
            params="5%",
            method=method,
            device="cpu",
        )
        small = expect_smaller_and_valid(result, original)
        assert result.params_after <= 0.05 * result.params_before
        reached[method] = accuracy(outputs(small, {"image": x}, 1000), y)
    assert reached["dalr"] >= 0.93
    assert reached["dalr"] >= reached["svd"] + 0.04  # both choose their ranks by what they do to the classes


def test_minilm_keeps_its_embeddings_of_unseen_questions(assets: Path, tmp_path: Path) -> None:
    original = assets / "models/minilm-l6-v2.onnx"
    questions = dict(np.load(assets / "data/banking77-test.npz"))
    unseen = {name: values[:200] for name, values in questions.items()}
    before = outputs(original, unseen)
    reached = {}
    # The data say nothing to svd but its error: few samples will do.
    for method, samples in (("dalr", 200), ("svd", 40)):
        result = onnx_dalr.optimize(
            original,
            tmp_path / f"{method}.onnx",
            calib=assets / "data/banking77-train.npz",
            samples=samples,
            params="80%",
            method=method,
            device="cpu",
        )
        small = expect_smaller_and_valid(result, original)
        reached[method] = cosine(before, outputs(small, unseen))
        assert result.quality is not None
        assert result.quality.task == "embed"
        assert not any("mask" in note for note in result.notes), "padding entered the statistics"
        rows = positions(sets_of(result).report)
        seen = {name: values[rows] for name, values in np.load(assets / "data/banking77-train.npz").items()}
        measured = cosine(outputs(original, seen), outputs(small, seen))
        assert result.quality.cosine is not None
        assert result.quality.cosine.value == pytest.approx(measured, abs=0.002)
    assert reached["dalr"] > 0.9
    assert reached["dalr"] > reached["svd"] + 0.05


def test_dtln_with_its_state_one_complete_feed_at_a_time(assets: Path, tmp_path: Path) -> None:
    original, feeds = assets / "models/dtln-2.onnx", dict(np.load(assets / "data/dtln-2-feeds.npz"))
    result = onnx_dalr.optimize(
        original, tmp_path / "dtln.onnx", calib=assets / "data/dtln-2-feeds.npz", max_drop="10%", device="cpu"
    )
    small = expect_smaller_and_valid(result, original)
    rows = positions(sets_of(result).report)
    assert np.all(np.diff(rows) == 1) or len(rows) - 1 - np.sum(np.diff(rows) == 1) == 1, "one block, on a circle"
    sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (original, small)]
    all_outputs = [
        [session.run(None, {name: values[row] for name, values in feeds.items()}) for row in rows]
        for session in sessions
    ]
    pairs = [
        [np.concatenate([ys[i].reshape(-1) for ys in found]) for found in all_outputs]
        for i in range(len(all_outputs[0][0]))
    ]
    assert result.quality is not None
    assert result.quality.error.value >= max(drift(*pair) for pair in pairs)  # each channel beside its own size
    for told, (before, after) in zip(result.quality.outputs, pairs, strict=True):
        assert told.max_abs == pytest.approx(np.abs(before - after).max(), rel=1e-3)


def test_minilm_with_512_questions_spends_its_parameters_where_they_are_felt(assets: Path, tmp_path: Path) -> None:
    original, calib = assets / "models/minilm-l6-v2.onnx", assets / "data/banking77-train.npz"
    unseen = {name: values[:500] for name, values in np.load(assets / "data/banking77-test.npz").items()}
    before, reached = outputs(original, unseen), {}
    # With neither gradients nor held-out samples it is one ratio for all layers, and all 512 questions are fitted on.
    for name, holdout in (("felt", 0.3), ("one ratio", 0)):
        result = onnx_dalr.optimize(
            original,
            tmp_path / f"{name}.onnx",
            calib=calib,
            samples=512,
            params="85.9%",
            holdout=holdout,
            metric=name == "felt",
            device="cpu",
        )
        small = expect_smaller_and_valid(result, original)
        kept = sum(layer.params_after for layer in result.layers) / sum(layer.params_before for layer in result.layers)
        assert kept == pytest.approx(0.70, abs=0.005)
        assert len({layer.reason for layer in result.layers if layer.rank is not None}) == 1
        reasons = " ".join(layer.reason for layer in result.layers)
        assert ("the least distortion of the select samples" in reasons) == (name == "felt")
        reached[name] = cosine(before, outputs(small, unseen))
    assert reached["felt"] >= 0.965
    assert reached["felt"] > reached["one ratio"] + 0.005


def test_dtln_at_four_fifths_keeps_its_outputs_on_frames_it_never_saw(assets: Path, tmp_path: Path) -> None:
    original, feeds = assets / "models/dtln-2.onnx", dict(np.load(assets / "data/dtln-2-feeds.npz"))
    result = onnx_dalr.optimize(
        original, tmp_path / "dtln.onnx", calib=assets / "data/dtln-2-feeds.npz", params="80%", device="cpu"
    )
    small = expect_smaller_and_valid(result, original)
    assert result.params_after <= 0.8 * result.params_before
    rows = positions(sets_of(result).report)
    assert not set(rows) & set(positions(sets_of(result).fit))
    found = [
        [session.run(None, {name: values[row] for name, values in feeds.items()}) for row in rows]
        for session in (
            ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (original, small)
        )
    ]
    for i in range(len(found[0][0])):
        assert drift(*(np.concatenate([ys[i].reshape(-1) for ys in each]) for each in found)) < 0.02


def test_magika_with_bytes_and_labels(assets: Path, tmp_path: Path) -> None:
    original, data = assets / "models/magika-standard-v3_3.onnx", assets / "data"
    result = onnx_dalr.optimize(
        original, tmp_path / "magika.onnx", calib=data / "magika-calib.npz", samples=400, params="95%", device="cpu"
    )
    small = expect_smaller_and_valid(result, original)
    quality = result.quality
    assert quality is not None
    assert quality.agreement is not None
    x = np.load(data / "magika-calib.npz")["bytes"][positions(sets_of(result).report)]
    before, after = outputs(original, {"bytes": x}, 32), outputs(small, {"bytes": x}, 32)
    same = float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))
    assert quality.agreement.value == pytest.approx(same, abs=0.01)
    assert quality.error.value == pytest.approx(drift(before, after), rel=0.02)
    assert same > 0.85


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_while_a_real_model_runs_leaves_nothing(assets: Path, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [
            *(sys.executable, "-c", "from onnx_dalr.cli.main import main; main()", "optimize"),
            *(assets / "models/minilm-l6-v2.onnx", tmp_path / "small.onnx"),
            *("--calib", assets / "data/banking77-train.npz", "--rank", "64", "--device", "cpu"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("output "):
            break
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert stderr.splitlines()[-1] == "error: interrupted: nothing was written"
    assert "Traceback" not in stderr
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []
