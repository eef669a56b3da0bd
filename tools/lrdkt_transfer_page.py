"""The part of docs/benchmarks.md that tools/lrdkt_transfer.py writes: two tables, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev

from lrdkt_transfer_ways import HINTS_ONLY, LABELS_MIXED, LABELS_ONLY, OURS, PLAIN, RECIPE, SOFT, UNLABELLED, WAYS
from pages import Part

PART = Part(
    "benchmarks.md",
    "<!-- made by tools/lrdkt_transfer.py -->",
    "<!-- end of what tools/lrdkt_transfer.py makes -->",
)
ORIGINAL, START = "original", "decomposed"
TITLES = {
    "mnist-5": "MNIST MLP at 5 % of its parameters",
    "mnist-3": "at 3 %",
    "mnist-2": "at 2 %",
    "vgg-fc": "VGG of animals, fc6 and fc7 at rank 3",
    "vgg-svd": "VGG, convolutions at a quarter, by SVD of the weights",
    "vgg-convs": "the same, by `optimize`",
    "vgg-gap": "and mean of the last map + one layer for fc6–fc8",
    "domain-animals": "VGG of animals at 2 %, on animals",
    "domain-all": "on all ten classes",
    "domain-vehicles": "on vehicles alone",
    "domain-moved": "the source network at 2 %, learning animals",
}
_DOMAINS = {"domain-animals": "animals", "domain-all": "all ten classes", "domain-vehicles": "vehicles alone"}
_COLUMNS = (ORIGINAL, START, *WAYS)


@dataclass(frozen=True)
class TransferRecord:
    """One row: a student, or the original, or the start.

    Attributes:
        case: Of the start.
        way: What was learned from.
        seed: Of the draw.
        made_by: The code, the day and ONNX Runtime.
        samples: Images.
        steps: That were made.
        rate: That trials chose.
        at: The step whose tensors were kept; 0: the start.
        before: Lost by the start on the held-out samples, by the way's own loss.
        after: Lost there by what was kept.
        seconds: That learning, or decomposing, took.
        bytes: Of the file.
        measures: On the test set; shares from 0 to 1, KL in nats.
    """

    case: str
    way: str
    seed: int
    made_by: str
    samples: int = 0
    steps: int = 0
    rate: float = 0.0
    at: int = 0
    before: float = 0.0
    after: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def cell(self) -> tuple[str, str, int]:
        """What it is of."""
        return self.case, self.way, self.seed

    def line(self) -> str:
        """For who watches."""
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.measures.items())
        learned = f", rate {self.rate:g}, step {self.at} of {self.steps}" if self.steps else ""
        return f"{self.case} {self.seed} {self.way}: {figures}{learned}, {self.bytes:,} bytes, {self.seconds:.0f} s"


class Means:
    """Records by case and way, over the draws."""

    def __init__(self, records: Iterable[TransferRecord]) -> None:
        self._held: dict[tuple[str, str], list[TransferRecord]] = {}
        for record in records:
            self._held.setdefault((record.case, record.way), []).append(record)
        self.cases = [name for name in TITLES if any(case == name for case, _ in self._held)]
        self.ways = [name for name in _COLUMNS if any(way == name for _, way in self._held)]

    def values(self, case: str, way: str, measure: str) -> list[float]:
        """Of every draw."""
        return [record.measures[measure] for record in self._held.get((case, way), [])]

    def of(self, case: str, way: str, measure: str) -> float:
        """Their mean."""
        return mean(self.values(case, way, measure))

    def both(self, one: str, other: str) -> list[str]:
        """The cases that have two ways."""
        return [case for case in self.cases if (case, one) in self._held and (case, other) in self._held]

    def one(self, case: str) -> TransferRecord:
        """Any record of a case that was tuned, or the first there is."""
        own = [record for (name, _), records in self._held.items() if name == case for record in records]
        return max(own, key=lambda record: record.steps)


def table(means: Means, measure: str) -> Iterator[str]:
    """A measure: a line for every start, a column for every way; the best of a line is bold."""
    digits, scale = (2, 100.0) if measure == "accuracy" else (1, 1000.0)
    yield f"| start | images, steps | {' | '.join(means.ways)} |"
    yield "|---|---:|" + "---:|" * len(means.ways)
    for case in means.cases:
        values = {way: [scale * v for v in means.values(case, way, measure)] for way in means.ways}
        there = {way: round(mean(found), digits) for way, found in values.items() if found and way != ORIGINAL}
        best = max(there.values()) if measure == "accuracy" else min(there.values())
        cells = []
        for way, found in values.items():
            spread = f" ±{stdev(found):.{digits}f}" if len(found) > 1 else ""
            text = f"{mean(found):.{digits}f}{spread}" if found else "–"
            cells.append(f"**{text}**" if there.get(way) == best else text)
        one = means.one(case)
        yield f"| {TITLES[case]} | {one.samples:,}, {one.steps} | {' | '.join(cells)} |"


def findings(means: Means) -> Iterator[str]:
    """What the records say, as a list in Markdown; only of rows that are there."""
    if means.both(LABELS_ONLY, START):
        yield f"- **Labels without the teacher, against no tuning**: {points(means, LABELS_ONLY, START)}."
    if means.both(RECIPE, START):
        yield f"- **The recipe, against no tuning**: {points(means, RECIPE, START)}."
    if means.both(RECIPE, LABELS_ONLY):
        yield (
            f"- **The recipe, against the same steps on labels alone**, the control that the paper lacks: "
            f"{points(means, RECIPE, LABELS_ONLY)}; {divergence(means, RECIPE, LABELS_ONLY)}."
        )
    if means.both(RECIPE, UNLABELLED):
        yield (
            f"- **What the labels add to soft labels and hints**: {points(means, RECIPE, UNLABELLED)}; "
            f"{divergence(means, RECIPE, UNLABELLED)}."
        )
    for way, title in ((SOFT, "Soft labels alone"), (HINTS_ONLY, "Hints alone")):
        if means.both(way, RECIPE):
            yield f"- **{title}, against the recipe**: {points(means, way, RECIPE)}."
    if means.both(PLAIN, SOFT):
        yield f"- **T = 1 against T = 5**: {points(means, PLAIN, SOFT)}; {divergence(means, PLAIN, SOFT)}."
    if means.both(LABELS_MIXED, LABELS_ONLY):
        yield (
            f"- **Mixtures of samples** give labels {points(means, LABELS_MIXED, LABELS_ONLY)}. Where there are any, "
            f"ours is to be compared with that: {points(means, OURS, LABELS_MIXED)}."
        )
    if means.both(OURS, RECIPE):
        yield (
            f"- **Ours, without a label, against the recipe**: {points(means, OURS, RECIPE)}; "
            f"{divergence(means, OURS, RECIPE)}."
        )
    yield from _decomposed(means)
    yield from _domains(means)


def points(means: Means, one: str, other: str) -> str:
    """How far the accuracies of two ways are apart."""
    cases = means.both(one, other)
    apart = [100 * (means.of(case, one, "accuracy") - means.of(case, other, "accuracy")) for case in cases]
    return f"{median(apart):+.2f} points ({min(apart):+.2f} to {max(apart):+.2f}), {_ahead(apart)}".replace("-", "−")


def divergence(means: Means, one: str, other: str) -> str:
    """The KL of a way, as a multiple of another's."""
    cases = means.both(one, other)
    ratios = [means.of(case, one, "kl") / max(means.of(case, other, "kl"), 1e-12) for case in cases]
    return f"{median(ratios):.2f} times its KL ({min(ratios):.2f} to {max(ratios):.2f})"


def _ahead(apart: Sequence[float]) -> str:
    return f"ahead in {sum(value > 0 for value in apart)} of {len(apart)} lines"


def _decomposed(means: Means) -> Iterator[str]:
    """What a start that knows the data is worth, beside learning."""
    if {"vgg-svd", "vgg-convs"} <= set(means.both(START, OURS)):
        after = {way: 100 * means.of("vgg-svd", way, "accuracy") for way in (START, RECIPE, OURS)}
        before = 100 * means.of("vgg-convs", START, "accuracy")
        yield (
            f"- **The start.** Convolutions taken apart by their weights alone go from {after[START]:.2f} % "
            f"to {after[RECIPE]:.2f} % by the recipe, and to {after[OURS]:.2f} % by ours. Taken apart by what the same "
            f"images say, at as many multiply-adds, they have {before:.2f} % before any tuning."
        )


def _domains(means: Means) -> Iterator[str]:
    """What images of the right domain are worth."""
    there = {case: name for case, name in _DOMAINS.items() if case in means.both(START, OURS)}
    if len(there) > 1:
        told = [
            f"{100 * means.of(case, START, 'accuracy'):.2f} → {100 * means.of(case, OURS, 'accuracy'):.2f} % on {name}"
            for case, name in there.items()
        ]
        yield f"- **Data of the right domain**, decomposed → tuned by ours on the same images: {', '.join(told)}."


def made(records: Iterable[TransferRecord]) -> str:
    """All that stands between the marks."""
    held = list(records)
    means = Means(held)
    versions = "; ".join(dict.fromkeys(record.made_by for record in held))
    blocks = [
        f"`python tools/lrdkt_transfer.py ASSETS --json transfer.json --docs docs`, at {versions}",
        "Accuracy on the test set, %:",
        "\n".join(table(means, "accuracy")),
        "KL of the original's classes from the student's, 10⁻³ nats:",
        "\n".join(table(means, "kl")),
        "In numbers, the middle of all lines that have both, and the least and the most:",
        "\n".join(findings(means)),
    ]
    return "\n\n".join(blocks)


def update(folder: Path, records: Iterable[TransferRecord]) -> None:
    """The page in the folder of the docs."""
    PART.update(folder, made(records))
