"""Hostile and odd models by the thousand: what the loader, the layer finder, the rewrite and `optimize` make of them.

    python tools/fuzz.py --seconds 300 --seed 0 [--only loader|layers|optimize] [--findings FILE]
    python tools/fuzz.py --replay layers:0:1234 [--keep FOLDER]

Three stages. `loader`: damaged bytes and damaged fields of valid files may load or be refused with an InputError of
one line. `layers`: random graphs; where ONNX Runtime loads one, exact factors leave its outputs as they are and the
empty selection leaves it equal; other graphs may only be refused. `optimize`: a result or a DalrError, an output file
only with a result, and nothing left behind. Every case runs from its own seed in a worker process, so that a crash or
a hang of native code is a finding too; a finding's id replays it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from fuzz_damage import damage_bytes, damage_fields
from fuzz_models import corpus, random_model, random_samples
from fuzz_runs import numbers, session_on
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.errors import DalrError, InputError
from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, count_params, input_specs, is_valid, load, save

HANG = 60.0
MEMORY = 12 << 30
TOLERANCE = {np.dtype(np.float16): 0.05, np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-3}


@dataclass(frozen=True)
class Finding:
    """A case that went wrong: its id (stage:seed:number) replays it."""

    id: str
    what: str
    trace: str


class WrongError(AssertionError):
    """A property that does not hold."""


def try_loader(rng: random.Random, folder: Path) -> str:
    """A damaged file is loaded and looked at, or refused."""
    known = corpus()
    (folder / "data").write_bytes(bytes(4096))
    content = rng.choice(known)
    if rng.random() < 0.5 and len(content) < 100_000:
        proto = onnx.load_from_string(content)
        damage_fields(proto, rng)
        content = proto.SerializeToString()
    else:
        content = damage_bytes(content, rng.choice(known), rng)
    path = folder / "model.onnx"
    path.write_bytes(content)
    try:
        look_at(path)
    except InputError as error:
        return one_line(error)
    return "read"


def look_at(path: Path) -> None:
    """Everything the commands do with a model before they run it."""
    model = load(path)
    layers, _ = find(model)
    str(onnx_dalr.inspect(path))
    input_specs(model.proto)
    count_params(model.proto)
    is_valid(path)
    for layer in layers:
        if not np.isfinite(matrix(model, layer)).all():
            continue
    proto = rewrite(model, []).proto
    if proto.SerializeToString(deterministic=True) != model.proto.SerializeToString(deterministic=True):
        raise WrongError("the empty selection changes the model")
    save(proto, model, path.with_name("again.onnx"))


def try_layers(rng: random.Random, folder: Path) -> str:
    """A random graph: refused, or rewritten without changing what it computes."""
    proto = random_model(rng)
    hostile = rng.random() < 0.5
    if hostile:
        damage_fields(proto, rng)
    (folder / "model.onnx").write_bytes(before := proto.SerializeToString(deterministic=True))
    try:
        model = load(proto)
        layers, _ = find(model, in_one_piece=rng.random() < 0.5)
        chosen = [layer for layer in layers if rng.random() < 0.8]
        made = rewrite(model, [exact(model, layer) for layer in chosen]).proto
        empty = rewrite(model, []).proto
    except InputError as error:
        if not hostile:
            raise WrongError(f"a valid graph is refused: {error}") from error
        return one_line(error)
    except Exception as error:
        if session_on(proto) is not None:
            raise WrongError(f"ONNX Runtime loads it, and we fail: {error!r}") from error
        raise
    if before != proto.SerializeToString(deterministic=True) or before != empty.SerializeToString(deterministic=True):
        raise WrongError("a model was changed that should not have been")
    session = session_on(proto)
    if session is None and not hostile:
        return "not loadable"
    if session is None:
        return "found in a broken graph"
    _check_rewrite(model, made, chosen, session, folder, hostile)
    return f"rewritten: {min(len(chosen), 4)} layers{' of a damaged graph' if hostile else ''}"


def exact(model: Model, layer: Layer) -> Substitution:
    """Full-rank factors: A·B = W; what stays in one piece is stored in float16, or as it is where that is too small."""
    W = matrix(model, layer).astype(np.float64)
    if not np.isfinite(W).all():
        raise InputError("not finite")
    if layer.in_one_piece:
        fits = np.abs(W).max(initial=0) < 6e4
        pieces = [Piece("W", W.reshape(layer.shape.dims).astype(np.float32))]
        return Substitution.of(layer, pieces, FORMATS["float16" if fits else KEPT], np.zeros(layer.m))
    through = np.eye(layer.m).reshape(layer.m, layer.m, *[1] * len(layer.shape.kernel))
    pieces = [Piece("B", W.reshape(layer.shape.dims)), Piece("A", through, ())]
    return Substitution.of(layer, pieces, FORMATS[KEPT], np.zeros(layer.m))


def _check_rewrite(
    model: Model, made: ModelProto, chosen: Sequence[Layer], before: Any, folder: Path, hostile: bool
) -> None:
    grown = sum((0 if entry.in_one_piece else entry.m * entry.m) + entry.plain_growth for entry in chosen)
    if count_params(made) - count_params(model.proto) > grown:
        raise WrongError(f"parameters: {count_params(model.proto)} → {count_params(made)}, announced growth {grown}")
    (folder / "made.onnx").write_bytes(made.SerializeToString())
    if not hostile and is_valid(folder / "model.onnx") is None and (wrong := is_valid(folder / "made.onnx")):
        raise WrongError(f"the checker refuses the result: {wrong}")
    try:
        feeds = {value.name: numbers(value) for value in before.get_inputs()}
        expected = before.run(None, feeds)
    except Exception:  # a damaged graph may load and not run
        return
    after = session_on(made)
    if after is None:
        raise WrongError("ONNX Runtime does not load the result")
    names = [value.name for value in before.get_outputs()]
    if [value.name for value in after.get_outputs()] != names:
        raise WrongError("other outputs")
    for name, old, new in zip(names, expected, after.run(None, feeds), strict=True):
        _compare(name, old, new, chosen)


def _compare(name: str, old: Any, new: Any, chosen: Sequence[Layer]) -> None:
    if not isinstance(old, np.ndarray) or not np.isfinite(np.asarray(old, np.float64)).all():
        return
    if old.shape != new.shape or old.dtype != new.dtype:
        raise WrongError(f"{name!r}: {old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}")
    coarsest = max((TOLERANCE.get(layer.dtype, 0.05) for layer in chosen), default=0.0)
    if old.dtype == np.float16:
        coarsest = max(coarsest, 0.05)
    difference = float(np.abs(new.astype(np.float64) - old.astype(np.float64)).max(initial=0))
    if difference > coarsest * (1 + float(np.abs(old.astype(np.float64)).max(initial=0))):
        raise WrongError(f"{name!r} differs by {difference:.3g}")


def try_optimize(rng: random.Random, folder: Path) -> str:
    """`optimize` from end to end, in Python or by the command line."""
    proto = random_model(rng, (16, 24, 33))
    if rng.random() < 0.3:
        damage_fields(proto, rng)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    if rng.random() < 0.3:
        with suppress(Exception):  # a damaged model may refuse it
            onnx.save(proto, folder / "model.onnx", save_as_external_data=True, location="data", size_threshold=0)
    feeds = random_samples(proto, rng)
    options: dict[str, Any] = {
        "rank": rng.choice([None, None, 1, 2, 5, "*=3", 10**9]),
        "method": rng.choice(["dalr", "dalr-2017", "svd-bc", "svd"]),
        "holdout": rng.choice([0.3, 0.3, 0, 0.9]),
        "batch_size": rng.choice([None, 1, 3, 1000]),
        "seed": rng.randrange(3),
        "task": rng.choice(["auto", "auto", "classify", "regress", "embed"]),
        "weights": rng.choice(["keep", "keep", "float16", "int8", "int4", "auto"]),
        "memory": rng.choice(["keep", "keep", "small"]),
    }
    if options["rank"] is None:
        options["max_drop"] = rng.choice([None, 0.5, "10%", 0])
        options["confidence"] = rng.choice([None, None, "60%", 0.95])
    options["samples"] = rng.choice([None, 2, 20])
    before = _listing(folder)
    if rng.random() < 0.3:
        np.savez(folder / "calib.npz", allow_pickle=True, **feeds)
        return _by_command(folder, options)
    try:
        result = onnx_dalr.optimize(folder / "model.onnx", folder / "out.onnx", calib=feeds, **options)
        str(result), result.to_json()
    except DalrError as error:
        if _listing(folder) != before:
            raise WrongError(f"left behind after {error}: {_listing(folder) - before}") from error
        return one_line(error)
    _check_output(folder, _listing(folder) - before)
    return "optimized"


def _by_command(folder: Path, options: dict[str, Any]) -> str:
    from typer.testing import CliRunner  # noqa: PLC0415 - only this case needs it

    from onnx_dalr.cli.main import app  # noqa: PLC0415

    before = _listing(folder)
    arguments = ["optimize", str(folder / "model.onnx"), str(folder / "out.onnx"), "--calib", str(folder / "calib.npz")]
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    done = CliRunner().invoke(app, arguments)
    new = _listing(folder) - before
    if done.exit_code not in (0, 2, 3, 4, 5) or (done.exit_code and new):
        raise WrongError(f"exit code {done.exit_code}, left: {new}: {done.stderr[-2000:]}")
    if done.exit_code and len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) != 1:
        raise WrongError(f"not one line: {done.stderr}")
    if not done.exit_code:
        _check_output(folder, new)
    return f"exit code {done.exit_code}"


def _check_output(folder: Path, new: set[str]) -> None:
    if not {"out.onnx"} <= new <= {"out.onnx", "out.onnx.data"}:
        raise WrongError(f"written: {sorted(new)}")
    if load(folder / "out.onnx").size >= load(folder / "model.onnx").size:
        raise WrongError("the output is not smaller")
    if is_valid(folder / "model.onnx") is None and (wrong := is_valid(folder / "out.onnx")) is not None:
        raise WrongError(f"the checker refuses the output: {wrong}")


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def one_line(error: DalrError) -> str:
    """The error's message without its names and numbers; it must be one line that can be printed."""
    if not error.message or len((error.message + "." + error.hint + ".").splitlines()) != 1:
        raise WrongError(f"not one line: {error.message!r} {error.hint!r}")
    if len(error.message) > 2000:
        raise WrongError(f"a message of {len(error.message)} characters: {error.message[:200]!r}")
    (error.message + error.hint).encode()
    return f"{type(error).__name__}: " + re.sub(r"/\S+|'[^']*'|\"[^\"]*\"|-?\d+", "…", error.message)[:70]


STAGES: dict[str, Callable[[random.Random, Path], str]] = {
    "loader": try_loader,
    "layers": try_layers,
    "optimize": try_optimize,
}


# ----------------------------------------------------------------------------------------------------------- running


def try_case(case: str, folder: Path) -> str | Finding:
    """Runs one case, "stage:seed:number", in an empty folder: what came of it, or a finding."""
    rng = random.Random(case)
    try:
        return STAGES[case.partition(":")[0]](rng, folder)
    except Exception as error:
        trace = traceback.format_exc()
        return Finding(case, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", trace[-4000:])


def work(cases: Connection, scratch: Path) -> None:
    """A worker: runs the cases that it is sent until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable((scratch / "fault").open("w"), all_threads=False)
    ort.set_default_logger_severity(4)
    while (case := cases.recv()) is not None:
        shutil.rmtree(scratch / "case", ignore_errors=True)
        (scratch / "case").mkdir()
        cases.send(try_case(case, scratch / "case"))


class Worker:
    """A process that runs cases, started anew after a crash or a hang."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._cases, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._scratch), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, case: str) -> str | Finding:
        """What came of one case; a dead or stuck process is a finding."""
        try:
            self._cases.send(case)
            if self._cases.poll(HANG):
                found: str | Finding = self._cases.recv()
                return found
            what = f"hangs for more than {HANG:.0f} s"
        except (EOFError, ConnectionError):
            self._process.join(10)
            what = f"the process died with exit code {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        fault = self._scratch / "fault"
        trace = fault.read_text(errors="replace")[:4000] if fault.exists() else ""
        self._start()
        return Finding(case, what, trace)

    def stop(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._cases.send(None)
        self._process.join(10)
        self._process.kill()


def fuzz(stages: Sequence[str], seed: int, seconds: float, findings: Path) -> int:
    """Runs the stages, each for its share of the time, and prints what came of it; how many findings there were."""
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-fuzz-") as scratch, findings.open("a", encoding="utf-8") as file:
        worker = Worker(Path(scratch))
        for stage in stages:
            outcomes: Counter[str] = Counter()
            end, number = time.monotonic() + seconds / len(stages), 0
            while time.monotonic() < end:
                found = worker.run(f"{stage}:{seed}:{number}")
                number += 1
                outcomes["FINDING" if isinstance(found, Finding) else found] += 1
                if isinstance(found, Finding):
                    file.write(json.dumps(asdict(found)) + "\n")
                    kind = re.sub(r"'[^']*'|\d+", "…", found.what)[:120] + " @ " + _where(found.trace)
                    seen[kind] += 1
                    if seen[kind] <= 3:
                        print(f"{found.id}  {kind}", flush=True)
            print(f"{stage}: {number} cases in {seconds / len(stages):.0f} s")
            for outcome, count in outcomes.most_common(40):
                print(f"  {count:6}  {outcome}")
        worker.stop()
    for kind, count in seen.most_common():
        print(f"{count:6} × {kind}")
    return seen.total()


def _where(trace: str) -> str:
    ours = re.findall(r'File ".*?/(onnx_dalr/\S+?\.py)", line (\d+)', trace)
    return ":".join(ours[-1] if ours[-1:] and "Fatal" not in trace else ours[0]) if ours else "?"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(STAGES), help="one stage instead of all")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()) / "onnx-dalr-fuzz.jsonl")
    parser.add_argument("--replay", metavar="ID", help="run one case in this process, with its traceback")
    parser.add_argument("--keep", type=Path, help="folder for the files of the replayed case")
    options = parser.parse_args()
    if options.replay is None:
        stages = [options.only] if options.only else list(STAGES)
        sys.exit(1 if fuzz(stages, options.seed, options.seconds, options.findings) else 0)
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-fuzz-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = try_case(options.replay, folder)
    print(found.trace + found.what if isinstance(found, Finding) else found)
    sys.exit(1 if isinstance(found, Finding) else 0)


if __name__ == "__main__":
    main()
