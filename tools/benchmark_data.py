"""What tools/benchmark.py measures on: models, calibration samples, test data of their own, and the figures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, shape_inference
from onnx.utils import Extractor
from scipy.special import log_softmax

from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.session.session import Session, open_session

Feeds = dict[str, NDArray[Any]]
Array = NDArray[Any]

_BATCH = 256
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_ANIMALS = range(2, 8)  # classes of CIFAR-10 that the target net knows
_SEEN = range(3)  # digits that a shifted calibration shows
VGG_RANKS = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, eq=False)
class ClassTest:
    """A classifier against the original: KL, agreement and accuracy, over all samples and over groups of them.

    Attributes:
        feeds: The test samples.
        labels: Their classes.
        groups: Masks by name; each gets KL and accuracy of its own.
        reference: The original's logits, run once.
    """

    feeds: Feeds
    labels: Array
    groups: Mapping[str, Array]
    reference: Array

    def __call__(self, session: Session) -> dict[str, float]:
        """The figures of a model; shares from 0 to 1, KL in nats."""
        found = outputs(session, self.feeds)
        before, after = (log_softmax(y.astype(np.float64), axis=-1) for y in (self.reference, found))
        kl = np.sum(np.exp(before) * (before - after), axis=-1)
        top, right = found.argmax(axis=-1), found.argmax(axis=-1) == self.labels
        measures = {
            "kl": float(kl.mean()),
            "agreement": float((top == self.reference.argmax(axis=-1)).mean()),
            "accuracy": float(right.mean()),
        }
        for name, group in self.groups.items():
            measures |= {f"kl, {name}": float(kl[group].mean()), f"accuracy, {name}": float(right[group].mean())}
        return measures


@dataclass(frozen=True, eq=False)
class EmbedTest:
    """A sentence encoder against the original: mean cosine, and the accuracy of the nearest known question.

    Attributes:
        feeds: Test questions.
        labels: Their intents.
        known: Questions to compare with, embedded by the model under test itself.
        known_labels: Their intents.
        reference: The original's embeddings of the test questions.
    """

    feeds: Feeds
    labels: Array
    known: Feeds
    known_labels: Array
    reference: Array

    def __call__(self, session: Session) -> dict[str, float]:
        """The figures of a model."""
        found, known = _unit(outputs(session, self.feeds)), _unit(outputs(session, self.known))
        nearest = (found @ known.T).argmax(axis=1)
        return {
            "cosine": float(np.sum(found * _unit(self.reference), axis=1).mean()),
            "accuracy": float((self.known_labels[nearest] == self.labels).mean()),
        }


@dataclass(frozen=True, eq=False)
class Case:
    """One table of one model.

    Attributes:
        table: As on the command line.
        model: Name of the model's file, without its ending.
        title: Of the section.
        whole: The model as it is.
        part: What is run: the whole, or what follows the tensor where the samples enter.
        include: Globs of the layers that are compressed.
        task: What the outputs are.
        pool: Calibration samples to draw from.
        test: The figures of a model.
        sizes: Numbers of calibration samples.
        extra: Samples beside those, to choose on; 0: methods that choose set 30 % of the calibration samples aside.
        amounts: Ranks, or shares of the layers' parameters to keep.
        unit: Which of the two.
        lead: Seconds that the layers before `part` take for one sample.
    """

    table: str
    model: str
    title: str
    whole: Model
    part: Model
    include: tuple[str, ...]
    task: Literal["classify", "embed"]
    pool: Feeds
    test: Callable[[Session], dict[str, float]]
    sizes: tuple[int, ...]
    extra: int
    amounts: tuple[float, ...]
    unit: Literal["rank", "share"]
    lead: float = 0.0

    def drawn(self, samples: int, seed: int) -> Feeds:
        """The calibration samples of a seed, those to choose on among them; smaller numbers are the first of larger."""
        chosen = np.random.default_rng(seed).permutation(len(next(iter(self.pool.values()))))[: samples + self.extra]
        return {name: array[chosen] for name, array in self.pool.items()}


def outputs(session: Session, feeds: Feeds) -> Array:
    """First output of a model on all samples; padding that no sample of a batch needs is left out."""
    mask = feeds.get("attention_mask")
    count = len(next(iter(feeds.values())))
    order = np.arange(count) if mask is None else np.argsort(mask.sum(axis=1), kind="stable")
    parts = []
    for start in range(0, count, _BATCH):
        rows = order[start : start + _BATCH]
        width = slice(None) if mask is None else slice(int(mask[rows].sum(axis=1).max()))
        cut = {name: array[rows] if mask is None else array[rows, width] for name, array in feeds.items()}
        parts.append(session.run(cut)[0])
    return np.asarray(np.concatenate(parts)[np.argsort(order)])


def after(model: Model, tensor: str) -> ModelProto:
    """What of a model follows a tensor, which becomes its input: the same nodes and weights."""
    shaped = shape_inference.infer_shapes(model.proto)
    made = Extractor(shaped).extract_model([tensor], [output.name for output in model.proto.graph.output])
    made.graph.ClearField("value_info")
    return made


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


class Assets:
    """A folder with `models/` and `data/`: makes the cases of a table. Prefixes of models are run once."""

    def __init__(self, folder: Path) -> None:
        self._models, self._data = folder / "models", folder / "data"

    def cases(self, table: str) -> Iterator[Case]:
        """The cases of a table: one for every model that it is of."""
        made: dict[str, Callable[[], Iterator[Case]]] = {
            "vgg-fc6": lambda: self._vgg("vgg-fc6", "fc6 alone", ("/fc6/*",), VGG_RANKS, "rank"),
            "vgg-fc7": lambda: self._vgg("vgg-fc7", "fc7 alone", ("/fc7/*",), VGG_RANKS[:-1], "rank"),
            "vgg-both": lambda: self._vgg("vgg-both", "fc6 and fc7", ("/fc6/*", "/fc7/*"), _VGG_SHARES, "share"),
            "mnist": lambda: iter([self._mnist("mnist", None)]),
            "mnist-shift": lambda: iter([self._mnist("mnist-shift", _SEEN)]),
            "minilm": lambda: iter([self._minilm()]),
        }
        return made[table]()

    def _vgg(
        self, table: str, layers: str, include: tuple[str, ...], amounts: tuple[float, ...], unit: Any
    ) -> Iterator[Case]:
        for model, net, calibration in (
            ("vgg-cifar-target", "VGG moved to six animal classes", "cifar-animals-train.npz"),
            ("vgg-cifar-source", "VGG on its own ten classes", "cifar10-train.npz"),
        ):
            prefix = self._prefixes[model]
            pool, test = self._npz(calibration)["x"], self._npz("cifar10-test.npz")
            images, labels = test["x"], test["y"].astype(np.int64)
            if model == "vgg-cifar-target":
                known = np.isin(labels, _ANIMALS)
                images, labels = images[known], labels[known] - _ANIMALS[0]
            entering, lead = prefix.run(pool)
            feeds = {prefix.tensor: prefix.run(images)[0]}
            reference = outputs(open_session(prefix.part.source(), "cpu"), feeds)
            yield Case(
                table=table,
                model=model,
                title=f"{net}, {layers}",
                whole=prefix.whole,
                part=prefix.part,
                include=include,
                task="classify",
                pool={prefix.tensor: entering},
                test=ClassTest(feeds, labels, {}, reference),
                sizes=(3000, 300, 16),
                extra=0,
                amounts=amounts,
                unit=unit,
                lead=lead / len(pool),
            )

    @cached_property
    def _prefixes(self) -> dict[str, _Prefix]:
        return {model: _Prefix(load(self._model(model))) for model in ("vgg-cifar-target", "vgg-cifar-source")}

    def _mnist(self, table: str, seen: range | None) -> Case:
        model, train, test = load(self._model("mnist-mlp")), self._npz("mnist-train.npz"), self._npz("mnist-test.npz")
        flat = [(each["x"].reshape(-1, 784) / 255).astype(np.float32) for each in (train, test)]
        labels = test["y"].astype(np.int64)
        groups = {}
        if seen is not None:
            flat[0] = flat[0][np.isin(train["y"], seen)]
            shown = np.isin(labels, seen)
            groups = {f"digits {seen[0]}–{seen[-1]}": shown, f"digits {seen[-1] + 1}–9": ~shown}
        feeds = {"image": flat[1]}
        reference = outputs(open_session(model.source(), "cpu"), feeds)
        calibrated = "" if seen is None else f", calibrated on the digits {seen[0]}–{seen[-1]} only"
        return Case(
            table=table,
            model="mnist-mlp",
            title=f"MNIST MLP, all four layers{calibrated}",
            whole=model,
            part=model,
            include=(),
            task="classify",
            pool={"image": flat[0]},
            test=ClassTest(feeds, labels, groups, reference),
            sizes=(2048, 256, 16) if seen is None else (1024,),
            extra=0,
            amounts=(0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05),
            unit="share",
        )

    def _minilm(self) -> Case:
        model = load(self._model("minilm-l6-v2"))
        train, test = self._npz("banking77-train.npz"), self._npz("banking77-test.npz")
        labels = [np.load(self._data / f"banking77-{which}-labels.npy") for which in ("train", "test")]
        feeds = {name: array[:1000] for name, array in test.items()}
        reference = outputs(open_session(model.source(), "cpu"), feeds)
        return Case(
            table="minilm",
            model="minilm-l6-v2",
            title="MiniLM-L6 sentence encoder on banking77, its 36 MatMul",
            whole=model,
            part=model,
            include=(),
            task="embed",
            pool=train,
            test=EmbedTest(feeds, labels[1][:1000], train, labels[0], reference),
            sizes=(512, 128),
            extra=256,
            amounts=(0.7, 0.5, 0.35),
            unit="share",
        )

    def _model(self, name: str) -> Path:
        return self._models / f"{name}.onnx"

    def _npz(self, name: str) -> Feeds:
        with np.load(self._data / name) as file:
            return dict(file)


_VGG_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)


class _Prefix:
    """The convolutions of a VGG, and what follows them as a model of its own: they are the same for every rank."""

    def __init__(self, whole: Model) -> None:
        self.whole = whole
        self.tensor = next(node.output[0] for node in whole.proto.graph.node if node.op_type == "Flatten")
        self.part = load(after(whole, self.tensor))
        self._session = open_session(probe(whole.proto, [self.tensor]).SerializeToString(), "cpu")
        self._done: dict[str, tuple[Array, float]] = {}

    def run(self, pixels: Array) -> tuple[Array, float]:
        """What comes out of the convolutions for images [N, 32, 32, 3] of bytes, and the seconds it took."""
        key = hashlib.sha256(pixels.tobytes()).hexdigest()
        if key not in self._done:
            start = time.perf_counter()
            rows = range(0, len(pixels), _BATCH)
            parts = [outputs(self._session, {"image": prepared(pixels[i : i + _BATCH])}) for i in rows]
            self._done[key] = np.concatenate(parts), time.perf_counter() - start
        return self._done[key]


def prepared(pixels: Array) -> Array:
    """Images [N, 32, 32, 3] of bytes as the VGG takes them: [N, 3, 32, 32]."""
    scaled = (pixels / 255 - np.array(_MEAN)) / np.array(_STD)
    return np.asarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))
