"""How arrays line up with a model's inputs: by name, by rank, axis by axis (the contract "Arrays")."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import InputSpec

_LABEL_NAMES = frozenset({"y", "label", "labels", "target", "targets", "class", "classes"})
_TWO_WAYS = (
    "give every array the rank of its input, with the samples on axis 0, or every array one axis more, with one "
    "complete feed per entry"
)


def listing(specs: Sequence[InputSpec]) -> str:
    """The model's inputs for a message."""
    return ", ".join(map(str, specs))


def check_names(names: Iterable[str], specs: Sequence[InputSpec], where: str) -> None:
    """Checks that the names are exactly the model's inputs.

    Raises:
        InputError: A name that is no input, or an input without its name.
    """
    names = list(names)
    inputs = [spec.name for spec in specs]
    unknown = [name for name in names if name not in inputs]
    if unknown:
        raise _no_input(unknown[0], specs, where)
    missing = [spec for spec in specs if spec.name not in names]
    if missing:
        raise _nothing_for(missing[0], names, where)


def spare_names(names: Iterable[str], specs: Sequence[InputSpec], where: str) -> list[str]:
    """The names beside the model's inputs, all of which have to be there.

    For what programs make: tokenizers give more than a model takes, and a name that was mistyped leaves an input out.

    Raises:
        InputError: An input without its name.
    """
    names = list(names)
    inputs = [spec.name for spec in specs]
    spare = [name for name in names if name not in inputs]
    missing = [spec for spec in specs if spec.name not in names]
    if missing:
        near = [name for name in spare if _near(missing[0].name, [str(name)])]
        if near or len(spare) == len(names) > 0:
            raise _no_input((near or spare)[0], specs, where)
        raise _nothing_for(missing[0], names, where)
    return spare


def ignored_note(names: Iterable[str]) -> str:
    """Says that keys of dicts are passed over."""
    listed = ", ".join(f"'{name}'" for name in names)
    labels = "; labels are given as labels=" if any(str(name).lower() in _LABEL_NAMES for name in names) else ""
    return f"keys that are no input of the model are passed over: {listed}{labels}"


def _no_input(name: str, specs: Sequence[InputSpec], where: str) -> InputError:
    hint = f"the model's inputs are {listing(specs)}"
    near = _near(str(name), [spec.name for spec in specs])
    if near:
        hint = f"did you mean '{near[0]}'? {hint}"
    if str(name).lower() in _LABEL_NAMES:
        hint += "; labels go into a file of their own: --labels FILE"
    return InputError(f"{where}: '{name}' is not an input of the model", hint)


def _nothing_for(spec: InputSpec, names: Sequence[str], where: str) -> InputError:
    return InputError(f"{where}: nothing for the model's input {spec}", f"it holds {', '.join(map(str, names)) or '-'}")


def _near(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=1)


def excess_axes(
    shapes: Mapping[str, Sequence[tuple[int, ...]]], specs: Sequence[InputSpec], where: str, hint: str = _TWO_WAYS
) -> tuple[int | None, frozenset[str]]:
    """How many axes the arrays have more than their inputs, and which arrays are exempt from the count.

    Exempt are arrays that exactly have the fully fixed shape of their input, wherever they occur: they are
    repeated with every sample.

    Args:
        shapes: Input name → shapes of the arrays given for it (one per file).
        specs: The model's inputs.
        where: Where the arrays come from.
        hint: How arrays may lie.

    Returns:
        (axes more than the input, names of the exempt). None instead of a number when every array is exempt or of
        an input without a declared rank.

    Raises:
        InputError: The arrays differ in it.
    """
    exact = frozenset(spec.name for spec in specs if all(shape == spec.fixed for shape in shapes[spec.name]))
    found: dict[int, str] = {}
    for spec in specs:
        if spec.shape is None or spec.name in exact:
            continue
        for shape in shapes[spec.name]:
            found.setdefault(len(shape) - len(spec.shape), f"{as_text(shape)} for {spec}")
    if len(found) > 1:
        raise InputError(f"{where}: the arrays do not agree in form: {' but '.join(found.values())}", hint)
    return next(iter(found), None), exact


def check_axes(shape: tuple[int, ...], spec: InputSpec, where: str, skip: int = 0) -> None:
    """Checks one sample or feed against the axes that the model fixes.

    Args:
        shape: Shape to check, with the axes of the input.
        spec: The input.
        where: Where the array comes from.
        skip: Leading axes that are not looked at (1 for rows: axis 0 counts samples).

    Raises:
        InputError: Another rank, or another length on a fixed axis.
    """
    if spec.shape is None:
        return
    axes = list(zip(shape, spec.shape, strict=False))[skip:]
    if len(shape) != len(spec.shape) or any(fixed not in (None, length) for length, fixed in axes):
        what = "rows" if skip else "feeds"
        inner = as_text(shape[skip:])
        raise InputError(
            f"{where}: {what} of shape {inner} do not fit the model's input {spec}",
            "give arrays of the shape the model declares" if skip and len(shape) == len(spec.shape) else _TWO_WAYS,
        )


def check_batch_axis(specs: Sequence[InputSpec], repeated: frozenset[str], where: str) -> None:
    """Checks that axis 0 can count samples: free, or fixed at the same number in all inputs that have rows.

    Raises:
        InputError: Some inputs fix axis 0 at a number that others do not share, so it does not count samples there.
    """
    batched = [spec for spec in specs if spec.shape and spec.name not in repeated]
    lengths = {spec.shape[0] for spec in batched if spec.shape}
    # Axis 0 of length 1 goes with anything when samples are run one by one.
    if len(lengths) > 1 and lengths != {1, None}:
        raise InputError(
            f"{where}: axis 0 cannot count samples in all inputs of this model: {listing(batched)}",
            "give complete feeds: every array with one axis more than its input",
        )


def as_text(shape: tuple[int, ...]) -> str:
    """A shape as the messages write it: [2, 3]."""
    return f"[{', '.join(map(str, shape))}]"
