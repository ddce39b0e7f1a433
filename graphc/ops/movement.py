"""Movement: ops whose result elements are copies of operand elements. Layer 2.

Shapes may be symbolic; where a rule must decide something about a symbolic size, it compares expressions structurally.
Bit patterns are copied as they are, NaN payloads and signs of zeros included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import bool_
from graphc.errors import ShapeError
from graphc.ir.batching import Batched, Examples, spread_mask, with_axis
from graphc.ir.dims import Dim, is_nonnegative, pos, product
from graphc.ir.op import Builder, Guard, Movement, Source
from graphc.ir.registry import register
from graphc.ir.types import Shape

__all__ = ["broadcast", "concatenate", "pad", "pad_with", "reshape", "slice_", "spread", "transpose"]

Array = NDArray[Any]
Index = tuple[Any, ...]


def _check_sizes(shape: Shape) -> Shape:
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise ShapeError(f"shape {_text(shape)} has a negative size")
    return tuple(shape)


def _check_rank(what: str, values: Sequence[Any], rank: int) -> None:
    if len(values) != rank:
        raise ShapeError(f"{what} has {len(values)} entries, the operand {rank} axes")


def _text(shape: Sequence[Dim]) -> str:
    return f"[{', '.join(map(str, shape))}]"


# -- reshape ----------------------------------------------------------------------------------------------------------


def _reshape_shape(x: Shape, shape: Shape) -> Shape:
    if product(x) != product(shape):
        raise ShapeError(f"{_text(x)} has {product(x)} elements, the new shape {_text(shape)} has {product(shape)}")
    return _check_sizes(shape)


def _reshape_numpy(x: Array, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


reshape = register(
    Movement(
        name="reshape",
        doc="""The same elements in the same (row-major) order under another `shape` of equal size; moves nothing in
        memory. Empty operands may take any empty shape.""",
        attributes=("shape",),
        shape=_reshape_shape,
        numpy=_reshape_numpy,
        sources=None,
        vjp=lambda b, ct, x, shape: [b.reshape(ct, shape=b.type(x).shape)],
        view=True,
        shift=lambda size, shape: {"shape": (size, *shape)},
    )
)


# -- transpose --------------------------------------------------------------------------------------------------------


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    inverse = [0] * len(perm)
    for position, axis in enumerate(perm):
        inverse[axis] = position
    return tuple(inverse)


def _transpose_shape(x: Shape, perm: tuple[int, ...]) -> Shape:
    if sorted(perm) != list(range(len(x))):
        raise ShapeError(f"perm {perm} is not a permutation of the operand's {len(x)} axes")
    return tuple(x[axis] for axis in perm)


def _transpose_numpy(x: Array, perm: tuple[int, ...]) -> Array:
    return np.transpose(x, perm)


transpose = register(
    Movement(
        name="transpose",
        doc="Axes in another order: axis k of the result is axis perm[k] of x. Empty operands stay empty.",
        attributes=("perm",),
        shape=_transpose_shape,
        numpy=_transpose_numpy,
        sources=lambda index, x, perm: [Source(0, tuple(index[k] for k in _inverse(perm)))],
        vjp=lambda b, ct, x, perm: [b.transpose(ct, perm=_inverse(perm))],
        shift=lambda size, perm: {"perm": (0, *(axis + 1 for axis in perm))},
    )
)


# -- broadcast --------------------------------------------------------------------------------------------------------


def _broadcast_shape(x: Shape, shape: Shape) -> Shape:
    if len(x) > len(shape):
        raise ShapeError(f"{_text(x)} has more axes than the new shape {_text(shape)}")
    for old, new in zip(reversed(x), reversed(shape), strict=False):
        if old not in (new, 1):
            raise ShapeError(f"{_text(x)} cannot be broadcast to {_text(shape)}: size {old} is neither 1 nor {new}")
    return _check_sizes(shape)


def _broadcast_sources(index: Index, x: Shape, shape: Shape) -> list[Source]:
    lead = len(shape) - len(x)
    return [Source(0, tuple(0 if old == 1 else index[lead + k] for k, old in enumerate(x)))]


def _broadcast_vjp(b: Builder, ct: Any, x: Any, shape: Shape) -> list[Any]:
    old = b.type(x).shape
    lead = len(shape) - len(old)
    axes = tuple(k for k, new in enumerate(shape) if k < lead or old[k - lead] != new)
    summed = b.sum(ct, axes=axes) if axes else ct
    return [b.reshape(summed, shape=old) if b.type(summed).shape != old else summed]


def _broadcast_batch(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, shape: Shape
) -> Batched:
    """Axes that are new come after the examples'."""
    (x,) = operands
    size, *own = b.type(x).shape
    if len(own) < len(shape):
        x = b.reshape(x, shape=(size, *(1,) * (len(shape) - len(own)), *own))
    return [b.broadcast(x, shape=(size, *shape))], [True]


broadcast = register(
    Movement(
        name="broadcast",
        doc="""x repeated to `shape` by NumPy's rule: axes are aligned at the right, axes of size 1 (or absent)
        repeat. A size may become 0: the result is then empty.""",
        attributes=("shape",),
        shape=_broadcast_shape,
        numpy=np.broadcast_to,
        sources=_broadcast_sources,
        vjp=_broadcast_vjp,
        batching=_broadcast_batch,
    )
)


# -- slice ------------------------------------------------------------------------------------------------------------


def _slice_shape(x: Shape, start: Shape, size: Shape, step: tuple[int, ...]) -> Shape:
    for what, values in (("start", start), ("size", size), ("step", step)):
        _check_rank(what, values, len(x))
    for axis, (extent, first, count, stride) in enumerate(zip(x, start, size, step, strict=True)):
        if stride == 0:
            raise ShapeError(f"axis {axis}: the step may not be 0")
        last = first + (count - 1) * stride
        if not is_nonnegative(count - 1):
            continue  # empty, or may be
        for end in (first, last):
            # Known to be below 0, or known to be extent or more.
            if is_nonnegative(-1 - end) or is_nonnegative(end - extent):
                raise ShapeError(f"axis {axis}: index {end} is outside of size {extent}")
    return _check_sizes(size)


def _slice_numpy(x: Array, start: tuple[int, ...], size: tuple[int, ...], step: tuple[int, ...]) -> Array:
    if 0 in size:
        return np.empty(size, x.dtype)
    ranges = []
    for first, count, stride in zip(start, size, step, strict=True):
        stop = first + count * stride
        ranges.append(slice(first, stop if stop >= 0 else None, stride))
    return np.asarray(x[tuple(ranges)])


def _slice_sources(index: Index, x: Shape, start: Shape, size: Shape, step: tuple[int, ...]) -> list[Source]:
    return [Source(0, tuple(first + i * stride for i, first, stride in zip(index, start, step, strict=True)))]


def _slice_vjp(b: Builder, ct: Any, x: Any, start: Shape, size: Shape, step: tuple[int, ...]) -> list[Any]:
    """Zeros with the cotangent's elements put back: turn negative steps round, spread by |step| - 1 zeros, pad."""
    shape = b.type(x).shape
    if 0 in size:
        return [b.like(x, 0.0)]
    turned = tuple(count - 1 if stride < 0 else 0 for count, stride in zip(size, step, strict=True))
    if any(stride < 0 for stride in step):
        signs = tuple(-1 if stride < 0 else 1 for stride in step)
        ct = b.slice(ct, start=turned, size=size, step=signs)
    first = tuple(f + back * stride for f, back, stride in zip(start, turned, step, strict=True))
    ct, span = spread(b, ct, size, tuple(map(abs, step)))
    high = tuple(extent - f - n for extent, f, n in zip(shape, first, span, strict=True))
    return [pad_with(b, ct, 0.0, first, high)]


def spread(b: Builder, x: Any, size: Shape, step: tuple[int, ...]) -> tuple[Any, Shape]:
    """Put step - 1 zeros between neighbours along each axis; gives also the new shape."""
    if all(stride == 1 for stride in step):
        return x, size
    rank = len(size)
    split = tuple(d for count in size for d in (count, 1))
    low = (0,) * (2 * rank)
    high = tuple(d for stride in step for d in (0, stride - 1))
    merged = tuple(count * stride for count, stride in zip(size, step, strict=True))
    wide = b.reshape(pad_with(b, b.reshape(x, shape=split), 0.0, low, high), shape=merged)
    span = tuple(pos((count - 1) * stride + 1) for count, stride in zip(size, step, strict=True))
    return b.slice(wide, start=(0,) * rank, size=span, step=(1,) * rank), span


slice_ = register(
    Movement(
        name="slice",
        doc="""y[i] = x[start + i * step] for 0 <= i < size, per axis. `start` is the position of the first element
        taken, not counted from the end; steps may be negative. With size 0, start is ignored and the result
        empty.""",
        attributes=("start", "size", "step"),
        shape=_slice_shape,
        numpy=_slice_numpy,
        sources=_slice_sources,
        vjp=_slice_vjp,
        shift=lambda n, start, size, step: {"start": (0, *start), "size": (n, *size), "step": (1, *step)},
    )
)


# -- pad --------------------------------------------------------------------------------------------------------------


def _pad_shape(x: Shape, value: Shape, low: Shape, high: Shape) -> Shape:
    _check_rank("low", low, len(x))
    _check_rank("high", high, len(x))
    if value != ():
        raise ShapeError(f"the padding value must have rank 0, not shape {_text(value)}")
    if any(isinstance(n, int) and n < 0 for n in (*low, *high)):
        raise ShapeError(f"low {_text(low)} and high {_text(high)} may not be negative")
    return tuple(before + extent + after for before, extent, after in zip(low, x, high, strict=True))


def _pad_sources(index: Index, x: Shape, value: Shape, low: Shape, high: Shape) -> list[Source]:
    inner = tuple(i - before for i, before in zip(index, low, strict=True))
    guards = tuple(
        Guard(i, extent)
        for i, extent, before, after in zip(inner, x, low, high, strict=True)
        if before != 0 or after != 0
    )
    if not guards:
        return [Source(0, inner)]
    return [Source(0, inner, guards), Source(1, ())]


def _pad_numpy(x: Array, value: Array, low: tuple[int, ...], high: tuple[int, ...]) -> Array:
    shape = tuple(before + extent + after for before, extent, after in zip(low, x.shape, high, strict=True))
    result = np.full(shape, value, x.dtype)
    result[tuple(slice(before, before + extent) for before, extent in zip(low, x.shape, strict=True))] = x
    return result


def pad_with(b: Builder, x: Any, value: float, low: Shape, high: Shape) -> Any:
    """x surrounded by a literal; x itself where nothing is added."""
    if not any(n != 0 for n in (*low, *high)):
        return x
    return b.pad(x, b.full((), value, b.type(x).dtype), low=low, high=high)


def _pad_vjp(b: Builder, ct: Any, x: Any, value: Any, low: Shape, high: Shape) -> list[Any]:
    shape = b.type(x).shape
    inner = b.slice(ct, start=low, size=shape, step=(1,) * len(shape))
    outside = b.pad(b.full(shape, False, bool_), b.full((), True, bool_), low=low, high=high)
    border = b.select(outside, ct, b.like(ct, 0.0))
    return [inner, b.sum(border, axes=tuple(range(len(shape)))) if shape else b.like(value, 0.0)]


def _pad_batch(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, low: Shape, high: Shape
) -> Batched:
    """A value of each example's own is put where padding by True gives True."""
    x, value = operands
    around = {"low": (0, *low), "high": (0, *high)}
    if not batched[1]:
        return [b.pad(x, value, **around)], [True]
    x = with_axis(b, x, batched[0], examples.size)
    inside = b.full(b.type(x).shape, False, bool_)
    outside = b.pad(inside, b.full((), True, bool_), **around)
    filled = b.pad(x, b.full((), 0, b.type(x).dtype), **around)
    return [b.select(outside, spread_mask(b, value, filled), filled)], [True]


pad = register(
    Movement(
        name="pad",
        doc="""x surrounded by `value` (an operand of rank 0): low[k] elements before and high[k] after along axis k,
        both >= 0. An empty x gives a result of the value alone.""",
        attributes=("low", "high"),
        arity=2,
        shape=_pad_shape,
        numpy=_pad_numpy,
        sources=_pad_sources,
        vjp=_pad_vjp,
        batching=_pad_batch,
    )
)


# -- concatenate ------------------------------------------------------------------------------------------------------


def _concatenate_shape(*shapes: Shape, axis: int) -> Shape:
    if not shapes:
        raise ShapeError("takes at least one operand")
    first = shapes[0]
    if not 0 <= axis < len(first):
        raise ShapeError(f"axis {axis} is not an axis of an operand of rank {len(first)}")
    for shape in shapes:
        if len(shape) != len(first) or any(
            a != b for k, (a, b) in enumerate(zip(shape, first, strict=True)) if k != axis
        ):
            raise ShapeError(f"all sizes but those of axis {axis} must be equal")
    total: Dim = 0
    for shape in shapes:
        total = total + shape[axis]
    return (*first[:axis], total, *first[axis + 1 :])


def _concatenate_sources(index: Index, *shapes: Shape, axis: int) -> list[Source]:
    found = []
    offset: Dim = 0
    for operand, shape in enumerate(shapes):
        along = index[axis] - offset
        guards = () if operand == len(shapes) - 1 else (Guard(along, shape[axis]),)
        found.append(Source(operand, (*index[:axis], along, *index[axis + 1 :]), guards))
        offset = offset + shape[axis]
    return found


def _concatenate_vjp(b: Builder, ct: Any, *operands: Any, axis: int) -> list[Any]:
    cotangents = []
    offset: Dim = 0
    for x in operands:
        shape = b.type(x).shape
        start = tuple(offset if k == axis else 0 for k in range(len(shape)))
        cotangents.append(b.slice(ct, start=start, size=shape, step=(1,) * len(shape)))
        offset = offset + shape[axis]
    return cotangents


concatenate = register(
    Movement(
        name="concatenate",
        doc="Operands one after the other along `axis`; their other sizes are equal. Empty operands add nothing.",
        attributes=("axis",),
        arity=None,
        shape=_concatenate_shape,
        numpy=lambda *xs, axis: np.concatenate(xs, axis=axis),
        sources=_concatenate_sources,
        vjp=_concatenate_vjp,
        shift=lambda size, axis: {"axis": axis + 1},
    )
)
