"""The scalar protocol over NumPy arrays. Layer 2.

It runs every op's lowering and the math library without LLVM. Every instruction gives the very bits that hardware gives
(payloads of NaN apart): tests of bit equality rest on it. `fma` is the one instruction NumPy lacks; it is composed
here independently of `graphc.ops.softfloat`, which the code generator uses, so that comparing them means something.

Warnings are the caller's business: run rules under `np.errstate(all="ignore")`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import DType, float32, from_numpy, uint32, uint64

__all__ = ["NumpyScalar"]

Array = NDArray[Any]


class NumpyScalar:
    """The protocol; values are arrays (constants are 0-d arrays, broadcast by NumPy)."""

    # -- values -------------------------------------------------------------------------------------------------
    def const(self, dtype: DType, value: float | int | bool) -> Array:
        if dtype.is_integer:
            return self.bits(dtype, int(value) % 2**dtype.bits)
        return np.asarray(value, dtype=dtype.numpy)

    def bits(self, dtype: DType, pattern: int) -> Array:
        if dtype.is_bool:
            return np.asarray(bool(pattern))
        return np.asarray(pattern, dtype=f"u{dtype.itemsize}").view(dtype.numpy)

    def dtype(self, x: Array) -> DType:
        return from_numpy(x.dtype)

    # -- arithmetic -----------------------------------------------------------------------------------------------
    def add(self, x: Array, y: Array) -> Array:
        return np.asarray(np.add(x, y, dtype=_same(x, y)))

    def sub(self, x: Array, y: Array) -> Array:
        return np.asarray(np.subtract(x, y, dtype=_same(x, y)))

    def mul(self, x: Array, y: Array) -> Array:
        return np.asarray(np.multiply(x, y, dtype=_same(x, y)))

    def neg(self, x: Array) -> Array:
        return np.asarray(np.negative(x))

    # -- floats ---------------------------------------------------------------------------------------------------
    def div(self, x: Array, y: Array) -> Array:
        return np.asarray(np.divide(x, y, dtype=_same(x, y)))

    def fma(self, x: Array, y: Array, z: Array) -> Array:
        dtype = _same(x, y, z)
        x, y, z = np.broadcast_arrays(x, y, z)
        return _fma32(x, y, z) if dtype == float32.numpy else _fma64(x, y, z)

    def sqrt(self, x: Array) -> Array:
        return np.asarray(np.sqrt(x))

    def abs(self, x: Array) -> Array:
        return np.asarray(np.abs(x))

    def copysign(self, x: Array, y: Array) -> Array:
        return np.asarray(np.copysign(x, y, dtype=_same(x, y)))

    def floor(self, x: Array) -> Array:
        return np.asarray(np.floor(x))

    def ceil(self, x: Array) -> Array:
        return np.asarray(np.ceil(x))

    def trunc(self, x: Array) -> Array:
        return np.asarray(np.trunc(x))

    def rint(self, x: Array) -> Array:
        return np.asarray(np.rint(x))

    def ldexp(self, x: Array, n: Array) -> Array:
        _same(x, n)
        exponent = np.clip(np.nan_to_num(n), -5000, 5000).astype(np.int32)
        return np.asarray(np.ldexp(x, exponent))

    # -- integers -------------------------------------------------------------------------------------------------
    def idiv(self, x: Array, y: Array) -> Array:
        return _idiv(x, y)

    def irem(self, x: Array, y: Array) -> Array:
        return np.asarray(np.fmod(x, y, dtype=_same(x, y)))

    def and_(self, x: Array, y: Array) -> Array:
        return np.asarray(np.bitwise_and(x, y, dtype=_same(x, y)))

    def or_(self, x: Array, y: Array) -> Array:
        return np.asarray(np.bitwise_or(x, y, dtype=_same(x, y)))

    def xor(self, x: Array, y: Array) -> Array:
        return np.asarray(np.bitwise_xor(x, y, dtype=_same(x, y)))

    def not_(self, x: Array) -> Array:
        return np.asarray(np.invert(x))

    def shl(self, x: Array, n: int) -> Array:
        return np.asarray(np.left_shift(x, x.dtype.type(n)))

    def lshr(self, x: Array, n: int) -> Array:
        unsigned = x.view(f"u{x.dtype.itemsize}")
        return np.asarray(np.right_shift(unsigned, unsigned.dtype.type(n))).view(x.dtype)

    def ashr(self, x: Array, n: int) -> Array:
        signed = x.view(f"i{x.dtype.itemsize}")
        return np.asarray(np.right_shift(signed, signed.dtype.type(n))).view(x.dtype)

    def mul_high(self, x: Array, y: Array) -> Array:
        dtype = _same(x, y)
        product = np.multiply(x.astype(uint64.numpy), y.astype(uint64.numpy))
        return np.asarray(np.right_shift(product, np.uint64(32)).astype(dtype))

    # -- comparison -------------------------------------------------------------------------------------------------
    def lt(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.less(x, y))

    def le(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.less_equal(x, y))

    def gt(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.greater(x, y))

    def ge(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.greater_equal(x, y))

    def eq(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.equal(x, y))

    def ne(self, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.not_equal(x, y))

    # -- what is rare, what is repeated, and tables ----------------------------------------------------------------
    def rarely(self, c: Array, then: Callable[[], tuple[Array, ...]], values: tuple[Array, ...]) -> tuple[Array, ...]:
        if not c.any():
            return values
        return tuple(self.select(c, x, y) for x, y in zip(then(), values, strict=True))

    def repeat(
        self,
        count: int,
        active: Array,
        step: Callable[[Array, tuple[Array, ...]], tuple[Array, tuple[Array, ...]]],
        values: tuple[Array, ...],
    ) -> tuple[Array, ...]:
        for number in range(count):
            if not active.any():
                break
            goes_on, found = step(self.const(uint32, number), values)
            values = tuple(self.select(active, x, y) for x, y in zip(found, values, strict=True))
            active = self.and_(active, goes_on)
        return values

    def lookup(self, table: tuple[float, ...], index: Array) -> Array:
        return np.asarray(np.asarray(table)[index])

    # -- selection and conversion -----------------------------------------------------------------------------------
    def select(self, c: Array, x: Array, y: Array) -> Array:
        _same(x, y)
        return np.asarray(np.where(c, x, y))

    def convert(self, x: Array, dtype: DType) -> Array:
        assert not dtype.is_bool or x.dtype == np.bool_, "to bool is a comparison"
        return x.astype(dtype.numpy)

    def bitcast(self, x: Array, dtype: DType) -> Array:
        assert from_numpy(x.dtype).bits == dtype.bits, (x.dtype, dtype)
        return x.view(dtype.numpy)


def _same(*operands: Array) -> np.dtype[Any]:
    """The operands' one dtype: nothing is promoted."""
    first = operands[0].dtype
    assert all(x.dtype == first for x in operands), [x.dtype for x in operands]
    return first


def _idiv(x: Array, y: Array) -> Array:
    """Truncated quotient from NumPy's floored one."""
    dtype = _same(x, y)
    quotient = np.floor_divide(x, y, dtype=dtype)
    if dtype.kind == "u":
        return np.asarray(quotient)
    inexact_and_negative = (np.fmod(x, y) != 0) & ((x < 0) != (y < 0))
    return np.asarray(quotient + inexact_and_negative.astype(dtype))


def _fma32(x: Array, y: Array, z: Array) -> Array:
    """Exact product in float64, sum rounded to odd, then to float32: rounded once."""
    product, addend = x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)
    return np.asarray(_add_odd(product, addend).astype(np.float32))


def _fma64(x: Array, y: Array, z: Array) -> Array:
    """Error-free transformations where they are exact, the plain result where it is, rational arithmetic elsewhere."""
    plain = np.asarray(x * y)
    size = np.abs(plain)
    addend = np.abs(z)
    finite = np.isfinite(x) & np.isfinite(y)
    with_zero = finite & ((x == 0) | (y == 0))
    result = np.asarray(plain + z)  # right for zero factors and where x or y is not finite
    done = ~finite | with_zero
    # An infinite or NaN z decides alone over finite factors, although their product may overflow.
    lone = finite & ~np.isfinite(z)
    result = np.where(lone, z, result)
    # z = 0 adds nothing, not even its sign, to a product that is not zero.
    no_addend = finite & ~with_zero & (z == 0)
    result = np.where(no_addend, plain, result)
    # A product far below half a unit in the last place of z.
    far_below = finite & np.isfinite(z) & (size < 2.0**-960) & (addend > 2.0**-800)
    result = np.where(far_below, z, result)
    done = done | lone | no_addend | (far_below & ~with_zero)
    inside = (size >= 2.0**-960) & (size <= 2.0**1000) & (addend <= 2.0**1000)
    inside &= (np.abs(x) <= 2.0**990) & (np.abs(y) <= 2.0**990) & ~done
    result = np.where(inside, _fma64_inside(x, y, z, plain), result)
    rest = ~(done | inside)
    if rest.any():
        result[rest] = [_fma_rational(*operands) for operands in zip(x[rest], y[rest], z[rest], strict=True)]
    return np.asarray(result)


def _fma64_inside(x: Array, y: Array, z: Array, product: Array) -> Array:
    """Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008."""
    (a, b), (c, d) = _split(x), _split(y)
    low = (((a * c - product) + a * d) + b * c) + b * d
    t, t_low = _two_sum(z, low)
    v, v_low = _two_sum(product, t)
    return np.asarray(v + _add_odd(t_low, v_low))


def _split(x: Array) -> tuple[Array, Array]:
    scaled = x * (2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _add_odd(x: Array, y: Array) -> Array:
    """x + y rounded to odd: an inexact sum with an even mantissa moves one step towards the exact value."""
    total, error = _two_sum(x, y)
    even = (np.asarray(total).view(np.int64) & 1) == 0
    inexact = (error < 0) | (error > 0)
    return np.where(even & inexact, np.nextafter(total, np.copysign(np.inf, error)), total)


def _fma_rational(x: float, y: float, z: float) -> float:
    """By rational arithmetic, for finite operands of any size; x, y and z are not zero."""
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    if exact == 0:
        return 0.0
    try:
        return float(np.copysign(float(exact), 1 if exact > 0 else -1))
    except OverflowError:
        return float(np.copysign(np.inf, 1 if exact > 0 else -1))
