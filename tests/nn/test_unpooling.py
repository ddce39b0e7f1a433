"""Indices of max pooling and unpooling against loops in plain NumPy, in both modes; gradients through both."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import BoundsError, DTypeError, ShapeError
from graphc.nn import functional as F
from graphc.nn import unpooling

RNG = np.random.default_rng(23)
Array = np.ndarray[Any, Any]
MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])


def pool_by_loops(x: Array, sizes: Any, steps: Any, pads: Any, dilations: Any, up: bool) -> tuple[Array, Array]:
    """Values and indices, one element of one window after the other."""
    rank, extents = len(sizes), x.shape[2:]
    counts = []
    for n, k, s, p, d in zip(extents, sizes, steps, pads, dilations, strict=True):
        whole = n + 2 * p - d * (k - 1) - 1
        count = (-(-whole // s) if up else whole // s) + 1
        counts.append(count - 1 if up and (count - 1) * s >= n + p else count)
    values = np.zeros((*x.shape[:2], *counts), x.dtype)
    indices = np.zeros(values.shape, np.int64)
    for index in np.ndindex(*values.shape):
        found = None
        for tap in np.ndindex(*sizes):
            at = [i * s + t * d - p for i, t, s, p, d in zip(index[2:], tap, steps, pads, dilations, strict=True)]
            if any(not 0 <= at[a] < extents[a] for a in range(rank)):
                continue
            value = x[(*index[:2], *at)]
            if found is None or value > found or (np.isnan(value) and not np.isnan(found)):
                found, values[index] = value, value
                indices[index] = np.ravel_multi_index(at, extents)
    return values, indices


def unpool_by_loops(values: Array, indices: Array, extents: Any) -> Array:
    y = np.zeros((*values.shape[:2], *extents), values.dtype)
    for n, c in np.ndindex(*values.shape[:2]):
        for value, index in zip(values[n, c].flat, indices[n, c].flat, strict=True):
            y[n, c].flat[index] = value
    return y


def samples(dtype: Any, shape: Any) -> Array:
    """Few different numbers, so that many are equal; some NaN, and the least of all, which is what padding is."""
    x = RNG.integers(-2, 3, shape).astype(dtype)
    least: Any = np.iinfo(dtype).min if np.issubdtype(dtype, np.integer) else -np.inf
    x[RNG.random(shape) < 0.4] = least
    if np.issubdtype(dtype, np.floating):
        x[RNG.random(shape) < 0.05] = np.nan
    return x


#: Shapes, kernel sizes, strides, padding, dilation.
WINDOWS: list[tuple[Any, Any, Any, Any, Any]] = [
    ((2, 3, 11), (3,), (2,), (1,), (1,)),
    ((1, 2, 12), (3,), (1,), (1,), (3,)),
    ((0, 2, 6), (2,), (2,), (0,), (1,)),
    ((2, 2, 7, 8), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((2, 3, 7, 9), (3, 4), (2, 3), (1, 2), (2, 1)),
    ((1, 2, 5, 4, 6), (2, 3, 2), (2, 1, 3), (1, 0, 1), (1, 1, 2)),
]


@MODES
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
def test_indices(mode: Any, dtype: Any) -> None:
    for (shape, *windows), up in itertools.product(WINDOWS, (False, True)):
        x, rank = samples(dtype, shape), len(shape) - 2
        names = ("kernel_size", "stride", "padding", "dilation")
        options = {**dict(zip(names, windows, strict=True)), "ceil_mode": up, "return_indices": True}
        values, indices = mode(lambda x, r=rank, o=options: getattr(F, f"max_pool{r}d")(x, **o))(x)
        wanted = pool_by_loops(x, *windows, up)
        assert np.asarray(values).dtype == dtype and np.asarray(indices).dtype == np.int64
        np.testing.assert_array_equal(values, wanted[0])
        np.testing.assert_array_equal(indices, wanted[1], err_msg=f"{shape} {options}")
        layer = getattr(gx.nn, f"MaxPool{rank}d")(**options)
        np.testing.assert_array_equal(layer(x)[1], wanted[1])


@MODES
@pytest.mark.parametrize("name", unpooling.__all__)
def test_unpooling(mode: Any, name: str) -> None:
    rank = int(name[-2])
    shape, sizes, steps, pads = (2, 3, 8, 9, 6)[: rank + 2], (3, 2, 4)[:rank], (2, 3, 4)[:rank], (1, 0, 2)[:rank]
    x = RNG.permutation(np.prod(shape)).reshape(shape).astype(np.float64)
    values, indices = pool_by_loops(x, sizes, steps, pads, (1,) * rank, False)
    usual = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(values.shape[2:], sizes, steps, pads, strict=True))
    larger = tuple(max(u, n) for u, n in zip(usual, shape[2:], strict=True))
    for extents in (larger, (*shape[:2], *larger)):
        unpool = mode(lambda v, i, e=extents: getattr(F, name)(v, i, sizes, steps, pads, e))
        np.testing.assert_array_equal(unpool(values, indices), unpool_by_loops(values, indices, larger))
    given = indices % np.prod(usual)  # some repeated
    plain = mode(lambda v, i: getattr(F, name)(v, i, sizes, steps, pads))
    np.testing.assert_array_equal(plain(values, given), unpool_by_loops(values, given, usual))
    np.testing.assert_array_equal(plain(values[0], given[0]), unpool_by_loops(values, given, usual)[0])
    layer = getattr(gx.nn, f"MaxUnpool{rank}d")(sizes, steps, pads)
    np.testing.assert_array_equal(layer(values, given), unpool_by_loops(values, given, usual))
    assert "kernel_size" in repr(layer)


@MODES
def test_gradients_pass_through_both(mode: Any) -> None:
    """Pooled and unpooled: the gradient of what is kept comes back to where it was, that of the rest is 0."""
    x = RNG.permutation(2 * 6 * 8).reshape(1, 2, 6, 8).astype(np.float64)
    weights = RNG.standard_normal(x.shape)

    def loss(x: Any) -> Any:
        y = F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)
        return (y * y * weights).sum()

    t = gx.tensor(x, requires_grad=True)
    mode(loss)(t).backward()
    kept = np.kron(x.reshape(1, 2, 3, 2, 4, 2).max((3, 5)), np.ones((2, 2))) == x
    np.testing.assert_allclose(t.grad.numpy(), np.where(kept, 2 * x * weights, 0), 1e-12)


def test_what_does_not_fit() -> None:
    y, where = F.max_pool1d(gx.tensor(np.arange(8.0).reshape(1, 1, 8)), 2, return_indices=True)
    with pytest.raises(BoundsError, match="axis 1 with size 8"):
        F.max_unpool1d(y, where + 8, 2)
    with pytest.raises(ShapeError, match="one shape"):
        F.max_unpool1d(y, where[:, :, :2], 2)
    with pytest.raises(DTypeError, match="integers"):
        F.max_unpool1d(y, y, 2)
    for size in (6, 10, (9, 9)):
        with pytest.raises(ShapeError, match="output_size"):
            F.max_unpool1d(y, where, 2, output_size=size)
    with pytest.raises(ShapeError, match="padding alone"):
        F.max_pool1d(np.ones((1, 1, 1)), 2, padding=1, dilation=2, return_indices=True)
