"""Times convolutions against what each structure makes of them, at 2 and 4 times fewer multiply-adds.

    python tools/benchmark_convs.py ASSETS --json convs.json --docs docs
    python tools/benchmark_convs.py ASSETS --only VGG-16 'vgg*' --batches 1 --threads 1 --rounds 9
    python tools/benchmark_convs.py --again convs.json --docs docs

The convolutions are those of VGG-16 and ResNet-50 and, of every file in ASSETS/models (without it, ONNX_DALR_ASSETS),
the largest; those of one tap are left out. Each becomes a model of one Conv, and of two or three where it is taken
apart, in ONNX Runtime on the CPU. All models of a convolution run in turn, round after round, and a figure is the
median over the rounds of the time of the whole one over its own in the same round, so other work on the machine hurts
both alike. Of one thread it is the time that the CPU works for it, to which other work adds nothing; of several it is
the time that passes, and the machine should be idle. Ranks are the largest multiples of --step within the
multiply-adds. The JSON is written after every convolution, and holds the records of --again that were not measured
anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from benchmark_convs_page import PAGE, Record, page
from benchmark_convs_shapes import STRUCTURES, Conv, factors, largest_rank, macs, model, of_file, published

RATIOS = (2, 4)
_MOST = 64e9  # multiply-adds of one run, above which a batch is left out
_BURST = 2e-3  # seconds that one measurement lasts at least
Held = dict[tuple[Any, ...], Record]


class Runner:
    """A chain of convolutions in a session, with its data in place."""

    def __init__(self, chain: Sequence[Conv], batch: int, threads: int, data: Any, out: Any) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.use_env_allocators", "1")  # one arena for all that run in turn
        proto = model(chain, batch).SerializeToString()
        self._session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        self._ends = self._session.io_binding()
        self._ends.bind_ortvalue_input("t0", data)
        self._ends.bind_ortvalue_output(f"t{len(chain)}", out)
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self.repeats = 1

    def seconds(self) -> float:
        """Of one run, as the mean of a burst."""
        start = self._clock()
        for _ in range(self.repeats):
            self._session.run_with_iobinding(self._ends)
        return (self._clock() - start) / self.repeats

    def warm_up(self) -> None:
        """Runs a few times, and learns how many runs a burst takes."""
        self.seconds()
        self.repeats = max(1, round(_BURST / min(self.seconds() for _ in range(2))))


def variants(conv: Conv, step: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """(structure, ratio, rank) of all that a convolution can become."""
    for ratio, structure in itertools.product(RATIOS, STRUCTURES):
        rank = largest_rank(conv, structure, conv.macs / ratio, step)
        if rank is not None:
            yield structure, ratio, rank


def measured(nets: str, conv: Conv, batch: int, threads: int, rounds: int, step: int) -> Iterator[Record]:
    """One record a structure and ratio, all timed in turn."""
    asked = list(variants(conv, step))
    chains = [(conv,), *(factors(conv, structure, rank) for structure, _, rank in asked)]
    values = np.random.default_rng(1).standard_normal((batch, conv.channels, *conv.size), np.float32)
    data = ort.OrtValue.ortvalue_from_numpy(values)
    out = ort.OrtValue.ortvalue_from_shape_and_type([batch, conv.filters, *conv.out], np.float32)
    runners = [Runner(chain, batch, threads, data, out) for chain in chains]
    for runner in runners:
        runner.warm_up()
    times = np.array([_round(runners, first) for first in range(rounds)])
    for at, (structure, ratio, rank) in enumerate(asked, start=1):
        yield Record(
            nets=nets,
            conv=str(conv),
            channels=min(conv.channels, conv.filters),
            positions=min(conv.out),
            macs=conv.macs,
            batch=batch,
            threads=threads,
            structure=structure,
            ratio=ratio,
            step=step,
            rank="×".join(map(str, rank)),
            fewer=conv.macs / macs(chains[at]),
            seconds=median(times[:, 0].tolist()),
            faster=median((times[:, 0] / times[:, at]).tolist()),
        )


def _round(runners: Sequence[Runner], first: int) -> list[float]:
    """Every runner once, each round another first."""
    count = len(runners)
    found = {at % count: runners[at % count].seconds() for at in range(first, first + count)}
    return [found[at] for at in range(count)]


def convolutions(assets: Path | None, largest: int, only: Sequence[str]) -> dict[Conv, str]:
    """Each distinct convolution, and the networks that have it."""
    nets: dict[Conv, list[str]] = {}
    for net, conv in published():
        nets.setdefault(conv, []).append(net)
    for path in sorted((assets / "models").glob("*.onnx")) if assets else ():
        for conv in sorted(of_file(path), key=lambda conv: -conv.macs)[:largest]:
            nets.setdefault(conv, []).append(path.stem)
    meant = {conv: [net for net in own if any(fnmatchcase(net, each) for each in only)] for conv, own in nets.items()}
    return {conv: ", ".join(own) for conv, own in meant.items() if own}


def machine() -> str:
    """The CPU by name, how wide its vectors are, ONNX Runtime, the day."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    vectors = next((f" with {text}" for flag, text in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    name = facts.get("model name", platform.machine())
    return f"{name}{vectors}, {os.cpu_count()} cores, ONNX Runtime {ort.__version__}, {time.strftime('%Y-%m-%d')}"


def run(options: argparse.Namespace, held: Held, earlier: str) -> str:
    """Measures all, and writes what there is after every convolution. Returns what all that is held was made on."""
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
        ort.OrtArenaCfg(0, -1, -1, -1),
    )
    loads, made_on = list[float](), earlier
    chosen = convolutions(options.assets, options.largest, options.only)
    for threads, batch in itertools.product(options.threads, options.batches):
        for conv, nets in chosen.items():
            if conv.macs * batch > _MOST:
                continue
            loads.append(os.getloadavg()[0])
            found = list(measured(nets, conv, batch, threads, options.rounds, options.step))
            held |= {record.cell: record for record in found}
            shown = ", ".join(f"{r.structure} {r.rank} ×{r.faster:.2f} of {r.fewer:.2f}" for r in found)
            print(f"{nets}: {conv}, batch {batch}, {threads} threads: {shown}", flush=True)
            busy = f"{min(loads):.0f} to {max(loads):.0f} processes at work, this one among them"
            how = f"in {options.rounds} rounds with {busy}"
            made_on = f"{earlier}, {how}" if machine() in earlier else f"{earlier}; {machine()}, {how}".lstrip("; ")
            write(options.json, held, made_on)
    return made_on


def write(path: Path | None, held: Held, made_on: str) -> None:
    """All records, and what they were made on."""
    if path is not None:
        facts = {"made_on": made_on, "records": [asdict(record) for record in held.values()]}
        path.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> tuple[Held, str]:
    """The records of an earlier run, and what they were made on."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    records = [Record(**fields) for fields in facts["records"]]
    return {record.cell: record for record in records}, facts["made_on"]


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="networks: VGG-16, or a file's name")
    parser.add_argument("--largest", type=int, default=6, help="how many convolutions of a file")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--step", type=int, default=8, help="ranks are multiples of it")
    parser.add_argument("--again", type=Path, metavar="FILE", help="JSON of an earlier run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the page to write")
    options = parser.parse_args(arguments)
    if options.assets is None and options.again is None and "ONNX_DALR_ASSETS" in os.environ:
        options.assets = Path(os.environ["ONNX_DALR_ASSETS"])
    held, made_on = read(options.again) if options.again else ({}, "")
    if options.assets is not None or options.again is None:
        made_on = run(options, held, made_on)
    if options.docs:
        (options.docs / PAGE).write_text(page(list(held.values()), made_on), encoding="utf-8")


if __name__ == "__main__":
    main()
