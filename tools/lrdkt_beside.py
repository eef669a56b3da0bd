"""LRDKT's decomposition beside ours, at the same multiply-adds, on a trained network: the VGG of the assets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from benchmark_data import ClassTest, outputs, prepared
from lrdkt_count import count, known
from lrdkt_plan import by_energy, by_ratio, convolutions, plan

import onnx_dalr
from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.factorize import Form
from onnx_dalr.session.session import open_session

MODEL = "vgg-cifar-source"
SHARES = (0.5, 0.25)
_CALIBRATION = 2000  # images
_THEIRS = {"LRDKT, one share of Σσ²": by_energy, "LRDKT, one ratio": by_ratio}
_OURS = {"ours, separable": "spatial", "ours, any structure": "auto"}


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        kept: Share of the convolutions' multiply-adds that may be kept.
        way: Of decomposing.
        macs: Multiply-adds of the file, in all its layers.
        measures: On the test images.
    """

    kept: float
    way: str
    macs: int
    measures: Mapping[str, float]


def beside(assets: Path) -> Iterator[Entry]:
    """The original, then for every share the ways to have so many multiply-adds in its convolutions."""
    path = assets / "models" / f"{MODEL}.onnx"
    model = onnx.load(path)
    with np.load(assets / "data" / "cifar10-train.npz") as train, np.load(assets / "data" / "cifar10-test.npz") as test:
        calibration = prepared(train["x"][:_CALIBRATION])
        feeds, labels = {"image": prepared(test["x"])}, test["y"].astype(np.int64)
    figures = ClassTest(feeds, labels, {}, outputs(open_session(path, "cpu"), feeds))

    def measured(kept: float, way: str, file: Path) -> Entry:
        return Entry(kept, way, count(onnx.load(file)).macs, figures(open_session(file, "cpu")))

    yield measured(1, "as it was", path)
    layers, counted = convolutions(model), known(model)
    inside = sum(macs_of(layer, Form(), counted) for layer in layers)
    with TemporaryDirectory() as folder:
        written = Path(folder) / "small.onnx"
        for kept in SHARES:
            limit = counted.whole - round((1 - kept) * inside)
            for way, ranks in _THEIRS.items():
                made = plan(model, ranks(model, limit), way)
                onnx_dalr.apply(path, made, written, calib=calibration[:200], force=True)
                yield measured(kept, way, written)
            for way, structures in _OURS.items():
                onnx_dalr.optimize(
                    path,
                    written,
                    calib=calibration,
                    macs=limit,
                    structures=structures,
                    include=[layer.name for layer in layers],
                    force=True,
                )
                yield measured(kept, way, written)


def table(entries: Iterable[Entry]) -> Iterator[str]:
    """As Markdown."""
    yield "| kept | decomposed | 10⁶ multiply-adds | accuracy % | KL | agreement % |"
    yield "|---:|---|---:|---:|---:|---:|"
    for entry in entries:
        found = entry.measures
        figures = [f"{100 * found['accuracy']:.2f}", f"{found['kl']:.4f}", f"{100 * found['agreement']:.2f}"]
        yield f"| {100 * entry.kept:.0f} % | {entry.way} | {entry.macs / 1e6:.2f} | {' | '.join(figures)} |"
