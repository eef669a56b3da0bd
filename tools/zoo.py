"""Runs `onnx-dalr optimize` over a folder of models, checks every result against its original, and writes a table.

    python tools/zoo.py MODELS [--calib 'GLOB=PATH OPTIONS'] [--methods dalr,svd-bc] [--amounts 90%,70%] [--out FILE]

Every run is a process of its own, so that a crash or a memory peak is that model's alone. Samples come from --calib
(the last pattern that matches the file name; options such as --mean may follow the path); a model without any is fed
random numbers, which the table says. The error is measured here, from both files on disk, and so is what the report is
held to: the largest difference of each output, and the error of those whose channels are of one scale.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

import onnx_dalr
from onnx_dalr.graph.storage.model import input_specs, load
from onnx_dalr.quality.padding import values_kept
from onnx_dalr.samples import ImageSettings, InputSpec
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import opened

ort.set_default_logger_severity(4)

FREE_AXIS = 16
RANDOM_SAMPLES = 24
MEANING = {0: "ok", 1: "BUG", 2: "input", 3: "target not met", 4: "VERIFICATION", 5: "nothing to gain"}


@dataclass(frozen=True)
class Run:
    """One optimize of one model."""

    code: int
    seconds: float
    peak_mb: float
    message: str
    report: dict[str, Any] | None


def optimize(model: Path, output: Path, arguments: list[str]) -> Run:
    """Runs the command in a process of its own and waits for it."""
    report = output.with_suffix(".json")
    command = [sys.executable, "-m", "onnx_dalr", "optimize", str(model), str(output), "--json", str(report)]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        messages.seek(0)
        errors = [line for line in messages.read().splitlines() if line.startswith("error:")]
    facts = json.loads(report.read_text()) if report.exists() else None
    seconds = time.perf_counter() - start
    return Run(process.returncode, seconds, usage.ru_maxrss / 1e3, errors[0] if errors else "", facts)


def random_feeds(specs: tuple[InputSpec, ...], path: Path) -> None:
    """Writes complete feeds of random numbers for a model without samples."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for spec in specs:
        shape = [axis or (1 if i == 0 else FREE_AXIS) for i, axis in enumerate(spec.shape or ())]
        if spec.dtype.kind == "f":
            arrays[spec.name] = random.normal(size=(RANDOM_SAMPLES, *shape)).astype(spec.dtype)
        else:
            arrays[spec.name] = random.integers(0, 2, size=(RANDOM_SAMPLES, *shape)).astype(spec.dtype)
    np.savez(path, **arrays)  # type: ignore[arg-type]


@dataclass
class Difference:
    """One output of two files on disk.

    Attributes:
        squares: Σ‖y−ŷ‖².
        power: Σ‖y‖².
        largest: The largest absolute difference.
    """

    squares: float = 0.0
    power: float = 0.0
    largest: float = 0.0

    @property
    def error(self) -> float:
        """Relative to all values, whatever channels they are of."""
        return (self.squares / self.power) ** 0.5 if self.power else 0.0


def differences(original: Path, new: Path, calib: Path, ids: list[str], image: ImageSettings) -> dict[str, Difference]:
    """By output, over the named samples, without padding, from the two files on disk; of outputs that are numbers."""
    sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (original, new)]
    found: dict[str, Difference] = {}
    with opened(SampleOptions(calib, image=image), input_specs(load(original).proto)) as sets:
        samples, wanted = sets.fit.source, set(ids)
        for _, batch in samples.batches([i for i, name in enumerate(samples.ids) if name in wanted], 1):
            padding = kept_in(batch, sets.mask_input)
            pair = [session.run(None, batch) for session in sessions]
            for output, y, y_new in zip(sessions[0].get_outputs(), *pair, strict=True):
                if not isinstance(y, np.ndarray) or y.dtype.kind not in "fiub" or y.shape != y_new.shape:
                    continue
                mask = values_kept(y.shape, padding)
                counted = np.isfinite(y) if mask is None else np.isfinite(y) & mask
                kept, kept_new = y[counted].astype(float), y_new[counted].astype(float)
                apart = found.setdefault(output.name, Difference())
                apart.squares += float(np.sum((kept - kept_new) ** 2))
                apart.power += float(np.sum(kept**2))
                apart.largest = max(apart.largest, float(np.abs(kept - kept_new).max(initial=0.0)))
    return found


def contradictions(quality: dict[str, Any], found: dict[str, Difference]) -> list[str]:
    """What the report says otherwise: the largest differences, and the errors of outputs of one scale."""
    wrong = []
    for output in quality["outputs"]:
        mine = found.get(output["name"])
        if mine is None or mine.largest == 0 == output["max_abs"]:
            continue
        pairs = [("max", mine.largest, output["max_abs"])]
        if output["error"] is not None and (output["kind"] != "numbers" or output["describes"] == "numbers"):
            told = output["error"]["value"]
            of_few = output["kind"] == "numbers" and told > mine.error  # of the values that stand out
            pairs += [] if of_few else [("error", mine.error, told)]
        wrong += [
            f"{output['name']} {what} TOLD {told:.4g}, is {own:.4g}"
            for what, own, told in pairs
            if abs(own - told) > 0.02 * max(own, told) + 1e-6
        ]
    return wrong


def image_settings(arguments: list[str]) -> ImageSettings:
    """The image options among the arguments, for reading the same samples here."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))

    def numbers(option: str) -> tuple[float, ...] | None:
        return tuple(map(float, given[option].split(","))) if option in given else None

    scale, size = numbers("--scale"), given.get("--resize")
    height, width = map(int, size.split("x")) if size else (0, 0)
    return ImageSettings(
        resize=(height, width) if size else None,
        mean=numbers("--mean"),
        std=numbers("--std"),
        scale=scale[0] if scale else None,
    )


def rows(model: Path, rules: list[str], methods: list[str], amounts: list[str]) -> list[str]:
    """The table rows of one model."""
    found = onnx_dalr.inspect(model)
    share = sum(layer.share for layer in found.layers)
    reasons = Counter(entry.reason.split(" (")[0] for entry in found.skipped)
    why = "; ".join(f"{count}× {reason}" for reason, count in reasons.most_common(2)) or "–"
    head = f"| {model.name} | {len(found.layers)} ({100 * share:.0f} %) | {why} "
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        matching = [rule for rule in rules if fnmatchcase(model.name, rule.partition("=")[0])]
        arguments = shlex.split(matching[-1].partition("=")[2]) if matching else [f"{folder}/random.npz"]
        if not matching:
            random_feeds(input_specs(load(model).proto), Path(arguments[0]))
        calib, options = Path(arguments[0]), arguments[1:]
        for method in methods:
            for amount in amounts:
                output = Path(folder) / "out.onnx"
                target = [] if amount == "default" else ["--params", amount]
                run = optimize(model, output, ["--calib", str(calib), *options, "--method", method, *target, "--force"])
                meaning, said = MEANING.get(run.code, str(run.code)), run.message.removeprefix("error: ")
                result = said if said.startswith(meaning) else f"{meaning}: {said}"
                if run.code == 0 and run.report is not None:
                    quality = run.report["quality"]
                    ids, image = run.report["samples"]["report"], image_settings(options)
                    apart = differences(model, output, calib, ids, image)
                    kept = run.report["params_after"] / run.report["params_before"]
                    error = max((one.error for one in apart.values()), default=0.0)
                    lost = f"{quality['score']} loses {100 * quality['drop']['value']:.2f} points"
                    parts = [f"ok, {100 * kept:.1f} % kept, {lost}, error {error:.4f}", *contradictions(quality, apart)]
                    result = "; ".join(parts)
                lines.append(
                    f"{head}| {method} | {amount} | {result} | {run.seconds:.0f} s | {run.peak_mb:.0f} MB "
                    f"| {'samples' if matching else 'random'} |"
                )
                print(lines[-1], flush=True)
                head = "| | | "
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="a folder of .onnx files, or one file")
    parser.add_argument("--calib", action="append", default=[], metavar="GLOB=PATH OPTIONS")
    parser.add_argument("--methods", default="dalr,svd-bc")
    parser.add_argument("--amounts", default="default,90%")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    models = sorted(options.models.rglob("*.onnx")) if options.models.is_dir() else [options.models]
    table = [
        "| model | layers (of file) | skipped | method | amount | result | time | peak | fed |",
        "|---|---|---|---|---|---|---:|---:|---|",
    ]
    for model in models:
        try:
            table += rows(model, options.calib, options.methods.split(","), options.amounts.split(","))
        except onnx_dalr.DalrError as error:
            table.append(f"| {model.name} | | | | | {error.message} | | | |")
            print(table[-1], flush=True)
    if options.out:
        head = "# Zoo\n\nMade by `tools/zoo.py`; its doc string says what the columns are.\n\n"
        options.out.write_text(head + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
