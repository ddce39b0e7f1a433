"""Division with a floored quotient (floor_divide, remainder) and a truncated one (fmod), of integers and floats. Layer 2.

The scalar protocol has no remainder of floats, so `_fmod` makes one: exact, without branches, by long division in
chunks of 52 quotient bits. float32 is divided in float64, where 6 chunks cover every quotient; float64 needs 41.
"""

from __future__ import annotations

import numpy as np

from graphc.dtypes import DType, float32, float64
from graphc.ir.op import Elementwise
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops.rules import same_real

__all__ = ["floor_divide", "fmod", "remainder"]

#: Quotient bits that one step of the long division removes: a rounded quotient below 2**52 is off by one at most.
_CHUNK = 52
#: Steps such that (greatest float / least subnormal) < 2**(steps * _CHUNK): 2**277 and 2**2098.
_STEPS: dict[DType, int] = {float32: 6, float64: 41}


def _scaled(s: Scalar, y: S, exponent: int) -> S:
    """y * 2**exponent for exponent >= 0, exact or infinite; in float64."""
    while exponent > 1000:
        y = s.mul(y, s.const(float64, 2.0**1000))
        exponent -= 1000
    return s.mul(y, s.const(float64, 2.0**exponent)) if exponent else y


def _fmod(s: Scalar, x: S, y: S) -> S:
    """C's fmod: x - trunc(x / y) * y, exact, with the sign of x; NaN for y = 0, infinite x and NaN operands.

    The remainder by y * 2**52k is found for k from the greatest down. A step's quotient q may be one too great; the
    remainder x - q * y, by one fma, is exact in both cases, and is mended when it is negative.
    """
    dtype = s.dtype(x)
    wide_x, wide_y = s.abs(s.convert(x, float64)), s.abs(s.convert(y, float64))
    rest = wide_x
    for step in reversed(range(_STEPS[dtype])):
        divisor = _scaled(s, wide_y, step * _CHUNK)
        reduced = _step(s, rest, divisor) if dtype is float32 else _scaled_step(s, rest, divisor)
        rest = s.select(s.ge(rest, divisor), reduced, rest)
    rest = s.select(s.ne(y, y), wide_y, rest)
    return s.copysign(s.convert(rest, dtype), x)


def _step(s: Scalar, rest: S, divisor: S) -> S:
    """The remainder of rest / divisor, where that is below 2**_CHUNK."""
    quotient = s.trunc(s.div(rest, divisor))
    reduced = s.fma(s.neg(quotient), divisor, rest)
    return s.select(s.lt(reduced, s.const(float64, 0.0)), s.add(reduced, divisor), reduced)


def _scaled_step(s: Scalar, rest: S, divisor: S) -> S:
    """`_step` away from the ends of the exponent range, where an fma composed of other instructions is not exact."""
    tiny = s.lt(divisor, s.const(float64, 2.0**-400))
    up, down = s.const(float64, 2.0**500), s.const(float64, 2.0**-500)
    factor, inverse = s.select(tiny, up, down), s.select(tiny, down, up)
    return s.mul(_step(s, s.mul(rest, factor), s.mul(divisor, factor)), inverse)


def _float_divmod(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """NumPy's npy_divmod: (floor_divide, remainder); the remainder has the sign of y."""
    dtype = s.dtype(x)
    zero, one = s.const(dtype, 0.0), s.const(dtype, 1.0)
    mod = _fmod(s, x, y)
    quotient = s.div(s.sub(x, mod), y)
    nonzero = s.ne(mod, zero)
    differ = s.and_(nonzero, s.xor(s.lt(y, zero), s.lt(mod, zero)))
    quotient = s.select(differ, s.sub(quotient, one), quotient)
    mod = s.select(differ, s.add(mod, y), mod)
    mod = s.select(nonzero, mod, s.copysign(zero, y))
    floored = s.floor(quotient)
    floored = s.select(s.gt(s.sub(quotient, floored), s.const(dtype, 0.5)), s.add(floored, one), floored)
    ratio = s.div(x, y)
    floored = s.select(s.ne(quotient, zero), floored, s.copysign(zero, ratio))
    by_zero = s.eq(y, zero)
    # 0 / 0 and x / 0: the plain quotient; the remainder is fmod's NaN.
    return s.select(by_zero, ratio, floored), s.select(by_zero, s.div(zero, zero), mod)


def _integer_divmod(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """Floored division; by zero both are 0; MIN by -1 is MIN with remainder 0."""
    dtype = s.dtype(x)
    zero, one = s.const(dtype, 0), s.const(dtype, 1)
    by_zero = s.eq(y, zero)
    if not dtype.is_signed:
        divisor = s.select(by_zero, one, y)
        return s.select(by_zero, zero, s.idiv(x, divisor)), s.select(by_zero, zero, s.irem(x, divisor))
    minimum = s.const(dtype, -(2 ** (dtype.bits - 1)))
    overflow = s.and_(s.eq(y, s.const(dtype, -1)), s.eq(x, minimum))
    divisor = s.select(s.or_(by_zero, overflow), one, y)
    quotient, rest = s.idiv(x, divisor), s.irem(x, divisor)
    differ = s.and_(s.ne(rest, zero), s.xor(s.lt(divisor, zero), s.lt(rest, zero)))
    quotient = s.select(differ, s.sub(quotient, one), quotient)
    rest = s.select(differ, s.add(rest, divisor), rest)
    return s.select(by_zero, zero, quotient), rest


def _divmod(s: Scalar, x: S, y: S) -> tuple[S, S]:
    return _float_divmod(s, x, y) if s.dtype(x).is_float else _integer_divmod(s, x, y)


floor_divide = register(
    Elementwise(
        name="floor_divide",
        doc="""z = floor(x / y), with NumPy's treatment of rounding: z = (x - remainder(x, y)) / y, snapped to an
        integer. Integers: x // 0 is 0, MIN // -1 is MIN. Floats: x // 0 is x / 0 (infinite or NaN), infinite x gives
        NaN. Derivative: 0.""",
        arity=2,
        types=same_real,
        numpy=np.floor_divide,
        scalar=lambda s, x, y: _divmod(s, x, y)[0],
        heavy=True,
    )
)

remainder = register(
    Elementwise(
        name="remainder",
        doc="""z = x - floor_divide(x, y) * y with the sign of y; a zero result has the sign of y too. Integers: x % 0
        is 0. Floats: exact where x and y agree in sign; x % 0 and infinite x give NaN; x % inf is x or inf.""",
        arity=2,
        types=same_real,
        numpy=np.remainder,
        scalar=lambda s, x, y: _divmod(s, x, y)[1],
        partials=lambda b, z, x, y: (1, b.negative(b.floor_divide(x, y))),
        heavy=True,
        domain=((-3.0, 3.0), (0.7, 0.9)),
    )
)


def _truncated_remainder(s: Scalar, x: S, y: S) -> S:
    """fmod; of integers by zero 0, as NumPy has it."""
    dtype = s.dtype(x)
    if dtype.is_float:
        return _fmod(s, x, y)
    zero, one = s.const(dtype, 0), s.const(dtype, 1)
    by_zero = s.eq(y, zero)
    # MIN by -1 traps in hardware; the remainder by 1 is that by -1.
    trivial = s.or_(by_zero, s.eq(y, s.const(dtype, -1))) if dtype.is_signed else by_zero
    return s.select(trivial, zero, s.irem(x, s.select(trivial, one, y)))


fmod = register(
    Elementwise(
        name="fmod",
        doc="""z = x - trunc(x / y) * y with the sign of x, exact; a zero result has the sign of x too. Integers: x by 0
        is 0. Floats: x by 0 and infinite x give NaN; x by inf is x.""",
        arity=2,
        types=same_real,
        numpy=np.fmod,
        scalar=_truncated_remainder,
        partials=lambda b, z, x, y: (1, b.negative(b.trunc(b.divide(x, y)))),
        heavy=True,
        domain=((-3.0, 3.0), (0.7, 0.9)),
    )
)
