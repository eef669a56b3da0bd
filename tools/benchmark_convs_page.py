"""The page that tools/benchmark_convs.py writes: docs/conv-speed.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

PAGE = "conv-speed.md"
_WIDE, _LARGE = 64, 16  # channels and positions from which on a convolution is held to the goal
_GOAL = 0.8
_HEAD = """# What a factored convolution saves in time

<!-- made by tools/benchmark_convs.py -->

Each convolution of several taps of VGG-16 and ResNet-50 at 224×224 pixels, and the largest of the models that onnx-dalr
is tried on, as a model of one Conv against the two or three that take its place ([structures](methods.md)), in ONNX
Runtime on the CPU. They run in turn, round after round; a figure is the median over the rounds. *Faster* is the time of
the Conv over theirs, *gain* that over how many times fewer multiply-adds they have: 100 % is all there is to be had.
Ranks are the largest multiples of 8, or 16, within the multiply-adds. With one thread, times are those that the CPU
worked, to which other work on the machine adds nothing.
"""
_AGAIN = f"""<!-- not run: minutes of measuring -->
```bash
python tools/benchmark_convs.py ASSETS --json convs.json
python tools/benchmark_convs.py ASSETS --again convs.json --step 16 --batches 1 --json convs.json --docs docs
```

## In short

Convolutions with at least {_WIDE} channels on both sides and at least {_LARGE}×{_LARGE} positions: medians, and in how
many the gain is at least {100 * _GOAL:.0f} %. *Best* is the fastest structure of each.
"""


@dataclass(frozen=True)
class Record:
    """A convolution in one structure, against itself as it was.

    Attributes:
        nets: Who has it.
        conv: In words.
        channels: Of its data or its output, whichever has fewer.
        positions: Along the shorter side of its output.
        macs: Its multiply-adds for one sample.
        batch: Samples of a run.
        threads: Of ONNX Runtime.
        structure: What it is taken apart into.
        ratio: How many times fewer multiply-adds were asked for.
        step: What its ranks are multiples of.
        rank: In words.
        fewer: How many times fewer it has: more than asked for, as ranks are whole multiples.
        seconds: Of the convolution as it was.
        faster: Its time over that of the structure.
    """

    nets: str
    conv: str
    channels: int
    positions: int
    macs: int
    batch: int
    threads: int
    structure: str
    ratio: int
    step: int
    rank: str
    fewer: float
    seconds: float
    faster: float

    @property
    def cell(self) -> tuple[Any, ...]:
        """What it is of."""
        return self.conv, self.setting, self.structure

    @property
    def setting(self) -> tuple[int, int, int, int]:
        """How it was timed: it is compared with others of its own."""
        return self.ratio, self.step, self.batch, self.threads

    @property
    def gain(self) -> float:
        """The share of the multiply-add ratio that is reached in time."""
        return self.faster / self.fewer

    @property
    def counts(self) -> bool:
        """Whether it is wide and large enough to be held to the goal."""
        return self.channels >= _WIDE and self.positions >= _LARGE


def page(records: Sequence[Record], made_on: str) -> str:
    """All of it."""
    parts = [_HEAD, f"Measured on {made_on}.", "", _AGAIN, *_aggregated([r for r in records if r.counts])]
    parts += ["", "The others, which are narrow or small:", "", *_aggregated([r for r in records if not r.counts])]
    for setting in _distinct(records, lambda r: r.setting):
        ratio, step, batch, threads = setting
        head = f"{ratio}× fewer multiply-adds, ranks in {step}s, batch {batch}, {threads} thread{'s' * (threads > 1)}"
        parts += ["", f"## {head}", "", *_table([r for r in records if r.setting == setting])]
    return "\n".join([*parts, ""])


def _distinct(records: Sequence[Record], key: Callable[[Record], Any]) -> list[Any]:
    return list(dict.fromkeys(map(key, records)))


def _aggregated(records: Sequence[Record]) -> list[str]:
    """A row for every setting: for each structure the medians of speed and gain, and how many gain enough."""
    names = [*_distinct(records, lambda r: r.structure), "best"]
    lines = [f"| fewer | ranks in | batch | threads | {' | '.join(names)} |", "|---:" * (4 + len(names)) + "|"]
    for setting in sorted(_distinct(records, lambda r: r.setting)):
        own = [r for r in records if r.setting == setting]
        groups = {name: [r for r in own if r.structure == name] for name in names[:-1]}
        groups["best"] = [
            max((r for r in own if r.conv == conv), key=lambda r: r.faster) for conv in _distinct(own, lambda r: r.conv)
        ]
        cells = [_median(groups[name]) for name in names]
        ratio, *others = setting
        lines.append(f"| {ratio}× | {' | '.join([*map(str, others), *cells])} |")
    return lines


def _median(records: Sequence[Record]) -> str:
    if not records:
        return "–"
    reached = sum(record.gain >= _GOAL for record in records)
    faster, gain = median(r.faster for r in records), median(r.gain for r in records)
    return f"{faster:.2f}× faster, {100 * gain:.0f} %, {reached} of {len(records)}"


def _table(records: Sequence[Record]) -> list[str]:
    """A row for every convolution: each structure's rank, speed and gain, the fastest bold."""
    names = _distinct(records, lambda r: r.structure)
    lines = [
        f"| convolution | of | 10⁶ multiply-adds | ms | {' | '.join(names)} |",
        "|---|---|---:|---:|" + "---:|" * len(names),
    ]
    for conv in _distinct(records, lambda r: r.conv):
        own = {r.structure: r for r in records if r.conv == conv}
        best = max(own.values(), key=lambda r: r.faster)
        first = next(iter(own.values()))
        cells = [_cell(own.get(name), best) for name in names]
        facts = [conv, first.nets, _digits(first.macs / 1e6), _digits(1000 * first.seconds), *cells]
        lines.append(f"| {' | '.join(facts)} |")
    return lines


def _cell(record: Record | None, best: Record) -> str:
    if record is None:
        return "–"
    speed = f"{record.faster:.2f}×"
    return f"{record.rank}: {f'**{speed}**' if record is best else speed}, {100 * record.gain:.0f} %"


def _digits(value: float) -> str:
    """About three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
