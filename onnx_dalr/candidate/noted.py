"""What a run of this tool notes in a model of what it did: read back, and whether it was tuned in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from onnx_dalr.factorize import PAIR, Form, parse_form
from onnx_dalr.graph.storage.model import metadata, set_metadata

_NOT_TUNED, _TUNED = '"tuned":0', '"tuned":1'


@dataclass(frozen=True)
class Noted:
    """The metadata entry `onnx_dalr` of a model.

    Attributes:
        version: Of onnx-dalr.
        method: Of the factorization.
        calibration: Fingerprint of the samples.
        forms: Of the layers that changed, by name.
        original_bytes: Size of the model it was made of; None in models of earlier versions.
        tuned: Whether it learned from that model afterwards.
        again: That model had been made by this tool too.
    """

    version: str
    method: str
    calibration: str
    forms: Mapping[str, Form]
    original_bytes: int | None
    tuned: bool | None
    again: bool


def read_note(text: str | None) -> Noted | None:
    """What `candidate.note` wrote; None where there is nothing, or not what it writes."""
    try:
        facts = json.loads(text or "")
        forms = {str(name): _form(noted) for name, noted in facts["ranks"].items()}
        tuned = facts.get("tuned")
        return Noted(
            version=_text(facts["version"]),
            method=_text(facts["method"]),
            calibration=_text(facts.get("calibration", "")),
            forms=forms,
            original_bytes=_count(facts.get("of")),
            tuned=None if tuned is None else bool(tuned),
            again="before" in facts,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def note_that_it_learned(proto: ModelProto) -> None:
    """Notes in a model that it was tuned; the note stays as long as it is, so that the model takes no more room."""
    text = metadata(proto)
    if text is not None and read_note(text) is not None:
        set_metadata(proto, text.replace(_NOT_TUNED, _TUNED, 1))


def _form(noted: Any) -> Form:
    """A pair is noted by its rank alone."""
    return Form(PAIR, (noted,)) if type(noted) is int and noted > 0 else parse_form(_text(noted))


def _text(noted: Any) -> str:
    if not isinstance(noted, str):
        raise TypeError(noted)
    return noted


def _count(noted: Any) -> int | None:
    return noted if type(noted) is int and noted > 0 else None
