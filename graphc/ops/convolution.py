"""Convolution over any number of axes. Layer 2.

The op's native code is a `dot` of the kernel with `windows` of the padded operand: windows are strides to the product's
kernels, so that nothing is unrolled in memory where a row of the result fills vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DTypeError, ShapeError
from graphc.ir.batching import Batched, Examples, moved, through
from graphc.ir.dims import Dim, pos, product
from graphc.ir.op import Builder, Expansion, conjugated, type_error
from graphc.ir.registry import register
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.movement import pad_with, spread
from graphc.ops.rules import same_number
from graphc.ops.windows import interleave, window_count, windows_over

__all__ = ["convolution"]

Array = NDArray[Any]
Sizes = tuple[int, ...]
Padding = tuple[tuple[Dim, Dim], ...]

#: Results with at most so many pixels may be computed pixel by pixel.
SMALL_RESULT = 64
#: Narrow results along kernels so long are computed by dot products along the kernel's rows.
DOT_TAPS, DOT_WIDTH = 32, 4
#: Windows of at most so many elements are copied out.
UNROLLED = 1 << 24


def _dilated(extent: Dim, dilation: int) -> Dim:
    """The size of an axis with dilation - 1 zeros between neighbours."""
    return extent if dilation == 1 else pos((extent - 1) * dilation + 1)


# -- shape ------------------------------------------------------------------------------------------------------------


def _shape(
    x: Shape, w: Shape, strides: Sizes, padding: Padding, input_dilation: Sizes, kernel_dilation: Sizes, groups: int
) -> Shape:
    rank = len(x) - 2
    if rank < 0 or len(w) != rank + 2:
        raise ShapeError("x is [N, C, spatial axes] and w [O, C / groups, as many axes]")
    for what, values in (
        ("strides", strides),
        ("padding", padding),
        ("input_dilation", input_dilation),
        ("kernel_dilation", kernel_dilation),
    ):
        if len(values) != rank:
            raise ShapeError(f"{what} has {len(values)} entries for {rank} spatial axes")
    if min((*strides, *input_dilation, *kernel_dilation), default=1) < 1:
        raise ShapeError("strides and dilations must be at least 1")
    if groups < 1 or w[1] * groups != x[1]:
        raise ShapeError(f"x has {x[1]} channels, w takes {w[1]} in each of {groups} groups")
    if isinstance(w[0], int) and w[0] % groups:
        raise ShapeError(f"{w[0]} output channels cannot be parted into {groups} groups")
    return (x[0], w[0], *_result_sizes(x, w, strides, padding, input_dilation, kernel_dilation))


def _result_sizes(
    x: Shape, w: Shape, strides: Sizes, padding: Padding, input_dilation: Sizes, kernel_dilation: Sizes
) -> Shape:
    found = []
    for k, (low, high) in enumerate(padding):
        size = w[2 + k]
        if not isinstance(size, int) or size < 1:
            raise ShapeError(f"the kernel's spatial sizes must be known and at least 1, not {size}")
        extent = low + _dilated(x[2 + k], input_dilation[k]) + high
        if isinstance(extent, int) and extent < 0:
            raise ShapeError(f"spatial axis {k}: padding {low}, {high} takes away more than there is")
        found.append(window_count(extent, size, strides[k], kernel_dilation[k]))
    return tuple(found)


def _rule(*operands: Type, **attrs: Any) -> tuple[Type, ...]:
    if len(operands) != 2 or not all(isinstance(t, TensorType) for t in operands):
        raise ShapeError(type_error("convolution", "takes two tensors", operands))
    x, w = operands
    assert isinstance(x, TensorType) and isinstance(w, TensorType)
    try:
        return (TensorType(same_number(x.dtype, w.dtype), _shape(x.shape, w.shape, **attrs)),)
    except (ShapeError, DTypeError) as error:
        raise type(error)(type_error("convolution", str(error), operands)) from None


# -- definition -------------------------------------------------------------------------------------------------------


def _numpy(
    x: Array,
    w: Array,
    strides: Sizes,
    padding: tuple[tuple[int, int], ...],
    input_dilation: Sizes,
    kernel_dilation: Sizes,
    groups: int,
) -> Array:
    """In float64 (integers in their own dtype): matrix products for each place in the kernel, or, where these are more,
    for each place of the result."""
    attrs = (strides, padding, input_dilation, kernel_dilation)
    result = tuple(int(d) for d in _shape(x.shape, w.shape, *attrs, groups))  # type: ignore[arg-type]
    wide = x.dtype if x.dtype.kind in "iu" else np.result_type(x.dtype, np.float64)
    padded = _padded(x.astype(wide), padding, input_dilation)
    n, channels, sizes, taps = x.shape[0], w.shape[1], result[2:], w.shape[2:]
    padded = padded.reshape(n, groups, channels, *padded.shape[2:])
    kernel = w.astype(wide).reshape(groups, w.shape[0] // groups, channels, *taps)
    y = np.zeros((n, groups, w.shape[0] // groups, *sizes), wide)
    if y.size == 0 or channels == 0:
        return y.reshape(result).astype(x.dtype)
    if prod(taps) <= prod(sizes):
        for tap in np.ndindex(*taps):
            first = [k * d for k, d in zip(tap, kernel_dilation, strict=True)]
            piece = padded[_places(first, sizes, strides)].reshape(n, groups, channels, -1)
            y += (kernel[_last(tap)] @ piece).reshape(y.shape)
    else:
        flat = kernel.reshape(groups, -1, channels * prod(taps)).swapaxes(1, 2)
        for place in np.ndindex(*sizes):
            first = [k * s for k, s in zip(place, strides, strict=True)]
            piece = padded[_places(first, taps, kernel_dilation)].reshape(n, groups, 1, -1)
            y[_last(place)] = (piece @ flat)[:, :, 0]
    return y.reshape(result).astype(x.dtype)


def _last(index: Sequence[Any]) -> Any:
    """An index of the last axes."""
    return (Ellipsis, *index)


def _places(first: Sequence[int], counts: Sizes, steps: Sizes) -> Any:
    """For each of the last axes, `count` indices from the first one on."""
    return _last([slice(f, f + (c - 1) * s + 1, s) for f, c, s in zip(first, counts, steps, strict=True)])


def _padded(x: Array, padding: tuple[tuple[int, int], ...], dilation: Sizes) -> Array:
    """x with zeros between its elements and around them; negative padding cuts."""
    spatial = [int(_dilated(n, d)) for n, d in zip(x.shape[2:], dilation, strict=True)]  # type: ignore[arg-type]
    wide = np.zeros((*x.shape[:2], *spatial), x.dtype)
    wide[_last([slice(None, None, d) for d in dilation])] = x
    cut = [slice(max(-low, 0), max(n + min(high, 0), 0)) for n, (low, high) in zip(spatial, padding, strict=True)]
    pads = [(max(low, 0), max(high, 0)) for low, high in padding]
    return np.pad(wide[_last(cut)], [(0, 0), (0, 0), *pads])


# -- in terms of other ops --------------------------------------------------------------------------------------------


def _prepared(b: Builder, x: Any, padding: Padding, dilation: Sizes) -> Any:
    """x with zeros between its elements and around them; negative padding cuts."""
    shape = b.type(x).shape
    x, shape = spread(b, x, shape, (1, 1, *dilation))
    pairs: Padding = ((0, 0), (0, 0), *padding)
    start = tuple(-low if isinstance(low, int) and low < 0 else 0 for low, _ in pairs)
    end = tuple(-high if isinstance(high, int) and high < 0 else 0 for _, high in pairs)
    if any(n != 0 for n in (*start, *end)):
        kept = tuple(n - first - last for n, first, last in zip(shape, start, end, strict=True))
        x = b.slice(x, start=start, size=kept, step=(1,) * len(shape))
    low = tuple(before + cut for (before, _), cut in zip(pairs, start, strict=True))
    high = tuple(after + cut for (_, after), cut in zip(pairs, end, strict=True))
    return pad_with(b, x, 0.0, low, high)


@dataclass(frozen=True, slots=True)
class _Product:
    """A convolution of what is padded already: x is [N, groups (if several), C, spatial axes], w likewise [groups, O, C,
    taps]; `taken` are x's windows, with the axes that count them and those in them."""

    x: Any
    w: Any
    taken: Any
    counted: Sizes
    inside: Sizes
    lead: tuple[Dim, ...]
    outputs: Dim

    @property
    def channel(self) -> int:
        return len(self.lead)


def _expand(
    b: Builder,
    x: Any,
    w: Any,
    strides: Sizes,
    padding: Padding,
    input_dilation: Sizes,
    kernel_dilation: Sizes,
    groups: int,
) -> Any:
    attrs = (strides, padding, input_dilation, kernel_dilation)
    result = _shape(b.type(x).shape, b.type(w).shape, *attrs, groups)
    for axis, (stride, dilation) in enumerate(zip(strides, input_dilation, strict=True)):
        if dilation > 1 and stride == 1 and isinstance(result[2 + axis], int):
            return _interleaved(b, x, w, axis, attrs, groups, result)
    (n, *_), (outputs, channels, *taps) = b.type(x).shape, b.type(w).shape
    x = _prepared(b, x, padding, input_dilation)
    lead: tuple[Dim, ...] = (n,)
    if groups > 1:
        lead = (n, groups)
        x = b.reshape(x, shape=(n, groups, channels, *b.type(x).shape[2:]))
        w = b.reshape(w, shape=(groups, outputs // groups, channels, *taps))
    axes = tuple(range(len(lead) + 1, len(lead) + 1 + len(taps)))
    taken, counted, inside = windows_over(b, x, axes, tuple(taps), strides, kernel_dilation)
    product = _Product(x, w, taken, counted, inside, lead, outputs // groups)
    return _way(b, product, result)(b, product, result)


def _way(b: Builder, p: _Product, result: Shape) -> Callable[[Builder, _Product, Shape], Any]:
    """How the product's rows and columns are laid: columns must fill vectors. Decided by sizes alone; the order of
    summation is the same for all (channels, then places in the kernel)."""
    taps = _known(b.type(p.w).shape[p.channel + 1 :])
    known, elements = _known(result), product(b.type(p.taken).shape)
    if not taps or known is None or not isinstance(elements, int):
        return _rows_of_pixels
    n, _, *sizes = known
    lanes = 64 // b.type(p.w).dtype.itemsize
    width = sizes[-1]
    if width * 4 >= -(-width // lanes) * lanes * 3:
        return _rows_of_pixels
    if prod(sizes) <= SMALL_RESULT and n >= lanes and prod(taps) >= lanes:
        long = taps[-1] >= DOT_TAPS and width <= DOT_WIDTH
        return _rows_of_pixels if long else _columns_of_samples
    if isinstance(p.outputs, int) and p.outputs >= lanes and n * prod(sizes) > width and elements <= UNROLLED:
        return _unrolled
    return _rows_of_pixels


def _known(shape: Shape) -> Sizes | None:
    """A shape as integers, if all sizes are known."""
    found = tuple(d for d in shape if isinstance(d, int))
    return found if len(found) == len(shape) else None


def _rows_of_pixels(b: Builder, p: _Product, result: Shape) -> Any:
    """For each sample (and group): output channels times the pixels of one row of the result, read in place."""
    batch = tuple(range(p.channel))
    rank = len(p.inside)
    shape = b.type(p.w).shape
    kernel = b.broadcast(p.w, shape=(*p.lead, *shape[p.channel - 1 :]))
    y = b.dot(
        kernel,
        p.taken,
        lhs_batch=batch,
        rhs_batch=batch,
        lhs_contract=tuple(range(p.channel + 1, p.channel + 2 + rank)),
        rhs_contract=(p.channel, *p.inside),
    )
    return y if p.channel == 1 else b.reshape(y, shape=result)


def _columns_of_samples(b: Builder, p: _Product, result: Shape) -> Any:
    """For each pixel of a small result (and group): output channels times samples, read in place. A kernel's gradient is of
    this form."""
    rank, groups = len(p.inside), p.lead[1:]
    sizes = result[2:]
    kernel = b.broadcast(p.w, shape=(*sizes, *b.type(p.w).shape))
    y = b.dot(
        kernel,
        p.taken,
        lhs_batch=tuple(range(rank + len(groups))),
        rhs_batch=(*p.counted, *range(1, p.channel)),
        lhs_contract=tuple(range(rank + len(groups) + 1, 2 * rank + len(groups) + 2)),
        rhs_contract=(p.channel, *p.inside),
    )
    last = rank + len(groups) + 1
    y = b.transpose(y, perm=(last, *range(rank, last), *range(rank)))
    return y if not groups else b.reshape(y, shape=result)


def _unrolled(b: Builder, p: _Product, result: Shape) -> Any:
    """For narrow results: output channels times the pixels of all samples, after the windows have been copied out."""
    n, *groups = p.lead
    first = len(groups)
    outer = tuple(range(1, p.channel))
    moved = b.transpose(p.taken, perm=(*outer, p.channel, *p.inside, 0, *p.counted))
    depth = product(b.type(p.w).shape[first + 1 :])
    columns = b.reshape(moved, shape=(*groups, depth, product((n, *result[2:]))))
    kernel = b.reshape(p.w, shape=(*groups, p.outputs, depth))
    batch = tuple(range(first))
    y = b.dot(kernel, columns, lhs_batch=batch, rhs_batch=batch, lhs_contract=(first + 1,), rhs_contract=(first,))
    if n == 1:
        return b.reshape(y, shape=result)
    y = b.reshape(y, shape=(*groups, p.outputs, n, *result[2:]))
    y = b.transpose(y, perm=(first + 1, *range(first + 1), *range(first + 2, first + 2 + len(p.inside))))
    return y if not groups else b.reshape(y, shape=result)


def _interleaved(
    b: Builder,
    x: Any,
    w: Any,
    axis: int,
    attrs: tuple[Sizes, Padding, Sizes, Sizes],
    groups: int,
    result: Shape,
) -> Any:
    """A dilated axis of x without its zeros: result elements at p = q * dilation + r meet, for each r, their own part of the
    kernel, so that each is a convolution of x as it is."""
    strides, padding, input_dilation, kernel_dilation = attrs
    dilation, spacing = input_dilation[axis], kernel_dilation[axis]
    low, extent, total = padding[axis][0], b.type(x).shape[2 + axis], result[2 + axis]
    taps = b.type(w).shape[2 + axis]
    assert isinstance(low, int) and isinstance(total, int) and isinstance(taps, int)
    period = dilation // gcd(dilation, spacing)
    length = -(-total // dilation)
    phases = []
    for remainder in range(dilation):
        found = [k for k in range(min(period, taps)) if (remainder + k * spacing - low) % dilation == 0]
        if not found or not length:
            phases.append(b.full((*result[: 2 + axis], length, *result[3 + axis :]), 0.0, b.type(x).dtype))
            continue
        (first,) = found
        count = len(range(first, taps, period))
        part = _every(b, w, 2 + axis, first, count, period)
        reach = period * spacing // dilation
        before = -((remainder + first * spacing - low) // dilation)
        after = length + (count - 1) * reach - extent - before
        one = (
            strides,
            _with(padding, axis, (before, after)),
            _with(input_dilation, axis, 1),
            _with(kernel_dilation, axis, reach),
        )
        phases.append(_expand(b, x, part, *one, groups))
    return interleave(b, phases, 2 + axis, total)


def _every(b: Builder, x: Any, axis: int, first: int, count: int, step: int) -> Any:
    """Every step-th element of an axis."""
    shape = b.type(x).shape
    return b.slice(
        x,
        start=_with((0,) * len(shape), axis, first),
        size=_with(shape, axis, count),
        step=_with((1,) * len(shape), axis, step),
    )


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


# -- derivative -------------------------------------------------------------------------------------------------------


def _vjp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], **attrs: Any
) -> list[Any]:
    x, w = (conjugated(b, v) for v in operands)
    return [_input_cotangent(b, cotangents[0], x, w, **attrs), _kernel_cotangent(b, cotangents[0], x, w, **attrs)]


def _swap_in_groups(b: Builder, x: Any, groups: int) -> Any:
    """[g * a, c, ..] to [g * c, a, ..]."""
    outer, inner, *rest = b.type(x).shape
    part = outer // groups
    apart = b.reshape(x, shape=(groups, part, inner, *rest)) if groups > 1 else x
    first = 1 if groups > 1 else 0
    perm = (*range(first), first + 1, first, *range(first + 2, first + 2 + len(rest)))
    turned = b.transpose(apart, perm=perm)
    return b.reshape(turned, shape=(groups * inner, part, *rest)) if groups > 1 else turned


def _input_cotangent(
    b: Builder,
    ct: Any,
    x: Any,
    w: Any,
    strides: Sizes,
    padding: Padding,
    input_dilation: Sizes,
    kernel_dilation: Sizes,
    groups: int,
) -> Any:
    """The cotangent, dilated by the strides, convolved with the flipped kernel whose channels are exchanged."""
    extents, sizes, taps = b.type(x).shape[2:], b.type(ct).shape[2:], b.type(w).shape[2:]
    if any(isinstance(m, int) and m == 0 for m in sizes):
        return b.like(x, 0.0)
    last = tuple(k - 1 for k in taps)
    flipped = b.slice(
        w,
        start=(0, 0, *last),
        size=b.type(w).shape,
        step=(1, 1, *(-1,) * len(taps)),
    )
    pads = []
    for k, (low, _) in enumerate(padding):
        reach = last[k] * kernel_dilation[k]
        before = reach - low
        after = _dilated(extents[k], input_dilation[k]) - _dilated(sizes[k], strides[k]) + reach - before
        pads.append((before, after))
    return b.convolution(
        ct,
        _swap_in_groups(b, flipped, groups),
        strides=input_dilation,
        padding=tuple(pads),
        input_dilation=strides,
        kernel_dilation=kernel_dilation,
        groups=groups,
    )


def _kernel_cotangent(
    b: Builder,
    ct: Any,
    x: Any,
    w: Any,
    strides: Sizes,
    padding: Padding,
    input_dilation: Sizes,
    kernel_dilation: Sizes,
    groups: int,
) -> Any:
    """x convolved with the cotangent: samples are summed like channels, channels are treated like samples."""
    extents, sizes, taps = b.type(x).shape[2:], b.type(ct).shape[2:], b.type(w).shape[2:]
    n, channels = b.type(x).shape[:2]
    if any(isinstance(m, int) and m == 0 for m in (n, channels, *sizes)):
        return b.like(w, 0.0)
    turned = b.transpose(x, perm=(1, 0, *range(2, 2 + len(extents))))
    if groups > 1:
        # [g * c, n, ..] to [c, g * n, ..].
        split = b.reshape(turned, shape=(groups, channels // groups, n, *extents))
        moved = b.transpose(split, perm=(1, 0, *range(2, 3 + len(extents))))
        turned = b.reshape(moved, shape=(channels // groups, groups * n, *extents))
    pads = []
    for k, (low, _) in enumerate(padding):
        reach = _dilated(sizes[k], strides[k]) + (taps[k] - 1) * kernel_dilation[k]
        pads.append((low, reach - _dilated(extents[k], input_dilation[k]) - low))
    y = b.convolution(
        turned,
        b.transpose(ct, perm=(1, 0, *range(2, 2 + len(extents)))),
        strides=kernel_dilation,
        padding=tuple(pads),
        input_dilation=input_dilation,
        kernel_dilation=strides,
        groups=groups,
    )
    return b.transpose(y, perm=(1, 0, *range(2, 2 + len(extents))))


# -- batches ----------------------------------------------------------------------------------------------------------


def _batch(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, groups: int, **attrs: Any
) -> Batched:
    """The examples of x are more samples; those of w more output channels; those of both are more groups."""
    (x, w), size = operands, examples.size
    if not batched[1]:
        merged = b.reshape(x, shape=(size * b.type(x).shape[1], *b.type(x).shape[2:]))
        y = b.convolution(merged, w, groups=groups, **attrs)
        return [b.reshape(y, shape=(size, b.type(x).shape[1], *b.type(y).shape[1:]))], [True]
    outputs = b.type(w).shape[1]
    if all(batched):
        if not isinstance(size, int) or size == 0:
            return through(b, lambda b, x, w: _expand(b, x, w, groups=groups, **attrs), operands, batched, examples)
        x, w = moved(b, x, 0, 1), b.reshape(w, shape=(size * outputs, *b.type(w).shape[2:]))
        n, _, channels, *sizes = b.type(x).shape
        y = b.convolution(b.reshape(x, shape=(n, size * channels, *sizes)), w, groups=size * groups, **attrs)
        return [moved(b, b.reshape(y, shape=(n, size, outputs, *b.type(y).shape[2:])), 1, 0)], [True]
    apart = b.reshape(w, shape=(size, groups, outputs // groups, *b.type(w).shape[2:]))
    merged = b.reshape(moved(b, apart, 1, 0), shape=(size * outputs, *b.type(w).shape[2:]))
    y = b.convolution(x, merged, groups=groups, **attrs)
    n, _, *sizes = b.type(y).shape
    y = moved(b, b.reshape(y, shape=(n, groups, size, outputs // groups, *sizes)), 2, 0)
    return [b.reshape(y, shape=(size, n, outputs, *sizes))], [True]


convolution = register(
    Expansion(
        name="convolution",
        doc="""y[n, o, i..] = sum over c and k.. of w[o, c, k..] * x'[n, g * C + c, i * strides + k * kernel_dilation ..],
        where x' is x with input_dilation - 1 zeros between neighbours and padding zeros (low, high) around; negative
        padding cuts. Output channels are in `groups` groups, of which group g reads its own C input channels. The
        kernel is not flipped. Integers wrap. Products with padding are formed: 0 * inf is NaN. A result is empty
        where the kernel does not fit.""",
        attributes=("strides", "padding", "input_dilation", "kernel_dilation", "groups"),
        rule=_rule,
        numpy=_numpy,
        vjp=_vjp,
        linear="each",
        expand=_expand,
        batching=_batch,
    )
)
