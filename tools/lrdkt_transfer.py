"""LRDKT's knowledge transfer as it is meant, term by term, beside labels without a teacher and beside ours.

    python tools/lrdkt_transfer.py ASSETS --json transfer.json --docs docs
    python tools/lrdkt_transfer.py ASSETS --only 'mnist-*' --again transfer.json --json transfer.json
    python tools/lrdkt_transfer.py --again transfer.json --docs docs

ASSETS is a folder with models/ and data/; without it the one in ONNX_DALR_ASSETS is taken, unless --again is there.
A network of the assets is decomposed once for every draw of the samples. From that start, on the same samples and for
the same number of steps, one student learns from labels alone, one from every term of LRDKT, one from all of them, and
one as we do it, without labels. The teacher is frozen. What is measured is the file of each student, on test data that
nothing was chosen by. The JSON is written after every row; rows of --again are not measured anew. --docs puts tables
and what follows from them between their marks in DIR/benchmarks.md. It takes half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
from benchmark_weights import version
from lrdkt_transfer_cases import CASES, TransferCase
from lrdkt_transfer_lesson import Transfer
from lrdkt_transfer_page import ORIGINAL, START, TransferRecord, update
from lrdkt_transfer_ways import WAYS

from onnx_dalr.session.session import open_session
from onnx_dalr.tune.tensors import replaced

Held = dict[tuple[str, str, int], TransferRecord]


def measured(case: TransferCase, seed: int, made_by: str, held: Held) -> Iterator[TransferRecord]:
    """The rows of one draw that are not there yet: the original, the decomposed start, and every student.

    Args:
        case: The network and its data.
        seed: Of the draw.
        made_by: The code.
        held: The rows that there are.
    """

    def missing(way: str) -> bool:
        return (case.name, way, seed) not in held

    ways = [WAYS[name] for name in case.ways if missing(name)]
    blank = TransferRecord(case.name, ORIGINAL, seed, made_by, samples=case.samples)
    if seed == 0 and missing(ORIGINAL):
        yield _tested(case, blank, case.teacher)
    if not ways and not missing(START):
        return
    with tempfile.TemporaryDirectory() as folder:
        start, written = Path(folder) / "start.onnx", Path(folder) / "tuned.onnx"
        begun = time.perf_counter()
        case.start(case.shown.drawn(case.samples, seed).images, start)
        if missing(START):
            yield replace(_tested(case, replace(blank, way=START), start), seconds=time.perf_counter() - begun)
        student = onnx.load(start)
        transfer = Transfer(case.teacher, student, case.taught.drawn(case.samples, seed), case.tensors, seed)
        for way in ways:
            begun = time.perf_counter()
            learned = transfer.learned(case.terms(way), case.steps, mixed=way.mixed and case.mixed)
            seconds = time.perf_counter() - begun
            onnx.save(replaced(student, learned.tensors), written)
            found = replace(blank, way=way.name, steps=case.steps, rate=learned.rate, at=learned.at, seconds=seconds)
            yield _tested(case, replace(found, before=learned.before, after=learned.after), written)


def _tested(case: TransferCase, record: TransferRecord, file: Path) -> TransferRecord:
    return replace(record, bytes=file.stat().st_size, measures=case.test(open_session(file, "cpu")))


def run(options: argparse.Namespace, held: Held) -> None:
    """Measures case by case and draw by draw, and writes what there is after every row."""
    made_by = version()
    for name in (name for name in CASES if fnmatchcase(name, options.only)):
        case = CASES[name](options.assets)
        for seed in range(case.draws):
            for found in measured(case, seed, made_by, held):
                held[found.cell] = found
                write(options.json, held)
                print(found.line(), flush=True)


def write(path: Path | None, held: Held) -> None:
    """All records."""
    if path is not None:
        records = [asdict(record) for record in held.values()]
        path.write_text(json.dumps({"records": records}, indent=1, ensure_ascii=False), encoding="utf-8")


def read(paths: list[Path]) -> Held:
    """The records of earlier runs; where two are of the same row, the later file's."""
    found = {}
    for path in paths:
        for fields in json.loads(path.read_text(encoding="utf-8"))["records"]:
            record = TransferRecord(**fields)
            found[record.cell] = record
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/ and data/")
    parser.add_argument("--only", default="*", metavar="GLOB", help=f"of {', '.join(CASES)}")
    parser.add_argument("--again", type=Path, nargs="+", default=[], metavar="FILE", help="JSON of earlier runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the page to bring up to date")
    options = parser.parse_args(arguments)
    if options.assets is None and not options.again and "ONNX_DALR_ASSETS" in os.environ:
        options.assets = Path(os.environ["ONNX_DALR_ASSETS"])
    if options.assets is None and not options.again:
        parser.error("give ASSETS, or --again FILE")
    held = read(options.again)
    if options.assets is not None:
        run(options, held)
    write(options.json, held)
    if options.docs:
        update(options.docs, held.values())


if __name__ == "__main__":
    main()
