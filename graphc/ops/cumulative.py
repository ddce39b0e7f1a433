"""Cumulative ops: running sums, products, extrema and recurrences along one axis. Layer 2.

Element after element in the order of the axis (backwards if `reverse`), as NumPy's `accumulate`. Empty operands give an
empty result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import DType, int64
from graphc.errors import UnsupportedError, message
from graphc.ir.dims import Dim, product
from graphc.ir.op import Builder, Cumulative, conjugated
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops import complexmath, mathlib
from graphc.ops.arithmetic import maximum, minimum
from graphc.ops.reduction import greatest, least
from graphc.ops.rules import same_float, same_inexact, same_number, same_real

__all__ = [
    "cumulative_logsumexp",
    "cumulative_max",
    "cumulative_min",
    "cumulative_prod",
    "cumulative_sum",
    "linear_recurrence",
    "scatter_along",
]

Array = NDArray[Any]
Pair = tuple[Any, Any]


def scatter_along(b: Builder, indices: Any, updates: Any, axis: int) -> Any:
    """Zeros to which updates[i, j, k] is added at [i, indices[i, j, k], k] (for axis 1), and so on; all of one shape.

    Indices are known to be in range. On the flattened tensor with the axis last, where a row's start is an element's flat
    position less its position in the row.
    """
    rank = len(b.type(indices).shape)
    perm = (*(a for a in range(rank) if a != axis), axis)
    back = tuple(perm.index(a) for a in range(rank))
    indices, updates = b.transpose(indices, perm=perm), b.transpose(updates, perm=perm)
    shape = b.type(indices).shape
    flat = (product(shape),)
    places = b.reshape(b.iota(shape=flat, axis=0, dtype=int64), shape=shape)
    targets = b.add(b.subtract(places, b.iota(shape=shape, axis=rank - 1, dtype=int64)), indices)
    zeros = b.full(flat, 0.0, b.type(updates).dtype)
    added = b.scatter_add(zeros, b.reshape(targets, shape=flat), b.reshape(updates, shape=flat), axis=0, mode="clip")
    return b.transpose(b.reshape(added, shape=shape), perm=back)


# -- sums and recurrences -----------------------------------------------------------------------------------------------


cumulative_sum = register(
    Cumulative(
        name="cumulative_sum",
        doc="y[i] = x[0] + ... + x[i] along `axis`, one after the other; integers wrap; NaN stays once it has come.",
        types=same_number,
        numpy=lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype),
        combine=lambda s, y, x: s.add(y, x),
        start=lambda dtype: -0.0 if dtype.is_float else 0,
        vjp=lambda b, ct, y, x, axis, reverse: [b.cumulative_sum(ct, axis=axis, reverse=not reverse)],
        linear="together",
    )
)


def _recurrence_numpy(a: Array, x: Array, axis: int) -> Array:
    a, x = np.moveaxis(a, axis, 0), np.moveaxis(x, axis, 0)
    y = np.empty_like(x)
    last = np.zeros(x.shape[1:], x.dtype)
    for i in range(x.shape[0]):
        last = a[i] * last + x[i]
        y[i] = last
    return np.moveaxis(y, 0, axis)


def _shifted(b: Builder, x: Any, axis: int, reverse: bool, first: float) -> Any:
    """y[i] = x[i - 1] (x[i + 1] if `reverse`), with `first` at the end that has no such element."""
    shape = b.type(x).shape
    count = shape[axis]
    if count == 0:
        return x
    start = tuple(1 if a == axis and reverse else 0 for a in range(len(shape)))
    size = tuple(count - 1 if a == axis else d for a, d in enumerate(shape))
    kept = b.slice(x, start=start, size=size, step=(1,) * len(shape))
    gap = tuple(1 if a == axis else 0 for a in range(len(shape)))
    none = (0,) * len(shape)
    value = b.full((), first, b.type(x).dtype)
    return b.pad(kept, value, low=none if reverse else gap, high=gap if reverse else none)


def _recurrence_vjp(b: Builder, ct: Any, y: Any, a: Any, x: Any, axis: int, reverse: bool) -> list[Any]:
    """The adjoint recurrence runs the other way: g[i] = ct[i] + a[i + 1] * g[i + 1] (with complex a, its conjugate)."""
    a, y = conjugated(b, a), conjugated(b, y)
    g = b.linear_recurrence(_shifted(b, a, axis, not reverse, 0.0), ct, axis=axis, reverse=not reverse)
    return [b.multiply(g, _shifted(b, y, axis, reverse, 0.0)), g]


def _recurrence_parts(b: Builder, a: Pair, x: Pair, axis: int, reverse: bool) -> Pair:
    """In log2(n) steps: (a, x) stands for y -> a * y + x, and maps that follow one another make one. The first is applied to
    zero, which makes NaN of infinite a."""
    if b.type(x[0]).shape[axis] != 0:
        (first_a, _, _), (first_x, others, _) = (_apart(b, v, axis, 1, reverse) for v in (a, x))
        begun = [b.add(b.multiply(factor, 0.0), part) for factor, part in zip(first_a, first_x, strict=True)]
        x = _together(b, (begun[0], begun[1]), others, axis, reverse)
    for distance in _distances(b, x[0], axis, "linear_recurrence"):
        (_, late_a, early_a), (first, late_x, early_x) = (_apart(b, v, axis, distance, reverse) for v in (a, x))
        more = complexmath.multiply(b, late_a, early_x)
        x = _together(b, first, (b.add(more[0], late_x[0]), b.add(more[1], late_x[1])), axis, reverse)
        a = _together(b, first, complexmath.multiply(b, late_a, early_a), axis, reverse)
    return x


def _product_parts(b: Builder, x: Pair, axis: int, reverse: bool) -> Pair:
    for distance in _distances(b, x[0], axis, "cumulative_prod"):
        first, late, early = _apart(b, x, axis, distance, reverse)
        x = _together(b, first, complexmath.multiply(b, early, late), axis, reverse)
    return x


def _apart(b: Builder, x: Pair, axis: int, distance: int, reverse: bool) -> tuple[Pair, Pair, Pair]:
    """The first `distance` elements, the others, and what comes `distance` before these."""
    shape = b.type(x[0]).shape
    count = shape[axis] - distance

    def cut(first: Dim, size: Dim) -> Pair:
        start = tuple(first if k == axis else 0 for k in range(len(shape)))
        sizes = tuple(size if k == axis else d for k, d in enumerate(shape))
        real, imaginary = (b.slice(part, start=start, size=sizes, step=(1,) * len(shape)) for part in x)
        return real, imaginary

    if reverse:
        return cut(count, distance), cut(0, count), cut(distance, count)
    return cut(0, distance), cut(distance, count), cut(0, count)


def _together(b: Builder, first: Pair, others: Pair, axis: int, reverse: bool) -> Pair:
    real, imaginary = (
        b.concatenate(*((late, early) if reverse else (early, late)), axis=axis)
        for early, late in zip(first, others, strict=True)
    )
    return real, imaginary


def _distances(b: Builder, x: Any, axis: int, name: str) -> list[int]:
    """1, 2, 4, ... below the size of the axis."""
    count = b.type(x).shape[axis]
    if not isinstance(count, int):
        raise UnsupportedError(
            message(
                f"{name} of complex numbers is not compiled for an axis of unknown size",
                operands=[("parts", b.type(x))],
                hint="Let the size be known: leave the axis out of dynamic=.",
            )
        )
    return [1 << k for k in range(max(count - 1, 0).bit_length())]


linear_recurrence = register(
    Cumulative(
        name="linear_recurrence",
        doc="""y[i] = x0[i] * y[i - 1] + x1[i] along `axis`, with y[-1] = 0: infinite or NaN x0[0] gives NaN. A compiled step
        may be rounded once.""",
        arity=2,
        types=same_inexact,
        numpy=_recurrence_numpy,
        combine=lambda s, y, a, x: s.add(s.mul(a, y), x),
        parts=_recurrence_parts,
        start=lambda dtype: 0.0,
        vjp=_recurrence_vjp,
        exact=False,
    )
)


def _cumulative_prod_vjp(b: Builder, ct: Any, y: Any, x: Any, axis: int, reverse: bool) -> list[Any]:
    """sum over i >= j of ct[i] * (product of x[k], k <= i, k != j) = y[j - 1] * g[j], g[j] = ct[j] + x[j + 1] * g[j + 1]:
    no division, so zeros need no special case. Of complex x and y the conjugates."""
    x, y = conjugated(b, x), conjugated(b, y)
    g = b.linear_recurrence(_shifted(b, x, axis, not reverse, 0.0), ct, axis=axis, reverse=not reverse)
    return [b.multiply(_shifted(b, y, axis, reverse, 1.0), g)]


cumulative_prod = register(
    Cumulative(
        name="cumulative_prod",
        doc="""y[i] = x[0] * ... * x[i] along `axis`, one after the other; integers wrap. The derivative is right where
        elements are 0, too.""",
        types=same_number,
        numpy=lambda x, axis: np.cumprod(x, axis=axis, dtype=x.dtype),
        combine=lambda s, y, x: s.mul(y, x),
        parts=_product_parts,
        start=lambda dtype: 1,
        vjp=_cumulative_prod_vjp,
    )
)


# -- extrema --------------------------------------------------------------------------------------------------------------


def _extremum_vjp(b: Builder, ct: Any, y: Any, x: Any, axis: int, reverse: bool) -> list[Any]:
    """All goes to the element that is the extremum: of equal ones the last that came."""
    shape = b.type(x).shape
    positions = b.iota(shape=shape, axis=axis, dtype=int64)
    reached = b.bitwise_or(b.equal(x, y), b.not_equal(x, x))
    if reverse:
        nowhere = b.full(shape, 2**62, int64)
        latest = b.cumulative_min(b.select(reached, positions, nowhere), axis=axis, reverse=True)
    else:
        latest = b.cumulative_max(b.select(reached, positions, b.full(shape, 0, int64)), axis=axis, reverse=False)
    return [scatter_along(b, latest, ct, axis)]


cumulative_max = register(
    Cumulative(
        name="cumulative_max",
        doc="""y[i] = the greatest of x[0], ..., x[i] along `axis`; NaN stays once it has come; of zeros of both signs
        either. The derivative goes to the last element that equals the maximum.""",
        types=same_real,
        numpy=lambda x, axis: np.maximum.accumulate(x, axis=axis),
        combine=maximum.scalar,
        start=least,
        vjp=_extremum_vjp,
    )
)

cumulative_min = register(
    Cumulative(
        name="cumulative_min",
        doc="""y[i] = the least of x[0], ..., x[i] along `axis`; NaN stays once it has come; of zeros of both signs either.
        The derivative goes to the last element that equals the minimum.""",
        types=same_real,
        numpy=lambda x, axis: np.minimum.accumulate(x, axis=axis),
        combine=minimum.scalar,
        start=greatest,
        vjp=_extremum_vjp,
    )
)


# -- log-sum-exp ----------------------------------------------------------------------------------------------------------


def _logaddexp_scalar(s: Scalar, y: S, x: S) -> S:
    """max(x, y) + log1p(exp(-|x - y|)); of equal operands, infinite ones too, the distance is 0."""
    dtype: DType = s.dtype(x)
    apart = s.select(s.eq(x, y), s.const(dtype, 0.0), s.abs(s.sub(x, y)))
    return s.add(maximum.scalar(s, y, x), mathlib.log1p(s, mathlib.exp(s, s.neg(apart))))


def _logsumexp_vjp(b: Builder, ct: Any, y: Any, x: Any, axis: int, reverse: bool) -> list[Any]:
    """ct_x[j] = exp(x[j] - y[j]) * g[j], g[j] = ct[j] + exp(y[j] - y[j + 1]) * g[j + 1]: all factors are at most 1, so that
    nothing overflows."""
    later = _shifted(b, y, axis, not reverse, math.inf)
    g = b.linear_recurrence(_share(b, y, later), ct, axis=axis, reverse=not reverse)
    return [b.multiply(_share(b, x, y), g)]


def _share(b: Builder, part: Any, whole: Any) -> Any:
    """exp(part - whole), where infinities that are equal give 1."""
    return b.exp(b.select(b.equal(part, whole), b.like(part, 0.0), b.subtract(part, whole)))


cumulative_logsumexp = register(
    Cumulative(
        name="cumulative_logsumexp",
        doc="""y[i] = log(exp(x[0]) + ... + exp(x[i])) along `axis`, without overflow. -inf adds nothing, +inf gives +inf, NaN
        stays once it has come.""",
        types=same_float,
        numpy=lambda x, axis: np.logaddexp.accumulate(x, axis=axis),
        combine=_logaddexp_scalar,
        start=lambda dtype: -math.inf,
        vjp=_logsumexp_vjp,
        exact=False,
    )
)
