"""A model that only names its large weights, their values beside it, and what a model weighs unread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_dalr.graph.storage.handed import Handed
from onnx_dalr.graph.storage.model import load
from onnx_dalr.graph.storage.shell import size_in_file
from onnx_dalr.session.session import Runtime, open_session
from tests.graph.helpers import model, run, some_feeds

TWO = """g (float[N,64] x) => (float[N,40] z) {
    h = Gemm(x, W, b)
    r = Relu(h)
    z = MatMul(r, V)
}"""


def two(**weights: np.ndarray) -> ModelProto:
    proto = model(TWO, W=(64, 48), b=(48,), V=(48, 40))
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return proto


def opened(handed: Handed, proto: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    named, folder = handed.named_only(proto)
    found = open_session(named.SerializeToString(), Runtime("cpu"), folder, values=handed.values(proto, named)).run(
        feeds
    )
    return np.asarray(found[0])


@pytest.mark.parametrize("external", [False, True])
def test_a_model_computes_the_same_with_its_weights_handed_over(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two(), path, save_as_external_data=external, size_threshold=0, location="m.data")
    original = load(path)
    feeds = some_feeds(two())
    found = opened(Handed(original), original.proto, feeds)
    np.testing.assert_allclose(found, run(two(), feeds)["z"], rtol=1e-5, atol=1e-6)


def test_nothing_large_is_left_inside_and_the_model_is_left_as_it_is() -> None:
    proto = two()
    before = proto.SerializeToString()
    named, folder = Handed(load(proto)).named_only(proto)
    assert folder is None
    assert {tensor.name for tensor in named.graph.initializer if tensor.HasField("raw_data")} == {"b"}
    assert len(named.SerializeToString()) < 1000
    assert proto.SerializeToString() == before


def test_a_weight_that_changed_under_its_name_is_another_array_and_one_that_did_not_is_the_same() -> None:
    original, feeds = two(), some_feeds(two())
    handed = Handed(load(original))
    changed = two(V=np.zeros((48, 40), np.float32))
    shared = [handed.values(proto, handed.named_only(proto)[0]) for proto in (original, changed)]
    assert shared[0]["W"] is shared[1]["W"]
    assert shared[0]["V"].any()
    assert not shared[1]["V"].any()
    np.testing.assert_array_equal(opened(handed, changed, feeds), 0)
    np.testing.assert_allclose(opened(handed, original, feeds), run(original, feeds)["z"], rtol=1e-5, atol=1e-6)


def test_only_weights_that_are_still_named_are_handed_over() -> None:
    proto = two()
    handed = Handed(load(proto))
    named, _ = handed.named_only(proto)
    del named.graph.initializer[:]
    assert handed.values(proto, named) == {}


@pytest.mark.parametrize("words", [0, 1, 40, 5000])
@pytest.mark.parametrize("sides", [(1, 1), (64, 48), (300, 700), (900, 3000)])
def test_the_size_in_a_file_is_exact(words: int, sides: tuple[int, int]) -> None:
    proto = two(V=np.ones(sides, np.float32))
    proto.doc_string = "a" * words
    proto.graph.initializer[0].doc_string = "b" * words
    proto.metadata_props.add(key="k", value="v" * words)
    proto.graph.value_info.add(name="r")
    assert size_in_file(proto) == len(proto.SerializeToString())


def test_the_size_of_a_model_with_two_weights_of_a_name_is_exact() -> None:
    proto = two()
    proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
    assert size_in_file(proto) == len(proto.SerializeToString())


def test_weights_that_nobody_reads_stay_inside() -> None:
    proto = two()
    proto.graph.initializer.add().CopyFrom(numpy_helper.from_array(np.ones((64, 64), np.float32), "unread"))
    handed, feeds = Handed(load(proto)), some_feeds(proto)
    named, _ = handed.named_only(proto)
    assert set(handed.values(proto, named)) == {"W", "V"}
    np.testing.assert_allclose(opened(handed, proto, feeds), run(proto, feeds)["z"], rtol=1e-5, atol=1e-5)


def test_a_model_with_text_that_is_not_utf_8_is_emptied_and_weighed_too() -> None:
    proto = two()
    proto.doc_string = "xxxx"
    marked = ModelProto()
    marked.ParseFromString(proto.SerializeToString().replace(b"xxxx", b"\xfc\xfcxx"))
    assert size_in_file(marked) == len(marked.SerializeToString())
    named, _ = Handed(load(two())).named_only(marked)
    assert len(named.SerializeToString()) < len(marked.SerializeToString()) / 2
