"""Bytes against quality: `optimize --weights` beside the other tools that make weights smaller, file against file.

    python tools/benchmark_weights.py ASSETS --json weights.json --docs docs --plots docs/images
    python tools/benchmark_weights.py ASSETS --only minilm --methods 'ours*' --again weights.json --json weights.json
    python tools/benchmark_weights.py --again weights.json --docs docs

ASSETS is a folder with models/ and data/; without it the one in ONNX_DALR_ASSETS is taken, unless --again is there.
Every method gets the same 512 samples, or none where it takes none, and writes a file. What is measured is that file:
its bytes, its answers on a test set that no method saw, and runs of one sample in turn with the original. A tool that
fails, or that writes a file which does not run, has a line that says so. The JSON is written after every row, and holds
those of --again that were not measured anew. GPTQ wants PyTorch. --docs puts the tables of the models that were
measured, or are in --again, between their marks in DIR/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import onnxruntime
from benchmark_weights_cases import CASES, ORIGINAL, WeightCase, one
from benchmark_weights_page import WeightRecord, draw, update
from benchmark_weights_ways import Way, ways

from onnx_dalr.quality.evaluate import measure_latency
from onnx_dalr.session.session import open_session

_LONGEST = 160  # characters of an error that a table shows


def measured(case: WeightCase, way: Way, folder: Path, made_by: str) -> WeightRecord:
    """One row: the file that a method writes, or why there is none."""
    record = WeightRecord(case.name, way.name, way.asked, way.ours, made_by)
    written, start = folder / f"{len(list(folder.iterdir()))}.onnx", time.perf_counter()
    try:
        way.make(case, written)
        record = replace(record, bytes=_size(written), seconds=time.perf_counter() - start)
        session = open_session(written, "cpu")
        measures = case.test(session)
        latency = measure_latency(open_session(case.model, "cpu"), session, one(case.feeds), 1, seconds=4.0)
    except Exception as error:  # other people's tools raise anything, and the table is to say what
        text = " ".join(f"{type(error).__name__}: {error}".split()).replace(f"{folder}{os.sep}", "")
        return replace(record, error=text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …")
    finally:
        for file in written.parent.glob(f"{written.name}*"):
            file.unlink()
        written.touch()  # its number is taken
    speed = latency.speedup
    return replace(record, measures=measures, speed=speed.value, speed_low=speed.low, speed_high=speed.high)


def original(case: WeightCase, made_by: str) -> WeightRecord:
    """What the model as it is gets."""
    measures = case.test(open_session(case.model, "cpu"))
    return WeightRecord(
        case.name, ORIGINAL, "", ours=False, made_by=made_by, bytes=_size(case.model), measures=measures, speed=1.0
    )


def run(options: argparse.Namespace, held: dict[tuple[str, str, str], WeightRecord]) -> None:
    """Measures model by model, and writes what there is after every row."""
    made_by = version()
    for name in options.only or CASES:
        case = CASES[name](options.assets)
        chosen = [way for way in ways(case) if _is_meant(way, options.methods)]
        with tempfile.TemporaryDirectory() as folder:
            for way in (None, *chosen):
                found = original(case, made_by) if way is None else measured(case, way, Path(folder), made_by)
                held[found.cell] = found
                write(options.json, held)
                print(f"{name}: {found.line()}", flush=True)


def _is_meant(way: Way, patterns: list[str]) -> bool:
    return any(fnmatchcase(f"{way.name} {way.asked}".strip(), pattern) for pattern in patterns)


def _size(path: Path) -> int:
    """Of all files that a model is written to."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def version() -> str:
    """Of the code and of ONNX Runtime, with the day."""
    here = Path(__file__).parent
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    day = datetime.now(UTC)
    return f"{commit or 'unknown'} ({day.day} {day:%B %Y}), ONNX Runtime {onnxruntime.__version__}"


def write(path: Path | None, held: dict[tuple[str, str, str], WeightRecord]) -> None:
    """All records."""
    if path is not None:
        records = [asdict(record) for record in held.values()]
        path.write_text(json.dumps({"records": records}, indent=1, ensure_ascii=False), encoding="utf-8")


def read(paths: list[Path]) -> dict[tuple[str, str, str], WeightRecord]:
    """The records of earlier runs; where two are of the same row, the later file's."""
    found = {}
    for path in paths:
        for fields in json.loads(path.read_text(encoding="utf-8"))["records"]:
            record = WeightRecord(**fields)
            found[record.cell] = record
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/ and data/")
    parser.add_argument("--only", choices=list(CASES), nargs="+", help="these models")
    parser.add_argument("--methods", nargs="+", default=["*"], metavar="GLOB", help="of name and settings")
    parser.add_argument("--again", type=Path, nargs="+", default=[], metavar="FILE", help="JSON of earlier runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the page to bring up to date")
    parser.add_argument("--plots", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.assets is None and not options.again and "ONNX_DALR_ASSETS" in os.environ:
        options.assets = Path(os.environ["ONNX_DALR_ASSETS"])
    if options.assets is None and not options.again:
        parser.error("give ASSETS, or --again FILE")
    held = read(options.again)
    if options.assets is not None:
        run(options, held)
    write(options.json, held)
    if options.plots:
        draw(held.values(), options.plots)
    if options.docs:
        update(options.docs, held.values())


if __name__ == "__main__":
    main()
