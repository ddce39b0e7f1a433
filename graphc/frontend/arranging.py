"""More shape functions, composed of slices, joins, `take` and reshapes. Layer 5. Semantics are NumPy's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import OptionError, ShapeError, StructureError, UnsupportedError, message
from graphc.frontend.elementwise import apply_ufunc, where
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, refusal, result_dtype
from graphc.frontend.shaping import (
    concat,
    expand_dims,
    flip,
    moveaxis,
    normalize_axes,
    normalize_axis,
    permute_dims,
    ravel,
    reshape,
    slice_axis,
    swapaxes,
)
from graphc.frontend.shaping import pad as pad_constant
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "array_split",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block",
    "column_stack",
    "delete",
    "diag",
    "diagflat",
    "diagonal",
    "diff",
    "ediff1d",
    "gradient",
    "insert",
    "meshgrid",
    "pad",
    "resize",
    "rollaxis",
    "rot90",
    "select",
    "take_constant",
    "trace",
    "unravel_index",
    "vander",
]


def take_constant(x: Tensor, positions: Any, axis: int) -> Tensor:
    """The elements at known positions along an axis."""
    index = as_tensor(np.asarray(positions, dtype=np.int64))
    return op("take", x, index, axis=axis, mode="raise")


# -- at least so many axes ------------------------------------------------------------------------------------------------


def _at_least(x: Any, before: Sequence[int]) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim > len(before):
        return tensor
    shape = list(tensor.shape)
    for axis in before[tensor.ndim :]:
        shape.insert(axis, 1)
    return reshape(tensor, tuple(shape))


def _each(arrays: tuple[Any, ...], before: Sequence[int]) -> Any:
    found = tuple(_at_least(x, before) for x in arrays)
    return found[0] if len(found) == 1 else found


def atleast_1d(*arrays: Any) -> Any:
    """Arrays with one axis or more, as `numpy.atleast_1d`."""
    return _each(arrays, (0,))


def atleast_2d(*arrays: Any) -> Any:
    """Arrays with two axes or more: a vector becomes a row, as `numpy.atleast_2d`."""
    return _each(arrays, (0, 0))


def atleast_3d(*arrays: Any) -> Any:
    """Arrays with three axes or more: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1), as `numpy.atleast_3d`."""
    return _each(arrays, (0, 0, 2))


# -- diagonals ------------------------------------------------------------------------------------------------------------


def diagonal(x: Any, /, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """x[i, i + offset] over two axes, as a new last axis; as `numpy.diagonal`.

    A strided view of the flattened matrix: elements of a diagonal are `columns + 1` apart.
    """
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise refusal(ShapeError, "a diagonal needs rank 2 or more", "Insert an axis with x[None].", x=tensor)
    a, b = (normalize_axis("diagonal", axis, tensor.ndim, tensor) for axis in (axis1, axis2))
    if a == b:
        raise refusal(ShapeError, "diagonal: axis1 and axis2 must differ", "Name the matrices' two axes.", x=tensor)
    moved = moveaxis(tensor, (a, b), (-2, -1))
    rows, columns = moved.shape[-2:]
    first = offset if offset >= 0 else -offset * columns
    count = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    flat = reshape(moved, (*moved.shape[:-2], rows * columns))
    if count <= 0:
        return slice_axis(flat, flat.ndim - 1, 0, 0)
    return slice_axis(flat, flat.ndim - 1, first, count, columns + 1)


def trace(x: Any, /, *, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """Sum of a diagonal, as `numpy.trace`."""
    found = diagonal(x, offset=offset, axis1=axis1, axis2=axis2)
    element = found.type.dtype
    if dtype is None and not element.is_inexact:
        dtype = np.uint64 if element.kind == "u" else np.int64
    return op("sum", convert(found, dtype or found.dtype), axes=(found.ndim - 1,))


def diag(x: Any, /, k: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a given diagonal, as `numpy.diag`."""
    tensor = as_tensor(x)
    if tensor.ndim == 2:
        return diagonal(tensor, offset=k)
    if tensor.ndim != 1:
        raise refusal(ShapeError, "diag: takes rank 1 or 2", "For stacks of matrices there is gx.diagonal.", x=tensor)
    (count,) = tensor.shape
    size = count + abs(k)
    # Row i of a (count, size + 1) block begins with element i; read as rows of `size`, that is a diagonal.
    block = pad_constant(expand_dims(tensor, axis=1), ((0, 0), (0, size)))
    flat = ravel(block)
    first = k if k >= 0 else -k * size
    padded = pad_constant(flat, (first, size * size))
    return reshape(slice_axis(padded, 0, 0, size * size), (size, size))


def diagflat(x: Any, /, k: int = 0) -> Tensor:
    """The matrix with the flattened x on its diagonal, as `numpy.diagflat`."""
    return diag(ravel(as_tensor(x)), k)


# -- turning, joining, dividing ---------------------------------------------------------------------------------------------


def rot90(x: Any, /, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by 90 degrees k times, from the first axis towards the second; as `numpy.rot90`."""
    tensor = as_tensor(x)
    a, b = (normalize_axis("rot90", axis, tensor.ndim, tensor) for axis in axes)
    if a == b:
        raise refusal(
            ShapeError, "rot90: the axes must differ", "Name the two axes of the plane: axes=(0, 1).", x=tensor
        )
    turns = k % 4
    if turns == 0:
        return tensor
    if turns == 2:
        return flip(tensor, axis=(a, b))
    if turns == 1:
        return swapaxes(flip(tensor, axis=b), a, b)
    return flip(swapaxes(tensor, a, b), axis=b)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate matrices of coordinate vectors, as `numpy.meshgrid`."""
    if indexing not in ("xy", "ij"):
        what = f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}"
        raise refusal(OptionError, what, "'ij' keeps the order of the vectors, 'xy' exchanges the first two.")
    vectors = [ravel(as_tensor(x)) for x in arrays]
    shape = tuple(v.shape[0] for v in vectors)
    grids = []
    for place, vector in enumerate(vectors):
        apart = reshape(vector, tuple(d if a == place else 1 for a, d in enumerate(shape)))
        grid = broadcast_to(apart, shape)
        grids.append(swapaxes(grid, 0, 1) if indexing == "xy" and len(vectors) > 1 else grid)
    return tuple(grids)


def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts along an axis, the first ones longer by one where the sizes do not divide; as `numpy.array_split`."""
    tensor = as_tensor(x)
    number = normalize_axis("array_split", axis, tensor.ndim, tensor)
    extent = tensor.shape[number]
    if isinstance(indices_or_sections, (tuple, list)):
        bounds = [0, *(min(max(i + extent if i < 0 else i, 0), extent) for i in indices_or_sections), extent]
    else:
        count = indices_or_sections.__index__()
        if count <= 0:
            what = f"array_split: there are no {count} parts"
            raise refusal(ShapeError, what, "Give the number of parts, 1 or more, or places to split at.", x=tensor)
        each, longer = divmod(extent, count)
        bounds = [i * each + min(i, longer) for i in range(count + 1)]
    pairs = itertools.pairwise(bounds)
    return [slice_axis(tensor, number, min(low, extent), max(high - low, 0)) for low, high in pairs]


def resize(x: Any, /, new_shape: Any) -> Tensor:
    """A tensor of another shape, elements repeated in order as needed; as `numpy.resize`."""
    tensor = ravel(as_tensor(x))
    shape = tuple(new_shape) if isinstance(new_shape, (tuple, list)) else (new_shape,)
    size = 1
    for extent in shape:
        size *= extent
    if size == 0 or tensor.size == 0:
        return broadcast_to(convert(as_tensor(0), tensor.dtype), shape)
    copies = -(-size // tensor.size)
    wide = reshape(broadcast_to(tensor, (copies, tensor.size)), (copies * tensor.size,))
    return reshape(slice_axis(wide, 0, 0, size), shape)


# -- differences ------------------------------------------------------------------------------------------------------------


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along an axis, n times over; as `numpy.diff`. Of bools: whether they differ."""
    tensor = as_tensor(x)
    if n < 0:
        raise refusal(
            OptionError, f"diff: n cannot be negative, got {n}", "n says how often differences are taken.", x=tensor
        )
    number = normalize_axis("diff", axis, tensor.ndim, tensor)
    parts = [_as_slab(p, tensor, number) for p in (prepend, append)]
    whole = [p for p in (parts[0], tensor, parts[1]) if p is not None]
    out = concat(whole, axis=number) if len(whole) > 1 else tensor
    name = "not_equal" if out.type.dtype.is_bool else "subtract"
    for _ in range(n):
        count = max(out.shape[number] - 1, 0)
        if out.shape[number] <= 1:
            out = slice_axis(out, number, 0, 0)
            continue
        out = apply_ufunc(name, slice_axis(out, number, 1, count), slice_axis(out, number, 0, count))
    return out


def _as_slab(part: Any, x: Tensor, axis: int) -> Tensor | None:
    """A scalar as one slab across the axis."""
    if part is None:
        return None
    tensor = as_tensor(part if isinstance(part, Tensor) else np.asarray(part, dtype=result_dtype(x, part)))
    if tensor.ndim:
        return tensor
    return broadcast_to(tensor, tuple(1 if a == axis else d for a, d in enumerate(x.shape)))


def ediff1d(x: Any, /, to_end: Any = None, to_begin: Any = None) -> Tensor:
    """Differences of neighbours of the flattened tensor, as `numpy.ediff1d`."""
    out = diff(ravel(as_tensor(x)))
    parts = [to_begin, out, to_end]
    flat = [ravel(convert(as_tensor(p), out.dtype)) for p in parts if p is not None]
    return concat(flat, axis=0) if len(flat) > 1 else out


def gradient(x: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Central differences inside and one-sided ones at the ends, along each axis; as `numpy.gradient` with constant
    spacing and first-order ends."""
    tensor = as_tensor(x)
    if edge_order != 1:
        raise refusal(UnsupportedError, "gradient: only edge_order=1 is supported", "Leave edge_order out.", x=tensor)
    if not tensor.type.dtype.is_inexact:
        tensor = convert(tensor, np.float64)
    axes = normalize_axes("gradient", axis, tensor.ndim, tensor)
    steps = list(spacing) * len(axes) if len(spacing) == 1 else list(spacing) or [1.0] * len(axes)
    if len(steps) != len(axes) or any(np.ndim(s) for s in steps):
        what = f"gradient: {len(spacing)} spacings are given for {len(axes)} axes"
        raise refusal(StructureError, what, "Give one number, or one for each axis.", x=tensor)
    found = [_gradient_along(tensor, a, h) for a, h in zip(axes, steps, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _gradient_along(x: Tensor, axis: int, step: Any) -> Tensor:
    count = x.shape[axis]
    if count < 2:
        raise ShapeError(
            message("gradient: needs two elements or more", operands=[("x", describe(x))], location=user_location())
        )
    inner = apply_ufunc("subtract", slice_axis(x, axis, 2, count - 2), slice_axis(x, axis, 0, count - 2))
    ends = [
        apply_ufunc("subtract", slice_axis(x, axis, at + 1, 1), slice_axis(x, axis, at, 1)) for at in (0, count - 2)
    ]
    whole = [ends[0], apply_ufunc("divide", inner, 2.0), ends[1]] if count > 2 else ends
    return apply_ufunc("divide", concat(whole, axis=axis), step)


def vander(x: Any, /, N: int | None = None, *, increasing: bool = False) -> Tensor:
    """Columns of powers of x, as `numpy.vander`."""
    tensor = as_tensor(x)
    if tensor.ndim != 1:
        raise ShapeError(
            message("vander: takes one axis", operands=[("x", describe(tensor))], location=user_location())
        )
    columns = tensor.shape[0] if N is None else N
    dtype = result_dtype(tensor, np.zeros((), np.int64)) if not tensor.type.dtype.is_inexact else tensor.dtype
    base = convert(tensor, dtype)
    if columns == 0:
        return reshape(slice_axis(base, 0, 0, 0), (tensor.shape[0], 0)) if tensor.shape[0] == 0 else _no_columns(base)
    powers = [broadcast_to(as_tensor(np.ones((), dtype)), base.shape)]
    for _ in range(columns - 1):
        powers.append(apply_ufunc("multiply", powers[-1], base))
    ordered = powers if increasing else powers[::-1]
    return concat([expand_dims(p, axis=1) for p in ordered], axis=1)


def _no_columns(x: Tensor) -> Tensor:
    return slice_axis(expand_dims(x, axis=1), 1, 0, 0)


# -- padding ----------------------------------------------------------------------------------------------------------------


def _edge(extent: int, low: int, high: int) -> Any:
    return np.clip(np.arange(-low, extent + high), 0, extent - 1)


def _wrap(extent: int, low: int, high: int) -> Any:
    return np.arange(-low, extent + high) % extent


def _reflect(extent: int, low: int, high: int) -> Any:
    if extent == 1:
        return np.zeros(low + 1 + high, np.int64)
    period = 2 * (extent - 1)
    found = np.arange(-low, extent + high) % period
    return np.where(found < extent, found, period - found)


def _symmetric(extent: int, low: int, high: int) -> Any:
    found = np.arange(-low, extent + high) % (2 * extent)
    return np.where(found < extent, found, 2 * extent - 1 - found)


_POSITIONS = {"edge": _edge, "wrap": _wrap, "reflect": _reflect, "symmetric": _symmetric}


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    """Padding as `numpy.pad`, with the modes constant, edge, reflect, symmetric and wrap."""
    if mode == "constant":
        return pad_constant(x, pad_width, constant_values=constant_values)
    tensor = as_tensor(x)
    positions = _POSITIONS.get(mode)
    if positions is None:
        kind = (
            UnsupportedError
            if mode in ("empty", "linear_ramp", "maximum", "mean", "median", "minimum")
            else OptionError
        )
        what = f"pad: mode {mode!r} is not one of {', '.join(('constant', *_POSITIONS))}"
        raise refusal(kind, what, "Join slices of x with concat instead.", x=tensor)
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (tensor.ndim, 2))
    if (widths < 0).any():
        what = f"pad: widths cannot be negative: {widths.tolist()}"
        raise refusal(ShapeError, what, "Slice to make x smaller.", x=tensor)
    for axis, (low, high) in enumerate(widths.tolist()):
        if not (low or high):
            continue
        extent = tensor.shape[axis]
        if extent == 0:
            raise ShapeError(
                message(
                    f"pad: an empty axis cannot be extended by mode {mode!r}",
                    operands=[("x", describe(tensor))],
                    location=user_location(),
                )
            )
        tensor = take_constant(tensor, positions(extent, low, high), axis)
    return tensor


def column_stack(arrays: Sequence[Any]) -> Tensor:
    """Vectors as columns of a matrix, matrices side by side; as `numpy.column_stack`."""
    tensors = [as_tensor(x) for x in arrays]
    return concat(
        [expand_dims(t, axis=1) if t.ndim == 1 else reshape(t, (1, 1)) if t.ndim == 0 else t for t in tensors], axis=1
    )


def rollaxis(x: Any, axis: int, start: int = 0) -> Tensor:
    """An axis moved before another, as `numpy.rollaxis`."""
    tensor = as_tensor(x)
    number = normalize_axis("rollaxis", axis, tensor.ndim, tensor)
    start = start + tensor.ndim if start < 0 else start
    order = [a for a in range(tensor.ndim) if a != number]
    order.insert(start - (1 if number < start else 0), number)
    return permute_dims(tensor, order)


# -- joining and cutting by known positions --------------------------------------------------------------------------------


def block(arrays: Any) -> Tensor:
    """Nested lists of blocks joined, the innermost along the last axis; as `numpy.block`."""

    def depth(item: Any) -> int:
        return 1 + depth(item[0]) if isinstance(item, list) else 0

    levels = depth(arrays)

    def leaves(item: Any) -> list[Tensor]:
        return [t for i in item for t in leaves(i)] if isinstance(item, list) else [as_tensor(item)]

    rank = max(levels, *(t.ndim for t in leaves(arrays)))

    def join(item: Any, level: int) -> Tensor:
        if isinstance(item, list):
            return concat([join(i, level + 1) for i in item], axis=rank - levels + level)
        tensor = as_tensor(item)
        return reshape(tensor, (*(1,) * (rank - tensor.ndim), *tensor.shape))

    return join(arrays, 0)


def delete(x: Any, obj: Any, axis: int | None = None) -> Tensor:
    """Without the elements at known positions along an axis (of the flattened tensor by default), as `numpy.delete`."""
    tensor = ravel(as_tensor(x)) if axis is None else as_tensor(x)
    number = 0 if axis is None else normalize_axis("delete", axis, tensor.ndim, tensor)
    kept = np.delete(np.arange(tensor.shape[number]), obj)
    return take_constant(tensor, kept, number)


def insert(x: Any, obj: Any, values: Any, axis: int | None = None) -> Tensor:
    """With values before known positions along an axis (of the flattened tensor by default), as `numpy.insert`."""
    tensor = ravel(as_tensor(x)) if axis is None else as_tensor(x)
    number = 0 if axis is None else normalize_axis("insert", axis, tensor.ndim, tensor)
    extent = tensor.shape[number]
    new = convert(as_tensor(values), tensor.dtype)
    scalar = np.ndim(obj) == 0 and not isinstance(obj, slice)
    if scalar and new.ndim:
        # A single position takes a whole slab: NumPy moves its first axis to the one that is inserted along.
        new = moveaxis(reshape(new, (*(1,) * (tensor.ndim - new.ndim), *new.shape)), 0, number)
    count = len(np.atleast_1d(np.arange(extent)[obj] if isinstance(obj, slice) else obj))
    if scalar:
        count = new.shape[number] if new.ndim == tensor.ndim else 1
    slab = tuple(count if a == number else d for a, d in enumerate(tensor.shape))
    both = concat([tensor, broadcast_to(new, slab)], axis=number)
    order = np.insert(np.arange(extent), obj, np.arange(extent, extent + count))
    return take_constant(both, order, number)


def select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0) -> Tensor:
    """The first choice whose condition holds, elementwise; as `numpy.select`."""
    result: Any = default
    dtype = result_dtype(*choices, default)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = where(condition, choice, result)
    return convert(result, dtype)


def unravel_index(indices: Any, shape: Any) -> tuple[Tensor, ...]:
    """Positions in a flattened tensor as positions along each axis, as `numpy.unravel_index`; not range-checked."""
    rest = convert(as_tensor(indices), np.int64)
    found = []
    for extent in reversed(tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)):
        found.append(apply_ufunc("remainder", rest, extent))
        rest = apply_ufunc("floor_divide", rest, extent)
    return tuple(reversed(found))
