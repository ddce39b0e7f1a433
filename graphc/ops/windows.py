"""Windows: overlapping pieces of an axis, and the greatest and least element of each. Layer 2.

`windows` is a movement like any other: its index map is affine, so that products and reductions over windows read the
operand in place. Convolutions (`graphc.ops.convolution`) and pooling are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from graphc.dtypes import int64
from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Dim, pos
from graphc.ir.op import Builder, Expansion, Movement, Source, type_error
from graphc.ir.registry import register
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.movement import pad_with
from graphc.ops.rules import same_number

__all__ = ["interleave", "overlap_add", "window_count", "window_max", "window_min", "windows", "windows_over"]

Array = NDArray[Any]
Axes = tuple[int, ...]


def window_count(extent: Dim, size: int, step: int, dilation: int) -> Dim:
    """How many whole windows an axis has.

    >>> window_count(7, size=3, step=2, dilation=1), window_count(2, size=3, step=1, dilation=1)
    (3, 0)
    """
    return pos((extent - (size - 1) * dilation - 1) // step + 1)


# -- windows ----------------------------------------------------------------------------------------------------------


def _check(rank: int, axis: int, size: int, step: int, dilation: int) -> None:
    if not 0 <= axis < rank:
        raise ShapeError(f"axis {axis} is not an axis of an operand of rank {rank}")
    if size < 1 or step < 1 or dilation < 1:
        raise ShapeError(f"size {size}, step {step} and dilation {dilation} must be at least 1")


def _shape(x: Shape, axis: int, size: int, step: int, dilation: int) -> Shape:
    _check(len(x), axis, size, step, dilation)
    return (*x[:axis], window_count(x[axis], size, step, dilation), size, *x[axis + 1 :])


def _sources(index: tuple[Any, ...], x: Shape, axis: int, size: int, step: int, dilation: int) -> list[Source]:
    place = index[axis] * step + index[axis + 1] * dilation
    return [Source(0, (*index[:axis], place, *index[axis + 2 :]))]


def _numpy(x: Array, axis: int, size: int, step: int, dilation: int) -> Array:
    shape = _shape(x.shape, axis, size, step, dilation)
    own = x.strides[axis]
    strides = (*x.strides[:axis], own * step, own * dilation, *x.strides[axis + 1 :])
    return as_strided(x, shape, strides, writeable=False)  # type: ignore[arg-type]


def _vjp(b: Builder, ct: Any, x: Any, axis: int, size: int, step: int, dilation: int) -> list[Any]:
    return [overlap_add(b, ct, axis, step, dilation, b.type(x).shape[axis])]


windows = register(
    Movement(
        name="windows",
        doc="""y[.., i, k, ..] = x[.., i * step + k * dilation, ..]: the windows of `size` elements along `axis`, as many
        as fit; the place in the window is a new axis after the windows' own. An axis that is shorter than a window has
        none.""",
        attributes=("axis", "size", "step", "dilation"),
        shape=_shape,
        numpy=_numpy,
        sources=_sources,
        vjp=_vjp,
    )
)


def windows_over(b: Builder, x: Any, axes: Axes, sizes: Shape, steps: Axes, dilations: Axes) -> tuple[Any, Axes, Axes]:
    """Windows over several axes (sorted); gives also the axes of the result that count windows, and those in windows."""
    counted, inside = [], []
    for done, (axis, size, step, dilation) in enumerate(zip(axes, sizes, steps, dilations, strict=True)):
        x = b.windows(x, axis=axis + done, size=size, step=step, dilation=dilation)
        counted.append(axis + done)
        inside.append(axis + done + 1)
    return x, tuple(counted), tuple(inside)


# -- their adjoint ----------------------------------------------------------------------------------------------------


def overlap_add(b: Builder, x: Any, axis: int, step: int, dilation: int, extent: Dim) -> Any:
    """y[.., p, ..] = sum of x[.., i, k, ..] over all i * step + k * dilation == p: what `windows` took, added where it came
    from. `extent` is the size of the axis.

    Places p = q * step + r are computed for each remainder r by itself, as sums of shifted pieces, and interleaved.
    """
    shape = b.type(x).shape
    count, size = shape[axis], shape[axis + 1]
    assert isinstance(size, int)
    outer, inner = shape[:axis], shape[axis + 2 :]
    if isinstance(count, int) and (count == 0 or size == 0):
        return b.full((*outer, extent, *inner), 0.0, b.type(x).dtype)
    if dilation == 1 and size <= step:
        # Windows do not overlap.
        spread = _fit(b, x, axis + 1, 0, step)
        return _fit(b, b.reshape(spread, shape=(*outer, count * step, *inner)), axis, 0, extent)
    length = (extent + step - 1) // step
    phases: list[Any] = [None] * step
    for k in range(size):
        quotient, remainder = divmod(k * dilation, step)
        start = tuple(k if a == axis + 1 else 0 for a in range(len(shape)))
        piece = b.slice(x, start=start, size=(*outer, count, 1, *inner), step=(1,) * len(shape))
        shifted = _fit(b, b.reshape(piece, shape=(*outer, count, *inner)), axis, quotient, length)
        known = phases[remainder]
        phases[remainder] = shifted if known is None else b.add(known, shifted)
    if step == 1:
        return phases[0]
    empty = (*outer, length, *inner)
    return interleave(b, [b.full(empty, 0.0, b.type(x).dtype) if p is None else p for p in phases], axis, extent)


def interleave(b: Builder, phases: Sequence[Any], axis: int, extent: Dim) -> Any:
    """y[.., q * len(phases) + r, ..] = phases[r][.., q, ..], cut to `extent`."""
    shape = b.type(phases[0]).shape
    outer, length, inner = shape[:axis], shape[axis], shape[axis + 1 :]
    columns = [b.reshape(p, shape=(*outer, length, 1, *inner)) for p in phases]
    joined = b.concatenate(*columns, axis=axis + 1)
    return _fit(b, b.reshape(joined, shape=(*outer, length * len(phases), *inner)), axis, 0, extent)


def _fit(b: Builder, x: Any, axis: int, low: int, extent: Dim) -> Any:
    """x along an axis moved up by `low`, cut or filled with zeros to `extent`."""
    shape = b.type(x).shape
    excess = low + shape[axis] - extent
    if isinstance(excess, int) and excess > 0:
        kept = (*shape[:axis], shape[axis] - excess, *shape[axis + 1 :])
        x, shape, excess = b.slice(x, start=(0,) * len(shape), size=kept, step=(1,) * len(shape)), kept, 0
    before = tuple(low if a == axis else 0 for a in range(len(shape)))
    after = tuple(-excess if a == axis else 0 for a in range(len(shape)))
    return pad_with(b, x, 0.0, before, after)


# -- the greatest and least element of windows ------------------------------------------------------------------------


def _extremum(name: str, what: str, numpy: Callable[..., Array]) -> Expansion:
    """`window_max` and `window_min`: `reduction` over the windows, with PyTorch's derivative."""
    reduction = name.removeprefix("window_")

    def rule(*operands: Type, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> tuple[Type, ...]:
        x = operands[0] if len(operands) == 1 else None
        if not isinstance(x, TensorType):
            raise ShapeError(type_error(name, "takes one tensor", operands))
        if not axes or list(axes) != sorted(set(axes)) or not len(axes) == len(sizes) == len(steps) == len(dilations):
            why = f"axes {axes} must be some sorted axes, with a size, a step and a dilation for each"
            raise ShapeError(type_error(name, why, operands))
        shape = list(x.shape)
        try:
            for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
                _check(x.rank, axis, size, step, dilation)
                shape[axis] = window_count(shape[axis], size, step, dilation)
            return (TensorType(same_number(x.dtype), tuple(shape)),)
        except (ShapeError, DTypeError) as error:
            raise type(error)(type_error(name, str(error), operands)) from None

    def evaluate(x: Array, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Array:
        for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
            x = numpy(_numpy(x, axis, size, step, dilation), axis=axis + 1)
        return np.asarray(x)

    def expand(b: Builder, x: Any, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
        taken, _, inside = windows_over(b, x, axes, sizes, steps, dilations)
        return getattr(b, reduction)(taken, axes=inside)

    def vjp(
        b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], **attrs: Any
    ) -> list[Any]:
        return [_first_wins(b, operands[0], results[0], cotangents[0], **attrs)]

    return register(
        Expansion(
            name=name,
            doc=f"""y = the {what} element of each of the windows of `sizes` along `axes`, which are `steps` apart and have
            their elements `dilations` apart; as many windows as fit. NaN if one is NaN; of zeros with different signs
            either. Derivative: all goes to the first such element of the window in row-major order (to the first
            NaN).""",
            attributes=("axes", "sizes", "steps", "dilations"),
            rule=rule,
            numpy=evaluate,
            vjp=vjp,
            expand=expand,
            exact=True,
        )
    )


def _first_wins(b: Builder, x: Any, y: Any, ct: Any, *, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
    """The cotangent of x: each window's goes to its first element that equals the window's extremum."""
    taken, _, inside = windows_over(b, x, axes, sizes, steps, dilations)
    shape = b.type(taken).shape
    apart = tuple(1 if a in inside else d for a, d in enumerate(shape))

    def over(value: Any) -> Any:
        """A value of each window for all of its elements."""
        return b.broadcast(b.reshape(value, shape=apart), shape=shape)

    chosen = b.equal(taken, over(y))
    if b.type(x).dtype.is_float:
        chosen = b.bitwise_or(chosen, b.isnan(taken))
    place: Any = None
    for axis, size in zip(inside, sizes, strict=True):
        along = b.iota(shape=shape, axis=axis, dtype=int64)
        place = along if place is None else b.add(b.multiply(place, size), along)
    total = int(np.prod(sizes))
    first = b.min(b.select(chosen, place, b.like(place, total)), axes=inside)
    spread = b.select(b.equal(place, over(first)), over(ct), b.full(shape, 0.0, b.type(x).dtype))
    extents = b.type(x).shape
    for axis, step, dilation in reversed(list(zip(axes, steps, dilations, strict=True))):
        number = axes.index(axis)
        spread = overlap_add(b, spread, axis + number, step, dilation, extents[axis])
    return spread


window_max = _extremum("window_max", "greatest", np.max)
window_min = _extremum("window_min", "least", np.min)
