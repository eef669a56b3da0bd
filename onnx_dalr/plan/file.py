"""Plans as JSON files: reviewed, edited, committed and applied later, like a migration. docs/plan.md describes them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import DENSE, PAIR, UNTOUCHED, Form, parse_form
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.joined import JOINED
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.plan.choice import Choice, Point
from onnx_dalr.plan.course import Course
from onnx_dalr.request.target import KEEP

SCHEMA = 3
"""Counts up with every change after which an older onnx-dalr would misread a plan; older ones are read."""

_OLDER = (1, 2)
"""Schemas that are read too: in the first, a form was a rank; in the second nothing was tuned."""

_POINT = ("allocation", "params", "bytes", "drop", "error", "distortion", "chosen")


_FORM = '"pair 64" is two thin matrices of rank 64, "dense" leaves the layer as it is'


def to_json(parts: Mapping[str, Any]) -> str:
    """The JSON text of a plan, from what it is made of: the arguments of `Plan` by name."""
    facts = {
        "schema": SCHEMA,
        "version": parts["version"] or __version__,
        "model": parts["model"],
        "target": parts["target"],
        "method": parts["method"],
        "factors": parts["factors"],
        "settings": parts["settings"],
        "evaluations": parts["evaluations"],
        "passes": parts["passes"],
        "layers": [_choice(choice) for choice in parts["choices"]],
        "tuning": None if parts["tuning"] is None else asdict(parts["tuning"]),
        "curve": [{name: _number(getattr(point, name)) for name in _POINT} for point in parts["curve"]],
    }
    return json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "layer": choice.layer,
        "form": str(choice.form),
        "largest_rank": choice.largest_rank,
        "expected_error": _number(choice.expected_error),
        "expected_distortion": _number(choice.expected_distortion),
        "reason": choice.reason,
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a plan file: the arguments of `Plan` by name.

    Raises:
        InputError: It is none; the message names the field that is wrong.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a mark at the beginning
    except FileNotFoundError as error:
        raise InputError(
            f"no such plan: {file}", "make one: onnx-dalr analyze IN.onnx --calib PATH -o plan.json"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"cannot read {file}: {reason}", "a plan is a JSON file") from error
    return from_json(text, str(file))


def from_json(text: str, name: str = "the plan") -> dict[str, Any]:
    """What the plan of a JSON text is made of: the arguments of `Plan` by name. `name` is what messages call it.

    Raises:
        InputError: It is no plan; the message names the field that is wrong.
    """
    try:
        facts = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not JSON: {error}", "check the last edit; every entry but the last ends with a comma"
        ) from error
    _check(facts, name)
    layers = facts["layers"]
    for position, entry in enumerate(layers):
        _check_form(entry, f"{name}: layers[{position}].form")
        if any(entry["layer"] == other["layer"] for other in layers[:position]):
            raise InputError(
                f"{name}: layers[{position}].layer {entry['layer']!r} is there twice", "keep one of the two"
            )
    return {
        "method": facts["method"],
        "choices": tuple(_from_entry(entry) for entry in layers),
        "evaluations": int(facts.get("evaluations", 0)),
        "passes": int(facts.get("passes", 0)),
        "curve": tuple(_point(entry) for entry in facts.get("curve", ())),
        "target": facts.get("target", ""),
        "factors": facts.get("factors", "default"),
        "settings": dict(facts.get("settings", {})),
        "model": facts["model"],
        "version": facts.get("version", ""),
        "tuning": _course(facts.get("tuning")),
    }


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of whose keys Python would take the last and say nothing."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"{key!r} is there twice in one object")
        made[key] = value
    return made


def _check(facts: Any, name: str) -> None:
    """Holds the facts against the schema file; the first field that is wrong is named."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - loaded when it is needed
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    schema_number = facts.get("schema") if isinstance(facts, dict) else None
    if isinstance(schema_number, int) and schema_number > SCHEMA:
        raise InputError(
            f"{name}: schema {schema_number} is newer than this onnx-dalr reads ({SCHEMA})", "update onnx-dalr"
        )
    older = [number for number in _OLDER if schema_number == number and schema_number is not True]  # 1.0 is 1 too
    of = f"plan.schema.{older[0]}.json" if older else "plan.schema.json"
    schema = json.loads(files("onnx_dalr.plan").joinpath(of).read_text(encoding="utf-8"))
    error = best_match(Draft202012Validator(schema).iter_errors(facts))
    if error is None:
        return
    where = error.json_path.removeprefix("$").removeprefix(".")
    wanted = error.schema.get("description") if isinstance(error.schema, dict) else None
    raise InputError(
        f"{name}: {f'{where}: ' if where else ''}{error.message}", wanted or "docs/plan.md describes a plan"
    )


def _from_entry(entry: dict[str, Any]) -> Choice:
    largest = entry.get("largest_rank")
    return Choice(
        entry["layer"],
        _form(entry),
        entry.get("reason", "as the plan says"),
        entry.get("expected_error"),
        entry.get("expected_distortion"),
        None if largest is None else int(largest),
    )


def _form(entry: dict[str, Any]) -> Form:
    if "form" in entry:
        return parse_form(entry["form"])
    return UNTOUCHED if entry["rank"] == KEEP else Form(PAIR, (int(entry["rank"]),))  # 8.0 is a whole number too


def _check_form(entry: dict[str, Any], where: str) -> None:
    """Refuses a form that this onnx-dalr does not know."""
    try:
        form = _form(entry)
    except ValueError as error:
        raise InputError(f"{where}: {error}", _FORM) from error
    for what, name, known in (
        ("structure", form.structure, (DENSE, *STRUCTURES, *JOINED)),
        ("format", form.format, FORMATS),
    ):
        if name not in known:
            raise InputError(f"{where}: {str(form)!r} has an unknown {what}, {name!r}", f"known: {', '.join(known)}")
    if form.structure in JOINED:
        if not JOINED[form.structure].fits(form):
            raise InputError(f"{where}: {str(form)!r} is no form of {form.structure!r}", _FORM)
        return
    wanted = 0 if form.structure == DENSE else len(STRUCTURES[form.structure].smallest)
    if len(form.rank) != wanted:
        raise InputError(f"{where}: {str(form)!r} has {len(form.rank)} ranks, not {wanted}", _FORM)


def _course(entry: dict[str, Any] | None) -> Course | None:
    if entry is None:
        return None
    lists = {name: tuple(entry[name]) for name in ("hints", "layerwise") if name in entry}
    counts = {name: int(entry[name]) for name in ("steps", "seed", "batch") if name in entry}
    known: dict[str, Any] = entry | lists | counts
    return Course(**known)


def _point(entry: dict[str, Any]) -> Point:
    known: dict[str, Any] = {name: math.inf if entry[name] is None else entry[name] for name in _POINT}
    return Point(**known | {name: int(known[name]) for name in ("params", "bytes")})
