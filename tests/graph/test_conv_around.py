"""What stands around a kernel that is taken apart: who else uses it, where it is stored, what reads its output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, load, save
from tests.graph.conv_cases import decomposed, full, layer_of
from tests.graph.helpers import (
    assert_same_outputs,
    initializers,
    layers_of,
    model,
    node_named,
    ops,
    reason,
    run,
    skipped_of,
    some_feeds,
    values,
    with_constant_nodes,
)

STRUCTURES = ["out", "in", "v", "h", "tucker"]
every_structure = pytest.mark.parametrize("structure", STRUCTURES)


def taken_apart(proto: ModelProto, structure: str, moved: float = 0.0, names: Sequence[str] = ()) -> ModelProto:
    """Every layer (or those of these names) at full rank in a structure, its bias moved; checked."""
    substitutions = []
    for layer in layers_of(proto):
        if not names or layer.name in names:
            pieces = decomposed(proto, layer, structure).pieces(full(layer, structure))
            substitutions.append(Substitution.of(layer, pieces.pieces, FORMATS["keep"], pieces.shift + moved))
    made = rewrite(Model(proto), substitutions).proto
    onnx.checker.check_model(made, full_check=True)
    return made


# Its neighbours


@every_structure
def test_what_follows_reads_the_same_tensor_and_is_left_alone(structure: str) -> None:
    proto = model(
        """g (float[N,4,9,8] x) => (float[N,6,C,D] y) {
            [conv] c = Conv <strides = [2,1], pads = [1,1,1,1]> (x, W)
            [norm] n = BatchNormalization (c, scale, b, mean, var)
            [act] y = Relu (n)
        }""",
        W=(6, 4, 3, 3),
        scale=(6,),
        b=(6,),
        mean=(6,),
        var=np.linspace(0.5, 2, 6, dtype=np.float32),
    )
    made = taken_apart(proto, structure)
    assert ops(made)[-2:] == ["BatchNormalization", "Relu"]
    for name in ("norm", "act"):
        assert node_named(made, name) == node_named(proto, name)
    kept = {name: array for name, array in initializers(made).items() if "dalr" not in name}
    assert kept.keys() == initializers(proto).keys() - {"W"}
    for name, array in kept.items():
        np.testing.assert_array_equal(array, initializers(proto)[name])
    assert made.graph.node[-3].output[0] == "c"
    assert_same_outputs(proto, made, tolerance=5e-4)


@every_structure
def test_the_activation_stays_behind_the_last_kernel_and_none_comes_between(structure: str) -> None:
    """That is where runtimes fuse it."""
    proto = model(
        "g (float[N,4,7,8] x) => (float[N,6,5,6] y) { [conv] c = Conv (x, W, b)  y = Clip (c, low, high) }",
        W=(6, 4, 3, 3),
        b=(6,),
        low=np.array(0, np.float32),
        high=np.array(6, np.float32),
    )
    made = taken_apart(proto, structure)
    count = 3 if structure == "tucker" else 2
    assert ops(made) == ["Conv"] * count + ["Clip"]
    assert [list(node.input)[:1] for node in made.graph.node][1:] == [list(node.output) for node in made.graph.node][
        :-1
    ]
    assert_same_outputs(proto, made, tolerance=2e-4)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_without_a_bias_there_is_none_until_it_is_moved(op: str) -> None:
    proto = model(f"g (float[N,6,7,8] x) => (float[N,6,C,D] y) {{ [conv] y = {op} (x, W) }}", W=(6, 6, 3, 3))
    layer = layer_of(proto)
    W = matrix(Model(proto), layer)
    pieces = decomposed(proto, layer, "in").pieces((3,))
    assert pieces.shift.any()
    for shift, count in ((np.zeros(6), 2), (pieces.shift, 3)):
        made = rewrite(Model(proto), [Substitution.of(layer, pieces.pieces, FORMATS["keep"], shift)]).proto
        assert [len(node.input) for node in made.graph.node] == [2, count]
        assert len(made.graph.initializer) == count
    rows = layer.uses[0].rows(some_feeds(proto)["x"])
    (found,) = run(made).values()
    off = layer.uses[0].answers(found) - rows @ W.T
    np.testing.assert_allclose(off.mean(axis=(0, 1, 2)), 0, atol=1e-4), "what the shift is for"


# Its users


@every_structure
def test_a_kernel_that_two_nodes_use_with_other_strides_is_one_layer(structure: str) -> None:
    proto = model(
        """g (float[N,4,9,8] x) => (float[N,6,C,D] y, float[N,6,E,F] z, float[N,6,G,H] w) {
            [one] y = Conv <pads = [1,1,1,1]> (x, W, b)
            r = Relu (x)
            [two] z = Conv <strides = [2,3], dilations = [1,2]> (r, W)
            [three] w = Conv <auto_pad = "SAME_LOWER", strides = [3,2]> (x, W, b)
        }""",
        W=(6, 4, 3, 3),
        b=(6,),
    )
    (layer,) = layers_of(proto)
    assert (layer.name, layer.nodes) == ("one", ("one", "two", "three"))
    probe = model(
        "g (float[N,4,9,8] x) => (float[N,6,C,D] y) { y = Conv <pads = [1,1,1,1]> (x, W) }", W=initializers(proto)["W"]
    )
    pieces = decomposed(probe, layer_of(probe), structure).pieces(full(layer, structure))
    made = rewrite(
        Model(proto), [Substitution.of(layer, pieces.pieces, FORMATS["keep"], pieces.shift + np.full(6, 0.5))]
    ).proto
    onnx.checker.check_model(made, full_check=True)
    assert ops(made).count("Conv") == 3 * len(pieces.pieces)
    assert sum("dalr" in name for name in initializers(made)) == len(pieces.pieces) + 2, (
        "two biases: b's, and a new one"
    )
    assert_same_outputs(proto, made, moved_by=0.5, tolerance=5e-4)


@pytest.mark.parametrize("size", [6, 24])
def test_a_kernel_that_is_transposed_for_one_of_its_users_is_left_alone(size: int) -> None:
    """As of tied autoencoders: a Conv takes its rows for outputs, a ConvTranspose its columns."""
    proto = model(
        f"g (float[N,{size},9,8] x) => (float[N,{size},9,8] y) {{ c = Conv (x, W)  y = ConvTranspose (c, W) }}",
        W=(6, size, 3, 3),
    )
    assert layers_of(proto) == []
    reasons = {entry.reason for entry in skipped_of(proto)}
    assert reasons == {"its users transpose, scale or cast the shared weight differently"}
    whole = find(Model(proto), in_one_piece=True)[0]
    assert [(layer.in_one_piece, len(layer.uses)) for layer in whole] == ([(True, 2)] if size == 24 else [])


def test_a_kernel_that_another_node_reads_is_left_alone() -> None:
    proto = model(
        "g (float[N,4,9,8] x) => (float[N,6,7,6] y, float[6,4,3,3] z) { y = Conv (x, W)  z = Relu (W) }",
        W=(6, 4, 3, 3),
    )
    assert reason(proto).startswith("its weight is also read by Relu 'z'")


def test_a_kernel_that_is_computed_and_one_that_is_the_data() -> None:
    proto = model(
        "g (float[N,4,9,8] x, float[6,4,3,3] w) => (float[N,6,7,6] y, float[1,1,1,1] z)"
        " { y = Conv (x, w)  v = Relu (K)  z = Conv (K, v) }",
        K=(1, 4, 3, 3),
    )
    assert layers_of(proto) == []
    assert len(skipped_of(proto)) == 2


def test_a_bias_that_is_computed() -> None:
    proto = model("g (float[N,4,9,8] x, float[6] b) => (float[N,6,7,6] y) { y = Conv (x, W, b) }", W=(6, 4, 3, 3))
    assert reason(proto) == "its bias is computed at run time"


# Where it is stored


@every_structure
def test_a_kernel_in_float16_that_is_cast(structure: str) -> None:
    proto = model(
        """g (float[N,4,9,8] x) => (float[N,6,7,6] y) {
            i = Identity (W)
            w = Cast <to = 1> (i)
            [conv] y = Conv (x, w, b)
        }""",
        W=values("W", (6, 4, 3, 3), np.float16),
        b=(6,),
    )
    layer = layer_of(proto)
    assert (layer.weight, layer.dtype, len(layer.uses[0].path)) == ("W", np.float16, 2)
    made = taken_apart(proto, structure)
    stored = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert {kind for name, kind in stored.items() if name.startswith("W.")} == {TensorProto.FLOAT16}
    assert "Identity" not in ops(made)
    assert_same_outputs(proto, made, tolerance=0.02)


@pytest.mark.parametrize("structure", ["out", "in", "tucker"])
def test_a_kernel_in_float16_stays_in_it(structure: str) -> None:
    proto = model(
        "g (float16[N,4,9] x) => (float16[N,6,C] y) { [conv] y = Conv <strides = [2]> (x, W, b) }",
        W=values("W", (6, 4, 3), np.float16),
        b=values("b", (6,), np.float16),
    )
    made = taken_apart(proto, structure)
    assert {array.dtype for array in initializers(made).values()} == {np.dtype(np.float16)}
    assert_same_outputs(proto, made, tolerance=0.03)


@every_structure
def test_a_kernel_behind_identity_and_in_a_constant_node(structure: str) -> None:
    proto = with_constant_nodes(
        model(
            "g (float[N,4,9,8] x) => (float[N,6,7,6] y) { w = Identity (W)  [conv] y = Conv (x, w) }", W=(6, 4, 3, 3)
        ),
        "W",
    )
    made = taken_apart(proto, structure, 0.5)
    assert set(ops(made)) == {"Conv"}
    assert_same_outputs(proto, made, moved_by=0.5, tolerance=2e-4)


@every_structure
def test_a_kernel_in_external_data(structure: str, tmp_path: Path) -> None:
    proto = model("g (float[N,4,9,8] x) => (float[N,6,7,6] y) { [conv] y = Conv (x, W, b) }", W=(6, 4, 3, 3), b=(6,))
    stored = ModelProto()
    stored.CopyFrom(proto)
    onnx.save(stored, tmp_path / "model.onnx", save_as_external_data=True, location="data.bin", size_threshold=0)
    source = load(tmp_path / "model.onnx")
    (layer,), _ = find(source)
    np.testing.assert_array_equal(matrix(source, layer), matrix(Model(proto), layer_of(proto)))
    pieces = decomposed(proto, layer_of(proto), structure).pieces(full(layer, structure))
    made = rewrite(source, [Substitution.of(layer, pieces.pieces, FORMATS["keep"], pieces.shift)]).proto
    (tmp_path / "new").mkdir()
    save(made, source, tmp_path / "new" / "model.onnx")
    feeds = some_feeds(proto)
    found = run(str(tmp_path / "new" / "model.onnx"), feeds)["y"]
    np.testing.assert_allclose(found, run(proto, feeds)["y"], rtol=2e-4, atol=2e-4)


# Where it is refused


@pytest.mark.parametrize(
    ("node", "kernel", "why"),
    [
        ("Conv <group = 4> (x, W)", (8, 1, 3, 3), "depthwise convolution: each channel by itself"),
        ("Conv <group = 2> (x, W)", (8, 2, 3, 3), "grouped convolution (2 groups): only one group is supported"),
        ("Conv <group = 2> (x, W)", (8, 2, 1, 1), "grouped convolution (2 groups): only one group is supported"),
        ("ConvTranspose <group = 4> (x, W)", (4, 1, 3, 3), "depthwise convolution: each channel by itself"),
        ("ConvTranspose <group = 2> (x, W)", (4, 3, 3, 3), "grouped convolution (2 groups): only one group"),
        ('ConvTranspose <auto_pad = "SAME_UPPER"> (x, W)', (4, 6, 3, 3), "transposed convolution that is told"),
        ("ConvTranspose <output_shape = [11, 10]> (x, W)", (4, 6, 3, 3), "transposed convolution that is told"),
        ("ConvTranspose (x, W)", (4, 6, 1, 1), "1×1 transposed convolution is not supported"),
        ("Conv (x, W)", (1, 4, 1, 1), "too small to gain at any rank (1×4)"),
    ],
)
def test_what_is_no_layer_says_why(node: str, kernel: tuple[int, ...], why: str) -> None:
    proto = model(f"g (float[N,4,9,8] x) => (float[N,M,C,D] y) {{ y = {node} }}", W=kernel)
    assert reason(proto).startswith(why)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    "damage",
    [
        {"strides": [2]},
        {"strides": [0, 1]},
        {"dilations": [1, 1, 1]},
        {"dilations": [1, -1]},
        {"pads": [1, 1]},
        {"pads": [0, 0, -1, 0]},
    ],
    ids=str,
)
def test_a_damaged_geometry(op: str, damage: dict[str, list[int]]) -> None:
    proto = model(f"g (float[N,6,9,8] x) => (float[N,6,C,D] y) {{ y = {op} (x, W) }}", W=(6, 6, 6, 6))
    proto.graph.node[0].attribute.extend(helper.make_attribute(*each) for each in damage.items())
    assert reason(proto) == "its strides, dilations or pads are not those of its kernel"
    (whole,), _ = find(Model(proto), in_one_piece=True)
    assert not whole.can_be_read
