"""The math library: powers, roots and lengths. Layer 2. Bounds stand with the ops in `transcendental`."""

from __future__ import annotations

from graphc.dtypes import float32, float64, int64, uint32
from graphc.ir.scalar import S, Scalar
from graphc.ops import coefficients as c
from graphc.ops.mathbase import (
    INFINITY,
    LN2,
    NAN,
    const,
    exp_reduce,
    is_infinite,
    is_nan,
    log_reduce,
    log_reduce_normal,
    maximum,
    minimum,
    poly,
    strict,
    two_product,
    two_sum,
    two_sum_ordered,
)

__all__ = ["cbrt", "hypot", "pow"]

_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def pow(s: Scalar, x: S, y: S) -> S:
    """x**y with all special cases of C's pow: pow(x, +-0) = pow(1, y) = 1 even for NaN; a negative base with an exponent
    that is no integer gives NaN; zeros and infinities keep the sign of odd integer exponents; pow(-1, +-inf) = 1."""
    s = strict(s)
    base = s.abs(x)
    magnitude = _pow32(s, base, y) if s.dtype(x) is float32 else _pow64(s, base, y)
    return _pow_specials(s, x, y, magnitude)


def _pow32(s: Scalar, base: S, y: S) -> S:
    """base**y for finite positive base through float64: 2**(y * log2(base)), each factor right to 34 bits or more."""
    k, m = log_reduce_normal(s, s.convert(base, float64))
    one = s.const(float64, 1.0)
    t = s.div(s.sub(m, one), s.add(m, one))
    log2 = s.fma(t, poly(s, s.mul(t, t), c.POW32_LOG2_F64), k)
    w = s.mul(s.convert(y, float64), log2)
    w = minimum(s, maximum(s, w, -160.0), 160.0)
    n = s.rint(w)
    power = poly(s, s.sub(w, n), (1.0, *c.POW32_EXP2_F64))
    return s.convert(s.ldexp(power, n), float32)


def _pow64(s: Scalar, base: S, y: S) -> S:
    """base**y for finite positive base: exp(y * log(base)), the logarithm as high and low part, right to 64 bits."""
    high, low = _log_pair(s, base)
    w, w_error = two_product(s, y, high)
    w_error = s.fma(y, low, w_error)
    large, small = s.gt(w, const(s, y, 720.0)), s.lt(w, const(s, y, -760.0))
    outside = s.or_(large, small)
    zero = const(s, y, 0.0)
    w, w_error = s.select(outside, zero, w), s.select(outside, zero, w_error)
    n, r, rest = exp_reduce(s, w)
    power = poly(s, r, (1.0, 1.0, *c.EXP_F64))
    value = s.ldexp(s.fma(s.add(rest, w_error), power, power), n)
    return s.select(large, const(s, y, INFINITY), s.select(small, zero, value))


def _log_pair(s: Scalar, x: S) -> tuple[S, S]:
    """log(x) of a positive finite float64 as high and low part: 2 * atanh(t), t = (m - 1) / (m + 1), plus k * ln 2."""
    k, m = log_reduce(s, x)
    one = const(s, x, 1.0)
    numerator = s.sub(m, one)
    denominator, denominator_error = two_sum(s, m, one)
    t = s.div(numerator, denominator)
    remainder = s.fma(s.neg(t), denominator_error, s.fma(s.neg(t), denominator, numerator))
    t_error = s.div(remainder, denominator)
    z, z_error = two_product(s, t, t)
    z_error = s.fma(s.add(t, t), t_error, z_error)
    # log(m) = t * (2 + z * (2/3 + z * P(z))), the term 2/3 * z in two parts
    third, third_error = two_product(s, z, const(s, x, _TWO_THIRDS[0]))
    third_error = s.fma(z, const(s, x, _TWO_THIRDS[1]), s.fma(z_error, const(s, x, _TWO_THIRDS[0]), third_error))
    rest = s.fma(s.mul(z, z), poly(s, z, c.POW64_LOG_F64), third_error)
    series, series_error = two_sum_ordered(s, third, rest)
    cubic, cubic_error = two_product(s, t, series)
    cubic_error = s.add(cubic_error, s.fma(t, series_error, s.mul(t_error, series)))
    high, error = two_sum_ordered(s, s.add(t, t), cubic)
    error = s.add(error, s.add(cubic_error, s.add(t_error, t_error)))
    ln2_high, ln2_low = LN2[float64]
    total, total_error = two_sum_ordered(s, s.mul(k, const(s, x, ln2_high)), high)
    scaled, scaled_error = two_product(s, k, const(s, x, ln2_low))
    scaled, sum_error = two_sum(s, scaled, total_error)
    total, total_error = two_sum_ordered(s, total, scaled)
    return two_sum_ordered(s, total, s.add(total_error, s.add(error, s.add(sum_error, scaled_error))))


def _pow_specials(s: Scalar, x: S, y: S, magnitude: S) -> S:
    zero, one, infinity = const(s, x, 0.0), const(s, x, 1.0), const(s, x, INFINITY)
    base = s.abs(x)
    rising = s.gt(y, zero)
    # Base 0 or infinity, exponent infinite: 0 or infinity.
    edge = s.or_(s.eq(base, zero), s.eq(base, infinity))
    grows = s.eq(s.gt(base, one), rising)
    extreme = s.select(grows, infinity, zero)
    value = s.select(s.or_(edge, is_infinite(s, y)), extreme, magnitude)
    value = s.select(s.eq(base, one), one, value)
    negative = s.lt(s.copysign(one, x), zero)
    half = s.mul(y, const(s, x, 0.5))
    integer = s.eq(s.trunc(y), y)
    odd = s.and_(integer, s.ne(s.trunc(half), half))
    value = s.select(s.and_(negative, odd), s.neg(value), value)
    undefined = s.and_(s.and_(s.lt(x, zero), s.not_(integer)), s.ne(base, infinity))
    value = s.select(undefined, const(s, x, NAN), value)
    value = s.select(s.or_(is_nan(s, x), is_nan(s, y)), s.add(x, y), value)
    return s.select(s.or_(s.eq(y, zero), s.eq(x, one)), one, value)


def cbrt(s: Scalar, x: S) -> S:
    """Cube root, in float64: a first guess by dividing the exponent by 3, then cubic iterations. Odd; cbrt(inf) = inf."""
    s = strict(s)
    single = s.dtype(x) is float32
    a = s.abs(s.convert(x, float64))
    # Very small and very large float64: scaled by 2**(+-54), the root by 2**(-+18).
    tiny, huge = s.lt(a, s.const(float64, 2.0**-900)), s.gt(a, s.const(float64, 2.0**1000))
    one = s.const(float64, 1.0)
    a = s.mul(a, s.select(tiny, s.const(float64, 2.0**54), s.select(huge, s.const(float64, 2.0**-54), one)))
    top = s.convert(s.lshr(s.bitcast(a, int64), 32), uint32)
    third = s.mul_high(top, s.const(uint32, 0x55555556))
    guess = s.add(third, s.const(uint32, 715094163))  # (1 - 1/3) of the exponent's bias, fdlibm's B1
    root = s.bitcast(s.shl(s.convert(guess, int64), 32), float64)
    for _ in range(2):
        root = _halley(s, a, root)
    if not single:
        root = _cbrt_polish(s, a, root)
    root = s.mul(root, s.select(tiny, s.const(float64, 2.0**-18), s.select(huge, s.const(float64, 2.0**18), one)))
    value = s.copysign(s.convert(root, s.dtype(x)), x)
    unchanged = s.or_(s.eq(x, const(s, x, 0.0)), s.not_(s.lt(s.abs(x), const(s, x, INFINITY))))
    return s.select(unchanged, x, value)


def _halley(s: Scalar, a: S, root: S) -> S:
    """root * (root**3 + 2 * a) / (2 * root**3 + a), as a correction: the relative error is cubed."""
    cube = s.mul(s.mul(root, root), root)
    return s.fma(root, s.div(s.sub(a, cube), s.fma(cube, s.const(float64, 2.0), a)), root)


def _cbrt_polish(s: Scalar, a: S, root: S) -> S:
    """One Newton step with the residual a - root**3 computed in two parts."""
    square, square_error = two_product(s, root, root)
    cube, cube_error = two_product(s, square, root)
    residual = s.sub(s.sub(a, cube), s.fma(square_error, root, cube_error))
    return s.fma(residual, s.div(s.const(float64, 1.0 / 3.0), square), root)


def hypot(s: Scalar, x: S, y: S) -> S:
    """sqrt(x**2 + y**2) without overflow or underflow on the way; infinite if either is, even with NaN."""
    s = strict(s)
    if s.dtype(x) is float32:
        a, b = s.convert(x, float64), s.convert(y, float64)
        value = s.convert(s.sqrt(s.fma(a, a, s.mul(b, b))), float32)
    else:
        value = _hypot64(s, s.abs(x), s.abs(y))
    infinite = s.or_(is_infinite(s, x), is_infinite(s, y))
    return s.select(infinite, const(s, x, INFINITY), value)


def _hypot64(s: Scalar, x: S, y: S) -> S:
    """Operands scaled into the middle of the range; the square root corrected by its exact residual."""
    swap = s.gt(y, x)
    a, b = s.select(swap, y, x), s.select(swap, x, y)
    high, low = s.gt(a, const(s, a, 2.0**500)), s.lt(a, const(s, a, 2.0**-400))
    one = const(s, a, 1.0)
    scale = s.select(high, const(s, a, 2.0**-600), s.select(low, const(s, a, 2.0**600), one))
    back = s.select(high, const(s, a, 2.0**600), s.select(low, const(s, a, 2.0**-600), one))
    a, b = s.mul(a, scale), s.mul(b, scale)
    square, square_error = two_product(s, a, a)
    other, other_error = two_product(s, b, b)
    total, error = two_sum_ordered(s, square, other)
    error = s.add(error, s.add(square_error, other_error))
    root = s.sqrt(total)
    residual = s.add(s.fma(s.neg(root), root, total), error)
    root_corrected = s.fma(residual, s.div(const(s, a, 0.5), root), root)
    zero = const(s, a, 0.0)
    return s.mul(s.select(s.eq(root, zero), root, root_corrected), back)
