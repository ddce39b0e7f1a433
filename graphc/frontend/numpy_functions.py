"""NumPy functions that dispatch to functions of the namespace with another spelling or argument order. Layer 5.

A table from NumPy's function to ours; `graphc.frontend.methods` joins it to its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.frontend import composed

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

FUNCTIONS: dict[Any, Callable[..., Any]] = {**_ELEMENTWISE}
