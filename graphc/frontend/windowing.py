"""Convolutions and reductions over windows, for any number of axes. Layer 5.

The general forms; `graphc.nn.functional` has PyTorch's functions in terms of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import DTypeError, OptionError, ShapeError, StructureError, message
from graphc.frontend import elementwise
from graphc.frontend.promotion import as_tensor, convert, describe, op, result_dtype
from graphc.frontend.shaping import (
    broadcast_to,
    expand_dims,
    flip,
    integer,
    moveaxis,
    normalize_axes,
    normalize_axis,
    permute_dims,
    reshape,
)
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.ops.windows import window_count

__all__ = [
    "check_windows",
    "conv",
    "convolve",
    "correlate",
    "padded",
    "per_axis",
    "pooled",
    "reduce_window",
    "sliding_window_view",
    "windows_of",
    "winners",
]

Pairs = tuple[tuple[int, int], ...]

#: A position beyond all arrays; sums of it for a few axes are, too, and fit int64.
_NOWHERE = 2**58

_REDUCERS = ("max", "min", "sum", "prod", "any", "all")


def per_axis(name: str, what: str, value: Any, rank: int, *, least: int) -> tuple[int, ...]:
    """One integer for all of `rank` axes, or one for each, as a tuple of integers that are at least `least`.

    Raises
    ------
    ShapeError
        For another number of values, or a value that is too small.
    """
    given = value if isinstance(value, (tuple, list)) else (value,) * rank
    found = tuple(integer(name, what, v) for v in given)
    if len(found) == 1:
        found = found * rank
    if len(found) != rank or any(v < least for v in found):
        raise ShapeError(
            message(
                f"{name}: {what} must be an integer of {least} or more, or one for each of {rank} axes, not {value!r}",
                location=user_location(),
                hint=f"The function works on {rank} axes." if rank != 1 else "The function works on one axis.",
            )
        )
    return found


def _pairs(name: str, value: Any, rank: int) -> Pairs:
    """Padding as a pair for each axis: from n, one number for each axis, or pairs."""
    if isinstance(value, (tuple, list)) and any(isinstance(v, (tuple, list)) for v in value):
        if len(value) == rank and all(isinstance(v, (tuple, list)) and len(v) == 2 for v in value):
            low, high = ([integer(name, "padding", v[side]) for v in value] for side in (0, 1))
            return tuple(zip(low, high, strict=True))
        raise ShapeError(
            message(
                f"{name}: padding must be an integer, an integer for each of {rank} axes, or a pair for each, not {value!r}",
                location=user_location(),
                hint="A pair is the padding before and after.",
            )
        )
    given = value if isinstance(value, (tuple, list)) else (value,)
    least = min((integer(name, "padding", v) for v in given), default=0)
    return tuple((p, p) for p in per_axis(name, "padding", value, rank, least=min(least, 0)))


def _same(extents: Sequence[int], steps: Sequence[int], reaches: Sequence[int]) -> Pairs:
    """Padding that makes ceil(extent / step) results, the odd one at the end."""
    found = []
    for extent, step, reach in zip(extents, steps, reaches, strict=True):
        total = max((-(-extent // step) - 1) * step + reach - extent, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def _resolve(name: str, padding: Any, extents: Sequence[int], steps: Sequence[int], reaches: Sequence[int]) -> Pairs:
    if not isinstance(padding, str):
        return _pairs(name, padding, len(extents))
    if padding.lower() == "valid":
        return ((0, 0),) * len(extents)
    if padding.lower() == "same":
        return _same(extents, steps, reaches)
    raise StructureError(
        message(
            f"{name}: padding {padding!r} is not known",
            location=user_location(),
            hint="It is 'same', 'valid', an integer, one for each axis, or a pair for each axis.",
        )
    )


def conv(
    x: Any,
    w: Any,
    /,
    *,
    strides: Any = 1,
    padding: Any = 0,
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    groups: int = 1,
    channels_last: bool = False,
) -> Tensor:
    """Convolution (cross-correlation: the kernel is not flipped) over all axes but two.

    Parameters
    ----------
    x
        [N, C, spatial axes], or [N, spatial axes, C] with `channels_last`.
    w
        [O, C / groups, spatial axes], or [spatial axes, C / groups, O] with `channels_last`.
    strides, input_dilation, kernel_dilation
        An integer, or one for each spatial axis. `input_dilation` - 1 zeros stand between the elements of x, which makes
        a transposed convolution.
    padding
        Zeros around x: n, one number for each axis, a pair (low, high) for each (negative ones cut), "valid" for none,
        or "same" for as many as make ceil(size / stride) results.
    groups
        Channels are convolved in so many separate groups.

    Returns
    -------
    Tensor
        [N, O, spatial axes], or [N, spatial axes, O]; of the operands' common dtype.

    Raises
    ------
    ShapeError
        If ranks, channels or groups do not fit, or the kernel is larger than the padded x.
    """
    a, b = as_tensor(x), as_tensor(w)
    rank = a.ndim - 2
    if rank < 0 or b.ndim != a.ndim:
        raise ShapeError(
            message(
                "conv: x and w must have the same rank, 2 or more",
                operands=[("x", describe(a)), ("w", describe(b))],
                location=user_location(),
                hint="x is [N, C, spatial axes], w is [O, C / groups, spatial axes].",
            )
        )
    if channels_last:
        a = moveaxis(a, -1, 1)
        b = permute_dims(b, (rank + 1, rank, *range(rank)))
    y = _conv(a, b, (strides, padding, input_dilation, kernel_dilation), groups)
    return moveaxis(y, 1, -1) if channels_last else y


def _conv(a: Tensor, b: Tensor, given: tuple[Any, Any, Any, Any], groups: int, name: str = "conv") -> Tensor:
    rank = a.ndim - 2
    strides, input_dilation, kernel_dilation = (
        per_axis(name, what, value, rank, least=1)
        for what, value in zip(("strides", "input_dilation", "kernel_dilation"), (given[0], *given[2:]), strict=True)
    )
    groups = integer(name, "groups", groups)
    dtype = result_dtype(a, b)
    if dtype.kind == "b":
        raise DTypeError(
            message(
                f"{name}: takes numbers, not bools",
                operands=[("x", describe(a)), ("w", describe(b))],
                location=user_location(),
                hint="Convert them with .astype(np.int32).",
            )
        )
    if groups < 1 or b.shape[1] * groups != a.shape[1] or b.shape[0] % groups:
        raise ShapeError(
            message(
                f"{name}: the kernel's channels do not fit"
                + (f" in {groups} groups" if groups != 1 else "")
                + f": x has {a.shape[1]}, w takes {b.shape[1]} and makes {b.shape[0]}",
                operands=[("x", describe(a)), ("w", describe(b))],
                location=user_location(),
                hint="w is [O, C / groups, spatial axes]; groups must divide both C and O.",
            )
        )
    spans = [(n - 1) * d + 1 if n else 0 for n, d in zip(a.shape[2:], input_dilation, strict=True)]
    reaches = [(k - 1) * d + 1 for k, d in zip(b.shape[2:], kernel_dilation, strict=True)]
    pairs = _resolve(name, given[1], spans, strides, reaches)
    for axis, (span, reach, (low, high)) in enumerate(zip(spans, reaches, pairs, strict=True)):
        if reach < 1 or low + span + high < reach:
            raise ShapeError(
                message(
                    f"{name}: a kernel of {reach} does not fit spatial axis {axis}, which has {low + span + high} with padding",
                    operands=[("x", describe(a)), ("w", describe(b))],
                    location=user_location(),
                    hint="Pad x, or make the kernel or its dilation smaller.",
                )
            )
    return op(
        "convolution",
        convert(a, dtype),
        convert(b, dtype),
        strides=strides,
        padding=pairs,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        groups=groups,
    )


# -- windows ----------------------------------------------------------------------------------------------------------


def padded(x: Tensor, axes: Sequence[int], pairs: Pairs, fill: Any) -> Tensor:
    """x with a value around it along some axes."""
    if not any(n for pair in pairs for n in pair):
        return x
    low, high = [0] * x.ndim, [0] * x.ndim
    for axis, (before, after) in zip(axes, pairs, strict=True):
        low[axis], high[axis] = before, after
    value = as_tensor(np.asarray(fill, x.dtype))
    return op("pad", x, value, low=tuple(low), high=tuple(high))


def windows_of(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], steps: Sequence[int], dilations: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """Windows over sorted axes, each with the place in the window as a new axis after it; gives also the new axes."""
    inside = []
    for done, (axis, size, step, dilation) in enumerate(zip(axes, sizes, steps, dilations, strict=True)):
        x = op("windows", x, axis=axis + done, size=size, step=step, dilation=dilation)
        inside.append(axis + done + 1)
    return x, tuple(inside)


def _neutral(reducer: str, dtype: np.dtype[Any]) -> Any:
    """What padding is for a reduction."""
    if reducer in ("max", "min"):
        if dtype.kind == "f":
            return -np.inf if reducer == "max" else np.inf
        info = np.iinfo(dtype)
        return info.min if reducer == "max" else info.max
    return {"sum": 0, "prod": 1, "any": False, "all": True}[reducer]


def reduce_window(
    x: Any,
    reducer: str,
    window: Any,
    *,
    axes: Any = None,
    strides: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> Tensor:
    """A reduction over each window of x.

    Parameters
    ----------
    reducer
        "max", "min", "sum", "prod"; for bools "any", "all".
    window
        Sizes of the window, one for each of `axes`; or one integer.
    axes
        The axes that windows move along, sorted; the last ones by default (all for one integer).
    strides, padding, dilation
        As for `conv`; padding does not count (it is the reduction's neutral element).

    Raises
    ------
    ShapeError
        If a window is larger than the padded x.
    """
    name = "reduce_window"
    tensor = as_tensor(x)
    if reducer not in _REDUCERS:
        raise StructureError(
            message(
                f"{name}: there is no reducer {reducer!r}",
                location=user_location(),
                hint=f"Reducers are {', '.join(map(repr, _REDUCERS))}.",
            )
        )
    if (tensor.dtype.kind == "b") != (reducer in ("any", "all")):
        raise DTypeError(
            message(
                f"{name}: {reducer!r} takes {'bools' if reducer in ('any', 'all') else 'numbers'}",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Compare first (x > 0), or convert with .astype.",
            )
        )
    if axes is None:
        count = len(window) if isinstance(window, (tuple, list)) else tensor.ndim
        axes = tuple(range(-min(count, tensor.ndim), 0))
    numbers = normalize_axes(name, axes, tensor.ndim, tensor)
    rank = len(numbers)
    sizes = per_axis(name, "window", window, rank, least=1)
    steps = per_axis(name, "strides", strides, rank, least=1)
    dilations = per_axis(name, "dilation", dilation, rank, least=1)
    if not numbers:
        return tensor
    extents = [tensor.shape[a] for a in numbers]
    reaches = [(k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True)]
    pairs = _resolve(name, padding, extents, steps, reaches)
    return pooled(name, tensor, reducer, numbers, (sizes, steps, dilations), pairs)


def pooled(
    name: str,
    x: Tensor,
    reducer: str,
    axes: tuple[int, ...],
    windows: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    pairs: Pairs,
) -> Tensor:
    """`reduce_window` of checked arguments, on behalf of the function `name`; windows are (sizes, steps, dilations)."""
    sizes, steps, dilations = windows
    wide = padded(x, axes, pairs, _neutral(reducer, x.dtype))
    check_windows(name, wide, axes, sizes, dilations)
    if reducer in ("max", "min", "sum"):
        return op(f"window_{reducer}", wide, axes=axes, sizes=sizes, steps=steps, dilations=dilations)
    taken, inside = windows_of(wide, axes, sizes, steps, dilations)
    return op(reducer, taken, axes=inside)


def winners(
    name: str,
    x: Tensor,
    axes: tuple[int, ...],
    windows: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    pairs: Pairs,
) -> Tensor:
    """Where the greatest element of each window is, the first of equal ones and the first NaN: row-major positions, as int64,
    over `axes` of x without its padding. Arguments as for `pooled`.

    It is the least position of those whose element is the greatest, so that one reduction follows the other.

    Raises
    ------
    ShapeError
        If a window is larger than the padded x, or lies in the padding alone.
    """
    sizes, steps, dilations = windows
    wide = padded(x, axes, pairs, _neutral("max", x.dtype))
    check_windows(name, wide, axes, sizes, dilations)
    taken, inside = windows_of(wide, axes, sizes, steps, dilations)
    best = expand_dims(op("max", taken, axes=inside), axis=inside)
    wins = elementwise.equal(taken, best)
    if x.dtype.kind == "f":
        wins = elementwise.logical_or(wins, elementwise.not_equal(taken, taken))
    position: Any = np.int64(0)
    stride = 1
    for k in reversed(range(len(axes))):
        extent = x.shape[axes[k]]
        tap = np.arange(sizes[k]) * dilations[k] - pairs[k][0]
        places = np.arange(taken.shape[inside[k] - 1])[:, None] * steps[k] + tap
        real = (places >= 0) & (places < extent)
        if not real.any(axis=1).all():
            raise ShapeError(
                message(
                    f"{name}: a window along axis {axes[k]} lies in the padding alone, so nothing in it has an index",
                    operands=[("x", describe(x))],
                    location=user_location(),
                    hint="Make the padding or the dilation smaller.",
                )
            )
        term = np.where(real, places * stride, _NOWHERE)
        position = elementwise.add(position, term.reshape(*term.shape, *(1,) * (taken.ndim - inside[k] - 1)))
        stride *= extent
    return op("min", broadcast_to(elementwise.where(wins, position, 2 * _NOWHERE), taken.shape), axes=inside)


def check_windows(name: str, x: Tensor, axes: Sequence[int], sizes: Sequence[int], dilations: Sequence[int]) -> None:
    """Raise ShapeError where an axis (with its padding) is shorter than a window."""
    for axis, size, dilation in zip(axes, sizes, dilations, strict=True):
        if not window_count(x.shape[axis], size, 1, dilation):
            raise ShapeError(
                message(
                    f"{name}: a window of {(size - 1) * dilation + 1} does not fit axis {axis} of size {x.shape[axis]}",
                    operands=[("x with padding", describe(x))],
                    location=user_location(),
                    hint="Pad x, or make the window or its dilation smaller.",
                )
            )


def sliding_window_view(x: Any, window_shape: Any, axis: Any = None) -> Tensor:
    """All windows of x: the windows' own axes come last, as `numpy.lib.stride_tricks.sliding_window_view`.

    The result is a value of its own, not a view.
    """
    name = "sliding_window_view"
    tensor = as_tensor(x)
    sizes = window_shape if isinstance(window_shape, (tuple, list)) else (window_shape,)
    sizes = per_axis(name, "window_shape", tuple(sizes), len(sizes), least=0)
    given = range(tensor.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = [normalize_axis(name, a, tensor.ndim, tensor) for a in given]
    if len(axes) != len(sizes):
        raise ShapeError(
            message(
                f"{name}: {len(sizes)} window sizes for {len(axes)} axes",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="Give one size for each axis, and the axes with axis=.",
            )
        )
    check_windows(name, tensor, axes, sizes, (1,) * len(axes))
    for number, size in zip(axes, sizes, strict=True):
        tensor = op("windows", tensor, axis=number, size=size, step=1, dilation=1)
        tensor = moveaxis(tensor, number + 1, -1)
    return tensor


# -- NumPy's one-dimensional functions ----------------------------------------------------------------------------------


def convolve(a: Any, v: Any, mode: str = "full") -> Tensor:
    """The discrete convolution of two one-dimensional arrays, as `numpy.convolve`."""
    x, y = _sequences("convolve", a, v)
    if y.size > x.size:
        x, y = y, x
    return _slide("convolve", x, flip(y), mode)


def correlate(a: Any, v: Any, mode: str = "valid") -> Tensor:
    """The cross-correlation of two one-dimensional arrays, as `numpy.correlate`."""
    x, y = _sequences("correlate", a, v)
    if y.size > x.size:
        return flip(_slide("correlate", y, x, mode))
    return _slide("correlate", x, y, mode)


def _sequences(name: str, a: Any, v: Any) -> tuple[Tensor, Tensor]:
    x, y = as_tensor(a), as_tensor(v)
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise ShapeError(
            message(
                f"{name}: takes two one-dimensional arrays that are not empty",
                operands=[("a", describe(x)), ("v", describe(y))],
                location=user_location(),
                hint="For more axes use gx.conv.",
            )
        )
    return x, y


def _slide(name: str, x: Tensor, y: Tensor, mode: str) -> Tensor:
    """Sums of products of y with each piece of x; `y` is the shorter one."""
    n = y.shape[0]
    pairs = {"valid": (0, 0), "same": (n // 2, n - 1 - n // 2), "full": (n - 1, n - 1)}
    if mode not in pairs:
        raise OptionError(
            message(
                f"{name}: mode {mode!r} is not known",
                location=user_location(),
                hint="Modes are 'full', 'same' and 'valid'.",
            )
        )
    wide = reshape(x, (1, 1, x.size)), reshape(y, (1, 1, n))
    return reshape(_conv(*wide, (1, (pairs[mode],), 1, 1), 1, name), (-1,))
