"""Reading and writing by index. Layer 5. Semantics are NumPy's.

Basic indices (integers, slices, `...`, None) become slices and reshapes, which are views. Integer arrays become `take` on
the flattened indexed axes; an index out of range is an IndexError, from native code too. A boolean mask has a result
whose size depends on values: it reads in dynamic mode only, and writes a scalar anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import BoundsError, DTypeError, ShapeError, UnsupportedError, message
from graphc.frontend import context
from graphc.frontend.elementwise import apply_ufunc, where
from graphc.frontend.promotion import as_tensor, broadcast_shapes, broadcast_to, convert, describe, op, result_dtype
from graphc.frontend.shaping import normalize_axis, permute_dims, reshape
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["assign_cast", "getitem", "setitem", "take", "take_along_axis"]


@dataclass(frozen=True, slots=True)
class _Basic:
    """A basic index, resolved: a slice of every axis, then the shape without integer axes and with new ones."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    step: tuple[int, ...]
    shape: tuple[int, ...]


def _expand(x: Tensor, index: Any) -> list[Any]:
    """The index as a list with one entry for each axis of x (and None for new axes)."""
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    if used > x.ndim:
        raise BoundsError(
            message(
                f"too many indices: {used} for rank {x.ndim}", operands=[("x", describe(x))], location=user_location()
            )
        )
    ellipses = [n for n, i in enumerate(items) if i is Ellipsis]
    if len(ellipses) > 1:
        raise BoundsError(message("an index can have one ellipsis only", location=user_location()))
    place = ellipses[0] if ellipses else len(items)
    rest = items[place + 1 :] if ellipses else []
    return items[:place] + [slice(None)] * (x.ndim - used) + rest


def _is_integer(item: Any) -> bool:
    return isinstance(item, (int, np.integer)) and not isinstance(item, (bool, np.bool_))


def _basic(x: Tensor, items: list[Any]) -> _Basic:
    starts, sizes, steps, shape = [], [], [], []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        extent = x.shape[axis]
        if _is_integer(item):
            number = int(item)
            if not -extent <= number < extent:
                raise BoundsError(
                    message(
                        f"index {number} is out of bounds for axis {axis} with size {extent}",
                        operands=[("x", describe(x))],
                        location=user_location(),
                    )
                )
            starts.append(number % extent)
            sizes.append(1)
            steps.append(1)
        else:
            start, stop, step = item.indices(extent)
            size = len(range(start, stop, step))
            starts.append(start if size else 0)
            sizes.append(size)
            steps.append(step if size > 1 else 1)
            shape.append(size)
        axis += 1
    return _Basic(tuple(starts), tuple(sizes), tuple(steps), tuple(shape))


def _slice(x: Tensor, basic: _Basic) -> Tensor:
    out = x
    if basic.size != x.shape or any(s != 1 for s in basic.step):
        out = op("slice", x, start=basic.start, size=basic.size, step=basic.step)
    return out if basic.shape == out.shape else op("reshape", out, shape=basic.shape)


def _classify(x: Tensor, index: Any) -> tuple[list[Any], bool]:
    """Expanded items, and whether arrays are among them."""
    items = _expand(x, _masks_to_indices(x, index))
    arrays = False
    for n, item in enumerate(items):
        if isinstance(item, (list, np.ndarray, Tensor)):
            items[n] = _index_array(x, item)
            arrays = True
        elif not (item is None or isinstance(item, slice) or _is_integer(item)):
            if hasattr(item, "__index__") and not isinstance(item, (bool, np.bool_)):
                items[n] = item.__index__()
                continue
            raise BoundsError(
                message(
                    f"a {type(item).__name__} is not an index",
                    operands=[("x", describe(x))],
                    location=user_location(),
                    hint="Use integers, slices, ..., None, or integer arrays.",
                )
            )
    return items, arrays


def _is_mask(item: Any) -> bool:
    return (isinstance(item, (np.ndarray, Tensor)) and item.dtype == np.bool_) or (
        isinstance(item, list) and bool(item) and np.asarray(item).dtype == np.bool_
    )


def _masks_to_indices(x: Tensor, index: Any) -> Any:
    """Boolean masks as integer arrays, in dynamic mode; an error while tracing."""
    items = index if isinstance(index, tuple) else (index,)
    if not any(_is_mask(i) for i in items):
        return index
    out: list[Any] = []
    for item in items:
        if not _is_mask(item):
            out.append(item)
            continue
        if context.trace.get() is not None and isinstance(item, Tensor):
            raise UnsupportedError(
                message(
                    "reading by a boolean mask has a size that depends on values, which a static graph cannot have",
                    operands=[("x", describe(x)), ("mask", describe(item))],
                    location=user_location(),
                    hint="Use gx.where(mask, x, other), or sum(x * mask).",
                )
            )
        out.extend(np.nonzero(np.asarray(item)))
    return tuple(out)


def _index_array(x: Tensor, item: Any) -> Tensor:
    tensor = as_tensor(np.asarray(item, dtype=np.int64) if isinstance(item, list) and not item else item)
    if not tensor.type.dtype.is_integer:
        raise DTypeError(
            message(
                "arrays used as indices must be of integers",
                operands=[("x", describe(x)), ("index", describe(tensor))],
                location=user_location(),
                hint="Convert with .astype(np.int64).",
            )
        )
    return convert(tensor, np.int64)


def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]`."""
    items, arrays = _classify(x, index)
    if not arrays:
        return _slice(x, _basic(x, items))
    return _advanced(x, items)


def _advanced(x: Tensor, items: list[Any]) -> Tensor:
    """Indices with integer arrays: slice the other axes first, bring the indexed ones to the front, take, move back."""
    basic_items = [slice(None) if isinstance(i, Tensor) or _is_integer(i) else i for i in items]
    advanced = [
        (position, item if isinstance(item, Tensor) else as_tensor(np.asarray(item, dtype=np.int64)))
        for position, item in enumerate(items)
        if isinstance(item, Tensor) or _is_integer(item)
    ]
    sliced = _slice(x, _basic(x, basic_items))
    axes = [a for a, _ in advanced]
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    shape = broadcast_shapes("index", [i for _, i in advanced])
    others = [a for a in range(sliced.ndim) if a not in axes]
    front = permute_dims(sliced, axes + others)
    rest = front.shape[len(axes) :]
    flat_size = int(np.prod(front.shape[: len(axes)], dtype=np.int64))
    flat_index = _flatten_indices([broadcast_to(i, shape) for _, i in advanced], front.shape[: len(axes)])
    taken = op("take", reshape(front, (flat_size, *rest)), flat_index, axis=0, mode="raise")
    if not adjacent:
        return taken
    count = len(shape)
    before = axes[0]
    perm = [*range(count, count + before), *range(count), *range(count + before, count + len(others))]
    return permute_dims(taken, perm)


def _flatten_indices(indices: list[Tensor], extents: tuple[int, ...]) -> Tensor:
    """One index into flattened axes; with one axis the index itself. An index that is out of range for its own axis is
    turned into one that is out of range for the flattened axes."""
    if len(indices) == 1:
        return indices[0]
    total: Tensor | None = None
    size = int(np.prod(extents, dtype=np.int64))
    for index, extent in zip(indices, extents, strict=True):
        wrapped = where(apply_ufunc("less", index, 0), apply_ufunc("add", index, extent), index)
        inside = apply_ufunc(
            "logical_and", apply_ufunc("greater_equal", wrapped, 0), apply_ufunc("less", wrapped, extent)
        )
        safe = where(inside, wrapped, size * size + size)
        total = safe if total is None else apply_ufunc("add", apply_ufunc("multiply", total, extent), safe)
    assert total is not None
    return total


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """Elements at `indices` along an axis (of the flattened array by default), as `numpy.take`.

    Raises
    ------
    BoundsError
        An IndexError, for an index out of range; from compiled code too.
    """
    tensor = as_tensor(x)
    index = _index_array(tensor, indices)
    if axis is None:
        tensor, axis = reshape(tensor, (tensor.size,)), 0
    return op("take", tensor, index, axis=normalize_axis("take", axis, tensor.ndim, tensor), mode="raise")


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """`out[i, j] = x[i, indices[i, j]]` and so on along an axis, as `numpy.take_along_axis`."""
    tensor = as_tensor(x)
    index = _index_array(tensor, indices)
    number = normalize_axis("take_along_axis", axis, tensor.ndim, tensor)
    if index.ndim != tensor.ndim:
        raise ShapeError(
            message(
                "take_along_axis: indices must have the rank of x",
                operands=[("x", describe(tensor)), ("indices", describe(index))],
                location=user_location(),
            )
        )
    order = [a for a in range(tensor.ndim) if a != number] + [number]
    x_last, i_last = permute_dims(tensor, order), permute_dims(index, order)
    batch = np.broadcast_shapes(x_last.shape[:-1], i_last.shape[:-1])
    x_last = broadcast_to(x_last, (*batch, x_last.shape[-1]))
    i_last = broadcast_to(i_last, (*batch, i_last.shape[-1]))
    rows = int(np.prod(batch, dtype=np.int64))
    flat_x = reshape(x_last, (rows, x_last.shape[-1]))
    flat_i = reshape(i_last, (rows, i_last.shape[-1]))
    row = as_tensor(np.broadcast_to(np.arange(rows)[:, None], flat_i.shape)) if rows == 0 else _rows(flat_i.shape)
    both = _flatten_indices([row, flat_i], flat_x.shape)
    taken = op("take", reshape(flat_x, (flat_x.size,)), both, axis=0, mode="raise")
    out = reshape(taken, (*batch, i_last.shape[-1]))
    return permute_dims(out, [int(a) for a in np.argsort(order)])


def _rows(shape: tuple[int, ...]) -> Tensor:
    return op("broadcast", as_tensor(np.arange(shape[0])[:, None]), shape=shape)


def assign_cast(x: Tensor, value: Any, name: str = "an in-place operation") -> Tensor:
    """`value` with the shape and dtype of `x`, under NumPy's rule for writes (same kind of dtype)."""
    scalar = not isinstance(value, Tensor) and np.ndim(value) == 0
    dtype = result_dtype(x, value) if scalar else as_tensor(value).dtype
    if not np.can_cast(dtype, x.dtype, casting="same_kind"):
        raise DTypeError(
            message(
                f"{name} cannot write {dtype} into {x.dtype}",
                operands=[("target", describe(x)), ("value", describe(value))],
                location=user_location(),
                hint="Convert the value with astype, or use an operation that makes a new tensor.",
            )
        )
    tensor = as_tensor(np.asarray(value, dtype=x.dtype)) if scalar else convert(as_tensor(value), x.dtype)
    extra = tensor.ndim - x.ndim
    if extra > 0 and all(d == 1 for d in tensor.shape[:extra]):
        tensor = reshape(tensor, tensor.shape[extra:])
    if broadcast_shapes(name, [x, tensor]) != x.shape:
        raise ShapeError(
            message(
                f"{name}: the value's shape does not fit",
                operands=[("target", describe(x)), ("value", describe(value))],
                location=user_location(),
            )
        )
    return broadcast_to(tensor, x.shape)


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """`x[index] = value`, in place: basic indices, or one boolean mask with a value that broadcasts to x."""
    if _is_mask(index) or (isinstance(index, tuple) and len(index) == 1 and _is_mask(index[0])):
        mask = as_tensor(index[0] if isinstance(index, tuple) else index)
        if np.ndim(value) == 0:
            axes = mask.shape + (1,) * (x.ndim - mask.ndim)
            chosen = where(reshape(mask, axes), assign_cast(x, value), x)
            x.assign(assign_cast(x, chosen))
            return
    items, arrays = _classify(x, index)
    if arrays:
        _scatter(x, items, value)
        return
    basic = _basic(x, items)
    if basic.size == x.shape and basic.shape == x.shape and all(s == 1 for s in basic.step):
        x.assign(assign_cast(x, value))
        return
    view = _slice(x, basic)
    view.assign(assign_cast(view, value))


def _scatter(x: Tensor, items: list[Any], value: Any) -> None:
    if context.trace.get() is not None:
        raise UnsupportedError(
            message(
                "writing by integer arrays is not supported in compiled code yet",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Write with gx.where and a mask, or one slice at a time.",
            )
        )
    array = np.array(x.numpy())
    key = tuple(i.numpy() if isinstance(i, Tensor) else i for i in items)
    array[key] = np.asarray(value, dtype=x.dtype)
    x.assign(Tensor(array))
