"""Sorting, order statistics, sets and cumulative functions: what the table of NumPy functions does not cover."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.errors import ShapeError, UnsupportedError

RNG = np.random.default_rng(11)
X = RNG.standard_normal((4, 9, 3)).astype(np.float32)
N = RNG.integers(0, 6, (5, 20))
S = np.array([2.0, np.nan, -np.inf, 0.0, -0.0, np.inf, np.nan, 2.0])
both = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])


@both
def test_descending_keeps_the_order_of_equals(mode):
    for axis in (0, 1):
        found = np.asarray(mode(lambda x, a=axis: gx.argsort(x, axis=a, descending=True))(N))
        expected = np.argsort(-N, axis=axis, kind="stable")
        np.testing.assert_array_equal(found, expected)
        values = np.asarray(mode(lambda x, a=axis: gx.sort(x, axis=a, descending=True))(N))
        np.testing.assert_array_equal(values, -np.sort(-N, axis=axis))


@both
def test_topk(mode):
    values, positions = mode(lambda x: gx.topk(x, 3, axis=1))(X)
    np.testing.assert_array_equal(values, -np.sort(-X, axis=1)[:, :3])
    np.testing.assert_array_equal(positions, np.argsort(-X, axis=1, kind="stable")[:, :3])
    values, positions = mode(lambda x: gx.topk(x, 2, axis=-1, largest=False))(N)
    np.testing.assert_array_equal(positions, np.argsort(N, kind="stable")[:, :2])
    with pytest.raises(ShapeError, match="k = 21"):
        mode(lambda x: gx.topk(x, 21))(N)


@both
def test_partition_has_the_kth_element_in_place(mode):
    found = np.asarray(mode(lambda x: np.partition(gx.asarray(x), 7))(N))
    np.testing.assert_array_equal(found[:, 7], np.sort(N)[:, 7])
    assert (found[:, :7] <= found[:, 7:8]).all() and (found[:, 8:] >= found[:, 7:8]).all()
    places = np.asarray(mode(lambda x: np.argpartition(gx.asarray(x), (3, -2)))(N))
    np.testing.assert_array_equal(np.take_along_axis(N, places, 1)[:, 3], np.sort(N)[:, 3])


@both
def test_sets_with_a_given_size(mode):
    values, first, inverse, counts = mode(lambda x: gx.unique_all(x, size=6))(N)
    expected = np.unique(N, return_index=True, return_inverse=True, return_counts=True)
    for found, wanted in zip((values, first, inverse, counts), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    padded, counts = mode(lambda x: gx.unique_counts(x, size=8, fill_value=-1))(N)
    np.testing.assert_array_equal(padded, [*np.unique(N), -1, -1])
    np.testing.assert_array_equal(counts, [*expected[3], 0, 0])
    np.testing.assert_array_equal(mode(lambda x: gx.unique_values(x, size=2))(N), [0, 1])
    assert np.isnan(mode(lambda x: gx.unique_values(x, size=6))(S)).sum() == 2
    np.testing.assert_array_equal(mode(lambda x: gx.unique(x, size=5))(S), np.unique(S))


@both
def test_nonzero_with_a_given_size(mode):
    mask = N == 3
    expected = np.nonzero(mask)
    count = expected[0].size
    for found, wanted in zip(
        mode(lambda x: gx.nonzero(x == 3, size=count + 2, fill_value=-7))(N), expected, strict=True
    ):
        np.testing.assert_array_equal(found, [*wanted, -7, -7])
    np.testing.assert_array_equal(mode(lambda x: gx.flatnonzero(x == 3, size=3))(N), np.flatnonzero(mask)[:3])
    np.testing.assert_array_equal(mode(lambda x: gx.argwhere(x == 3, size=count))(N), np.argwhere(mask))


def test_sizes_that_depend_on_values():
    for function in (np.unique, np.nonzero, np.flatnonzero, np.argwhere, np.unique_counts, np.unique_inverse):
        found, expected = function(gx.tensor(N)), function(N)
        for a, b in zip(
            found if isinstance(found, tuple) else (found,),
            expected if isinstance(found, tuple) else (expected,),
            strict=False,
        ):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(UnsupportedError, match=r"size that depends on values[\s\S]*size=n"):
            gx.compile(function)(N)


@both
def test_cumulative(mode):
    for reverse in (False, True):
        turned = X[:, ::-1] if reverse else X
        for function, ufunc in (
            (gx.cumulative_max, np.maximum),
            (gx.cumulative_min, np.minimum),
            (gx.cumulative_logsumexp, np.logaddexp),
        ):
            expected = ufunc.accumulate(turned, axis=1)
            found = mode(lambda x, f=function, r=reverse: f(x, axis=1, reverse=r))(X)
            np.testing.assert_allclose(found, expected[:, ::-1] if reverse else expected, rtol=1e-6)
    for ufunc in (np.add, np.multiply, np.maximum, np.minimum, np.logaddexp):
        found = mode(lambda x, u=ufunc: u.accumulate(x, axis=1))(X)
        np.testing.assert_allclose(found, ufunc.accumulate(X, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(mode(gx.cumulative_max)(np.array([False, True, False])), [False, True, True])
    with pytest.raises(ShapeError, match="axis is needed"):
        mode(gx.cumulative_sum)(X)


@both
def test_linear_recurrence(mode):
    a = RNG.uniform(-1, 1, (50, 7))
    x = RNG.standard_normal((50, 7))
    state, expected = np.zeros(7), []
    for k in range(50):
        state = a[k] * state + x[k]
        expected.append(state)
    np.testing.assert_allclose(mode(gx.linear_recurrence)(a, x), expected, rtol=1e-12)


@both
def test_long_rows(mode):
    rows = RNG.integers(-1000, 1000, (3, 4097))
    values, places = mode(lambda x: (gx.sort(x), gx.argsort(x)))(rows)
    np.testing.assert_array_equal(values, np.sort(rows))
    np.testing.assert_array_equal(places, np.argsort(rows, kind="stable"))
    sums = mode(lambda x: gx.cumulative_sum(x, axis=1))(rows)
    np.testing.assert_array_equal(sums, np.cumsum(rows, axis=1))


@both
def test_gradients(mode):
    x = RNG.standard_normal(9)
    weights = np.arange(9.0)
    order = np.argsort(x)
    expected = np.zeros(9)
    expected[order] = weights
    np.testing.assert_array_equal(mode(gx.grad(lambda x: (gx.sort(x) * weights).sum()))(x), expected)
    middle = mode(gx.grad(gx.median))(x)
    np.testing.assert_array_equal(middle, np.arange(9) == order[4])
    share = mode(gx.grad(lambda x: gx.quantile(x, 0.3)))(x)
    np.testing.assert_allclose(np.asarray(share)[order[[2, 3]]], [0.6, 0.4])


METHODS = ("linear", "lower", "higher", "nearest", "midpoint", "hazen", "weibull", "median_unbiased")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [None, 1])
def test_quantiles_at_places_that_compiled_code_computes(method: str, axis: int | None) -> None:
    x = np.random.default_rng(2).normal(size=(4, 7))
    x[2, 3] = np.nan
    compiled = gx.compile(lambda x, q: np.quantile(x, q * 0.5, axis=axis, method=method))
    for q in (np.array([0.0, 0.2, 1.0, 1.54, 2.0]), np.array(0.6), np.array([[0.1], [1.9]])):
        found, expected = np.asarray(compiled(x, q)), np.quantile(x, q * 0.5, axis=axis, method=method)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_computed_places_outside_and_percentiles() -> None:
    x = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    rows = gx.compile(lambda x, q: np.quantile(x, q + 0.0, axis=1, keepdims=True))
    assert np.isnan(np.asarray(rows(x, np.array(1.5)))).all()
    assert np.asarray(rows(x, np.array(0.5))).shape == (3, 1)
    percentile = gx.compile(lambda x, q: np.percentile(x, q + 0.0))
    np.testing.assert_allclose(percentile(x, np.array(30.0)), np.percentile(x, np.array(30.0)), rtol=1e-6)
