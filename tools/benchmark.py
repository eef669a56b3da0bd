"""Methods × models × amounts × calibration sizes × seeds: equal bytes, the same samples, test data apart.

    python tools/benchmark.py ASSETS --table vgg-fc6 --seeds 3 --json out.json --docs docs
    python tools/benchmark.py --again out.json more.json --markdown out.md --plots docs/images

ASSETS is a folder with models/ and data/. For every calibration size and seed the samples are looked at once; all
methods make their models from that, at the same ranks (or within the same number of parameters), and each is run on the
whole test set. `svd`, `svd-bc`, `dalr-2017` with the λ of its authors' code, 1000, and with the best of six on held
out samples, `dalr` without and with its metric, and `optimize`, which is what the command does: it keeps samples back,
and chooses factors and ranks by them. Where several layers share a budget, ranks go by one ratio ("equal"), by the
error of each layer ("error") or by its effect on the output ("effect"). The JSON is written after every cell, so that
a run that is stopped leaves what it has.

--docs puts the rows that were measured into DIR/benchmark-tables.md, leaves all others as they are, and makes the table
at the head of DIR/benchmarks.md again from there. Plots are of the records given alone: draw them of a whole table.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import onnxruntime
from benchmark_data import Assets, Case
from benchmark_methods import CONTENDERS, Allocation, Bench
from benchmark_pages import update
from benchmark_report import LOST, ORIGINAL, OUTDONE, TABLES, Record, draw, markdown

import onnx_dalr
from onnx_dalr.session.session import open_session

ALLOCATIONS: tuple[Allocation, ...] = ("equal", "error", "effect")


def runs(case: Case, methods: list[str], allocations: list[Allocation]) -> Iterator[tuple[str, Allocation]]:
    """Which methods with which allocations: only those that know an error on unseen samples go by more than a ratio."""
    for name in methods:
        several = case.unit == "share" and CONTENDERS[name].allocates
        yield from product([name], allocations if several else ALLOCATIONS[:1])


def measured(case: Case, samples: int, seed: int, chosen: list[tuple[str, Allocation]], few: bool) -> Iterator[Record]:
    """Every method at every amount, from one draw of samples."""
    amounts = case.amounts[1:3] if few else case.amounts
    facts: dict[str, Any] = {"table": case.table, "model": case.model, "title": case.title, "samples": samples}
    facts |= {"seed": seed, "unit": case.unit}
    with Bench(case, samples, seed) as bench:
        for (name, allocation), amount in product(chosen, amounts):
            made = bench.make(name, allocation, amount)
            start = time.perf_counter()
            measures = case.test(open_session(made.proto.SerializeToString(), "cpu"))
            yield Record(
                method=name,
                allocation="chosen" if CONTENDERS[name].chooses else allocation,
                amount=amount,
                kept=1 - (case.whole.params - made.params) / bench.inside,
                params=made.params,
                bytes=made.bytes,
                seconds=made.seconds,
                test_seconds=time.perf_counter() - start,
                measures=measures,
                note=made.note,
                **facts,
            )


def original(case: Case) -> Record:
    """What the model as it is gets."""
    measures = case.test(open_session(case.part.source(), "cpu"))
    return Record(
        table=case.table,
        model=case.model,
        title=case.title,
        samples=0,
        seed=0,
        unit=case.unit,
        method=ORIGINAL,
        allocation="",
        amount=0.0,
        kept=1.0,
        params=case.whole.params,
        bytes=case.whole.size,
        seconds=0.0,
        test_seconds=0.0,
        measures=measures,
        note="",
    )


def run(options: argparse.Namespace, records: list[Record]) -> None:
    """Adds to the records, table by table, and writes them after every cell."""
    assets = Assets(options.assets)
    for table in TABLES if options.table == "all" else (options.table,):
        for case in assets.cases(table):
            if options.model and case.model != options.model:
                continue
            records.append(original(case))
            sizes = options.samples or (case.sizes[-1:] if options.quick else case.sizes)
            chosen = list(runs(case, options.methods, options.allocations))
            seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
            for samples, seed in product(sizes, seeds):
                start = time.perf_counter()
                for record in measured(case, samples, seed, chosen, options.quick):
                    records.append(record)
                    write(options.json, records)
                took = time.perf_counter() - start
                print(f"{table} {case.model} {samples} samples, seed {seed}: {took:.0f} s", flush=True)


def write(path: Path | None, records: list[Record]) -> None:
    """All records, and what made them."""
    if path is not None:
        made_by = {"onnx_dalr": onnx_dalr.__version__, "onnxruntime": onnxruntime.__version__}
        facts = {**made_by, "records": [asdict(record) for record in records]}
        path.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def read(paths: list[Path]) -> list[Record]:
    """The records of earlier runs; where two are of the same cell, the later file's."""
    cells: dict[tuple[Any, ...], Record] = {}
    for path in paths:
        for fields in json.loads(path.read_text(encoding="utf-8"))["records"]:
            record = Record(**fields)
            cells[record.cell] = record
    return list(cells.values())


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/ and data/")
    parser.add_argument("--table", choices=[*TABLES, "all"], default="all")
    parser.add_argument("--model", help="only the cases of this model")
    parser.add_argument("--samples", type=int, nargs="+", help="calibration sizes, in place of each table's own")
    parser.add_argument("--methods", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--allocations", nargs="+", choices=ALLOCATIONS, default=list(ALLOCATIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one seed, the smallest calibration size, two amounts")
    parser.add_argument("--again", type=Path, nargs="+", default=[], metavar="FILE", help="JSON of earlier runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the pages to bring up to date")
    options = parser.parse_args(arguments)
    if options.assets is None and not options.again:
        parser.error("give ASSETS, or --again FILE")
    records = read(options.again)
    if options.assets is not None:
        run(options, records)
    write(options.json, records)
    if options.plots:
        draw(records, options.plots)
    beside = options.docs or (options.markdown.parent if options.markdown else Path())
    text = markdown(records, os.path.relpath(options.plots, beside) if options.plots else None)
    if options.docs:
        update(options.docs, text, (LOST, OUTDONE))
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    elif not options.docs:
        print(text)


if __name__ == "__main__":
    main()
