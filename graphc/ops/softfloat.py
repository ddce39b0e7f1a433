"""Instructions of the scalar protocol composed of simpler ones, for targets that lack them. Layer 2.

`ldexp` (one instruction with AVX-512 only) and `fma` (absent from baseline x86-64), exact in all their bits. They are
error-free transformations, so `s` must not contract multiplications and additions.
"""

from __future__ import annotations

from graphc.dtypes import DType, float16, float32, float64, int32, int64, uint16, uint32
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


# -- 16-bit floats ----------------------------------------------------------------------------------------------------


def lengthen(s: Scalar, x: S) -> S:
    """A 16-bit float as float32, exactly."""
    pattern = s.convert(s.bitcast(x, uint16), uint32)
    if s.dtype(x) is not float16:
        return s.bitcast(s.shl(pattern, 16), float32)
    sign = s.shl(s.and_(pattern, s.const(uint32, 0x8000)), 16)
    rest = s.shl(s.and_(pattern, s.const(uint32, 0x7FFF)), 13)
    # The exponents' biases differ by 112; a product, unlike a sum of exponents, is right for subnormals too.
    scaled = s.bitcast(s.mul(s.bitcast(rest, float32), s.const(float32, 2.0**112)), uint32)
    special = s.ge(rest, s.const(uint32, 0x7C00 << 13))
    finite_or_not = s.select(special, s.or_(rest, s.const(uint32, 0x7F800000)), scaled)
    return s.bitcast(s.or_(finite_or_not, sign), float32)


def shorten(s: Scalar, x: S, dtype: DType) -> S:
    """A float32 as a 16-bit float, rounded to nearest, ties to even."""
    pattern = s.bitcast(x, uint32)
    size = s.and_(pattern, s.const(uint32, 0x7FFFFFFF))
    short = _half_of(s, size) if dtype is float16 else _upper_half(s, size)
    nan = 0x7E00 if dtype is float16 else 0x7FC0
    short = s.select(s.gt(size, s.const(uint32, 0x7F800000)), s.const(uint32, nan), short)
    sign = s.and_(s.lshr(pattern, 16), s.const(uint32, 0x8000))
    return s.bitcast(s.convert(s.or_(short, sign), uint16), dtype)


def _rounded(s: Scalar, size: S, bits: int) -> S:
    """Half a unit of the bits to be cut off added, a little less where the last kept bit is even."""
    last = s.and_(s.lshr(size, bits), s.const(uint32, 1))
    return s.add(size, s.add(last, s.const(uint32, (1 << (bits - 1)) - 1)))


def _upper_half(s: Scalar, size: S) -> S:
    return s.lshr(_rounded(s, size, 16), 16)


def _half_of(s: Scalar, size: S) -> S:
    """The float16 pattern of a float32 pattern without sign; anything for NaN."""
    infinite = s.const(uint32, 0x7C00)
    normal = s.lshr(s.sub(_rounded(s, size, 13), s.const(uint32, 112 << 23)), 13)
    normal = s.select(s.ge(size, s.const(uint32, (127 + 16) << 23)), infinite, normal)
    # A unit in the last place of 0.5 is the least float16: adding it rounds, and leaves the pattern in the low bits.
    half = s.const(float32, 0.5)
    small = s.sub(s.bitcast(s.add(s.bitcast(size, float32), half), uint32), s.bitcast(half, uint32))
    return s.select(s.lt(size, s.const(uint32, (127 - 14) << 23)), small, normal)


def round_to_odd(s: Scalar, x: S) -> S:
    """A float64 as float32, of the two neighbours of an inexact one that with an odd mantissa: rounding it once more to
    16 bits is rounding once."""
    nearest = s.convert(x, float32)
    back = s.convert(nearest, float64)
    pattern, one = s.bitcast(nearest, uint32), s.const(uint32, 1)
    pattern = s.select(s.gt(s.abs(back), s.abs(x)), s.sub(pattern, one), pattern)
    inexact = s.or_(s.lt(back, x), s.gt(back, x))
    return s.bitcast(s.select(inexact, s.or_(pattern, one), pattern), float32)
