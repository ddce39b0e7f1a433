"""NumPy functions that dispatch to functions of the namespace with another spelling or argument order. Layer 5.

A table from NumPy's function to ours; `graphc.frontend.methods` joins it to its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.frontend import arranging, composed, shaping

__all__ = ["FUNCTIONS"]

_ELEMENTWISE: dict[Any, Callable[..., Any]] = {
    np.fix: lambda x, out=None: composed.fix(x),
    np.sinc: composed.sinc,
    np.nan_to_num: lambda x, copy=True, nan=0.0, posinf=None, neginf=None: composed.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    np.isposinf: lambda x, out=None: composed.isposinf(x),
    np.isneginf: lambda x, out=None: composed.isneginf(x),
    np.isclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: composed.isclose(
        a, b, rtol=rtol, atol=atol, equal_nan=equal_nan
    ),
    np.allclose: lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: composed.allclose(
        a, b, rtol=rtol, atol=atol, equal_nan=equal_nan
    ),
    np.real: composed.real,
    np.imag: composed.imag,
    np.angle: lambda z, deg=False: composed.rad2deg(composed.angle(z)) if deg else composed.angle(z),
}

_ARRANGING: dict[Any, Callable[..., Any]] = {
    np.atleast_1d: arranging.atleast_1d,
    np.atleast_2d: arranging.atleast_2d,
    np.atleast_3d: arranging.atleast_3d,
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: arranging.diagonal(a, offset=offset, axis1=axis1, axis2=axis2),
    np.trace: lambda a, offset=0, axis1=0, axis2=1, dtype=None, out=None: arranging.trace(
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
    np.unstack: lambda x, *, axis=0: shaping.unstack(x, axis=axis),
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
}

FUNCTIONS: dict[Any, Callable[..., Any]] = {**_ELEMENTWISE, **_ARRANGING}
