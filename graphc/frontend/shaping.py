"""Shape functions and joins. Layer 5. Names follow the Array API standard; semantics are NumPy's."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import AxisError, GraphcError, OptionError, ShapeError, StructureError, UnsupportedError, message
from graphc.frontend import context
from graphc.frontend.elementwise import copied
from graphc.frontend.promotion import as_tensor, convert, describe, op, refusal, result_dtype
from graphc.frontend.promotion import broadcast_shapes as common_shape
from graphc.frontend.promotion import broadcast_to as _broadcast
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "integer",
    "matrix_transpose",
    "moveaxis",
    "normalize_axes",
    "normalize_axis",
    "pad",
    "permute_dims",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "shape_of",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "tril",
    "triu",
    "unstack",
]


def integer(name: str, what: str, x: Any) -> int:
    """`x` as a Python integer.

    Raises
    ------
    StructureError
        If it is none; a float with an integer's value is none either, as in NumPy.
    """
    try:
        return operator.index(x)
    except TypeError as error:
        if isinstance(error, GraphcError):
            raise
        raise StructureError(
            message(
                f"{name}: {what} must be an integer, not {describe(x)}",
                location=user_location(),
                hint="Convert it with int(), or divide with //.",
            )
        ) from None


def shape_of(name: str, shape: Any) -> tuple[int, ...]:
    """A shape argument (one integer, or several) as a tuple."""
    return tuple(integer(name, "a size", d) for d in (shape if isinstance(shape, (tuple, list)) else (shape,)))


def normalize_axis(name: str, axis: Any, rank: int, x: Any = None) -> int:
    """`axis` as a number from 0 to rank - 1."""
    number = integer(name, "an axis", axis)
    if not -rank <= number < rank:
        raise AxisError(
            message(
                f"{name}: axis {number} is out of bounds for rank {rank}",
                operands=[] if x is None else [("x", describe(x))],
                location=user_location(),
                hint=f"Axes run from {-rank} to {rank - 1}." if rank else "A tensor of rank 0 has no axes.",
            )
        )
    return int(number % rank)


def normalize_axes(name: str, axes: Any, rank: int, x: Any = None) -> tuple[int, ...]:
    """Axes (None for all) as sorted distinct numbers."""
    if axes is None:
        return tuple(range(rank))
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    numbers = [normalize_axis(name, a, rank, x) for a in given]
    if len(set(numbers)) != len(numbers):
        raise ShapeError(
            message(
                f"{name}: an axis is repeated in {tuple(given)}",
                operands=[] if x is None else [("x", describe(x))],
                location=user_location(),
                hint=f"As numbers from 0 they are {tuple(numbers)}; give each once.",
            )
        )
    return tuple(sorted(numbers))


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The same elements in C order with another shape; one extent may be -1. With `copy` in memory of their own, with
    `copy=False` in that of x (an error where x's strides do not allow it), else as it comes."""
    tensor = as_tensor(x)
    wanted = list(shape_of("reshape", shape))
    given = tuple(wanted)
    known = 1
    for d in wanted:
        known *= d if d != -1 else 1
    if wanted.count(-1) == 1 and known > 0 and tensor.size % known == 0:
        wanted[wanted.index(-1)] = tensor.size // known
    total = 1
    for d in wanted:
        total *= d
    if total != tensor.size or any(d < 0 for d in wanted):
        raise ShapeError(
            message(
                f"reshape: {tensor.size} elements do not fit shape {given}",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint=_reshape_hint(given, tensor.size),
            )
        )
    target = tuple(wanted)
    made = tensor if target == tensor.shape else op("reshape", tensor, shape=target)
    if copy:
        return copied(made)
    if copy is False and context.trace.get() is None and not _in_memory_of(made, tensor):
        raise OptionError(
            message(
                "reshape with copy=False would have to copy: the elements do not lie in C order",
                operands=[("x", describe(tensor)), ("strides", str(tensor.numpy().strides))],
                location=user_location(),
                hint="Leave copy=False out.",
            )
        )
    return made


def _in_memory_of(made: Tensor, tensor: Tensor) -> bool:
    return not made.size or np.may_share_memory(made.numpy(), tensor.numpy())


def _reshape_hint(wanted: tuple[int, ...], size: int) -> str:
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        return "One size may be -1, and is worked out; the others are counts."
    known = 1
    for d in wanted:
        known *= d if d != -1 else 1
    if -1 in wanted:
        return f"The other sizes have the product {known}, which does not divide {size}."
    return f"The sizes must have the product {size}, not {known}; one of them may be -1."


def ravel(x: Any, /) -> Tensor:
    """All elements in C order as one axis."""
    return reshape(x, (-1,)) if as_tensor(x).size else reshape(x, (0,))


def permute_dims(x: Any, /, axes: Sequence[int] | None = None) -> Tensor:
    """Axes in another order (reversed by default), as `numpy.transpose`."""
    tensor = as_tensor(x)
    rank = tensor.ndim
    perm = (
        tuple(range(rank))[::-1] if axes is None else tuple(normalize_axis("transpose", a, rank, tensor) for a in axes)
    )
    if sorted(perm) != list(range(rank)):
        raise ShapeError(
            message(
                f"transpose: {tuple(axes or ())} is not a permutation of the axes",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint=f"Name each of the axes 0 to {rank - 1} once.",
            )
        )
    return tensor if perm == tuple(range(rank)) else op("transpose", tensor, perm=perm)


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    tensor = as_tensor(x)
    a, b = (normalize_axis("swapaxes", axis, tensor.ndim, tensor) for axis in (axis1, axis2))
    perm = list(range(tensor.ndim))
    perm[a], perm[b] = b, a
    return permute_dims(tensor, perm)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places, the rest in order, as `numpy.moveaxis`."""
    tensor = as_tensor(x)
    sources = source if isinstance(source, (tuple, list)) else (source,)
    targets = destination if isinstance(destination, (tuple, list)) else (destination,)
    moved = [normalize_axis("moveaxis", a, tensor.ndim, tensor) for a in sources]
    places = [normalize_axis("moveaxis", a, tensor.ndim, tensor) for a in targets]
    if len(moved) != len(places) or len(set(moved)) != len(moved) or len(set(places)) != len(places):
        what = f"moveaxis: axes {tuple(sources)} do not go to {tuple(targets)} one by one"
        raise refusal(ShapeError, what, "Give as many places as axes, none twice.", x=tensor)
    perm = [a for a in range(tensor.ndim) if a not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        perm.insert(place, axis)
    return permute_dims(tensor, perm)


def expand_dims(x: Any, /, axis: Any = 0) -> Tensor:
    """Unit axes inserted."""
    tensor = as_tensor(x)
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = normalize_axes("expand_dims", given, tensor.ndim + len(given), tensor)
    extents = iter(tensor.shape)
    shape = [1 if a in axes else next(extents) for a in range(tensor.ndim + len(axes))]
    return reshape(tensor, tuple(shape))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Unit axes removed (all, or those given)."""
    tensor = as_tensor(x)
    unit = tuple(a for a, d in enumerate(tensor.shape) if d == 1)
    axes = unit if axis is None else normalize_axes("squeeze", axis, tensor.ndim, tensor)
    if any(a not in unit for a in axes):
        raise ShapeError(
            message(
                f"squeeze: axis {axis} has not size 1",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Without axis= all axes of size 1 are removed; to drop another one, index it (x[0]).",
            )
        )
    return reshape(tensor, tuple(d for a, d in enumerate(tensor.shape) if a not in axes))


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """`x` repeated to `shape` by NumPy's broadcasting rules; read-only."""
    tensor = as_tensor(x)
    wanted = shape_of("broadcast_to", shape)
    fits = len(wanted) >= tensor.ndim and all(
        d in (1, w) for d, w in zip(tensor.shape[::-1], wanted[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            message(
                f"broadcast_to: x does not broadcast to shape {wanted}",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Counted from the last axis, x's sizes must be 1 or those of the shape; insert axes with x[:, None].",
            )
        )
    return _broadcast(tensor, wanted)


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """All arrays broadcast to their common shape."""
    if not arrays:
        return ()
    tensors = [as_tensor(x) for x in arrays]
    shape = common_shape("broadcast_arrays", tensors)
    return tuple(_broadcast(t, shape) for t in tensors)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape to which arrays of these shapes broadcast; () for none.

    Raises
    ------
    ShapeError
        If two sizes of an axis differ and neither is 1.

    >>> import graphc as gx
    >>> gx.broadcast_shapes((3, 1), (2,))
    (3, 2)
    """
    given = [shape_of("broadcast_shapes", shape) for shape in shapes]
    try:
        return np.broadcast_shapes(*given)
    except ValueError:
        raise ShapeError(
            message(
                "broadcast_shapes: the shapes do not broadcast together",
                operands=[(f"shape {i}", str(shape)) for i, shape in enumerate(given)],
                location=user_location(),
                hint="Counted from the last axis, sizes must be equal or 1.",
            )
        ) from None


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis (None flattens them first)."""
    tensors = [as_tensor(x) for x in arrays]
    if not tensors:
        raise ShapeError(
            message("concat: there is nothing to join", location=user_location(), hint="Give at least one array.")
        )
    if axis is None:
        tensors, axis = [ravel(t) for t in tensors], 0
    dtype = result_dtype(*tensors)
    number = normalize_axis("concat", axis, tensors[0].ndim, tensors[0])
    rest = [t.shape[:number] + t.shape[number + 1 :] for t in tensors]
    if any(r != rest[0] or t.ndim != tensors[0].ndim for r, t in zip(rest, tensors, strict=True)):
        raise ShapeError(
            message(
                f"concat: shapes must be equal except along axis {number}",
                operands=[(f"operand {i}", describe(t)) for i, t in enumerate(tensors)],
                location=user_location(),
                hint="Insert a missing axis with x[None], choose another axis=, or join along a new one with stack.",
            )
        )
    if len(tensors) == 1:
        return convert(tensors[0], dtype)
    return op("concatenate", *(convert(t, dtype) for t in tensors), axis=number)


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis."""
    tensors = [as_tensor(x) for x in arrays]
    if tensors and any(t.shape != tensors[0].shape for t in tensors):
        raise ShapeError(
            message(
                "stack: all arrays must have the same shape",
                operands=[(f"operand {i}", describe(t)) for i, t in enumerate(tensors)],
                location=user_location(),
                hint="Broadcast them first (np.broadcast_arrays), or join along an axis that they have with concat.",
            )
        )
    return concat([expand_dims(t, axis=axis) for t in tensors], axis=axis)


def slice_axis(x: Tensor, axis: int, start: int, size: int, step: int = 1) -> Tensor:
    """`size` elements along one axis from `start` in steps of `step`."""
    if start == 0 and step == 1 and size == x.shape[axis]:
        return x
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    sizes = tuple(size if a == axis else d for a, d in enumerate(x.shape))
    steps = tuple(step if a == axis else 1 for a in range(x.ndim))
    return op("slice", x, start=starts, size=sizes, step=steps)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts along an axis: so many equal ones, or split before the given indices, as `numpy.split`."""
    tensor = as_tensor(x)
    number = normalize_axis("split", axis, tensor.ndim, tensor)
    extent = tensor.shape[number]
    if isinstance(indices_or_sections, (tuple, list)):
        bounds = [0, *(min(max(i + extent if i < 0 else i, 0), extent) for i in indices_or_sections), extent]
    else:
        count = integer("split", "the number of parts", indices_or_sections)
        if count <= 0 or extent % count:
            raise ShapeError(
                message(
                    f"split: {extent} elements do not divide into {count} equal parts",
                    operands=[("x", describe(tensor))],
                    location=user_location(),
                    hint="Give the places to split at instead: split(x, [2, 5]).",
                )
            )
        bounds = list(range(0, extent + 1, extent // count)) if extent else [0] * (count + 1)
    pairs = itertools.pairwise(bounds)
    return [slice_axis(tensor, number, min(low, extent), max(high - low, 0)) for low, high in pairs]


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, without it."""
    tensor = as_tensor(x)
    number = normalize_axis("unstack", axis, tensor.ndim, tensor)
    return tuple(squeeze(slice_axis(tensor, number, i, 1), axis=number) for i in range(tensor.shape[number]))


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """Elements in reverse order along axes (all by default)."""
    tensor = as_tensor(x)
    axes = normalize_axes("flip", axis, tensor.ndim, tensor)
    if not axes:
        return tensor
    starts = tuple(max(d - 1, 0) if a in axes else 0 for a, d in enumerate(tensor.shape))
    steps = tuple(-1 if a in axes else 1 for a in range(tensor.ndim))
    return op("slice", tensor, start=starts, size=tensor.shape, step=steps)


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Elements shifted along axes, wrapping around."""
    tensor = as_tensor(x)
    if axis is None:
        return reshape(roll(ravel(tensor), shift, axis=0), tensor.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,)
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ShapeError(
            message(
                f"roll: {len(shifts)} shifts are given for {len(axes)} axes",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Give one shift for each axis, or one for all.",
            )
        )
    count = max(len(shifts), len(axes)) if shifts and axes else 0
    for place in range(count):
        by, which = (given[place % len(given)] for given in (shifts, axes))
        number = normalize_axis("roll", which, tensor.ndim, tensor)
        extent = tensor.shape[number]
        offset = by % extent if extent else 0
        if offset:
            tail = slice_axis(tensor, number, extent - offset, offset)
            tensor = concat([tail, slice_axis(tensor, number, 0, extent - offset)], axis=number)
    return tensor


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    """Constant padding as `numpy.pad`; `pad_width` is n, (before, after), or a pair for each axis."""
    tensor = as_tensor(x)
    if mode != "constant":
        raise UnsupportedError(
            message(
                f"pad: mode {mode!r} is not supported; only 'constant' is",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Join slices of x with concat instead.",
            )
        )
    widths = _pad_widths(tensor, pad_width)
    if not widths.any():
        return tensor
    fill = convert(as_tensor(constant_values), tensor.dtype)
    if fill.shape:
        raise UnsupportedError(
            message(
                "pad: one constant_values for all sides is supported",
                operands=[("x", describe(tensor)), ("constant_values", describe(fill))],
                location=user_location(),
                hint="Pad one side after the other.",
            )
        )
    return op("pad", tensor, fill, low=tuple(int(w) for w in widths[:, 0]), high=tuple(int(w) for w in widths[:, 1]))


def _pad_widths(tensor: Tensor, pad_width: Any) -> np.ndarray[Any, Any]:
    """The widths as [rank, 2]."""
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (tensor.ndim, 2))
    except ValueError:
        widths = np.full((1, 2), -1)
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise ShapeError(
            message(
                f"pad: {pad_width!r} are no widths",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Give n, (before, after), or a pair for each axis, of integers that are not negative.",
            )
        )
    return widths


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """The whole array repeated along each axis, as `numpy.tile`."""
    tensor = as_tensor(x)
    counts = list(repetitions) if isinstance(repetitions, (tuple, list)) else [repetitions]
    rank = max(len(counts), tensor.ndim)
    counts = [1] * (rank - len(counts)) + [integer("tile", "a number of repetitions", c) for c in counts]
    if min(counts, default=0) < 0:
        raise refusal(
            ShapeError, f"tile: cannot repeat {min(counts)} times", "Numbers of repetitions are counts.", x=tensor
        )
    shape = (1,) * (rank - tensor.ndim) + tensor.shape
    apart = reshape(tensor, tuple(e for d in shape for e in (1, d)))
    wide = broadcast_to(apart, tuple(e for c, d in zip(counts, shape, strict=True) for e in (c, d)))
    return reshape(wide, tuple(c * d for c, d in zip(counts, shape, strict=True)))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element repeated `repeats` times along an axis (of the flattened array by default); a count for each element must
    be known when compiling, since the result's size follows from them."""
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = ravel(tensor), 0
    number = normalize_axis("repeat", axis, tensor.ndim, tensor)
    counts = _known_counts(tensor, repeats)
    if np.size(counts) and np.min(counts) < 0:
        raise refusal(
            ShapeError, f"repeat: cannot repeat {np.min(counts)} times", "Numbers of repeats are counts.", x=tensor
        )
    if np.ndim(counts):
        if np.size(counts) not in (1, tensor.shape[number]):
            what = f"repeat: {np.size(counts)} counts are given for {tensor.shape[number]} elements"
            raise refusal(ShapeError, what, "Give one count, or one for each element of the axis.", x=tensor)
        positions = np.repeat(np.arange(tensor.shape[number]), counts)
        return op("take", tensor, as_tensor(positions.astype(np.int64)), axis=number, mode="raise")
    count = integer("repeat", "the number of repeats", counts)
    if count < 0:
        raise OptionError(
            message(
                f"repeat: the number of repeats cannot be negative, got {count}",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="0 repeats give an empty tensor.",
            )
        )
    shape = tensor.shape
    apart = expand_dims(tensor, axis=number + 1)
    wide = broadcast_to(apart, (*shape[: number + 1], count, *shape[number + 1 :]))
    return reshape(wide, (*shape[:number], shape[number] * count, *shape[number + 1 :]))


def _known_counts(x: Tensor, repeats: Any) -> Any:
    if not isinstance(repeats, Tensor):
        return repeats
    if context.trace.get() is not None:
        raise UnsupportedError(
            message(
                "repeat with an array of counts has a size that depends on values, which a static graph cannot have",
                operands=[("x", describe(x)), ("repeats", describe(repeats))],
                location=user_location(),
                hint="Give the counts as a tuple of integers, or take elements by an index of known size.",
            )
        )
    return repeats.numpy()


def _triangle(name: str, x: Any, k: int, lower: bool) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(
            message(
                f"{name}: needs rank 2 or more",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Insert an axis with x[None].",
            )
        )
    keep = np.tri(tensor.shape[-2], tensor.shape[-1], k=k if lower else k - 1, dtype=bool)
    mask = _broadcast(as_tensor(keep if lower else ~keep), tensor.shape)
    zero = _broadcast(convert(as_tensor(0), tensor.dtype), tensor.shape)
    return op("select", mask, tensor, zero)


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The lower triangle (up to diagonal k); zero elsewhere."""
    return _triangle("tril", x, k, lower=True)


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangle (from diagonal k); zero elsewhere."""
    return _triangle("triu", x, k, lower=False)
