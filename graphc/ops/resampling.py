"""Resampling: weighted sums of a few elements of an axis, at places known in advance. Layer 2.

Interpolation is made of it. Its derivative is of the same form with the table turned round, so that nothing is scattered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import float32
from graphc.errors import DTypeError, ShapeError
from graphc.ir.graph import Literal, constant
from graphc.ir.op import Builder, Expansion, type_error
from graphc.ir.registry import register
from graphc.ir.types import TensorType, Type
from graphc.ops.rules import same_float

__all__ = ["resample"]

Array = NDArray[Any]

#: Sums of more elements are products with a matrix.
MAX_TAPS = 24


def _rule(*operands: Type, axis: int, places: Literal, weights: Literal) -> tuple[Type, ...]:
    x = operands[0] if len(operands) == 1 else None
    if not isinstance(x, TensorType):
        raise ShapeError(type_error("resample", "takes one tensor", operands))
    if not 0 <= axis < x.rank:
        raise ShapeError(type_error("resample", f"axis {axis} is not one of the operand's", operands))
    table = places.array
    if table.ndim != 2 or table.shape != weights.array.shape or table.dtype.kind != "i":
        raise ShapeError(
            type_error("resample", "places and weights must be integers and floats of one rank-2 shape", operands)
        )
    extent = x.shape[axis]
    if table.size and (not isinstance(extent, int) or table.min() < 0 or table.max() >= extent):
        raise ShapeError(type_error("resample", f"places lie outside of axis {axis} of size {extent}", operands))
    try:
        return (TensorType(same_float(x.dtype), (*x.shape[:axis], table.shape[1], *x.shape[axis + 1 :])),)
    except DTypeError as error:
        raise DTypeError(type_error("resample", str(error), operands)) from None


def _numpy(x: Array, axis: int, places: Literal, weights: Literal) -> Array:
    """In float64."""
    shape = tuple(-1 if a == axis else 1 for a in range(x.ndim))
    y = np.zeros((*x.shape[:axis], places.array.shape[1], *x.shape[axis + 1 :]))
    for at, weight in zip(places.array, weights.array, strict=True):
        y += np.take(x, at, axis=axis) * weight.reshape(shape)
    return y.astype(x.dtype)


def _expand(b: Builder, x: Any, axis: int, places: Literal, weights: Literal) -> Any:
    """16-bit floats are summed in float32 and rounded once."""
    own = b.type(x)
    if own.dtype.is_short_float:
        wide = _expand(b, b.convert(x, dtype=float32), axis, places, weights)
        return b.convert(wide, dtype=own.dtype)
    taps, size = places.array.shape
    if taps > MAX_TAPS:
        return _multiplied(b, x, axis, _matrix(places, weights, own.shape[axis]))
    shape = (*own.shape[:axis], size, *own.shape[axis + 1 :])
    apart = tuple(size if a == axis else 1 for a in range(own.rank))
    total: Any = None
    for at, weight in zip(places.array, weights.array, strict=True):
        term = b.take(x, constant(at), axis=axis, mode="clip")
        if (weight != 1).any():
            factor = b.reshape(constant(weight.astype(own.dtype.numpy)), shape=apart)
            term = b.multiply(term, b.broadcast(factor, shape=shape))
        total = term if total is None else b.add(total, term)
    return b.full(shape, 0.0, own.dtype) if total is None else total


def _matrix(places: Literal, weights: Literal, extent: Any) -> Array:
    """The table as a matrix [new size, old size]."""
    taps, size = places.array.shape
    matrix = np.zeros((size, extent))
    np.add.at(matrix, (np.tile(np.arange(size), taps), places.array.ravel()), weights.array.ravel())
    return matrix


def _multiplied(b: Builder, x: Any, axis: int, matrix: Array) -> Any:
    own = b.type(x)
    table = constant(matrix.astype(own.dtype.numpy))
    y = b.dot(x, table, lhs_batch=(), rhs_batch=(), lhs_contract=(axis,), rhs_contract=(1,))
    last = own.rank - 1
    return b.transpose(y, perm=(*range(axis), last, *range(axis, last)))


def _vjp(
    b: Builder,
    operands: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Any],
    axis: int,
    places: Literal,
    weights: Literal,
) -> list[Any]:
    """The table turned round: which results an element went into. Elements that went into fewer than others have their last
    place again, with weight 0."""
    extent = b.type(operands[0]).shape[axis]
    assert isinstance(extent, int)
    taps, size = places.array.shape
    order = np.argsort(places.array.ravel(), kind="stable")
    count = np.bincount(places.array.ravel(), minlength=extent)
    most, first = int(count.max(initial=0)), np.cumsum(count) - count
    if not most:
        return [b.like(operands[0], 0.0)]
    number = np.arange(most)[:, None]
    entry = order[np.clip(first + np.minimum(number, np.maximum(count - 1, 0)), 0, order.size - 1)]
    turned = np.where(number < count, weights.array.ravel()[entry], 0.0)
    table = {"places": Literal(np.tile(np.arange(size), taps)[entry]), "weights": Literal(turned)}
    return [b.resample(cotangents[0], axis=axis, **table)]


resample = register(
    Expansion(
        name="resample",
        doc="""y[.., i, ..] = sum over t of weights[t, i] * x[.., places[t, i], ..] along `axis`; `places` (i64) and
        `weights` (f64) are tables [terms, new size]. All products are formed: 0 * inf is NaN. A sum of no terms is
        0.""",
        attributes=("axis", "places", "weights"),
        rule=_rule,
        numpy=_numpy,
        vjp=_vjp,
        linear="together",
        expand=_expand,
        shift=lambda n, axis, **attrs: {"axis": axis + 1, **attrs},
    )
)
