"""Cumulative functions: running sums, products, extrema, log-sum-exps, recurrences. Layer 5. Semantics are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import ShapeError, message
from graphc.frontend.elementwise import where
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, promote, unify
from graphc.frontend.reducing import accumulator
from graphc.frontend.shaping import concat, normalize_axis, ravel
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "ACCUMULATE",
    "cumprod",
    "cumsum",
    "cumulative_logsumexp",
    "cumulative_max",
    "cumulative_min",
    "cumulative_prod",
    "cumulative_sum",
    "linear_recurrence",
    "nancumprod",
    "nancumsum",
]


def _along(name: str, x: Tensor, axis: int | None, reverse: bool = False) -> Tensor:
    """Apply a cumulative op of one operand; without an axis x must have one."""
    if axis is None:
        if x.ndim != 1:
            raise ShapeError(
                message(
                    f"{name}: an axis is needed for rank {x.ndim}",
                    operands=[("x", describe(x))],
                    location=user_location(),
                    hint="Give axis=, or flatten first.",
                )
            )
        axis = 0
    return op(name, x, axis=normalize_axis(name, axis, x.ndim, x), reverse=reverse)


def _with_initial(out: Tensor, x: Tensor, axis: int | None, initial: int) -> Tensor:
    number = 0 if axis is None else normalize_axis("axis", axis, x.ndim, x)
    shape = tuple(1 if a == number else d for a, d in enumerate(out.shape))
    first = broadcast_to(as_tensor(np.asarray(initial, out.dtype)), shape)
    return concat([first, out], axis=number)


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running sums along an axis, as the Array API has it; integers narrower than 64 bits widen."""
    tensor = as_tensor(x)
    out = _along("cumulative_sum", convert(tensor, accumulator(tensor, dtype)), axis)
    return _with_initial(out, tensor, axis, 0) if include_initial else out


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running products along an axis, as the Array API has it; integers narrower than 64 bits widen."""
    tensor = as_tensor(x)
    out = _along("cumulative_prod", convert(tensor, accumulator(tensor, dtype)), axis)
    return _with_initial(out, tensor, axis, 1) if include_initial else out


def _flat(x: Any, axis: int | None) -> tuple[Tensor, int]:
    tensor = as_tensor(x)
    return (ravel(tensor), 0) if axis is None else (tensor, axis)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sums along an axis (of the flattened tensor by default), as `numpy.cumsum`."""
    tensor, number = _flat(x, axis)
    return cumulative_sum(tensor, axis=number, dtype=dtype)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running products along an axis (of the flattened tensor by default), as `numpy.cumprod`."""
    tensor, number = _flat(x, axis)
    return cumulative_prod(tensor, axis=number, dtype=dtype)


def _extremum(name: str, x: Any, axis: int | None, reverse: bool) -> Tensor:
    tensor = as_tensor(x)
    if not tensor.type.dtype.is_bool:
        return _along(name, tensor, axis, reverse)
    return convert(_along(name, convert(tensor, np.int32), axis, reverse), np.bool_)


def cumulative_max(x: Any, /, *, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Greatest element so far along an axis, as `numpy.maximum.accumulate`."""
    return _extremum("cumulative_max", x, axis, reverse)


def cumulative_min(x: Any, /, *, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Least element so far along an axis, as `numpy.minimum.accumulate`."""
    return _extremum("cumulative_min", x, axis, reverse)


def cumulative_logsumexp(x: Any, /, *, axis: int | None = None, reverse: bool = False) -> Tensor:
    """log(sum(exp(x))) of what has come so far along an axis, as `numpy.logaddexp.accumulate`."""
    tensor = as_tensor(x)
    tensor = tensor if tensor.type.dtype.is_float else convert(tensor, np.float64)
    return _along("cumulative_logsumexp", tensor, axis, reverse)


def linear_recurrence(a: Any, x: Any, /, *, axis: int = 0, reverse: bool = False) -> Tensor:
    """y[i] = a[i] * y[i - 1] + x[i] along an axis, y[-1] = 0: the core of linear recurrent networks and filters."""
    factors, terms = unify("linear_recurrence", promote("linear_recurrence", np.multiply, (a, x)))
    if not terms.type.dtype.is_inexact:
        factors, terms = convert(factors, np.float64), convert(terms, np.float64)
    number = normalize_axis("linear_recurrence", axis, terms.ndim, terms)
    return op("linear_recurrence", factors, terms, axis=number, reverse=reverse)


def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sums with NaN as 0, as `numpy.nancumsum`."""
    return cumsum(_filled(x, 0), axis, dtype)


def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running products with NaN as 1, as `numpy.nancumprod`."""
    return cumprod(_filled(x, 1), axis, dtype)


def _filled(x: Any, value: int) -> Tensor:
    tensor = as_tensor(x)
    return where(op("isnan", tensor), value, tensor) if tensor.type.dtype.is_inexact else tensor


#: `ufunc.accumulate(x, axis)` for these ufuncs.
ACCUMULATE: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: cumulative_sum,
    np.multiply: cumulative_prod,
    np.maximum: cumulative_max,
    np.minimum: cumulative_min,
    np.logaddexp: cumulative_logsumexp,
}
