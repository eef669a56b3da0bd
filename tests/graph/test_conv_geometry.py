"""Kernels of every geometry: what they see at each position, and several in the place of one, exact at full rank."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, helper

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import STRUCTURES, Piece, Pieces
from onnx_dalr.graph.kinds.geometry import Geometry
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.conv_cases import CASES, full, layer_of, of_case, structures_of
from tests.graph.helpers import assert_same_outputs, initializers, ops, run, some_feeds

SETTINGS = [(7, "N", True), (11, "1", False), (13, "N", False), (17, "1", True), (21, "N", True)]
"""Opset, samples at once, whether there is a bias."""
APART = [(name, structure) for name in CASES for structure in structures_of(name)]


def replaced(proto: ModelProto, layer: Layer, pieces: Pieces, moved: float = 0.0, format: str = "keep") -> ModelProto:
    """The model with these pieces for its kernel, checked."""
    substitution = Substitution.of(layer, pieces.pieces, FORMATS[format], pieces.shift + moved)
    made = rewrite(Model(proto), [substitution]).proto
    onnx.checker.check_model(made, full_check=True)
    return made


def bias_of(proto: ModelProto) -> np.ndarray | float:
    return initializers(proto).get("b", 0.0)


# What a kernel sees


@pytest.mark.parametrize(("opset", "batch", "biased"), SETTINGS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_rows_times_the_matrix_and_the_bias_are_the_output(name: str, opset: int, batch: str, biased: bool) -> None:
    proto = CASES[name].made(opset, batch, biased=biased)
    layer, feeds = layer_of(proto), some_feeds(proto)
    (use,) = layer.uses
    y = run(proto, feeds)["y"]
    rows = use.rows(feeds["x"])
    assert rows.shape == (len(y), *y.shape[2:], layer.n)
    found = rows @ matrix(Model(proto), layer).T + bias_of(proto)
    np.testing.assert_allclose(found, use.answers(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_some_rows_are_those_of_all(name: str) -> None:
    proto = CASES[name].made()
    layer, x = layer_of(proto), some_feeds(proto)["x"]
    (use,) = layer.uses
    rows = use.rows(x)
    asked = []

    def every_third(shape: tuple[int, ...]) -> np.ndarray:
        asked.append(shape)
        return np.arange(0, int(np.prod(shape)), 3)

    np.testing.assert_array_equal(use.some_rows(x, every_third), rows.reshape(-1, layer.n)[::3])
    assert asked == [rows.shape[:-1]]


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_is_its_matrix_and_back(name: str) -> None:
    proto = CASES[name].made()
    layer, stored = layer_of(proto), initializers(proto)["W"]
    (use,) = layer.uses
    W = matrix(Model(proto), layer)
    assert W.shape == (layer.m, layer.n) == (CASES[name].m, stored.size // CASES[name].m)
    np.testing.assert_array_equal(layer.kind.unmatrix(W, stored.shape, use), stored)
    np.testing.assert_array_equal(layer.kind.operand(W.reshape(layer.shape.dims), stored.shape), stored)
    np.testing.assert_array_equal(layer.kind.operand(W, stored.shape), stored)


@pytest.mark.parametrize("name", CASES)
def test_another_kernel_and_a_moved_bias_are_fed(name: str) -> None:
    proto = CASES[name].made()
    layer = layer_of(proto)
    fed, overrides = overridable(Model(proto), [layer])
    onnx.checker.check_model(fed, full_check=True)
    feeds = some_feeds(proto)
    moved = np.linspace(-1, 1, layer.m)
    new = overrides["it"].feed(2 * matrix(Model(proto), layer), moved)
    twice = 2 * layer.uses[0].answers(run(proto, feeds)["y"]) - bias_of(proto) + moved
    np.testing.assert_allclose(np.moveaxis(run(fed, feeds | new)["y"], 1, -1), twice, rtol=1e-4, atol=1e-4)


# Several in its place


@pytest.mark.parametrize(("name", "structure"), APART)
def test_at_full_rank_nothing_changes(name: str, structure: str) -> None:
    rank, moved = full(layer_of(CASES[name].made()), structure), 0.5
    pieces = of_case(name, structure).pieces(rank)
    for opset, batch, biased in SETTINGS:
        proto = CASES[name].made(opset, batch, biased=biased)
        made = replaced(proto, layer_of(proto), pieces, moved)
        assert ops(made) == [CASES[name].op] * len(pieces.pieces)
        assert_same_outputs(proto, made, moved_by=moved, tolerance=2e-4)


@pytest.mark.parametrize(("name", "structure"), APART)
def test_below_it_the_nodes_compute_with_what_the_pieces_come_to(name: str, structure: str) -> None:
    proto = CASES[name].made()
    layer = layer_of(proto)
    pieces = of_case(name, structure).pieces(tuple(max(1, rank // 2) for rank in full(layer, structure)))
    W = STRUCTURES[structure].compose(pieces.pieces)
    feeds = some_feeds(proto)
    expected = layer.uses[0].rows(feeds["x"]) @ W.T + bias_of(proto) + pieces.shift
    found = run(replaced(proto, layer, pieces), feeds)["y"]
    np.testing.assert_allclose(layer.uses[0].answers(found), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "keep"])
@pytest.mark.parametrize(
    "name", ["Conv 1-D, even, strided, uneven", "Conv 2-D, all of it", "ConvTranspose 2-D, all of it"]
)
def test_formats_apply_to_the_new_kernels(name: str, format: str) -> None:
    """Of weights in one piece too: that is the structure "dense"."""
    for opset, structure in ((7, "dense"), (21, "dense"), *((17, structure) for structure in structures_of(name))):
        proto = CASES[name].made(opset)
        layer = layer_of(proto)
        pieces = pieces_at(name, structure)
        substitution = Substitution.of(layer, pieces.pieces, FORMATS[format], pieces.shift)
        made = rewrite(Model(proto), [substitution]).proto
        onnx.checker.check_model(made, full_check=True)
        read = [Piece(part.role, part.encoded.values, part.axes) for part in substitution.parts]
        W = read[0].values.reshape(layer.m, -1) if structure == "dense" else STRUCTURES[structure].compose(read)
        feeds = some_feeds(proto)
        expected = layer.uses[0].rows(feeds["x"]) @ W.T + bias_of(proto) + pieces.shift
        found = layer.uses[0].answers(run(made, feeds)["y"])
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3, err_msg=f"{structure} {format}")
        assert not any(tensor.name == "W" for tensor in made.graph.initializer)


def pieces_at(name: str, structure: str) -> Pieces:
    proto = CASES[name].made()
    layer = layer_of(proto)
    if structure == "dense":
        W = matrix(Model(proto), layer).reshape(layer.shape.dims)
        return Pieces((Piece("W", W),), np.zeros(layer.m))
    return of_case(name, structure).pieces(tuple(max(1, rank // 2) for rank in full(layer, structure)))


# Who gets which geometry

SHARED_OUT = {
    "out": [
        {"strides": [2, 3], "dilations": [3, 2], "pads": [3, 0, 1, 4]},
        {},
    ],
    "in": [
        {},
        {"strides": [2, 3], "dilations": [3, 2], "pads": [3, 0, 1, 4]},
    ],
    "v": [
        {"strides": [2, 1], "dilations": [3, 1], "pads": [3, 0, 1, 0]},
        {"strides": [1, 3], "dilations": [1, 2], "pads": [0, 0, 0, 4]},
    ],
    "h": [
        {"strides": [1, 3], "dilations": [1, 2], "pads": [0, 0, 0, 4]},
        {"strides": [2, 1], "dilations": [3, 1], "pads": [3, 0, 1, 0]},
    ],
    "tucker": [
        {},
        {"strides": [2, 3], "dilations": [3, 2], "pads": [3, 0, 1, 4]},
        {},
    ],
}


@pytest.mark.parametrize("structure", SHARED_OUT)
def test_an_axis_has_its_geometry_at_the_kernel_that_spans_it(structure: str) -> None:
    proto = CASES["Conv 2-D, all of it"].made()
    made = replaced(proto, layer_of(proto), pieces_at("Conv 2-D, all of it", structure))
    assert [attributes(node) for node in made.graph.node] == SHARED_OUT[structure]
    roles = ["B", "M", "A"] if structure == "tucker" else ["B", "A"]
    assert [node.name for node in made.graph.node] == [f"it.dalr_{role}" for role in roles]
    assert [node.input[2:] for node in made.graph.node] == [[]] * (len(roles) - 1) + [["b.dalr"]], (
        "the last adds the bias"
    )


@pytest.mark.parametrize(("structure", "at"), [("out", 0), ("in", 1)])
def test_what_a_transposed_kernel_makes_beyond_the_last_goes_with_its_strides(structure: str, at: int) -> None:
    name = "ConvTranspose 2-D, all of it"
    proto = CASES[name].made()
    made = replaced(proto, layer_of(proto), pieces_at(name, structure))
    whole = {"strides": [2, 3], "dilations": [1, 2], "pads": [1, 0, 2, 1], "output_padding": [1, 2]}
    assert [attributes(node) for node in made.graph.node] == [whole if at == place else {} for place in (0, 1)]


def attributes(node: NodeProto) -> dict[str, object]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def test_of_a_kernel_in_groups_there_are_no_patches() -> None:
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="it", group=2)
    with pytest.raises(ValueError, match="no patches of Conv 'it'"):
        Geometry.of(node, (8, 2, 3, 3))
