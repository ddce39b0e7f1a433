"""Elementwise arithmetic that is exactly rounded: ring operations, square root, extrema, signs, rounding. Layer 2.

All ops take operands of one dtype and one shape; empty operands give an empty result. Which take complex numbers say their
types: `same_number`, `same_inexact`, `magnitude`. NaN operands give NaN unless the
op's doc says otherwise; integers wrap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dtypes import float32
from graphc.ir.op import Builder, Elementwise, Masked
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops import complexmath
from graphc.ops.mathbase import INTEGER
from graphc.ops.rules import magnitude, same_float, same_inexact, same_number, same_real

__all__ = [
    "absolute",
    "add",
    "ceil",
    "copysign",
    "divide",
    "floor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "reciprocal",
    "rint",
    "sign",
    "sqrt",
    "square",
    "subtract",
    "trunc",
]

add = register(
    Elementwise(
        name="add",
        doc="z = x + y. (+inf) + (-inf) is NaN; (-0.0) + (+0.0) is +0.0; integers wrap.",
        arity=2,
        types=same_number,
        numpy=np.add,
        scalar=lambda s, x, y: s.add(x, y),
        parts=complexmath.each_part("add"),
        partials=lambda b, z, x, y: (1, 1),
    )
)

subtract = register(
    Elementwise(
        name="subtract",
        doc="z = x - y. inf - inf is NaN; x - x is +0.0; integers wrap.",
        arity=2,
        types=same_number,
        numpy=np.subtract,
        scalar=lambda s, x, y: s.sub(x, y),
        parts=complexmath.each_part("subtract"),
        partials=lambda b, z, x, y: (1, -1),
    )
)

multiply = register(
    Elementwise(
        name="multiply",
        doc="z = x * y. 0 * inf is NaN; the sign of a zero follows from both operands; integers wrap.",
        arity=2,
        types=same_number,
        numpy=np.multiply,
        scalar=lambda s, x, y: s.mul(x, y),
        parts=complexmath.multiply,
        complex_ulp=2.0,
        partials=lambda b, z, x, y: (y, x),
    )
)

divide = register(
    Elementwise(
        name="divide",
        doc="z = x / y, floats only. x / 0 is infinite with the signs' product, 0 / 0 and inf / inf are NaN.",
        arity=2,
        types=same_inexact,
        numpy=np.divide,
        scalar=lambda s, x, y: s.div(x, y),
        parts=complexmath.divide,
        complex_ulp=4.0,
        partials=lambda b, z, x, y: (b.reciprocal(y), b.negative(b.divide(z, y))),
        domain=((-3.0, 3.0), (0.5, 3.0)),
    )
)


def _extremum_partials(b: Builder, x: Any, y: Any, x_wins: Any) -> tuple[Masked, Masked]:
    """The winner takes all; equal operands share in halves."""
    half = b.select(b.equal(x, y), b.like(x, 0.5), b.like(x, 1.0))
    tie_or = b.bitwise_or(x_wins, b.equal(x, y))
    return Masked(tie_or, half), Masked(b.logical_not(x_wins), half)


def _maximum_scalar(s: Scalar, x: S, y: S) -> S:
    if not s.dtype(x).is_float:
        return s.select(s.gt(x, y), x, y)
    return s.select(s.or_(s.gt(x, y), s.ne(x, x)), x, y)


def _minimum_scalar(s: Scalar, x: S, y: S) -> S:
    if not s.dtype(x).is_float:
        return s.select(s.lt(x, y), x, y)
    return s.select(s.or_(s.lt(x, y), s.ne(x, x)), x, y)


maximum = register(
    Elementwise(
        name="maximum",
        doc="""z = x if x > y or x is NaN, else y: NaN of either operand gives NaN. Of zeros with different signs y is
        taken (NumPy does so on x86-64 but promises nothing). Derivative: equal operands share in halves.""",
        arity=2,
        types=same_real,
        numpy=np.maximum,
        scalar=_maximum_scalar,
        partials=lambda b, z, x, y: _extremum_partials(b, x, y, b.greater(x, y)),
    )
)

minimum = register(
    Elementwise(
        name="minimum",
        doc="""z = x if x < y or x is NaN, else y: NaN of either operand gives NaN. Of zeros with different signs y is
        taken (NumPy does so on x86-64 but promises nothing). Derivative: equal operands share in halves.""",
        arity=2,
        types=same_real,
        numpy=np.minimum,
        scalar=_minimum_scalar,
        partials=lambda b, z, x, y: _extremum_partials(b, x, y, b.less(x, y)),
    )
)

negative = register(
    Elementwise(
        name="negative",
        doc="""y = -x: flips the sign bit of floats, zeros included; integers wrap (-MIN is MIN, unsigned modulo
        2**bits).""",
        arity=1,
        types=same_number,
        numpy=np.negative,
        scalar=lambda s, x: s.neg(x),
        parts=complexmath.each_part("negative"),
        partials=lambda b, y, x: (-1,),
    )
)


def _absolute_scalar(s: Scalar, x: S) -> S:
    return s.abs(x) if s.dtype(x).is_signed else x


def _absolute_vjp(b: Builder, ct: Any, x: Any) -> list[Any]:
    direction = b.sign(x)
    if not b.type(x).dtype.is_complex:
        return [b.multiply(ct, direction)]
    return [b.make_complex(b.multiply(ct, b.real(direction)), b.multiply(ct, b.imag(direction)))]


absolute = register(
    Elementwise(
        name="absolute",
        doc="""y = |x|: clears the sign bit of floats; |MIN| is MIN for integers. Of complex numbers the length, as hypot of the
        parts has it: an infinite part gives inf, even beside NaN. Derivative at 0: 0.""",
        arity=1,
        types=magnitude,
        numpy=np.absolute,
        scalar=_absolute_scalar,
        parts=complexmath.absolute,
        complex_ulp=2.0,
        partials=lambda b, y, x: (b.sign(x),),
        vjp=_absolute_vjp,
    )
)


def _sign_scalar(s: Scalar, x: S) -> S:
    dtype = s.dtype(x)
    zero, one = s.const(dtype, 0), s.const(dtype, 1)
    positive = s.select(s.gt(x, zero), one, zero)
    if not dtype.is_signed:
        return positive
    y = s.select(s.lt(x, zero), s.const(dtype, -1), positive)
    return s.select(s.ne(x, x), x, y) if dtype.is_float else y


def _sign_vjp(b: Builder, ct: Any, x: Any) -> list[Any]:
    """The part of ct at right angles to x, by |x|: z/|z| changes by turning only."""
    if not b.type(x).dtype.is_complex:
        return [None]
    y, length = b.sign(x), b.absolute(x)
    along = b.add(b.multiply(b.real(ct), b.real(y)), b.multiply(b.imag(ct), b.imag(y)))
    zero = b.equal(length, b.like(length, 0.0))
    parts = [
        b.select(zero, b.like(length, 0.0), b.divide(b.subtract(part(ct), b.multiply(along, part(y))), length))
        for part in (b.real, b.imag)
    ]
    return [b.make_complex(*parts)]


sign = register(
    Elementwise(
        name="sign",
        doc="""y = -1, 0 or 1 by the sign of x; sign(-0.0) is +0.0; NaN gives NaN. Derivative: 0. Of complex numbers x / |x|,
        0 for 0; one infinite part gives its sign, two give NaN.""",
        arity=1,
        types=same_number,
        numpy=np.sign,
        scalar=_sign_scalar,
        parts=complexmath.sign,
        complex_ulp=3.0,
        vjp=_sign_vjp,
    )
)

sqrt = register(
    Elementwise(
        name="sqrt",
        doc="y = sqrt(x), correctly rounded. sqrt(-0.0) is -0.0; negative x gives NaN. Derivative at 0: infinity.",
        arity=1,
        types=same_inexact,
        numpy=np.sqrt,
        scalar=lambda s, x: s.sqrt(x),
        parts=complexmath.sqrt,
        complex_ulp=3.0,
        partials=lambda b, y, x: (b.divide(0.5, y),),
        domain=((0.1, 4.0),),
    )
)

square = register(
    Elementwise(
        name="square",
        doc="y = x * x, never below +0.0; inf for infinities; integers wrap.",
        arity=1,
        types=same_number,
        numpy=np.square,
        scalar=lambda s, x: s.mul(x, x),
        parts=complexmath.square,
        complex_ulp=2.0,
        partials=lambda b, y, x: (b.multiply(x, 2.0),),
    )
)

reciprocal = register(
    Elementwise(
        name="reciprocal",
        doc="y = 1 / x, floats only, correctly rounded. 1 / +-0 is +-inf, 1 / +-inf is +-0.",
        arity=1,
        types=same_inexact,
        numpy=np.reciprocal,
        scalar=lambda s, x: s.div(s.const(s.dtype(x), 1.0), x),
        parts=complexmath.reciprocal,
        complex_ulp=4.0,
        partials=lambda b, y, x: (b.negative(b.square(y)),),
        domain=((0.5, 3.0),),
    )
)

copysign = register(
    Elementwise(
        name="copysign",
        doc="z = |x| with the sign bit of y, also of zeros, infinities and NaN.",
        arity=2,
        types=same_float,
        numpy=np.copysign,
        scalar=lambda s, x, y: s.copysign(x, y),
        partials=lambda b, z, x, y: (b.multiply(b.sign(x), b.copysign(1.0, y)), None),
    )
)

floor = register(
    Elementwise(
        name="floor",
        doc="y = the greatest integer <= x, as a float; keeps -0.0 and infinities. Derivative: 0.",
        arity=1,
        types=same_float,
        numpy=np.floor,
        scalar=lambda s, x: s.floor(x),
    )
)

ceil = register(
    Elementwise(
        name="ceil",
        doc="y = the least integer >= x, as a float; -0.5 gives -0.0; keeps infinities. Derivative: 0.",
        arity=1,
        types=same_float,
        numpy=np.ceil,
        scalar=lambda s, x: s.ceil(x),
    )
)

trunc = register(
    Elementwise(
        name="trunc",
        doc="y = x rounded towards zero, as a float; keeps the sign of zeros and infinities. Derivative: 0.",
        arity=1,
        types=same_float,
        numpy=np.trunc,
        scalar=lambda s, x: s.trunc(x),
    )
)

rint = register(
    Elementwise(
        name="rint",
        doc="""y = x rounded to the nearest integer, ties to even, as a float; -0.5 gives -0.0; keeps infinities.
        Derivative: 0.""",
        arity=1,
        types=same_float,
        numpy=np.rint,
        scalar=lambda s, x: s.rint(x),
    )
)


def _nextafter_scalar(s: Scalar, x: S, y: S) -> S:
    """One step of the bit pattern: patterns of one sign are ordered as the numbers' sizes are. Comparisons of 16-bit floats
    are made in float32."""
    dtype = s.dtype(x)
    integer = INTEGER[dtype]
    # 16-bit floats are compared as float32.
    a, b = (s.convert(v, float32) if dtype.is_short_float else v for v in (x, y))
    zero, one, sign = s.const(s.dtype(a), 0.0), s.const(integer, 1), s.const(integer, -(2 ** (integer.bits - 1)))
    pattern = s.bitcast(x, integer)
    outward = s.xor(s.lt(b, a), s.gt(a, zero))
    stepped = s.select(outward, s.add(pattern, one), s.sub(pattern, one))
    least = s.or_(s.and_(s.bitcast(y, integer), sign), one)
    stepped = s.bitcast(s.select(s.eq(a, zero), least, stepped), dtype)
    stepped = s.select(s.eq(a, b), y, stepped)
    return s.select(s.ne(a, a), x, s.select(s.ne(b, b), y, stepped))


nextafter = register(
    Elementwise(
        name="nextafter",
        narrow=True,
        doc="""z = the float next to x in the direction of y; y where they are equal (also zeros of different signs);
        from 0 a subnormal with the sign of y; from the greatest float infinity; NaN operands give NaN.""",
        arity=2,
        types=same_float,
        # Of zeros with different signs NumPy gives x for float16, y for the others.
        numpy=lambda x, y: np.where(x == y, y, np.nextafter(x, y)),
        scalar=_nextafter_scalar,
        partials=lambda b, z, x, y: (1, None),
    )
)
