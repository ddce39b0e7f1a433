"""Sorting, searching, order statistics, sets. Layer 5. Names follow the Array API standard; semantics are NumPy's.

What has a size that depends on values (unique, nonzero) takes `size=`; without it, it works in dynamic mode only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphc.dtypes import int64
from graphc.errors import DTypeError, OptionError, ShapeError, UnsupportedError, message
from graphc.frontend import context
from graphc.frontend.arranging import take_constant
from graphc.frontend.elementwise import (
    add,
    apply_ufunc,
    clip,
    divide,
    isnan,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    multiply,
    not_equal,
    subtract,
    where,
)
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, refusal, result_dtype
from graphc.frontend.reducing import any as any_
from graphc.frontend.shaping import (
    concat,
    expand_dims,
    flip,
    moveaxis,
    normalize_axes,
    normalize_axis,
    ravel,
    reshape,
    slice_axis,
)
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, apply
from graphc.ir import registry

__all__ = [
    "UniqueAllResult",
    "UniqueCountsResult",
    "UniqueInverseResult",
    "argpartition",
    "argsort",
    "argwhere",
    "flatnonzero",
    "isin",
    "median",
    "nonzero",
    "partition",
    "percentile",
    "quantile",
    "searchsorted",
    "sort",
    "topk",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def _sorted(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Values in ascending order and their positions."""
    values, positions = apply(registry.get("sort"), (x,), {"axis": axis})
    return values, positions


def _flat(name: str, x: Any, axis: int | None) -> tuple[Tensor, int]:
    tensor = as_tensor(x)
    if axis is None:
        return ravel(tensor), 0
    return tensor, normalize_axis(name, axis, tensor.ndim, tensor)


def sort(x: Any, /, *, axis: int | None = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Elements in ascending order along an axis, NaN last (first if descending); always stable."""
    tensor, number = _flat("sort", x, axis)
    if descending:
        return flip(_sorted(tensor, number)[0], axis=number)
    return _sorted(tensor, number)[0]


def argsort(x: Any, /, *, axis: int | None = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions (int64) that sort an axis; equal elements keep their order, also if descending."""
    tensor, number = _flat("argsort", x, axis)
    if not descending:
        return _sorted(tensor, number)[1]
    backwards = flip(_sorted(flip(tensor, axis=number), number)[1], axis=number)
    return subtract(tensor.shape[number] - 1, backwards)


def topk(x: Any, k: int, /, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k greatest (or least) elements along an axis, in order, and their positions."""
    tensor, number = _flat("topk", x, axis)
    if not 0 <= k <= tensor.shape[number]:
        what = f"topk: k = {k} is not between 0 and the axis's size {tensor.shape[number]}"
        raise refusal(ShapeError, what, "Take all of a short axis: min(k, x.shape[axis]).", x=tensor)
    if not largest:
        values, positions = _sorted(tensor, number)
        return slice_axis(values, number, 0, k), slice_axis(positions, number, 0, k)
    values, positions = _sorted(flip(tensor, axis=number), number)
    values, positions = (slice_axis(flip(t, axis=number), number, 0, k) for t in (values, positions))
    return values, subtract(tensor.shape[number] - 1, positions)


def partition(x: Any, kth: Any, axis: int | None = -1) -> Tensor:
    """A partition as `numpy.partition` promises it; here all elements are sorted."""
    tensor, number = _flat("partition", x, axis)
    _check_kth("partition", tensor, kth, number)
    return _sorted(tensor, number)[0]


def argpartition(x: Any, kth: Any, axis: int | None = -1) -> Tensor:
    """Positions of a partition as `numpy.argpartition` promises it; here all elements are sorted."""
    tensor, number = _flat("argpartition", x, axis)
    _check_kth("argpartition", tensor, kth, number)
    return _sorted(tensor, number)[1]


def _check_kth(name: str, x: Tensor, kth: Any, axis: int) -> None:
    extent = x.shape[axis]
    for k in kth if isinstance(kth, (tuple, list)) else (kth,):
        if not -extent <= k < extent:
            what = f"{name}: kth = {k} is out of bounds for size {extent}"
            raise refusal(ShapeError, what, f"Positions run from {-extent} to {extent - 1}.", x=x)


# -- searching ----------------------------------------------------------------------------------------------------------------


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where x2 would be inserted in the sorted vector x1, before (`left`) or behind (`right`) equal elements; NaN is
    greatest. As `numpy.searchsorted`; by bisection, a step for each bit of the size."""
    if side not in ("left", "right"):
        what = f"searchsorted: side is 'left' or 'right', not {side!r}"
        raise refusal(OptionError, what, "'left' is before equal elements, 'right' behind them.")
    vector = as_tensor(x1)
    if vector.ndim != 1:
        raise refusal(ShapeError, "searchsorted: x1 must have one axis", "Search its rows one by one.", x1=vector)
    dtype = result_dtype(vector, x2)
    wanted = convert(as_tensor(x2), dtype) if isinstance(x2, Tensor) else as_tensor(np.asarray(x2, dtype=dtype))
    if sorter is not None:
        vector = op("take", vector, convert(as_tensor(sorter), np.int64), axis=0, mode="raise")
    vector = convert(vector, dtype)
    if vector.type.dtype.is_bool:
        vector, wanted = convert(vector, np.int32), convert(wanted, np.int32)
    size = vector.shape[0]
    position = broadcast_to(as_tensor(np.zeros((), np.int64)), wanted.shape)
    if size == 0:
        return position
    for bit in reversed(range(size.bit_length())):
        candidate = add(position, 1 << bit)
        element = op("take", vector, subtract(candidate, 1), axis=0, mode="clip")
        goes_on = logical_and(less_equal(candidate, size), _stands_before(element, wanted, side))
        position = where(goes_on, candidate, position)
    return position


def _stands_before(x: Tensor, y: Tensor, side: str) -> Tensor:
    """x < y (left) or x <= y (right), with NaN greatest."""
    plain = apply_ufunc("less" if side == "left" else "less_equal", x, y)
    if not x.type.dtype.is_float:
        return plain
    beyond = isnan(y) if side == "right" else logical_and(isnan(y), logical_not(isnan(x)))
    return logical_or(plain, beyond)


def isin(x1: Any, x2: Any, /, *, invert: bool = False, assume_unique: bool = False) -> Tensor:
    """Whether each element of x1 equals one of x2, as `numpy.isin`."""
    x, y = as_tensor(x1), ravel(as_tensor(x2))
    found = any_(apply_ufunc("equal", expand_dims(x, axis=-1), y), axis=-1)
    return logical_not(found) if invert else found


# -- order statistics ---------------------------------------------------------------------------------------------------


def _ordered(name: str, x: Any, axis: Any) -> tuple[Tensor, tuple[int, ...], Tensor]:
    """Rows of the given axes, flattened to one last axis and sorted; the axes; the operand."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_bool:
        raise refusal(DTypeError, f"{name}: bools have no {name}", "Convert with .astype(np.int64).", x=tensor)
    if not tensor.type.dtype.is_float:
        tensor = convert(tensor, np.float64)
    axes = normalize_axes(name, axis, tensor.ndim, tensor)
    moved = moveaxis(tensor, axes, tuple(range(tensor.ndim - len(axes), tensor.ndim)))
    kept = moved.shape[: tensor.ndim - len(axes)]
    count = math.prod(moved.shape[len(kept) :])
    if count == 0:
        raise refusal(ShapeError, f"{name}: of no elements", "Look at where the size became 0.", x=tensor)
    rows = reshape(moved, (*kept, count))
    return _sorted(rows, rows.ndim - 1)[0], axes, tensor


def _finish(out: Tensor, rows: Tensor, lead: tuple[int, ...]) -> Tensor:
    """NaN where a row has a NaN: it was sorted to the end."""
    last = slice_axis(rows, rows.ndim - 1, rows.shape[-1] - 1, 1)
    last = reshape(last, rows.shape[:-1])
    return where(isnan(broadcast_to(last, (*lead, *last.shape))), np.asarray(np.nan, out.dtype), out)


def _keep(out: Tensor, x: Tensor, axes: tuple[int, ...], lead: tuple[int, ...]) -> Tensor:
    return reshape(out, (*lead, *(1 if a in axes else d for a, d in enumerate(x.shape))))


def median(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The middle element, or the mean of the two middle ones, over axes; NaN if one is NaN; as `numpy.median`."""
    rows, axes, tensor = _ordered("median", x, axis)
    count = rows.shape[-1]
    low, high = ((count - 1) // 2, count // 2)
    ends = [reshape(slice_axis(rows, rows.ndim - 1, i, 1), rows.shape[:-1]) for i in dict.fromkeys((low, high))]
    middle = ends[0] if len(ends) == 1 else multiply(add(*ends), 0.5)
    out = _finish(middle, rows, ())
    return _keep(out, tensor, axes, ()) if keepdims else out


_METHODS: dict[str, Callable[[Any, int], Any]] = {
    "linear": lambda q, n: q * (n - 1),
    "lower": lambda q, n: np.floor(q * (n - 1)),
    "higher": lambda q, n: np.ceil(q * (n - 1)),
    "nearest": lambda q, n: np.rint(q * (n - 1)),
    "midpoint": lambda q, n: 0.5 * (np.floor(q * (n - 1)) + np.ceil(q * (n - 1))),
    "hazen": lambda q, n: q * n - 0.5,
    "weibull": lambda q, n: q * (n + 1) - 1,
    "median_unbiased": lambda q, n: q * (n + 1 / 3) - 2 / 3,
    "normal_unbiased": lambda q, n: q * (n + 1 / 4) - 5 / 8,
    "interpolated_inverted_cdf": lambda q, n: q * n - 1,
}


def quantile(x: Any, q: Any, /, *, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Quantiles over axes, as `numpy.quantile`. A q that is not between 0 and 1 is an error; where it is computed in compiled
    code, so that its value is not known beforehand, it gives NaN.

    The result has the shape of `q`, then what the axes leave.
    """
    if isinstance(q, Tensor):
        if context.trace.get() is not None:
            return _traced_quantile(x, q, axis, method, keepdims)
        q = q.numpy()
    wanted = np.asarray(q, dtype=np.float64)
    weak = isinstance(q, (int, float))
    if wanted.size and not (wanted.min() >= 0 and wanted.max() <= 1):
        raise refusal(
            OptionError, f"quantile: {q!r} is not between 0 and 1", "0.5 is the median; percentiles run to 100.", x=x
        )
    _check_method(x, method)
    rows, axes, tensor = _ordered("quantile", x, axis)
    count = rows.shape[-1]
    place = np.clip(_METHODS[method](wanted.ravel(), count), 0, count - 1)
    low = np.floor(place).astype(np.int64)
    weight = (place - low).astype(rows.dtype if weak else np.result_type(rows.dtype, np.float64))
    last = rows.ndim - 1
    below = moveaxis(take_constant(rows, low, last), -1, 0)
    above = moveaxis(take_constant(rows, np.minimum(low + 1, count - 1), last), -1, 0)
    out = _between(below, above, weight.reshape(-1, *(1,) * last))
    out = reshape(out, (*wanted.shape, *rows.shape[:-1]))
    out = _finish(out, rows, wanted.shape)
    return _keep(out, tensor, axes, wanted.shape) if keepdims else out


def _check_method(x: Any, method: str) -> None:
    if method not in _METHODS:
        what, hint = f"quantile: there is no method {method!r}", f"Methods are {', '.join(_METHODS)}."
        raise refusal(OptionError, what, hint, x=x)


def _traced_quantile(x: Any, q: Tensor, axis: Any, method: str, keepdims: bool) -> Tensor:
    """At places that are known when the code runs."""
    _check_method(x, method)
    rows, axes, tensor = _ordered("quantile", x, axis)
    count, last = rows.shape[-1], rows.ndim - 1
    wanted = ravel(convert(q, np.float64))
    place = clip(_METHODS[method](wanted, count), 0.0, float(count - 1))
    low = convert(place, np.int64)
    weight = convert(subtract(place, convert(low, np.float64)), np.result_type(rows.dtype, np.float64))
    below, above = (moveaxis(op("take", rows, i, axis=last, mode="clip"), -1, 0) for i in (low, add(low, 1)))
    apart = (-1, *(1,) * last)
    out = _between(below, above, reshape(weight, apart))
    inside = logical_and(less_equal(0.0, wanted), less_equal(wanted, 1.0))
    out = where(reshape(inside, apart), out, np.asarray(np.nan, out.dtype))
    out = _finish(reshape(out, (*q.shape, *rows.shape[:-1])), rows, q.shape)
    return _keep(out, tensor, axes, q.shape) if keepdims else out


def _between(low: Tensor, high: Tensor, weight: Any) -> Tensor:
    """low + (high - low) * weight from the nearer end, as NumPy; equal ends, infinite ones too, are kept."""
    if isinstance(weight, np.ndarray) and not weight.any():
        return convert(low, np.result_type(low.dtype, weight.dtype))
    distance = subtract(high, low)
    from_low = add(low, multiply(distance, weight))
    from_high = subtract(high, multiply(distance, 1 - weight))
    out = where(weight >= 0.5, from_high, from_low)
    return where(apply_ufunc("equal", low, high), low, where(weight == 0, low, out))


def percentile(x: Any, q: Any, /, *, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Quantiles at q / 100, as `numpy.percentile`."""
    hundredths = q.numpy() if isinstance(q, Tensor) and context.trace.get() is None else q
    if isinstance(hundredths, Tensor):
        return quantile(x, divide(convert(hundredths, np.float64), 100.0), axis=axis, method=method, keepdims=keepdims)
    share = hundredths / 100 if isinstance(hundredths, (int, float)) else np.asarray(hundredths) / 100
    return quantile(x, share, axis=axis, method=method, keepdims=keepdims)


# -- sizes that depend on values ----------------------------------------------------------------------------------------


def _needs_size(name: str, x: Tensor) -> UnsupportedError:
    return UnsupportedError(
        message(
            f"{name} has a size that depends on values, which a static graph cannot have",
            operands=[("x", describe(x))],
            location=user_location(),
            hint=f"Give the size: gx.{name}(x, size=n) pads or cuts the result to n elements.",
        )
    )


def _selected(mask: Tensor, size: int, fill: int) -> Tensor:
    """The positions (int64) where a vector of bools holds, padded with `fill` or cut to `size`."""
    count = mask.shape[0]
    if count == 0 or size == 0:
        return broadcast_to(as_tensor(np.asarray(fill, np.int64)), (size,))
    numbers = convert(mask, np.int64)
    rank = subtract(op("cumulative_sum", numbers, axis=0, reverse=False), 1)
    # What is not selected, or selected too late, goes to one place behind the end.
    place = where(logical_and(mask, apply_ufunc("less", rank, size)), rank, size)
    base = broadcast_to(as_tensor(np.asarray(fill, np.int64)), (size + 1,))
    positions = op("iota", shape=(count,), axis=0, dtype=int64)
    return slice_axis(op("scatter_set", base, place, positions, axis=0, mode="clip"), 0, 0, size)


def flatnonzero(x: Any, /, *, size: int | None = None, fill_value: int = 0) -> Tensor:
    """Positions of elements that are not zero, of the flattened tensor; see `nonzero`."""
    tensor = ravel(as_tensor(x))
    if size is None:
        if context.trace.get() is not None:
            raise _needs_size("flatnonzero", tensor)
        return as_tensor(np.flatnonzero(tensor.numpy()).astype(np.int64))
    return _selected(_truth(tensor), size, fill_value)


def _truth(x: Tensor) -> Tensor:
    return x if x.type.dtype.is_bool else not_equal(x, 0)


def nonzero(x: Any, /, *, size: int | None = None, fill_value: int = 0) -> tuple[Tensor, ...]:
    """Indices of elements that are not zero, one vector for each axis, as `numpy.nonzero`.

    With `size` the vectors are cut to it, or padded with `fill_value`; compiled code needs it.
    """
    tensor = as_tensor(x)
    if tensor.ndim == 0:
        raise refusal(ShapeError, "nonzero: rank 0 has no indices", "Insert an axis with x[None].", x=tensor)
    if size is None:
        if context.trace.get() is not None:
            raise _needs_size("nonzero", tensor)
        return tuple(as_tensor(i.astype(np.int64)) for i in np.nonzero(tensor.numpy()))
    flat = _selected(_truth(ravel(tensor)), size, -1)
    missing = apply_ufunc("less", flat, 0)
    found = []
    stride = 1
    for extent in reversed(tensor.shape):
        along = apply_ufunc("remainder", apply_ufunc("floor_divide", flat, stride), extent) if extent else flat
        found.append(where(missing, fill_value, along))
        stride *= max(extent, 1)
    return tuple(reversed(found))


def argwhere(x: Any, /, *, size: int | None = None, fill_value: int = 0) -> Tensor:
    """Indices of elements that are not zero, one row for each; see `nonzero`."""
    return concat([expand_dims(i, axis=1) for i in nonzero(x, size=size, fill_value=fill_value)], axis=1)


class UniqueAllResult(NamedTuple):
    """Distinct elements, where each comes first, which one each element is, and how often each comes."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """Distinct elements and how often each comes."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """Distinct elements and which one each element is."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(
    x: Any, /, *, size: int | None = None, fill_value: Any = None, equal_nan: bool = False
) -> UniqueAllResult:
    """Distinct elements in order, where each comes first, which one each element is, and how often each comes.

    With `size` the first, second and last are cut to it, or padded: values with `fill_value` (by default the least element),
    the others with 0; compiled code needs it. NaN are distinct from one another, unless `equal_nan`.
    """
    tensor = as_tensor(x)
    flat = ravel(tensor)
    if size is None:
        if context.trace.get() is not None:
            raise _needs_size("unique_all", tensor)
        found = np.unique(flat.numpy(), return_index=True, return_inverse=True, return_counts=True, equal_nan=equal_nan)
        numbers = [as_tensor(np.asarray(a, np.int64)) for a in found[1:]]
        return UniqueAllResult(as_tensor(found[0]), numbers[0], reshape(numbers[1], tensor.shape), numbers[2])
    count = flat.shape[0]
    if count == 0:
        none = broadcast_to(as_tensor(np.zeros((), np.int64)), (size,))
        filler = as_tensor(np.asarray(0 if fill_value is None else fill_value, tensor.dtype))
        inverse = as_tensor(np.zeros(tensor.shape, np.int64))
        return UniqueAllResult(broadcast_to(filler, (size,)), none, inverse, none)
    ordered, positions = _sorted(flat, 0)
    before, after = slice_axis(ordered, 0, 0, count - 1), slice_axis(ordered, 0, 1, count - 1)
    differ = not_equal(after, before)
    if equal_nan and tensor.type.dtype.is_inexact:
        # NaN are last: a NaN behind one is no new element.
        differ = logical_and(differ, logical_not(isnan(before)))
    new = concat([broadcast_to(as_tensor(np.asarray(True)), (1,)), differ], axis=0)
    starts = _selected(new, size, count)
    there = apply_ufunc("less", starts, count)
    safe = where(there, starts, 0)
    least = slice_axis(ordered, 0, 0, 1)
    filler = least if fill_value is None else as_tensor(np.asarray(fill_value, tensor.dtype))
    values = where(there, op("take", ordered, safe, axis=0, mode="clip"), filler)
    first = where(there, op("take", positions, safe, axis=0, mode="clip"), 0)
    group = subtract(op("cumulative_sum", convert(new, np.int64), axis=0, reverse=False), 1)
    zeros = broadcast_to(as_tensor(np.zeros((), np.int64)), (count,))
    inverse = op("scatter_add", zeros, positions, group, axis=0, mode="clip")
    ones = broadcast_to(as_tensor(np.ones((), np.int64)), (count,))
    base = broadcast_to(as_tensor(np.zeros((), np.int64)), (size + 1,))
    counts = slice_axis(op("scatter_add", base, group, ones, axis=0, mode="clip"), 0, 0, size)
    return UniqueAllResult(values, first, reshape(inverse, tensor.shape), counts)


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Tensor:
    """Distinct elements in order; see `unique_all`."""
    return unique_all(x, size=size, fill_value=fill_value)[0]


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCountsResult:
    """Distinct elements in order and how often each comes; see `unique_all`."""
    values, _, _, counts = unique_all(x, size=size, fill_value=fill_value)
    return UniqueCountsResult(values, counts)


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverseResult:
    """Distinct elements in order and which one each element is; see `unique_all`."""
    values, _, inverse, _ = unique_all(x, size=size, fill_value=fill_value)
    return UniqueInverseResult(values, inverse)


def unique(
    x: Any,
    /,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Distinct elements in order and what else is asked for, as `numpy.unique` (without an axis)."""
    tensor = as_tensor(x)
    if size is None and context.trace.get() is not None:
        raise _needs_size("unique", tensor)
    values, first, inverse, counts = unique_all(tensor, size=size, fill_value=fill_value, equal_nan=True)
    extra = [a for a, asked in ((first, return_index), (inverse, return_inverse), (counts, return_counts)) if asked]
    return (values, *extra) if extra else values
