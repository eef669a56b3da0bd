"""What tools/benchmark_weights.py measures on: models, samples to calibrate on, and test data apart from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import ClassTest, EmbedTest, Feeds, outputs

from onnx_dalr.session.session import Session, open_session

ORIGINAL = "original"
CALIBRATED = 512
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_ANIMALS = range(2, 8)


@dataclass(frozen=True, eq=False)
class WeightCase:
    """One model.

    Attributes:
        name: On the command line.
        model: Its file.
        calib: The samples that all methods are given.
        feeds: Test samples.
        test: The figures of a session on these.
        sizes: For `--weights auto`, beside those of the other tools.
        ranks: For `--weights keep`.
        integers: The size that all weights have as int8, with a little to spare.
        options: Of `optimize`.
    """

    name: str
    model: Path
    calib: Feeds
    feeds: Feeds
    test: Callable[[Session], dict[str, float]]
    sizes: tuple[str, ...]
    ranks: tuple[str, ...]
    integers: str
    options: dict[str, Any] = field(default_factory=dict)


def one(feeds: Feeds) -> Feeds:
    """The first sample."""
    return {name: array[:1] for name, array in feeds.items()}


def _drawn(pool: Feeds) -> Feeds:
    """The samples to calibrate on: the same for everyone."""
    chosen = np.random.default_rng(0).permutation(len(next(iter(pool.values()))))[:CALIBRATED]
    return {name: array[chosen] for name, array in pool.items()}


def _npz(path: Path) -> Feeds:
    with np.load(path) as file:
        return dict(file)


def minilm(assets: Path) -> WeightCase:
    """A sentence encoder; the nearest of 2,048 known questions gives the intent."""
    data, model = assets / "data", assets / "models" / "minilm-l6-v2.onnx"
    known, feeds = _npz(data / "banking77-train.npz"), _npz(data / "banking77-test.npz")
    known_labels, labels = (np.load(data / f"banking77-{which}-labels.npy") for which in ("train", "test"))
    test = EmbedTest(feeds, labels, known, known_labels, outputs(open_session(model, "cpu"), feeds))
    sizes, ranks = ("25%", "21%", "16%", "13%"), ("86%", "70%")
    return WeightCase("minilm", model, _drawn(known), feeds, test, sizes, ranks, "27%")


def vgg(assets: Path) -> WeightCase:
    """Convolutions and fully connected layers, moved to six classes of animals."""
    data, model = assets / "data", assets / "models" / "vgg-cifar-target.onnx"
    shown, unseen = _npz(data / "cifar-animals-train.npz"), _npz(data / "cifar10-test.npz")
    animals = np.isin(unseen["y"], _ANIMALS)
    labels = unseen["y"][animals].astype(np.int64) - _ANIMALS[0]
    feeds = {"image": _prepared(unseen["x"][animals])}
    test = ClassTest(feeds, labels, {}, outputs(open_session(model, "cpu"), feeds))
    calib, sizes = _drawn({"image": _prepared(shown["x"])}), ("25%", "12%", "5%", "3%")
    return WeightCase("vgg", model, calib, feeds, test, sizes, ("25%", "18%"), "27%")


def mnist(assets: Path) -> WeightCase:
    """Four fully connected layers."""
    data, model = assets / "data", assets / "models" / "mnist-mlp.onnx"
    unseen = _npz(data / "mnist-test.npz")
    calib = _drawn({"image": _npz(data / "mnist-calib.npz")["image"]})
    feeds = {"image": (unseen["x"].reshape(-1, 784) / 255).astype(np.float32)}
    test = ClassTest(feeds, unseen["y"].astype(np.int64), {}, outputs(open_session(model, "cpu"), feeds))
    return WeightCase("mnist", model, calib, feeds, test, ("25%", "14%", "5%", "2.5%"), ("20%", "10%"), "27%")


def _prepared(pixels: Any) -> Any:
    scaled = (pixels / 255 - np.array(_MEAN)) / np.array(_STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


CASES: dict[str, Callable[[Path], WeightCase]] = {"minilm": minilm, "vgg": vgg, "mnist": mnist}
