"""The math library over the scalar protocol: exponentials, logarithms, hyperbolic and error functions. Layer 2.

Branch-free and without tables: polynomials, bit tricks and selects, so one text serves every vector width. Each function
is right on all of its domain, subnormals included, signed zeros, infinities and NaN as in C; the bounds on errors stand
with the ops (`graphc.ops.transcendental`), where tests/ops/test_mathlib.py reads them. Polynomials and their errors stand in
graphc/ops/coefficients.py. Trigonometric functions live in `mathtrig`, powers in `mathpower`.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.dtypes import DType, float32
from graphc.ir.scalar import S, Scalar
from graphc.ops import coefficients as c
from graphc.ops.mathbase import (
    INFINITY,
    LN2,
    NAN,
    const,
    exp_reduce,
    log_reduce,
    maximum,
    minimum,
    poly,
    strict,
    two_product,
    two_sum_ordered,
)
from graphc.ops.mathpower import cbrt, hypot, pow
from graphc.ops.mathtrig import acos, asin, atan, atan2, cos, sin, tan
from graphc.ops.softfloat import pow2

__all__ = [
    "BINARY",
    "UNARY",
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
    "pow",
    "sigmoid",
    "sin",
    "sinh",
    "tan",
    "tanh",
]


def _pick(x_dtype: DType, f32: tuple[float, ...], f64: tuple[float, ...]) -> tuple[float, ...]:
    return f32 if x_dtype is float32 else f64


def _bound(s: Scalar, x: S, f32: float, f64: float) -> float:
    return f32 if s.dtype(x) is float32 else f64


# -- exponentials ---------------------------------------------------------------------------------------------------


def _exp_poly(s: Scalar, r: S) -> S:
    """exp(r) for |r| <= 0.3467."""
    return poly(s, r, (1.0, 1.0, *_pick(s.dtype(r), c.EXP_F32, c.EXP_F64)))


def _exp_inside(s: Scalar, x: S) -> S:
    """exp(x) for x between the logarithms of the smallest and largest numbers, and NaN."""
    n, r, _ = exp_reduce(s, x)
    return s.ldexp(_exp_poly(s, r), n)


def exp(s: Scalar, x: S) -> S:
    """e**x. exp(-inf) = 0, exp(inf) = inf; overflow to inf, gradual underflow to subnormals and 0."""
    s = strict(s)
    x = minimum(s, maximum(s, x, _bound(s, x, -104.0, -746.0)), _bound(s, x, 89.0, 710.0))
    return _exp_inside(s, x)


def exp2(s: Scalar, x: S) -> S:
    """2**x, exact for integers. Limits as `exp`."""
    s = strict(s)
    x = minimum(s, maximum(s, x, _bound(s, x, -151.0, -1076.0)), _bound(s, x, 129.0, 1025.0))
    n = s.rint(x)
    return s.ldexp(poly(s, s.sub(x, n), (1.0, *_pick(s.dtype(x), c.EXP2_F32, c.EXP2_F64))), n)


def _expm1_rest(s: Scalar, r: S, low: S) -> S:
    """expm1(r + low) - r."""
    square = s.mul(r, r)
    first = s.fma(low, r, low)
    return s.fma(square, poly(s, r, _pick(s.dtype(r), c.EXPM1_F32, c.EXPM1_F64)), first)


def expm1(s: Scalar, x: S) -> S:
    """e**x - 1. Near 0 about x (expm1(-0.0) = -0.0, subnormals unchanged); expm1(-inf) = -1, expm1(inf) = inf."""
    s = strict(s)
    a = minimum(s, maximum(s, x, _bound(s, x, -20.0, -40.0)), _bound(s, x, 89.0, 710.0))
    n, r, low = exp_reduce(s, a)
    rest = _expm1_rest(s, r, low)
    # Half of 2**n * (1 + r + rest) - 1, so that n may exceed the largest exponent by one.
    half = const(s, x, 0.5)
    scale = pow2(s, s.sub(n, const(s, x, 1.0)))
    offset = s.sub(scale, half)
    big = s.fma(r, scale, offset)
    error = s.fma(r, scale, s.sub(offset, big))
    total = s.add(big, s.fma(rest, scale, error))
    direct = s.select(s.eq(x, const(s, x, 0.0)), x, s.add(r, rest))
    return s.select(s.eq(n, const(s, x, 0.0)), direct, s.add(total, total))


def sigmoid(s: Scalar, x: S) -> S:
    """1 / (1 + e**-x), stable on both sides: gradual underflow for x -> -inf, 1 for x -> inf."""
    s = strict(s)
    e = _exp_inside(s, maximum(s, s.neg(s.abs(x)), _bound(s, x, -104.0, -746.0)))
    one = const(s, x, 1.0)
    return s.div(s.select(s.lt(x, const(s, x, 0.0)), e, one), s.add(one, e))


# -- hyperbolic functions -------------------------------------------------------------------------------------------


def tanh(s: Scalar, x: S) -> S:
    """tanh(x): x + x**3 * P(x**2) below 0.55, else 1 - 2 / (e**(2 * abs(x)) + 1). Odd; tanh(-0.0) = -0.0, tanh(inf) = 1."""
    s = strict(s)
    a = minimum(s, s.abs(x), _bound(s, x, 10.0, 20.0))
    one, two = const(s, x, 1.0), const(s, x, 2.0)
    large = s.sub(one, s.div(two, s.add(_exp_inside(s, s.add(a, a)), one)))
    square = s.mul(a, a)
    rest = s.mul(square, poly(s, square, _pick(s.dtype(x), c.TANH_F32, c.TANH_F64)))
    small = s.fma(a, rest, a)
    return s.copysign(s.select(s.lt(a, const(s, x, 0.55)), small, large), x)


def _hyperbolic(s: Scalar, x: S) -> tuple[S, S]:
    """sinh(a) / 2 and cosh(a) / 2 for a = abs(x): by the addition theorem from a = n * ln 2 + r."""
    a = minimum(s, s.abs(x), _bound(s, x, 89.5, 710.6))
    n, r, low = exp_reduce(s, a)
    square = s.mul(r, r)
    odd = s.mul(square, poly(s, square, _pick(s.dtype(x), c.SINH_F32, c.SINH_F64)))
    even = poly(s, square, (0.5, *_pick(s.dtype(x), c.COSH_F32, c.COSH_F64)))
    # sinh(r + low) = r + sine, cosh(r + low) = 1 + cosine
    sine = s.fma(r, odd, low)
    cosine = s.fma(square, even, s.mul(low, r))
    two = const(s, x, 2.0)
    up = pow2(s, s.sub(n, two))
    down = pow2(s, s.sub(const(s, x, 0.0), s.add(minimum(s, n, 100.0), two)))
    ch, ch_low = two_sum_ordered(s, up, down)
    sh, sh_low = two_sum_ordered(s, up, s.neg(down))
    sinh_big = s.fma(r, ch, sh)
    sinh_error = s.fma(r, ch, s.add(s.sub(sh, sinh_big), s.fma(r, ch_low, sh_low)))
    sinh_half = s.add(sinh_big, s.fma(sine, ch, s.fma(cosine, sh, sinh_error)))
    cosh_big = s.fma(r, sh, ch)
    cosh_error = s.fma(r, sh, s.add(s.sub(ch, cosh_big), s.fma(r, sh_low, ch_low)))
    cosh_half = s.add(cosh_big, s.fma(cosine, ch, s.fma(sine, sh, cosh_error)))
    return sinh_half, cosh_half


def sinh(s: Scalar, x: S) -> S:
    """sinh(x). Odd; tiny x unchanged; overflow to inf."""
    s = strict(s)
    half, _ = _hyperbolic(s, x)
    tiny = s.lt(s.abs(x), const(s, x, _bound(s, x, 2.0**-13, 2.0**-28)))
    return s.select(tiny, x, s.copysign(s.add(half, half), x))


def cosh(s: Scalar, x: S) -> S:
    """cosh(x). Even; overflow to inf."""
    s = strict(s)
    _, half = _hyperbolic(s, x)
    return s.add(half, half)


# -- logarithms -----------------------------------------------------------------------------------------------------


def _log_rest(s: Scalar, f: S) -> S:
    """log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2)).

    float32: f**2 * (f * P(f) - 1/2). float64, where P would be long: -f**2 / 2 + t * (f**2 / 2 + t**2 * P(t**2)) with
    t = f / (2 + f).
    """
    half = const(s, f, -0.5)
    square = s.mul(f, f)
    if s.dtype(f) is float32:
        return s.mul(square, s.fma(f, poly(s, f, c.LOG_F_F32), half))
    t = s.div(f, s.add(f, const(s, f, 2.0)))
    z = s.mul(t, t)
    rest = s.mul(t, s.fma(square, const(s, f, 0.5), s.mul(z, poly(s, z, c.LOG_S_F64))))
    return s.fma(s.mul(f, half), f, rest)


def _log_specials(s: Scalar, x: S, value: S) -> S:
    """`value` for positive finite x; -inf at zeros, NaN below; inf and NaN unchanged."""
    zero = const(s, x, 0.0)
    outside = s.select(s.eq(x, zero), const(s, x, -INFINITY), const(s, x, NAN))
    value = s.select(s.gt(x, zero), value, outside)
    return s.select(s.lt(x, const(s, x, INFINITY)), value, x)


def _log_sum(s: Scalar, k: S, f: S, addend: S | None = None) -> S:
    """k * ln 2 + log(1 + f) + addend (a small one)."""
    high, low = LN2[s.dtype(f)]
    rest = s.fma(k, const(s, f, low), _log_rest(s, f))
    if addend is not None:
        rest = s.add(rest, addend)
    big = s.mul(k, const(s, f, high))
    total, error = two_sum_ordered(s, big, f)
    return s.add(total, s.add(rest, error))


def log(s: Scalar, x: S) -> S:
    """Natural logarithm. log(+-0) = -inf, log(x < 0) = NaN, log(inf) = inf, log(1) = 0."""
    s = strict(s)
    k, m = log_reduce(s, x)
    return _log_specials(s, x, _log_sum(s, k, s.sub(m, const(s, x, 1.0))))


def log1p(s: Scalar, x: S) -> S:
    """log(1 + x). Near 0 about x (signed zeros and subnormals unchanged); log1p(-1) = -inf, log1p(x < -1) = NaN."""
    s = strict(s)
    one = const(s, x, 1.0)
    u = s.add(x, one)
    # What 1 + x lost in rounding, relative to u.
    lost = s.select(s.lt(x, one), s.sub(x, s.sub(u, one)), s.sub(one, s.sub(u, x)))
    k, m = log_reduce(s, u)
    value = _log_specials(s, u, _log_sum(s, k, s.sub(m, one), s.div(lost, u)))
    tiny = s.lt(s.abs(x), const(s, x, _bound(s, x, 2.0**-25, 2.0**-54)))
    return s.select(tiny, x, value)


def _log_scaled(s: Scalar, x: S, inverse: tuple[float, float], step: tuple[float, float]) -> S:
    """log(x) * inverse, where log(2) * inverse = step, both as high and low part."""
    k, m = log_reduce(s, x)
    f = s.sub(m, const(s, x, 1.0))
    high, low = (const(s, x, v) for v in inverse)
    rest = s.fma(f, low, s.mul(_log_rest(s, f), high))
    big = s.mul(k, const(s, x, step[0]))  # exact
    total = s.fma(f, high, big)
    error = s.fma(f, high, s.sub(big, total))
    value = s.add(total, s.add(error, s.fma(k, const(s, x, step[1]), rest)))
    return _log_specials(s, x, value)


_LOG2_E = {True: (1.4426950216293335, 1.925963033500011e-08), False: (1.4426950408889634, 2.0355273740931033e-17)}
_LOG10_E = {True: (0.4342944920063019, -1.0103049952192578e-08), False: (0.4342944819032518, 1.098319650216765e-17)}
_LOG10_2 = {True: (0.301025390625, 4.605039066518657e-06), False: (0.3010299956640665, -8.532344317057107e-14)}


def log2(s: Scalar, x: S) -> S:
    """Logarithm to base 2, exact for powers of 2. Specials as `log`."""
    s = strict(s)
    return _log_scaled(s, x, _LOG2_E[s.dtype(x) is float32], (1.0, 0.0))


def log10(s: Scalar, x: S) -> S:
    """Logarithm to base 10. Specials as `log`."""
    s = strict(s)
    single = s.dtype(x) is float32
    return _log_scaled(s, x, _LOG10_E[single], _LOG10_2[single])


# -- inverse hyperbolic functions -----------------------------------------------------------------------------------

_LN2_NEAREST = 0.6931471805599453


def asinh(s: Scalar, x: S) -> S:
    """Inverse of sinh: log1p(a + a**2 / (1 + sqrt(1 + a**2))), for large a = abs(x) log(a) + ln 2. Odd."""
    s = strict(s)
    a = s.abs(x)
    one = const(s, x, 1.0)
    large = s.gt(a, const(s, x, _bound(s, x, 2.0**25, 2.0**54)))
    square = s.mul(a, a)
    inner = s.add(a, s.div(square, s.add(one, s.sqrt(s.add(one, square)))))
    value = _log1p_or_log(s, large, a, inner)
    return s.copysign(s.select(s.lt(a, const(s, x, _bound(s, x, 2.0**-13, 2.0**-28))), a, value), x)


def acosh(s: Scalar, x: S) -> S:
    """Inverse of cosh for x >= 1: log1p(t + sqrt(2 * t + t**2)), t = x - 1; NaN below 1, acosh(inf) = inf."""
    s = strict(s)
    t = s.sub(x, const(s, x, 1.0))
    large = s.gt(x, const(s, x, _bound(s, x, 2.0**25, 2.0**54)))
    inner = s.add(t, s.sqrt(s.fma(t, t, s.add(t, t))))
    value = _log1p_or_log(s, large, x, inner)
    return s.select(s.lt(t, const(s, x, 0.0)), const(s, x, NAN), value)


def _log1p_or_log(s: Scalar, large: S, x: S, inner: S) -> S:
    """log(x) + ln 2 where large (1 + x is x there), else log1p(inner): one logarithm of a selected operand."""
    value = log1p(s, s.select(large, x, inner))
    return s.select(large, s.add(value, const(s, x, _LN2_NEAREST)), value)


def atanh(s: Scalar, x: S) -> S:
    """Inverse of tanh: log1p(2 * a / (1 - a)) / 2, a = abs(x). Odd; atanh(+-1) = +-inf, NaN beyond."""
    s = strict(s)
    a = s.abs(x)
    value = log1p(s, s.div(s.add(a, a), s.sub(const(s, x, 1.0), a)))
    value = s.mul(value, const(s, x, 0.5))
    tiny = s.lt(a, const(s, x, _bound(s, x, 2.0**-13, 2.0**-28)))
    return s.copysign(s.select(tiny, a, value), x)


# -- error functions ------------------------------------------------------------------------------------------------


def erf(s: Scalar, x: S) -> S:
    """Error function. Odd; erf(-0.0) = -0.0, subnormals scaled by 2 / sqrt(pi), erf(inf) = 1."""
    s = strict(s)
    one = const(s, x, 1.0)
    a = minimum(s, s.abs(x), _bound(s, x, 3.95, 6.0))
    square = s.mul(x, x)
    small = s.fma(x, poly(s, square, _pick(s.dtype(x), c.ERF_F32, c.ERF_F64)), x)
    if s.dtype(x) is float32:
        # erfc(a) = exp(-a * (1 + P(a)))
        tail = _exp_inside(s, s.fma(s.neg(a), poly(s, a, c.ERF_TAIL_F32), s.neg(a)))
    else:
        tail = _erfc_tail(s, a)
    return s.select(s.lt(a, one), small, s.copysign(s.sub(one, tail), x))


def _erfc_tail(s: Scalar, a: S) -> S:
    """erfc(a) = e**(-a**2) * (1 + P(t)) / (1 + 2 * a) with t = (a - K) / (a + K), for a >= 1/2."""
    single = s.dtype(a) is float32
    shift = const(s, a, 2.0 if single else 4.0)
    one = const(s, a, 1.0)
    t = s.div(s.sub(a, shift), s.add(a, shift))
    ratio = s.div(s.add(one, poly(s, t, c.ERFC32 if single else c.ERFC64)), s.fma(a, const(s, a, 2.0), one))
    square, error = two_product(s, a, a)
    n, r, low = exp_reduce(s, s.neg(square))
    e = _exp_poly(s, s.add(r, s.sub(low, error)))
    return s.ldexp(s.mul(e, ratio), n)


def erfc(s: Scalar, x: S) -> S:
    """1 - erf(x), with small relative error in the tail: erfc(inf) = 0 through subnormals, erfc(-inf) = 2."""
    s = strict(s)
    a = minimum(s, s.abs(x), _bound(s, x, 10.2, 28.0))
    one, two = const(s, x, 1.0), const(s, x, 2.0)
    tail = _erfc_tail(s, a)
    square = s.mul(x, x)
    part = poly(s, square, _pick(s.dtype(x), c.ERF_F32, c.ERF_F64))
    small = s.fma(s.neg(x), part, s.sub(one, x))
    large = s.select(s.lt(x, const(s, x, 0.0)), s.sub(two, tail), tail)
    return s.select(s.lt(a, const(s, x, 0.5)), small, large)


_FUNCTIONS = (
    exp,
    log,
    tanh,
    erf,
    sigmoid,
    sin,
    cos,
    expm1,
    log1p,
    exp2,
    log2,
    log10,
    tan,
    asin,
    acos,
    atan,
    sinh,
    cosh,
    asinh,
    acosh,
    atanh,
    erfc,
    cbrt,
)
#: The functions of one operand, by name.
UNARY: dict[str, Callable[[Scalar, S], S]] = {function.__name__: function for function in _FUNCTIONS}
#: The functions of two operands, by name.
BINARY: dict[str, Callable[[Scalar, S, S], S]] = {"pow": pow, "atan2": atan2, "hypot": hypot}
