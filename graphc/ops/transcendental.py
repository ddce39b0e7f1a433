"""Elementwise functions that are not exactly rounded: exponentials, logarithms, circular, hyperbolic, error function. Layer 2.

All take floats and give NaN for NaN. `ulp` is the greatest error of compiled code found over all float32 numbers and, for
float64, over many, with some margin (docs/accuracy.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.ir.op import Builder, Elementwise
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops import complexmath, mathlib, references
from graphc.ops.rules import same_float, same_inexact, same_number

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "power",
    "sigmoid",
    "sin",
    "sinh",
    "tan",
    "tanh",
]

Array = NDArray[Any]
_LN2 = math.log(2)
_LN10 = math.log(10)


def _function(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., S],
    partials: Callable[..., Sequence[Any]],
    *,
    ulp: tuple[float, float],
    arity: int = 1,
    domain: tuple[tuple[float, float], ...] = (),
    parts: Callable[..., Any] | None = None,
) -> Elementwise:
    """A function of floats; with `parts`, of complex numbers too."""
    return register(
        Elementwise(
            name=name,
            doc=doc,
            arity=arity,
            types=same_float if parts is None else same_inexact,
            parts=parts,
            complex_ulp=None if parts is None else 6.0,
            numpy=numpy,
            scalar=scalar,
            partials=partials,
            ulp=ulp,
            heavy=True,
            domain=domain,
        )
    )


def _inverse_of_one_minus_square(b: Builder, x: Any) -> Any:
    """1 / ((1 - x) * (1 + x)), without the cancellation of 1 - x*x."""
    return b.reciprocal(b.multiply(b.subtract(1.0, x), b.add(x, 1.0)))


def _inverse_root_of_one_minus_square(b: Builder, x: Any) -> Any:
    return b.reciprocal(b.sqrt(b.multiply(b.subtract(1.0, x), b.add(x, 1.0))))


# -- exponentials and logarithms ----------------------------------------------------------------------------------------

exp = _function(
    "exp",
    "y = e**x. exp(-inf) is +0.0, exp(+-0) is 1, overflow gives +inf.",
    np.exp,
    mathlib.exp,
    lambda b, y, x: (y,),
    ulp=(1.0, 1.0),
    parts=complexmath.exp,
)

exp2 = _function(
    "exp2",
    """y = 2**x. exp2(-inf) is +0.0, exp2(+-0) is 1, overflow gives +inf. Of complex x
    exp(x * ln 2), its error times 1 + |x|.""",
    np.exp2,
    mathlib.exp2,
    lambda b, y, x: (b.multiply(y, _LN2),),
    ulp=(1.0, 1.0),
    parts=complexmath.exp2,
)

expm1 = _function(
    "expm1",
    "y = e**x - 1, accurate near 0. expm1(-inf) is -1, +-0 are kept.",
    references.expm1,
    mathlib.expm1,
    lambda b, y, x: (b.add(y, 1.0),),
    ulp=(1.2, 1.0),
    parts=complexmath.expm1,
)

log = _function(
    "log",
    "y = natural logarithm of x. log(+-0) is -inf, log(1) is +0.0, negative x gives NaN.",
    np.log,
    mathlib.log,
    lambda b, y, x: (b.reciprocal(x),),
    domain=((0.2, 4.0),),
    ulp=(0.95, 0.7),
    parts=complexmath.log,
)

log2 = _function(
    "log2",
    "y = logarithm of x to base 2. log2(+-0) is -inf, negative x gives NaN.",
    np.log2,
    mathlib.log2,
    lambda b, y, x: (b.reciprocal(b.multiply(x, _LN2)),),
    domain=((0.2, 4.0),),
    ulp=(1.4, 1.3),
    parts=complexmath.log2,
)

log10 = _function(
    "log10",
    "y = logarithm of x to base 10. log10(+-0) is -inf, negative x gives NaN.",
    np.log10,
    mathlib.log10,
    lambda b, y, x: (b.reciprocal(b.multiply(x, _LN10)),),
    domain=((0.2, 4.0),),
    ulp=(1.4, 1.2),
    parts=complexmath.log10,
)

log1p = _function(
    "log1p",
    "y = log(1 + x), accurate near 0. log1p(-1) is -inf, +-0 are kept, x < -1 gives NaN.",
    references.log1p,
    mathlib.log1p,
    lambda b, y, x: (b.reciprocal(b.add(x, 1.0)),),
    domain=((-0.7, 4.0),),
    ulp=(1.05, 0.9),
    parts=complexmath.log1p,
)

cbrt = _function(
    "cbrt",
    "y = cube root of x, negative for negative x. +-0 and +-inf are kept. Derivative at 0: infinity.",
    np.cbrt,
    mathlib.cbrt,
    lambda b, y, x: (b.reciprocal(b.multiply(b.square(y), 3.0)),),
    domain=((0.2, 4.0),),
    ulp=(0.51, 0.51),
)


# -- circular functions -------------------------------------------------------------------------------------------------

sin = _function(
    "sin",
    "y = sin(x), x in radians. +-0 are kept; infinite x gives NaN.",
    np.sin,
    mathlib.sin,
    lambda b, y, x: (b.cos(x),),
    ulp=(0.85, 0.85),
    parts=complexmath.sin,
)

cos = _function(
    "cos",
    "y = cos(x), x in radians. cos(+-0) is 1; infinite x gives NaN.",
    np.cos,
    mathlib.cos,
    lambda b, y, x: (b.negative(b.sin(x)),),
    ulp=(0.85, 0.85),
    parts=complexmath.cos,
)

tan = _function(
    "tan",
    "y = tan(x), x in radians. +-0 are kept; infinite x gives NaN.",
    np.tan,
    mathlib.tan,
    lambda b, y, x: (b.add(b.square(y), 1.0),),
    domain=((-1.2, 1.2),),
    ulp=(2.3, 2.3),
    parts=complexmath.tan,
)

asin = _function(
    "asin",
    "y = arcsine of x in [-pi/2, pi/2]. +-0 are kept; |x| > 1 gives NaN.",
    np.arcsin,
    mathlib.asin,
    lambda b, y, x: (_inverse_root_of_one_minus_square(b, x),),
    domain=((-0.9, 0.9),),
    ulp=(1.3, 1.4),
    parts=complexmath.asin,
)

acos = _function(
    "acos",
    "y = arccosine of x in [0, pi]. acos(1) is +0.0; |x| > 1 gives NaN.",
    np.arccos,
    mathlib.acos,
    lambda b, y, x: (b.negative(_inverse_root_of_one_minus_square(b, x)),),
    domain=((-0.9, 0.9),),
    ulp=(1.3, 1.4),
    parts=complexmath.acos,
)

atan = _function(
    "atan",
    "y = arctangent of x in [-pi/2, pi/2]. +-0 are kept; atan(+-inf) is +-pi/2.",
    np.arctan,
    mathlib.atan,
    lambda b, y, x: (b.reciprocal(b.add(b.square(x), 1.0)),),
    ulp=(1.4, 1.5),
    parts=complexmath.atan,
)


# -- hyperbolic functions -----------------------------------------------------------------------------------------------

sinh = _function(
    "sinh",
    "y = (e**x - e**-x) / 2. +-0 and +-inf are kept.",
    np.sinh,
    mathlib.sinh,
    lambda b, y, x: (b.cosh(x),),
    ulp=(0.9, 0.9),
    parts=complexmath.sinh,
)

cosh = _function(
    "cosh",
    "y = (e**x + e**-x) / 2. cosh(+-0) is 1, cosh(+-inf) is +inf.",
    np.cosh,
    mathlib.cosh,
    lambda b, y, x: (b.sinh(x),),
    ulp=(0.9, 0.9),
    parts=complexmath.cosh,
)

tanh = _function(
    "tanh",
    "y = tanh(x). +-0 are kept; tanh(+-inf) is +-1.",
    np.tanh,
    mathlib.tanh,
    lambda b, y, x: (b.multiply(b.subtract(1.0, y), b.add(y, 1.0)),),
    ulp=(1.6, 1.5),
    parts=complexmath.tanh,
)

asinh = _function(
    "asinh",
    "y = inverse of sinh. +-0 and +-inf are kept.",
    np.arcsinh,
    mathlib.asinh,
    lambda b, y, x: (b.reciprocal(b.sqrt(b.add(b.square(x), 1.0))),),
    ulp=(1.95, 1.6),
    parts=complexmath.asinh,
)


def _acosh_partials(b: Builder, y: Any, x: Any) -> tuple[Any]:
    """Of complex x two square roots: that of the product has another branch cut."""
    below, above = b.subtract(x, 1.0), b.add(x, 1.0)
    if b.type(x).dtype.is_complex:
        return (b.reciprocal(b.multiply(b.sqrt(below), b.sqrt(above))),)
    return (b.reciprocal(b.sqrt(b.multiply(below, above))),)


acosh = _function(
    "acosh",
    "y = inverse of cosh, y >= 0. acosh(1) is +0.0, acosh(inf) is inf; x < 1 gives NaN.",
    np.arccosh,
    mathlib.acosh,
    _acosh_partials,
    domain=((1.2, 4.0),),
    ulp=(2.2, 2.2),
    parts=complexmath.acosh,
)

atanh = _function(
    "atanh",
    "y = inverse of tanh. +-0 are kept, atanh(+-1) is +-inf; |x| > 1 gives NaN.",
    np.arctanh,
    mathlib.atanh,
    lambda b, y, x: (_inverse_of_one_minus_square(b, x),),
    domain=((-0.9, 0.9),),
    ulp=(2.15, 1.6),
    parts=complexmath.atanh,
)


# -- error function, sigmoid --------------------------------------------------------------------------------------------


def _gaussian(b: Builder, x: Any) -> Any:
    """The derivative of erf: 2/sqrt(pi) * exp(-x*x)."""
    return b.multiply(b.exp(b.negative(b.square(x))), 2 / math.sqrt(math.pi))


erf = _function(
    "erf",
    "y = 2/sqrt(pi) * integral of e**(-t*t) from 0 to x. +-0 are kept; erf(+-inf) is +-1.",
    references.erf,
    mathlib.erf,
    lambda b, y, x: (_gaussian(b, x),),
    ulp=(1.05, 1.1),
)

erfc = _function(
    "erfc",
    "y = 1 - erf(x), accurate for large x. erfc(+-0) is 1, erfc(-inf) is 2, erfc(inf) is +0.0.",
    references.erfc,
    mathlib.erfc,
    lambda b, y, x: (b.negative(_gaussian(b, x)),),
    ulp=(3.95, 3.2),
)

sigmoid = _function(
    "sigmoid",
    "y = 1 / (1 + e**-x). sigmoid(+-0) is 0.5, sigmoid(-inf) is +0.0, sigmoid(inf) is 1.",
    references.sigmoid,
    mathlib.sigmoid,
    lambda b, y, x: (b.multiply(y, b.subtract(1.0, y)),),
    ulp=(2.5, 2.2),
)


# -- two operands --------------------------------------------------------------------------------------------------------


def _atan2_partials(b: Builder, z: Any, y: Any, x: Any) -> tuple[Any, Any]:
    norm = b.add(b.square(x), b.square(y))
    return b.divide(x, norm), b.negative(b.divide(y, norm))


atan2 = _function(
    "atan2",
    """z = the angle of the point (y, x) in [-pi, pi]: arctangent of x / y by the quadrant. Signs of zeros count,
    as in C: atan2(+-0, -1) is +-pi, atan2(+-0, +0.0) is +-0; infinities give multiples of pi/4.""",
    np.arctan2,
    mathlib.atan2,
    _atan2_partials,
    arity=2,
    domain=((0.3, 3.0), (0.3, 3.0)),
    ulp=(1.6, 1.6),
)


def _hypot_partials(b: Builder, z: Any, x: Any, y: Any) -> tuple[Any, Any]:
    zero = b.like(z, 0.0)
    at_zero = b.equal(z, zero)
    return b.select(at_zero, zero, b.divide(x, z)), b.select(at_zero, zero, b.divide(y, z))


hypot = _function(
    "hypot",
    """z = sqrt(x*x + y*y) without overflow on the way. An infinite operand gives +inf, even beside NaN; hypot(0, 0)
    is +0.0, where the derivative is 0.""",
    np.hypot,
    mathlib.hypot,
    _hypot_partials,
    arity=2,
    ulp=(0.51, 0.51),
)


def _power_numpy(x: Array, y: Array) -> Array:
    if x.dtype.kind == "c":
        # Versions of NumPy differ at 0**y for complex y.
        return np.where((x == 0) & (y.real > 0), x.dtype.type(0), np.power(x, y))
    if x.dtype.kind != "i":
        return np.asarray(np.power(x, y))
    unsigned = f"u{x.dtype.itemsize}"
    return np.asarray(np.power(x.view(unsigned), y.view(unsigned))).view(x.dtype)


def _power_scalar(s: Scalar, x: S, y: S) -> S:
    dtype = s.dtype(x)
    return mathlib.pow(s, x, y) if dtype.is_float else _power_integer(s, x, y)


def _power_integer(s: Scalar, x: S, y: S) -> S:
    """By squaring, over all bits of the exponent."""
    dtype = s.dtype(x)
    zero, one = s.const(dtype, 0), s.const(dtype, 1)
    result, square = one, x
    for _ in range(dtype.bits):
        odd = s.ne(s.and_(y, one), zero)
        result = s.select(odd, s.mul(result, square), result)
        square, y = s.mul(square, square), s.lshr(y, 1)
    return result


def _power_partials(b: Builder, z: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """d/dx = y * x**(y-1), 0 for y = 0; d/dy = z * log(x), 0 for x = 0 and y >= 0, where z is constant in y > 0."""
    zero = b.like(x, 0.0)
    size = b.real(y) if b.type(y).dtype.is_complex else y
    by_x = b.select(b.equal(y, zero), zero, b.multiply(y, b.power(x, b.subtract(y, 1.0))))
    at_zero = b.bitwise_and(b.equal(x, zero), b.greater_equal(size, b.like(size, 0.0)))
    by_y = b.select(at_zero, zero, b.multiply(z, b.log(b.select(at_zero, b.like(x, 1.0), x))))
    return by_x, by_y


power = register(
    Elementwise(
        name="power",
        doc="""z = x**y. Floats: IEEE pow; x**0 and 1**y are 1 also for NaN, (+-0)**negative is infinite, negative x
        to a y that is not an integer gives NaN. Complex numbers: exp(y * log(x)), its error times 1 + |y * log(x)|; 0**y is 0
        where y has a positive real part, else NaN. Integers: wraps; a negative exponent is read as unsigned (callers
        refuse it, as NumPy does); 0**0 is 1. Derivative by x at y = 0 and by y at x = 0, y >= 0: 0.""",
        arity=2,
        types=same_number,
        numpy=_power_numpy,
        scalar=_power_scalar,
        parts=complexmath.power,
        complex_ulp=8.0,
        partials=_power_partials,
        ulp=(0.55, 1.2),
        heavy=True,
        domain=((0.3, 2.0), (-2.0, 2.0)),
    )
)
