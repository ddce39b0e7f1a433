"""Functions of complex numbers in terms of real ops: what the pass `split` puts in the place of an op (`parts=`). Layer 2.

A complex operand is a pair (real, imaginary) of values of a builder's world, and so is a complex result. Special values are
those of C99's Annex G (as NumPy has them), found by selecting, and errors are a few ulp of the larger part: nothing
overflows or cancels on the way to a result that does not. Products and quotients are formed as NumPy forms them.

Sources: Kahan, "Branch Cuts for Complex Elementary Functions" (1987); Hull, Fairgrieve and Tang, "Implementing the Complex
Arcsine and Arccosine Functions Using Exception Handling", ACM TOMS 23(3), 1997; Smith, "Algorithm 116: Complex Division",
CACM 5(8), 1962.

Odd functions come in pairs: f(i * z) = i * g(z) makes g of f by exchanging parts before and after (`_exchanged`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphc.ir.op import Builder

__all__ = [
    "Pair",
    "absolute",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "divide",
    "each_part",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "multiply",
    "power",
    "reciprocal",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
]

Pair = tuple[Any, Any]
_LN2 = math.log(2)


def each_part(name: str) -> Callable[..., Pair]:
    """Real and imaginary part each by itself: the op `name` on both."""

    def parts(b: Builder, *operands: Pair) -> Pair:
        apply = getattr(b, name)
        return apply(*(x[0] for x in operands)), apply(*(x[1] for x in operands))

    return parts


def _exchanged(function: Callable[[Builder, Pair], Pair]) -> Callable[[Builder, Pair], Pair]:
    def parts(b: Builder, z: Pair) -> Pair:
        u, v = function(b, (z[1], z[0]))
        return v, u

    return parts


def _scaled(b: Builder, z: Pair, factor: float) -> Pair:
    return b.multiply(z[0], factor), b.multiply(z[1], factor)


def _either(b: Builder, x: Any, y: Any) -> Any:
    return b.bitwise_or(x, y)


def _both(b: Builder, x: Any, y: Any) -> Any:
    return b.bitwise_and(x, y)


def _is_double(b: Builder, x: Any) -> bool:
    return bool(b.type(x).dtype.bits == 64)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def multiply(b: Builder, x: Pair, y: Pair) -> Pair:
    """(a + ib) * (c + id) = (ac - bd) + i * (ad + bc)."""
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def square(b: Builder, x: Pair) -> Pair:
    return x[0] * x[0] - x[1] * x[1], x[0] * x[1] + x[1] * x[0]


def divide(b: Builder, x: Pair, y: Pair) -> Pair:
    """Smith's algorithm: the smaller part of y by the larger, so that |y|^2 is never formed. A quotient by zero is that of
    each part by |0|."""
    size = b.absolute(y[0])
    first = b.greater_equal(size, b.absolute(y[1]))
    large, small = b.select(first, y[0], y[1]), b.select(first, y[1], y[0])
    ratio = small / large
    scale = b.reciprocal(large + small * ratio)
    p, q = b.select(first, x[0], x[1]), b.select(first, x[1], x[0])
    real = (p + q * ratio) * scale
    rest = q - p * ratio
    # Where parts changed places, the imaginary part is x[1] * ratio - x[0] = -(x[0] - x[1] * ratio).
    imaginary = b.select(first, rest, p * ratio - q) * scale
    zero = _both(b, first, b.equal(large, 0.0))
    return b.select(zero, x[0] / size, real), b.select(zero, x[1] / size, imaginary)


def reciprocal(b: Builder, x: Pair) -> Pair:
    """As `divide`, of 1; the reciprocal of zero is NaN in both parts, NumPy's."""
    first = b.less_equal(b.absolute(x[1]), b.absolute(x[0]))
    large, small = b.select(first, x[0], x[1]), b.select(first, x[1], x[0])
    ratio = small / large
    length = large + small * ratio
    by_one, by_ratio = b.reciprocal(length), ratio / length
    return b.select(first, by_one, by_ratio), b.negative(b.select(first, by_ratio, by_one))


def absolute(b: Builder, x: Pair) -> Any:
    return b.hypot(x[0], x[1])


def sign(b: Builder, x: Pair) -> Pair:
    """x / |x|; of an infinite part its sign, of two NaN. Large x are made smaller, so that |x| does not overflow."""
    large = 2.0**1020 if _is_double(b, x[0]) else 2.0**124
    factor = b.select(b.greater(b.maximum(*map(b.absolute, x)), large), b.like(x[0], 0.25), b.like(x[0], 1.0))
    x = x[0] * factor, x[1] * factor
    length = b.hypot(x[0], x[1])
    infinite = [b.isinf(part) for part in x]
    one = [b.select(i, b.copysign(b.like(part, 1.0), part), 0.0) for i, part in zip(infinite, x, strict=True)]
    nan = _either(b, b.isnan(length), _both(b, *infinite))
    some, zero = _either(b, *infinite), b.equal(length, 0.0)
    unknown, nothing = b.like(length, math.nan), b.like(length, 0.0)
    found = [
        b.select(nan, unknown, b.select(some, unit, b.select(zero, nothing, part / length)))
        for part, unit in zip(x, one, strict=True)
    ]
    return found[0], found[1]


def sqrt(b: Builder, z: Pair) -> Pair:
    """t = sqrt((|x| + |z|) / 2) is the larger part, y / (2t) the other. z is scaled where |z| would overflow or lose bits."""
    x, y = z
    large, small, up = (2.0**1020, 2.0**-960, 2.0**60) if _is_double(b, x) else (2.0**124, 2.0**-85, 2.0**40)
    size = b.maximum(b.absolute(x), b.absolute(y))
    huge, tiny = b.greater(size, large), b.less(size, small)
    one = b.like(x, 1.0)
    before = b.select(huge, b.like(x, 0.25), b.select(tiny, b.like(x, up), one))
    after = b.select(huge, b.like(x, 2.0), b.select(tiny, b.like(x, up**-0.5), one))
    p, q = x * before, y * before
    root = b.sqrt((b.absolute(p) + b.hypot(p, q)) * 0.5)
    other = q / (root + root) * after
    root = root * after
    right = b.greater_equal(x, 0.0)
    real = b.select(right, root, b.absolute(other))
    imaginary = b.select(right, other, b.copysign(root, y))
    zero, endless = b.equal(size, 0.0), b.isinf(y)
    real = b.select(endless, b.absolute(y), b.select(zero, b.like(x, 0.0), real))
    return real, b.select(_either(b, endless, zero), y, imaginary)


# -- exponentials and logarithms --------------------------------------------------------------------------------------


def _halved(b: Builder, x: Any) -> tuple[Any, Any]:
    """x, or half of it where exp(x) would overflow, and whether that is so."""
    above = b.greater(b.absolute(x), 709.0 if _is_double(b, x) else 88.0)
    return b.select(above, x * 0.5, x), above


def exp(b: Builder, z: Pair) -> Pair:
    """exp(x) * (cos y + i * sin y); where exp(x) overflows, by its square root twice."""
    x, y = z
    half, above = _halved(b, x)
    power = b.exp(half)
    again = b.select(above, power, b.like(x, 1.0))
    real, imaginary = power * b.cos(y) * again, power * b.sin(y) * again
    endless = b.logical_not(b.isfinite(y))
    real = b.select(_both(b, endless, b.equal(x, math.inf)), b.like(x, math.inf), real)
    nothing = _both(b, endless, b.equal(x, -math.inf))
    zero = b.like(x, 0.0)
    real, imaginary = b.select(nothing, zero, real), b.select(nothing, zero, imaginary)
    return real, b.select(b.equal(y, 0.0), y, imaginary)


def exp2(b: Builder, z: Pair) -> Pair:
    return exp(b, _scaled(b, z, _LN2))


def expm1(b: Builder, z: Pair) -> Pair:
    """expm1(x) * cos y - 2 * sin(y / 2)^2, where that is not exp(z) - 1 as well."""
    x, y = z
    real, imaginary = exp(b, z)
    turn = b.sin(y * 0.5)
    near = b.expm1(x) * b.cos(y) - turn * turn * 2.0
    plain = _either(b, b.greater_equal(x, 2.0), _either(b, b.logical_not(b.isfinite(x)), b.logical_not(b.isfinite(y))))
    return b.select(plain, real - 1.0, near), imaginary


def _log_length(b: Builder, x: Any, y: Any, near: tuple[Any, Any] | None = None) -> Any:
    """log |x + iy|: with m and n the larger and the smaller magnitude, log(m) + log1p((n/m)^2) / 2, and, m being near 1,
    log1p((m - 1)(m + 1) + n^2) / 2. `near` is a condition and what stands for the argument of log1p where it holds."""
    p, q = b.absolute(x), b.absolute(y)
    m, n = b.maximum(p, q), b.minimum(p, q)
    zero = b.like(x, 0.0)
    middle = _both(b, b.greater_equal(m, 0.5), b.less_equal(m, 2.0))
    ratio = b.select(b.equal(m, 0.0), zero, n / m)
    argument = b.select(middle, (m - 1.0) * (m + 1.0) + n * n, ratio * ratio)
    if near is not None:
        middle = _either(b, middle, near[0])
        argument = b.select(near[0], near[1], argument)
    found = b.log1p(argument) * 0.5 + b.select(middle, zero, b.log(m))
    return b.select(_either(b, b.isinf(x), b.isinf(y)), b.like(x, math.inf), found)


def log(b: Builder, z: Pair) -> Pair:
    """log |z| + i * atan2(y, x)."""
    return _log_length(b, z[0], z[1]), b.atan2(z[1], z[0])


def log2(b: Builder, z: Pair) -> Pair:
    return _scaled(b, log(b, z), 1 / _LN2)


def log10(b: Builder, z: Pair) -> Pair:
    return _scaled(b, log(b, z), 1 / math.log(10))


def log1p(b: Builder, z: Pair) -> Pair:
    """log(1 + z), near 0 by |1 + z|^2 - 1 = x * (2 + x) + y^2."""
    x, y = z
    one = x + 1.0
    near = b.less_equal(b.maximum(b.absolute(x), b.absolute(y)), 0.5)
    return _log_length(b, one, y, (near, x * (x + 2.0) + y * y)), b.atan2(y, one)


def power(b: Builder, x: Pair, y: Pair) -> Pair:
    """exp(y * log(x)); x**0 is 1, 0**y is 0 where y has a positive real part and NaN otherwise."""
    found = exp(b, multiply(b, y, log(b, x)))
    no_base = _both(b, b.equal(x[0], 0.0), b.equal(x[1], 0.0))
    real_exponent = b.equal(y[1], 0.0)
    no_exponent = _both(b, b.equal(y[0], 0.0), real_exponent)
    positive = b.greater(y[0], 0.0)
    of_zero = b.select(positive, b.like(x[0], 0.0), b.like(x[0], math.nan))
    parts = [b.select(no_base, of_zero, part) for part in found]
    one, nothing = b.like(x[0], 1.0), b.like(x[0], 0.0)
    return b.select(no_exponent, one, parts[0]), b.select(no_exponent, nothing, parts[1])


# -- hyperbolic and circular functions ----------------------------------------------------------------------------------


def _hyperbolic(b: Builder, x: Any) -> tuple[Any, Any, Any]:
    """sinh, cosh, and a factor for both: of half of x, and twice its cosh, where they overflow."""
    half, above = _halved(b, x)
    s, c = b.sinh(half), b.cosh(half)
    return s, c, b.select(above, c + c, b.like(x, 1.0))


def sinh(b: Builder, z: Pair) -> Pair:
    """sinh x * cos y + i * cosh x * sin y."""
    x, y = z
    s, c, factor = _hyperbolic(b, x)
    real, imaginary = s * b.cos(y) * factor, c * b.sin(y) * factor
    endless = b.logical_not(b.isfinite(y))
    real = b.select(_both(b, endless, b.isinf(x)), b.absolute(x), b.select(_both(b, endless, b.equal(x, 0.0)), x, real))
    return real, b.select(b.equal(y, 0.0), y, imaginary)


def cosh(b: Builder, z: Pair) -> Pair:
    """cosh x * cos y + i * sinh x * sin y."""
    x, y = z
    s, c, factor = _hyperbolic(b, x)
    real, imaginary = c * b.cos(y) * factor, s * b.sin(y) * factor
    endless = b.logical_not(b.isfinite(y))
    real = b.select(_both(b, endless, b.isinf(x)), b.absolute(x), real)
    imaginary = b.select(_both(b, endless, b.equal(x, 0.0)), b.like(x, 0.0), imaginary)
    return real, b.select(b.equal(y, 0.0), y * b.copysign(b.like(x, 1.0), x), imaginary)


def tanh(b: Builder, z: Pair) -> Pair:
    """(sinh x * cosh x + i * sin y * cos y) / (sinh^2 x + cos^2 y); far out 1, and sin y * cos y / cosh^2 x."""
    x, y = z
    s, c = b.sinh(x), b.cosh(x)
    sine, cosine = b.sin(y), b.cos(y)
    far = b.greater(b.absolute(x), 22.0 if _is_double(b, x) else 12.0)
    length = s * s + cosine * cosine
    real = b.select(far, b.copysign(b.like(x, 1.0), x), s * c / length)
    imaginary = b.select(far, (sine / c) * (cosine / c), sine * cosine / length)
    endless, limit = b.logical_not(b.isfinite(y)), b.isinf(x)
    real = b.select(_both(b, endless, b.logical_not(limit)), b.like(x, math.nan), real)
    real = b.select(b.equal(x, 0.0), x, real)
    imaginary = b.select(_both(b, endless, limit), b.copysign(b.like(x, 0.0), y), imaginary)
    return real, b.select(b.equal(y, 0.0), y, imaginary)


sin = _exchanged(sinh)
tan = _exchanged(tanh)


def cos(b: Builder, z: Pair) -> Pair:
    """cosh(i * z)."""
    return cosh(b, (b.negative(z[1]), z[0]))


# -- inverse functions --------------------------------------------------------------------------------------------------


def _far(b: Builder, p: Any, q: Any) -> Any:
    """Whether 1/|z|^2 is nothing beside 1."""
    bound = 2.0**28 if _is_double(b, p) else 2.0**14
    return _either(b, b.greater(p, bound), b.greater(q, bound))


def _arc(b: Builder, x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    """Hull, Fairgrieve and Tang: for |x| and |y|, with r and s the distances from -1 and 1, a = (r + s) / 2: the ratio
    |x| / a, the other leg d of the triangle that has |x| and a, the imaginary part of asin, and whether z is far out."""
    p, q = b.absolute(x), b.absolute(y)
    r, s = b.hypot(p + 1.0, q), b.hypot(p - 1.0, q)
    a = (r + s) * 0.5
    inside = b.less_equal(p, 1.0)
    sum_ = r + p + 1.0
    reach = a + p
    leg_inside = b.sqrt(reach * 0.5 * (q * q / sum_ + (s + (1.0 - p))))
    leg_outside = q * b.sqrt((reach / sum_ + reach / (s + (p - 1.0))) * 0.5)
    leg = b.select(inside, leg_inside, leg_outside)
    # a - 1 without cancellation; where p < 1 it is q^2 times `slope`.
    strictly = b.less(p, 1.0)
    slope = (b.reciprocal(sum_) + b.reciprocal(s + (1.0 - p))) * 0.5
    near = b.less_equal(a, 1.5)
    excess = b.select(near, (q * q / sum_ + (s + (p - 1.0))) * 0.5, a - 1.0)
    argument = b.select(
        _both(b, near, strictly),
        q * (q * slope + b.sqrt(slope * (a + 1.0))),
        excess + b.sqrt(excess * (a + 1.0)),
    )
    far = _far(b, p, q)
    height = b.select(far, _log_length(b, p, q) + _LN2, b.log1p(argument))
    return p / a, leg, height, far


_CROSSOVER = 0.6417


def asin(b: Builder, z: Pair) -> Pair:
    x, y = z
    ratio, leg, height, far = _arc(b, x, y)
    p, q = b.absolute(x), b.absolute(y)
    angle = b.select(b.less_equal(ratio, _CROSSOVER), b.asin(ratio), b.atan2(p, leg))
    angle = b.select(far, b.atan2(p, q), angle)
    return b.select(b.equal(x, 0.0), x, b.copysign(angle, x)), b.copysign(height, y)


def acos(b: Builder, z: Pair) -> Pair:
    x, y = z
    ratio, leg, height, far = _arc(b, x, y)
    angle = b.select(b.less_equal(ratio, _CROSSOVER), b.acos(b.copysign(ratio, x)), b.atan2(leg, x))
    angle = b.select(far, b.atan2(b.absolute(y), x), angle)
    angle = b.select(b.equal(x, 0.0), b.like(x, math.pi / 2), angle)
    return angle, b.negative(b.copysign(height, y))


def acosh(b: Builder, z: Pair) -> Pair:
    """i * acos(z), or its negative: the one with a real part that is not negative."""
    angle, height = acos(b, z)
    return b.absolute(height), b.copysign(angle, z[1])


def atanh(b: Builder, z: Pair) -> Pair:
    """log1p(4x / ((1 - x)^2 + y^2)) / 4 + i * atan2(2y, (1 - x)(1 + x) - y^2) / 2; beside the pole at 1, where y^2 is
    nothing, log(2 / y) / 2; far out
    1/z + i * pi/2."""
    x, y = z
    p, q = b.absolute(x), b.absolute(y)
    tiny, least, shift = (2.0**-30, 2.0**-1000, 100) if _is_double(b, x) else (2.0**-16, 2.0**-100, 40)
    zero = b.like(x, 0.0)
    off = 1.0 - p
    beside = _both(b, b.equal(p, 1.0), b.less(q, tiny))
    lowest = _both(b, beside, b.less(q, least))
    raised = b.select(lowest, q * 2.0**shift, q)
    argument = b.select(beside, 2.0 / raised - 1.0, p * 4.0 / (off * off + q * q))
    found = b.log1p(argument)
    real = b.select(beside, found * 0.5, found * 0.25) + b.select(lowest, b.like(x, shift * _LN2 / 2), zero)
    angle = b.atan2(q + q, off * (p + 1.0) - q * q) * 0.5
    far = _far(b, p, q)
    m, n = b.maximum(p, q), b.minimum(p, q)
    ratio = n / m
    endless = _either(b, b.isinf(x), b.isinf(y))
    across, up = (b.select(endless, zero, part / m / m / (ratio * ratio + 1.0)) for part in (p, q))
    real = b.select(far, across, real)
    angle = b.select(far, b.select(b.isnan(y), y, math.pi / 2 - up), angle)
    return b.select(b.equal(x, 0.0), x, b.copysign(real, x)), b.copysign(angle, y)


asinh = _exchanged(asin)
atan = _exchanged(atanh)
