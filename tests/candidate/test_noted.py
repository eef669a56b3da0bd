"""The note in a model is read back, whoever wrote something else in its place."""

from __future__ import annotations

import json

import pytest
from onnx import ModelProto

from onnx_dalr.candidate.noted import note_that_it_learned, read_note
from onnx_dalr.factorize import Form
from onnx_dalr.graph.storage.model import metadata, set_metadata

NOTE = {
    "version": "0.1",
    "method": "dalr",
    "calibration": "05b7",
    "of": 2000,
    "tuned": 0,
    "ranks": {"fc": 8, "conv": "tucker 4x6 int8", "table": "dense int4/32"},
}


def test_what_was_written_is_read() -> None:
    found = read_note(json.dumps(NOTE))
    assert found is not None
    assert (found.version, found.method, found.calibration) == ("0.1", "dalr", "05b7")
    assert found.forms == {
        "fc": Form("pair", (8,)),
        "conv": Form("tucker", (4, 6), "int8"),
        "table": Form("dense", (), "int4/32"),
    }
    assert (found.original_bytes, found.tuned, found.again) == (2000, False, False)


def test_notes_of_earlier_versions_say_less() -> None:
    found = read_note('{"version":"0.1","method":"svd","ranks":{},"before":"{}"}')
    assert found is not None
    assert (found.calibration, found.original_bytes, found.tuned, found.again) == ("", None, None, True)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "[]",
        "1",
        '{"version":"0"}',
        '{"version":1,"method":"m","ranks":{}}',
        '{"version":"0","method":"m","ranks":[1]}',
        '{"version":"0","method":"m","ranks":{"a":0}}',
        '{"version":"0","method":"m","ranks":{"a":true}}',
        '{"version":"0","method":"m","ranks":{"a":"[bold]"}}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_no_note(text: str | None) -> None:
    assert read_note(text) is None


def test_that_it_learned_makes_the_note_no_longer() -> None:
    proto = ModelProto()
    note_that_it_learned(proto)
    assert metadata(proto) is None
    text = json.dumps(NOTE, separators=(",", ":"))
    set_metadata(proto, text)
    note_that_it_learned(proto)
    found = metadata(proto)
    assert found is not None
    assert len(found) == len(text)
    assert json.loads(found) == NOTE | {"tuned": 1}
