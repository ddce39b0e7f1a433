"""Convolution, pooling and unfolding over the last one, two or three axes. Layer 6. Names and meanings are PyTorch's.

Inputs are [N, C, spatial axes] or [C, spatial axes].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphc.errors import ShapeError, UnsupportedError, message
from graphc.frontend import elementwise, products, reducing, shaping, windowing
from graphc.frontend.autograd import TensorBuilder
from graphc.frontend.promotion import as_tensor, describe, op
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.windowing import per_axis
from graphc.ops.windows import overlap_add, window_count

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "unfold",
]

Array = Any
"""A Tensor or what can become one."""

Sizes = tuple[int, ...]


def with_samples(name: str, input: Array, rank: int) -> tuple[Tensor, bool]:
    """The input with an axis of samples, and whether it had one."""
    x = as_tensor(input)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            message(
                f"{name}: the input must have rank {rank + 2}, or {rank + 1} for a single sample",
                operands=[("input", describe(x))],
                location=user_location(),
                hint=f"It is [N, C, {', '.join('DHW'[3 - rank :])}]; insert an axis of channels with x[:, None].",
            )
        )
    single = x.ndim == rank + 1
    return (shaping.expand_dims(x, axis=0) if single else x), not single


def without_samples(y: Tensor, batched: bool) -> Tensor:
    return y if batched else shaping.squeeze(y, axis=0)


def _with_bias(y: Tensor, bias: Array | None, name: str) -> Tensor:
    if bias is None:
        return y
    b = as_tensor(bias)
    if b.shape != (y.shape[1],):
        raise ShapeError(
            message(
                f"{name}: the bias must have one element for each of {y.shape[1]} output channels",
                operands=[("bias", describe(b))],
                location=user_location(),
                hint="A bias of another shape can be added to the result.",
            )
        )
    return elementwise.add(y, shaping.reshape(b, (1, y.shape[1], *(1,) * (y.ndim - 2))))


def _weights(name: str, weight: Array, rank: int) -> Tensor:
    w = as_tensor(weight)
    if w.ndim != rank + 2:
        raise ShapeError(
            message(
                f"{name}: the weight must have rank {rank + 2}",
                operands=[("weight", describe(w))],
                location=user_location(),
                hint="It is [out, in / groups, spatial axes]; [in, out / groups, spatial axes] for a transposed convolution.",
            )
        )
    return w


# -- convolution --------------------------------------------------------------------------------------------------------


def _conv(
    rank: int,
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    name = f"conv{rank}d"
    x, batched = with_samples(name, input, rank)
    w = _weights(name, weight, rank)
    steps = per_axis(name, "stride", stride, rank, least=1)
    if isinstance(padding, str):
        if padding == "same" and any(s != 1 for s in steps):
            raise UnsupportedError(
                message(
                    f"{name}: padding 'same' needs a stride of 1",
                    location=user_location(),
                    hint="Give the padding as numbers.",
                )
            )
    else:
        padding = per_axis(name, "padding", padding, rank, least=0)
    y = windowing.conv(x, w, strides=steps, padding=padding, kernel_dilation=dilation, groups=groups)
    return without_samples(_with_bias(y, bias, name), batched)


def conv1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """[N, C, L] with a kernel [O, C / groups, K] to [N, O, L']; the kernel is not flipped.

    Parameters
    ----------
    stride, dilation
        An integer, or one for each axis.
    padding
        Zeros at both ends: an integer, one for each axis, "valid" (none) or "same" (L' = L, for stride 1).
    groups
        Channels are convolved in so many separate groups.

    Raises
    ------
    ShapeError
        If ranks, channels or groups do not fit, or the kernel is larger than the padded input.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """[N, C, H, W] with a kernel [O, C / groups, KH, KW] to [N, O, H', W']; see `conv1d`."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """[N, C, D, H, W] with a kernel [O, C / groups, KD, KH, KW] to [N, O, D', H', W']; see `conv1d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    rank: int,
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    name = f"conv_transpose{rank}d"
    x, batched = with_samples(name, input, rank)
    w = _weights(name, weight, rank)
    steps = per_axis(name, "stride", stride, rank, least=1)
    dilations = per_axis(name, "dilation", dilation, rank, least=1)
    pads = per_axis(name, "padding", padding, rank, least=0)
    extra = per_axis(name, "output_padding", output_padding, rank, least=0)
    groups = shaping.integer(name, "groups", groups)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, dilations, strict=True)):
        raise ShapeError(
            message(
                f"{name}: output_padding {extra} must be less than the stride {steps} or the dilation {dilations}",
                location=user_location(),
                hint="It only chooses among the sizes that a convolution maps to one; for more, pad the result.",
            )
        )
    if groups < 1 or w.shape[0] != x.shape[1] or w.shape[0] % groups:
        raise ShapeError(
            message(
                f"{name}: the input has {x.shape[1]} channels, the weight takes {w.shape[0]} in {groups} groups",
                operands=[("input", describe(x)), ("weight", describe(w))],
                location=user_location(),
                hint="The weight is [in, out / groups, spatial axes].",
            )
        )
    inner, outer, *taps = w.shape
    apart = shaping.reshape(w, (groups, inner // groups, outer, *taps))
    turned = shaping.reshape(shaping.swapaxes(apart, 1, 2), (groups * outer, inner // groups, *taps))
    flipped = shaping.flip(turned, axis=tuple(range(2, rank + 2)))
    pairs = []
    for k, d, p, e in zip(taps, dilations, pads, extra, strict=True):
        reach = (k - 1) * d
        pairs.append((reach - p, reach - p + e))
    y = windowing.conv(x, flipped, padding=tuple(pairs), input_dilation=steps, kernel_dilation=dilations, groups=groups)
    return without_samples(_with_bias(y, bias, name), batched)


def conv_transpose1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv1d` (the gradient by its input): [N, I, L] with a kernel [I, O / groups, K] to
    [N, O, (L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1]."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv2d`: kernel [I, O / groups, KH, KW]; sizes as in `conv_transpose1d`."""
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv3d`: kernel [I, O / groups, KD, KH, KW]; sizes as in `conv_transpose1d`."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# -- pooling ------------------------------------------------------------------------------------------------------------


def pool_sizes(
    name: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    sizes = per_axis(name, "kernel_size", kernel_size, rank, least=1)
    steps = sizes if stride is None else per_axis(name, "stride", stride, rank, least=1)
    pads = per_axis(name, "padding", padding, rank, least=0)
    if any(2 * p > k for p, k in zip(pads, sizes, strict=True)):
        raise ShapeError(
            message(
                f"{name}: padding {pads} may be at most half of the kernel size {sizes}",
                location=user_location(),
                hint="Windows that lie in the padding alone have no value.",
            )
        )
    return sizes, steps, pads, per_axis(name, "dilation", dilation, rank, least=1)


def _pool_pairs(
    extents: Sequence[int], sizes: Sizes, steps: Sizes, pads: Sizes, dilations: Sizes, ceil_mode: bool
) -> tuple[tuple[int, int], ...]:
    """Padding at both ends. With `ceil_mode` there is a last window that reaches beyond the padding, if it begins inside."""
    pairs = []
    for extent, size, step, pad, dilation in zip(extents, sizes, steps, pads, dilations, strict=True):
        reach = (size - 1) * dilation + 1
        high = pad
        if ceil_mode:
            count = -(-(extent + 2 * pad - reach) // step) + 1
            if (count - 1) * step >= extent + pad:
                count -= 1
            high = max(pad, (count - 1) * step + reach - extent - pad)
        pairs.append((pad, high))
    return tuple(pairs)


def _max_pool(
    rank: int,
    input: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    name = f"max_pool{rank}d"
    x, batched = with_samples(name, input, rank)
    sizes, steps, pads, dilations = pool_sizes(name, rank, kernel_size, stride, padding, dilation)
    pairs = _pool_pairs(x.shape[2:], sizes, steps, pads, dilations, ceil_mode)
    axes, windows = tuple(range(2, rank + 2)), (sizes, steps, dilations)
    values = without_samples(windowing.pooled(name, x, "max", axes, windows, pairs), batched)
    if not return_indices:
        return values
    return values, without_samples(windowing.winners(name, x, axes, windows, pairs), batched)


def max_pool1d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The greatest element of each window of [N, C, L]; NaN if one is NaN.

    Parameters
    ----------
    kernel_size, stride, dilation
        An integer, or one for each axis; the stride is the kernel size if not given.
    padding
        At both ends, of elements that are never the greatest; at most half of the kernel size.
    ceil_mode
        Round the number of windows up.
    return_indices
        Give a pair: the greatest elements, and their row-major positions in the axes that are pooled, as int64 (of equal
        ones the first, as of NaNs), which `max_unpool1d` takes.

    The gradient goes to the first greatest element of a window.

    >>> import graphc as gx
    >>> from graphc.nn import functional as F
    >>> F.max_pool1d(gx.tensor([[1.0, 3.0, 2.0, 2.0]]), 2, return_indices=True)[1]
    Tensor([[1, 2]], dtype=int64)
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The greatest element of each window of [N, C, H, W]; see `max_pool1d`."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The greatest element of each window of [N, C, D, H, W]; see `max_pool1d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(
    rank: int,
    input: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Tensor:
    name = f"avg_pool{rank}d"
    x, batched = with_samples(name, input, rank)
    sizes, steps, pads, ones = pool_sizes(name, rank, kernel_size, stride, padding, 1)
    pairs = _pool_pairs(x.shape[2:], sizes, steps, pads, ones, ceil_mode)
    axes = tuple(range(2, rank + 2))
    total = windowing.pooled(name, x, "sum", axes, (sizes, steps, ones), pairs)
    if divisor_override is not None:
        return without_samples(elementwise.divide(total, divisor_override), batched)
    divisor = np.ones(())
    for extent, size, step, (low, high), pad in zip(x.shape[2:], sizes, steps, pairs, pads, strict=True):
        counts = np.ones(low + extent + high)
        counts[low + extent + (pad if count_include_pad else 0) :] = 0
        counts[: 0 if count_include_pad else low] = 0
        divisor = np.multiply.outer(divisor, sliding_window_view(counts, size)[::step].sum(axis=1))
    if (divisor == divisor.max(initial=0)).all():
        divisor = divisor.max(initial=0)
    exact = np.asarray(divisor, total.dtype if total.dtype.kind == "f" else np.float64)
    return without_samples(elementwise.divide(total, exact), batched)


def avg_pool1d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of [N, C, L]; zeros of the padding count unless `count_include_pad` is False. See
    `max_pool1d`."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of [N, C, H, W] (its sum over `divisor_override`, if given); see `avg_pool1d`."""
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of [N, C, D, H, W] (its sum over `divisor_override`, if given); see `avg_pool1d`."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# -- pooling to a given size --------------------------------------------------------------------------------------------


def _adaptive(
    name: str, rank: int, input: Array, output_size: Any, reduce: Callable[[Tensor, int, int], Tensor]
) -> Tensor:
    """Axis after axis, the last one first; `reduce(x, axis, size)`."""
    x, batched = with_samples(name, input, rank)
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    if len(given) == rank:
        given = tuple(n if s is None else s for s, n in zip(given, x.shape[2:], strict=True))
    sizes = per_axis(name, "output_size", given, rank, least=1)
    for axis in reversed(range(2, rank + 2)):
        if not x.shape[axis]:
            raise ShapeError(
                message(
                    f"{name}: axis {axis} is empty",
                    operands=[("input", describe(x))],
                    location=user_location(),
                    hint="There is nothing to take a mean or a maximum of.",
                )
            )
        x = reduce(x, axis, sizes[axis - 2])
    return without_samples(x, batched)


def _bounds(extent: int, size: int) -> list[tuple[int, int]]:
    """Where pieces begin and end: floor(i * extent / size) to ceil((i + 1) * extent / size)."""
    return [(i * extent // size, -(-(i + 1) * extent // size)) for i in range(size)]


def _mean_of_pieces(x: Tensor, axis: int, size: int) -> Tensor:
    extent = x.shape[axis]
    if extent % size == 0:
        shape = (*x.shape[:axis], size, extent // size, *x.shape[axis + 1 :])
        return x if extent == size else reducing.mean(shaping.reshape(x, shape), axis=axis + 1)
    weights = np.zeros((size, extent), x.dtype if x.dtype.kind == "f" else np.float64)
    for i, (first, last) in enumerate(_bounds(extent, size)):
        weights[i, first:last] = 1 / (last - first)
    return weighted(x, axis, weights)


def weighted(x: Tensor, axis: int, weights: np.ndarray[Any, Any]) -> Tensor:
    """y[.., i, ..] = sum over k of weights[i, k] * x[.., k, ..]."""
    moved = shaping.moveaxis(x, axis, -1)
    return shaping.moveaxis(products.matmul(moved, weights.T), -1, axis)


def _max_of_pieces(x: Tensor, axis: int, size: int) -> Tensor:
    extent = x.shape[axis]
    if extent == size:
        return x
    if extent % size == 0:
        step = extent // size
        return windowing.reduce_window(x, "max", (step,), axes=(axis,), strides=step)
    pieces = []
    for first, last in _bounds(extent, size):
        start = tuple(first if a == axis else 0 for a in range(x.ndim))
        shape = (*x.shape[:axis], last - first, *x.shape[axis + 1 :])
        piece = op("slice", x, start=start, size=shape, step=(1,) * x.ndim)
        pieces.append(windowing.reduce_window(piece, "max", (last - first,), axes=(axis,)))
    return shaping.concat(pieces, axis=axis)


def adaptive_avg_pool1d(input: Array, output_size: Any) -> Tensor:
    """Means of `output_size` pieces of [N, C, L]: piece i is from floor(i * L / size) to ceil((i + 1) * L / size). A size
    of None keeps the axis."""
    return _adaptive("adaptive_avg_pool1d", 1, input, output_size, _mean_of_pieces)


def adaptive_avg_pool2d(input: Array, output_size: Any) -> Tensor:
    """Means of pieces of [N, C, H, W]; see `adaptive_avg_pool1d`."""
    return _adaptive("adaptive_avg_pool2d", 2, input, output_size, _mean_of_pieces)


def adaptive_avg_pool3d(input: Array, output_size: Any) -> Tensor:
    """Means of pieces of [N, C, D, H, W]; see `adaptive_avg_pool1d`."""
    return _adaptive("adaptive_avg_pool3d", 3, input, output_size, _mean_of_pieces)


def adaptive_max_pool1d(input: Array, output_size: Any) -> Tensor:
    """The greatest elements of pieces of [N, C, L]; see `adaptive_avg_pool1d`."""
    return _adaptive("adaptive_max_pool1d", 1, input, output_size, _max_of_pieces)


def adaptive_max_pool2d(input: Array, output_size: Any) -> Tensor:
    """The greatest elements of pieces of [N, C, H, W]; see `adaptive_avg_pool1d`."""
    return _adaptive("adaptive_max_pool2d", 2, input, output_size, _max_of_pieces)


def adaptive_max_pool3d(input: Array, output_size: Any) -> Tensor:
    """The greatest elements of pieces of [N, C, D, H, W]; see `adaptive_avg_pool1d`."""
    return _adaptive("adaptive_max_pool3d", 3, input, output_size, _max_of_pieces)


# -- unfolding ----------------------------------------------------------------------------------------------------------


def unfold(input: Array, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of [N, C, H, W] as columns: [N, C * KH * KW, number of windows] (im2col)."""
    x, batched = with_samples("unfold", input, 2)
    sizes, dilations, pads, steps = _fold_sizes("unfold", kernel_size, dilation, padding, stride)
    wide = windowing.padded(x, (2, 3), tuple((p, p) for p in pads), 0)
    windowing.check_windows("unfold", wide, (2, 3), sizes, dilations)
    taken, _ = windowing.windows_of(wide, (2, 3), sizes, steps, dilations)
    n, c, rows, kh, columns, kw = taken.shape
    return without_samples(
        shaping.reshape(shaping.permute_dims(taken, (0, 1, 3, 5, 2, 4)), (n, c * kh * kw, rows * columns)), batched
    )


def fold(
    input: Array, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The adjoint of `unfold`: columns [N, C * KH * KW, number of windows] added where the windows of [N, C, H, W] were."""
    x, batched = with_samples("fold", input, 1)
    sizes, dilations, pads, steps = _fold_sizes("fold", kernel_size, dilation, padding, stride)
    extents = per_axis("fold", "output_size", output_size, 2, least=1)
    wide = [e + 2 * p for e, p in zip(extents, pads, strict=True)]
    counts = [int(window_count(e, k, s, d)) for e, k, s, d in zip(wide, sizes, steps, dilations, strict=True)]  # type: ignore[arg-type]
    if x.shape[1] % (sizes[0] * sizes[1]) or x.shape[2] != counts[0] * counts[1]:
        raise ShapeError(
            message(
                f"fold: {counts[0]} x {counts[1]} windows of {sizes[0]} x {sizes[1]} elements do not fit the input",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="It is [N, C * KH * KW, number of windows].",
            )
        )
    n, channels = x.shape[0], x.shape[1] // (sizes[0] * sizes[1])
    taken = shaping.permute_dims(shaping.reshape(x, (n, channels, *sizes, *counts)), (0, 1, 4, 2, 5, 3))
    b = TensorBuilder()
    for axis in (1, 0):
        taken = overlap_add(b, taken, 2 + 2 * axis, steps[axis], dilations[axis], wide[axis])
    start = (0, 0, *pads)
    return without_samples(op("slice", taken, start=start, size=(n, channels, *extents), step=(1,) * 4), batched)


def _fold_sizes(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Sizes, ...]:
    given = (("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1))
    return tuple(per_axis(name, what, value, 2, least=least) for what, value, least in given)
