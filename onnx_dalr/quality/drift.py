"""Where two models begin to differ: their tensors by name, on a few samples, in the order in which they are computed.

Both models are cut down to what computes these tensors, and have them as outputs. ONNX Runtime then fuses less, so that
these sessions are for looking inside alone: no figure of quality and no time comes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.gradient import entries_on
from onnx_dalr.graph.inside import Computed, as_rounded, computed
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.intervals import relative_error
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.session.session import Device, Session, open_session

MOST_SAMPLES = 16
THRESHOLD, THRESHOLD_OF_HALF = 1e-3, 1e-2
"""Errors that rounding alone does not reach, of tensors in float32 and of those in half precision."""

_CLEARLY = 2.0  # times what all tensors before it had
_AT_ONCE = 1 << 28  # bytes of one model's tensors that are outputs at a time
_IN_ALL = 1 << 31  # bytes of one model's tensors that are looked at: fewer samples of a large one
_PART = 1 << 22  # values that are compared at a time, in double precision
_ROUNDING = 1e-5  # of the size of what a tensor is computed from: what is smaller is made of rounded digits
_FAR_BELOW = -9e3  # what masks are made of: −1e4, the least number there is, −∞
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")


@dataclass(frozen=True)
class TensorDrift:
    """One tensor that both models compute.

    Attributes:
        name: Its name.
        node: The node that makes it, in A.
        op: Its operator.
        op_b: That of the node that makes it in B.
        shape: On the last sample.
        error: √(Σ‖a−b‖² / Σ‖a‖²) over the samples; infinite where B alone is not finite. Of a tensor that is next to
            nothing beside what it is computed from, relative to 1e-5 of that: the rest is rounding.
        entering: The largest error among the tensors that it is computed from, of those that both models have.
        finite: B gives no NaN or infinity where A does not.
        output: It is an output of the models.
    """

    name: str
    node: str
    op: str
    op_b: str
    shape: tuple[int, ...]
    error: float
    entering: float
    finite: bool
    output: bool

    @property
    def jump(self) -> float:
        """How much more error it has than what it is computed from."""
        return self.error - self.entering if self.error > self.entering else 0.0


@dataclass(frozen=True)
class Drift:
    """Where two models begin to differ.

    Attributes:
        samples: That were looked at.
        computed_a: Tensors that A's main graph computes from what is fed.
        computed_b: The same of B.
        tensors: Those of the same name and shape in both, of floating numbers, in the order in which A computes them.
        first: The first whose error says more than rounding, and more than twice that of all before it; the first that
            says more than rounding where all of them grow slowly; None where none does.
        before: The largest error of the tensors before it; of all where there is none.
        jump: The tensor whose error is most above that of what it is computed from; None where none differs.
        reshaped: Names of tensors that have different shapes in the two.
        note: Why nothing inside could be compared, or not all; empty where all was.
    """

    samples: int
    computed_a: int
    computed_b: int
    tensors: tuple[TensorDrift, ...] = ()
    first: TensorDrift | None = None
    before: float = 0.0
    jump: TensorDrift | None = None
    reshaped: tuple[str, ...] = ()
    note: str = ""


class _Sums:
    """What was added up of one tensor."""

    def __init__(self) -> None:
        self.difference = self.power = 0.0
        self.count = 0
        self.finite = self.same_shape = True
        self.half = False
        self.shape: tuple[int, ...] = ()

    def add(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        self.half |= np.float16 in (a.dtype, b.dtype)
        if a.shape != b.shape:
            self.same_shape = False
            return
        self.shape = a.shape
        one, other = a.reshape(-1), b.reshape(-1)
        for start in range(0, one.size, _PART):
            y, y_new = (side[start : start + _PART].astype(np.float64) for side in (one, other))
            known = np.isfinite(y) & ~_masked(y)
            found = known & np.isfinite(y_new)
            self.finite &= bool((known == found).all())
            if not found.all():
                y, y_new = y[found], y_new[found]
            self.difference += float(np.square(y - y_new).sum())
            self.power += float(np.square(y).sum())
            self.count += y.size

    @property
    def mean_square(self) -> float:
        """Of A's values."""
        return self.power / max(self.count, 1)

    def error(self, behind: float) -> float:
        """Relative to its size; `behind` is the mean square of what it is computed from."""
        least = _ROUNDING**2 * behind * self.count
        return relative_error(self.difference, max(self.power, least)) if self.finite else float("inf")


def _masked(y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values are what a mask leaves, far below all others: beside their size no error of these would show."""
    below = y <= _FAR_BELOW
    if (
        below.any()
        and np.abs(y, where=np.isfinite(y), out=np.zeros_like(y))[~below].max(initial=0.0) < -_FAR_BELOW / 10
    ):
        return np.asarray(below)
    return np.zeros(y.shape, dtype=bool)


def find_drift(
    a: Model, b: Model, samples: SampleSet, device: Device, each: Callable[[int], None] = lambda count: None
) -> Drift:
    """Compares the tensors that two models both compute.

    Args:
        a: The one; its order is that of the tensors.
        b: The other, with the same inputs.
        samples: Some of which are run, one at a time as far as the models allow.
        device: Where to run.
        each: Called with how much more is done after each sample, in parts of `MOST_SAMPLES`.
    """
    ours, theirs = computed(a.proto), {one.name: one for one in computed(b.proto)}
    common = [one for one in ours if one.name in theirs]
    made = Drift(0, len(ours), len(theirs))
    if not common:
        return _nothing(made, "no tensor has the same name in both models")
    _, feed = samples.one()
    bytes_of = {name: 4 * entries for name, entries in entries_on(a.proto, _shapes(feed)).items()}
    whole = sum(bytes_of.get(one.name, 0) for one in common)
    few = samples.spread(max(1, min(MOST_SAMPLES, _IN_ALL // max(whole, 1))))
    groups = list(_groups([one.name for one in common], bytes_of))
    sums: dict[str, _Sums] = {}
    seen, refused = 0, ""
    steps = len(few) * len(groups)
    done = iter(range(steps))

    def tick() -> None:
        at = next(done, steps)
        each(MOST_SAMPLES * (at + 1) // steps - MOST_SAMPLES * at // steps)

    for names in groups:
        try:
            seen = max(seen, _add(sums, (a, b), names, few, device, tick))
        except InputError as error:  # a type that only ONNX Runtime's own passes give it, say
            refused = error.message
    if not sums:
        return _nothing(made, refused or "no tensor of floating numbers has the same name in both models")
    found = _found(made, seen, ours, theirs, sums, {value.name for value in a.proto.graph.output})
    return replace(found, note=refused)


def _nothing(made: Drift, note: str) -> Drift:
    return replace(made, note=note)


def _shapes(feed: Batch) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feed.items()}


def _groups(names: Sequence[str], bytes_of: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in groups whose tensors fit into memory together; one of unknown size counts as the largest."""
    largest = max(bytes_of.values(), default=0)
    group: list[str] = []
    held = 0
    for name in names:
        needed = bytes_of.get(name, largest)
        if group and held + needed > _AT_ONCE:
            yield group
            group, held = [], 0
        group.append(name)
        held += needed
    if group:
        yield group


def _add(
    sums: dict[str, _Sums],
    models: Sequence[Model],
    names: Sequence[str],
    samples: SampleSet,
    device: Device,
    each: Callable[[], None],
) -> int:
    """Runs both models and adds up what these tensors differ in; how many samples that were."""
    inside = [_as_read(model, names) for model in models]
    sessions = [
        _session(model, list(dict.fromkeys(at.values())), device) for model, at in zip(models, inside, strict=True)
    ]
    kinds = [{name: kind for _, name, kind, _ in session.signature} for session in sessions]
    floats = [name for name in names if all(kind[at[name]] in _FLOATS for at, kind in zip(inside, kinds, strict=True))]
    seen = 0
    if not floats:
        return seen
    for indices, feed in samples.source.batches(samples.indices, 1):
        found = [session.run(feed, [at[name] for name in floats]) for session, at in zip(sessions, inside, strict=True)]
        pairs = zip(*found, strict=True)
        for name, (one, other) in zip(floats, pairs, strict=True):
            sums.setdefault(name, _Sums()).add(one, other)
        seen += len(indices)
        each()
    return seen


def _as_read(model: Model, names: Sequence[str]) -> dict[str, str]:
    """Where each tensor is looked at: behind its rounding, where nothing in the model reads it before that."""
    rounded = as_rounded(model.proto)
    return {name: rounded.get(name, name) for name in names}


def _session(model: Model, names: Sequence[str], device: Device) -> Session:
    made, folder = model.in_memory(probe(model.proto, names))
    return open_session(made, device, folder)


def _found(
    made: Drift,
    samples: int,
    ours: Sequence[Computed],
    theirs: Mapping[str, Computed],
    sums: Mapping[str, _Sums],
    outputs: set[str],
) -> Drift:
    level: dict[str, float] = {}  # of every tensor of A: its error, or that of what it is computed from
    sizes: dict[str, float] = {}  # the mean square of the same
    tensors, differing = list[TensorDrift](), list[TensorDrift]()
    for one in ours:
        entering = max((level.get(name, 0.0) for name in one.read), default=0.0)
        behind = max((sizes.get(name, 0.0) for name in one.read), default=0.0)
        added = sums.get(one.name)
        if added is None or not added.same_shape:
            level[one.name], sizes[one.name] = entering, behind
            continue
        error = added.error(behind)
        level[one.name], sizes[one.name] = error, added.mean_square
        tensors.append(
            TensorDrift(
                name=one.name,
                node=one.node,
                op=one.op,
                op_b=theirs[one.name].op,
                shape=added.shape,
                error=error,
                entering=entering,
                finite=added.finite,
                output=one.name in outputs,
            )
        )
        if error > (THRESHOLD_OF_HALF if added.half else THRESHOLD):
            differing.append(tensors[-1])
    first = _first(tensors, differing)
    before = tensors[: tensors.index(first)] if first else tensors
    jumped = max(differing, key=lambda tensor: tensor.jump, default=None)
    return Drift(
        samples=samples,
        computed_a=made.computed_a,
        computed_b=made.computed_b,
        tensors=tuple(tensors),
        first=first,
        before=max((tensor.error for tensor in before), default=0.0),
        jump=jumped if jumped and jumped.jump > 0 else None,
        reshaped=tuple(name for name, added in sums.items() if not added.same_shape),
    )


def _first(tensors: Sequence[TensorDrift], differing: Sequence[TensorDrift]) -> TensorDrift | None:
    """The first that differs and clearly more than all before it; else the first that differs."""
    most, names = 0.0, {tensor.name for tensor in differing}
    for tensor in tensors:
        if tensor.name in names and tensor.error > _CLEARLY * most:
            return tensor
        most = max(most, tensor.error)
    return differing[0] if differing else None
