"""Multiply-adds, node by node, against what the definitions of the operators say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import ModelProto, helper

from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.kinds.positions import along_axes
from onnx_dalr.graph.macs import MultiplyAdds, multiply_adds
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model


def counted(proto: ModelProto, samples: int = 1, **fed: tuple[int, ...]) -> MultiplyAdds:
    return multiply_adds(Model(proto), sizes_on(proto, fed), samples)


def test_a_kernel_is_applied_at_every_position_that_it_makes() -> None:
    found = counted(
        model(
            """g (float[N,6,13,12] x) => (float[N,8,A,B] y, float[N,4,C,D] z) {
                y = Conv <strides = [2,3], pads = [1,1,0,1]> (x, K)
                z = Conv <group = 2, dilations = [2,1]> (x, G)
            }""",
            K=(8, 6, 3, 3),
            G=(4, 3, 3, 5),
            checked=False,
        ),
        x=(1, 6, 13, 12),
    )
    # (13 + 1 - 3) // 2 + 1 = 6 down, (12 + 2 - 3) // 3 + 1 = 4 across; 13 - 4 = 9 down, 12 - 4 = 8 across.
    assert found.by_node == {"y": 6 * 4 * 8 * 6 * 9, "z": 9 * 8 * 4 * 3 * 15}
    assert found.whole == sum(found.by_node.values())
    assert (found.missing, found.unknown) == ((), ())


def test_a_transposed_kernel_is_applied_at_every_position_that_it_reads() -> None:
    proto = model(
        "g (float[N,6,5,4] x) => (float[N,8,A,B] y) { y = ConvTranspose <strides = [2,2]> (x, K) }", K=(6, 8, 3, 3)
    )
    assert counted(proto, x=(1, 6, 5, 4)).whole == 5 * 4 * 6 * 8 * 9


def test_products_with_and_without_weights() -> None:
    proto = model(
        """g (float[N,7,10] x, float[10,N] t) => (float[N,20] y, float[N,7,7] z, float[N,7,5] w) {
            y = Gemm <transA = 1> (t, W)
            u = Transpose <perm = [0,2,1]> (x)
            z = MatMul (x, u)
            w = Einsum <equation = "nij, jk -> nik"> (x, V)
        }""",
        W=(10, 20),
        V=(10, 5),
    )
    assert counted(proto, x=(2, 7, 10), t=(10, 2)).by_node == {
        "y": 2 * 10 * 20,
        "z": 2 * 7 * 7 * 10,
        "w": 2 * 7 * 10 * 5,
    }


def test_a_sample_is_one_of_those_in_the_feed() -> None:
    proto = model("g (float[N,10] x) => (float[N,20] y) { y = MatMul (x, W) }", W=(10, 20))
    assert counted(proto, 4, x=(4, 10)).whole == 10 * 20


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_multiplies_by_both_weights_at_every_step(op: str, gates: int) -> None:
    proto = model(
        f"""g (float[T,N,6] x) => (float[T,2,N,5] y) {{
            y = {op} <hidden_size = 5, direction = "bidirectional"> (x, W, R)
        }}""",
        W=(2, 5 * gates, 6),
        R=(2, 5 * gates, 5),
    )
    assert counted(proto, 3, x=(11, 3, 6)).whole == 11 * 2 * 5 * gates * (6 + 5)


def test_what_depends_on_no_feed_is_computed_once_and_not_counted() -> None:
    proto = model("g (float[N,10] x) => (float[N,20] y) { W = MatMul (U, V)  y = MatMul (x, W) }", U=(10, 3), V=(3, 20))
    assert counted(proto, x=(1, 10)).by_node == {"y": 200}


def test_nodes_of_unknown_size_and_inside_bodies_are_named_and_not_counted() -> None:
    proto = model(
        """g (float[N,10] x, bool c) => (float[M,20] y, float[N,20] z, float[N,20] w) {
            i = NonZero (x)
            r = Transpose <perm = [1,0]> (i)
            k = Gather <axis = 1> (r, zero)
            p = Gather (x, k)
            [late] y = MatMul (p, W)
            z = If (c) <
                then_branch = one () => (float[N,20] a) { [inside] a = MatMul (x, W) },
                else_branch = two () => (float[N,20] b) { b = Identity (w) }
            >
            [plain] w = MatMul (x, W)
        }""",
        W=(10, 20),
        zero=np.array(0),
        checked=False,
    )
    found = counted(proto, x=(3, 10), c=())
    assert found.by_node == {"w": 3 * 200}
    assert set(found.unknown) == {"late", "inside"}
    assert set(found.missing) == {"p", "y"}


def test_nodes_that_are_damaged_are_named_and_not_counted() -> None:
    proto = model("g (float[N,10] x) => (float[N,20] y) { [plain] y = MatMul (x, W) }", W=(10, 20))
    for name, op, inputs, outputs, equation in (
        ("no result", "MatMul", ["x", "W"], [], {}),
        ("no weight", "Conv", ["x"], ["c"], {}),
        ("no second operand", "Einsum", ["x"], ["e"], {"equation": "ij,jk->ik"}),
        ("an axis too many", "Einsum", ["x", "W"], ["f"], {"equation": "ijl,jk->ik"}),
    ):
        proto.graph.node.append(helper.make_node(op, inputs, outputs, name=name, **equation))
    found = multiply_adds(Model(proto), {"x": (3, 10), "W": (10, 20), "y": (3, 20), "c": (3, 20)})
    assert found.by_node == {"y": 3 * 200}
    assert found.unknown == ("no weight", "no second operand", "an axis too many")


# Kernels in a row

BEFORE, AFTER = (2, 16, 13, 12), (2, 24, 6, 4)


@pytest.mark.parametrize(
    ("structure", "pieces", "positions"),
    [
        ("dense", [None], [(6, 4)]),
        ("out", [None, ()], [(6, 4), (6, 4)]),
        ("in", [(), None], [(13, 12), (6, 4)]),
        ("v", [(0,), (1,)], [(6, 12), (6, 4)]),
        ("h", [(1,), (0,)], [(13, 4), (6, 4)]),
        ("tucker", [(), None, ()], [(13, 12), (6, 4), (6, 4)]),
    ],
)
def test_an_axis_has_its_length_after_the_kernel_that_spans_it(
    structure: str, pieces: list[tuple[int, ...] | None], positions: list[tuple[int, int]]
) -> None:
    del structure
    assert along_axes(pieces, BEFORE, AFTER) == tuple(2 * math.prod(each) for each in positions)


@pytest.mark.parametrize(
    ("pieces", "positions"), [([None], [24]), ([None, ()], [24, 156]), ([(), None], [24, 24])], ids=["W", "out", "in"]
)
def test_a_transposed_one_has_it_only_behind_that_kernel(
    pieces: list[tuple[int, ...] | None], positions: list[int]
) -> None:
    assert along_axes(pieces, AFTER, BEFORE, transposed=True) == tuple(2 * each for each in positions)
