"""Products of matrices and tensors. Layer 5. Semantics are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError, message
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, promote
from graphc.frontend.shaping import expand_dims, integer, normalize_axis, permute_dims, reshape
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced

__all__ = ["dot", "matmul", "outer", "tensordot", "vecdot"]


def _mismatch(name: str, x1: Any, x2: Any, why: str, hint: str | None = None) -> ShapeError:
    operands = [("x1", describe(x1)), ("x2", describe(x2))]
    return ShapeError(message(f"{name}: {why}", operands=operands, location=user_location(), hint=hint))


def _operands(name: str, x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    x, y = promote(name, np.matmul, (x1, x2))
    return x, y


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """Matrix product with NumPy's rules: rank 1 operands are a row or a column, leading axes are batches that broadcast."""
    given = as_tensor(x1), as_tensor(x2)
    x, y = _operands("matmul", *given)
    if x.type.dtype.is_bool:
        return convert(matmul(convert(x, np.int32), convert(y, np.int32)), np.bool_)
    if not x.ndim or not y.ndim:
        raise _mismatch("matmul", *given, "operands must have rank 1 or more", "Use * for products with scalars.")
    inner = y.shape[0] if y.ndim == 1 else y.shape[-2]
    if x.shape[-1] != inner:
        which = "only" if y.ndim == 1 else "first" if y.ndim == 2 else "second-to-last"
        why = f"the last axis of x1 has size {x.shape[-1]}, the {which} axis of x2 {inner}; they must be equal"
        raise _mismatch("matmul", *given, why, _matmul_hint(x, y))
    if y.ndim <= 2:
        return _dot(x, y, (x.ndim - 1,), (0,))
    if x.ndim == 1:
        return reshape(matmul(expand_dims(x, axis=0), y), (*y.shape[:-2], y.shape[-1]))
    batch = _batch_shape(x, y)
    x = broadcast_to(x, (*batch, *x.shape[-2:]))
    y = broadcast_to(y, (*batch, *y.shape[-2:]))
    axes = tuple(range(len(batch)))
    return _dot(x, y, (x.ndim - 1,), (y.ndim - 2,), axes, axes)


def _matmul_hint(x: Tensor, y: Tensor) -> str:
    if y.ndim > 1 and y.shape[-1] == x.shape[-1]:
        return "Transposed, x2 fits: x1 @ x2.mT."
    if x.ndim > 1 and x.shape[-2] == y.shape[-2 if y.ndim > 1 else 0]:
        return "Transposed, x1 fits: x1.mT @ x2."
    return "A product of [n, k] and [k, m] is [n, m]; * is the elementwise product."


def _batch_shape(x: Tensor, y: Tensor) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        why = f"batch axes {x.shape[:-2]} and {y.shape[:-2]} cannot be broadcast together"
        raise _mismatch("matmul", x, y, why, "All axes but the last two must be equal or 1.") from None


def _dot(
    x: Tensor,
    y: Tensor,
    lhs_contract: tuple[int, ...],
    rhs_contract: tuple[int, ...],
    lhs_batch: tuple[int, ...] = (),
    rhs_batch: tuple[int, ...] = (),
) -> Tensor:
    x, lhs_contract, lhs_batch = _untransposed(x, lhs_contract, lhs_batch)
    y, rhs_contract, rhs_batch = _untransposed(y, rhs_contract, rhs_batch)
    return op(
        "dot",
        x,
        y,
        lhs_batch=lhs_batch,
        rhs_batch=rhs_batch,
        lhs_contract=lhs_contract,
        rhs_contract=rhs_contract,
    )


def _untransposed(
    x: Tensor, contract: tuple[int, ...], batch: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """While tracing, the base of a transposed operand with the numbers of its axes, if the free axes keep their order:

        dot(x, transpose(w)) over axis 0  -->  dot(x, w) over axis 1

    The derivative by w then comes out in w's own layout, without a transpose.
    """
    view = x.transposed_from() if isinstance(x, Traced) else None
    if view is None:
        return x, contract, batch
    base, perm = view
    free = [perm[a] for a in range(x.ndim) if a not in contract and a not in batch]
    if free != sorted(free):
        return x, contract, batch
    return base, tuple(perm[a] for a in contract), tuple(perm[a] for a in batch)


def dot(x1: Any, x2: Any, /) -> Tensor:
    """`numpy.dot`: product with a scalar, inner product of vectors, else a sum over the last axis of x1 and the
    second-to-last of x2."""
    x, y = as_tensor(x1), as_tensor(x2)
    if not x.ndim or not y.ndim:
        a, b = promote("multiply", np.multiply, (x, y))
        shape = a.shape or b.shape
        return op("multiply", broadcast_to(a, shape), broadcast_to(b, shape))
    return tensordot(x, y, axes=((x.ndim - 1,), (max(y.ndim - 2, 0),)))


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Tensor:
    """Sum of products over pairs of axes, as `numpy.tensordot`."""
    x, y = _operands("tensordot", as_tensor(x1), as_tensor(x2))
    lhs: Any
    rhs: Any
    if isinstance(axes, (tuple, list)):
        lhs, rhs = (a if isinstance(a, (tuple, list)) else (a,) for a in axes)
    else:
        count = integer("tensordot", "axes", axes)
        lhs, rhs = range(x.ndim - count, x.ndim), range(count)
    lhs = tuple(normalize_axis("tensordot", a, x.ndim, x) for a in lhs)
    rhs = tuple(normalize_axis("tensordot", a, y.ndim, y) for a in rhs)
    if [x.shape[a] for a in lhs] != [y.shape[a] for a in rhs]:
        sizes = f"{tuple(x.shape[a] for a in lhs)} and {tuple(y.shape[a] for a in rhs)}"
        why = f"contracted axes {lhs} of x1 and {rhs} of x2 have the sizes {sizes}"
        raise _mismatch("tensordot", x, y, why, "Name the axes to sum over in pairs: axes=([...], [...]).")
    return _dot(x, y, lhs, rhs)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Inner products along one axis, other axes broadcast; x1 is conjugated if it is complex."""
    x, y = promote("vecdot", np.multiply, (x1, x2))
    if x.type.dtype.is_complex:
        x = op("conj", x)
    if axis >= 0 or -axis > min(x.ndim, y.ndim):
        why = f"axis {axis} must be negative and an axis of both operands"
        raise _mismatch("vecdot", x, y, why, "Axes are counted from the last one: -1 is the last.")
    x = permute_dims(x, [a for a in range(x.ndim) if a != x.ndim + axis] + [x.ndim + axis])
    y = permute_dims(y, [a for a in range(y.ndim) if a != y.ndim + axis] + [y.ndim + axis])
    product = matmul(expand_dims(x, axis=-2), expand_dims(y, axis=-1))
    return reshape(product, product.shape[:-2])


def outer(x1: Any, x2: Any, /) -> Tensor:
    """All products of an element of x1 with one of x2 (flattened)."""
    x, y = promote("outer", np.multiply, (x1, x2))
    x, y = reshape(x, (x.size, 1)), reshape(y, (1, y.size))
    shape = (x.size, y.size)
    return op("multiply", broadcast_to(x, shape), broadcast_to(y, shape))
