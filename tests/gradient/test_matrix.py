"""Rules of matrix products, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.gradient import differentiate
from tests.gradient.helpers import agrees, model, pulled_back, reasons, spread

Shape = tuple[int, ...]


@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [(4,), (2, 4), (2, 1), ()], ids=str)
def test_gemm_by_all_its_attributes(trans_a: int, trans_b: int, c: Shape, opset: int) -> None:
    a, b = ((3, 2) if trans_a else (2, 3)), ((4, 3) if trans_b else (3, 4))
    attributes = f"transA = {trans_a}, transB = {trans_b}, alpha = 0.7, beta = 1.3"
    agrees(f"y = Gemm <{attributes}> (a, b, c)", opset, a=a, b=b, c=c)


def test_gemm_without_a_third_operand() -> None:
    agrees("y = Gemm(a, b)", 13, a=(2, 3), b=(3, 4))


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 2, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (2, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
    ],
    ids=str,
)
def test_matmul_by_ranks_and_batches(a: Shape, b: Shape, opset: int) -> None:
    agrees("y = MatMul(a, b)", opset, a=a, b=b)


def test_a_matrix_times_itself_turned() -> None:
    agrees("t = Transpose <perm = [0, 2, 1]> (a)  y = MatMul(a, t)", a=(2, 3, 4))


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_fused_matmul(trans_a: int, trans_b: int) -> None:
    a, b = ((2, 3, 2) if trans_a else (2, 2, 3)), ((4, 3) if trans_b else (3, 4))
    agrees(f"y = com.microsoft.FusedMatMul <transA = {trans_a}, transB = {trans_b}, alpha = 0.7> (a, b)", a=a, b=b)


def test_batches_that_are_transposed_end_the_path() -> None:
    body = "y = com.microsoft.FusedMatMul <transBatchA = 1> (a, b)"
    assert reasons(body, a=(2, 3, 4), b=(3, 4, 5)) == ["com.microsoft:FusedMatMul: its batches are transposed"]


def test_a_stored_weight_is_not_stored_again_transposed() -> None:
    x, w = spread("x", (2, 5, 3)).astype(np.float32), spread("w", (3, 4)).astype(np.float32)
    found = differentiate(model("y = MatMul(x, w)", 17, {"x": x}, {"w": w}, dynamic=True), ["y"], ["x"])
    assert [node.op_type for node in found.proto.graph.node if "w" in node.input] == ["MatMul", "Gemm"]
    v = spread("v", (2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(pulled_back(found, {"x": x}, {"y": v})["x"], v @ w.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("bij,bjk", [(2, 3, 2), (2, 2, 4)]),
        ("ijk->kij", [(2, 3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("bi,bi,ij->bj", [(2, 3), (2, 3), (3, 4)]),
    ],
)
def test_einsum_by_exchanging_an_operand_and_the_result(equation: str, shapes: list[Shape]) -> None:
    names = "abc"[: len(shapes)]
    operands = dict(zip(names, shapes, strict=True))
    agrees(f'y = Einsum <equation = "{equation}"> ({", ".join(names)})', 13, **operands)


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        ("ij->i", "axis j of an operand is in nothing else"),
        ("ii->i", "an axis appears twice in an operand"),
        ("...i->...i", "no rule for an ellipsis"),
    ],
)
def test_an_einsum_that_cannot_be_exchanged_ends_the_path(equation: str, reason: str) -> None:
    assert reasons(f'y = Einsum <equation = "{equation}"> (a)', a=(3, 3)) == [f"Einsum: {reason}"]
