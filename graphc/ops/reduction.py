"""Reductions: the elements along some axes become one. Layer 2.

`combine` and `identity` define a reduction over the scalar protocol, in any order of combination; `numpy` is the
specification. Over an empty axis a reduction gives its neutral element, in NumPy's form: the neutral element of a float
sum is -0.0 (so that unused lanes leave a sum of -0.0 alone), but the sum of nothing is +0.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import DType, int64
from graphc.errors import UnsupportedError, message
from graphc.ir.dims import Dim, product
from graphc.ir.op import Builder, Reduction, conjugated
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import Shape
from graphc.ops import complexmath
from graphc.ops.arithmetic import maximum, minimum
from graphc.ops.rules import same_bool, same_number, same_ordered, same_real

__all__ = ["all_", "any_", "argmax", "argmin", "greatest", "least", "max_", "min_", "prod", "sum_"]

Array = NDArray[Any]
Axes = tuple[int, ...]


def _expand(b: Builder, reduced: Any, shape: Shape, axes: Axes) -> Any:
    """Repeat a reduction's result along the reduced axes."""
    kept = tuple(1 if k in axes else d for k, d in enumerate(shape))
    return b.broadcast(b.reshape(reduced, shape=kept), shape=shape)


def least(dtype: DType) -> float:
    """The value below all others: -inf, the least integer, False."""
    if dtype.is_float:
        return -math.inf
    return -(1 << (dtype.bits - 1)) if dtype.is_signed else 0


def greatest(dtype: DType) -> float:
    if dtype.is_float:
        return math.inf
    return (1 << (dtype.bits - 1 if dtype.is_signed else dtype.bits)) - 1


# -- sum and prod -----------------------------------------------------------------------------------------------------

sum_ = register(
    Reduction(
        name="sum",
        doc="""y = sum of x over `axes`, in an unspecified but fixed order; integers wrap; bool is not a number here.
        The sum of nothing is +0.0 (0); a sum of -0.0 only is +0.0 in NumPy and may keep its sign in compiled
        code.""",
        types=same_number,
        numpy=lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype),
        combine=lambda s, x, y: s.add(x, y),
        identity=lambda dtype: -0.0 if dtype.is_float else 0,
        vjp=lambda b, ct, y, x, axes: _expand(b, ct, b.type(x).shape, axes),
        linear="together",
    )
)


def _prod_vjp(b: Builder, ct: Any, y: Any, x: Any, axes: Axes) -> Any:
    """ct times the product of all other elements: products from both sides, so that zeros need no special case."""
    shape = b.type(x).shape
    kept = tuple(k for k in range(len(shape)) if k not in axes)
    perm = (*kept, *axes)
    count = product(shape[k] for k in axes)
    rows = product(shape[k] for k in kept)
    moved = b.transpose(x, perm=perm)
    flat = b.reshape(moved, shape=(rows, count))
    if isinstance(count, int):
        others = b.multiply(_products_before(b, flat, count, False), _products_before(b, flat, count, True))
    else:
        others = _others_by_division(b, flat, rows, count)
    back = tuple(perm.index(k) for k in range(len(shape)))
    others = b.transpose(b.reshape(others, shape=b.type(moved).shape), perm=back)
    return b.multiply(_expand(b, ct, shape, axes), conjugated(b, others))


def _products_before(b: Builder, x: Any, count: int, reverse: bool) -> Any:
    """y[i, j] = product of x[i, k] over k < j (over k > j if `reverse`), in log2(count) steps."""
    if count == 0:
        return x
    result, distance = _shift_ones(b, x, 1, reverse), 1
    while distance < count:
        result = b.multiply(result, _shift_ones(b, result, distance, reverse))
        distance *= 2
    return result


def _shift_ones(b: Builder, x: Any, distance: int, reverse: bool) -> Any:
    """Move columns up (down if `reverse`) by `distance`, letting in ones."""
    rows, count = b.type(x).shape
    first, gap = (distance, (0, 0)) if reverse else (0, (0, distance))
    kept = b.slice(x, start=(0, first), size=(rows, count - distance), step=(1, 1))
    one = b.full((), 1.0, b.type(x).dtype)
    return b.pad(kept, one, low=gap, high=(0, distance) if reverse else (0, 0))


def _others_by_division(b: Builder, x: Any, rows: Dim, count: Dim) -> Any:
    """For a symbolic count: divide, and treat rows with one zero and with several apart."""
    shape = (rows, count)
    zero = b.equal(x, b.like(x, 0.0))
    filled = b.select(zero, b.like(x, 1.0), x)
    rest = b.divide(_expand(b, b.prod(filled, axes=(1,)), shape, (1,)), filled)
    zeros = _expand(b, b.sum(b.convert(zero, dtype=int64), axes=(1,)), shape, (1,))
    elsewhere = b.subtract(zeros, b.convert(zero, dtype=int64))
    return b.select(b.equal(elsewhere, b.like(elsewhere, 0)), rest, b.like(x, 0.0))


def _prod_parts(b: Builder, x: tuple[Any, Any], axes: Axes) -> tuple[Any, Any]:
    """By halves: complex products are sums of products, which no kernel accumulates."""
    shape = b.type(x[0]).shape
    kept = tuple(k for k in range(len(shape)) if k not in axes)
    count = product(shape[k] for k in axes)
    if not isinstance(count, int):
        raise UnsupportedError(
            message(
                "prod of complex numbers is not compiled for an axis of unknown size",
                operands=[("parts", b.type(x[0]))],
                hint="Let the size be known: leave the axis out of dynamic=.",
            )
        )
    rest = tuple(shape[k] for k in kept)
    rows = (product(rest), count)
    parts = [b.reshape(b.transpose(part, perm=(*kept, *axes)), shape=rows) for part in x]
    if count == 0:
        return b.full(rest, 1.0, b.type(x[0]).dtype), b.full(rest, 0.0, b.type(x[0]).dtype)
    while count > 1:
        half = count // 2
        left, right, odd = (
            [b.slice(part, start=(0, first), size=(rows[0], size), step=(1, 1)) for part in parts]
            for first, size in ((0, half), (half, half), (2 * half, count - 2 * half))
        )
        found = complexmath.multiply(b, (left[0], left[1]), (right[0], right[1]))
        count -= half
        parts = [b.concatenate(f, o, axis=1) if count > half else f for f, o in zip(found, odd, strict=True)]
    return b.reshape(parts[0], shape=rest), b.reshape(parts[1], shape=rest)


prod = register(
    Reduction(
        name="prod",
        doc="""y = product of x over `axes`, in an unspecified but fixed order; integers wrap; bool is not a number
        here. The product of nothing is 1. The derivative is right where elements are 0, also where several are.""",
        types=same_number,
        numpy=lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype),
        combine=lambda s, x, y: s.mul(x, y),
        parts=_prod_parts,
        identity=lambda dtype: 1,
        vjp=_prod_vjp,
    )
)


# -- max and min ------------------------------------------------------------------------------------------------------


def _extremum_vjp(b: Builder, ct: Any, y: Any, x: Any, axes: Axes) -> tuple[Any, Any]:
    """Elements equal to the extremum share equally; a masked cotangent."""
    shape, dtype = b.type(x).shape, b.type(x).dtype
    chosen = b.equal(x, _expand(b, y, shape, axes))
    count = b.sum(b.convert(chosen, dtype=dtype), axes=axes)
    return _expand(b, b.divide(ct, count), shape, axes), chosen


max_ = register(
    Reduction(
        name="max",
        doc="""y = the greatest element over `axes`; NaN if one is NaN; of zeros with different signs either. No value
        for an empty axis. Derivative: elements equal to the maximum share equally.""",
        types=same_real,
        numpy=lambda x, axes: np.max(x, axis=axes),
        combine=maximum.scalar,
        identity=least,
        vjp=_extremum_vjp,
        empty=False,
        exact=True,
    )
)

min_ = register(
    Reduction(
        name="min",
        doc="""y = the least element over `axes`; NaN if one is NaN; of zeros with different signs either. No value
        for an empty axis. Derivative: elements equal to the minimum share equally.""",
        types=same_real,
        numpy=lambda x, axes: np.min(x, axis=axes),
        combine=minimum.scalar,
        identity=greatest,
        vjp=_extremum_vjp,
        empty=False,
        exact=True,
    )
)


# -- any and all ------------------------------------------------------------------------------------------------------

any_ = register(
    Reduction(
        name="any",
        doc="y = whether an element over `axes` is True; False for an empty axis. Takes bools.",
        types=same_bool,
        numpy=lambda x, axes: np.any(x, axis=axes),
        combine=lambda s, x, y: s.or_(x, y),
        identity=lambda dtype: False,
        exact=True,
    )
)

all_ = register(
    Reduction(
        name="all",
        doc="y = whether all elements over `axes` are True; True for an empty axis. Takes bools.",
        types=same_bool,
        numpy=lambda x, axes: np.all(x, axis=axes),
        combine=lambda s, x, y: s.and_(x, y),
        identity=lambda dtype: True,
        exact=True,
    )
)


# -- argmax and argmin ------------------------------------------------------------------------------------------------


def _beats(than: Callable[[Scalar, S, S], S]) -> Callable[[Scalar, S, S], S]:
    """The condition that x replaces best: `than(x, best)`, or x is the first NaN."""

    def combine(s: Scalar, x: S, best: S) -> S:
        wins = than(s, x, best)
        if not s.dtype(x).is_float:
            return wins
        return s.or_(wins, s.and_(s.ne(x, x), s.eq(best, best)))

    return combine


def _greater(s: Scalar, x: S, y: S) -> S:
    return s.and_(x, s.not_(y)) if s.dtype(x).is_bool else s.gt(x, y)


def _less(s: Scalar, x: S, y: S) -> S:
    return s.and_(s.not_(x), y) if s.dtype(x).is_bool else s.lt(x, y)


def _position_type(dtype: DType) -> DType:
    same_ordered(dtype)
    return int64


argmax = register(
    Reduction(
        name="argmax",
        doc="""y = the position (i64) of the greatest element along the one axis in `axes`; of equal ones the first;
        the first NaN if there is one; zeros of both signs are equal. No value for an empty axis.""",
        types=_position_type,
        numpy=lambda x, axes: np.argmax(x, axis=axes[0]),
        combine=_beats(_greater),
        identity=lambda dtype: False if dtype.is_bool else least(dtype),
        arg=True,
        empty=False,
        exact=True,
    )
)

argmin = register(
    Reduction(
        name="argmin",
        doc="""y = the position (i64) of the least element along the one axis in `axes`; of equal ones the first; the
        first NaN if there is one; zeros of both signs are equal. No value for an empty axis.""",
        types=_position_type,
        numpy=lambda x, axes: np.argmin(x, axis=axes[0]),
        combine=_beats(_less),
        identity=lambda dtype: True if dtype.is_bool else greatest(dtype),
        arg=True,
        empty=False,
        exact=True,
    )
)
