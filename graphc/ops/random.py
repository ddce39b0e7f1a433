"""Random bits and the distributions made of them: the same bits everywhere. Layer 2.

Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A counter of four words is
enciphered under a key of two; element i of a result is a function of the key and of i alone.

The distributions take integers and use exactly rounded operations only, in a stated order and without contraction, so that
NumPy and compiled code give equal bits. Their `numpy` is therefore their `scalar` on arrays, and the independent check is
by SciPy's distributions, in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import DType, float32, float64, int32, int64, uint32, uint64
from graphc.errors import DTypeError, ShapeError
from graphc.ir.op import Elementwise, Random, type_error
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import Shape, TensorType, Type
from graphc.ops.mathbase import strict
from graphc.ops.numpy_scalar import NumpyScalar
from graphc.ops.rules import same_float

__all__ = [
    "float_of_bits",
    "in_pieces",
    "log_normal_number",
    "normal_from_bits",
    "normal_scalar",
    "philox",
    "philox_scalar",
    "polynomial",
    "quantile_size",
    "random_bits",
    "scale_shift",
    "uniform_from_bits",
]

Array = NDArray[Any]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


# -- bits -------------------------------------------------------------------------------------------------------------


def _wide(x: Any) -> Array:
    return np.asarray(x).astype(np.uint64)


def philox(counter: Sequence[Array], key: Sequence[Array]) -> tuple[Array, Array, Array, Array]:
    """Philox4x32-10 on four u32 counter words (arrays) and two key words: NumPy definition."""
    mask = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (_wide(c) for c in counter)
    k0, k1 = (_wide(k) for k in key)
    for _ in range(_ROUNDS):
        first, second = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ k0,
            second & mask,
            (first >> np.uint64(32)) ^ c3 ^ k1,
            first & mask,
        )
        k0, k1 = (k0 + np.uint64(_WEYL[0])) & mask, (k1 + np.uint64(_WEYL[1])) & mask
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def philox_scalar(s: Scalar, counter: Sequence[S], key: Sequence[S]) -> list[S]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = (s.const(uint32, m) for m in _MULTIPLIERS)
    for _ in range(_ROUNDS):
        high0, low0 = s.mul_high(c0, m0), s.mul(c0, m0)
        high1, low1 = s.mul_high(c2, m1), s.mul(c2, m1)
        c0, c1, c2, c3 = s.xor(s.xor(high1, c1), k0), low1, s.xor(s.xor(high0, c3), k1), low0
        k0, k1 = s.add(k0, s.const(uint32, _WEYL[0])), s.add(k1, s.const(uint32, _WEYL[1]))
    return [c0, c1, c2, c3]


def _bits_rule(*operands: Type, shape: Shape, dtype: DType) -> tuple[Type, ...]:
    key = operands[0] if len(operands) == 1 else None
    if not isinstance(key, TensorType) or key.dtype is not uint32 or key.shape[-1:] not in ((2,), (4,)):
        raise ShapeError(type_error("random_bits", "the key must be u32[2] or u32[4], or an array of keys", operands))
    if tuple(shape[: key.rank - 1]) != key.shape[:-1]:
        raise ShapeError(type_error("random_bits", f"shape {shape} does not begin with the keys' axes", operands))
    if dtype not in (uint32, uint64):
        raise DTypeError("random_bits: dtype must be u32 or u64")
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise ShapeError(f"random_bits: shape {shape} has a negative size")
    return (TensorType(dtype, tuple(shape)),)


def _bits_numpy(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    count = math.prod(shape[key.ndim - 1 :])
    words = count * dtype.itemsize // 4
    block = np.arange((words + 3) // 4, dtype=np.uint64)
    key = np.moveaxis(key, -1, 0)[..., None]
    upper = key[2:] if key.shape[0] == 4 else np.zeros_like(key)
    results = philox((block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), upper[0], upper[1]), (key[0], key[1]))
    rows = np.stack(np.broadcast_arrays(*results), axis=-1).astype(np.uint64)
    flat = rows.reshape(*key.shape[1:-1], 4 * block.size)[..., :words]
    if dtype is uint64:
        flat = flat[..., 0::2] | (flat[..., 1::2] << np.uint64(32))
    return flat.astype(dtype.numpy).reshape(shape)


def _bits_scalar(s: Scalar, counter: S, *key: S, shape: Shape, dtype: DType) -> S:
    """`counter` is the element's flat index (i64); `key` are the two or four words of the key."""
    per_block = 2 if dtype is uint32 else 1
    block = s.lshr(counter, per_block)
    zero = s.const(uint32, 0)
    upper = key[2:] or (zero, zero)
    words = philox_scalar(s, (s.convert(block, uint32), s.convert(s.lshr(block, 32), uint32), *upper), key[:2])
    one, none = s.const(int64, 1), s.const(int64, 0)
    odd = s.ne(s.and_(counter, one), none)
    if dtype is uint64:
        low, high = (s.convert(s.select(odd, words[k + 2], words[k]), uint64) for k in range(2))
        return s.or_(low, s.shl(high, 32))
    second = s.ne(s.and_(counter, s.const(int64, 2)), none)
    return s.select(second, s.select(odd, words[3], words[2]), s.select(odd, words[1], words[0]))


random_bits = register(
    Random(
        name="random_bits",
        doc="""Independent uniform u32 or u64 of `shape` by Philox4x32-10. The key operand holds the two key words
        and, if it has four, the upper half of the counter (a stream number). With i the element's flat index: a u32
        is word i % 4 of the block whose counter is i // 4; a u64 is words 2j (low) and 2j + 1 (high), j = i % 2, of
        block i // 2. An element depends on the key and i only, not on the shape. An empty shape gives an empty
        result. Keys in an array: the leading axes of `shape` are theirs, and i counts the elements of each key.""",
        attributes=("shape", "dtype"),
        rule=_bits_rule,
        numpy=_bits_numpy,
        scalar=_bits_scalar,
        shift=lambda size, shape, dtype: {"shape": (size, *shape), "dtype": dtype},
    )
)


# -- distributions ----------------------------------------------------------------------------------------------------


def float_of_bits(dtype: DType) -> DType:
    if dtype not in (uint32, uint64):
        raise DTypeError(f"takes u32 or u64, not {dtype.name}")
    return float32 if dtype is uint32 else float64


def _uniform_scalar(s: Scalar, bits: S) -> S:
    dtype = s.dtype(bits)
    result, digits = float_of_bits(dtype), 24 if dtype is uint32 else 53
    return s.mul(s.convert(s.lshr(bits, dtype.bits - digits), result), s.const(result, 2.0**-digits))


def _uniform_numpy(bits: Array) -> Array:
    if bits.dtype == np.uint32:
        return np.asarray((bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


uniform_from_bits = register(
    Elementwise(
        name="uniform_from_bits",
        doc="""y = the upper 24 bits of a u32 (53 of a u64) * 2**-24 (2**-53), a f32 (f64) in [0, 1): every multiple
        of 2**-24 (2**-53) is equally likely, 0 included, 1 not.""",
        arity=1,
        types=float_of_bits,
        numpy=_uniform_numpy,
        scalar=_uniform_scalar,
    )
)

# Michael J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37 (1988):
# PPND7 (relative accuracy 1e-7) for float32 and PPND16 (1e-16) for float64. Per dtype: numerator and denominator, lowest power
# first, for |q| <= 0.425 (in 0.180625 - q*q), and with r = sqrt(-log(tail)) for r <= 5 (in r - 1.6) and beyond (in r - 5).
Ratio = tuple[tuple[float, ...], tuple[float, ...]]
_PPND: dict[DType, tuple[Ratio, Ratio, Ratio]] = {
    float32: (
        (
            (3.3871327179e00, 5.0434271938e01, 1.5929113202e02, 5.9109374720e01),
            (1.0, 1.7895169469e01, 7.8757757664e01, 6.7187563600e01),
        ),
        (
            (1.4234372777e00, 2.7568153900e00, 1.3067284816e00, 1.7023821103e-01),
            (1.0, 7.3700164250e-01, 1.2021132975e-01),
        ),
        (
            (6.6579051150e00, 3.0812263860e00, 4.2868294337e-01, 1.7337203997e-02),
            (1.0, 2.4197894225e-01, 1.2258202635e-02),
        ),
    ),
    float64: (
        (
            (
                *(3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4),
                *(4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
            ),
            (
                *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3),
                *(2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
            ),
        ),
        (
            (
                *(
                    1.42343711074968357734e0,
                    4.63033784615654529590e0,
                    5.76949722146069140550e0,
                    3.64784832476320460504e0,
                ),
                *(1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2),
                7.74545014278341407640e-4,
            ),
            (
                *(1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1),
                *(1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4),
                1.05075007164441684324e-9,
            ),
        ),
        (
            (
                *(
                    6.65790464350110377720e0,
                    5.46378491116411436990e0,
                    1.78482653991729133580e0,
                    2.96560571828504891230e-1,
                ),
                *(2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5),
                2.01033439929228813265e-7,
            ),
            (
                *(1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2),
                *(7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7),
                2.04426310338993978564e-15,
            ),
        ),
    ),
}
#: Terms of the series of `log_normal_number`: atanh(z)/z to relative 2**-28 (2**-57) for |z| <= 0.1716.
_LOG_TERMS = {float32: 6, float64: 12}


def polynomial(s: Scalar, coefficients: Sequence[float], x: S) -> S:
    dtype = s.dtype(x)
    result = s.const(dtype, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = s.add(s.mul(result, x), s.const(dtype, c))
    return result


def log_normal_number(s: Scalar, x: S) -> S:
    """log of a normal number, within a few ulp away from 1.

    exponent * ln 2 + 2 atanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2)).
    """
    dtype = s.dtype(x)
    integer, mantissa = (int32, 23) if dtype is float32 else (int64, 52)
    pattern = s.bitcast(x, integer)
    # How far the bit pattern is above that of sqrt(1/2): its upper part is the exponent.
    root = s.bitcast(s.const(dtype, math.sqrt(0.5)), integer)
    exponent = s.ashr(s.sub(pattern, root), mantissa)
    m = s.bitcast(s.sub(pattern, s.shl(exponent, mantissa)), dtype)
    unit = s.const(dtype, 1.0)
    z = s.div(s.sub(m, unit), s.add(m, unit))
    series = polynomial(s, [2 / (2 * k + 1) for k in range(_LOG_TERMS[dtype])], s.mul(z, z))
    return s.add(s.mul(s.convert(exponent, dtype), s.const(dtype, math.log(2))), s.mul(series, z))


def normal_scalar(s: Scalar, bits: S) -> S:
    """The top bit is the sign; the others, as an integer m, give the distance (m + 1/2) / 2**bits of the quantile from 1/2. The
    distance to the nearer end, 1/2 - that, is formed from the complement of m: both are accurate however small."""
    s = strict(s)
    dtype = s.dtype(bits)
    result = float_of_bits(dtype)
    signed = int32 if dtype is uint32 else int64
    largest = 2 ** (dtype.bits - 1) - 1
    scale, half = s.const(result, 2.0**-dtype.bits), s.const(result, 0.5)
    m = s.bitcast(s.and_(bits, s.const(dtype, largest)), signed)
    q = s.mul(s.add(s.convert(m, result), half), scale)
    tail = s.mul(s.add(s.convert(s.sub(s.const(signed, largest), m), result), half), scale)
    size = quantile_size(s, q, tail)
    negative = s.lt(s.bitcast(bits, signed), s.const(signed, 0))
    return s.select(negative, s.neg(size), size)


def quantile_size(s: Scalar, q: S, tail: S) -> S:
    """|quantile| of the standard normal distribution at a distance q from 1/2, tail = 1/2 - q from the nearer end; tail is
    positive and not subnormal."""
    dtype = s.dtype(q)
    central, middle, far = _PPND[dtype]
    inner = s.mul(_ratio(s, central, s.sub(s.const(dtype, 0.180625), s.mul(q, q))), q)
    r = s.sqrt(s.neg(log_normal_number(s, tail)))
    outer = s.select(
        s.le(r, s.const(dtype, 5.0)),
        _ratio(s, middle, s.sub(r, s.const(dtype, 1.6))),
        _ratio(s, far, s.sub(r, s.const(dtype, 5.0))),
    )
    return s.select(s.le(q, s.const(dtype, 0.425)), inner, outer)


def _ratio(s: Scalar, coefficients: Ratio, x: S) -> S:
    numerator, denominator = coefficients
    return s.div(polynomial(s, numerator, x), polynomial(s, denominator, x))


def in_pieces(rule: Callable[..., S]) -> Callable[..., Array]:
    """A scalar rule as a function of arrays of one shape, in pieces that stay in the cache."""

    def compute(*operands: Array) -> Array:
        flat = [np.ascontiguousarray(x).reshape(-1) for x in operands]
        piece = 16384
        parts = [
            np.asarray(rule(NumpyScalar(), *(x[start : start + piece] for x in flat)))
            for start in range(0, max(flat[0].size, 1), piece)
        ]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(np.shape(operands[0]))

    return compute


normal_from_bits = register(
    Elementwise(
        name="normal_from_bits",
        doc="""y = the standard normal quantile of ((bits mod 2**(w-1)) + 1/2) / 2**w + 1/2, negative if the top bit
        is set, for u32 (f32, relative error below 1e-6, |y| <= 6.4) or u64 (f64, 1e-14, |y| <= 9.2); odd in the top
        bit, never 0, infinite or NaN.""",
        arity=1,
        types=float_of_bits,
        numpy=in_pieces(normal_scalar),
        scalar=normal_scalar,
        heavy=True,
    )
)


def _scale_shift_scalar(s: Scalar, x: S, scale: S, shift: S) -> S:
    s = strict(s)
    return s.add(s.mul(x, scale), shift)


scale_shift = register(
    Elementwise(
        name="scale_shift",
        doc="""y = x * scale + shift, both operations rounded, never contracted to one: what turns a standard
        distribution into another one with the same bits everywhere. Special values as the two operations have
        them.""",
        arity=3,
        types=same_float,
        numpy=lambda x, scale, shift: x * scale + shift,
        scalar=_scale_shift_scalar,
        partials=lambda b, y, x, scale, shift: (scale, x, 1),
    )
)
