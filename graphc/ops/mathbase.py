"""Common parts of the math library: constants, polynomials, double-word arithmetic, argument reduction. Layer 2.

Every function here and in the modules of the library takes a *strict* implementation: contraction of multiplications
and additions would break the error-free transformations. `strict` makes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from graphc.dtypes import DType, bfloat16, float16, float32, float64, int16, int32, int64
from graphc.ir.scalar import S, Scalar

__all__ = [
    "INFINITY",
    "INTEGER",
    "LN2",
    "NAN",
    "const",
    "exp_reduce",
    "is_infinite",
    "is_nan",
    "log_reduce",
    "log_reduce_normal",
    "maximum",
    "minimum",
    "poly",
    "small_integer_to_float",
    "strict",
    "two_product",
    "two_sum",
    "two_sum_ordered",
]

INFINITY = float("inf")
NAN = float("nan")
#: The signed integer of a float's width.
INTEGER = {float16: int16, bfloat16: int16, float32: int32, float64: int64}
#: ln 2 = high + low; the high part is so short that its product with any exponent is exact.
LN2 = {float32: (0.69317626953125, -2.9088971132296138e-05), float64: (0.6931471805601177, -1.7239444525614835e-13)}
_LOG2_E = {float32: 1.4426950216293335, float64: 1.4426950408889634}


@runtime_checkable
class _Contracting(Protocol):
    def strict(self) -> Scalar: ...


def strict(s: Scalar) -> Scalar:
    """The implementation without contraction."""
    return s.strict() if isinstance(s, _Contracting) else s


def const(s: Scalar, like: S, value: float) -> S:
    """A constant of the dtype of `like`."""
    return s.const(s.dtype(like), value)


def poly(s: Scalar, x: S, coefficients: Sequence[float]) -> S:
    """The polynomial with the given coefficients, lowest first, in fused steps.

    The two lowest coefficients, which decide the rounding error, come by Horner's rule; long rests by Estrin's, because
    Horner's chain of dependent steps would leave the units idle.
    """
    rest: S
    if len(coefficients) < 8:
        rest, outer = const(s, x, coefficients[-1]), coefficients[:-1]
    else:
        rest, outer = _estrin(s, x, [const(s, x, v) for v in coefficients[2:]]), coefficients[:2]
    for coefficient in reversed(outer):
        rest = s.fma(rest, x, const(s, x, coefficient))
    return rest


def _estrin(s: Scalar, x: S, terms: list[S]) -> S:
    """Sum of terms[i] * x**i: neighbours joined in rounds, x squared each round; from four terms on by Horner's rule."""
    while len(terms) > 5:
        pairs = [s.fma(high, x, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        x = s.mul(x, x)
    result = terms[-1]
    for term in reversed(terms[:-1]):
        result = s.fma(result, x, term)
    return result


def minimum(s: Scalar, x: S, bound: float) -> S:
    """min(x, bound); NaN stays."""
    limit = const(s, x, bound)
    return s.select(s.gt(x, limit), limit, x)


def maximum(s: Scalar, x: S, bound: float) -> S:
    """max(x, bound); NaN stays."""
    limit = const(s, x, bound)
    return s.select(s.lt(x, limit), limit, x)


def is_nan(s: Scalar, x: S) -> S:
    return s.ne(x, x)


def is_infinite(s: Scalar, x: S) -> S:
    return s.eq(s.abs(x), const(s, x, INFINITY))


def two_sum(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """x + y and its rounding error (Knuth)."""
    total = s.add(x, y)
    part = s.sub(total, x)
    return total, s.add(s.sub(x, s.sub(total, part)), s.sub(y, part))


def two_sum_ordered(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """x + y and its rounding error where |x| >= |y| or x = 0 (Dekker)."""
    total = s.add(x, y)
    return total, s.sub(y, s.sub(total, x))


def two_product(s: Scalar, x: S, y: S) -> tuple[S, S]:
    """x * y and its rounding error."""
    product = s.mul(x, y)
    return product, s.fma(x, y, s.neg(product))


def exp_reduce(s: Scalar, x: S) -> tuple[S, S, S]:
    """x = n * ln 2 + r + low with a float integer n, |r| <= 0.3467 and low the rounding error of r. For |x| <= 2**10."""
    high, low = LN2[s.dtype(x)]
    n = s.rint(s.mul(x, const(s, x, _LOG2_E[s.dtype(x)])))
    first = s.fma(n, const(s, x, -high), x)  # exact
    r = s.fma(n, const(s, x, -low), first)
    return n, r, s.fma(n, const(s, x, -low), s.sub(first, r))


#: Per dtype: pattern of sqrt(1/2), mantissa bits, least normal number, 2**mantissa.
_LOG_FORMAT: dict[DType, tuple[int, int, float, float]] = {
    float32: (0x3F3504F3, 23, 2.0**-126, 2.0**23),
    float64: (0x3FE6A09E667F3BCD, 52, 2.0**-1022, 2.0**52),
}


def log_reduce(s: Scalar, x: S) -> tuple[S, S]:
    """x = 2**k * m for positive finite x, subnormals too: the float k, and m in [sqrt(1/2), sqrt(2))."""
    _, mantissa, least, scale = _LOG_FORMAT[s.dtype(x)]
    subnormal = s.lt(x, const(s, x, least))
    k, m = log_reduce_normal(s, s.select(subnormal, s.mul(x, const(s, x, scale)), x))
    return s.select(subnormal, s.sub(k, const(s, k, float(mantissa))), k), m


def log_reduce_normal(s: Scalar, x: S) -> tuple[S, S]:
    """The same for x that is not subnormal."""
    dtype = s.dtype(x)
    root, mantissa, _, _ = _LOG_FORMAT[dtype]
    pattern = s.bitcast(x, INTEGER[dtype])
    exponent = s.ashr(s.sub(pattern, s.const(INTEGER[dtype], root)), mantissa)
    m = s.bitcast(s.sub(pattern, s.shl(exponent, mantissa)), dtype)
    return small_integer_to_float(s, exponent), m


def small_integer_to_float(s: Scalar, n: S) -> S:
    """An i32, or an i64 of at most 50 bits, as the float of its width.

    Vectors of i64 have no conversion before AVX-512: the integer is added to the bits of 1.5 * 2**52.
    """
    if s.dtype(n) is int32:
        return s.convert(n, float32)
    shifted = s.add(n, s.const(int64, 0x4338000000000000))
    return s.sub(s.bitcast(shifted, float64), s.const(float64, 1.5 * 2.0**52))
