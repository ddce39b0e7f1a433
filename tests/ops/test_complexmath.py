"""Functions of complex numbers, compiled, against mpmath: errors within the stated bounds, in ulp of the larger part."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import graphc as gx
from graphc.frontend.promotion import op
from graphc.ir import registry
from graphc.ir.op import Elementwise

FUNCTIONS = {
    name: getattr(mpmath, name)
    for name in (
        *(
            "exp",
            "sqrt",
            "log10",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
        ),
        "atanh",
    )
} | {
    "log": mpmath.ln,
    "log2": lambda z: mpmath.ln(z) / mpmath.ln(2),
    # Of the sum, and where that is 0, the digits that come after it.
    "log1p": lambda z: mpmath.ln(1 + z),
    "expm1": lambda z: mpmath.exp(z) - 1,
    "square": lambda z: z * z,
    "reciprocal": lambda z: 1 / z,
    "sign": lambda z: z / abs(z),
}


def points(dtype: Any) -> Any:
    """In the disc of radius 3, near 0, 1, -1 and i, on a large scale, and next to the axes."""
    rng = np.random.default_rng(11)
    angle = np.exp(2j * np.pi * rng.random(40))
    tiny = 10.0 ** -rng.uniform(1, 7, 40)
    disc = 3 * np.sqrt(rng.random(60)) * np.exp(2j * np.pi * rng.random(60))
    near = [centre + tiny * angle for centre in (0, 1, -1, 1j)]
    far = 10.0 ** rng.uniform(1, 7, 40) * angle
    beside = rng.normal(size=30) + 1j * 10.0 ** -rng.uniform(3, 12, 30)
    return np.concatenate([disc, *near, far, beside, 1j * beside]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_errors_are_within_their_bounds(dtype: Any) -> None:
    z = points(dtype)
    found = gx.compile(lambda z: {name: op(name, gx.asarray(z)) for name in FUNCTIONS})(z)
    with mpmath.workdps(60):
        for name, exact in FUNCTIONS.items():
            rule = registry.get(name)
            assert isinstance(rule, Elementwise) and rule.complex_ulp is not None
            # Overflow, and circular functions of large arguments, are tested with special values.
            inside = np.abs(z) < (
                50 if name in ("exp", "expm1", "sinh", "cosh", "tanh", "sin", "cos", "tan") else np.inf
            )
            values = [exact(mpmath.mpc(complex(x))) for x in z[inside]]
            y = np.asarray(found[name])[inside]
            larger = np.array([max(abs(v.real), abs(v.imag)) for v in values], np.float64).astype(y.real.dtype)
            step = np.spacing(larger).astype(np.float64)
            error = [
                max(abs(mpmath.mpf(float(a.real)) - v.real), abs(mpmath.mpf(float(a.imag)) - v.imag))
                for a, v in zip(y, values, strict=True)
            ]
            worst = np.array(error, np.float64) / step
            assert worst.max() <= rule.complex_ulp, (name, worst.max(), z[inside][worst.argmax()])
