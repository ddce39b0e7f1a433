"""Distributions beside the uniform and the normal one: the same bits everywhere, like those of `graphc.ops.random`. Layer 2.

Integers and exactly rounded operations only, in a stated order and without contraction; `numpy` is `scalar` on arrays, and the
independent checks are SciPy's distributions, in the tests.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from graphc.dtypes import DType, float32, float64, int32, int64, uint32, uint64
from graphc.errors import DTypeError, NoDerivativeError
from graphc.ir.op import Elementwise
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ops.mathbase import LN2, strict
from graphc.ops.random import (
    float_of_bits,
    in_pieces,
    log_normal_number,
    normal_scalar,
    philox_scalar,
    polynomial,
    quantile_size,
)

__all__ = [
    "exponential_from_bits",
    "gamma_from_bits",
    "gumbel_from_bits",
    "normal_cdf",
    "normal_quantile",
    "open_uniform",
]


def _exp(s: Scalar, x: S) -> S:
    """exp(x) for x <= 0, within a few ulp; NaN stays."""
    dtype = s.dtype(x)
    least, terms = (-200.0, 9) if dtype is float32 else (-1200.0, 15)
    x = s.select(s.lt(x, s.const(dtype, least)), s.const(dtype, least), x)
    n = s.rint(s.mul(x, s.const(dtype, 1 / math.log(2))))
    high, low = LN2[dtype]
    # The first product and difference are exact.
    r = s.sub(s.sub(x, s.mul(n, s.const(dtype, high))), s.mul(n, s.const(dtype, low)))
    return s.ldexp(polynomial(s, [1 / math.factorial(k) for k in range(terms)], r), n)


# -- from bits ---------------------------------------------------------------------------------------------------------


def _open_uniform_scalar(s: Scalar, bits: S) -> S:
    s = strict(s)
    dtype = s.dtype(bits)
    result, digits = float_of_bits(dtype), 23 if dtype is uint32 else 52
    steps = s.add(s.convert(s.lshr(bits, dtype.bits - digits), result), s.const(result, 0.5))
    return s.mul(steps, s.const(result, 2.0**-digits))


open_uniform = register(
    Elementwise(
        name="open_uniform",
        doc="""y = (the upper 23 bits of a u32 (52 of a u64) + 1/2) * 2**-23 (2**-52), a f32 (f64) in (0, 1): neither end comes
        up, and 1 - y is as likely as y.""",
        arity=1,
        types=float_of_bits,
        numpy=in_pieces(_open_uniform_scalar),
        scalar=_open_uniform_scalar,
    )
)


def _exponential_scalar(s: Scalar, bits: S) -> S:
    """-log U. With the top bit set, U = 1 - p with p from the complement of the bits, else U = p: p is at most 1/2 and
    accurate however small."""
    s = strict(s)
    dtype = s.dtype(bits)
    result = float_of_bits(dtype)
    signed = int32 if dtype is uint32 else int64
    upper = s.lt(s.bitcast(bits, signed), s.const(signed, 0))
    nearer = s.bitcast(s.select(upper, s.not_(bits), bits), signed)
    p = s.mul(s.add(s.convert(nearer, result), s.const(result, 0.5)), s.const(result, 2.0**-dtype.bits))
    unit = s.const(result, 1.0)
    rest = s.sub(unit, p)
    log = log_normal_number(s, s.select(upper, rest, p))
    # log(1 - p) = log(rest) - ((rest - 1) + p) / rest, where the numerator is the rounding error of rest.
    lost = s.div(s.add(s.sub(rest, unit), p), rest)
    return s.select(upper, s.sub(lost, log), s.neg(log))


exponential_from_bits = register(
    Elementwise(
        name="exponential_from_bits",
        doc="""y = -log((bits + 1/2) / 2**w), a standard exponential number: for u32 a f32 (relative error below 1e-6, from
        2**-33 to 22.9), for u64 a f64 (1e-14, from 2**-65 to 45.1); never 0, infinite or NaN.""",
        arity=1,
        types=float_of_bits,
        numpy=in_pieces(_exponential_scalar),
        scalar=_exponential_scalar,
        heavy=True,
    )
)


def _gumbel_scalar(s: Scalar, bits: S) -> S:
    s = strict(s)
    return s.neg(log_normal_number(s, _exponential_scalar(s, bits)))


gumbel_from_bits = register(
    Elementwise(
        name="gumbel_from_bits",
        doc="""y = -log(x) for the x of `exponential_from_bits`, a standard Gumbel number: for u32 a f32 from -3.13 to 22.9,
        for u64 a f64 from -3.81 to 45.1; never infinite or NaN.""",
        arity=1,
        types=float_of_bits,
        numpy=in_pieces(_gumbel_scalar),
        scalar=_gumbel_scalar,
        heavy=True,
    )
)


# -- gamma -------------------------------------------------------------------------------------------------------------

#: Candidates for one number. Each is refused with probability below 0.0484, all with one below 2**-69.
_CANDIDATES = 16
#: Where |s| is at most this, `_log_ratio` is summed as a series, of so many terms.
_SERIES_LIMIT = 0.125
_SERIES_TERMS = {float32: 8, float64: 17}


def _gamma_types(bits: DType, alpha: DType) -> DType:
    if bits is not uint64:
        raise DTypeError(f"the bits must be u64, not {bits.name}")
    if alpha not in (float32, float64):
        raise DTypeError(f"takes f32 or f64, not {alpha.name}")
    return alpha


def _log_ratio(s: Scalar, x: S) -> S:
    """log(1 + x) - x + x^2/2 - x^3/3 for x > -1, without cancellation where x is small (NaN or infinite elsewhere)."""
    dtype = s.dtype(x)
    square = s.mul(x, x)
    series = polynomial(s, [(-1) ** (k + 1) / (k + 4) for k in range(_SERIES_TERMS[dtype])], x)
    near = s.mul(s.mul(square, square), series)
    cubic = s.mul(x, s.add(s.const(dtype, 1.0), s.mul(x, polynomial(s, [-1 / 2, 1 / 3], x))))
    far = s.sub(log_normal_number(s, s.add(s.const(dtype, 1.0), x)), cubic)
    return s.select(s.le(s.abs(x), s.const(dtype, _SERIES_LIMIT)), near, far)


def _gamma_scalar(s: Scalar, bits: S, alpha: S) -> S:
    """The method of Marsaglia and Tsang: with d = alpha - 1/3, a normal z and t = 1 + z / sqrt(9 d), the number d t^3 is taken
    if t > 0 and log U < z^2/2 + d (1 - t^3 + log t^3), which is 3 d (log(1 + x) - x + x^2/2 - x^3/3) with x = t - 1.

    The bits are the key of a Philox cipher of the element's own, whose k-th block gives the k-th candidate.
    """
    s = strict(s)
    dtype = s.dtype(alpha)
    unit, zero = s.const(dtype, 1.0), s.const(dtype, 0.0)
    small = s.lt(alpha, unit)
    d = s.sub(s.select(small, s.add(alpha, unit), alpha), s.const(dtype, 1 / 3))
    c = s.div(unit, s.mul(s.const(dtype, 3.0), s.sqrt(d)))
    key = (s.convert(bits, uint32), s.convert(s.lshr(bits, 32), uint32))
    none = s.const(uint32, 0)

    def words(block: S, stream: S) -> tuple[S, S]:
        """Two random words of the format that gives numbers of alpha's dtype."""
        w = philox_scalar(s, (block, stream, none, none), key)
        if dtype is float32:
            return w[0], w[1]
        wide = [s.convert(x, uint64) for x in w]
        return s.or_(wide[0], s.shl(wide[1], 32)), s.or_(wide[2], s.shl(wide[3], 32))

    def candidate(number: S, _: tuple[S, ...]) -> tuple[S, tuple[S, ...]]:
        first, second = words(number, none)
        x = s.mul(c, normal_scalar(s, first))
        t = s.add(unit, x)
        bound = s.mul(s.mul(s.const(dtype, 3.0), d), _log_ratio(s, x))
        taken = s.and_(s.gt(t, zero), s.lt(s.neg(_exponential_scalar(s, second)), bound))
        return s.not_(taken), (t,)

    proper = s.and_(s.ge(alpha, zero), s.lt(alpha, s.const(dtype, math.inf)))
    (t,) = s.repeat(_CANDIDATES, proper, candidate, (unit,))
    large = s.mul(d, s.mul(t, s.mul(t, t)))
    # A gamma number of alpha + 1 times U^(1/alpha) is one of alpha: D. E. Knuth, The Art of Computer Programming, 3.4.1.
    power = s.div(_exponential_scalar(s, words(none, s.const(uint32, 1))[0]), s.abs(alpha))
    found = s.select(small, s.mul(large, _exp(s, s.neg(power))), large)
    return s.select(s.lt(alpha, zero), s.const(dtype, math.nan), found)


def _no_derivative(b: Any, ct: Any, bits: Any, alpha: Any) -> NoReturn:
    raise NoDerivativeError(
        "random.gamma has no derivative by its shape parameter alpha",
        hint="Cut it off with alpha.detach(); the derivative by scale= is there.",
    )


gamma_from_bits = register(
    Elementwise(
        name="gamma_from_bits",
        doc="""A gamma number of shape alpha (f32 or f64) and scale 1, made of 64 random bits: G. Marsaglia, W. Tsang, A simple
        method for generating gamma variables, ACM Transactions on Mathematical Software 26 (2000), at most 16 candidates;
        where none is taken, with probability below 2**-69, the result is alpha - 1/3. 0 for alpha = 0, infinite for infinite
        alpha, NaN for negative alpha and NaN. Without a derivative by alpha.""",
        arity=2,
        types=_gamma_types,
        numpy=in_pieces(_gamma_scalar),
        scalar=_gamma_scalar,
        vjp=_no_derivative,
        heavy=True,
    )
)


# -- parts of truncated normal numbers ------------------------------------------------------------------------------------

#: exp(t^2/2) (1 + t) (the normal distribution's tail from t on) as a polynomial in (t - 3) / (t + 3), lowest power first, to a
#: relative 5e-16 for 0 <= t <= 40: interpolation at 24 Chebyshev nodes, with mpmath.
_TAIL = (
    *(0.48605579342224864, -0.09652675790053543, -0.016432180656094666, 0.04516388989626696, -0.022729586396455014),
    *(0.0011607918168895536, 0.0030092685835008677, -0.00035468828521784015, -0.0005196597278839556),
    *(1.740410886321585e-05, 0.00010400621802512945, 1.744256137942379e-05, -1.820607420572583e-05),
    *(-9.249873884839887e-06, 1.2473288148261407e-06, 2.736796692358372e-06, 7.722926651530932e-07),
    *(-4.210373622144281e-07, -4.008418948365976e-07, -3.629526330074761e-08, 9.653906540152382e-08),
    *(3.4103533554375605e-08, -1.0487069864940653e-08, -5.690645559552621e-09),
)


def _float64_only(dtype: DType) -> DType:
    if dtype is not float64:
        raise DTypeError(f"takes f64, not {dtype.name}")
    return dtype


def _cdf_scalar(s: Scalar, x: S) -> S:
    s = strict(s)
    unit, limit, pole = (s.const(float64, v) for v in (1.0, 40.0, 3.0))
    t = s.abs(x)
    t = s.select(s.gt(t, limit), limit, t)
    scaled = polynomial(s, _TAIL, s.div(s.sub(t, pole), s.add(t, pole)))
    tail = s.mul(_exp(s, s.mul(s.mul(t, t), s.const(float64, -0.5))), s.div(scaled, s.add(unit, t)))
    return s.select(s.gt(x, s.const(float64, 0.0)), s.sub(unit, tail), tail)


normal_cdf = register(
    Elementwise(
        name="normal_cdf",
        doc="""y = the standard normal distribution's probability of numbers up to x, f64, to a relative 3e-13 while y is not
        subnormal; 0 at -infinity, 1 at infinity; NaN -> NaN.""",
        arity=1,
        types=_float64_only,
        numpy=in_pieces(_cdf_scalar),
        scalar=_cdf_scalar,
        partials=lambda b, y, x: (b.multiply(b.exp(b.multiply(b.square(x), -0.5)), 1 / math.sqrt(2 * math.pi)),),
        heavy=True,
    )
)


def _quantile_scalar(s: Scalar, p: S) -> S:
    s = strict(s)
    half, unit, zero, least = (s.const(float64, v) for v in (0.5, 1.0, 0.0, 2.0**-1022))
    infinity = s.const(float64, math.inf)
    lower = s.lt(p, half)
    tail = s.select(lower, p, s.sub(unit, p))
    size = quantile_size(s, s.abs(s.sub(p, half)), s.select(s.lt(tail, least), least, tail))
    size = s.select(s.eq(tail, zero), infinity, size)
    size = s.select(s.ge(tail, zero), size, s.const(float64, math.nan))
    return s.select(lower, s.neg(size), size)


normal_quantile = register(
    Elementwise(
        name="normal_quantile",
        doc="""y = the standard normal quantile of p, f64, to a relative 1e-14 (in p below 1/2, and as 1 - p is above);
        -infinity at 0, infinity at 1; NaN outside of 0 .. 1 and for NaN. |y| <= 37.6 between.""",
        arity=1,
        types=_float64_only,
        numpy=in_pieces(_quantile_scalar),
        scalar=_quantile_scalar,
        partials=lambda b, y, p: (b.multiply(b.exp(b.multiply(b.square(y), 0.5)), math.sqrt(2 * math.pi)),),
        heavy=True,
        domain=((0.01, 0.99),),
    )
)
