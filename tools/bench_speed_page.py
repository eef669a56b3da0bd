"""The part of docs/speed.md that tools/bench_speed.py writes: what it is held to, and the table behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_speed_cases import CASES
from pages import Part

PART = Part("speed.md", "<!-- made by tools/bench_speed.py -->", "<!-- end of what tools/bench_speed.py makes -->")
_SMALL = 5 * 10**7  # bytes of a model: the libraries themselves take more than twice as much
PASS, ALGEBRA, PUBLISHED, SINGLE = "ONNX Runtime", "bare algebra", "published", "published, single precision"


@dataclass(frozen=True)
class SpeedRecord:
    """One way over one case: medians over the rounds.

    Attributes:
        case: Which.
        way: What was done.
        title: The case in words, with its real sizes.
        made_on: The code, the machine, the versions and the day.
        threads: Of every library.
        scale: Of models and sample sets; goals are for 1.
        samples: How many.
        model_bytes: Of the model.
        moment_bytes: Of the largest moment of a layer.
        cpu: Seconds that CPUs worked for the process.
        wall: Seconds it took.
        peak: Most bytes that were resident.
        work_cpu: Of `cpu`, those after the start of Python; of `optimize` all of them.
        work_wall: Of `wall`, likewise.
        phases: Seconds by phase, as `optimize` reports them.
        low: The least CPU seconds of a round.
        high: The most.
        rounds: How many there were.
        load: Processes at work on the machine, this one among them: the most of any round.
        error: Why there are no figures; empty where there are.
    """

    case: str
    way: str
    title: str
    made_on: str
    threads: int
    scale: float = 1.0
    samples: int = 0
    model_bytes: int = 0
    moment_bytes: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    peak: int = 0
    work_cpu: float = 0.0
    work_wall: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    rounds: int = 0
    load: float = 0.0
    error: str = ""

    @property
    def cell(self) -> tuple[str, str]:
        """What it is of."""
        return self.case, self.way

    def line(self) -> str:
        """For who watches."""
        if self.error:
            return f"{self.case}, {self.way}: {self.error}"
        phases = "".join(f", {name} {seconds:.1f}" for name, seconds in self.phases.items())
        return f"{self.case}, {self.way}: {self.cpu:.1f} s CPU, {self.wall:.1f} s, {size(self.peak)}{phases}"


Held = Mapping[tuple[str, str], SpeedRecord]


@dataclass(frozen=True)
class Ratio:
    """One figure that a case is held to.

    Attributes:
        case: Which.
        what: What is divided by what.
        cpu: In CPU seconds, or bytes.
        wall: In seconds that passed; None of bytes.
        goal: What it should be at most, or with `least` at least; None where there is none.
        least: More is better.
    """

    case: str
    what: str
    cpu: float
    wall: float | None
    goal: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is as good as the goal, in CPU seconds or bytes; None where there is no goal."""
        if self.goal is None:
            return None
        return self.cpu >= self.goal if self.least else self.cpu <= self.goal


def ratios(held: Held) -> Iterator[Ratio]:
    """All of which both sides are there, case by case."""
    for case in CASES.values():
        runs = [record for name in case.runs if (record := there(held, case.name, name))]
        if runs:
            ours = runs[0]
            yield from _of_passes(held, ours)
            yield from _of_published(held, ours)
            room = 2 * ours.model_bytes + ours.moment_bytes
            what = "peak ÷ (2 × model file + largest moment)"
            goal = _goal(ours, 1.0) if ours.model_bytes > _SMALL else None
            yield Ratio(case.name, f"{what}: {_mean(ours)}", ours.peak / room, None, goal)
            if case.name == "vgg":
                yield Ratio(case.name, f"seconds of `{ours.way}`", ours.cpu, ours.wall, _goal(ours, 6.0))
            if len(runs) == 2:
                what = f"`{ours.way}` ÷ `{runs[1].way}`"
                yield Ratio(case.name, what, ours.cpu / runs[1].cpu, ours.wall / runs[1].wall, _goal(ours, 2.0))


def _of_passes(held: Held, ours: SpeedRecord) -> Iterator[Ratio]:
    run, algebra = there(held, ours.case, PASS), there(held, ours.case, ALGEBRA)
    if run is None:
        return
    cpu, wall = max(run.work_cpu, 1e-3), max(run.work_wall, 1e-3)
    goal = _goal(ours, 9.0, "minilm")
    yield Ratio(ours.case, f"`{ours.way}` ÷ pass", ours.cpu / cpu, ours.wall / wall, goal)
    if algebra is not None:
        cpu, wall = cpu + algebra.work_cpu, wall + algebra.work_wall
        goal = _goal(ours, 1.5, "head")
        yield Ratio(ours.case, f"`{ours.way}` ÷ (pass + bare algebra)", ours.cpu / cpu, ours.wall / wall, goal)


def _of_published(held: Held, ours: SpeedRecord) -> Iterator[Ratio]:
    for way in (PUBLISHED, SINGLE):
        if (other := there(held, ours.case, way)) is not None:
            goals = [_goal(ours, goal, "head") if way == PUBLISHED else None for goal in (20.0, 10.0)]
            cpu, wall = other.work_cpu / ours.cpu, other.work_wall / ours.wall
            yield Ratio(ours.case, f"{way} ÷ `{ours.way}`", cpu, wall, goals[0], least=True)
            peak = other.peak / ours.peak
            yield Ratio(ours.case, f"peak of {way} ÷ `{ours.way}`", peak, None, goals[1], least=True)


def _goal(record: SpeedRecord, goal: float, case: str = "") -> float | None:
    """What a ratio is held to; nothing at another scale, or of another case."""
    return goal if record.scale == 1 and case in ("", record.case) else None


def _mean(record: SpeedRecord) -> str:
    return f"{size(record.peak)} for {size(record.model_bytes)} and {size(record.moment_bytes)}"


def there(held: Held, case: str, way: str) -> SpeedRecord | None:
    """A row that has figures."""
    record = held.get((case, way))
    return None if record is None or record.error else record


def size(count: int) -> str:
    """In MB, or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def digits(value: float) -> str:
    """About three."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_table(held: Held) -> Iterator[str]:
    """What is divided by what, beside the goal."""
    yield "| case | what | CPU time, or bytes | wall time | goal | |"
    yield "|---|---|---:|---:|---:|---|"
    for one in ratios(held):
        wall = "" if one.wall is None else digits(one.wall)
        sign = "≥" if one.least else "≤"
        goal = "" if one.goal is None else f"{sign} {one.goal:g}"
        met = {None: "", True: "met", False: "missed"}[one.met]
        cells = [one.case, one.what, f"**{digits(one.cpu)}**", wall, goal, met]
        yield " ".join(["|", *(f"{cell} |" if cell else "|" for cell in cells)])


def case_table(records: Sequence[SpeedRecord]) -> Iterator[str]:
    """One case: a row for every way."""
    run = next((each for each in records if each.way == PASS and not each.error), None)
    yield "| | CPU s | of it work | wall s | peak | CPU ÷ pass |"
    yield "|---|---:|---:|---:|---:|---:|"
    for one in (each for each in records if not each.error):
        share = digits((one.cpu if one.phases else one.work_cpu) / max(run.work_cpu, 1e-3)) if run else "–"
        ours = one.way in CASES[one.case].runs
        name = f"**`{one.way}`**" if ours else one.way
        cells = [name, digits(one.cpu), digits(one.work_cpu), digits(one.wall), size(one.peak), share]
        yield f"| {' | '.join(cells)} |"
    for one in records:
        if one.phases:
            yield ""
            told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.phases.items())
            yield f"`{one.way}` by phase, wall seconds: {told}."
    for one in records:
        if one.error:
            yield ""
            yield f"No figures of {one.way}: {one.error}."


def made(held: Held) -> str:
    """All that stands between the marks."""
    records = list(held.values())
    versions = "; ".join(dict.fromkeys(record.made_on for record in records))
    loads = [record.load for record in records if record.load]
    busy = f"{min(loads):.0f} to {max(loads):.0f}" if loads else "an unknown number of"
    threads = sorted({record.threads for record in records})
    blocks = [
        f"`python tools/bench_speed.py ASSETS --json speed.json --docs docs`, at {versions}; "
        f"{' and '.join(map(str, threads))} thread{'s' * (threads != [1])}; {busy} processes at work on the machine.",
        "\n".join(ratio_table(held)),
    ]
    for case in CASES:
        own = [record for record in records if record.case == case]
        if own:
            facts = f"{own[0].samples:,} samples, {size(own[0].model_bytes)}"
            blocks += [f"## {own[0].title[0].upper()}{own[0].title[1:]}", f"{facts}."]
            blocks.append("\n".join(case_table(own)))
    return "\n\n".join(blocks)


def update(folder: Path, held: Held) -> None:
    """The page in the folder of the docs."""
    PART.update(folder, made(held))
