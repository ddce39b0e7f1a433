"""The math library through the NumPy implementation of the scalar protocol: bounds in ulp and special values.

float32 is measured against SciPy and NumPy in float64 on a stride through all bit patterns, float64 against mpmath on a
few thousand points of each function's domain.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import fit_mathlib
import mpmath
import numpy as np
import pytest
import scipy.special

from graphc.dtypes import from_name
from graphc.ir import registry
from graphc.ir.op import Elementwise
from graphc.ops import coefficients, mathlib
from graphc.ops.numpy_scalar import NumpyScalar

Array = np.ndarray[Any, Any]
S = NumpyScalar()
FUNCTIONS: dict[str, Callable[..., Any]] = {**mathlib.UNARY, **mathlib.BINARY}
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the references and of conversions
DTYPES = {"f32": np.float32, "f64": np.float64}


def run(name: str, *arrays: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[name](S, *arrays))


# -- references --------------------------------------------------------------------------------------------------------

mpmath.mp.prec = 120

WIDE: dict[str, Callable[..., Any]] = {
    "sigmoid": scipy.special.expit,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "pow": np.power,
}
EXACT: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "log10": lambda x: mpmath.log(x, 10),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "pow": mpmath.power,
}


def reference32(name: str, *arrays: Array) -> Array:
    """The function in float64, right to far more than float32 shows."""
    with np.errstate(all="ignore"):
        function = WIDE.get(name) or getattr(np, name)
        return np.asarray(function(*(a.astype(np.float64) for a in arrays)))


def errors32(name: str, *arrays: Array) -> Array:
    """Errors in ulp where the exact result is finite in float32."""
    got = run(name, *arrays).astype(np.float64)
    exact = reference32(name, *arrays)
    largest = float(np.finfo(np.float32).max)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(exact)
        ulp = np.ldexp(1.0, np.maximum(exponent - 24, -149))
        error = np.abs(got - exact) / ulp
        # Overflow: infinity stands for the first number beyond the largest.
        beyond = np.abs(exact) > largest
        clipped = np.where(np.isinf(got), np.copysign(2.0**128, got), got)
        error = np.where(beyond, np.abs(clipped - np.clip(exact, -(2.0**128), 2.0**128)) / 2.0**104, error)
        error = np.where(np.isnan(exact) & np.isnan(got), 0, error)
        return np.where((exact == got), 0, error)


def errors64(name: str, *arrays: Array) -> list[float]:
    """Errors in ulp of float64, against mpmath."""
    got = run(name, *arrays)
    function = EXACT.get(name) or getattr(mpmath, name)
    found = []
    for i, value in enumerate(got):
        exact = function(*(mpmath.mpf(float(a[i])) for a in arrays))
        _, exponent = mpmath.frexp(exact)
        ulp = mpmath.ldexp(1, max(exponent - 53, -1074))
        clipped = np.copysign(1.0, value) * mpmath.ldexp(1, 1024) if np.isinf(value) else mpmath.mpf(float(value))
        if abs(exact) >= mpmath.ldexp(1, 1024):
            exact, ulp = mpmath.sign(exact) * mpmath.ldexp(1, 1024), mpmath.ldexp(1, 971)
        found.append(float(abs(clipped - exact) / ulp))
    return found


# -- points ------------------------------------------------------------------------------------------------------------

#: Where a function is defined and finite, for float64.
DOMAIN: dict[str, tuple[float, float]] = {
    "exp": (-746, 710),
    "exp2": (-1076, 1025),
    "expm1": (-60, 710),
    "log": (0, np.inf),
    "log2": (0, np.inf),
    "log10": (0, np.inf),
    "log1p": (-1, np.inf),
    "sigmoid": (-746, 60),
    "tanh": (-25, 25),
    "erf": (-7, 7),
    "erfc": (-8, 28),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atanh": (-1, 1),
    "acosh": (1, np.inf),
    "sinh": (-711, 711),
    "cosh": (-711, 711),
}


def points64(name: str, count: int, seed: int = 0) -> Array:
    """Points of the domain: uniform in it, uniform near 0 and 1, uniform in bits, and close to multiples of pi/4."""
    rng = np.random.default_rng([seed, len(name)])
    low, high = DOMAIN.get(name, (-np.inf, np.inf))
    bound_low, bound_high = max(low, -1e4), min(high, 1e4)
    parts = [
        rng.uniform(bound_low, bound_high, count),
        rng.uniform(-3, 3, count),
        1 + rng.uniform(-1, 1, count // 2) * 10.0 ** rng.uniform(-16, 0, count // 2),
        rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
        rng.choice([-1, 1], count // 2) * 10.0 ** rng.uniform(-320, -1, count // 2),
        np.rint(10.0 ** rng.uniform(0, 14, count // 2)) * (np.pi / 4),
        np.array([0.55, 0.5, 1.0, 2.0**-28, 2.0**28, 2.0**-54, 5e-324, 2.0**-1022, 1.7e308]),
    ]
    points = np.concatenate(parts)
    return points[np.isfinite(points) & (points > low) & (points < high) & (points != 0)]


def patterns32(stride: int) -> Array:
    """Every `stride`-th bit pattern of float32."""
    return np.arange(0, 2**32, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)


def pairs(dtype: Any, count: int, name: str) -> tuple[Array, Array]:
    """Operands of the binary functions: moderate ones, close ones, and any bits."""
    rng = np.random.default_rng([7, count])
    bits = np.uint32 if dtype is np.float32 else np.uint64
    limit = 2 ** (8 * bits().itemsize)
    x = [10.0 ** rng.uniform(-5, 5, count), 1 + rng.uniform(-0.3, 0.4, count), 10.0 ** rng.uniform(-38, 38, count)]
    y = [rng.uniform(-20, 20, count), rng.uniform(-300, 300, count), rng.uniform(-3, 3, count)]
    first, second = np.concatenate(x).astype(dtype), np.concatenate(y).astype(dtype)
    if name != "pow":
        first *= rng.choice([-1, 1], first.size).astype(dtype)
        second[::3] = first[::3] * rng.uniform(0.5, 2, first[::3].size).astype(dtype)
    any_bits = [rng.integers(0, limit, count, dtype=bits).view(dtype) for _ in range(2)]
    if name == "pow":
        any_bits[0] = np.abs(any_bits[0])
    keep = np.isfinite(any_bits[0]) & np.isfinite(any_bits[1]) & (any_bits[0] != 0) & (any_bits[1] != 0)
    return np.r_[first, any_bits[0][keep]], np.r_[second, any_bits[1][keep]]


# -- tests -------------------------------------------------------------------------------------------------------------


def bound(name: str, dtype: str) -> float:
    """The bound that the op which the function lowers declares."""
    op = registry.get({"pow": "power"}.get(name, name))
    assert isinstance(op, Elementwise) and op.ulp is not None
    return op.bound(from_name(dtype))


def test_every_function_has_a_bound_in_both_dtypes_and_every_bound_a_function() -> None:
    assert all(0.5 <= bound(name, dtype) <= 4 for name in FUNCTIONS for dtype in DTYPES)
    inexact = {op.name for op in registry.all_ops() if isinstance(op, Elementwise) and not op.exact}
    assert inexact == {"power" if name == "pow" else name for name in FUNCTIONS}


@functools.cache
def stride_points() -> Array:
    return np.concatenate([patterns32(100_003), np.linspace(-10, 10, 20_001, dtype=np.float32)])


@pytest.mark.parametrize("name", mathlib.UNARY)
def test_float32_error_is_within_its_bound(name: str) -> None:
    points = stride_points()
    errors = errors32(name, points)
    worst = int(np.nanargmax(np.where(np.isnan(errors), np.inf, errors)))
    assert errors[worst] <= bound(name, "f32"), (points[worst], errors[worst])
    assert errors.max() > 0.25


@pytest.mark.parametrize("name", mathlib.UNARY)
def test_float64_error_is_within_its_bound(name: str) -> None:
    points = points64(name, 300)
    errors = errors64(name, points)
    worst = int(np.argmax(errors))
    assert errors[worst] <= bound(name, "f64"), (points[worst], errors[worst])
    assert errors[worst] > 0.25


@pytest.mark.parametrize("name", mathlib.BINARY)
def test_binary_functions_are_within_their_bounds(name: str) -> None:
    operands = pairs(np.float32, 10_000, name)
    errors = errors32(name, *operands)
    assert errors.max() <= bound(name, "f32"), [a[np.argmax(errors)] for a in operands]
    operands = pairs(np.float64, 400, name)
    if name == "pow":
        operands = moderate_powers(*operands)
    wide = errors64(name, *operands)
    assert max(wide) <= bound(name, "f64"), [a[np.argmax(wide)] for a in operands]


def moderate_powers(x: Array, y: Array) -> tuple[Array, Array]:
    """Without exponents so large that mpmath would compute an astronomical number."""
    keep = np.abs(y * np.log2(x)) < 5000
    return x[keep], y[keep]


INF, NAN = np.inf, np.nan

#: Exact results at special values, for both dtypes (the values must be exact in float32).
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0), (NAN, NAN)],
    "exp2": [(0.0, 1), (10, 1024), (-3, 0.125), (INF, INF), (-INF, 0), (2000, INF), (-2000, 0), (-149, 2.0**-149)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1), (-200, -1), (1e4, INF), (NAN, NAN), (1e-40, None)],
    "log": [(1, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (-1e-40, NAN), (NAN, NAN)],
    "log2": [(1, 0.0), (8, 3), (2.0**-149, -149), (2.0**-126, -126), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN)],
    "log10": [(1, 0.0), (1000, 3), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (NAN, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (INF, INF), (-INF, NAN), (NAN, NAN), (2.0**-149, None)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0.0), (1e4, 1), (-1e4, 0.0), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (50, 1), (-50, -1), (NAN, NAN), (2.0**-149, None)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e4, INF), (NAN, NAN), (2.0**-149, None)],
    "cosh": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, INF), (-1e4, INF), (NAN, NAN)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (2.0**-149, None)],
    "acosh": [(1, 0.0), (0.5, NAN), (-3, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1, INF), (-1, -INF), (2, NAN), (-INF, NAN), (NAN, NAN), (2.0**-149, None)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (9, 1), (-9, -1), (NAN, NAN)],
    "erfc": [(0.0, 1), (-0.0, 1), (INF, 0.0), (-INF, 2), (40, 0.0), (-9, 2), (NAN, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (2.0**-149, None)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (2.0**-149, None)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-1.5, NAN), (INF, NAN), (NAN, NAN), (2.0**-149, None)],
    "acos": [(1, 0.0), (1.5, NAN), (-1.5, NAN), (-INF, NAN), (NAN, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (NAN, NAN), (2.0**-149, None)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (27, 3), (-8, -2), (INF, INF), (-INF, -INF), (NAN, NAN), (2.0**-147, 2.0**-49)],
}


def equal_or_nan(got: Array, expected: Array) -> Array:
    """Equal with the sign of zero, or both NaN."""
    signs = np.signbit(got) == np.signbit(expected)
    return ((got == expected) & signs) | (np.isnan(got) & np.isnan(expected))


def test_special_values_are_listed_for_every_function() -> None:
    assert set(SPECIAL) == set(mathlib.UNARY)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: str) -> None:
    """None stands for the operand itself."""
    kind = DTYPES[dtype]
    x = np.array([x for x, _ in SPECIAL[name]], kind)
    expected = np.array([x if y is None else y for x, y in SPECIAL[name]], kind)
    got = run(name, x)
    assert got.dtype == kind
    equal = equal_or_nan(got, expected)
    assert equal.all(), (x[~equal], got[~equal], expected[~equal])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", mathlib.BINARY)
def test_special_values_of_binary_functions_are_numpys(name: str, dtype: str) -> None:
    kind = DTYPES[dtype]
    values = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 1e30, 2.0**24 + 2, 2.0**-126, INF, NAN], kind)
    values = np.concatenate([values, -values])
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot}[name](x, y)
    got = run(name, x, y)
    with np.errstate(all="ignore"):
        close = np.isfinite(expected) & (np.abs(got - expected) <= 4 * np.spacing(np.abs(expected)))
        close &= np.signbit(got) == np.signbit(expected)
    equal = equal_or_nan(got, expected) | (close & (expected != 0))
    assert equal.all(), (x[~equal], y[~equal], got[~equal], expected[~equal])


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_and_even_functions(dtype: str) -> None:
    x = np.concatenate([points64("atan", 200), [INF]]).astype(DTYPES[dtype])
    for name in ("tanh", "sinh", "asinh", "atanh", "erf", "sin", "tan", "asin", "atan", "cbrt"):
        assert equal_or_nan(run(name, -x), -run(name, x)).all(), name
    for name in ("cos", "cosh"):
        assert equal_or_nan(run(name, -x), run(name, x)).all(), name


def test_trigonometry_of_huge_numbers() -> None:
    """Both sides of the switch of reductions, all exponents, and the float64 next to a multiple of pi/2
    (Muller, Elementary Functions, 2006: 6381956970095103 * 2**797)."""
    rng = np.random.default_rng(5)
    x = np.ldexp(rng.uniform(0.5, 1, 975) * rng.choice([-1, 1], 975), np.arange(50, 1025))
    x = np.concatenate([x, [2.0**50, np.nextafter(2.0**50, 0), 6381956970095103 * 2.0**797, np.finfo(float).max]])
    for name in ("sin", "cos", "tan"):
        assert max(errors64(name, x)) <= bound(name, "f64")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_and_scalar_operands(name: str, dtype: str) -> None:
    operands = 1 + (name in mathlib.BINARY)
    for shape in ((0,), (), (3, 1)):
        result = run(name, *[np.full(shape, 0.75, DTYPES[dtype])] * operands)
        assert result.shape == shape
        assert result.dtype == from_name(dtype).numpy


def test_coefficients_have_the_stated_error() -> None:
    """Each polynomial against its target on points of its interval; the file's comments state the error."""
    text = inspect.getsource(coefficients)
    stated = {m[2]: float(m[1]) for m in re.finditer(r"error 2\*\*(-[\d.]+)\.\n(\w+) = ", text)}
    for fit in fit_mathlib.fits():
        name = fit_mathlib.constant_name(fit)
        values = [mpmath.mpf(v) for v in getattr(coefficients, name)]
        assert len(values) == fit.terms
        assert all(fit_mathlib.rounded(v, fit.dtype) == v for v in values)
        errors = [abs(fit.weight(x) * (fit_mathlib.value(values, x) - fit.target(x))) for x in fit.nodes(34)]
        assert max(errors) <= mpmath.mpf(2) ** (stated.pop(name) + 0.06), name
    assert not stated
