"""NumPy definitions of functions that NumPy lacks (erf, erfc and sigmoid), or has only roughly (expm1 and log1p of complex
numbers). Layer 2.

Those of real numbers are computed in float64 whatever the dtype, and independently of `graphc.ops.mathlib`, so that
comparing the two means something. Tests compare them with mpmath.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["erf", "erfc", "expm1", "log1p", "sigmoid"]

Array = NDArray[Any]

# W. J. Cody, "Rational Chebyshev approximation for the error function", Math. Comp. 23 (1969), in the form of CALERF
# (SPECFUN). |x| <= 0.46875: erf = x * A(x*x) / B(x*x). To 4: erfc = exp(-x*x) * C(x) / D(x). Beyond:
# erfc = exp(-x*x) / x * (1/sqrt(pi) - P(1/x**2) / Q(1/x**2) / x**2). Highest power first; errors about 1e-18.
_A = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_C = (
    *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1),
    *(2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3),
    1.23033935479799725e3,
)
_D = (
    *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3),
    *(3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)
_P = (
    *(1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1),
    *(1.60837851487422766e-2, 6.58749161529837803e-4),
)
_Q = (
    *(1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1),
    *(6.05183413124413191e-2, 2.33520497626869185e-3),
)
_ONE_OVER_SQRT_PI = 5.6418958354775628695e-1


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    result = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        result = result * x + c
    return result


def _exp_minus_square(x: Array) -> Array:
    """exp(-x*x), the square split so that its rounding error does not count."""
    head = np.trunc(x * 16) / 16
    return np.asarray(np.exp(-head * head) * np.exp(-(x - head) * (x + head)))


def _erfc_positive(x: Array) -> Array:
    """erfc for x >= 0.46875."""
    middle = np.minimum(x, 4.0)
    tail = np.clip(x, 4.0, 30.0)
    inverse = 1 / (tail * tail)
    rest = (_ONE_OVER_SQRT_PI - inverse * _horner(_P, inverse) / _horner(_Q, inverse)) / tail
    factor = np.where(x <= 4.0, _horner(_C, middle) / _horner(_D, middle), rest)
    return np.asarray(_exp_minus_square(np.minimum(x, 30.0)) * factor)


def _erf_small(x: Array) -> Array:
    square = x * x
    return x * _horner(_A, square) / _horner(_B, square)


def erf(x: Array) -> Array:
    """2/sqrt(pi) * integral of exp(-t*t) from 0 to x, within 3 ulp of float64; in x's dtype."""
    wide = np.asarray(x, dtype=np.float64)
    size = np.abs(wide)
    small = _erf_small(np.clip(wide, -0.5, 0.5))
    large = np.copysign((0.5 - _erfc_positive(np.maximum(size, 0.46875))) + 0.5, wide)
    return np.asarray(np.where(size <= 0.46875, small, large).astype(x.dtype))


def erfc(x: Array) -> Array:
    """1 - erf(x) without cancellation, within 5 ulp of float64 (more where the result is subnormal); in x's dtype."""
    wide = np.asarray(x, dtype=np.float64)
    size = np.abs(wide)
    small = 1 - _erf_small(np.clip(wide, -0.5, 0.5))
    positive = _erfc_positive(np.maximum(size, 0.46875))
    large = np.where(wide < 0, 2 - positive, positive)
    return np.asarray(np.where(size <= 0.46875, small, large).astype(x.dtype))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), accurate at both ends; in x's dtype."""
    wide = np.asarray(x, dtype=np.float64)
    small = np.exp(-np.abs(wide))
    return np.asarray((np.where(wide >= 0, 1.0, small) / (1 + small)).astype(x.dtype))


def expm1(x: Array) -> Array:
    """`numpy.expm1`; of complex numbers exp(x) - 1 where the real part is 2 or more, or something is not finite: NumPy's own
    formula makes NaN of 710 + 0i."""
    if x.dtype.kind != "c":
        return np.asarray(np.expm1(x))
    plain = np.exp(x)
    real = np.expm1(x.real) * np.cos(x.imag) - 2 * np.square(np.sin(x.imag * x.real.dtype.type(0.5)))
    y = np.empty(x.shape, x.dtype)
    y.real = np.where((x.real < 2) & np.isfinite(x), real, plain.real - 1)
    y.imag = plain.imag
    return y


def log1p(x: Array) -> Array:
    """`numpy.log1p`; of complex numbers with the digits that NumPy's own formula loses near 0, from the squared length in
    the widest type."""
    if x.dtype.kind != "c":
        return np.asarray(np.log1p(x))
    one = x.real.dtype.type(1)
    y = np.empty(x.shape, x.dtype)
    shifted = np.empty(x.shape, x.dtype)
    shifted.real, shifted.imag = x.real + one, x.imag
    plain = np.log(shifted)
    a, b = x.real.astype(np.longdouble), x.imag.astype(np.longdouble)
    near = np.maximum(np.abs(x.real), np.abs(x.imag)) <= 0.5
    y.real = np.where(near, np.log1p(np.where(near, a * (2 + a) + b * b, 0)) / 2, plain.real)
    y.imag = plain.imag
    return y
