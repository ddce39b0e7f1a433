"""Linear algebra: the Array API's `linalg` extension, and what NumPy's has besides. Layer 5. Semantics are NumPy's.

Here are products, powers and norms; what needs LAPACK is in `graphc.frontend.decompositions`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import OptionError, ShapeError, message
from graphc.frontend import elementwise, reducing
from graphc.frontend.arranging import diagonal as _diagonal
from graphc.frontend.arranging import trace as _trace
from graphc.frontend.composed import conj
from graphc.frontend.creation import eye
from graphc.frontend.decompositions import (
    bad_option,
    cholesky,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    floating,
    inv,
    lstsq,
    matrices,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    solve,
    svd,
    svdvals,
)
from graphc.frontend.elementwise import divide, multiply, not_equal, power, subtract
from graphc.frontend.products import matmul, tensordot, vecdot
from graphc.frontend.products import outer as _outer
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, promote, refusal, unify
from graphc.frontend.shaping import (
    expand_dims,
    integer,
    matrix_transpose,
    moveaxis,
    normalize_axis,
    ravel,
    reshape,
    roll,
)
from graphc.frontend.signature import static_arguments
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inner",
    "inv",
    "kron",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vector_norm",
]


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonals of the matrices in the last two axes."""
    return _diagonal(x, offset=offset, axis1=-2, axis2=-1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of the matrices in the last two axes."""
    return _trace(x, offset=offset, axis1=-2, axis2=-1, dtype=dtype)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Vector products of vectors of three elements along an axis; other axes broadcast."""
    x, y = promote("cross", np.multiply, (x1, x2))
    x, y = (moveaxis(t, normalize_axis("cross", axis, t.ndim, t), -1) for t in (x, y))
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise ShapeError(
            message(
                "cross: vectors have three elements",
                operands=[("x1", describe(x)), ("x2", describe(y))],
                location=user_location(),
                hint="Pad vectors of two elements with a zero.",
            )
        )
    x, y = unify("cross", [x, y])
    turned = [[roll(t, -by, axis=-1) for by in (1, 2)] for t in (x, y)]
    found = subtract(multiply(turned[0][0], turned[1][1]), multiply(turned[0][1], turned[1][0]))
    return moveaxis(found, -1, axis)


def vdot(x1: Any, x2: Any, /) -> Tensor:
    """The inner product of two tensors, flattened; the first is conjugated if it is complex; as `numpy.vdot`."""
    x, y = ravel(conj(x1)), ravel(as_tensor(x2))
    return tensordot(x, y, axes=((0,), (0,)))


def inner(x1: Any, x2: Any, /) -> Tensor:
    """Sums of products over the last axes, or products with a scalar; as `numpy.inner`."""
    x, y = as_tensor(x1), as_tensor(x2)
    if not x.ndim or not y.ndim:
        return multiply(x, y)
    return tensordot(x, y, axes=((-1,), (-1,)))


def kron(x1: Any, x2: Any, /) -> Tensor:
    """The Kronecker product: blocks x2 scaled by each element of x1; as `numpy.kron`."""
    x, y = promote("kron", np.multiply, (x1, x2))
    rank = max(x.ndim, y.ndim)
    x, y = (reshape(t, (*(1,) * (rank - t.ndim), *t.shape)) for t in (x, y))
    left = reshape(x, tuple(e for d in x.shape for e in (d, 1)))
    right = reshape(y, tuple(e for d in y.shape for e in (1, d)))
    return reshape(multiply(left, right), tuple(a * b for a, b in zip(x.shape, y.shape, strict=True)))


def multi_dot(arrays: Sequence[Any]) -> Tensor:
    """The product of several matrices, in the order that needs the fewest multiplications; as `numpy.linalg.multi_dot`."""
    tensors = [as_tensor(x) for x in arrays]
    if len(tensors) < 2:
        what = f"multi_dot: takes two matrices or more, got {len(tensors)}"
        raise refusal(OptionError, what, "A single matrix is its own product.")
    first, last = tensors[0].ndim == 1, tensors[-1].ndim == 1
    if first:
        tensors[0] = expand_dims(tensors[0], axis=0)
    if last:
        tensors[-1] = expand_dims(tensors[-1], axis=1)
    sizes = [t.shape[0] for t in tensors] + [tensors[-1].shape[1]]
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(tensors))}
    for length in range(1, len(tensors)):
        for i in range(len(tensors) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )

    def build(i: int, j: int) -> Tensor:
        if i == j:
            return tensors[i]
        middle = best[i, j][1]
        return matmul(build(i, middle), build(middle + 1, j))

    found = build(0, len(tensors) - 1)
    shape = (() if first else found.shape[:1]) + (() if last else found.shape[1:])
    return reshape(found, shape)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """x multiplied by itself n times, [..., m, m]; of the inverse where n is negative, 1 where it is 0."""
    n = integer("matrix_power", "n", n)
    tensor = as_tensor(x)
    square = matrices("matrix_power", x, square=True)
    if n == 0:
        return broadcast_to(eye(tensor.shape[-1], dtype=tensor.dtype), tensor.shape)
    base = inv(square) if n < 0 else tensor
    n, product = builtins.abs(n), None
    while n:
        if n & 1:
            product = base if product is None else matmul(product, base)
        n >>= 1
        if n:
            base = matmul(base, base)
    assert product is not None
    return product


# -- norms -----------------------------------------------------------------------------------------------------------------


def outer(x1: Any, x2: Any, /) -> Tensor:
    """All products of an element of x1 [m] with one of x2 [n], as [m, n]; `gx.outer` flattens higher ranks, this refuses."""
    x, y = as_tensor(x1), as_tensor(x2)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(
            message(
                "linalg.outer: both operands must have rank 1",
                operands=[("x1", describe(x)), ("x2", describe(y))],
                location=user_location(),
                hint="Use gx.outer, which flattens, or tensordot with axes=0, which keeps all axes.",
            )
        )
    return _outer(x1, x2)


def _root(x: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0: what a norm takes there."""
    return elementwise.where(elementwise.equal(x, 0), x, elementwise.sqrt(x))


@static_arguments("ord")
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    """Norms of vectors along axes (None: of all elements): (sum |x|^ord)^(1/ord); inf and -inf are the largest and the smallest
    magnitude, 0 counts what is not zero."""
    tensor = floating(x)
    if ord == 0:
        return convert(reducing.sum(not_equal(tensor, 0), axis=axis, keepdims=keepdims), tensor.type.dtype.part.numpy)
    if ord == 2:
        return _root(reducing.sum(reducing.squared_length(tensor), axis=axis, keepdims=keepdims))
    size = elementwise.abs(tensor)
    if ord in (np.inf, -np.inf):
        return (reducing.max if ord > 0 else reducing.min)(size, axis=axis, keepdims=keepdims)
    if ord == 1:
        return reducing.sum(size, axis=axis, keepdims=keepdims)
    if isinstance(ord, str):
        raise bad_option("vector_norm", "ord", ord, "For vectors, ord is a number; 'fro' and 'nuc' are for matrices.")
    return power(reducing.sum(power(size, ord), axis=axis, keepdims=keepdims), 1 / ord)


def _by_sums(axis: int, largest: bool) -> Callable[[Tensor], Tensor]:
    def compute(x: Tensor) -> Tensor:
        sums = reducing.sum(elementwise.abs(x), axis=axis)
        return (reducing.max if largest else reducing.min)(sums, axis=-1)

    return compute


_MATRIX_NORMS: dict[Any, Callable[[Tensor], Tensor]] = {
    "fro": lambda x: _root(reducing.sum(reducing.squared_length(x), axis=(-2, -1))),
    "nuc": lambda x: reducing.sum(svdvals(x), axis=-1),
    np.inf: _by_sums(-1, largest=True),
    -np.inf: _by_sums(-1, largest=False),
    1: _by_sums(-2, largest=True),
    -1: _by_sums(-2, largest=False),
    2: lambda x: reducing.max(svdvals(x), axis=-1),
    -2: lambda x: reducing.min(svdvals(x), axis=-1),
}


@static_arguments("ord")
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """Norms of matrices [..., m, n]: "fro" (Frobenius), "nuc" (sum of singular values), 2 and -2 (the largest and smallest
    singular value), 1 and -1 (sums of columns), inf and -inf (of rows)."""
    tensor = matrices("matrix_norm", x)
    compute = _MATRIX_NORMS.get("fro" if ord is None else ord)
    if compute is None:
        raise bad_option("matrix_norm", "ord", ord, f"It is one of {', '.join(map(repr, _MATRIX_NORMS))}.")
    out = compute(tensor)
    return expand_dims(out, axis=(-2, -1)) if keepdims else out


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """`numpy.linalg.norm`: of all elements, of vectors along one axis, or of matrices along two."""
    tensor = floating(x)
    if axis is None:
        if ord is None or tensor.ndim == 1:
            return vector_norm(tensor, keepdims=keepdims, ord=2 if ord is None else ord)
        if tensor.ndim != 2:
            raise ShapeError(
                message(
                    "norm: with ord=, axis= must say which axes are vectors or matrices",
                    operands=[("x", describe(tensor))],
                    location=user_location(),
                    hint="Give axis=-1 for vectors, axis=(-2, -1) for matrices.",
                )
            )
        axis = (0, 1)
    if not isinstance(axis, (tuple, list)) or len(axis) == 1:
        return vector_norm(tensor, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axis) != 2:
        raise bad_option("norm", "pair of axes", axis, "Norms are of vectors (one axis) or matrices (two).")
    first, second = (normalize_axis("norm", a, tensor.ndim, tensor) for a in axis)
    out = matrix_norm(moveaxis(tensor, (first, second), (-2, -1)), ord=ord)
    return expand_dims(out, axis=tuple(sorted((first, second)))) if keepdims else out


def cond(x: Any, p: Any = None) -> Tensor:
    """Condition numbers [...] in a norm (None: the ratio of the largest to the smallest singular value)."""
    if p in (None, 2, -2):
        s = svdvals(matrices("cond", x))
        largest, smallest = reducing.max(s, axis=-1), reducing.min(s, axis=-1)
        return divide(smallest, largest) if p == -2 else divide(largest, smallest)
    tensor = matrices("cond", x, square=True)
    return multiply(matrix_norm(tensor, ord=p), matrix_norm(inv(tensor), ord=p))
