"""Convolution, pooling, unfolding and resampling against loops in plain NumPy and SciPy, dynamically and compiled; gradients
against finite differences. The functions are enumerated, so that none can be added without a case."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, signal

import graphc as gx
import graphc.optim
from graphc.nn import functional as F
from graphc.nn import resize, spatial, spatial_layers

RNG = np.random.default_rng(17)
Array = np.ndarray[Any, Any]
Pairs = Sequence[tuple[int, int]]


def R(*shape: int) -> Array:
    return RNG.standard_normal(shape)


@dataclass(frozen=True)
class Case:
    """A call of a function of `nn.functional`, and what it should give."""

    name: str
    operands: tuple[Array, ...]
    expected: Array
    options: dict[str, Any] = field(default_factory=dict)

    def call(self, *operands: Any) -> Any:
        return getattr(F, self.name)(*operands, **self.options)

    def __str__(self) -> str:
        return f"{self.name} {[x.shape for x in self.operands]} {self.options}"


def check(cases: Sequence[Case], tolerance: float = 1e-10) -> None:
    """Values in both modes; along a random direction, gradients in both modes against central differences. All cases are one
    compiled function."""
    cut = list(itertools.accumulate((len(c.operands) for c in cases), initial=0))
    flat = [x for c in cases for x in c.operands]

    def together(*xs: Any) -> list[Any]:
        return [c.call(*xs[low:high]) for c, low, high in zip(cases, cut, cut[1:], strict=False)]

    cotangents = [R(*c.expected.shape) for c in cases]
    slopes, directions = [], []
    for case, ct in zip(cases, cotangents, strict=True):
        for k, x in enumerate(case.operands):
            d = R(*x.shape)
            moved = [[*case.operands[:k], x + h * d, *case.operands[k + 1 :]] for h in (1e-6, -1e-6)]
            up, down = (float((case.call(*map(gx.tensor, m)).numpy() * ct).sum()) for m in moved)
            directions.append(d)
            slopes.append((up - down) / 2e-6)
    for mode in (lambda f: f, gx.compile):
        tensors = [gx.tensor(x, requires_grad=True) for x in flat]
        total = None
        for case, y, ct in zip(cases, mode(together)(*tensors), cotangents, strict=True):
            assert y.shape == case.expected.shape, str(case)
            np.testing.assert_allclose(y.numpy(), case.expected, tolerance, tolerance, err_msg=str(case))
            part = (y * gx.tensor(ct)).sum()
            total = part if total is None else total + part
        total.backward()
        owners = (c for c in cases for _ in c.operands)
        for case, tensor, d, slope in zip(owners, tensors, directions, slopes, strict=True):
            found = float((tensor.grad.numpy() * d).sum())
            assert math.isclose(found, slope, rel_tol=1e-6, abs_tol=1e-6), str(case)


# -- convolution --------------------------------------------------------------------------------------------------------


def conv_by_loops(x: Array, w: Array, strides: Any, pads: Pairs, dilations: Any, groups: int = 1) -> Array:
    """The definition, one product after the other."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    reaches = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reaches, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    per_group = w.shape[0] // groups
    for n, o, *place in np.ndindex(*y.shape):
        first = o // per_group * w.shape[1]
        for c, *tap in np.ndindex(*w.shape[1:]):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
            y[(n, o, *place)] += w[(o, c, *tap)] * x[(n, first + c, *at)]
    return y


def transposed_by_loops(
    x: Array, w: Array, strides: Any, pads: Any, extra: Any, dilations: Any, groups: int = 1
) -> Array:
    """Every input element adds the kernel to the result."""
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], strides, w.shape[2:], dilations, extra, strict=True)
    ]
    outputs, per_group = w.shape[1], x.shape[1] // groups
    y = np.zeros((x.shape[0], outputs * groups, *full))
    for n, c, *place in np.ndindex(*x.shape):
        for o, *tap in np.ndindex(*w.shape[1:]):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
            y[(n, c // per_group * outputs + o, *at)] += x[(n, c, *place)] * w[(c, o, *tap)]
    return y[(..., *(slice(p, m - p) for p, m in zip(pads, full, strict=True)))]


def convolutions() -> Iterator[Case]:
    for stride, pad, dilation, groups in itertools.product((1, 2, 3), (0, 1, 2), (1, 2), (1, 2)):
        x, w = R(2, 4, 9), R(6, 4 // groups, 3)
        expected = conv_by_loops(x, w, (stride,), ((pad, pad),), (dilation,), groups)
        options = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
        yield Case("conv1d", (x, w), expected, options)
    x, w, b = R(2, 4, 6, 7), R(4, 2, 3, 2), R(4)
    expected = conv_by_loops(x, w, (2, 1), ((1, 1), (0, 0)), (1, 2), 2) + b[:, None, None]
    yield Case("conv2d", (x, w, b), expected, {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2})
    x, w = R(1, 3, 5, 6), R(6, 1, 3, 3)
    yield Case("conv2d", (x, w), conv_by_loops(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1), 3), {"padding": 1, "groups": 3})
    for size in (1, 2):
        x, w = R(1, 2, size, 5), R(3, 2, 1, 1)
        yield Case("conv2d", (x, w), conv_by_loops(x, w, (1, 1), ((0, 0),) * 2, (1, 1)))
    x, w = R(3, 5, 7), R(2, 3, 2, 4)
    yield Case("conv2d", (x, w), conv_by_loops(x[None], w, (1, 1), ((0, 1), (1, 2)), (1, 1))[0], {"padding": "same"})
    x, w, b = R(1, 2, 4, 5, 4), R(2, 2, 2, 3, 1), R(2)
    expected = conv_by_loops(x, w, (1, 2, 1), ((1, 1), (1, 1), (0, 0)), (1, 1, 1)) + b[:, None, None, None]
    yield Case("conv3d", (x, w, b), expected, {"stride": (1, 2, 1), "padding": (1, 1, 0)})
    x, w = R(0, 2, 5), R(3, 2, 2)
    yield Case("conv1d", (x, w), np.zeros((0, 3, 4)))


def test_convolutions() -> None:
    check(list(convolutions()))


def transposed() -> Iterator[Case]:
    for stride, pad, dilation, groups in itertools.product((1, 2, 3), (0, 1), (1, 2), (1, 2)):
        x, w = R(2, 4, 5), R(4, 3, 3)
        extra = stride - 1
        expected = transposed_by_loops(x, w, (stride,), (pad,), (extra,), (dilation,), groups)
        options = {"stride": stride, "padding": pad, "output_padding": extra, "groups": groups, "dilation": dilation}
        yield Case("conv_transpose1d", (x, w), expected, options)
    x, w, b = R(2, 2, 3, 4), R(2, 3, 3, 2), R(3)
    expected = transposed_by_loops(x, w, (2, 1), (1, 0), (1, 0), (1, 1)) + b[:, None, None]
    yield Case("conv_transpose2d", (x, w, b), expected, {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0)})
    x, w = R(1, 2, 2, 3, 2), R(2, 1, 2, 2, 3)
    yield Case(
        "conv_transpose3d", (x, w), transposed_by_loops(x, w, (2,) * 3, (0,) * 3, (0,) * 3, (1,) * 3), {"stride": 2}
    )
    x, w = R(2, 1, 4), R(2, 1, 2)
    yield Case("conv_transpose1d", (x[:, 0], w), transposed_by_loops(x.swapaxes(0, 1), w, (1,), (0,), (0,), (1,))[0])


def test_transposed_convolutions() -> None:
    check(list(transposed()))


def test_general_form_against_scipy() -> None:
    x, w = R(1, 1, 9, 8), R(1, 1, 3, 4)
    for mode, padding in (("valid", "valid"), ("full", ((2, 2), (3, 3)))):
        expected = signal.correlate(x[0, 0], w[0, 0], mode)
        np.testing.assert_allclose(gx.conv(x, w, padding=padding)[0, 0], expected, 1e-12)
    same = gx.conv(x, w, padding="same", strides=(2, 3))
    assert same.shape == (1, 1, 5, 3)
    a, b = R(2, 4, 7, 6), R(6, 2, 3, 3)
    expected = np.asarray(gx.conv(a, b, padding=1, groups=2))
    last = gx.compile(lambda a, b: gx.conv(a, b, padding=1, groups=2, channels_last=True))
    found = last(a.transpose(0, 2, 3, 1), b.transpose(2, 3, 1, 0))
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, 1e-12, 1e-12)
    np.testing.assert_allclose(expected, conv_by_loops(a, b, (1, 1), ((1, 1),) * 2, (1, 1), 2), 1e-12, 1e-12)
    cut = gx.conv(a, b, padding=((-1, 0), (0, -2)), groups=2)
    np.testing.assert_allclose(cut, conv_by_loops(a[:, :, 1:, :-2], b, (1, 1), ((0, 0),) * 2, (1, 1), 2), 1e-12, 1e-12)
    spread = np.zeros((2, 4, 13, 6))
    spread[:, :, ::2] = a
    dilated = gx.conv(a, b, input_dilation=(2, 1), groups=2)
    np.testing.assert_allclose(dilated, conv_by_loops(spread, b, (1, 1), ((0, 0),) * 2, (1, 1), 2), 1e-12, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_large_convolution(dtype: Any) -> None:
    """Sizes at which the product's kernels have full and partial tiles; integers wrap."""
    scale = 1 if dtype == np.float32 else 1000
    x, w = (R(2, 17, 21, 37) * scale).astype(dtype), (R(33, 17, 3, 3) * scale).astype(dtype)
    found = np.asarray(gx.compile(lambda x, w: gx.conv(x, w, padding=1))(x, w))
    y = np.zeros((2, 33, 21, 37), np.float64 if dtype == np.float32 else dtype)
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for i, j in np.ndindex(3, 3):
        y += np.einsum(
            "oc,nchw->nohw", w[:, :, i, j], p[:, :, i : i + 21, j : j + 37], dtype=y.dtype, casting="same_kind"
        )
    assert found.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(found, y)


# -- pooling ------------------------------------------------------------------------------------------------------------


def pool_by_loops(
    x: Array, reduce: Callable[[Array], float], sizes: Any, strides: Any, pads: Pairs, dilations: Any, fill: float
) -> Array:
    """`reduce` of each window; the last axes are pooled."""
    rank = len(sizes)
    x = np.pad(x, [(0, 0)] * (x.ndim - rank) + list(pads), constant_values=fill)
    counts = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[-rank:], sizes, strides, dilations, strict=True)
    ]
    y = np.zeros((*x.shape[:-rank], *counts))
    for index in np.ndindex(*y.shape):
        window = tuple(
            slice(i * s, i * s + (k - 1) * d + 1, d)
            for i, s, k, d in zip(index[-rank:], strides, sizes, dilations, strict=True)
        )
        y[index] = reduce(x[(*index[:-rank], *window)])
    return y


def pools() -> Iterator[Case]:
    for size, stride, pad, dilation in ((2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (2, 3, 0, 1), (4, 1, 2, 1)):
        x = R(2, 3, 11)
        args = ((size,), (stride,), ((pad, pad),), (dilation,))
        options = {"kernel_size": size, "stride": stride, "padding": pad}
        yield Case("max_pool1d", (x,), pool_by_loops(x, np.max, *args, -np.inf), {**options, "dilation": dilation})
        plain = (*args[:3], (1,))
        yield Case("avg_pool1d", (x,), pool_by_loops(x, np.mean, *plain, 0.0), options)
        alone = pool_by_loops(x, np.nanmean, *plain, np.nan)
        yield Case("avg_pool1d", (x,), alone, {**options, "count_include_pad": False})
    x = R(2, 2, 7, 8)
    twice = ((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    yield Case(
        "max_pool2d", (x,), pool_by_loops(x, np.max, *twice, -np.inf), {"kernel_size": 3, "stride": 2, "padding": 1}
    )
    yield Case(
        "avg_pool2d", (x,), pool_by_loops(x, np.mean, *twice, 0.0), {"kernel_size": 3, "stride": 2, "padding": 1}
    )
    by_five = pool_by_loops(x, np.sum, (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), 0.0) / 5
    yield Case("avg_pool2d", (x,), by_five, {"kernel_size": (2, 3), "divisor_override": 5})
    # With ceil_mode a last window hangs over the edge, where its elements do not count.
    over = ((2, 2), (2, 2), ((0, 1), (0, 0)), (1, 1))
    yield Case("max_pool2d", (x,), pool_by_loops(x, np.max, *over, -np.inf), {"kernel_size": 2, "ceil_mode": True})
    yield Case("avg_pool2d", (x,), pool_by_loops(x, np.nanmean, *over, np.nan), {"kernel_size": 2, "ceil_mode": True})
    x = R(2, 4, 5, 4)
    cube = ((2, 2, 2), (2, 1, 2), ((0, 0), (1, 1), (1, 1)), (1, 1, 1))
    options = {"kernel_size": 2, "stride": (2, 1, 2), "padding": (0, 1, 1)}
    yield Case("max_pool3d", (x,), pool_by_loops(x, np.max, *cube, -np.inf), options)
    yield Case("avg_pool3d", (x,), pool_by_loops(x, np.mean, *cube, 0.0), options)


def test_pools() -> None:
    check(list(pools()))


def adaptive_by_loops(x: Array, reduce: Callable[[Array], float], sizes: Any) -> Array:
    rank = len(sizes)
    y = np.zeros((*x.shape[:-rank], *sizes))
    for index in np.ndindex(*y.shape):
        piece = tuple(
            slice(math.floor(i * n / s), math.ceil((i + 1) * n / s))
            for i, n, s in zip(index[-rank:], x.shape[-rank:], sizes, strict=True)
        )
        y[index] = reduce(x[(*index[:-rank], *piece)])
    return y


def adaptive_pools() -> Iterator[Case]:
    shapes = {1: (2, 3, 10), 2: (2, 3, 6, 7), 3: (2, 4, 3, 5)}
    for rank, kind in itertools.product((1, 2, 3), ("avg", "max")):
        x = R(*shapes[rank])
        for sizes in ((1,) * rank, (3, 7, 2)[:rank], (4, 5, 3)[:rank]):
            expected = adaptive_by_loops(x, np.mean if kind == "avg" else np.max, sizes)
            yield Case(f"adaptive_{kind}_pool{rank}d", (x,), expected, {"output_size": sizes})
    x = R(1, 2, 4, 5)
    yield Case("adaptive_avg_pool2d", (x,), adaptive_by_loops(x, np.mean, (4, 2)), {"output_size": (None, 2)})


def test_adaptive_pools() -> None:
    check(list(adaptive_pools()))


def test_gradient_of_equal_elements() -> None:
    """All goes to the first of them, in row-major order; NaN is the greatest."""
    x = np.array([[[[1.0, 2, 2, 0], [2, 2, 1, 0], [np.nan, 3, np.nan, 5], [4, 0, 5, 5]]]])
    for mode in (lambda f: f, gx.compile):
        t = gx.tensor(x, requires_grad=True)
        y = mode(lambda x: F.max_pool2d(x, 2))(t)
        np.testing.assert_array_equal(y[0, 0], [[2, 2], [np.nan, np.nan]])
        y.backward(gx.tensor(np.array([[[[1.0, 2], [3, 4]]]])))
        np.testing.assert_array_equal(t.grad[0, 0], [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32])
def test_reduce_window(dtype: Any) -> None:
    x = np.asarray(RNG.integers(1, 4, (5, 6))).astype(dtype)
    functions = {"max": np.max, "min": np.min, "sum": np.sum, "prod": np.prod}
    fills = {"max": 0, "min": 100, "sum": 0, "prod": 1}
    for name, reduce in functions.items():
        wanted = pool_by_loops(x.astype(float), reduce, (2, 3), (1, 2), ((1, 0), (2, 1)), (2, 1), fills[name])
        for mode in (lambda f: f, gx.compile):
            found = mode(
                lambda x, n=name: gx.reduce_window(
                    x, n, (2, 3), strides=(1, 2), padding=((1, 0), (2, 1)), dilation=(2, 1)
                )
            )(x)
            assert np.asarray(found).dtype == dtype
            np.testing.assert_array_equal(found, wanted)
    for name, reduce in (("any", np.any), ("all", np.all)):
        wanted = pool_by_loops(x > 2, reduce, (2,), (1,), ((0, 0),), (1,), 0) > 0
        np.testing.assert_array_equal(gx.reduce_window(x > 2, name, 2, axes=1), wanted)
    assert gx.reduce_window(x, "max", (2, 2), padding="same").shape == (5, 6)


# -- unfolding ----------------------------------------------------------------------------------------------------------


def unfold_by_loops(x: Array, sizes: Any, dilations: Any, pads: Any, strides: Any) -> Array:
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], sizes, dilations, strides, strict=True)]
    columns = []
    for i, j in np.ndindex(*counts):
        rows = slice(i * strides[0], i * strides[0] + (sizes[0] - 1) * dilations[0] + 1, dilations[0])
        cols = slice(j * strides[1], j * strides[1] + (sizes[1] - 1) * dilations[1] + 1, dilations[1])
        columns.append(x[:, :, rows, cols].reshape(x.shape[0], -1))
    return np.stack(columns, axis=2)


FOLDS = (((2, 3), (1, 1), (1, 1), (2, 2)), ((3, 3), (2, 1), (0, 2), (1, 3)), ((2, 2), (1, 1), (0, 0), (2, 2)))


def folds() -> Iterator[Case]:
    for sizes, dilations, pads, strides in FOLDS:
        x = R(2, 3, 7, 8)
        options = {"kernel_size": sizes, "dilation": dilations, "padding": pads, "stride": strides}
        columns = unfold_by_loops(x, sizes, dilations, pads, strides)
        yield Case("unfold", (x,), columns, options)
        y = R(*columns.shape)
        units = np.eye(56).reshape(56, 1, 7, 8)
        taken = unfold_by_loops(units, sizes, dilations, pads, strides)
        parts = y.reshape(2, 3, -1, y.shape[2])
        back = np.einsum("ncpw,ipw->nci", parts, taken).reshape(2, 3, 7, 8)
        yield Case("fold", (y,), back, {"output_size": (7, 8), **options})


def test_folds() -> None:
    check(list(folds()))


# -- resampling ---------------------------------------------------------------------------------------------------------


def cubic(t: float) -> float:
    """Keys' kernel with a = -0.75."""
    a, t = -0.75, abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def resample(x: Array, axis: int, new: int, mode: str, aligned: bool, scale: float | None = None) -> Array:
    """One axis, one element after the other."""
    x = np.moveaxis(x, axis, -1)
    old = x.shape[-1]
    y = np.zeros((*x.shape[:-1], new))
    for i in range(new):
        ratio = old / new if scale is None else 1 / scale
        if mode.startswith("nearest"):
            at = math.floor((i + (0.5 if mode == "nearest-exact" else 0.0)) * ratio)
            y[..., i] = x[..., min(at, old - 1)]
            continue
        at = i * ((old - 1) / (new - 1) if new > 1 else 0.0) if aligned else (i + 0.5) * ratio - 0.5
        if mode != "bicubic":
            at = min(max(at, 0.0), old - 1)
        for k in range(math.floor(at) - 2, math.floor(at) + 4):
            weight = cubic(at - k) if mode == "bicubic" else max(0.0, 1 - abs(at - k))
            y[..., i] += weight * x[..., min(max(k, 0), old - 1)]
    return np.moveaxis(y, -1, axis)


def resamplings() -> Iterator[Case]:
    for mode, ranks in resize._RANKS.items():
        for rank, aligned in itertools.product(ranks, (None, False, True)):
            if mode == "area" or (aligned is not None and mode not in resize._ALIGNED):
                continue
            x = R(*(1, 2, 5, 4, 3)[: rank + 2])
            options = {"mode": mode} if aligned is None else {"mode": mode, "align_corners": aligned}
            for sizes in ((8, 3, 6)[:rank], (1, 4, 2)[:rank]):
                y = x
                for axis, size in enumerate(sizes, start=2):
                    y = resample(y, axis, size, mode, bool(aligned))
                yield Case("interpolate", (x,), y, {**options, "size": sizes})
            for recomputed in (None, True):
                y = x
                for axis, scale in enumerate((1.5, 0.7, 2.0)[:rank], start=2):
                    size = math.floor(x.shape[axis] * scale)
                    y = resample(y, axis, size, mode, bool(aligned), None if recomputed else scale)
                given = {"scale_factor": (1.5, 0.7, 2.0)[:rank], "recompute_scale_factor": recomputed}
                yield Case("interpolate", (x,), y, {**options, **given})
    x = R(2, 1, 5, 6)
    yield Case("interpolate", (x,), adaptive_by_loops(x, np.mean, (3, 2)), {"size": (3, 2), "mode": "area"})
    yield Case("upsample", (x,), x.repeat(2, 2).repeat(2, 3), {"scale_factor": 2})


def test_resampling() -> None:
    check(list(resamplings()))


def test_linear_resampling_against_scipy() -> None:
    """With the corners aligned it is linear interpolation at equidistant points."""
    x = R(5, 7)
    grid = np.meshgrid(np.linspace(0, 4, 9), np.linspace(0, 6, 4), indexing="ij")
    expected = ndimage.map_coordinates(x, grid, order=1)
    found = F.interpolate(x[None, None], size=(9, 4), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(found[0, 0], expected, 1e-12, 1e-12)


def shuffles() -> Iterator[Case]:
    x = R(2, 8, 3, 2)
    y = np.zeros((2, 2, 6, 4))
    for n, c, h, w in np.ndindex(*y.shape):
        y[n, c, h, w] = x[n, c * 4 + h % 2 * 2 + w % 2, h // 2, w // 2]
    yield Case("pixel_shuffle", (x,), y, {"upscale_factor": 2})
    yield Case("pixel_unshuffle", (y,), x, {"downscale_factor": 2})


def test_shuffles() -> None:
    check(list(shuffles()))


def test_every_function_has_cases() -> None:
    makers = (convolutions, transposed, pools, adaptive_pools, folds, resamplings, shuffles)
    assert {case.name for make in makers for case in make()} == {*spatial.__all__, *resize.__all__} - {"weighted"}
    assert {*spatial.__all__, *resize.__all__} <= set(F.__all__)


# -- layers -------------------------------------------------------------------------------------------------------------


def test_convolution_layers() -> None:
    for rank, shape in ((1, (2, 4, 9)), (2, (2, 4, 9, 8)), (3, (1, 4, 5, 4, 6))):
        x = R(*shape).astype(np.float32)
        layer = getattr(gx.nn, f"Conv{rank}d")(4, 6, 3, stride=2, padding=1, groups=2)
        assert layer.weight.shape == (6, 2, *(3,) * rank) and layer.bias.shape == (6,)
        bound = 1 / math.sqrt(2 * 3**rank)
        assert bound / 2 < np.abs(layer.weight.numpy()).max() <= bound
        expected = getattr(F, f"conv{rank}d")(x, layer.weight, layer.bias, 2, 1, 1, 2)
        np.testing.assert_array_equal(layer(x), expected)
        back = getattr(gx.nn, f"ConvTranspose{rank}d")(6, 4, 3, 2, 1, output_padding=1, bias=False)
        assert back.weight.shape == (6, 4, *(3,) * rank) and back.bias is None
        wanted = getattr(F, f"conv_transpose{rank}d")(expected, back.weight, None, 2, 1, 1)
        np.testing.assert_array_equal(back(expected), wanted)
        assert "kernel_size" in repr(layer) and "bias=False" in repr(back)
    assert gx.nn.Conv2d(3, 8, (3, 5), padding="same")(R(1, 3, 7, 7).astype(np.float32)).shape == (1, 8, 7, 7)


def test_function_layers() -> None:
    cases = [case for make in (pools, adaptive_pools, folds, resamplings, shuffles) for case in make()]
    layers = {layer.function: layer for layer in vars(spatial_layers).values() if hasattr(layer, "positional")}
    for case in cases:
        if case.name != "upsample":
            layer = layers[case.name](**case.options)
            np.testing.assert_allclose(layer(case.operands[0]), case.expected, 1e-10, 1e-10)
            assert all(f"{name}=" in repr(layer) for name in case.options)
    pool = gx.nn.MaxPool2d(2, 1)
    assert pool(R(1, 1, 4, 4)).shape == (1, 1, 3, 3)
    for wrong in (lambda: gx.nn.MaxPool2d(2, sride=1), lambda: gx.nn.PixelShuffle(2, 3)):
        with pytest.raises(TypeError, match=r"MaxPool2d|PixelShuffle"):
            wrong()


def test_every_layer_is_offered() -> None:
    assert {name for name in spatial_layers.__all__ if not hasattr(gx.nn, name)} == set()


def test_training_step() -> None:
    """A small network learns to tell vertical from horizontal stripes, its whole step compiled; dynamic mode agrees."""
    losses = []
    for compiled in (False, True):
        gx.random.manual_seed(0)
        layers = [
            gx.nn.Conv2d(1, 4, 3, padding=1),
            gx.nn.ReLU(),
            gx.nn.MaxPool2d(2),
            gx.nn.Conv2d(4, 8, 3),
            gx.nn.ReLU(),
        ]
        model = gx.nn.Sequential(*layers, gx.nn.AdaptiveAvgPool2d(1), gx.nn.Flatten(), gx.nn.Linear(8, 2))
        optimizer = gx.optim.Adam(model.parameters(), lr=2e-2)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = gx.compile(step) if compiled else step
        rng = np.random.default_rng(0)
        history = []
        for _ in range(30):
            y = rng.integers(0, 2, 16)
            stripes = (np.indices((12, 12))[y] // 2 % 2)[:, None]
            history.append(float(run((stripes + 0.1 * rng.standard_normal((16, 1, 12, 12))).astype(np.float32), y)))
        assert history[-1] < 0.2 < history[0]
        losses.append(history)
    np.testing.assert_allclose(losses[0][:10], losses[1][:10], rtol=1e-3)
