"""Prepares a case of tools/bench_speed.py in a folder: model, samples, and what every layer reads and multiplies by.

Runs in a process of its own: python tools/bench_speed_data.py CASE FOLDER --scale 1 --assets ASSETS
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import scipy
from bench_speed_cases import CASES, LARGE, Prepared
from bench_speed_models import BLOCK, HEAD, SEVEN_B, blocks, head, scaled
from benchmark_convs import machine
from benchmark_weights import version
from numpy.typing import NDArray
from PIL import Image

from onnx_dalr.graph import layers as found
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.layer import Layer
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import artifact_size, load

ROWS = 16384
"""Of a layer, at most: the positions of convolutions are more than anyone multiplies out."""

_BATCH = 32
_DEMO = Path(__file__).resolve().parent.parent / "models"
_ANIMALS = {"--mean": (0.4914, 0.4822, 0.4465), "--std": (0.2023, 0.1994, 0.2010)}
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """Where a case comes from.

    Attributes:
        model: Its file.
        feeds: All samples.
        calib: What `optimize` is given; the samples as a file where it is None.
        options: Of `optimize`.
        sizes: Of a synthetic model, in words.
    """

    model: Path
    feeds: Feeds
    calib: Path | None = None
    options: tuple[str, ...] = field(default=())
    sizes: str = ""


def source(case: str, folder: Path, scale: float, assets: Path | None, layers: int, *, shared: bool = False) -> Source:
    """Makes or finds the model and the samples of a case."""
    if case == "head":
        path, rows = head(folder, scale)
        return Source(path, {"x": rows}, sizes=" → ".join(map(str, scaled(HEAD, scale))))
    if case in ("block", LARGE):
        sizes = scaled(BLOCK if case == "block" else SEVEN_B, scale)
        few_layers, samples = (1, 64) if case == "block" else (layers, 16)
        path, rows = blocks(folder, sizes, few_layers, samples, shared=shared)
        count = "" if case == "block" else f"{layers} blocks of "
        return Source(path, {"x": rows}, sizes=f"{count}{sizes[0]}, {sizes[1]}")
    if case == "demo":
        calib = _DEMO / "digits" / "calib"
        return Source(_DEMO / "digits-target.onnx", {"image": few(pictures(calib, "L"), scale)}, calib)
    if assets is None:
        raise SystemExit(f"{case} needs ASSETS")
    if case == "minilm":
        with np.load(assets / "data" / "banking77-train.npz") as file:
            feeds = {name: few(array[:512], scale) for name, array in file.items()}
        return Source(assets / "models" / "minilm-l6-v2.onnx", feeds)
    calib = assets / "data" / "cifar-animals-images" / "calib"
    shown = pictures(calib, "RGB")
    mean, std = (np.array(values, np.float32)[:, None, None] for values in _ANIMALS.values())
    options = [text for name, values in _ANIMALS.items() for text in (name, ",".join(map(str, values)))]
    if case == "vgg-fc":
        options += ["--exclude", "*features*"]
    feeds = {"image": few((shown - mean) / std, scale)}
    return Source(assets / "models" / "vgg-cifar-target.onnx", feeds, calib, tuple(options))


def few(array: NDArray[Any], scale: float) -> NDArray[Any]:
    """As many of the samples as the scale says, spread over all of them."""
    count = max(min(len(array), 60), round(len(array) * min(1.0, scale)))
    return array[np.linspace(0, len(array) - 1, count).astype(int)]


def pictures(folder: Path, mode: str) -> NDArray[np.float32]:
    """All images below a folder, [count, channels, height, width], from 0 to 1."""
    shown = [np.asarray(Image.open(path).convert(mode)) for path in sorted(folder.rglob("*.png"))]
    stacked = np.stack(shown).astype(np.float32) / 255
    return stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)


def write_layers(model_path: Path, feeds: Feeds, folder: Path, *, convs: bool) -> list[tuple[Layer, int]]:
    """Writes `x0.npy`, [p, n], and `w0.npy`, [m, n], for every layer; (layer, p) of each."""
    model = load(model_path)
    layers = [each for each in found.find(model)[0] if not each.kind.picks and (convs or each.shape.taps == 1)]
    wanted = list(dict.fromkeys(use.data for layer in layers for use in layer.uses))
    computed = [name for name in wanted if name not in feeds]
    made, beside = model.in_memory(probe(model.proto, computed))
    options = ort.SessionOptions()
    if beside is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(beside))
    session = ort.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    rows: dict[str, list[NDArray[Any]]] = {layer.name: [] for layer in layers}
    count = len(next(iter(feeds.values())))
    for feed in batches(feeds):
        here = len(next(iter(feed.values())))
        values = feed | dict(zip(computed, session.run(computed, feed), strict=True))
        most = max(1, ROWS * here // count)
        for layer in layers:
            rows[layer.name] += [_some(use, values[use.data], most // len(layer.uses) or 1) for use in layer.uses]
    written = []
    for at, layer in enumerate(layers):
        X = np.concatenate(rows.pop(layer.name))
        np.save(folder / f"x{at}.npy", X)
        np.save(folder / f"w{at}.npy", found.matrix(model, layer).astype(np.float32))
        written.append((layer, len(X)))
    return written


def batches(feeds: Feeds) -> Iterator[Feeds]:
    """All samples, a batch at a time."""
    for at in range(0, len(next(iter(feeds.values()))), _BATCH):
        yield {name: array[at : at + _BATCH] for name, array in feeds.items()}


def _some(use: Use, tensor: NDArray[Any], most: int) -> NDArray[np.float32]:
    """At most so many rows of a tensor that a layer reads, spread evenly."""

    def pick(shape: tuple[int, ...]) -> NDArray[np.intp]:
        total = int(np.prod(shape))
        return np.linspace(0, total - 1, min(most, total)).astype(np.intp)

    return np.asarray(use.some_rows(tensor, pick), np.float32)


def prepare(
    case: str, folder: Path, scale: float, assets: Path | None, layers: int, *, shared: bool = False
) -> Prepared:
    """All that the other processes read."""
    made = source(case, folder, scale, assets, layers, shared=shared)
    samples = folder / "samples.npz"
    np.savez(samples, **made.feeds)
    if case == LARGE:  # too many rows to keep
        written = [(layer, 0) for layer in found.find(load(made.model))[0]]
    else:
        written = write_layers(made.model, made.feeds, folder, convs=case != "vgg-fc")
    count = len(next(iter(made.feeds.values())))
    shrunk = f"; scaled by {scale:g}" if made.sizes and scale != 1 else ""
    title = CASES[case].title + (f" ({made.sizes}{shrunk})" if made.sizes else "")
    # Images are read from their folder, as people have them, where all of them are.
    given = made.calib if made.calib is not None and scale >= 1 else samples
    options = made.options if given is made.calib else tuple(_without_scales(made.options))
    return Prepared(
        name=case,
        title=title,
        model=str(made.model),
        samples=str(samples),
        calib=str(given),
        options=options,
        count=count,
        batch=_BATCH,
        model_bytes=artifact_size(made.model),
        layers=tuple((layer.m, layer.n, p) for layer, p in written),
        dense=tuple(at for at, (layer, _) in enumerate(written) if layer.shape.taps == 1),
        tools=f"{version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, Python {platform.python_version()}, "
        f"{machine().split(', ONNX Runtime')[0]}",
    )


def _without_scales(options: tuple[str, ...]) -> Iterator[str]:
    """The options without those of images."""
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name not in _ANIMALS:
            yield from (name, value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--shared", action="store_true")
    o = parser.parse_args()
    made = prepare(o.case, o.folder, o.scale, o.assets, o.layers, shared=o.shared)
    (o.folder / "case.json").write_text(json.dumps(made.to_json()), encoding="utf-8")


if __name__ == "__main__":
    main()
