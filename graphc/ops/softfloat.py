"""Instructions of the scalar protocol composed of simpler ones, for targets that lack them. Layer 2.

`ldexp` (one instruction with AVX-512 only) and `fma` (absent from baseline x86-64), exact in all their bits. They are
error-free transformations, so `s` must not contract multiplications and additions.
"""

from __future__ import annotations

from graphc.dtypes import DType, float32, float64, int32, int64
from graphc.ir.scalar import S, Scalar

__all__ = ["fma", "ldexp", "pow2"]

#: Per dtype: least and greatest exponent of a normal number, mantissa bits, same-width signed integer.
_FORMAT: dict[DType, tuple[int, int, int, DType]] = {
    float32: (-126, 127, 23, int32),
    float64: (-1022, 1023, 52, int64),
}


def pow2(s: Scalar, n: S) -> S:
    """2**n for a float n that holds an integer in the range of normal exponents.

    n + bias is added to 1.5 * 2**mantissa, so that it stands in the low bits of the sum, and is shifted into the
    exponent: no conversion instruction (vectors of 64-bit integers have none before AVX-512).
    """
    dtype = s.dtype(n)
    _, bias, mantissa, integer = _FORMAT[dtype]
    magic = s.const(dtype, 1.5 * 2.0**mantissa + bias)
    return s.bitcast(s.shl(s.bitcast(s.add(n, magic), integer), mantissa), dtype)


def ldexp(s: Scalar, x: S, n: S) -> S:
    """x * 2**n, rounded once; n is a float that holds an integer.

    Three multiplications by powers of two, of which at most one rounds. Upwards in steps of the greatest exponent:
    exact, or the result is infinite. Downwards in steps of least + mantissa + 1: a step is only made while more than
    the whole mantissa remains to be shifted, so if it already rounded (its result was subnormal) the final result is
    zero in any case.
    """
    dtype = s.dtype(x)
    least, greatest, mantissa, _ = _FORMAT[dtype]
    down = least + mantissa + 1
    zero, one = s.const(dtype, 0.0), s.const(dtype, 1.0)
    for _ in range(2):
        low, high = s.lt(n, s.const(dtype, least)), s.gt(n, s.const(dtype, greatest))
        step = s.select(low, s.const(dtype, down), s.select(high, s.const(dtype, greatest), zero))
        factor = s.select(low, s.const(dtype, 2.0**down), s.select(high, s.const(dtype, 2.0**greatest), one))
        x, n = s.mul(x, factor), s.sub(n, step)
    n = s.select(s.lt(n, s.const(dtype, least)), s.const(dtype, least), n)
    n = s.select(s.gt(n, s.const(dtype, greatest)), s.const(dtype, greatest), n)
    return s.mul(x, pow2(s, n))


def fma(s: Scalar, x: S, y: S, z: S) -> S:
    """x * y + z, rounded once.

    float32: for all operands. float64: where x * y lies in [2**-960, 2**1000], x and y below 2**990 and z below
    2**1000 in magnitude; elsewhere the result is x * y + z with two roundings.
    """
    return _fma32(s, x, y, z) if s.dtype(x) is float32 else _fma64(s, x, y, z)


def _fma32(s: Scalar, x: S, y: S, z: S) -> S:
    """Through float64: the product is exact, the sum rounded to odd, and rounding that to 24 bits is rounding once."""
    product = s.mul(s.convert(x, float64), s.convert(y, float64))
    return s.convert(_add_odd(s, product, s.convert(z, float64)), float32)


def _fma64(s: Scalar, x: S, y: S, z: S) -> S:
    """Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008."""
    product, low = _two_product(s, x, y)
    t, t_low = _two_sum(s, z, low)
    v, v_low = _two_sum(s, product, t)
    fused = s.add(v, _add_odd(s, t_low, v_low))
    magnitude = s.abs(product)
    inside = s.and_(
        s.and_(s.ge(magnitude, s.const(float64, 2.0**-960)), s.le(magnitude, s.const(float64, 2.0**1000))),
        s.and_(_below(s, x, 2.0**990), s.and_(_below(s, y, 2.0**990), _below(s, z, 2.0**1000))),
    )
    return s.select(inside, fused, s.add(product, z))


def _below(s: Scalar, x: S, bound: float) -> S:
    return s.le(s.abs(x), s.const(float64, bound))


def _two_sum(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """x + y and its rounding error (Knuth)."""
    total = s.add(x, y)
    part = s.sub(total, x)
    return total, s.add(s.sub(x, s.sub(total, part)), s.sub(y, part))


def _two_product(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """x * y and its rounding error (Dekker, Veltkamp)."""
    product = s.mul(x, y)
    (a, b), (c, d) = _split(s, x), _split(s, y)
    error = s.sub(s.mul(a, c), product)
    error = s.add(s.add(s.add(error, s.mul(a, d)), s.mul(b, c)), s.mul(b, d))
    return product, error


def _split(s: Scalar, x: S) -> tuple[S, S]:
    """High and low half of a float64's mantissa."""
    scaled = s.mul(x, s.const(float64, 2.0**27 + 1))
    high = s.sub(scaled, s.sub(scaled, x))
    return high, s.sub(x, high)


def _add_odd(s: Scalar, x: S, y: S) -> S:
    """x + y in float64 rounded to odd: of the two neighbours of an inexact sum the one with an odd mantissa."""
    total, error = _two_sum(s, x, y)
    pattern = s.bitcast(total, int64)
    zero = s.const(float64, 0.0)
    one = s.const(int64, 1)
    outward = s.eq(s.lt(error, zero), s.lt(total, zero))
    # NaN and infinite sums have a NaN error: not inexact.
    inexact = s.or_(s.lt(error, zero), s.gt(error, zero))
    even = s.eq(s.and_(pattern, one), s.const(int64, 0))
    moved = s.select(outward, s.add(pattern, one), s.sub(pattern, one))
    return s.bitcast(s.select(s.and_(inexact, even), moved, pattern), float64)
