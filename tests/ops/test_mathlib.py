"""The math library through the NumPy implementation of the scalar protocol: bounds in ulp and special values.

float32 is measured against SciPy and NumPy in float64 on a stride through all bit patterns, float64 against mpmath on a
few thousand points of each function's domain.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fit_mathlib
import mpmath
import numpy as np
import pytest

from graphc.dtypes import from_name
from graphc.ops import coefficients, mathlib
from graphc.ops.numpy_scalar import NumpyScalar

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import accuracy  # noqa: E402

Array = np.ndarray[Any, Any]
S = NumpyScalar()
#: By the names of the ops that they lower.
BINARY = {"power" if name == "pow" else name: function for name, function in mathlib.BINARY.items()}
FUNCTIONS: dict[str, Callable[..., Any]] = {**mathlib.UNARY, **BINARY}
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the references and of conversions
DTYPES = {"f32": np.float32, "f64": np.float64}


def run(name: str, *arrays: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[name](S, *arrays))


INEXACT = {op.name: op for op in accuracy.inexact()}


def bound(name: str, dtype: str) -> float:
    """The bound that the op declares."""
    return INEXACT[name].bound(from_name(dtype))


def errors32(name: str, *arrays: Array) -> Array:
    return accuracy.errors32(run(name, *arrays), accuracy.reference32(INEXACT[name], *arrays))


def errors64(name: str, *arrays: Array) -> list[float]:
    return accuracy.errors64(INEXACT[name], run(name, *arrays), *arrays)


# -- tests -------------------------------------------------------------------------------------------------------------


def test_every_function_has_a_bound_in_both_dtypes_and_every_bound_a_function() -> None:
    assert set(INEXACT) == set(FUNCTIONS)
    assert all(0.5 <= bound(name, dtype) <= 4 for name in FUNCTIONS for dtype in DTYPES)


@functools.cache
def stride_points() -> Array:
    patterns = np.arange(0, 2**32, 100_003, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([patterns, np.linspace(-10, 10, 20_001, dtype=np.float32)])


@pytest.mark.parametrize("name", mathlib.UNARY)
def test_float32_error_is_within_its_bound(name: str) -> None:
    points = stride_points()
    errors = errors32(name, points)
    worst = int(np.nanargmax(np.where(np.isnan(errors), np.inf, errors)))
    assert errors[worst] <= bound(name, "f32"), (points[worst], errors[worst])
    assert errors.max() > 0.25


@pytest.mark.parametrize("name", mathlib.UNARY)
def test_float64_error_is_within_its_bound(name: str) -> None:
    points = accuracy.points64(name, 300)
    errors = errors64(name, points)
    worst = int(np.argmax(errors))
    assert errors[worst] <= bound(name, "f64"), (points[worst], errors[worst])
    assert errors[worst] > 0.25


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_within_their_bounds(name: str) -> None:
    operands = accuracy.pairs(np.float32, 10_000, name)
    errors = errors32(name, *operands)
    assert errors.max() <= bound(name, "f32"), [a[np.argmax(errors)] for a in operands]
    operands = accuracy.pairs(np.float64, 400, name)
    wide = errors64(name, *operands)
    assert max(wide) <= bound(name, "f64"), [a[np.argmax(wide)] for a in operands]


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
@pytest.mark.parametrize("name", BINARY)
def test_special_values_of_binary_functions_are_numpys(name: str, dtype: str) -> None:
    kind = DTYPES[dtype]
    values = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 1e30, 2.0**24 + 2, 2.0**-126, INF, NAN], kind)
    values = np.concatenate([values, -values])
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = {"power": np.power, "atan2": np.arctan2, "hypot": np.hypot}[name](x, y)
    got = run(name, x, y)
    with np.errstate(all="ignore"):
        close = np.isfinite(expected) & (np.abs(got - expected) <= 4 * np.spacing(np.abs(expected)))
        close &= np.signbit(got) == np.signbit(expected)
    equal = equal_or_nan(got, expected) | (close & (expected != 0))
    assert equal.all(), (x[~equal], y[~equal], got[~equal], expected[~equal])


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_and_even_functions(dtype: str) -> None:
    x = np.concatenate([accuracy.points64("atan", 200), [INF]]).astype(DTYPES[dtype])
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
    operands = 1 + (name in BINARY)
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
