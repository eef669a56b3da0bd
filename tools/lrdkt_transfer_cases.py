"""What tools/lrdkt_transfer.py measures on: an original, how its student is made, labelled samples, test data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lrdkt_plan as by_plan
import numpy as np
import onnx
from benchmark_data import ClassTest, outputs, prepared
from lrdkt_count import known
from lrdkt_head import with_pooled_head
from lrdkt_transfer_lesson import Samples
from lrdkt_transfer_ways import LABELS_MIXED, LABELS_ONLY, OURS, PLAIN, RECIPE, WAYS, Way, terms
from numpy.typing import NDArray
from onnx import numpy_helper

import onnx_dalr
from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.factorize import Form
from onnx_dalr.session.session import Session, open_session
from onnx_dalr.tune.terms import Term

Start = Callable[[NDArray[np.float32], Path], None]
"""Writes the decomposed network, given images."""

_ANIMALS = range(2, 8)  # the classes of CIFAR-10 that the target network knows
_KEPT = 0.25  # of the multiply-adds in convolutions
_LAST_MAP, _FC6, _FC7 = "/features/features.23/Relu_output_0", "/Relu_output_0", "/Relu_1_output_0"
_MAPS = tuple(f"/features/features.{at}/Conv_output_0" for at in (7, 14, 18))
_UNMIXED = tuple(way for way in WAYS if way != LABELS_MIXED)
_FEW = (LABELS_ONLY, RECIPE, PLAIN, OURS)
_WITHOUT_LABELS = (PLAIN, OURS)


@dataclass(frozen=True, eq=False)
class TransferCase:
    """One start, and what is learned from there.

    Attributes:
        name: On the command line.
        teacher: The original's file: one input, logits as its output.
        start: Makes the student.
        shown: Samples that it is decomposed on.
        taught: Samples that it learns on.
        samples: How many of each.
        test: The figures of a session.
        steps: Of every way.
        draws: Of the samples.
        two: Inner responses of LRDKT's hints.
        own: Those of ours; none where no convolution changed.
        mixed: Ours learns on mixtures of samples.
        ways: The rows.
    """

    name: str
    teacher: Path
    start: Start
    shown: Samples
    taught: Samples
    samples: int
    test: Callable[[Session], dict[str, float]]
    steps: int
    draws: int
    two: tuple[str, ...]
    own: tuple[str, ...] = ()
    mixed: bool = False
    ways: tuple[str, ...] = tuple(WAYS)

    @property
    def tensors(self) -> list[str]:
        """All inner responses that are looked at."""
        return list(dict.fromkeys((*self.two, *self.own)))

    def terms(self, way: Way) -> list[Term]:
        """What is learned in a way."""
        return terms(way, onnx.load(self.teacher, load_external_data=False).graph.output[0].name, self.two, self.own)


def mnist(assets: Path, params: str, name: str) -> TransferCase:
    """Four fully connected layers at a share of their parameters."""
    model, data = assets / "models" / "mnist-mlp.onnx", assets / "data"
    pool, unseen = _digits(data / "mnist-train.npz"), _digits(data / "mnist-test.npz")
    return TransferCase(
        name,
        model,
        partial(_optimized, model, params=params),
        pool,
        pool,
        samples=1024,
        test=_test(model, unseen),
        steps=800,
        draws=3,
        two=("/4/Relu_output_0", "/7/Relu_output_0"),
        mixed=True,
    )


def convolutions(assets: Path, name: str, start: Callable[..., None]) -> TransferCase:
    """All convolutions separable, at about a quarter of their multiply-adds, by one of three starts."""
    model, pool = _source(assets), _images(assets / "data" / "cifar10-train.npz")
    return TransferCase(
        name,
        model,
        partial(start, model),
        pool,
        pool,
        samples=500,
        test=_test(model, _images(assets / "data" / "cifar10-test.npz")),
        steps=200,
        draws=1,
        two=("/features/features.17/MaxPool_output_0", _LAST_MAP) if start is _pooled else (_LAST_MAP, _FC7),
        own=_MAPS,
        ways=_UNMIXED,
    )


def fully_connected(assets: Path, name: str) -> TransferCase:
    """Two fully connected layers at rank 3."""
    model, pool = _target(assets), _animals(assets)
    return TransferCase(
        name,
        model,
        partial(_optimized, model, rank=["*fc6*=3", "*fc7*=3"]),
        pool,
        pool,
        samples=500,
        test=_test(model, _unseen_animals(assets)),
        steps=600,
        draws=3,
        two=(_FC6, _FC7),
        mixed=True,
    )


def domain(assets: Path, name: str, *, pool: Callable[[Path], Samples], moved: bool = False) -> TransferCase:
    """All layers of the network for animals at 2 % of its parameters.

    Args:
        assets: The folder.
        name: Of the case.
        pool: What it is decomposed on.
        moved: The student is made of the source network instead, and learns on animals; else on the pool.
    """
    model, shown = _target(assets), pool(assets)
    return TransferCase(
        name,
        model,
        partial(_optimized, model, params="2%") if not moved else partial(_cut, _source(assets)),
        shown,
        _animals(assets) if moved else shown,
        samples=500,
        test=_test(model, _unseen_animals(assets)),
        steps=200,
        draws=1,
        two=(_LAST_MAP, _FC7),
        own=_MAPS,
        ways=_FEW if moved or (shown.labels >= 0).any() else _WITHOUT_LABELS,
    )


def _optimized(model: Path, images: NDArray[np.float32], out: Path, **options: Any) -> None:
    onnx_dalr.optimize(model, out, calib=images, tune="off", device="cpu", force=True, **options)


def _separable(model: Path, images: NDArray[np.float32], out: Path) -> None:
    _optimized(model, images, out, macs="32.5%", structures="spatial", exclude=["*fc*"])


def _by_weights(model: Path, images: NDArray[np.float32], out: Path) -> None:
    """As LRDKT decomposes: by the weights alone."""
    proto = onnx.load(model)
    counted = known(proto)
    inside = sum(macs_of(layer, Form(), counted) for layer in by_plan.convolutions(proto))
    forms = by_plan.by_energy(proto, counted.whole - round((1 - _KEPT) * inside))
    onnx_dalr.apply(model, by_plan.plan(proto, forms), out, calib=images, tune="off", device="cpu", force=True)


def _pooled(model: Path, images: NDArray[np.float32], out: Path) -> None:
    """The mean of the last map and one layer in place of the fully connected ones, beside that."""
    _separable(model, images, out)
    onnx.save(with_pooled_head(onnx.load(out), images), out)


def _cut(source: Path, images: NDArray[np.float32], out: Path) -> None:
    """The source network with the logits of the animals alone, decomposed."""
    proto = onnx.load(source)
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("fc8."):
            rows = numpy_helper.to_array(tensor)[_ANIMALS.start : _ANIMALS.stop]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rows), tensor.name))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(_ANIMALS)
    whole = out.with_name("whole.onnx")
    onnx.save(proto, whole)
    _optimized(whole, images, out, params="2%")


def _test(model: Path, unseen: Samples) -> ClassTest:
    name = onnx.load(model).graph.input[0].name
    feeds = {name: unseen.images}
    return ClassTest(feeds, unseen.labels, {}, outputs(open_session(model, "cpu"), feeds))


def _source(assets: Path) -> Path:
    return assets / "models" / "vgg-cifar-source.onnx"


def _target(assets: Path) -> Path:
    return assets / "models" / "vgg-cifar-target.onnx"


def _digits(path: Path) -> Samples:
    with np.load(path) as file:
        return Samples((file["x"].reshape(-1, 784) / 255).astype(np.float32), file["y"].astype(np.int64))


def _images(path: Path) -> Samples:
    with np.load(path) as file:
        return Samples(np.ascontiguousarray(prepared(file["x"])), file["y"].astype(np.int64))


def _animals(assets: Path) -> Samples:
    """Of the target network's own classes."""
    return _images(assets / "data" / "cifar-animals-train.npz")


def _unseen_animals(assets: Path) -> Samples:
    found = _relabelled(_images(assets / "data" / "cifar10-test.npz"))
    return Samples(found.images[found.labels >= 0], found.labels[found.labels >= 0])


def _all_ten(assets: Path) -> Samples:
    """Of the source network's ten classes; only animals have labels that the target network knows."""
    return _relabelled(_images(assets / "data" / "cifar10-train.npz"))


def _vehicles(assets: Path) -> Samples:
    """No animal among them."""
    found = _all_ten(assets)
    return Samples(found.images[found.labels < 0], found.labels[found.labels < 0])


def _relabelled(samples: Samples) -> Samples:
    known = np.isin(samples.labels, _ANIMALS)
    return Samples(samples.images, np.where(known, samples.labels - _ANIMALS.start, -1))


CASES: dict[str, Callable[[Path], TransferCase]] = {
    "mnist-5": partial(mnist, params="5%", name="mnist-5"),
    "mnist-3": partial(mnist, params="3%", name="mnist-3"),
    "mnist-2": partial(mnist, params="2%", name="mnist-2"),
    "vgg-fc": partial(fully_connected, name="vgg-fc"),
    "vgg-svd": partial(convolutions, name="vgg-svd", start=_by_weights),
    "vgg-convs": partial(convolutions, name="vgg-convs", start=_separable),
    "vgg-gap": partial(convolutions, name="vgg-gap", start=_pooled),
    "domain-animals": partial(domain, name="domain-animals", pool=_animals),
    "domain-all": partial(domain, name="domain-all", pool=_all_ten),
    "domain-vehicles": partial(domain, name="domain-vehicles", pool=_vehicles),
    "domain-moved": partial(domain, name="domain-moved", pool=_all_ten, moved=True),
}
