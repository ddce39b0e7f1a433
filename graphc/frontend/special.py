"""Special functions: erfinv, lgamma, digamma, polygamma. Layer 5.

Composed of elementwise ops in float64, whatever the dtype, and rounded once: float32 and float16 results are right to 0.51
ulp wherever float64's are right to many. float64 errors are stated with each function; tests/frontend/test_special.py
measures them against mpmath. Derivatives are those of the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import UnsupportedError, message
from graphc.frontend.elementwise import (
    abs,
    add,
    copysign,
    divide,
    equal,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    maximum,
    multiply,
    negative,
    power,
    reciprocal,
    round,
    sin,
    sqrt,
    square,
    subtract,
    tan,
    where,
)
from graphc.frontend.promotion import as_tensor, convert
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["digamma", "erfinv", "lgamma", "polygamma"]

# Interpolation in Chebyshev points with 60 digits, lowest power first; errors are relative to the function.

#: erfinv(x) / x in w - 3.125, w = -log(1 - x**2) in [0, 6.25]: error 2**-56.8.
_ERFINV_LOW = (
    1.6536545626831027,
    0.24015818242558834,
    -0.006033670871426851,
    -0.0007407025341546431,
    0.00018673420801981186,
    -1.3882523393957483e-05,
    -1.3654691758785656e-06,
    4.23478816822246e-07,
    -2.907039127564132e-08,
    -4.1126604371632185e-09,
    1.051223377050429e-09,
    -5.414303283919504e-11,
    -1.2978805369932565e-11,
    2.6305268312595183e-12,
    -8.07192593899004e-14,
    -4.0020031087558496e-14,
    6.521333511502239e-15,
    -3.94018812230432e-17,
    -1.2215637192404172e-16,
    1.5510787009902526e-17,
    6.075050702072414e-19,
    -3.4734793888538036e-19,
    1.999259988861535e-20,
    3.194015548136271e-21,
    -3.5932028927020693e-22,
)
#: erfinv(x) / x in sqrt(w) - 3.25, sqrt(w) in [2.5, 4]: error 2**-55.4.
_ERFINV_MID = (
    3.0838856104922208,
    1.0052589676941652,
    0.00537091455357168,
    -0.003751208508215561,
    0.0024914420969817607,
    -0.0016882755357337071,
    0.0009532893637435638,
    -0.00035503780975963814,
    2.4031257015092525e-05,
    6.828708654753377e-05,
    -4.731898412011245e-05,
    1.2465167157087251e-05,
    2.9257291901789823e-06,
    -3.986084395214756e-06,
    1.4987130784186127e-06,
    -2.7004219280868947e-08,
    -2.713451105439456e-07,
    1.3104351499972014e-07,
    6.969241977629694e-10,
    -1.5102695423335065e-08,
)
#: erfinv(x) / x in sqrt(w) - 5, sqrt(w) in [4, 6.15]: error 2**-59.0.
_ERFINV_HIGH = (
    4.849906401408584,
    1.010300464864545,
    -0.0001387193183799647,
    -0.00021503011980683983,
    7.599527809106188e-05,
    -1.9681771067550213e-05,
    4.526052591478209e-06,
    -9.930264766269613e-07,
    2.2905245827448825e-07,
    -6.75686570128249e-08,
    2.901972622643886e-08,
    -1.522366104401971e-08,
    7.819576553569057e-09,
    -3.519292638083592e-09,
    1.317844170244659e-09,
    -3.939200554775735e-10,
    6.857771481469278e-11,
    2.110651168108559e-11,
    -2.0170464826364996e-11,
    4.575990655529495e-12,
)
#: lgamma(x) / ((x - 1) * (x - 2)) in x - 2, x in [1.5, 2.5]: error 2**-59.6.
_LGAMMA = (
    0.42278433509846713,
    -0.10031730167435393,
    0.032965000621155836,
    -0.012384192193367468,
    0.004998641164695469,
    -0.002108130834223415,
    0.0009153769223805991,
    -0.00040570738897825623,
    0.00018255263497305108,
    -8.309527325533694e-05,
    3.81689598761822e-05,
    -1.7660194017271152e-05,
    8.22147891805373e-06,
    -3.856313609317478e-06,
    1.8124087986360302e-06,
    -8.208987442720822e-07,
    3.883748097729481e-07,
    -2.525485342958651e-07,
    1.203490776709693e-07,
)
#: B(2k) / (2k * (2k - 1)), of Stirling's series for lgamma.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400, 43867 / 244188)
#: Bernoulli's numbers B(2), B(4), ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
#: From here on the asymptotic series are right to float64's last place.
_FAR = 8
_SHIFT = 10


def _wide(function: Callable[..., Tensor], x: Any, *rest: Any) -> Tensor:
    """Computed in float64 and rounded to x's dtype; integers give float64."""
    tensor = as_tensor(x)
    dtype = tensor.dtype if tensor.type.dtype.is_float else np.dtype(np.float64)
    return convert(function(convert(tensor, np.float64), *rest), dtype)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    result: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = add(multiply(result, x), coefficient)
    return as_tensor(result)


# -- inverse of the error function --------------------------------------------------------------------------------------------


def erfinv(x: Any, /) -> Tensor:
    """The inverse of erf: infinite at +-1, NaN beyond. float64: within 6 ulp."""
    return _wide(_erfinv, x)


def _erfinv(x: Tensor) -> Tensor:
    """Three polynomials in w = -log(1 - x**2) (the division of M. Giles, GPU Computing Gems, 2011)."""
    inside = less(abs(x), 1.0)
    y = where(inside, x, 0.0)
    w = negative(log(multiply(subtract(1.0, y), add(y, 1.0))))
    low = _polynomial(subtract(w, 3.125), _ERFINV_LOW)
    root = sqrt(maximum(w, 6.25))
    middle = _polynomial(subtract(root, 3.25), _ERFINV_MID)
    high = _polynomial(subtract(root, 5.0), _ERFINV_HIGH)
    ratio = where(less(w, 6.25), low, where(less(root, 4.0), middle, high))
    outside = where(equal(abs(x), 1.0), multiply(x, np.inf), np.nan)
    return where(inside, multiply(y, ratio), outside)


# -- gamma function ------------------------------------------------------------------------------------------------------------


def lgamma(x: Any, /) -> Tensor:
    """log(|gamma(x)|): infinite at 0, -1, -2, ...; NaN stays. float64: within 8 ulp for x > 0, its roots 1 and 2 included; for
    x < 0 within 8 ulp of max(1, |y|)."""
    return _wide(_lgamma, x)


def _lgamma(x: Tensor) -> Tensor:
    """Positive x; else by reflection: log(pi / |x * sin(pi * x)|) - lgamma(-x)."""
    below = less_equal(x, 0.0)
    positive = _lgamma_positive(where(below, negative(x), x))
    fraction = where(below, subtract(x, round(x)), 0.5)
    size = abs(multiply(x, sin(multiply(fraction, math.pi))))
    whole = logical_and(below, equal(fraction, 0.0))
    reflected = subtract(log(divide(math.pi, where(whole, 1.0, size))), positive)
    return where(whole, np.inf, where(below, reflected, positive))


def _lgamma_positive(x: Tensor) -> Tensor:
    """Stirling's series from _FAR on; before, the polynomial about 2 and one logarithm of a product of steps of 1."""
    far = greater_equal(x, float(_FAR))
    y = where(far, x, float(_FAR))
    inverse = reciprocal(y)
    series = multiply(_polynomial(square(inverse), _STIRLING), inverse)
    stirling = add(multiply(subtract(y, 0.5), subtract(log(y), 1.0)), add(series, 0.5 * math.log(2 * math.pi) - 0.5))
    stirling = where(less(y, np.inf), stirling, y)
    near = where(far, 2.0, x)
    middle = round(near)
    steps = subtract(middle, 2.0)
    product: Any = 1.0
    for j in range(1, _FAR - 1):
        product = multiply(product, where(greater_equal(steps, float(j)), subtract(near, float(j)), 1.0))
    for j in range(2):
        product = multiply(product, where(less(steps, float(-j)), add(near, float(j)), 1.0))
    t = subtract(near, middle)
    centre = multiply(multiply(t, add(t, 1.0)), _polynomial(t, _LGAMMA))
    logarithm = log(product)
    moved = where(less(steps, 0.0), subtract(centre, logarithm), add(centre, logarithm))
    return where(far, stirling, moved)


def digamma(x: Any, /) -> Tensor:
    """The derivative of lgamma: -inf at 0 (+inf at -0.0), NaN at -1, -2, ... float64: within 8 ulp of max(1, |y|)."""
    return _wide(_digamma, x)


def _digamma(x: Tensor) -> Tensor:
    """Positive x; else by reflection: digamma(1 - x) - pi / tan(pi * x)."""
    below = less_equal(x, 0.0)
    positive = _digamma_positive(where(below, subtract(1.0, x), x))
    fraction = where(below, subtract(x, round(x)), 0.25)
    pole = equal(fraction, 0.0)
    slope = divide(math.pi, tan(multiply(where(pole, 0.25, fraction), math.pi)))
    at_pole = where(equal(x, 0.0), negative(divide(1.0, x)), np.nan)
    return where(below, where(pole, at_pole, subtract(positive, slope)), positive)


def _digamma_positive(x: Tensor) -> Tensor:
    """log(y) - 1/(2y) - sum of B(2k) / (2k * y**2k) at y = x + _SHIFT, less 1/x, ..., 1/(y - 1)."""
    y = add(x, float(_SHIFT))
    inverse = reciprocal(y)
    z = square(inverse)
    series = multiply(_polynomial(z, [b / (2 * k + 2) for k, b in enumerate(_BERNOULLI)]), z)
    far = subtract(log(y), add(multiply(inverse, 0.5), series))
    steps = [reciprocal(add(x, float(j))) for j in reversed(range(_SHIFT))]
    return subtract(far, _sum(steps))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = add(total, term)
    return total


def polygamma(n: int, x: Any, /) -> Tensor:
    """The derivative of order n of digamma; at -1, -2, ... infinite for odd n, NaN for even n. float64: within (8 + 4n) ulp for
    x > 0; for x < 0 within 1e-14 of the larger one of it and polygamma(n, 1 - x).

    The order is a Python integer, 0 <= n <= 20.
    """
    if not isinstance(n, int) or not 0 <= n <= 20:
        raise UnsupportedError(
            message(f"polygamma: the order must be an integer from 0 to 20, not {n!r}", location=user_location())
        )
    return digamma(x) if n == 0 else _wide(_polygamma, x, n)


def _polygamma(x: Tensor, n: int) -> Tensor:
    below = less_equal(x, 0.0)
    if n > 1:
        return _polygamma_reflected(x, n)
    positive = _polygamma_positive(where(below, subtract(1.0, x), x), n)
    fraction = where(below, subtract(x, round(x)), 0.5)
    slope = square(divide(math.pi, sin(multiply(fraction, math.pi))))
    return where(below, subtract(slope, positive), positive)


def _polygamma_reflected(x: Tensor, n: int) -> Tensor:
    """For x < 0 by reflection (DLMF 5.15.6): (-1)**n * polygamma(n, 1 - x) - pi * the nth derivative of cot(pi * x), which is
    pi**n times a polynomial in c = cot(pi * x), since c' = -pi * (1 + c**2)."""
    below = less(x, 0.0)
    positive = _polygamma_positive(where(below, subtract(1.0, x), x), n)
    fraction = where(below, subtract(x, round(x)), 0.25)
    pole = equal(fraction, 0.0)
    # Beyond 1/4 the tangent of the rest to 1/2, which is exact, so that the roots at the middle are.
    size = abs(where(pole, 0.25, fraction))
    steep = less(size, 0.25)
    tangent = tan(multiply(where(steep, size, subtract(0.5, size)), math.pi))
    cotangent = copysign(where(steep, reciprocal(where(steep, tangent, 1.0)), tangent), fraction)
    coefficients = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    derivative = multiply(_polynomial(cotangent, coefficients), math.pi ** (n + 1))
    reflected = subtract(negative(positive) if n % 2 else positive, derivative)
    return where(below, where(pole, np.inf if n % 2 else np.nan, reflected), positive)


def _polygamma_positive(x: Tensor, n: int) -> Tensor:
    """(-1)**(n + 1) times the sum of n! / (x + j)**(n + 1) over j below a shift, and of the asymptotic series at x + shift."""
    shift = _SHIFT + n
    y = add(x, float(shift))
    inverse = reciprocal(y)
    z = square(inverse)
    terms = [b * math.factorial(2 * k + n + 1) / math.factorial(2 * k + 2) for k, b in enumerate(_BERNOULLI)]
    series = add(
        multiply(_polynomial(z, terms), z), add(multiply(inverse, math.factorial(n) / 2), math.factorial(n - 1))
    )
    far = multiply(series, power(inverse, float(n)))
    steps = [power(reciprocal(add(x, float(j))), float(n + 1)) for j in reversed(range(shift))]
    total = add(far, multiply(_sum(steps), float(math.factorial(n))))
    return total if n % 2 else negative(total)
