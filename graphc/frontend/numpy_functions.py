"""NumPy functions that dispatch to functions of the namespace with another spelling or argument order. Layer 5.

A table from NumPy's function to ours; `graphc.frontend.methods` joins it to its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import UnsupportedError, message
from graphc.frontend import (
    arranging,
    composed,
    cumulating,
    decompositions,
    einsum,
    elementwise,
    fft,
    indexing,
    linalg,
    shaping,
    sorting,
    statistics,
)
from graphc.frontend.source import user_location

__all__ = ["FUNCTIONS"]

_ELEMENTWISE: dict[Any, Callable[..., Any]] = {
    np.fix: composed.fix,
    np.sinc: composed.sinc,
    np.nan_to_num: lambda x, copy=True, nan=0.0, posinf=None, neginf=None: composed.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    np.isposinf: composed.isposinf,
    np.isneginf: composed.isneginf,
    np.isclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: composed.isclose(
        a, b, rtol=rtol, atol=atol, equal_nan=equal_nan
    ),
    np.allclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: composed.allclose(
        a, b, rtol=rtol, atol=atol, equal_nan=equal_nan
    ),
    np.array_equal: lambda a1, a2, equal_nan=False: composed.array_equal(a1, a2, equal_nan=equal_nan),
    np.real: composed.real,
    np.imag: composed.imag,
    np.angle: lambda z, deg=False: composed.rad2deg(composed.angle(z)) if deg else composed.angle(z),
}

_ARRANGING: dict[Any, Callable[..., Any]] = {
    np.atleast_1d: arranging.atleast_1d,
    np.atleast_2d: arranging.atleast_2d,
    np.atleast_3d: arranging.atleast_3d,
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: arranging.diagonal(a, offset=offset, axis1=axis1, axis2=axis2),
    np.trace: lambda a, offset=0, axis1=0, axis2=1, dtype=None: arranging.trace(
        a, offset=offset, axis1=axis1, axis2=axis2, dtype=dtype
    ),
    np.diag: arranging.diag,
    np.diagflat: arranging.diagflat,
    np.rot90: arranging.rot90,
    np.fliplr: lambda m: shaping.flip(m, axis=1),
    np.flipud: lambda m: shaping.flip(m, axis=0),
    np.meshgrid: lambda *xi, indexing="xy", copy=True, sparse=False: tuple(arranging.meshgrid(*xi, indexing=indexing)),
    np.array_split: arranging.array_split,
    np.hsplit: lambda ary, parts: shaping.split(ary, parts, 0 if ary.ndim == 1 else 1),
    np.vsplit: lambda ary, parts: shaping.split(ary, parts, 0),
    np.matrix_transpose: shaping.matrix_transpose,
    np.resize: arranging.resize,
    np.append: lambda arr, values, axis=None: shaping.concat([arr, values], axis=axis),
    np.column_stack: arranging.column_stack,
    np.dstack: lambda tup: shaping.concat([arranging.atleast_3d(t) for t in tup], axis=2),
    np.rollaxis: arranging.rollaxis,
    np.diff: lambda a, n=1, axis=-1, prepend=None, append=None: arranging.diff(
        a, n=n, axis=axis, prepend=prepend, append=append
    ),
    np.ediff1d: arranging.ediff1d,
    np.gradient: arranging.gradient,
    np.vander: lambda x, N=None, increasing=False: arranging.vander(x, N, increasing=increasing),
    np.pad: arranging.pad,
    np.block: arranging.block,
    np.delete: arranging.delete,
    np.insert: arranging.insert,
    np.select: lambda condlist, choicelist, default=0: arranging.select(condlist, choicelist, default),
    np.unravel_index: arranging.unravel_index,
}

_CUMULATING: dict[Any, Callable[..., Any]] = {
    np.cumsum: lambda a, axis=None, dtype=None: cumulating.cumsum(a, axis, dtype),
    np.cumprod: lambda a, axis=None, dtype=None: cumulating.cumprod(a, axis, dtype),
    np.nancumsum: lambda a, axis=None, dtype=None: cumulating.nancumsum(a, axis, dtype),
    np.nancumprod: lambda a, axis=None, dtype=None: cumulating.nancumprod(a, axis, dtype),
}

#: Functions that NumPy has from 2.1 on, by name: the oldest NumPy that graphc runs with is 2.0.
_NEWER: dict[str, Callable[..., Any]] = {
    "unstack": lambda x, *, axis=0: shaping.unstack(x, axis=axis),
    "cumulative_sum": lambda x, /, *, axis=None, dtype=None, include_initial=False: cumulating.cumulative_sum(
        x, axis=axis, dtype=dtype, include_initial=include_initial
    ),
    "cumulative_prod": lambda x, /, *, axis=None, dtype=None, include_initial=False: cumulating.cumulative_prod(
        x, axis=axis, dtype=dtype, include_initial=include_initial
    ),
}


def _no_weights(weights: Any) -> None:
    if weights is not None:
        raise UnsupportedError(message("weights= is not supported", location=user_location()))


def _quantile(function: Callable[..., Any]) -> Callable[..., Any]:
    def quantile(
        a: Any,
        q: Any,
        axis: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: bool = False,
        *,
        weights: Any = None,
    ) -> Any:
        _no_weights(weights)
        return function(a, q, axis=axis, method=method, keepdims=keepdims)

    return quantile


_WRITING: dict[Any, Callable[..., Any]] = {np.put_along_axis: indexing.put_along_axis}

_PRODUCTS: dict[Any, Callable[..., Any]] = {
    np.einsum: einsum.einsum,
    np.inner: linalg.inner,
    np.kron: linalg.kron,
    np.vdot: linalg.vdot,
    np.cross: lambda a, b, axisa=-1, axisb=-1, axisc=-1, axis=None: _cross(a, b, axisa, axisb, axisc, axis),
    np.linalg.cross: linalg.cross,
    np.linalg.diagonal: linalg.diagonal,
    np.linalg.trace: linalg.trace,
    np.linalg.matmul: linalg.matmul,
    np.linalg.outer: linalg.outer,
    np.linalg.tensordot: lambda x1, x2, /, *, axes=2: linalg.tensordot(x1, x2, axes=axes),
    np.linalg.vecdot: linalg.vecdot,
    np.linalg.matrix_transpose: linalg.matrix_transpose,
    np.linalg.matrix_power: linalg.matrix_power,
    np.linalg.matrix_norm: linalg.matrix_norm,
    np.linalg.vector_norm: linalg.vector_norm,
    np.linalg.multi_dot: linalg.multi_dot,
    np.linalg.norm: linalg.norm,
    np.linalg.cond: linalg.cond,
    **decompositions.NUMPY_FUNCTIONS,
    **fft.NUMPY_FUNCTIONS,
}


def _cross(a: Any, b: Any, axisa: int, axisb: int, axisc: int, axis: int | None) -> Any:
    if axis is not None:
        return linalg.cross(a, b, axis=axis)
    moved = (shaping.moveaxis(x, at, -1) for x, at in ((a, axisa), (b, axisb)))
    return shaping.moveaxis(linalg.cross(*moved), -1, axisc)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """nanvar and nanstd with NumPy's names."""

    def spread(a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
        x = a if dtype is None else elementwise.astype(a, dtype)
        return function(x, axis=axis, correction=ddof, keepdims=keepdims)

    return spread


_STATISTICS: dict[Any, Callable[..., Any]] = {
    np.trapezoid: statistics.trapezoid,
    np.interp: statistics.interp,
    np.polyval: statistics.polyval,
    np.cov: lambda m, rowvar=True, bias=False, ddof=None: statistics.cov(m, rowvar, bias, ddof),
    np.corrcoef: lambda x, rowvar=True: statistics.corrcoef(x, rowvar),
    np.ptp: lambda a, axis=None, keepdims=False: statistics.ptp(a, axis=axis, keepdims=keepdims),
    np.average: lambda a, axis=None, weights=None, *, keepdims=False: statistics.average(
        a, axis=axis, weights=weights, keepdims=keepdims
    ),
    np.bincount: statistics.bincount,
    np.histogram: statistics.histogram,
    np.histogram_bin_edges: statistics.histogram_bin_edges,
    np.nansum: lambda a, axis=None, dtype=None, keepdims=False: statistics.nansum(
        a, axis=axis, dtype=dtype, keepdims=keepdims
    ),
    np.nanprod: lambda a, axis=None, dtype=None, keepdims=False: statistics.nanprod(
        a, axis=axis, dtype=dtype, keepdims=keepdims
    ),
    np.nanmax: lambda a, axis=None, keepdims=False: statistics.nanmax(a, axis=axis, keepdims=keepdims),
    np.nanmin: lambda a, axis=None, keepdims=False: statistics.nanmin(a, axis=axis, keepdims=keepdims),
    np.nanmean: lambda a, axis=None, keepdims=False: statistics.nanmean(a, axis=axis, keepdims=keepdims),
    np.nanvar: _spread(statistics.nanvar),
    np.nanstd: _spread(statistics.nanstd),
    np.nanargmax: lambda a, axis=None, *, keepdims=False: statistics.nanargmax(a, axis=axis, keepdims=keepdims),
    np.nanargmin: lambda a, axis=None, *, keepdims=False: statistics.nanargmin(a, axis=axis, keepdims=keepdims),
}

_SORTING: dict[Any, Callable[..., Any]] = {
    np.sort: lambda a, axis=-1, kind=None, order=None, *, stable=None: sorting.sort(a, axis=axis),
    np.argsort: lambda a, axis=-1, kind=None, order=None, *, stable=None: sorting.argsort(a, axis=axis),
    np.partition: lambda a, kth, axis=-1, kind="introselect", order=None: sorting.partition(a, kth, axis),
    np.argpartition: lambda a, kth, axis=-1, kind="introselect", order=None: sorting.argpartition(a, kth, axis),
    np.searchsorted: lambda a, v, side="left", sorter=None: sorting.searchsorted(a, v, side=side, sorter=sorter),
    np.digitize: lambda x, bins, right=False: sorting.searchsorted(bins, x, side="left" if right else "right"),
    np.isin: lambda element, test_elements, assume_unique=False, invert=False, *, kind=None: sorting.isin(
        element, test_elements, invert=invert
    ),
    np.median: lambda a, axis=None, overwrite_input=False, keepdims=False: sorting.median(
        a, axis=axis, keepdims=keepdims
    ),
    np.quantile: _quantile(sorting.quantile),
    np.percentile: _quantile(sorting.percentile),
    np.unique: lambda ar, return_index=False, return_inverse=False, return_counts=False: sorting.unique(
        ar, return_index, return_inverse, return_counts
    ),
    np.unique_values: sorting.unique_values,
    np.unique_counts: sorting.unique_counts,
    np.unique_inverse: sorting.unique_inverse,
    np.unique_all: sorting.unique_all,
    np.nonzero: sorting.nonzero,
    np.flatnonzero: sorting.flatnonzero,
    np.argwhere: sorting.argwhere,
}

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **_ELEMENTWISE,
    **_ARRANGING,
    **_CUMULATING,
    **{getattr(np, name): function for name, function in _NEWER.items() if hasattr(np, name)},
    **_SORTING,
    **_WRITING,
    **_PRODUCTS,
    **_STATISTICS,
}
