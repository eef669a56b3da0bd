"""The table of times: what is run, what is remembered, by a stopwatch that counts multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.cache import Cache, cache_of
from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.candidate.timing import time_layers
from onnx_dalr.factorize import METHODS, UNTOUCHED, Form
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.alone import alone
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.macs import multiply_adds
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.progress import Silent
from onnx_dalr.quality.times import Times
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.session.session import Runtime, open_session
from onnx_dalr.session.stopwatch import FEWEST, Runnable, in_turn
from tests.graph.helpers import model

NET = Model(
    model(
        """g (float[N,8,16,16] x) => (float[N,10] y) {
            [first] a = Conv <pads = [1,1,1,1]> (x, K1)
            [twin] b = Conv <pads = [1,1,1,1]> (a, K2, c)
            [other] d = Conv <pads = [1,1,1,1]> (b, K3, c)
            p = GlobalAveragePool (d)  f = Flatten (p)
            t = Transpose (W)
            h = MatMul (f, t)  [head] s = Add (h, e)
            y = Gemm <alpha = 0.5, transB = 1> (s, V, e)
        }""",
        K1=(32, 8, 3, 3),
        K2=(32, 32, 3, 3),
        K3=(32, 32, 3, 3),
        c=(32,),
        W=(10, 32),
        V=(10, 10),
        e=(10,),
    )
)
FEED = {"x": np.ones((2, 8, 16, 16), np.float32)}
SIZES = sizes_on(NET.proto, {"x": FEED["x"].shape})
KNOWN = multiply_adds(NET, SIZES, 2)
LAYERS, _ = find(NET)
CONTEXT = Context(NET, make_options(), Silent())


class Counting:
    """A microsecond for a thousand multiply-adds, ten for each node, a hundred beside them for a whole model."""

    def __init__(self) -> None:
        self.run: list[int] = []

    def __call__(self, models: Sequence[Runnable], runtime: Runtime, seconds: float) -> NDArray[np.float64]:
        self.run.append(len(models))
        assert runtime == CONTEXT.options.runtime
        assert seconds > 0
        return np.tile([self._seconds(one) for one in models], (3, 1))

    @staticmethod
    def _seconds(one: Runnable) -> float:
        assert isinstance(one.model, bytes)
        held = Model(onnx.load_from_string(one.model))
        sizes = sizes_on(held.proto, {name: array.shape for name, array in one.feed.items()})
        return 1e-9 * multiply_adds(held, sizes).whole + 1e-5 * len(held.proto.graph.node)


def measured(watch: Counting, folder: Path, net: Model = NET) -> Times:
    layers, _ = find(net)
    known = multiply_adds(net, sizes_on(net.proto, {"x": FEED["x"].shape}), 2)
    return time_layers(replace(CONTEXT, original=net), layers, known, FEED, watch, Cache(folder))


def test_every_layer_is_timed_as_it_is_and_in_forms_of_every_structure(tmp_path: Path) -> None:
    times = measured(Counting(), tmp_path)
    assert set(times.layers) == {layer.name for layer in LAYERS}
    assert times.untimed == []
    twin = times.layers["twin"]
    assert set(twin.curves) == {"out", "in", "v", "h", "tucker"}
    assert twin.whole == pytest.approx(1e9 * (2e-9 * macs_of(LAYERS[1], UNTOUCHED, KNOWN) + 1e-5), rel=1e-6)
    form = Form("v", (24,))
    work = macs_of(LAYERS[1], form, KNOWN)
    assert times.of("twin", "v", work) == pytest.approx(1e9 * (2e-9 * work + 2e-5), rel=0.02)


def test_ranks_that_are_measured_are_multiples_of_eight_where_there_are_any(tmp_path: Path) -> None:
    measured(Counting(), tmp_path)
    noted = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    ranks = [int(text.removeprefix("v ")) for facts in noted for text in facts if text.startswith("v ")]
    assert ranks
    assert {rank % 8 for rank in ranks} == {0}


def test_layers_that_are_alike_are_measured_once_and_remembered_on_this_machine(tmp_path: Path) -> None:
    first, again = Counting(), Counting()
    times = measured(first, tmp_path)
    assert len(first.run) == 1 + 4  # all as they are; twin and other are one
    assert first.run[0] == 1 + 4
    remembered = measured(again, tmp_path)
    assert again.run == [5]
    assert remembered.layers == times.layers


def test_a_layer_at_other_sizes_is_another(tmp_path: Path) -> None:
    measured(Counting(), tmp_path)
    wider = ModelProto()
    wider.CopyFrom(NET.proto)
    for node in wider.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and node.name == "other":
                attribute.ints[:] = [2, 2, 2, 2]
    watch = Counting()
    measured(watch, tmp_path, Model(wider))
    assert watch.run[0] == 6  # twin and other differ now
    assert len(watch.run) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"v 8": "fast", "in 8": -1, "out 8": true}'])
def test_what_is_damaged_on_disk_is_measured_again(tmp_path: Path, text: str) -> None:
    times = measured(Counting(), tmp_path)
    for path in tmp_path.iterdir():
        path.write_text(text)
    assert measured(Counting(), tmp_path).layers == times.layers


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert measured(Counting(), file / "below").layers


def test_the_cache_is_where_the_user_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = cache_of("times")
    cache.write("key", {"a": 1})
    assert cache.read("key") == {"a": 1}
    assert cache.read("other") == {}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_by_itself_runs_in_every_form(layer: object) -> None:
    found = next(each for each in LAYERS if each is layer)
    one = alone(NET, found, found.uses[0], SIZES)
    assert one.layer.shape == found.shape
    shapes = set()
    for structure in found.structures:
        made = one.in_form(Form(structure.name, structure.smallest), METHODS["dalr"])
        (said,) = open_session(made, "cpu").run(one.feed())
        shapes.add(said.shape)
        assert np.isfinite(said).all()
    (said,) = open_session(one.dense(), "cpu").run(one.feed())
    assert shapes == {said.shape}
    assert said.shape == tuple(SIZES[(NET.proto.graph.node[found.uses[0].node.position]).output[0]])


def test_models_are_run_in_turn() -> None:
    one = alone(NET, LAYERS[0], LAYERS[0].uses[0], SIZES)
    found = in_turn([Runnable(one.dense(), one.feed())] * 2, Runtime("cpu"), 0.0)
    assert found.shape == (FEWEST, 2)
    assert (found > 0).all()
