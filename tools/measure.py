"""Measures the four methods on real models with test data of its own, and writes the tables as Markdown.

    python tools/measure.py ASSETS --out FILE.md

ASSETS is a folder with models/ and data/. The table of Magika in docs/benchmark-tables.md is of this tool; what else it
measures, tools/benchmark.py measures better. Every figure comes from the written file, run by ONNX Runtime on data the
calibration never saw; original and methods are measured in one run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

import onnx_dalr
from onnx_dalr.factorize import METHODS

ANIMALS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
Score = Callable[[Path], float]


@dataclass(frozen=True)
class Case:
    """One model, its calibration data, what it is scored by, and the amounts tried."""

    title: str
    model: str
    calib: str
    options: dict[str, Any]
    amounts: tuple[str, ...]
    score: Score
    unit: str


def outputs(path: Path, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """First output of a model on many samples, a few hundred at a time."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    count = len(next(iter(feeds.values())))
    starts = range(0, count, 256)
    return np.concatenate([session.run(None, {k: v[i : i + 256] for k, v in feeds.items()})[0] for i in starts])


def accuracy(feeds: dict[str, NDArray[Any]], labels: NDArray[Any]) -> Score:
    """Top-1 accuracy in percent."""
    return lambda path: 100 * float((outputs(path, feeds).argmax(axis=-1) == labels).mean())


def cosine(feeds: dict[str, NDArray[Any]], original: Path) -> Score:
    """Mean cosine to the original's output."""
    truth = outputs(original, feeds)

    def score(path: Path) -> float:
        found = outputs(path, feeds)
        lengths = np.linalg.norm(truth, axis=1) * np.linalg.norm(found, axis=1)
        return float((np.sum(truth * found, axis=1) / lengths).mean())

    return score


def cases(assets: Path) -> list[Case]:
    """What is measured."""
    models, data = assets / "models", assets / "data"
    cifar, mnist = np.load(data / "cifar10-test.npz"), np.load(data / "mnist-test.npz")
    animals = (cifar["y"] >= 2) & (cifar["y"] <= 7)
    pixels = (cifar["x"][animals] / 255 - np.array(ANIMALS["mean"])) / np.array(ANIMALS["std"])
    images = {"image": pixels.astype(np.float32).transpose(0, 3, 1, 2)}
    digits = {"image": (mnist["x"].reshape(-1, 784) / 255).astype(np.float32)}
    questions = {name: array[:1000] for name, array in np.load(data / "banking77-test.npz").items()}
    files, kinds = dict(np.load(data / "magika-test.npz")), np.load(data / "magika-test-labels.npy")
    minilm = models / "minilm-l6-v2.onnx"
    return [
        Case(
            "MNIST MLP (four Gemm), 2,048 samples; top-1 % on 10,000 test images",
            "mnist-mlp.onnx",
            "mnist-calib.npz",
            {},
            ("20%", "10%", "7%", "5%"),
            accuracy(digits, mnist["y"]),
            ".2f",
        ),
        Case(
            "VGG moved to six animal classes, 480 images; top-1 % on 6,000 test images",
            "vgg-cifar-target.onnx",
            "cifar-animals-images/calib",
            ANIMALS,
            ("25%", "19%", "18%", "17.5%"),
            accuracy(images, cifar["y"][animals] - 2),
            ".2f",
        ),
        Case(
            "MiniLM-L6 sentence encoder, 512 banking77 questions; cosine to the original on 1,000 unseen ones",
            "minilm-l6-v2.onnx",
            "banking77-train.npz",
            {"samples": 512},
            ("86%", "77%", "70%"),
            cosine(questions, minilm),
            ".4f",
        ),
        Case(
            "Magika file types, 1,293 files; top-1 % on 1,293 test files",
            "magika-standard-v3_3.onnx",
            "magika-calib.npz",
            {},
            ("98%", "95%", "92%"),
            accuracy(files, kinds),
            ".2f",
        ),
    ]


def table(case: Case, assets: Path) -> str:
    """One case as a Markdown table."""
    original = assets / "models" / case.model
    lines = [f"## {case.title}", "", f"Original: {case.score(original):{case.unit}}", ""]
    columns = [(name, name, 0.0) for name in METHODS]
    columns.append(("dalr, ranks measured", "dalr", 0.3))
    lines += [f"| parameters kept | {' | '.join(title for title, _, _ in columns)} |", "|---|" + "---:|" * len(columns)]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "small.onnx"
        for amount in case.amounts:
            scores = []
            for _, method, holdout in columns:
                onnx_dalr.optimize(
                    original,
                    written,
                    calib=assets / "data" / case.calib,
                    params=amount,
                    method=method,
                    holdout=holdout,
                    force=True,
                    **case.options,
                )
                scores.append(case.score(written))
            best = max(scores)
            shown = [f"**{s:{case.unit}}**" if s == best else f"{s:{case.unit}}" for s in scores]
            lines.append(f"| {amount} | {' | '.join(shown)} |")
            print(case.model, amount, [round(value, 4) for value in scores], flush=True)
    return "\n".join([*lines, ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, help="folder with models/ and data/")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    head = (
        "# Benchmarks\n\n"
        "Made by `python tools/measure.py ASSETS`. Every figure is of the written file, run on data the calibration\n"
        "never saw. In the columns named after a method all samples go to the statistics (`--holdout 0`) and one\n"
        "keep ratio serves all layers: they compare the methods. *Ranks measured* is what `--params` does by\n"
        "default: 70 % of the samples go to the statistics, and the others decide how the parameters are spent.\n"
        "*Parameters kept* is of the whole model. The best of a row is bold; differences of a few tenths of a point\n"
        "are noise.\n"
    )
    parts = [table(case, options.assets) for case in cases(options.assets)]
    options.out.write_text("\n".join([head, *parts]), encoding="utf-8")


if __name__ == "__main__":
    main()
