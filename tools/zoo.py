"""Runs `onnx-dalr optimize` over a folder of models, checks every result against its original, and writes a table.

    python tools/zoo.py MODELS [--calib 'GLOB=PATH OPTIONS'] [--methods dalr,svd-bc] [--amounts 90%,70%] [--out FILE]

Every run is a process of its own, so that a crash or a memory peak is that model's alone. Samples come from --calib
(the last pattern that matches the file name; options such as --mean may follow the path); a model without any is fed
random numbers, which the table says. The error column is measured here, from both files on disk, not taken from the
report.
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
from onnx_dalr.graph.model import input_specs, load
from onnx_dalr.samples import ImageSettings, InputSpec, open_samples

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


def difference(original: Path, new: Path, calib: Path, ids: list[str], image: ImageSettings) -> float:
    """Relative error of the worst output over the named samples, from the two files on disk."""
    sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (original, new)]
    with open_samples(calib, input_specs(load(original).proto), image=image) as samples:
        wanted = [i for i, name in enumerate(samples.ids) if name in set(ids)]
        sums: Counter[int] = Counter()
        powers: Counter[int] = Counter()
        for _, batch in samples.batches(wanted, 1):
            pair = [session.run(None, batch) for session in sessions]
            for i, (y, y_new) in enumerate(zip(*pair, strict=True)):
                sums[i] += float(np.sum((np.asarray(y, float) - np.asarray(y_new, float)) ** 2))  # type: ignore[assignment]
                powers[i] += float(np.sum(np.asarray(y, float) ** 2))  # type: ignore[assignment]
    return max((sums[i] / powers[i]) ** 0.5 if powers[i] else 0.0 for i in powers)


def image_settings(arguments: list[str]) -> ImageSettings:
    """The image options among the arguments, for reading the same samples here."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))

    def numbers(option: str) -> tuple[float, ...] | None:
        return tuple(map(float, given[option].split(","))) if option in given else None

    scale = numbers("--scale")
    return ImageSettings(mean=numbers("--mean"), std=numbers("--std"), scale=scale[0] if scale else None)


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
                result = f"{MEANING.get(run.code, str(run.code))}: {run.message.removeprefix('error: ')}"
                if run.code == 0 and run.report is not None:
                    error = difference(model, output, calib, run.report["samples"]["report"], image_settings(options))
                    told = run.report["quality"]["error"]["value"]
                    honest = abs(error - told) <= 0.02 * max(error, told) + 1e-6
                    kept = run.report["params_after"] / run.report["params_before"]
                    result = f"ok, {100 * kept:.1f} % kept, error {error:.4f}" + (
                        "" if honest else f" (TOLD {told:.4f})"
                    )
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
