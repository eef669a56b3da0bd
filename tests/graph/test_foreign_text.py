"""Texts that are not UTF-8, as older exporters wrote them: what nobody reads survives, what is a name is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import METADATA_KEY, load, metadata
from tests.cli import tiny

PLACE, LATIN_1 = "XXXXX", "Müllé".encode("latin-1")


def entry(entries: object, key: str, value: str) -> None:
    entries.add(key=key, value=value)  # type: ignore[attr-defined]


SURVIVING: dict[str, Callable[[ModelProto], object]] = {
    "a metadata value": lambda proto: entry(proto.metadata_props, "author", PLACE),
    "a metadata key": lambda proto: entry(proto.metadata_props, PLACE, "somebody"),
    "the model's doc string": lambda proto: setattr(proto, "doc_string", PLACE),
    "the graph's name": lambda proto: setattr(proto.graph, "name", PLACE),
    "the producer": lambda proto: setattr(proto, "producer_name", PLACE),
    "the doc string of a node that is replaced": lambda proto: setattr(proto.graph.node[0], "doc_string", PLACE),
    "the doc string of another node": lambda proto: setattr(proto.graph.node[1], "doc_string", PLACE),
    "metadata of a node that is replaced": lambda proto: entry(proto.graph.node[0].metadata_props, "from", PLACE),
    "the doc string of an input": lambda proto: setattr(proto.graph.input[0], "doc_string", PLACE),
}


def written(path: Path, edit: Callable[[ModelProto], object]) -> Path:
    """The tiny model with one text in Latin-1."""
    proto = tiny.mlp((16, 64, 64, 4))
    edit(proto)
    path.write_bytes(proto.SerializeToString().replace(PLACE.encode(), LATIN_1))
    assert path.read_bytes().count(LATIN_1) == 1
    return path


@pytest.mark.parametrize("where", SURVIVING)
def test_text_in_latin_1_survives_byte_for_byte(where: str, tmp_path: Path) -> None:
    model, small = written(tmp_path / "model.onnx", SURVIVING[where]), tmp_path / "small.onnx"
    assert len(onnx_dalr.inspect(model).layers) == 3
    onnx_dalr.optimize(model, small, calib=tiny.rows(), rank=8, device="cpu")
    assert LATIN_1 in small.read_bytes()
    assert [value.name for value in onnx.load(small).graph.output] == ["y"]


def test_a_name_in_latin_1_is_refused(tmp_path: Path) -> None:
    model = written(tmp_path / "model.onnx", lambda proto: setattr(proto.graph.node[1], "name", PLACE))
    with pytest.raises(InputError, match=r"a name that is not UTF-8 text: b'M\\xfcll\\xe9'"):
        onnx_dalr.inspect(model)


def test_an_entry_of_ours_that_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    model = written(tmp_path / "model.onnx", lambda proto: entry(proto.metadata_props, METADATA_KEY, PLACE))
    assert metadata(load(model).proto) == "M�ll�"
    assert "M�ll�" in str(onnx_dalr.inspect(model))
    assert onnx_dalr.optimize(model, calib=np.asarray(tiny.rows()), rank=8, device="cpu").model is not None
