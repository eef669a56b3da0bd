"""Times a training step of the tuning beside one of PyTorch: the same model, batch, tensors and loss.

    python tools/benchmark_step.py ASSETS --json step.json --docs docs
    python tools/benchmark_step.py ASSETS --only minilm --threads 1 2 --rounds 41
    python tools/benchmark_step.py --again step.json --docs docs

Wants PyTorch. Models of ASSETS/models (without it, ONNX_DALR_ASSETS) are brought to half of the numbers of their
layers, and a step is loss, gradients of factors, biases and norms, and Adam: ours is a run of ONNX Runtime and NumPy,
the other calls PyTorch for every node, for several at once where people write it so, and torch.optim.Adam. What comes
before the first layer and what the teacher says are computed once for both. Nothing is timed unless both agree on
outputs and gradients. They run in turn, round after round, each first every other time; a figure is the median over the
rounds. With one thread it is the time that the CPU works for the process, to which other work on the machine adds
little; with several it is the time that passes, and the machine should be idle. The JSON holds the records of --again
that were not measured anew. --docs puts the table between its marks in DIR/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime as ort
from benchmark_convs import machine
from benchmark_step_cases import CASES, StepCase
from benchmark_step_page import StepRecord, update
from benchmark_weights import version
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.session.session import CPU, Session
from onnx_dalr.tune.adam import Adam, Tensors
from onnx_dalr.tune.sizes import heard, sizes_of
from onnx_dalr.tune.step import Stepper

CLOSE = 1e-3
"""Relative: where outputs or gradients differ by more, the two are not the same model."""

_RATE = 1e-3
Held = dict[tuple[str, int], StepRecord]


class Ours:
    """Steps as the tuning makes them."""

    def __init__(self, case: StepCase, threads: int) -> None:
        self._case = case
        self._stepper = Stepper(case.graph, loaded(case.graph.proto, threads), loaded(case.student, threads))
        self._tensors = {name: values.copy() for name, values in case.start.items()}
        self._adam = Adam(sizes_of(case.start))

    def gradients(self) -> tuple[float, Tensors]:
        """(loss, gradient by tensor) at the start."""
        return self._stepper.gradients(self._case.feed, self._case.start)

    def says(self) -> NDArray[np.float32]:
        """The output at the start."""
        return np.asarray(self._stepper.says([self._case.output], self._case.feed, self._case.start)[0])

    def step(self) -> None:
        """One step."""
        _, gradients = self._stepper.gradients(self._case.feed, self._tensors)
        self._adam.step(self._tensors, gradients, _RATE)


def loaded(proto: ModelProto, threads: int) -> Session:
    """A session as those of the tuning, with so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "1")
    raw = ort.InferenceSession(
        proto.SerializeToString(), options, providers=[CPU], disabled_optimizers=["MatmulTransposeFusion"]
    )
    return Session(raw, CPU)


def differences(case: StepCase, ours: Ours, says: NDArray[np.float32], gradients: Tensors) -> tuple[float, float]:
    """How far outputs and gradients are apart, relative to their size; of gradients the worst that is no noise."""
    mine = ours.says()
    answers = float(np.abs(mine - says).max() / np.abs(mine).max())
    _, own = ours.gradients()
    sizes, _ = heard(sizes_of(case.start), [own])
    worst = max(float(np.linalg.norm(own[name] - gradients[name]) / np.linalg.norm(own[name])) for name in sizes)
    return answers, worst


def measured(case: StepCase, threads: int, rounds: int, made_on: str) -> StepRecord:
    """One row.

    Raises:
        SystemExit: PyTorch does not compute the same.
    """
    from benchmark_step_torch import TorchSteps  # noqa: PLC0415 - PyTorch is not among what tests need

    ours, other = Ours(case, threads), TorchSteps(case, threads)
    answers, worst = differences(case, ours, *other.found())
    if max(answers, worst) > CLOSE:
        raise SystemExit(f"{case.name}: outputs differ by {answers:.1e}, gradients by {worst:.1e}: nothing is timed")
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(3):
        other.step()
        ours.step()
    times = np.array([_round(ours.step, other.step, clock, swapped=bool(at % 2)) for at in range(rounds)])
    ratios = times[:, 0] / times[:, 1]
    low, ratio, high = (float(value) for value in np.quantile(ratios, (0.1, 0.5, 0.9)))
    return StepRecord(
        case=case.name,
        title=case.title,
        threads=threads,
        tuned=sum(values.size for values in case.start.values()),
        ours=float(np.median(times[:, 0])),
        torch=float(np.median(times[:, 1])),
        ratio=ratio,
        low=low,
        high=high,
        rounds=rounds,
        answers=answers,
        gradients=worst,
        made_on=made_on,
    )


def _round(
    ours: Callable[[], None], other: Callable[[], None], clock: Callable[[], float], *, swapped: bool
) -> tuple[float, float]:
    """Seconds of a step of each."""
    found = []
    for step in (other, ours) if swapped else (ours, other):
        start = clock()
        step()
        found.append(clock() - start)
    return (found[1], found[0]) if swapped else (found[0], found[1])


def run(options: argparse.Namespace, held: Held) -> None:
    """Measures model by model, and writes what there is after every row."""
    from benchmark_step_torch import VERSION  # noqa: PLC0415 - as above

    made_on = f"{version()}, PyTorch {VERSION}, {machine().split(', ONNX Runtime')[0]}"
    for name in options.only or CASES:
        case = CASES[name](options.assets)
        for threads in options.threads:
            found = measured(case, threads, options.rounds, made_on)
            held[found.cell] = found
            write(options.json, held)
            print(found.line(), flush=True)


def write(path: Path | None, held: Held) -> None:
    """All records."""
    if path is not None:
        records = [asdict(record) for record in held.values()]
        path.write_text(json.dumps({"records": records}, indent=1, ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> Held:
    """The records of an earlier run."""
    records = [StepRecord(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))["records"]]
    return {record.cell: record for record in records}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, nargs="?", help="folder with models/")
    parser.add_argument("--only", choices=list(CASES), nargs="+", help="these models")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--again", type=Path, metavar="FILE", help="JSON of an earlier run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, metavar="DIR", help="folder of the page to bring up to date")
    options = parser.parse_args(arguments)
    if options.assets is None and options.again is None and "ONNX_DALR_ASSETS" in os.environ:
        options.assets = Path(os.environ["ONNX_DALR_ASSETS"])
    if options.assets is None and options.again is None:
        parser.error("give ASSETS, or --again FILE")
    held = read(options.again) if options.again else {}
    if options.assets is not None:
        run(options, held)
    write(options.json, held)
    if options.docs:
        update(options.docs, list(held.values()))


if __name__ == "__main__":
    main()
