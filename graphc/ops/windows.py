"""Windows: overlapping pieces of an axis, and the sum, the greatest and the least element of each. Layer 2.

`windows` is a movement like any other: its index map is affine, so that products and reductions over windows read the
operand in place. Convolutions (`graphc.ops.convolution`) and pooling are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from graphc.dtypes import float32, int32
from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Dim, pos
from graphc.ir.op import Builder, Expansion, Movement, Reduction, Source, type_error
from graphc.ir.registry import register
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.movement import pad_with
from graphc.ops.reduction import max_, min_, sum_

__all__ = [
    "interleave",
    "overlap_add",
    "window_count",
    "window_max",
    "window_min",
    "window_sum",
    "windows",
    "windows_over",
]

Array = NDArray[Any]
Axes = tuple[int, ...]

#: Windows of at most so many elements are combined element by element, each a slice of the operand.
MAX_PIECES = 32


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
        shift=lambda n, axis, **attrs: {"axis": axis + 1, **attrs},
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
    from. `extent` is the size of the axis."""
    shape = b.type(x).shape
    count, size = shape[axis], shape[axis + 1]
    assert isinstance(size, int)
    outer, inner = shape[:axis], shape[axis + 2 :]
    if dilation == 1 and size <= step:
        # Windows do not overlap.
        apart = _fit(b, x, axis + 1, 0, step)
        return _fit(b, b.reshape(apart, shape=(*outer, count * step, *inner)), axis, 0, extent)
    pieces = []
    for k in range(size):
        start = tuple(k if a == axis + 1 else 0 for a in range(len(shape)))
        piece = b.slice(x, start=start, size=(*outer, count, 1, *inner), step=(1,) * len(shape))
        pieces.append(b.reshape(piece, shape=(*outer, count, *inner)))
    return _added(b, pieces, axis, step, dilation, extent)


def _added(b: Builder, pieces: Sequence[Any], axis: int, step: int, dilation: int, extent: Dim) -> Any:
    """`overlap_add` of the elements k = 0, 1, .. of all windows, one array each.

    Places p = q * step + r are computed for each remainder r by itself, as sums of shifted pieces, and interleaved.
    """
    shape = b.type(pieces[0]).shape
    count, dtype = shape[axis], b.type(pieces[0]).dtype
    if isinstance(count, int) and count == 0:
        return b.full((*shape[:axis], extent, *shape[axis + 1 :]), 0.0, dtype)
    length = (extent + step - 1) // step
    phases: list[Any] = [None] * step
    for k, piece in enumerate(pieces):
        quotient, remainder = divmod(k * dilation, step)
        shifted = _fit(b, piece, axis, quotient, length)
        known = phases[remainder]
        phases[remainder] = shifted if known is None else b.add(known, shifted)
    if step == 1:
        return phases[0]
    empty = (*shape[:axis], length, *shape[axis + 1 :])
    return interleave(b, [b.full(empty, 0.0, dtype) if p is None else p for p in phases], axis, extent)


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


# -- sums, greatest and least elements of windows -----------------------------------------------------------------------


def _pieces(b: Builder, x: Any, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> list[Any]:
    """The elements at each place of all windows, in row-major order of places: slices of x."""
    shape = b.type(x).shape
    counts, step = list(shape), [1] * len(shape)
    for axis, size, stride, dilation in zip(axes, sizes, steps, dilations, strict=True):
        counts[axis] = window_count(shape[axis], size, stride, dilation)
        step[axis] = stride
    found = []
    for place in np.ndindex(*sizes):
        start = [0] * len(shape)
        for axis, k, dilation in zip(axes, place, dilations, strict=True):
            start[axis] = k * dilation
        found.append(b.slice(x, start=tuple(start), size=tuple(counts), step=tuple(step)))
    return found


def _all_added(b: Builder, pieces: Sequence[Any], x: Any, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
    """Pieces added where they came from in x, axis by axis, the last one first."""
    shape = b.type(x).shape
    for axis, size, step, dilation in reversed(list(zip(axes, sizes, steps, dilations, strict=True))):
        rows = [pieces[k : k + size] for k in range(0, len(pieces), size)]
        pieces = [_added(b, row, axis, step, dilation, shape[axis]) for row in rows]
    (whole,) = pieces
    return whole


def _check_windows(
    name: str, operands: tuple[Type, ...], axes: Axes, sizes: Axes, steps: Axes, dilations: Axes
) -> Shape:
    """The shape of what is reduced."""
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
    except ShapeError as error:
        raise ShapeError(type_error(name, str(error), operands)) from None
    return tuple(shape)


def _window_reduction(
    reduction: Reduction,
    what: str,
    derivative: str,
    *,
    combine: str,
    vjp: Callable[..., Any],
    exact: bool,
    linear: bool,
) -> Expansion:
    """`window_<name>`: a reduction over windows; few elements are combined one after the other by the elementwise op
    `combine`."""
    full_name = f"window_{reduction.name}"

    def rule(*operands: Type, **attrs: Any) -> tuple[Type, ...]:
        shape = _check_windows(full_name, operands, **attrs)
        try:
            return (TensorType(reduction.types(*(t.dtype for t in operands if isinstance(t, TensorType))), shape),)
        except DTypeError as error:
            raise DTypeError(type_error(full_name, str(error), operands)) from None

    def evaluate(x: Array, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Array:
        inside = []
        for done, (axis, size, step, dilation) in enumerate(zip(axes, sizes, steps, dilations, strict=True)):
            x = _numpy(x, axis + done, size, step, dilation)
            inside.append(axis + done + 1)
        return np.asarray(reduction.evaluate((x,), {"axes": tuple(inside)})[0])

    def expand(b: Builder, x: Any, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
        if prod(sizes) > MAX_PIECES:
            taken, _, inside = windows_over(b, x, axes, sizes, steps, dilations)
            return getattr(b, reduction.name)(taken, axes=inside)
        pieces = _pieces(b, x, axes, sizes, steps, dilations)
        own = b.type(x).dtype
        wide = own.is_short_float and not exact
        total, *rest = [b.convert(piece, dtype=float32) for piece in pieces] if wide else pieces
        for piece in rest:
            total = getattr(b, combine)(total, piece)
        return b.convert(total, dtype=own) if wide else total

    def cotangent(
        b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], **attrs: Any
    ) -> list[Any]:
        return [vjp(b, operands[0], results[0], cotangents[0], **attrs)]

    return register(
        Expansion(
            name=full_name,
            doc=f"""y = the {what} of each of the windows of `sizes` along `axes`, which are `steps` apart and have their
            elements `dilations` apart; as many windows as fit. NaN if one is NaN. {derivative}""",
            attributes=("axes", "sizes", "steps", "dilations"),
            rule=rule,
            numpy=evaluate,
            vjp=cotangent,
            linear="together" if linear else "",
            expand=expand,
            shift=lambda n, axes, **attrs: {"axes": tuple(axis + 1 for axis in axes), **attrs},
            exact=exact,
        )
    )


def _over(b: Builder, x: Any, shape: Shape, inside: Axes) -> Any:
    """A value of each window for all of its elements."""
    apart = tuple(1 if a in inside else d for a, d in enumerate(shape))
    return b.broadcast(b.reshape(x, shape=apart), shape=shape)


def _put_back(b: Builder, taken: Any, x: Any, axes: Axes, steps: Axes, dilations: Axes) -> Any:
    """What `windows_over` took, added where it came from in x."""
    shape = b.type(x).shape
    for number, axis in reversed(list(enumerate(axes))):
        taken = overlap_add(b, taken, axis + number, steps[number], dilations[number], shape[axis])
    return taken


def _sum_vjp(b: Builder, x: Any, y: Any, ct: Any, *, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
    if prod(sizes) <= MAX_PIECES:
        return _all_added(b, [ct] * prod(sizes), x, axes, sizes, steps, dilations)
    taken, _, inside = windows_over(b, x, axes, sizes, steps, dilations)
    return _put_back(b, _over(b, ct, b.type(taken).shape, inside), x, axes, steps, dilations)


def _extremum_vjp(b: Builder, x: Any, y: Any, ct: Any, *, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes) -> Any:
    """The cotangent of each window goes to its first element that equals the window's extremum."""
    if prod(sizes) > MAX_PIECES:
        return _extremum_vjp_of_many(b, x, y, ct, axes, sizes, steps, dilations)
    pieces = _pieces(b, x, axes, sizes, steps, dilations)
    first = b.full(b.type(y).shape, len(pieces), int32)
    for place, piece in reversed(list(enumerate(pieces))):
        first = b.select(_chosen(b, piece, y), b.like(first, place), first)
    parts = [b.select(b.equal(first, b.like(first, k)), ct, b.like(ct, 0.0)) for k in range(len(pieces))]
    return _all_added(b, parts, x, axes, sizes, steps, dilations)


def _chosen(b: Builder, x: Any, extremum: Any) -> Any:
    """Whether an element has the extremum's value."""
    equal = b.equal(x, extremum)
    return b.bitwise_or(equal, b.isnan(x)) if b.type(x).dtype.is_float else equal


def _extremum_vjp_of_many(
    b: Builder, x: Any, y: Any, ct: Any, axes: Axes, sizes: Axes, steps: Axes, dilations: Axes
) -> Any:
    """The same without a node for each place in the window."""
    taken, _, inside = windows_over(b, x, axes, sizes, steps, dilations)
    shape = b.type(taken).shape
    place = b.full(shape, 0, int32)
    for axis, size in zip(inside, sizes, strict=True):
        place = b.add(b.multiply(place, b.like(place, size)), b.iota(shape=shape, axis=axis, dtype=int32))
    chosen = _chosen(b, taken, _over(b, y, shape, inside))
    first = b.min(b.select(chosen, place, b.like(place, prod(sizes))), axes=inside)
    winner = b.equal(place, _over(b, first, shape, inside))
    won = b.select(winner, _over(b, ct, shape, inside), b.full(shape, 0.0, b.type(ct).dtype))
    return _put_back(b, won, x, axes, steps, dilations)


_FIRST = """Of zeros with different signs either. Derivative: all goes to the first such element of the window in
            row-major order (to the first NaN)."""
_ALIKE = "Derivative: to all elements alike."

window_sum = _window_reduction(sum_, "sum", _ALIKE, combine="add", vjp=_sum_vjp, exact=False, linear=True)
window_max = _window_reduction(
    max_, "greatest element", _FIRST, combine="maximum", vjp=_extremum_vjp, exact=True, linear=False
)
window_min = _window_reduction(
    min_, "least element", _FIRST, combine="minimum", vjp=_extremum_vjp, exact=True, linear=False
)
