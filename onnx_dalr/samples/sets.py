"""The samples opened and divided: what is fitted on, chosen on and reported on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.samples import (
    CLASS_FOLDERS,
    Batch,
    ImageSettings,
    InputSpec,
    Mask,
    Samples,
    Split,
    digest,
    find_mask,
    match_classes,
    near_class,
    open_samples,
    split,
)
from onnx_dalr.samples.options import DEFAULT_BATCH, SampleOptions

_LOOKED_AT = 64  # samples that tell a mask by its values


@dataclass(frozen=True)
class SampleSets:
    """The samples and what each served.

    Attributes:
        description: What was read.
        settings: Preprocessing that was applied.
        seed: Of the split.
        holdout: Fraction outside fit.
        fit: Ids of the samples the statistics are of.
        select: Ids of those decisions were made on.
        report: Ids of those the quality figures are of.
        report_description: What they were read from, where it is a source of its own.
        select_is_report: They are one set.
        proof: Ids of those that chose nothing and taught nothing, and decided whether tuning is kept.
        fingerprint: Hash of the content of the fit samples.
    """

    description: str
    settings: dict[str, str]
    seed: int
    holdout: float
    fit: tuple[str, ...]
    select: tuple[str, ...]
    report: tuple[str, ...]
    report_description: str | None
    select_is_report: bool
    fingerprint: str
    proof: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Some samples of a source, in batches.

    Attributes:
        source: Where they are read from.
        indices: Which of its samples, ascending.
        batch_size: Joined at most.
        positions: Of a mask, where they are as many in all samples. Not as many samples are joined, for a tensor of
            [samples, positions] could not be told from one of [positions, samples].
    """

    source: Samples
    indices: NDArray[np.int64]
    batch_size: int
    positions: int | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[list[int], Batch]]:
        return self.source.batches(self.indices, self.joined)

    @property
    def joined(self) -> int:
        """How many samples are joined where they can be."""
        sizes = range(self.batch_size, 0, -1)
        fits = (size for size in sizes if self.positions not in (min(size, len(self)), len(self) % size))
        return next(fits, self.batch_size)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the samples."""
        return tuple(self.source.ids[i] for i in self.indices)

    @property
    def classes(self) -> int:
        """Number of classes the source comes in; 0 where unknown."""
        if self.source.classes:
            return len(self.source.classes)
        return int(self.source.labels.max()) + 1 if self.source.labels is not None else 0

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """By sample index of the source: int64 [n] its class, or [n, …] those of its tokens or pixels; −100 for none.

        None where the source has none, or all samples are of one folder's class.
        """
        return None if len(self.source.classes) == 1 else self.source.labels

    @property
    def labels_from(self) -> str | None:
        """What gave the labels, for messages: "class folders", "--labels"; None without labels."""
        return None if self.labels is None else self.source.labels_from

    def spread(self, count: int) -> SampleSet:
        """At most `count` of the samples, spread evenly."""
        chosen = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return replace(self, indices=self.indices[np.unique(chosen)])

    def size_of(self, batch: Batch) -> int:
        """How many samples a feed of the source holds."""
        rows = () if self.source.complete else (len(v) for k, v in batch.items() if k not in self.source.repeated)
        return next(iter(rows), 1)

    def one(self) -> tuple[int, Batch]:
        """(samples, feed) of the smallest batch the model takes: what latency is measured on."""
        indices, batch = next(iter(self.source.batches(self.indices, 1)))
        return len(indices), batch


@dataclass(frozen=True, eq=False)
class Sets:
    """The three sets, divided by seed; the report samples may have a source of their own.

    Attributes:
        fit: Statistics are computed on these.
        select: Forms and factors are chosen on these.
        report: Every quality figure that is printed comes from these.
        split: Which samples of --calib they are.
        options: What was asked for.
        mask: The input that marks padding, None without one.
        notes: What a user should know of how the samples were read, before the work.
        proof: They prove what tuning gains, and choose and teach nothing; None where nothing is tuned.
    """

    fit: SampleSet
    select: SampleSet
    report: SampleSet
    split: Split
    options: SampleOptions
    mask: Mask | None
    notes: tuple[str, ...] = ()
    proof: SampleSet | None = None

    @property
    def given(self) -> int:
        """Samples of --calib that are used, those of the report among them where it has no source of its own."""
        apart = self.report.source is self.fit.source and not self.split.select_is_report
        proof = 0 if self.proof is None else len(self.proof)
        return len(self.fit) + proof + len(self.select) + (len(self.report) if apart else 0)

    @property
    def teaching(self) -> list[SampleSet]:
        """All samples but those of the report."""
        sets = [self.fit, *([self.proof] if self.proof is not None else [])]
        return sets if self.split.select_is_report else [*sets, self.select]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class folders that number the labels, by label; empty where no set has its labels from folders."""
        numbered = (samples for samples in (self.fit, self.report) if samples.labels_from == CLASS_FOLDERS)
        return next((tuple(samples.source.classes) for samples in numbered), ())

    def relabelled(self, order: NDArray[np.int64]) -> Sets:
        """Sets whose class folders are numbered in another order, in all of them at once.

        Labels that come from elsewhere (--labels) stay what they are.

        Args:
            order: int64 [classes]: the new label of each of `class_names`; see `class_orders`.
        """
        made: dict[int, Samples] = {}

        def moved(samples: SampleSet) -> SampleSet:
            if samples.labels_from != CLASS_FOLDERS:
                return samples
            source = samples.source
            return replace(samples, source=made.setdefault(id(source), source.relabelled(order)))

        return self._each(moved)

    def without_labels(self) -> Sets:
        """Sets without labels, which do not fit the model."""
        made: dict[int, Samples] = {}

        def bare(samples: SampleSet) -> SampleSet:
            source = samples.source
            return replace(samples, source=made.setdefault(id(source), source.with_labels(None)))

        return self._each(bare)

    def _each(self, changed: Callable[[SampleSet], SampleSet]) -> Sets:
        proof = None if self.proof is None else changed(self.proof)
        made = replace(self, fit=changed(self.fit), select=changed(self.select), report=changed(self.report))
        return replace(made, proof=proof)

    @property
    def mask_input(self) -> str | None:
        """Name of the input that marks padding, None without one."""
        return self.mask.name if self.mask is not None else None

    def one_by_one(self) -> Sets:
        """Sets in whose batches no two samples are joined."""
        return self._each(lambda samples: replace(samples, batch_size=1))

    @property
    def only_report(self) -> bool:
        """There are no samples to learn from or to choose on: statistics take their place."""
        return self.options.calib is None

    def facts(self, fingerprint: str) -> SampleSets:
        """What the report says of them."""
        own_report = self.report.source is not self.fit.source
        return SampleSets(
            description=self.fit.source.description,
            settings=dict(self.fit.source.settings),
            seed=self.options.seed,
            holdout=self.options.holdout,
            fit=self.fit.ids,
            select=self.select.ids,
            report=self.report.ids,
            report_description=self.report.source.description if own_report else None,
            select_is_report=self.split.select_is_report,
            fingerprint=fingerprint,
            proof=() if self.proof is None else self.proof.ids,
        )


@contextmanager
def opened(options: SampleOptions, specs: Sequence[InputSpec]) -> Iterator[Sets]:
    """Opens the sample sources of a model and divides them; closes them at the end.

    Without `calib`, all samples of `eval` are reported on, and the other sets are empty.

    Raises:
        InputError: Whatever is wrong with the samples.
    """
    with ExitStack() as stack:
        alone = options.calib is None
        given, labels = (options.eval, options.eval_labels) if alone else (options.calib, options.labels)
        option = "--eval-labels" if alone else "--labels"
        samples = stack.enter_context(
            open_samples(given, specs, image=options.image, labels=labels, labels_option=option)
        )
        separate = options.eval is not None and not alone
        parts = (
            _all_reported(len(samples))
            if alone
            else split(
                len(samples),
                labels=samples.labels,
                complete=samples.complete,
                holdout=options.holdout,
                seed=options.seed,
                limit=options.samples,
                separate_report=separate,
            )
        )
        reported, report_indices, notes = samples, parts.report, [*samples.notes]
        if separate:
            reported = stack.enter_context(_open_eval(options, specs, images=bool(samples.settings)))
            notes += [f"--eval: {note}" for note in reported.notes]
            reported, labelling = _one_numbering(samples, reported)
            notes += labelling
            report_indices = np.arange(len(reported), dtype=np.int64)
        size = options.batch_size or DEFAULT_BATCH
        fit = SampleSet(samples, parts.fit, size)
        report = SampleSet(reported, report_indices, size)
        mask = _mask(options.mask_input, specs, report if alone else fit)
        length = mask.length if mask is not None else None
        yield Sets(
            fit=replace(fit, positions=length),
            select=SampleSet(samples, parts.select, size, length),
            report=replace(report, positions=_mask_length(mask, specs, report) if separate else length),
            split=parts,
            options=options,
            notes=tuple(notes),
            mask=mask,
        )


def _open_eval(options: SampleOptions, specs: Sequence[InputSpec], *, images: bool) -> Samples:
    """The report samples of their own; the image options are for them too where both are folders of images."""
    given, image = options.eval, ImageSettings()
    if images and isinstance(given, str | os.PathLike) and Path(given).is_dir():
        image = options.image
    return open_samples(given, specs, image=image, labels=options.eval_labels, labels_option="--eval-labels")


def _one_numbering(samples: Samples, reported: Samples) -> tuple[Samples, list[str]]:
    """The report samples with their classes numbered as those of --calib, and what a user should know of that.

    Raises:
        InputError: Class folders that do not go together.
    """
    notes = []
    known, own = samples.classes, reported.classes
    if len(own) == 1 and own[0] not in known and not (near_class(own[0], known) and len(known) > 1):
        # All in one folder are in none: `val/images/` is a folder of images without classes.
        if len(known) > 1:
            notes.append(f"all images of --eval lie in the folder '{own[0]}', which is no class of --calib: no labels")
        reported = reported.with_labels(None)
    elif own and len(known) > 1:
        assert reported.labels is not None
        reported = reported.with_labels(match_classes(reported.labels, own, known), known)
    given, theirs = (None if len(each.classes) == 1 else each.labels_from for each in (samples, reported))
    if given and theirs is None and not notes:
        notes.append(f"--calib has labels ({given}) and --eval has none: they can score choices, not the report")
    elif theirs and given is None:
        notes.append(f"--eval has labels ({theirs}) and --calib has none: they can score the report, not choices")
    elif CLASS_FOLDERS in (given, theirs) and given != theirs:
        notes.append(
            f"--calib has its labels from {given} and --eval from {theirs}: the numbers are taken to mean the same"
        )
    return reported, notes


def _all_reported(count: int) -> Split:
    nothing, everything = np.zeros(0, np.int64), np.arange(count, dtype=np.int64)
    return Split(nothing, nothing, everything, select_is_report=False)


def watched(samples: SampleSet, seen: list[str]) -> Iterator[tuple[list[int], Batch]]:
    """The batches of a set; every sample's digest goes to `seen`, whatever it was batched with."""
    source = samples.source
    for indices, batch in samples:
        for row in range(len(indices)):
            whole = source.complete
            seen.append(digest({k: v if whole or k in source.repeated else v[row : row + 1] for k, v in batch.items()}))
        yield indices, batch


def fed(samples: SampleSet, advance: Callable[[int], None], seen: list[str]) -> Iterator[Batch]:
    """The feeds of a set, watched."""
    for indices, batch in watched(samples, seen):
        yield batch
        advance(len(indices))


def fingerprint(digests: Collection[str]) -> str:
    """One hash of a set of samples, whatever their order."""
    return hashlib.blake2b("".join(sorted(digests)).encode(), digest_size=8).hexdigest()


def _mask(asked: str | None, specs: Sequence[InputSpec], samples: SampleSet) -> Mask | None:
    kinds = {spec.name: spec.dtype.kind for spec in specs}
    if asked is not None and asked not in kinds:
        raise InputError(f"--mask-input {asked!r} is no input of the model", f"its inputs: {', '.join(kinds)}")
    if asked is not None and kinds[asked] not in "biuf":
        raise InputError(f"--mask-input {asked!r} holds no numbers", "0 and 1, or what is added to attention scores")
    return find_mask(specs, _few(samples), asked)


def _mask_length(mask: Mask | None, specs: Sequence[InputSpec], samples: SampleSet) -> int | None:
    found = None if mask is None else find_mask(specs, _few(samples), mask.name)
    return None if found is None else found.length


def _few(samples: SampleSet) -> Iterator[Batch]:
    return (samples.source.read(int(index)) for index in samples.spread(_LOOKED_AT).indices)
