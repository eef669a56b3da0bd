"""Front to back: which layers come first, which share a pass over the samples, and how many samples are enough."""

from __future__ import annotations

import pytest

from onnx_dalr.factorize.refit import PairedSums, least_rows
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.tune.fronts import MOST_PASSES, depths, enough_samples, fronts
from tests.graph.helpers import model

BRANCHED = Model(
    model(
        """g (float[N,8] x) => (float[N,8] y) {
            [stem] h = MatMul(x, A)
            [left] l = MatMul(h, B)
            [right] r = MatMul(h, C)
            s = Add(l, r)
            [last] y = MatMul(s, D)
        }""",
        A=(8, 8),
        B=(8, 8),
        C=(8, 8),
        D=(8, 8),
    )
)
PLENTY = 1 << 40


def by_name(made: Model, *, in_one_piece: bool = False) -> dict[str, Layer]:
    return {layer.name: layer for layer in find(made, in_one_piece=in_one_piece)[0]}


def chain(count: int) -> Model:
    names = [f"W{number}" for number in range(count)]
    nodes = " ".join(f"[l{at}] h{at + 1} = MatMul(h{at}, {name})" for at, name in enumerate(names))
    return Model(model(f"g (float[N,8] h0) => (float[N,8] h{count}) {{ {nodes} }}", **dict.fromkeys(names, (8, 8))))


def names_in(groups: list[list[Layer]]) -> list[list[str]]:
    return [[layer.name for layer in group] for group in groups]


def test_depth_counts_changed_layers_one_after_the_other() -> None:
    layers = by_name(BRANCHED)
    everything = list(layers.values())
    assert depths(BRANCHED.proto, everything, everything) == {"stem": 0, "left": 1, "right": 1, "last": 2}
    assert depths(BRANCHED.proto, everything, [layers["left"]]) == {"stem": 0, "left": 0, "right": 0, "last": 1}
    assert set(depths(BRANCHED.proto, everything, []).values()) == {0}


def test_nodes_need_not_be_in_order() -> None:
    shuffled = model("g (float[N,8] x) => (float[N,8] y) { h = MatMul(x, A) y = MatMul(h, B) }", A=(8, 8), B=(8, 8))
    shuffled.graph.node.reverse()
    layers = find(Model(shuffled))[0]
    assert {one.weight: depths(shuffled, layers, layers)[one.name] for one in layers} == {"A": 0, "B": 1}


def test_what_is_changed_in_a_body_is_changed_behind_its_node() -> None:
    made = Model(
        model(
            """g (float[N,64] x, bool c) => (float[N,64] y) {
                [branch] h = If (c) <
                    then_branch = yes () => (float[N,64] t) { t = MatMul(x, A) },
                    else_branch = no () => (float[N,64] e) { e = Identity(x) }
                >
                [last] y = MatMul(h, B)
            }""",
            A=(64, 64),
            B=(64, 64),
        )
    )
    layers = by_name(made, in_one_piece=True)
    inside = next(layer for layer in layers.values() if layer.in_one_piece)
    assert depths(made.proto, [layers["last"]], [inside]) == {"last": 1}


def test_layers_of_one_depth_share_a_pass() -> None:
    layers = by_name(BRANCHED)
    depth = depths(BRANCHED.proto, list(layers.values()), layers.values())
    behind = [layer for layer in layers.values() if depth[layer.name]]
    assert names_in(fronts(behind, depth, PLENTY)) == [["left", "right"], ["last"]]
    assert fronts([], depth, PLENTY) == []


@pytest.mark.parametrize("count", [3, MOST_PASSES, 20, 37])
def test_however_deep_the_passes_are_few(count: int) -> None:
    made = chain(count)
    layers = find(made)[0]
    depth = depths(made.proto, layers, layers)
    groups = fronts(layers, depth, PLENTY)
    assert len(groups) == min(count, MOST_PASSES)
    assert [layer for group in groups for layer in group] == layers
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_groups_fit_into_memory() -> None:
    made = chain(20)
    layers = find(made)[0]
    depth = depths(made.proto, layers, layers)
    one = 2 * PairedSums.bytes_needed(8, 8)
    groups = fronts(layers, depth, 2 * one)
    assert max(map(len, groups)) == 2
    assert [layer for group in groups for layer in group] == layers
    assert fronts(layers, depth, one - 1) == [[layer] for layer in layers]  # what does not fit is alone


def test_samples_are_enough_for_the_layer_with_the_fewest_rows() -> None:
    layers = find(chain(2))[0]
    rows = {"l0": 0.01, "l1": 100.0}
    assert enough_samples(layers, rows, 10**6) == 10 * least_rows(8) / 0.01
    assert enough_samples(layers, rows, 700) == 700
    assert enough_samples(layers[1:], rows, 10**6) == 512  # of few samples, rows are much the same
    assert enough_samples(layers[1:], rows, 100) == 100
