"""Elementwise functions and operators: every pair of dtypes that the standard promotes, shapes of ranks 0 to 5 that broadcast,
Python scalars on either side, operators with their reflected and in-place forms; NumPy gives the values."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, SHAPE_PAIRS, SHAPES, Case, calls, check, of_kinds, promotes, sample

#: Functions that are not exactly rounded: distance from NumPy's result, which is not either.
_EXACT = set(
    standard.words(
        "abs negative positive square sign real imag conj ceil floor trunc round isfinite isinf isnan signbit"
        " bitwise_invert logical_not reciprocal sqrt add subtract multiply divide floor_divide remainder"
        " maximum minimum greater greater_equal less less_equal equal not_equal copysign nextafter bitwise_and"
        " bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift logical_and logical_or logical_xor"
    )
)


#: Of complex numbers these are sums of products, or square roots of such: distance in ulps of the modulus.
_COMPLEX_SUMS = {"abs", "divide", "multiply", "reciprocal", "sign", "sqrt", "square"}


def _ulps(name: str, args: tuple[Any, ...]) -> float:
    if any(np.iscomplexobj(a) for a in args) and (name in _COMPLEX_SUMS or name == "pow"):
        return 64 if name == "pow" else 4
    return 0 if name in _EXACT else 8


def _floor_divide(x: Any, y: Any) -> Any:
    """NumPy's, but for infinite operands the standard's."""
    plain = np.floor_divide(x, y)
    if plain.dtype.kind != "f":
        return plain
    return np.where(np.isinf(x) | np.isinf(y), np.divide(x, y), plain).astype(plain.dtype)


def _called(name: str, args: tuple[Any, ...]) -> Case:
    if name == "floor_divide":
        with np.errstate(all="ignore"):
            return Case(name, args, _floor_divide(*args))
    return next(calls(name, [(args, {})], _ulps(name, args)))


def _operand(name: str, dtype: str, shape: tuple[int, ...], seed: int, place: int) -> Any:
    bits = np.dtype(dtype).itemsize * 8
    if name.endswith("shift") and place == 1:
        return sample(dtype, shape, seed, low=0, high=bits - 1)
    if name == "pow" and np.dtype(dtype).kind in "iu":
        return sample(dtype, shape, seed, low=0, high=4)
    if np.dtype(dtype).kind == "c" and (name not in _EXACT or name in _COMPLEX_SUMS):
        # What the standard says of infinities and NaN, where NumPy differs, is in `special`.
        return sample(dtype, shape, seed, low=-2, high=2)
    if name == "logaddexp":  # a sum, whose digits cancel where the result is near 0
        return np.abs(sample(dtype, shape, seed))
    return sample(dtype, shape, seed)


def _unary() -> Iterator[Case]:
    for name, kinds in standard.UNARY.items():
        for dtype, shape in itertools.product(of_kinds(kinds), SHAPES):
            yield _called(name, (_operand(name, dtype, shape, 0, 0),))


def _binary(each: int) -> Iterator[Case]:
    """`each` shapes for a pair of equal dtypes, up to two for others; shapes take turns."""
    shapes = itertools.cycle(SHAPE_PAIRS)
    for name, kinds in standard.BINARY.items():
        for first, second in itertools.product(of_kinds(kinds), repeat=2):
            if promotes(first, second):
                count = each if first == second else min(each, 2)
                for seed in range(count):
                    left, right = next(shapes)
                    args = _operand(name, first, left, seed, 0), _operand(name, second, right, seed + 9, 1)
                    if ("pow" in name and "uint64" not in (first, second)) or name != "pow":
                        yield _called(name, args)


_SCALARS: dict[str, list[Any]] = {
    "b": [True, False],
    "i": [3, -2, 0],
    "u": [3, 0],
    "f": [3, -2, 0, 2.5, -0.5, 0.0],
    "c": [3, 2.5, 1 - 2j],
}


def _with_scalars() -> Iterator[Case]:
    for name, kinds in standard.BINARY.items():
        for dtype in of_kinds(kinds):
            for scalar, swapped in itertools.product(_SCALARS[np.dtype(dtype).kind], (False, True)):
                negative = not isinstance(scalar, complex) and scalar < 0
                if negative and (
                    name == "logaddexp" or name.endswith("shift") or (name == "pow" and np.dtype(dtype).kind in "iu")
                ):
                    continue
                array = _operand(name, dtype, (5,), 3, 0 if not swapped else 1)
                yield _called(name, (scalar, array) if swapped else (array, scalar))


@pytest.mark.parametrize("mode", MODES)
def test_unary(mode: str) -> None:
    check(mode, _unary())


@pytest.mark.parametrize("mode", MODES)
def test_binary(mode: str) -> None:
    check(mode, _binary(1 if mode == "compiled" else len(SHAPE_PAIRS)), 300)


@pytest.mark.parametrize("mode", MODES)
def test_python_scalars(mode: str) -> None:
    check(mode, _with_scalars())


def _operator_cases() -> Iterator[Case]:
    symbols = {name: getattr(operator, name + "_" if name in ("and", "or") else name) for name in standard.OPERATORS}
    symbols |= {name: getattr(operator, name) for name in standard.COMPARISONS}
    names = standard.OPERATORS | standard.COMPARISONS
    for method, symbol in symbols.items():
        name = names[method]
        for dtype in of_kinds(standard.BINARY[name]):
            args = _operand(name, dtype, (2, 3), 1, 0), _operand(name, dtype, (3,), 2, 1)
            expected = _called(name, args)
            yield Case(f"operator.{method}", args, expected.expected, ulps=expected.ulps, call=symbol)
            scalar = {"b": True, "i": 3, "u": 3, "f": 2.5, "c": 2.5}[np.dtype(dtype).kind]
            right = _called(name, (args[0], scalar))
            yield Case(f"operator.{method}", right.args, right.expected, ulps=right.ulps, call=symbol)
            left = _called(name, (scalar, args[1]))
            yield Case(f"operator.{method}", left.args, left.expected, ulps=left.ulps, call=symbol)
    for method, name in standard.UNARY_OPERATORS.items():
        for dtype in of_kinds(standard.UNARY[name]):
            case = _called(name, (_operand(name, dtype, (2, 3), 0, 0),))
            yield Case(f"operator.{method}", case.args, case.expected, ulps=case.ulps, call=getattr(operator, method))


@pytest.mark.parametrize("mode", MODES)
def test_operators(mode: str) -> None:
    check(mode, _operator_cases())


def _in_place() -> Iterator[Case]:
    def applied(symbol: Any) -> Any:
        def call(x: Any, y: Any) -> Any:
            out = x
            out = symbol(out, y)
            return [x, out]

        return call

    for method, name in standard.OPERATORS.items():
        symbol = getattr(operator, f"i{method}")
        for dtype in of_kinds(standard.BINARY[name]):
            x, y = _operand(name, dtype, (2, 3), 1, 0), _operand(name, dtype, (3,), 2, 1)
            scalar = {"b": True, "i": 3, "u": 3, "f": 2.5, "c": 2.5}[np.dtype(dtype).kind]
            for other in (y, scalar):
                case = _called(name, (x, other))
                yield Case(f"operator.i{method}", case.args, [case.expected] * 2, ulps=case.ulps, call=applied(symbol))


@pytest.mark.parametrize("mode", MODES)
def test_in_place_operators(mode: str) -> None:
    check(mode, _in_place())


@pytest.mark.parametrize("method", [*standard.OPERATORS, "matmul"])
def test_reflected_methods(method: str) -> None:
    """Called by name, as the standard lists them."""
    dtype = "bool" if method in ("and", "or", "xor") else "int64" if "shift" in method else "float64"
    x, y = sample(dtype, (3, 3), 1, low=1, high=3), sample(dtype, (3, 3), 2, low=1, high=3)
    found = getattr(gx.asarray(y), f"__r{method}__")(gx.asarray(x))
    wanted = getattr(gx.asarray(x), f"__{method}__")(gx.asarray(y))
    assert np.array_equal(found.numpy(), wanted.numpy()) and found.dtype == wanted.dtype


@pytest.mark.parametrize("method", [*standard.OPERATORS, *standard.COMPARISONS])
def test_foreign_operands_are_left_to_them(method: str) -> None:
    assert getattr(gx.zeros(2), f"__{method}__")(object()) is NotImplemented


def _clip() -> Iterator[Case]:
    for dtype in of_kinds("iuf"):
        low, high = sample(dtype, (3,), 1, low=0, high=3), sample(dtype, (2, 1), 2, low=4, high=9)
        x = sample(dtype, (2, 3))
        for bounds in [(low, high), (None, high), (low, None), (1, 5), (None, 5), (2, None), (None, None)]:
            with np.errstate(all="ignore"):
                expected = np.clip(x, *bounds) if any(b is not None for b in bounds) else x
            yield Case("clip", (x, *bounds), expected)
            yield Case("clip", (x,), expected, {"min": bounds[0], "max": bounds[1]})
        if np.dtype(dtype).kind == "f":
            nan = np.full((3,), np.nan, dtype)
            yield Case("clip", (x, nan, 3.0), np.full((2, 3), np.nan, dtype))
            yield Case("clip", (x, -3.0, nan), np.full((2, 3), np.nan, dtype))
            yield Case("clip", (x, 0.5, 2.5), np.clip(x, np.dtype(dtype).type(0.5), np.dtype(dtype).type(2.5)))
    for shape in SHAPES:
        x = sample("float32", shape)
        yield Case("clip", (x, -1, 1), np.clip(x, np.float32(-1), np.float32(1)))


@pytest.mark.parametrize("mode", MODES)
def test_clip(mode: str) -> None:
    check(mode, _clip())
