"""Reading and writing by index. Layer 5. Semantics are NumPy's.

Basic indices (integers, slices, `...`, None) become slices and reshapes, which are views. Integer arrays become `take` on
the flattened indexed axes; an index out of range is an IndexError, from native code too. A boolean mask has a result
whose size depends on values: it reads in dynamic mode only, and writes a scalar anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import BoundsError, DTypeError, GraphcError, OptionError, ShapeError, UnsupportedError, message
from graphc.frontend import context
from graphc.frontend.elementwise import apply_ufunc, where
from graphc.frontend.promotion import (
    as_tensor,
    broadcast_shapes,
    broadcast_to,
    convert,
    describe,
    op,
    refusal,
    result_dtype,
)
from graphc.frontend.shaping import integer, normalize_axis, permute_dims, reshape
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array
from graphc.frontend.trace import Traced

__all__ = ["assign_cast", "classify", "getitem", "put_along_axis", "scattered", "setitem", "take", "take_along_axis"]


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
                f"too many indices: {used} for rank {x.ndim}",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Give one index for each axis at most.",
            )
        )
    ellipses = [n for n, i in enumerate(items) if i is Ellipsis]
    if len(ellipses) > 1:
        raise BoundsError(
            message(
                "an index can have one ellipsis only",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Write `:` for single axes.",
            )
        )
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
                raise _outside(x, axis, number)
            starts.append(number % extent)
            sizes.append(1)
            steps.append(1)
        else:
            start, stop, step = _bounds(x, item, extent)
            size = len(range(start, stop, step))
            starts.append(start if size else 0)
            sizes.append(size)
            steps.append(step if size > 1 else 1)
            shape.append(size)
        axis += 1
    return _Basic(tuple(starts), tuple(sizes), tuple(steps), tuple(shape))


def _outside(x: Tensor, axis: int, index: int) -> BoundsError:
    """The error for an index out of range."""
    extent = x.shape[axis]
    return BoundsError(
        message(
            f"index {index} is out of bounds for axis {axis} with size {extent}",
            operands=[("x", describe(x))],
            location=user_location(),
            hint=f"Indices run from {-extent} to {extent - 1}." if extent else "The axis is empty.",
        )
    )


def _bounds(x: Tensor, item: slice, extent: int) -> tuple[int, int, int]:
    parts = [None if p is None else integer("slice", "a bound", p) for p in (item.start, item.stop, item.step)]
    if parts[2] == 0:
        raise OptionError(
            message(
                "slice step cannot be zero",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Steps are positive, or negative to go backwards.",
            )
        )
    return slice(*parts).indices(extent)


def _slice(x: Tensor, basic: _Basic) -> Tensor:
    out = x
    if basic.size != x.shape or any(s != 1 for s in basic.step):
        out = op("slice", x, start=basic.start, size=basic.size, step=basic.step)
    return out if basic.shape == out.shape else op("reshape", out, shape=basic.shape)


def classify(x: Tensor, index: Any) -> tuple[list[Any], bool]:
    """Expanded items, and whether arrays are among them."""
    items = _expand(x, _masks_to_indices(x, index))
    arrays = False
    for n, item in enumerate(items):
        if isinstance(item, (list, np.ndarray, Tensor)):
            items[n] = _index_array(x, item, BoundsError)
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
    if isinstance(item, (bool, np.bool_)):
        return True
    if isinstance(item, list):
        return bool(item) and _leaf(item) and native_array(item).dtype == np.bool_
    return isinstance(item, (np.ndarray, Tensor)) and item.dtype == np.bool_


def _leaf(item: Any) -> bool:
    """Whether nested lists begin with a bool."""
    while isinstance(item, (list, tuple)) and item:
        item = item[0]
    return isinstance(item, (bool, np.bool_)) or (isinstance(item, np.ndarray) and item.dtype == np.bool_)


def _rank_zero_masks(x: Tensor, index: Any) -> tuple[Tensor, Any]:
    """A mask of rank 0 (True and False, too) as an index into an axis of size 1 that is inserted in its place."""
    items = index if isinstance(index, tuple) else (index,)
    if not any(_is_mask(i) and np.ndim(i) == 0 and not isinstance(i, Traced) for i in items):
        return x, index
    rest = x.ndim - sum(_covered(i) for i in items)
    shape: list[int] = []
    out: list[Any] = []
    axis = 0
    for item in items:
        if _is_mask(item) and np.ndim(item) == 0:
            shape.append(1)
            out.append(np.arange(int(bool(item))))
            continue
        count = rest if item is Ellipsis else _covered(item)
        shape += x.shape[axis : axis + count]
        axis += count
        out.append(item)
    return reshape(x, (*shape, *x.shape[axis:])), tuple(out)


def _covered(item: Any) -> int:
    """How many axes an item of an index stands for, the ellipsis apart."""
    if item is None or item is Ellipsis:
        return 0
    return np.ndim(item) if _is_mask(item) else 1


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
        mask = np.asarray(item)
        axis = sum(o is not None for o in out)
        covered = x.shape[axis : axis + mask.ndim]
        # As in NumPy, an axis of the mask may be empty whatever the size that it covers.
        fits = mask.ndim == len(covered) and all(m in (d, 0) for m, d in zip(mask.shape, covered, strict=True))
        if not fits and all(o is not Ellipsis for o in out):
            raise BoundsError(
                message(
                    f"a boolean mask must have the shape of the axes that it covers, {covered}",
                    operands=[("x", describe(x)), ("mask", describe(mask))],
                    location=user_location(),
                    hint="Make the mask from x itself, for example x > 0.",
                )
            )
        out.extend(np.nonzero(mask))
    return tuple(out)


def _index_array(x: Tensor, item: Any, kind: type[GraphcError] = DTypeError) -> Tensor:
    tensor = as_tensor(np.asarray(item, dtype=np.int64) if isinstance(item, list) and not item else item)
    if not tensor.type.dtype.is_integer:
        raise kind(
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
    x, index = _rank_zero_masks(x, index)
    items, arrays = classify(x, index)
    if not arrays:
        return _slice(x, _basic(x, items))
    return _advanced(x, items)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How indices with integer arrays are one index into the flattened indexed axes.

    The other axes are sliced first (`sliced`); `front` has the indexed axes in front; `index` counts in them, flattened,
    and has the shape of the broadcast indices. `perm` puts the axes of what is taken (the index's, then the rest) in NumPy's
    order. `along` is the axis of a single index that is not checked yet: it is taken along this axis of `sliced` as it is.
    """

    sliced: Tensor
    order: list[int]
    front: Tensor
    index: Tensor
    indexed: int
    perm: list[int]
    along: int | None

    @property
    def flat(self) -> Tensor:
        """The operand with the indexed axes as one."""
        extents = self.front.shape[: self.indexed]
        return reshape(self.front, (int(np.prod(extents, dtype=np.int64)), *self.front.shape[self.indexed :]))


def _advanced(x: Tensor, items: list[Any]) -> Tensor:
    """Indices with integer arrays: slice the other axes first, bring the indexed ones to the front, take, move back."""
    plan = _plan(x, items)
    if plan.along is not None:
        return op("take", plan.sliced, plan.index, axis=plan.along, mode="raise")
    return permute_dims(op("take", plan.flat, plan.index, axis=0, mode="clip"), plan.perm)


def _plan(x: Tensor, items: list[Any]) -> _Plan:
    own = [
        axis
        for axis, item in enumerate(i for i in items if i is not None)
        if isinstance(item, Tensor) or _is_integer(item)
    ]
    for axis, item in enumerate(i for i in items if i is not None):
        if isinstance(item, Tensor):
            _check_now(x, axis, item)
    basic_items = [slice(None) if isinstance(i, Tensor) or _is_integer(i) else i for i in items]
    advanced = [
        (position, item if isinstance(item, Tensor) else as_tensor(np.asarray(item, dtype=np.int64)))
        for position, item in enumerate(items)
        if isinstance(item, Tensor) or _is_integer(item)
    ]
    sliced = _slice(x, _basic(x, basic_items))
    axes = [a for a, _ in advanced]
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    shape = _broadcast(x, [i for _, i in advanced])
    order = axes + [a for a in range(sliced.ndim) if a not in axes]
    front = permute_dims(sliced, order)
    along = axes[0] if axes == own and len(axes) == 1 else None
    index = advanced[0][1]
    if along is None:
        index = _flatten_indices([broadcast_to(i, shape) for _, i in advanced], front.shape[: len(axes)], own)
    count, total = len(shape), len(shape) + sliced.ndim - len(axes)
    before = axes[0] if adjacent else 0
    perm = [*range(count, count + before), *range(count), *range(count + before, total)]
    return _Plan(sliced, order, front, index, len(axes), perm, along)


def _broadcast(x: Tensor, indices: Sequence[Tensor]) -> tuple[int, ...]:
    """The common shape of index arrays."""
    try:
        return broadcast_shapes("index", indices)
    except ShapeError:
        named = {f"index {n}": i for n, i in enumerate(indices)}
        what, hint = (
            "index arrays cannot be broadcast together",
            "Sizes must be equal or 1; insert axes with i[:, None].",
        )
        raise refusal(BoundsError, what, hint, x=x, **named) from None


def scattered(x: Tensor, items: list[Any], value: Any, name: str) -> tuple[Tensor, Tensor]:
    """What is written to by integer arrays (a slice of x, or x), and its new value by the scattering op `name`."""
    plan = _plan(x, items)
    if plan.along is not None:
        rest = plan.sliced.shape
        taken = (*rest[: plan.along], *plan.index.shape, *rest[plan.along + 1 :])
        updates = _cast(value, x, taken)
        return plan.sliced, op(name, plan.sliced, plan.index, updates, axis=plan.along, mode="raise")
    flat = plan.flat
    taken = (*plan.index.shape, *flat.shape[1:])
    target = tuple(taken[a] for a in plan.perm)
    updates = permute_dims(_cast(value, x, target), [int(a) for a in np.argsort(plan.perm)])
    new = op(name, flat, plan.index, updates, axis=0, mode="clip")
    back = permute_dims(reshape(new, plan.front.shape), [int(a) for a in np.argsort(plan.order)])
    return plan.sliced, back


def _flatten_indices(indices: list[Tensor], extents: tuple[int, ...], axes: Sequence[int]) -> Tensor:
    """One index into flattened axes. Each index is checked against its own axis, by looking it up in 0, 1, ..., extent - 1: the
    result is never out of range. This table lies along the axis that the user knows, so that an error names it."""
    total: Tensor | None = None
    for index, extent, axis in zip(indices, extents, axes, strict=True):
        table = as_tensor(np.arange(extent).reshape((1,) * axis + (extent,)))
        checked = reshape(op("take", table, index, axis=axis, mode="raise"), index.shape)
        total = checked if total is None else apply_ufunc("add", apply_ufunc("multiply", total, extent), checked)
    assert total is not None
    return total


def _check_now(x: Tensor, axis: int, index: Tensor) -> None:
    """The range check of dynamic mode, whose message names the tensor and its axis."""
    if context.trace.get() is not None or not index.size:
        return
    array, extent = index._array, x.shape[axis]
    wrong = (array < -extent) | (array >= extent)
    if wrong.any():
        raise _outside(x, axis, int(array[wrong][0]))


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
    number = normalize_axis("take", axis, tensor.ndim, tensor)
    _check_now(tensor, number, index)
    return op("take", tensor, index, axis=number, mode="raise")


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
                hint="Insert axes into the indices with i[:, None], or use take, which keeps one axis only.",
            )
        )
    _check_now(tensor, number, index)
    order = [a for a in range(tensor.ndim) if a != number] + [number]
    x_last, i_last = permute_dims(tensor, order), permute_dims(index, order)
    batch = np.broadcast_shapes(x_last.shape[:-1], i_last.shape[:-1])
    x_last = broadcast_to(x_last, (*batch, x_last.shape[-1]))
    i_last = broadcast_to(i_last, (*batch, i_last.shape[-1]))
    rows = int(np.prod(batch, dtype=np.int64))
    flat_x = reshape(x_last, (rows, x_last.shape[-1]))
    flat_i = reshape(i_last, (rows, i_last.shape[-1]))
    row = as_tensor(np.broadcast_to(np.arange(rows)[:, None], flat_i.shape)) if rows == 0 else _rows(flat_i.shape)
    both = _flatten_indices([row, flat_i], flat_x.shape, (0, number))
    taken = op("take", reshape(flat_x, (flat_x.size,)), both, axis=0, mode="clip")
    out = reshape(taken, (*batch, i_last.shape[-1]))
    return permute_dims(out, [int(a) for a in np.argsort(order)])


def _rows(shape: tuple[int, ...]) -> Tensor:
    return op("broadcast", as_tensor(np.arange(shape[0])[:, None]), shape=shape)


def assign_cast(x: Tensor, value: Any, name: str = "in-place operation") -> Tensor:
    """`value` with the shape and dtype of `x`, under NumPy's rule for writes (same kind of dtype)."""
    return _cast(value, x, x.shape, name)


def _cast(value: Any, x: Tensor, shape: tuple[int, ...], name: str = "assignment") -> Tensor:
    """`value` as it is written into elements of x that have the given shape."""
    target = describe(x) if shape == x.shape else f"{x.type.dtype.name}{list(shape)} of {describe(x)}"
    scalar = not isinstance(value, Tensor) and np.ndim(value) == 0
    dtype = result_dtype(x, value) if scalar else as_tensor(value).dtype
    if not np.can_cast(dtype, x.dtype, casting="same_kind"):
        raise DTypeError(
            message(
                f"{name}: {dtype} values cannot be written into {x.dtype}",
                operands=[("target", target), ("value", describe(value))],
                location=user_location(),
                hint="Convert the value with astype, or use an operation that makes a new tensor.",
            )
        )
    # A Python number must fit.
    weak = scalar and not isinstance(value, (np.ndarray, np.generic))
    tensor = as_tensor(value, x.dtype) if weak else convert(as_tensor(value), x.dtype)
    extra = tensor.ndim - len(shape)
    if extra > 0 and all(d == 1 for d in tensor.shape[:extra]):
        tensor = reshape(tensor, tensor.shape[extra:])
    if not _fits(tensor.shape, shape):
        raise ShapeError(
            message(
                f"{name}: the value does not broadcast to the target",
                operands=[("target", target), ("value", describe(value))],
                location=user_location(),
                hint="Counted from the last axis, the value's sizes must be 1 or the target's.",
            )
        )
    return broadcast_to(tensor, shape)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to a target."""
    pairs = zip(shape[::-1], target[::-1], strict=False)
    return len(shape) <= len(target) and all(d in (1, t) for d, t in pairs)


def setitem(x: Tensor, index: Any, value: Any, /) -> None:
    """`x[index] = value`, in place; of repeated indices the last one wins, as in NumPy. In compiled code a boolean mask
    takes one value only."""
    x.check_leaf()
    if _is_mask(index) or (isinstance(index, tuple) and len(index) == 1 and _is_mask(index[0])):
        mask = as_tensor(index[0] if isinstance(index, tuple) else index)
        if np.ndim(value) == 0 and mask.shape == x.shape[: mask.ndim]:
            axes = mask.shape + (1,) * (x.ndim - mask.ndim)
            chosen = where(reshape(mask, axes), assign_cast(x, value, "assignment"), x)
            x.assign(assign_cast(x, chosen))
            return
        if context.trace.get() is not None:
            raise UnsupportedError(
                message(
                    "writing several values by a boolean mask is not supported in compiled code",
                    operands=[("x", describe(x)), ("mask", describe(mask)), ("value", describe(value))],
                    location=user_location(),
                    hint="Write x[...] = np.where(mask, values, x), with values of x's shape.",
                )
            )
    x, index = _rank_zero_masks(x, index)
    items, arrays = classify(x, index)
    if arrays:
        part, new = scattered(x, items, value, "scatter_set")
        part.assign(new)
        return
    basic = _basic(x, items)
    if basic.size == x.shape and basic.shape == x.shape and all(s == 1 for s in basic.step):
        x.assign(assign_cast(x, value, "assignment"))
        return
    view = _slice(x, basic)
    view.assign(assign_cast(view, value, "assignment"))


def put_along_axis(x: Tensor, indices: Any, values: Any, axis: int | None = -1) -> None:
    """`x[i, indices[i, j]] = values[i, j]` and so on along an axis, in place, as `numpy.put_along_axis`; of repeated
    indices the last one wins."""
    index = _index_array(x, indices)
    if axis is None:
        flat = scattered(reshape(x, (x.size,)), [index], values, "scatter_set")[1]
        x.assign(reshape(flat, x.shape))
        return
    number = normalize_axis("put_along_axis", axis, x.ndim, x)
    if index.ndim != x.ndim:
        raise ShapeError(
            message(
                "put_along_axis: indices must have the rank of x",
                operands=[("x", describe(x)), ("indices", describe(index))],
                location=user_location(),
                hint="Insert axes into the indices with i[:, None].",
            )
        )
    shape = tuple(i if a == number else d for a, (i, d) in enumerate(zip(index.shape, x.shape, strict=True)))
    key: list[Any] = []
    for a, extent in enumerate(shape):
        positions = np.arange(extent).reshape(-1, *(1,) * (x.ndim - a - 1))
        key.append(broadcast_to(index, shape) if a == number else as_tensor(positions))
    x.assign(scattered(x, key, values, "scatter_set")[1])
