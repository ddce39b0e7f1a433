"""Sums and counts composed of others: integrals, histograms, averages, reductions that skip NaN. Layer 5. Semantics are
NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import DTypeError, OptionError, ShapeError, StructureError, UnsupportedError, message
from graphc.frontend import context, reducing
from graphc.frontend.arranging import diagonal
from graphc.frontend.elementwise import (
    add,
    apply_ufunc,
    clip,
    divide,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    multiply,
    sqrt,
    square,
    subtract,
    where,
)
from graphc.frontend.products import matmul
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, refusal, result_dtype
from graphc.frontend.shaping import expand_dims, moveaxis, normalize_axes, normalize_axis, ravel, reshape, slice_axis
from graphc.frontend.sorting import searchsorted
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced

__all__ = [
    "average",
    "bincount",
    "corrcoef",
    "cov",
    "histogram",
    "histogram_bin_edges",
    "interp",
    "nanargmax",
    "nanargmin",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
    "one_hot",
    "polyval",
    "ptp",
    "trapezoid",
]


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    """The integral of y along an axis by trapezoids, at places x or in steps dx; as `numpy.trapezoid`."""
    tensor = as_tensor(y)
    number = normalize_axis("trapezoid", axis, tensor.ndim, tensor)
    count = max(tensor.shape[number] - 1, 0)
    if x is not None:
        places = as_tensor(x)
        along = 0 if places.ndim == 1 else number
        if (
            places.ndim == 0
            or (places.ndim > 1 and places.ndim != tensor.ndim)
            or places.shape[along] != tensor.shape[number]
        ):
            what = "trapezoid: there must be one place for each value"
            raise refusal(ShapeError, what, "Give places of y's shape, or a vector along the axis.", y=tensor, x=places)
        steps = subtract(slice_axis(places, along, 1, count), slice_axis(places, along, 0, count))
        dx = (
            reshape(steps, tuple(count if a == number else 1 for a in range(tensor.ndim)))
            if places.ndim == 1
            else steps
        )
    if tensor.shape[number] == 0:
        return reducing.sum(multiply(tensor, 0.5), axis=number)
    sums = add(slice_axis(tensor, number, 1, count), slice_axis(tensor, number, 0, count))
    return reducing.sum(divide(multiply(sums, dx), 2.0), axis=number)


def ptp(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Greatest less least element, as `numpy.ptp`."""
    top, bottom = (f(x, axis=axis, keepdims=keepdims) for f in (reducing.max, reducing.min))
    return subtract(top, bottom)


def average(x: Any, /, *, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Tensor:
    """Weighted mean over axes, as `numpy.average`."""
    tensor = as_tensor(x)
    if weights is None:
        return reducing.mean(tensor, axis=axis, keepdims=keepdims)
    factors = as_tensor(weights)
    if factors.shape != tensor.shape:
        axes = normalize_axes("average", axis, tensor.ndim, tensor)
        if axis is None:
            what = "average: weights have another shape than x, and no axis is named"
            raise refusal(StructureError, what, "Name the axes of the weights with axis=.", x=tensor, weights=factors)
        if factors.shape != tuple(tensor.shape[a] for a in axes):
            what, hint = (
                "average: weights do not fit the axes",
                "Weights have x's shape, or the sizes of the named axes.",
            )
            raise refusal(ShapeError, what, hint, x=tensor, weights=factors)
        factors = reshape(factors, tuple(d if a in axes else 1 for a, d in enumerate(tensor.shape)))
        factors = broadcast_to(factors, tensor.shape)
    dtype = result_dtype(tensor, factors)
    if not np.issubdtype(dtype, np.inexact):
        dtype = np.dtype(np.float64)
    tensor, factors = convert(tensor, dtype), convert(factors, dtype)
    total = reducing.sum(factors, axis=axis, keepdims=keepdims)
    return divide(reducing.sum(multiply(tensor, factors), axis=axis, keepdims=keepdims), total)


# -- counting ---------------------------------------------------------------------------------------------------------------


def one_hot(x: Any, num_classes: int, /, *, dtype: Any = None, axis: int = -1) -> Tensor:
    """1 at the class along a new axis, 0 elsewhere; a class outside of 0, ..., num_classes - 1 has zeros only, as in JAX."""
    labels = as_tensor(x)
    if num_classes < 0:
        raise refusal(OptionError, f"one_hot: there are no {num_classes} classes", "num_classes is a count.", x=labels)
    number = normalize_axis("one_hot", axis, labels.ndim + 1)
    shape = tuple(num_classes if a == number else 1 for a in range(labels.ndim + 1))
    classes = reshape(as_tensor(np.arange(num_classes)), shape)
    found = apply_ufunc("equal", expand_dims(convert(labels, np.int64), axis=number), classes)
    return convert(found, np.float32 if dtype is None else dtype)


def bincount(x: Any, /, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Tensor:
    """How often 0, 1, 2, ... come in x, or the sum of their weights; as `numpy.bincount`.

    Compiled code needs `length`; greater numbers are then left out.
    """
    numbers = as_tensor(x)
    if not numbers.type.dtype.is_integer:
        raise refusal(DTypeError, "bincount: takes integers", "Convert with .astype(np.int64).", x=numbers)
    if numbers.ndim != 1:
        raise refusal(ShapeError, "bincount: takes a vector", "Flatten with x.ravel().", x=numbers)
    if length is None:
        if context.trace.get() is not None:
            raise UnsupportedError(
                message(
                    "bincount has a size that depends on values, which a static graph cannot have",
                    operands=[("x", describe(numbers))],
                    location=user_location(),
                    hint="Give the size: gx.bincount(x, length=n).",
                )
            )
        array = numbers.numpy()
        if array.size and array.min() < 0:
            raise refusal(OptionError, "bincount: x has negative elements", "Shift them: x - x.min().", x=numbers)
        length = max(int(array.max(initial=-1)) + 1, minlength)
    values = convert(as_tensor(weights), np.float64) if weights is not None else None
    if values is None:
        values = broadcast_to(as_tensor(np.ones((), np.int64)), numbers.shape)
    wide = convert(numbers, np.int64)
    inside = logical_and(apply_ufunc("greater_equal", wide, 0), less(wide, length))
    place = where(inside, wide, length)
    zeros = broadcast_to(as_tensor(np.zeros((), values.dtype)), (length + 1,))
    return slice_axis(op("scatter_add", zeros, place, values, axis=0, mode="clip"), 0, 0, length)


def histogram_bin_edges(x: Any, bins: Any = 10, range: Any = None) -> Tensor:
    """The edges of so many equal bins, or the given edges, as `numpy.histogram_bin_edges`."""
    tensor = ravel(as_tensor(x))
    if not isinstance(bins, (int, np.integer)):
        edges = as_tensor(bins)
        if edges.ndim != 1 or (not isinstance(edges, Traced) and bool((np.diff(edges.numpy()) < 0).any())):
            raise refusal(
                OptionError, "histogram: edges must not fall", "Give a vector of rising edges.", x=tensor, bins=edges
            )
        return edges
    if bins <= 0:
        raise refusal(
            OptionError, f"histogram: there are no {bins} bins", "Give the number of bins, 1 or more.", x=tensor
        )
    if range is not None:
        low, high = (float(v) for v in range)
        if low > high:
            what = f"histogram: the range ends at {high}, before it starts at {low}"
            raise refusal(OptionError, what, "Give range=(low, high).", x=tensor)
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        dtype = np.result_type(low, high, tensor.dtype)
        return as_tensor(np.linspace(low, high, bins + 1, dtype=dtype if dtype.kind == "f" else np.float64))
    dtype = tensor.dtype if tensor.type.dtype.is_float else np.dtype(np.float64)
    if tensor.size == 0:
        return as_tensor(np.linspace(0, 1, bins + 1, dtype=dtype))
    values = convert(tensor, dtype)
    first, last = reducing.min(values), reducing.max(values)
    flat = apply_ufunc("equal", first, last)
    first, last = where(flat, subtract(first, 0.5), first), where(flat, add(last, 0.5), last)
    steps = as_tensor(np.arange(bins + 1).astype(dtype))
    inner = add(multiply(steps, divide(subtract(last, first), float(bins))), first)
    return where(np.arange(bins + 1) == bins, last, inner)


def histogram(
    x: Any, /, bins: Any = 10, range: Any = None, density: bool = False, weights: Any = None
) -> tuple[Tensor, Tensor]:
    """Counts (or sums of weights) of the elements in bins and the bins' edges; the last bin has both its edges. As
    `numpy.histogram`; the number of bins is known when compiling."""
    tensor = ravel(as_tensor(x))
    edges = histogram_bin_edges(tensor, bins, range)
    count = edges.shape[0] - 1
    place = subtract(searchsorted(edges, tensor, side="right"), 1)
    last = slice_axis(edges, 0, count, 1)
    place = where(apply_ufunc("equal", tensor, last), count - 1, place)
    inside = logical_and(less_equal(slice_axis(edges, 0, 0, 1), tensor), less_equal(tensor, last))
    place = where(inside, place, count)
    values = (
        broadcast_to(as_tensor(np.ones((), np.int64)), tensor.shape) if weights is None else ravel(as_tensor(weights))
    )
    zeros = broadcast_to(as_tensor(np.zeros((), values.dtype)), (count + 1,))
    found = slice_axis(op("scatter_add", zeros, place, values, axis=0, mode="clip"), 0, 0, count)
    if density:
        widths = subtract(slice_axis(edges, 0, 1, count), slice_axis(edges, 0, 0, count))
        found = divide(divide(found, widths), reducing.sum(found))
    return found, edges


# -- reductions that skip NaN -------------------------------------------------------------------------------------------------


def _missing(x: Tensor) -> Tensor | None:
    return isnan(x) if x.type.dtype.is_float else None


def _filled(x: Tensor, value: Any) -> Tensor:
    missing = _missing(x)
    return x if missing is None else where(missing, value, x)


def nansum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum with NaN as 0, as `numpy.nansum`."""
    return reducing.sum(_filled(as_tensor(x), 0), axis=axis, dtype=dtype, keepdims=keepdims)


def nanprod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product with NaN as 1, as `numpy.nanprod`."""
    return reducing.prod(_filled(as_tensor(x), 1), axis=axis, dtype=dtype, keepdims=keepdims)


def _nan_extremum(reduce: Callable[..., Tensor], worst: float, x: Any, axis: Any, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    missing = _missing(tensor)
    if missing is None:
        return reduce(tensor, axis=axis, keepdims=keepdims)
    found = reduce(where(missing, worst, tensor), axis=axis, keepdims=keepdims)
    return where(reducing.all(missing, axis=axis, keepdims=keepdims), np.nan, found)


def nanmax(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Greatest element that is not NaN; NaN if all are."""
    return _nan_extremum(reducing.max, -np.inf, x, axis, keepdims)


def nanmin(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Least element that is not NaN; NaN if all are."""
    return _nan_extremum(reducing.min, np.inf, x, axis, keepdims)


def nanargmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the greatest element that is not NaN (of the first, if all are)."""
    return reducing.argmax(_filled(as_tensor(x), -np.inf), axis=axis, keepdims=keepdims)


def nanargmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the least element that is not NaN (of the first, if all are)."""
    return reducing.argmin(_filled(as_tensor(x), np.inf), axis=axis, keepdims=keepdims)


def _present(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """How many elements are not NaN, in x's dtype."""
    return reducing.sum(convert(logical_not(isnan(x)), x.dtype), axis=axis, keepdims=keepdims)


def nanmean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean of the elements that are not NaN."""
    tensor = as_tensor(x)
    if not tensor.type.dtype.is_float:
        return reducing.mean(tensor, axis=axis, keepdims=keepdims)
    return divide(nansum(tensor, axis=axis, keepdims=keepdims), _present(tensor, axis, keepdims))


def nanvar(x: Any, /, *, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Variance of the elements that are not NaN; NaN where no more than `correction` are left."""
    tensor = as_tensor(x)
    if not tensor.type.dtype.is_float:
        return reducing.var(tensor, axis=axis, correction=correction, keepdims=keepdims)
    distance = subtract(tensor, nanmean(tensor, axis=axis, keepdims=True))
    total = nansum(square(distance), axis=axis, keepdims=keepdims)
    left = subtract(_present(tensor, axis, keepdims), correction)
    return where(less_equal(left, 0), np.nan, divide(total, left))


def nanstd(x: Any, /, *, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Square root of `nanvar`."""
    return sqrt(nanvar(x, axis=axis, correction=correction, keepdims=keepdims))


# -- curves and covariances ------------------------------------------------------------------------------------------------


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Tensor:
    """Linear interpolation between the points (xp, fp), xp ascending; constant beyond them; as `numpy.interp`."""
    wanted, places, values = (convert(as_tensor(v), np.float64) for v in (x, xp, fp))
    count = places.shape[0]
    if count == 0 or values.shape != places.shape:
        raise ShapeError(
            message(
                "interp: xp and fp are vectors of one size",
                operands=[("xp", describe(places)), ("fp", describe(values))],
                location=user_location(),
            )
        )
    upper = searchsorted(places, wanted, side="right")
    low = where(less(upper, 1), 0, subtract(upper, 1))
    high = where(less(upper, count), upper, count - 1)
    (x0, x1), (y0, y1) = (tuple(op("take", t, i, axis=0, mode="clip") for i in (low, high)) for t in (places, values))
    width = subtract(x1, x0)
    flat = less_equal(width, 0.0)
    slope = divide(subtract(y1, y0), where(flat, 1.0, width))
    found = where(flat, y0, add(multiply(slope, subtract(wanted, x0)), y0))
    first, last = slice_axis(values, 0, 0, 1), slice_axis(values, 0, count - 1, 1)
    found = where(less(wanted, slice_axis(places, 0, 0, 1)), first if left is None else left, found)
    beyond = less(slice_axis(places, 0, count - 1, 1), wanted)
    found = where(beyond, last if right is None else right, found)
    return found if count == 1 else where(isnan(wanted), wanted, found)


def polyval(p: Any, x: Any) -> Tensor:
    """The polynomial with coefficients p, highest power first, at x; as `numpy.polyval`."""
    coefficients, points = as_tensor(p), as_tensor(x)
    dtype = result_dtype(coefficients, points)
    result = broadcast_to(convert(as_tensor(np.zeros((), dtype)), dtype), points.shape)
    for i in range(coefficients.shape[0]):
        result = add(multiply(result, points), reshape(slice_axis(coefficients, 0, i, 1), ()))
    return result


def cov(m: Any, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Tensor:
    """The covariances of variables in rows (columns if not `rowvar`), as `numpy.cov` of one operand."""
    x = as_tensor(m)
    x = x if x.type.dtype.is_float else convert(x, np.float64)
    single = x.ndim == 1
    rows = reshape(x, (1, x.shape[0])) if single else x
    if not rowvar and rows.shape[0] != 1:
        rows = moveaxis(rows, 0, 1)
    count = rows.shape[1] - (ddof if ddof is not None else (0 if bias else 1))
    centred = subtract(rows, reducing.mean(rows, axis=1, keepdims=True))
    found = divide(matmul(centred, moveaxis(centred, 0, 1)), float(count))
    return reshape(found, ()) if rows.shape[0] == 1 else found


def corrcoef(x: Any, rowvar: bool = True) -> Tensor:
    """The correlations of variables in rows (columns if not `rowvar`), as `numpy.corrcoef` of one operand."""
    found = cov(x, rowvar)
    if found.ndim == 0:
        return divide(found, found)
    spread = sqrt(diagonal(found))
    scaled = divide(divide(found, expand_dims(spread, axis=1)), expand_dims(spread, axis=0))
    return clip(scaled, -1, 1)
