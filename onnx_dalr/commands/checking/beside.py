"""The model to compare with: a file, or of a folder the one of the same path or name."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.budgets.asked import Asked
from onnx_dalr.request.budgets.budget import Budget


def beside(model: Path, given: Path, budget: Budget) -> Path | None:
    """The baseline or reference of a model, None where a folder of them holds none for it."""
    if not given.is_dir():
        return given
    folder = budget.source.folder
    try:
        place = model.resolve().relative_to(folder.resolve())
    except ValueError:  # it lies elsewhere
        place = Path(model.name)
    return next((path for path in (given / place, given / model.name) if path.is_file()), None)


def check_there(asked: Asked) -> None:
    """Refuses what is not there before any model is read.

    Raises:
        InputError: A baseline or reference is missing, or a folder of them holds none for any of the models.
    """
    budget = asked.budget
    for name, given in (("baseline", budget.baseline), ("reference", budget.reference)):
        if given is None or (name == "reference" and given == budget.baseline):
            continue
        if not given.exists():
            what = f"no such model: {given}" if budget.source.file is None else f"{name} {given} is not there"
            raise budget.source.error(what, "give the path of an .onnx file, or a folder of them", at=name)
        if given.is_dir() and not any(beside(model, given, budget) for model in asked.models):
            raise budget.source.error(
                f"{name} {given} holds no model for {asked.models[0]}",
                "it is found by its path from the config, or by its name",
                at=name,
            )
