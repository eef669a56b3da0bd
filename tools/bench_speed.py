"""Times `onnx-dalr optimize` beside what it is made of: ONNX Runtime over the samples, and the bare linear algebra.

    python tools/bench_speed.py ASSETS --json speed.json --docs docs
    python tools/bench_speed.py --case head block --scale 0.25 --rounds 3 --threads 1
    python tools/bench_speed.py ASSETS --case minilm --only 'ONNX*' 'optimize*' --again speed.json --json speed.json
    python tools/bench_speed.py --case large --scale 0.5 --layers 4
    python tools/bench_speed.py --case large --layers 32 --shared --only inspect

Every way runs in a process of its own, round after round in turn; a figure is the median over the rounds. Beside the
seconds that passed stand those that CPUs worked for it, to which other work on the machine adds little, and the most
memory it had. `optimize` counts from the start of Python to its end; of all others the work alone is compared.

- ONNX Runtime: a session, and all samples once.
- bare algebra: for every layer one product for the moment and one eigendecomposition on its smaller side.
- published: the formula of the DALR paper as it is printed, all activations in memory, of layers that are matrices.
- other tools, for scale: ONNX Runtime's quantizers, onnxslim, and with --torch PYTHON a data-aware SVD in PyTorch.

A way that fails has a line that says so, and the others go on. Cases that need ASSETS (without it, ONNX_DALR_ASSETS)
are left out where there are none. --scale makes synthetic models, and the sample sets of all, smaller. What does not
fit into the memory that is free is not started. --docs puts ratios and tables between their marks in DIR/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median

from bench_speed_cases import CASES, LARGE, TORCH, Prepared
from bench_speed_page import ALGEBRA, PASS, PUBLISHED, SINGLE, SpeedRecord, digits, ratios, size, update
from bench_speed_processes import Used, free_memory, load, run

_HERE = Path(__file__).resolve().parent
Held = dict[tuple[str, str], SpeedRecord]


@dataclass(frozen=True)
class Run:
    """What a round of a way used, its work apart from the start of Python.

    Attributes:
        used: By the process.
        work: (CPU seconds, wall seconds).
        phases: Seconds by phase, of `optimize`.
        load: Processes at work meanwhile.
    """

    used: Used
    work: tuple[float, float]
    phases: dict[str, float]
    load: float


class Bench:
    """The processes that are started, with the options of the command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._knows_threads = "--threads" in self._started("-m", "onnx_dalr", "optimize", "--help").said

    def prepared(self, case: str, folder: Path) -> Prepared | str:
        """The case in its folder, or why it is not there."""
        o = self._options
        asked = [str(_HERE / "bench_speed_data.py"), case, str(folder)]
        asked += ["--scale", str(o.scale), "--layers", str(o.layers), *(["--shared"] if o.shared else [])]
        used = self._started(*asked, *(["--assets", str(o.assets)] if o.assets else []))
        if used.error:
            return used.error
        return Prepared.from_json(json.loads((folder / "case.json").read_text(encoding="utf-8")))

    def ways(self, case: Prepared) -> Iterator[str]:
        """Those of a case that were asked for."""
        known = CASES[case.name]
        whole = [PASS, *known.runs, ALGEBRA, PUBLISHED, SINGLE, *known.peers]
        if case.name == LARGE:
            whole = [PASS, "inspect", *known.runs]
        for way in whole:
            meant = any(fnmatchcase(way, pattern) for pattern in self._options.only)
            if meant and (way != TORCH or self._options.torch):
                yield way

    def once(self, case: Prepared, way: str, folder: Path) -> Run:
        """One process of a way."""
        needed = _needed(case, way)
        if needed > free_memory():
            lacking = f"needs about {size(needed)}, of which {size(free_memory())} are free"
            return Run(Used(0, 0, 0, "", lacking), (0, 0), {}, 0)
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        used = self._process(case, way, folder, report)
        for file in (*folder.glob("small.onnx*"), *folder.glob("q.onnx*")):
            file.unlink()
        work, phases = (used.cpu, used.wall), {}
        if not used.error and report.exists():
            phases = json.loads(report.read_text(encoding="utf-8"))["seconds"]
        elif not used.error and way not in (*CASES[case.name].runs, "inspect"):
            said = json.loads(used.said.splitlines()[-1])
            work = said["cpu"], said["wall"]
        return Run(used, work, phases, load())

    def _process(self, case: Prepared, way: str, folder: Path, report: Path) -> Used:
        threads = ["--threads", str(self._options.threads)]
        if way == "inspect":
            return self._started("-m", "onnx_dalr", "inspect", case.model)
        if way in CASES[case.name].runs:
            asked = [case.model, str(folder / "small.onnx"), "--calib", case.calib, "--device", "cpu", "--quiet"]
            asked += ["--force", "--tune", self._options.tune, "--json", str(report), *case.options]
            asked += CASES[case.name].runs[way]
            return self._started("-m", "onnx_dalr", "optimize", *asked, *(threads if self._knows_threads else []))
        python = str(self._options.torch) if way == TORCH else sys.executable
        return self._started(str(_HERE / "bench_speed_ways.py"), way, str(folder), *threads, python=python)

    def _started(self, *arguments: str, python: str = sys.executable) -> Used:
        return run([python, *arguments], self._options.threads, self._options.limit)


def _needed(case: Prepared, way: str) -> int:
    """Bytes that a way is known to need; 0 of those that are no concern."""
    return {PUBLISHED: case.published_bytes, SINGLE: case.published_bytes // 2, TORCH: case.published_bytes // 2}.get(
        way, 0
    )


def record(case: Prepared, way: str, rounds: list[Run], options: argparse.Namespace) -> SpeedRecord:
    """The medians of what the rounds used; the first error where there is one."""
    made = SpeedRecord(
        case=case.name,
        way=way,
        title=case.title,
        made_on=case.tools,
        threads=options.threads,
        scale=options.scale,
        samples=case.count,
        model_bytes=case.model_bytes,
        moment_bytes=case.moment_bytes,
        load=max(each.load for each in rounds),
    )
    error = next((each.used.error for each in rounds if each.used.error), "")
    if error:
        return replace(made, error=error)
    cpu = [each.used.cpu for each in rounds]
    return replace(
        made,
        cpu=median(cpu),
        wall=median(each.used.wall for each in rounds),
        peak=int(median(each.used.peak for each in rounds)),
        work_cpu=median(each.work[0] for each in rounds),
        work_wall=median(each.work[1] for each in rounds),
        phases={name: median(each.phases[name] for each in rounds) for name in rounds[0].phases},
        low=min(cpu),
        high=max(cpu),
        rounds=len(rounds),
    )


def measure(options: argparse.Namespace, held: Held) -> None:
    """Case by case, round by round; writes what there is after every round."""
    bench = Bench(options)
    chosen = options.case or [name for name in CASES if name != LARGE]
    for name in chosen:
        if CASES[name].assets and options.assets is None:
            print(f"{name}: left out, there is no ASSETS", flush=True)
            continue
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            case = bench.prepared(name, Path(temporary))
            if isinstance(case, str):
                print(f"{name}: not to be had: {case}", flush=True)
                continue
            ways = list(bench.ways(case))
            runs: dict[str, list[Run]] = {way: [] for way in ways}
            for at in range(options.rounds):
                for way in ways:
                    if any(each.used.error for each in runs[way]):
                        continue  # it will not do better
                    runs[way].append(bench.once(case, way, Path(temporary)))
                    found = record(case, way, runs[way], options)
                    held[found.cell] = found
                    write(options.json, held)
                    print(f"{at + 1}/{options.rounds} {found.line()}", flush=True)


def write(path: Path | None, held: Held) -> None:
    """All records."""
    if path is not None:
        records = [asdict(each) for each in held.values()]
        path.write_text(json.dumps({"records": records}, indent=1, ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> Held:
    """The records of an earlier run."""
    records = [SpeedRecord(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))["records"]]
    return {each.cell: each for each in records}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/ and data/")
    parser.add_argument("--case", choices=list(CASES), nargs="+", help="these [all but large]")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="ways of these names")
    parser.add_argument("--scale", type=float, default=1.0, help="of synthetic models and all sample sets")
    parser.add_argument("--layers", type=int, default=4, help="blocks of the large model")
    parser.add_argument("--tune", default="off", help="of optimize: it takes as much time as it is given [off]")
    parser.add_argument("--shared", action="store_true", help="these blocks share their bytes: for inspect alone")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, metavar="SECONDS", help="of one process")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for models and activations: up to 3 GB")
    parser.add_argument("--again", type=Path, metavar="FILE", help="JSON of an earlier run; what is not run stays")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the page to bring up to date")
    parser.add_argument("--show", action="store_true", help="measure nothing: --again is all there is")
    options = parser.parse_args(arguments)
    if options.assets is None and "ONNX_DALR_ASSETS" in os.environ:
        options.assets = Path(os.environ["ONNX_DALR_ASSETS"])
    held = read(options.again) if options.again else {}
    if not options.show:
        measure(options, held)
    write(options.json, held)
    for one in ratios(held):
        wall = "" if one.wall is None else f" ({digits(one.wall)} of wall time)"
        goal = "" if one.goal is None else f", goal {'≥' if one.least else '≤'} {one.goal:g}"
        print(f"{one.case}: {one.what}: {digits(one.cpu)}{wall}{goal}")
    if options.docs:
        update(options.docs, held)


if __name__ == "__main__":
    main()
