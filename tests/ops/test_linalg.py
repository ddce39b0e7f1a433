"""Derivatives of linear algebra where the registry's test cannot ask: symmetric operands, cotangents of some results only,
second derivatives, and what has no derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from graphc.dtypes import float32, float64, int64
from graphc.errors import DTypeError, GradientError, ShapeError
from graphc.interp import vjp
from graphc.ir import registry
from graphc.ir.dims import symbol
from graphc.ir.graph import input_value, make
from graphc.ir.types import TensorType

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
BATCHES = pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)


def symmetric(x: Array) -> Array:
    return (x + np.swapaxes(x, -1, -2)) / 2


def matrix(*shape: int) -> Array:
    return RNG.normal(size=shape)


def positive(*shape: int) -> Array:
    x = matrix(*shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


def agree(name: str, x: Array, picked: Sequence[int], attrs: dict[str, Any], *, of_symmetric: bool) -> None:
    """The rule against central differences along directions (symmetric ones), with cotangents of the picked results."""
    op = registry.get(name)
    results = op.evaluate([x], attrs)
    cts = [RNG.normal(size=y.shape) if i in picked else None for i, y in enumerate(results)]
    (found,) = vjp(op, [x], results, cts, attrs)
    if of_symmetric:
        np.testing.assert_allclose(found, np.swapaxes(found, -1, -2), rtol=1e-9, atol=1e-9)
    for _ in range(4):
        direction = RNG.normal(size=x.shape)
        if of_symmetric:
            direction = symmetric(direction)
        slope = 0.0
        for sign in (1, -1):
            moved = op.evaluate([x + sign * 1e-6 * direction], attrs)
            slope += (
                sign * sum(float(np.sum(ct * y)) for ct, y in zip(cts, moved, strict=True) if ct is not None) / 2e-6
            )
        assert np.isclose(np.sum(found * direction), slope, rtol=1e-5, atol=1e-6), (name, picked, attrs)


@BATCHES
def test_symmetric_operands(batch: tuple[int, ...]) -> None:
    agree("cholesky", positive(*batch, 4, 4), [0], {}, of_symmetric=True)
    agree("eigvalsh", symmetric(matrix(*batch, 4, 4)), [0], {"uplo": "L"}, of_symmetric=True)
    for picked in ([0], [1], [0, 1]):
        agree("eigh", symmetric(matrix(*batch, 4, 4)), picked, {"uplo": "U"}, of_symmetric=True)


@BATCHES
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)], ids=str)
def test_some_results(batch: tuple[int, ...], shape: tuple[int, ...]) -> None:
    for picked in ([0], [1], [2], [0, 2], [0, 1, 2]):
        agree("svd", matrix(*batch, *shape), picked, {"full_matrices": False}, of_symmetric=False)
    agree("svd", matrix(*batch, *shape), [1], {"full_matrices": True}, of_symmetric=False)
    for picked in ([0], [1], [0, 1]):
        agree("qr", matrix(*batch, *shape), picked, {"mode": "reduced"}, of_symmetric=False)
    if shape[0] == shape[1]:
        agree("slogdet", matrix(*batch, *shape), [1], {}, of_symmetric=False)


def test_pseudo_inverse_of_a_matrix_of_lower_rank() -> None:
    """Along directions that keep the rank."""
    left, right = matrix(5, 2), matrix(2, 4)
    x, op, attrs = left @ right, registry.get("pinv"), {"rtol": 1e-10}
    ct = matrix(4, 5)
    (found,) = vjp(op, [x], op.evaluate([x], attrs), [ct], attrs)
    turn = matrix(5, 5)
    slope = sum(
        sign * np.sum(ct * op.evaluate([(np.eye(5) + sign * 1e-6 * turn) @ x], attrs)[0]) / 2e-6 for sign in (1, -1)
    )
    assert np.isclose(np.sum(found * (turn @ x)), slope, rtol=1e-5)


def test_no_derivative() -> None:
    x = matrix(5, 3)
    for name, attrs, cts in (
        ("svd", {"full_matrices": True}, [matrix(5, 5), None, None]),
        ("qr", {"mode": "complete"}, [matrix(5, 5), matrix(5, 3)]),
    ):
        op = registry.get(name)
        with pytest.raises(GradientError, match=name):
            vjp(op, [x], op.evaluate([x], attrs), cts, attrs)


def test_types() -> None:
    square, wide = TensorType(float32, (2, 3, 3)), TensorType(float64, (3, 5))
    assert make("qr", [input_value(0, wide)], mode="reduced").types == (TensorType(float64, (3, 3)), wide)
    symbolic = TensorType(float64, (symbol(0), symbol(1), symbol(1)))
    assert make("inv", [input_value(0, symbolic)]).types == (symbolic,)
    assert make("svdvals", [input_value(0, symbolic)]).types == (TensorType(float64, symbolic.shape[:-1]),)
    for name in ("inv", "det", "cholesky", "slogdet"):
        with pytest.raises(ShapeError, match=f"{name}: needs square"):
            make(name, [input_value(0, wide)])
        with pytest.raises(ShapeError, match=f"{name}: takes matrices"):
            make(name, [input_value(0, TensorType(float32, (3,)))])
        with pytest.raises(DTypeError, match=f"{name}: takes float32, float64, complex64"):
            make(name, [input_value(0, TensorType(int64, (3, 3)))])
    with pytest.raises(ShapeError, match="solve: the matrices and right-hand sides"):
        make("solve", [input_value(0, square), input_value(1, TensorType(float32, (3, 3)))])
    with pytest.raises(DTypeError, match="all alike"):
        make("solve", [input_value(0, square), input_value(1, TensorType(float64, (2, 3, 1)))])
    with pytest.raises(ShapeError, match="mode must be"):
        make("qr", [input_value(0, wide)], mode="raw")
