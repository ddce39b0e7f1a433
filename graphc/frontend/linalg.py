"""The linear algebra extension of the Array API that needs no decomposition. Layer 5. Semantics are NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ShapeError, UnsupportedError, message
from graphc.frontend import reducing
from graphc.frontend.arranging import diagonal as _diagonal
from graphc.frontend.arranging import trace as _trace
from graphc.frontend.creation import eye
from graphc.frontend.elementwise import abs as abs_
from graphc.frontend.elementwise import multiply, not_equal, power, sqrt, square, subtract
from graphc.frontend.products import matmul, outer, tensordot, vecdot
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, promote, unify
from graphc.frontend.shaping import (
    expand_dims,
    matrix_transpose,
    moveaxis,
    normalize_axes,
    normalize_axis,
    ravel,
    reshape,
    roll,
)
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "cross",
    "diagonal",
    "inner",
    "kron",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
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
    """The inner product of two tensors, flattened; as `numpy.vdot`."""
    x, y = ravel(as_tensor(x1)), ravel(as_tensor(x2))
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
        raise ValueError("multi_dot: expecting at least two arrays")
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
    """A square matrix times itself, n >= 0 factors, by squaring."""
    tensor = as_tensor(x)
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        raise ShapeError(
            message("matrix_power: takes square matrices", operands=[("x", describe(tensor))], location=user_location())
        )
    if n < 0:
        raise UnsupportedError(
            message(
                "matrix_power: a negative power needs the inverse", location=user_location(), hint="n must be >= 0."
            )
        )
    if n == 0:
        return broadcast_to(convert(eye(tensor.shape[-1]), tensor.dtype), tensor.shape)
    result: Tensor | None = None
    square_: Tensor = tensor
    while True:
        if n & 1:
            result = square_ if result is None else matmul(result, square_)
        n >>= 1
        if not n:
            assert result is not None
            return result
        square_ = matmul(square_, square_)


# -- norms ------------------------------------------------------------------------------------------------------------------


def _floating(x: Any) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_float else convert(tensor, np.float64)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    """The norm of vectors, over any axes: (sum |x|**ord) ** (1 / ord); the greatest size for inf, the least for -inf, the
    count of elements that are not zero for 0."""
    tensor = _floating(x)
    if ord == np.inf:
        return reducing.max(abs_(tensor), axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return reducing.min(abs_(tensor), axis=axis, keepdims=keepdims)
    if ord == 0:
        return reducing.sum(convert(not_equal(tensor, 0), tensor.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return reducing.sum(abs_(tensor), axis=axis, keepdims=keepdims)
    if ord == 2:
        return sqrt(reducing.sum(square(tensor), axis=axis, keepdims=keepdims))
    total = reducing.sum(power(abs_(tensor), float(ord)), axis=axis, keepdims=keepdims)
    return power(total, 1 / float(ord))


def _over_matrices(x: Tensor, ord: Any, axes: tuple[int, int], keepdims: bool) -> Tensor:
    """Norms of the matrices whose rows and columns are the two axes."""
    rows, columns = axes
    if ord in (None, "fro"):
        return vector_norm(x, axis=axes, keepdims=keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        summed, kept = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = reducing.sum(abs_(x), axis=summed, keepdims=True)
        extremum = reducing.max if ord > 0 else reducing.min
        out = extremum(sums, axis=kept, keepdims=True)
        return out if keepdims else reshape(out, tuple(d for a, d in enumerate(x.shape) if a not in axes))
    raise UnsupportedError(
        message(
            f"a matrix norm with ord={ord!r} needs singular values, which are not supported yet",
            operands=[("x", describe(x))],
            location=user_location(),
            hint="'fro', 1, -1, inf and -inf are.",
        )
    )


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of the matrices in the last two axes: Frobenius, or the greatest (least) sum of sizes of a column (1, -1) or of
    a row (inf, -inf)."""
    tensor = _floating(x)
    if tensor.ndim < 2:
        raise ShapeError(
            message("matrix_norm: needs rank 2 or more", operands=[("x", describe(tensor))], location=user_location())
        )
    return _over_matrices(tensor, ord, (tensor.ndim - 2, tensor.ndim - 1), keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors (one axis) or matrices (two), as `numpy.linalg.norm`."""
    tensor = _floating(x)
    if axis is None:
        if ord is None:
            return vector_norm(tensor, keepdims=keepdims)
        axes: tuple[int, ...] = tuple(range(tensor.ndim))
    else:
        given = axis if isinstance(axis, (tuple, list)) else (axis,)
        axes = tuple(normalize_axis("norm", a, tensor.ndim, tensor) for a in given)
        normalize_axes("norm", axes, tensor.ndim, tensor)
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ValueError(f"Invalid norm order {ord!r} for vectors")
        return vector_norm(tensor, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) == 2:
        return _over_matrices(tensor, ord, (axes[0], axes[1]), keepdims)
    raise ShapeError(
        message("norm: is of vectors or matrices", operands=[("x", describe(tensor))], location=user_location())
    )
