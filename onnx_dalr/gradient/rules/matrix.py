"""Products of matrices: C = AB gives the gradients G·Bᵀ and Aᵀ·G."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnx_dalr.gradient.emit import PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule


@rule("Gemm")
def gemm(step: Step) -> Found:
    """Of αAB + βC, where A, B or both may be stored transposed: the gradient then is transposed too."""
    a, b, g = step.x, step.input(1), step.g
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    ta, tb = step.attribute("transA", 0), step.attribute("transB", 0)
    return step.each(
        lambda step: product(b, g, tb, 1, alpha) if ta else product(g, b, 0, 1 - tb, alpha),
        lambda step: product(g, a, 1, ta, alpha) if tb else product(a, g, 1 - ta, 0, alpha),
        lambda step: step.fit(g if beta == 1 else g * beta, step.input(2), beside=[step.y]),
    )


def product(a: Tensor, b: Tensor, trans_a: int = 0, trans_b: int = 0, alpha: float = 1.0) -> Tensor:
    """Of two matrices, each transposed first if so said: nothing is copied for it."""
    nothing = a.tape.constant(0.0, a.kind) if a.tape.opset < 11 else None
    return a.op("Gemm", b, nothing, alpha=alpha, transA=trans_a, transB=trans_b)


@rule("MatMul", "com.microsoft:FusedMatMul")
def matmul(step: Step) -> Found:
    """Of batches of matrices, rows and columns."""
    if step.attribute("transBatchA", 0) or step.attribute("transBatchB", 0):
        raise PathEndsError("its batches are transposed")
    return step.each(left, right)


def left(step: Step) -> Tensor:
    """G·Bᵀ; by one product of all rows where B is one matrix, so that no stored weight is transposed."""
    a, b = step.x, step.input(1)
    if is_plain(step):
        return product(rows(step.g, a.rank), b, trans_b=1).reshape(a.shape)
    A, B, G = matrices(step)
    return returned(step, G @ swapped(B), a, A, B)


def right(step: Step) -> Tensor:
    """Aᵀ·G; by one product of all rows, which sums over batches, where B is one matrix."""
    a, b = step.x, step.input(1)
    if is_plain(step):
        return product(rows(a, a.rank), rows(step.g, a.rank), trans_a=1)
    A, B, G = matrices(step)
    return returned(step, swapped(A) @ G, b, B, A)


def is_plain(step: Step) -> bool:
    """Any number of rows times one matrix."""
    return step.node.op_type == "MatMul" and step.x.rank > 1 and step.input(1).rank == 2


def rows(tensor: Tensor, rank: int) -> Tensor:
    """All but the last axis in one."""
    return tensor if rank == 2 else tensor.op("Flatten", axis=rank - 1)


def matrices(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """A, B and G as batches of matrices C = AB: vectors become a row, a column; α counts into G."""
    a, b, alpha = step.x, step.input(1), step.attribute("alpha", 1.0)
    g = step.g if alpha == 1 else step.g * alpha
    if a.rank == 1 or b.rank == 1:
        axes = [axis for axis in (-2, -1) if (a, b)[axis].rank == 1]
        g = g.reshape([1, 1]) if len(axes) == 2 else g.unsqueeze([max(a.rank, b.rank) + axes[0]])
    A = with_axis(a, 0) if a.rank == 1 else swapped(a) if step.attribute("transA", 0) else a
    B = with_axis(b, 1) if b.rank == 1 else swapped(b) if step.attribute("transB", 0) else b
    return A, B, g


def returned(step: Step, gradient: Tensor, operand: Tensor, matrix: Tensor, other: Tensor) -> Tensor:
    """The gradient of a matrix, summed over batches that repeat it, in the form the operand has."""
    assert matrix.dims is not None
    assert other.dims is not None
    batch = (None,) * (max(len(matrix.dims), len(other.dims)) - 2)
    gradient = step.fit(replace(gradient, dims=(*batch, *matrix.dims[-2:])), matrix, beside=[other], own=2)
    if operand.rank == 1:
        return gradient.reshape(operand.shape)
    transposed = step.attribute("transA" if operand is step.inputs[0] else "transB", 0)
    return swapped(replace(gradient, dims=matrix.dims)) if transposed else gradient


def with_axis(vector: Tensor, axis: int) -> Tensor:
    """A vector as a row (axis 0) or a column (axis 1)."""
    assert vector.dims is not None
    dims = (1, *vector.dims) if axis == 0 else (*vector.dims, 1)
    return replace(vector.unsqueeze([axis]), dims=dims)


def swapped(tensor: Tensor) -> Tensor:
    """The last two axes exchanged."""
    assert tensor.dims is not None
    batch = range(tensor.rank - 2)
    dims = (*tensor.dims[:-2], tensor.dims[-1], tensor.dims[-2])
    return replace(tensor.transpose([*batch, tensor.rank - 1, tensor.rank - 2]), dims=dims)


@rule("Einsum")
def einsum(step: Step) -> Found:
    """Of ab,bc→ac: ac,bc→ab for the first operand, ab,ac→bc for the second."""
    equation = step.attribute("equation").replace(" ", "")
    inputs, _, output = equation.partition("->")
    terms = inputs.split(",")
    if "." in equation:
        raise PathEndsError("no rule for an ellipsis")
    if "->" not in equation:
        output = "".join(sorted(axis for axis in set(inputs) - {","} if inputs.count(axis) == 1))
    if any(len(set(term)) < len(term) for term in terms):
        raise PathEndsError("an axis appears twice in an operand")
    return step.each(*(exchanged(terms, output, position) for position in range(len(terms))))


def exchanged(terms: Sequence[str], output: str, position: int) -> Callable[[Step], Tensor]:
    """The gradient of one operand: the product with g in its place."""

    def write(step: Step) -> Tensor:
        rest = [term if at != position else output for at, term in enumerate(terms)]
        lost = set(terms[position]) - set("".join(rest))
        if lost:
            raise PathEndsError(f"axis {min(lost)} of an operand is in nothing else")
        operands = [operand if at != position else step.g for at, operand in enumerate(step.operands)]
        return step.tape.op("Einsum", *operands, kind=step.g.kind, equation=f"{','.join(rest)}->{terms[position]}")

    return write
