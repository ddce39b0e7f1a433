"""Elementwise functions composed of others. Layer 5. Names are NumPy's; semantics too.

`COMPOSED` are ufuncs without an op of their own: NumPy says what they accept and promotes, a formula over tensors of one
dtype and shape gives the result (and so its derivative and its kernel). Where a formula divides cases, the derivative of
the case that is not taken does not leak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.frontend.elementwise import (
    abs,
    add,
    apply_ufunc,
    copysign,
    divide,
    equal,
    exp,
    exp2,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    not_equal,
    signbit,
    sin,
    subtract,
    trunc,
    where,
)
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, op, promote, unify
from graphc.frontend.tensor import Tensor

__all__ = [
    "COMPOSED",
    "allclose",
    "angle",
    "array_equal",
    "conj",
    "deg2rad",
    "divmod",
    "fabs",
    "fix",
    "float_power",
    "fmax",
    "fmin",
    "heaviside",
    "imag",
    "isclose",
    "isneginf",
    "isposinf",
    "logaddexp",
    "logaddexp2",
    "modf",
    "nan_to_num",
    "rad2deg",
    "real",
    "sinc",
]


def _log_of_sum(x: Tensor, y: Tensor, power: Callable[[Any], Tensor], scale: float) -> Tensor:
    """max(x, y) + scale * log1p(power(-|x - y|)); equal operands, infinite ones too, are at distance 0."""
    apart = where(equal(x, y), 0, subtract(x, y))
    rest = log1p(power(apply_ufunc("negative", abs(apart))))
    return add(maximum(x, y), rest if scale == 1 else multiply(rest, scale))


def _logaddexp(x: Tensor, y: Tensor) -> Tensor:
    return _log_of_sum(x, y, exp, 1)


def _logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    return _log_of_sum(x, y, exp2, 1 / math.log(2))


def _heaviside(x: Tensor, at_zero: Tensor) -> Tensor:
    step = where(less(x, 0), 0, where(equal(x, 0), at_zero, 1))
    return where(isnan(x), x, step)


def _fmax(x: Tensor, y: Tensor) -> Tensor:
    return where(isnan(y), x, where(isnan(x), y, maximum(x, y)))


def _fmin(x: Tensor, y: Tensor) -> Tensor:
    return where(isnan(y), x, where(isnan(x), y, minimum(x, y)))


#: Name: (NumPy ufunc, formula).
COMPOSED: dict[str, tuple[np.ufunc, Callable[..., Tensor]]] = {
    "logaddexp": (np.logaddexp, _logaddexp),
    "logaddexp2": (np.logaddexp2, _logaddexp2),
    "heaviside": (np.heaviside, _heaviside),
    "fabs": (np.fabs, abs),
    "fmax": (np.fmax, _fmax),
    "fmin": (np.fmin, _fmin),
    "float_power": (np.float_power, lambda x, y: op("power", x, y)),
    "deg2rad": (np.deg2rad, lambda x: multiply(x, math.pi / 180)),
    "rad2deg": (np.rad2deg, lambda x: multiply(x, 180 / math.pi)),
    "conj": (np.conjugate, lambda x: op("conj", x) if x.type.dtype.is_complex else x),
}


def _function(name: str) -> Callable[..., Tensor]:
    ufunc, formula = COMPOSED[name]

    def apply(*operands: Any) -> Tensor:
        tensors = unify(name, promote(name, ufunc, operands))
        dtype = tensors[0].type.dtype
        if dtype.is_short_float:
            # Rounded once, as NumPy does.
            return convert(formula(*(convert(t, np.float32) for t in tensors)), dtype.numpy)
        return formula(*tensors)

    if ufunc.nin == 1:

        def unary(x: Any, /) -> Tensor:
            return apply(x)

        function: Callable[..., Tensor] = unary
    else:

        def binary(x1: Any, x2: Any, /) -> Tensor:
            return apply(x1, x2)

        function = binary

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Elementwise `numpy.{ufunc.__name__}`, composed; returns a Tensor."
    return function


logaddexp = _function("logaddexp")
logaddexp2 = _function("logaddexp2")
heaviside = _function("heaviside")
fabs = _function("fabs")
fmax = _function("fmax")
fmin = _function("fmin")
float_power = _function("float_power")
deg2rad = _function("deg2rad")
rad2deg = _function("rad2deg")
conj = _function("conj")


def modf(x: Any, /) -> tuple[Tensor, Tensor]:
    """Fraction and integer part, both with the sign of x, as `numpy.modf`."""
    (tensor,) = promote("modf", np.modf, (x,))
    whole = trunc(tensor)
    fraction = where(isinf(tensor), 0, subtract(tensor, whole))
    return copysign(fraction, tensor), whole


def divmod(x1: Any, x2: Any, /) -> tuple[Tensor, Tensor]:
    """Floored quotient and remainder, as `numpy.divmod`."""
    return apply_ufunc("floor_divide", x1, x2), apply_ufunc("remainder", x1, x2)


def fix(x: Any, /) -> Tensor:
    """Rounded towards zero, as `numpy.fix`."""
    return trunc(x)


def sinc(x: Any, /) -> Tensor:
    """sin(pi * x) / (pi * x), 1 at 0; as `numpy.sinc`."""
    scaled = multiply(as_tensor(x), math.pi)
    zero = equal(scaled, 0)
    nonzero = where(zero, 1.0, scaled)
    return where(zero, 1.0, divide(sin(nonzero), nonzero))


def nan_to_num(x: Any, /, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN, inf and -inf replaced by numbers (by default 0 and the dtype's extremes), as `numpy.nan_to_num`."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_complex:
        parts = [nan_to_num(op(part, tensor), nan=nan, posinf=posinf, neginf=neginf) for part in ("real", "imag")]
        return op("make_complex", *parts)
    if not tensor.type.dtype.is_float:
        return tensor
    limits = np.finfo(tensor.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    ends = (np.asarray(end, tensor.dtype) for end in (low, high))
    finite = where(isinf(tensor), where(less(tensor, 0), *ends), tensor)
    return where(isnan(tensor), nan, finite)


def isposinf(x: Any, /) -> Tensor:
    """Whether x is +inf."""
    return logical_and(isinf(x), logical_not(signbit(x)))


def isneginf(x: Any, /) -> Tensor:
    """Whether x is -inf."""
    return logical_and(isinf(x), signbit(x))


def isclose(x1: Any, x2: Any, /, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x1 - x2| <= atol + rtol * |x2| for finite operands, else equality; as `numpy.isclose`."""
    x, y = as_tensor(x1), as_tensor(x2)
    finite = logical_and(isfinite(x), isfinite(y))
    if not (x.type.dtype.is_inexact or y.type.dtype.is_inexact):
        x = apply_ufunc("multiply", x, 1.0)
    near = less_equal(abs(subtract(x, y)), add(multiply(abs(y), rtol), atol))
    close = logical_or(logical_and(near, finite), equal(x, y))
    if not equal_nan:
        return close
    return logical_or(close, logical_and(not_equal(x, x), not_equal(y, y)))


def allclose(x1: Any, x2: Any, /, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether all elements are close (see `isclose`), as a 0-d bool."""
    close = isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return op("all", close, axes=tuple(range(close.ndim))) if close.ndim else close


def array_equal(x1: Any, x2: Any, /, *, equal_nan: bool = False) -> Tensor:
    """Whether two arrays have one shape and equal elements, as a 0-d bool."""
    x, y = as_tensor(x1), as_tensor(x2)
    if x.shape != y.shape:
        return as_tensor(np.asarray(False))
    same = equal(x, y)
    if equal_nan:
        same = logical_or(same, logical_and(not_equal(x, x), not_equal(y, y)))
    return op("all", same, axes=tuple(range(same.ndim))) if same.ndim else same


def real(x: Any, /) -> Tensor:
    """The real part: x itself for real numbers."""
    tensor = as_tensor(x)
    return op("real", tensor) if tensor.type.dtype.is_complex else tensor


def imag(x: Any, /) -> Tensor:
    """The imaginary part: zeros for real numbers."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_complex:
        return op("imag", tensor)
    return broadcast_to(as_tensor(np.zeros((), tensor.dtype)), tensor.shape)


def angle(x: Any, /) -> Tensor:
    """The angle in the complex plane, in (-pi, pi]: of real numbers 0, or pi for negative ones."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_complex:
        return op("atan2", op("imag", tensor), op("real", tensor))
    if not tensor.type.dtype.is_float:
        tensor = multiply(tensor, 1.0)
    half_turn, zero = (np.asarray(v, tensor.dtype) for v in (math.pi, 0.0))
    return where(isnan(tensor), tensor, where(signbit(tensor), half_turn, zero))
