"""What `--stats` stands for: sets of statistics held against a run, and added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import combinations
from operator import add, and_
from pathlib import Path

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Method, Need, Statistics
from onnx_dalr.factorize.statistics import SPARED
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.lazy_layers import LazyLayers, StatisticsFacts
from onnx_dalr.learn.statistics_set import METRIC_TASK, StatisticsSet, load_statistics
from onnx_dalr.units import format_names

_AGAIN = "write it again with --save-stats"


def gathered(
    paths: Iterable[Path],
    *,
    model: str,
    method: Method,
    settings: Mapping[str, str],
    layers: Sequence[Layer],
    needs: Callable[[Layer], Need] | None = None,
) -> tuple[StatisticsSet, tuple[str, ...]]:
    """What `--stats` stands for: the files opened, checked, added up, and cut down to what the run reads.

    Args:
        paths: Of the files, at least one.
        model: Content hash of the run's model.
        method: Of the run.
        settings: Of the run.
        layers: Of the run.
        needs: Layer → the sums the run reads, with METRIC where it weighs by gradients; those of the method where
            left out.

    Returns:
        As `merged`; every layer of the run that can be taken apart is in it, with exactly the sums the run itself would
        have kept: a layer whose metric one of the files lacks has none.

    Raises:
        InputError: As `load_statistics`, `check_fits` and `merged`.
    """
    check = partial(check_fits, model=model, method=method, settings=settings, layers=layers, needs=needs)
    parts = [(str(path), load_statistics(path)) for path in paths]
    for name, part in parts:
        check(part, name, complete=False)
    total, notes = merged(parts)
    check(total, " + ".join(name for name, _ in parts))
    read = needs or (lambda layer: method.needs(layer.m, layer.n))
    wanted = {layer.name: read(layer) for layer in layers}
    return total.restricted(wanted), (*notes, *_lost_metrics(parts, wanted))


def _lost_metrics(parts: Sequence[tuple[str, StatisticsSet]], wanted: Mapping[str, Need]) -> Iterator[str]:
    """What is to be said of layers of which some of the parts keep a metric, and others do not."""
    held = {
        name: {path: Need.METRIC in part.facts(name).needs for path, part in parts if name in part.layers}
        for name, needs in wanted.items()
        if Need.METRIC in needs
    }
    for path, _ in parts:
        lost = [name for name, kept in held.items() if any(kept.values()) and not kept.get(path, True)]
        if lost:
            yield f"no output metric for {format_names(list(map(repr, lost)))}: {path} keeps none"


def check_fits(
    stats: StatisticsSet,
    path: str,
    *,
    model: str,
    method: Method,
    settings: Mapping[str, str],
    layers: Sequence[Layer],
    needs: Callable[[Layer], Need] | None = None,
    complete: bool = True,
) -> None:
    """Checks that a run may use a set as if it had captured it itself; layers the run does not name may be in it.

    METRIC is never missing: a layer whose gradients found no room, no path or no finite value goes without a metric in
    the run that captures it, and so it does in those that read what was kept. BLOCKS are not kept where no numbers were
    to be rounded, and layers in one piece may be missing: they are rounded to nearest then.

    Args:
        stats: The set.
        path: What to call it.
        model: Content hash of the run's model.
        method: Of the run.
        settings: Of the run, as in StatisticsSet.
        layers: Of the run.
        needs: Layer → the sums the run reads; those of the method where left out.
        complete: Every layer must be in it; of one shard of several, some may be missing.

    Raises:
        InputError: It does not fit, and why.
    """
    if stats.model != model:
        raise InputError(
            f"{path} belongs to another model: it is of {stats.model[:8]}, this is {model[:8]}",
            "give the model it was made from, or calibrate this one",
        )
    _check_settings(path, stats.settings, "this run", settings)
    for layer in layers:
        if layer.name not in stats.layers:
            if complete and not layer.in_one_piece:
                hint = f"--exclude {layer.name!r}, or calibrate again with it and with samples that reach it"
                raise InputError(f"{path} knows nothing of layer {layer.name!r}", hint)
            continue
        known = stats.facts(layer.name)
        seen = layer.sees
        if (known.m, known.n) != (seen.m, seen.n):
            raise InputError(
                f"{path} has layer {layer.name!r} as {known.m}x{known.n}, the model as {seen.m}x{seen.n}", _AGAIN
            )
        wanted = method.needs(layer.m, layer.n) if needs is None else needs(layer)
        missing = [need.name.lower() for need in wanted & ~known.needs & ~SPARED if need.name]
        if missing:
            raise InputError(
                f"{path} was made for --method {stats.method} and keeps no {' and '.join(missing)} sums of layer "
                f"{layer.name!r}, which --method {method.name} reads here",
                f"calibrate again with --method {method.name}",
            )


def merged(parts: Sequence[tuple[str, StatisticsSet]]) -> tuple[StatisticsSet, tuple[str, ...]]:
    """The sum of several sets of one model; nothing is read until a layer of the sum is asked for.

    Where parts keep different sums of a layer, the sum keeps what all of them have.

    Args:
        parts: (what to call it, set), at least one.

    Returns:
        The sum, whose notes are those of the parts, and what is to be said about the merge.

    Raises:
        InputError: Two hold the same samples, or are of different models, settings or layer shapes.
    """
    notes = tuple(note for one, other in combinations(parts, 2) for note in _compared(*one, *other))
    first = parts[0][1]
    sets = [part for _, part in parts]
    names = dict.fromkeys(name for part in sets for name in part.layers)
    holders = {name: [part for part in sets if name in part.layers] for name in names}
    facts = {name: _sum_of_facts([part.facts(name) for part in held]) for name, held in holders.items()}

    def make(name: str) -> Statistics:
        return reduce(add, (part.layers[name].restricted(facts[name].needs) for part in holders[name]))

    total = StatisticsSet(
        model=first.model,
        method="+".join(dict.fromkeys(part.method for part in sets)),
        settings=first.settings,
        version=__version__ if len(sets) > 1 else first.version,
        samples=frozenset().union(*(part.samples for part in sets)),
        layers=LazyLayers(facts, make),
        notes=tuple(dict.fromkeys(note for part in sets for note in part.notes)),
    )
    return total, notes


def _sum_of_facts(facts: Sequence[StatisticsFacts]) -> StatisticsFacts:
    return replace(facts[0], needs=reduce(and_, (fact.needs for fact in facts)), rows=sum(fact.rows for fact in facts))


def _compared(one: str, mine: StatisticsSet, other: str, theirs: StatisticsSet) -> Iterator[str]:
    """What is to be said of two parts of a sum.

    Raises:
        InputError: They do not belong into one.
    """
    if mine.model != theirs.model:
        raise InputError(
            f"{one} and {other} are of different models: {mine.model[:8]} and {theirs.model[:8]}",
            "only statistics of one model add up",
        )
    _check_settings(one, mine.settings, other, theirs.settings)
    both = mine.layers.keys() & theirs.layers.keys()
    for name in sorted(both):
        a, b = mine.facts(name), theirs.facts(name)
        if (a.m, a.n) != (b.m, b.n):
            raise InputError(f"layer {name!r} is {a.m}x{a.n} in {one} and {b.m}x{b.n} in {other}", _AGAIN)
    twice = len(mine.samples & theirs.samples) if both else 0
    if twice and mine.samples == theirs.samples:
        raise InputError(f"{one} and {other} hold the same samples", "give each file once")
    if twice:
        yield (
            f"{twice} samples are in both {one} and {other}: they count twice"
            if twice > 1
            else f"1 sample is in both {one} and {other}: it counts twice"
        )


def _check_settings(one: str, settings: Mapping[str, str], other: str, others: Mapping[str, str]) -> None:
    for name in sorted({*settings, *others}):
        mine, theirs = settings.get(name), others.get(name)
        if mine != theirs:
            alike = "say what the outputs are in both runs, with --task or --output"
            raise InputError(
                f"{one} has {_value(name, mine)}, {other} has {_value(name, theirs)}",
                alike if name == METRIC_TASK else "calibrate both in the same way",
            )


def _value(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name} {value}"
