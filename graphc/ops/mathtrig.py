"""The math library: trigonometric functions and their inverses. Layer 2. Bounds stand with the ops in `transcendental`."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from graphc.dtypes import float32, float64, int32, int64
from graphc.ir.scalar import S, Scalar
from graphc.ops import coefficients as c
from graphc.ops.mathbase import (
    INFINITY,
    INTEGER,
    const,
    is_nan,
    poly,
    strict,
    two_product,
    two_sum,
    two_sum_ordered,
)

__all__ = ["acos", "asin", "atan", "atan2", "cos", "sin", "tan"]

#: From this magnitude on, float64 is reduced by `_reduce_large`.
_LARGE = 2.0**50
_LARGE_EXPONENT = 1023 + 50
#: 2/pi * 2**1280, rounded down.
_TWO_OVER_PI_BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1d"
    "eb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b"
    "5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b"
    "6babf0cfbc209af4361d",
    16,
)
#: Powers of two in one step of `_large_table`.
_STEP = 16

#: Added to a small float64, this rounds it to an integer that stands in the low bits of the sum.
_ROUND = 1.5 * 2.0**52
#: Per power of two e: 2**e * 2/pi modulo 4, as high and low part.
_TWO_OVER_PI = {
    0: (0.6366197723675814, -3.935735335036497e-17),
    22: (0.8577204358975871, 2.5476313601644308e-17),
    44: (0.25516699311764457, -9.36186138372574e-18),
    66: (-0.06009869095139399, 1.858264037650871e-19),
    88: (-0.17985219560718455, 8.109755044395704e-18),
}
#: pi/2 as the sum of three float64.
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
#: pi/2 as high and low part, per dtype.
_HALF_PI_OF = {float32: (1.5707963705062866, -4.371138828673793e-08), float64: _HALF_PI[:2]}


def _reduce32(s: Scalar, x: S) -> tuple[S, S, S]:
    """x = j * pi/2 + r + low for float32 x of any size: r, low and the low bits of j as i32.

    In float64. x = h * 2**e with |h| < 2**46; where e > 0, h is an integer, so 2**e * 2/pi counts modulo 4 only.
    """
    size = s.abs(x)
    scale = s.const(float32, 1.0)
    high, low = (s.const(float64, v) for v in _TWO_OVER_PI[0])
    for e, (part, rest) in list(_TWO_OVER_PI.items())[1:]:
        above = s.ge(size, s.const(float32, 2.0 ** (e + 24)))
        scale = s.select(above, s.const(float32, 2.0**-e), scale)
        high = s.select(above, s.const(float64, part), high)
        low = s.select(above, s.const(float64, rest), low)
    h = s.convert(s.mul(x, scale), float64)
    magic = s.const(float64, _ROUND)
    rounded = s.fma(h, high, magic)
    j = s.sub(rounded, magic)
    turns = s.fma(h, low, s.fma(h, high, s.neg(j)))
    angle = s.mul(turns, s.const(float64, _HALF_PI[0]))
    r = s.convert(angle, float32)
    rest = s.convert(s.sub(angle, s.convert(r, float64)), float32)
    return r, rest, s.convert(s.bitcast(rounded, int64), int32)


def _reduce64(s: Scalar, x: S) -> tuple[S, S, S]:
    """x = j * pi/2 + r + low for float64 x below _LARGE; the bits of j as i64. Cody and Waite with fused steps."""
    magic = s.const(float64, _ROUND)
    rounded = s.fma(x, s.const(float64, _TWO_OVER_PI[0][0]), magic)
    j = s.sub(rounded, magic)
    first, second, third = (s.const(float64, -p) for p in _HALF_PI)
    exact = s.fma(j, first, x)
    product = s.mul(j, second)
    product_error = s.fma(j, second, s.neg(product))
    r, low = two_sum(s, exact, product)
    low = s.add(low, s.fma(j, third, product_error))
    r, low = two_sum_ordered(s, r, low)
    return r, low, s.bitcast(rounded, int64)


@lru_cache(maxsize=1)
def _large_table() -> tuple[tuple[float, ...], ...]:
    """For k = 0, 1, ...: 2**(16k) * 2/pi modulo 16 as a sum of four float64 (212 bits); as four columns."""
    rows = []
    for k in range((2046 - _LARGE_EXPONENT) // _STEP + 1):
        rest = Fraction((_TWO_OVER_PI_BITS << (_STEP * k)) % (16 << 1280), 1 << 1280)
        if rest >= 8:
            rest -= 16
        row = []
        for _ in range(4):
            row.append(float(rest))
            rest -= Fraction(row[-1])
        rows.append(row)
    return tuple(zip(*rows, strict=True))


def _modulo_4(s: Scalar, x: S) -> S:
    """x less a multiple of 4, exact, within +-2."""
    return s.fma(s.rint(s.mul(x, s.const(float64, 0.25))), s.const(float64, -4.0), x)


def _reduce_large(s: Scalar, x: S) -> tuple[S, S, S]:
    """As `_reduce64`, for |x| from _LARGE on (Payne and Hanek 1983, in float64).

    x = h * 2**(16k) with |h| in [2**50, 2**66), a multiple of 1/4, so 2**(16k) * 2/pi counts modulo 16 only. Its four
    parts times h are exact pairs; whole turns are dropped from the large ones, and three passes of error-free sums leave
    what cancels to 2**-62 at worst with some 60 bits.
    """
    exponent = s.and_(s.lshr(s.bitcast(x, int64), 52), s.const(int64, 0x7FF))
    above = s.sub(exponent, s.const(int64, _LARGE_EXPONENT))
    above = s.select(s.gt(above, s.const(int64, 0)), above, s.const(int64, 0))
    k = s.lshr(above, 4)
    scale = s.bitcast(s.shl(s.sub(s.const(int64, 1023), s.shl(k, 4)), 52), float64)
    h = s.mul(x, scale)
    p0, p1, p2, p3 = (s.lookup(column, k) for column in _large_table())
    q0, e0 = two_product(s, h, p0)
    q1, e1 = two_product(s, h, p1)
    q2, e2 = two_product(s, h, p2)
    turns = [_modulo_4(s, v) for v in (q1, e0, q0)]
    j = s.rint(s.add(s.add(turns[0], turns[1]), turns[2]))
    terms = [s.fma(h, p3, e2), q2, e1, *turns, s.neg(j)]
    for _ in range(3):
        for i in range(1, len(terms)):
            terms[i], terms[i - 1] = two_sum(s, terms[i], terms[i - 1])
    rest = terms[0]
    for term in terms[1:-1]:
        rest = s.add(rest, term)
    turn, low = two_sum(s, terms[-1], rest)
    angle, error = two_product(s, turn, s.const(float64, _HALF_PI[0]))
    error = s.fma(low, s.const(float64, _HALF_PI[0]), s.fma(turn, s.const(float64, _HALF_PI[1]), error))
    r, low = two_sum_ordered(s, angle, error)
    return r, low, s.bitcast(s.add(j, s.const(float64, _ROUND)), int64)


def _reduce(s: Scalar, x: S) -> tuple[S, S, S]:
    """x = j * pi/2 + r + low: r, low, and the low bits of j as an integer of x's width."""
    if s.dtype(x) is float32:
        return _reduce32(s, x)
    large = s.ge(s.abs(x), const(s, x, _LARGE))
    r, low, quadrant = s.rarely(large, lambda: _reduce_large(s, x), _reduce64(s, x))
    return r, low, quadrant


def _sine_cosine(s: Scalar, x: S) -> tuple[S, S, S]:
    """sin and cos of the reduced argument, and the quadrant's integer."""
    single = s.dtype(x) is float32
    r, low, quadrant = _reduce(s, x)
    z = s.mul(r, r)
    half, one = const(s, x, 0.5), const(s, x, 1.0)
    # sin(r + low) = r + r**3 * P + low * (1 - z/2)
    sine = poly(s, z, c.SIN_F32 if single else c.SIN_F64)
    slope = s.mul(low, s.fma(z, s.neg(half), one))
    sine = s.add(r, s.fma(s.mul(r, z), sine, slope))
    # cos(r + low) = 1 - z/2 + z**2 * Q - r * low
    cosine = poly(s, z, c.COS_F32 if single else c.COS_F64)
    half_z = s.mul(z, half)
    top = s.sub(one, half_z)
    error = s.sub(s.sub(one, top), half_z)
    cosine = s.add(top, s.add(error, s.fma(s.mul(z, z), cosine, s.neg(s.mul(r, low)))))
    return sine, cosine, quadrant


def _is_odd(s: Scalar, quadrant: S) -> S:
    integer = s.dtype(quadrant)
    return s.ne(s.and_(quadrant, s.const(integer, 1)), s.const(integer, 0))


def _negate_if_bit_1(s: Scalar, value: S, quadrant: S) -> S:
    """-value where bit 1 of the quadrant is set."""
    dtype = s.dtype(value)
    integer = INTEGER[dtype]
    sign = s.shl(s.lshr(quadrant, 1), dtype.bits - 1)
    return s.bitcast(s.xor(s.bitcast(value, integer), sign), dtype)


def sin(s: Scalar, x: S) -> S:
    """sin(x). Odd; sin(-0.0) = -0.0; sin(+-inf) = NaN."""
    s = strict(s)
    sine, cosine, quadrant = _sine_cosine(s, x)
    value = s.select(_is_odd(s, quadrant), cosine, sine)
    value = _negate_if_bit_1(s, value, quadrant)
    return s.select(s.eq(x, const(s, x, 0.0)), x, value)


def cos(s: Scalar, x: S) -> S:
    """cos(x). Even; cos(0) = 1; cos(+-inf) = NaN."""
    s = strict(s)
    sine, cosine, quadrant = _sine_cosine(s, x)
    following = s.add(quadrant, s.const(s.dtype(quadrant), 1))
    value = s.select(_is_odd(s, quadrant), sine, cosine)
    return _negate_if_bit_1(s, value, following)


def tan(s: Scalar, x: S) -> S:
    """tan(x) = sin / cos. Odd; tan(-0.0) = -0.0; tan(+-inf) = NaN."""
    s = strict(s)
    sine, cosine, quadrant = _sine_cosine(s, x)
    odd = _is_odd(s, quadrant)
    value = s.div(s.select(odd, s.neg(cosine), sine), s.select(odd, sine, cosine))
    return s.select(s.eq(x, const(s, x, 0.0)), x, value)


# -- inverse functions ----------------------------------------------------------------------------------------------


def _atan_inside(s: Scalar, t: S) -> S:
    """atan(t) for |t| <= 1."""
    z = s.mul(t, t)
    rest = s.mul(z, poly(s, z, c.ATAN_F32 if s.dtype(t) is float32 else c.ATAN_F64))
    return s.fma(t, rest, t)


def atan(s: Scalar, x: S) -> S:
    """atan(x); beyond 1 as pi/2 - atan(1 / x). Odd; atan(-0.0) = -0.0, atan(inf) = pi/2."""
    s = strict(s)
    a = s.abs(x)
    one = const(s, x, 1.0)
    inverted = s.gt(a, one)
    value = _atan_inside(s, s.select(inverted, s.div(one, a), a))
    high, low = (const(s, x, v) for v in _HALF_PI_OF[s.dtype(x)])
    value = s.select(inverted, s.sub(high, s.sub(value, low)), value)
    return s.copysign(value, x)


def atan2(s: Scalar, y: S, x: S) -> S:
    """The angle of the point (x, y) in (-pi, pi], zeros and infinities as in C: atan2(-0.0, -1.0) = -pi."""
    s = strict(s)
    zero, one = const(s, x, 0.0), const(s, x, 1.0)
    ax, ay = s.abs(x), s.abs(y)
    steep = s.gt(ay, ax)
    small, large = s.select(steep, ax, ay), s.select(steep, ay, ax)
    ratio = s.div(small, large)
    ratio = s.select(s.eq(large, zero), zero, ratio)
    ratio = s.select(s.eq(small, const(s, x, INFINITY)), one, ratio)
    value = _atan_inside(s, ratio)
    left = s.lt(s.copysign(one, x), zero)
    half_high, half_low = _HALF_PI_OF[s.dtype(x)]
    # base - value or base + value, base a multiple of pi/2
    high = s.select(steep, const(s, x, half_high), s.select(left, const(s, x, 2 * half_high), zero))
    low = s.select(steep, const(s, x, half_low), s.select(left, const(s, x, 2 * half_low), zero))
    signed = s.select(s.xor(steep, left), s.neg(value), value)
    value = s.copysign(s.add(high, s.add(signed, low)), y)
    return s.select(s.or_(is_nan(s, x), is_nan(s, y)), s.add(x, y), value)


def _asin_parts(s: Scalar, x: S) -> tuple[S, S, S]:
    """Where abs(x) > 1/2; then w = sqrt((1 - abs(x)) / 2), else abs(x); and asin(w) - w."""
    a = s.abs(x)
    half = const(s, x, 0.5)
    big = s.gt(a, half)
    z = s.select(big, s.mul(s.sub(const(s, x, 1.0), a), half), s.mul(a, a))
    w = s.select(big, s.sqrt(z), a)
    rest = s.mul(z, poly(s, z, c.ASIN_F32 if s.dtype(x) is float32 else c.ASIN_F64))
    return big, w, s.mul(w, rest)


def asin(s: Scalar, x: S) -> S:
    """asin(x); above 1/2 as pi/2 - 2 * asin(sqrt((1 - x) / 2)). Odd; asin(-0.0) = -0.0; NaN beyond +-1."""
    s = strict(s)
    big, w, rest = _asin_parts(s, x)
    high, low = (const(s, x, v) for v in _HALF_PI_OF[s.dtype(x)])
    top, error = two_sum_ordered(s, high, s.neg(s.add(w, w)))
    large = s.add(top, s.sub(s.add(error, low), s.add(rest, rest)))
    return s.copysign(s.select(big, large, s.add(w, rest)), x)


def acos(s: Scalar, x: S) -> S:
    """acos(x): 2 * asin(sqrt((1 - x) / 2)) above 1/2, from pi below -1/2, else pi/2 - asin(x). acos(1) = 0; NaN beyond +-1."""
    s = strict(s)
    big, w, rest = _asin_parts(s, x)
    half_high, half_low = _HALF_PI_OF[s.dtype(x)]
    negative = s.lt(x, const(s, x, 0.0))
    two_w, two_rest = s.add(w, w), s.add(rest, rest)
    # Below 1/2: base - part with part = x (asin(w) = w + rest) or, beyond -1/2, 2 * w.
    high = s.select(big, const(s, x, 2 * half_high), const(s, x, half_high))
    low = s.select(big, const(s, x, 2 * half_low), const(s, x, half_low))
    part = s.select(big, two_w, x)
    part_rest = s.select(big, two_rest, s.copysign(rest, x))
    top, error = two_sum_ordered(s, high, s.neg(part))
    below = s.add(top, s.sub(s.add(error, low), part_rest))
    right = s.and_(big, s.not_(negative))
    return s.select(right, s.add(two_w, two_rest), below)
