"""The inverses of max pooling. Layer 6. Names and meanings are PyTorch's."""

from __future__ import annotations

from math import prod
from typing import Any

from graphc.errors import DTypeError, ShapeError, message
from graphc.frontend import creation, indexing, shaping
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.windowing import per_axis
from graphc.nn.spatial import pool_sizes, with_samples, without_samples

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]

Array = Any
"""A Tensor or what can become one."""


def _max_unpool(
    rank: int, input: Array, indices: Array, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    name = f"max_unpool{rank}d"
    given, places = as_tensor(input), as_tensor(indices)
    if places.dtype.kind not in "iu":
        raise DTypeError(
            message(
                f"{name}: indices must be integers",
                operands=[("indices", describe(places))],
                location=user_location(),
                hint=f"They are the second result of max_pool{rank}d(..., return_indices=True).",
            )
        )
    if places.shape != given.shape:
        raise ShapeError(
            message(
                f"{name}: input and indices must have one shape",
                operands=[("input", describe(given)), ("indices", describe(places))],
                location=user_location(),
                hint=f"They are the two results of max_pool{rank}d(..., return_indices=True).",
            )
        )
    x, batched = with_samples(name, given, rank)
    extents = _extents(name, given, pool_sizes(name, rank, kernel_size, stride, padding, 1)[:3], output_size)
    rows, elements = prod(x.shape[:2]), prod(x.shape[2:])
    flat = creation.zeros((rows, prod(extents)), dtype=x.dtype)
    values = shaping.reshape(x, (rows, elements))
    indexing.put_along_axis(flat, shaping.reshape(places, (rows, elements)), values, 1)
    return without_samples(shaping.reshape(flat, (*x.shape[:2], *extents)), batched)


def _extents(
    name: str, given: Tensor, windows: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], output_size: Any
) -> tuple[int, ...]:
    """The unpooled axes: those asked for, if they pool to the input's."""
    extents = given.shape[-len(windows[0]) :]
    usual = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(extents, *windows, strict=True))
    if output_size is None:
        return usual
    asked = tuple(output_size) if isinstance(output_size, (tuple, list)) else output_size
    if isinstance(asked, tuple) and len(asked) == given.ndim and asked[: -len(extents)] == given.shape[: -len(extents)]:
        asked = asked[-len(extents) :]
    found = per_axis(name, "output_size", asked, len(extents), least=0)
    if any(abs(n - u) >= s for n, u, s in zip(found, usual, windows[1], strict=True)):
        raise ShapeError(
            message(
                f"{name}: output_size {found} does not pool to {extents}; {usual} does",
                operands=[("input", describe(given))],
                location=user_location(),
                hint=f"Sizes may differ from that by less than the stride, which is {windows[1]}.",
            )
        )
    return found


def max_unpool1d(
    input: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of `max_pool1d` but for what it dropped: zeros, and each element at its index.

    Parameters
    ----------
    input, indices
        [N, C, L] or [C, L]: what `max_pool1d` gave with `return_indices`, or anything of its shape. Of equal indices the last
        one wins.
    kernel_size, stride, padding
        Those of the pooling.
    output_size
        The pooled axes of the result, or its whole shape; by default (L - 1) * stride - 2 * padding + kernel_size. Several
        sizes pool to one, less than a stride away from that.

    Raises
    ------
    ShapeError
        If shapes differ, or the size is none that pools to the input's.
    BoundsError
        If an index is beyond the result.

    >>> import graphc as gx
    >>> from graphc.nn import functional as F
    >>> y, where = F.max_pool1d(gx.tensor([[1.0, 3.0, 2.0, 2.0]]), 2, return_indices=True)
    >>> F.max_unpool1d(y, where, 2)
    Tensor([[0., 3., 2., 0.]], dtype=float32)
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of `max_pool2d`, over [N, C, H, W]; see `max_unpool1d`."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of `max_pool3d`, over [N, C, D, H, W]; see `max_unpool1d`."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
