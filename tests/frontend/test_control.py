"""scan, while_loop, fori_loop, map, cond, switch and associative_scan: compiled against Python, and their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import DTypeError, GraphcError, ShapeError, StructureError, TraceError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def leaves(x: Any) -> list[Any]:
    return gx.frontend.pytree.flatten(x)[0]


def agree(f: Callable[..., Any], *args: Any, tolerance: float = 1e-12) -> Any:
    """Compiled results are those of Python: values, dtypes, shapes and kinds."""
    expected, found = f(*args), gx.compile(f)(*args)
    assert gx.frontend.pytree.flatten(expected)[2] == gx.frontend.pytree.flatten(found)[2]
    for want, got in zip(leaves(expected), leaves(found), strict=True):
        if want is None:
            assert got is None
            continue
        assert isinstance(got, gx.Tensor) == isinstance(want, gx.Tensor)
        assert np.asarray(got).dtype == np.asarray(want).dtype, (got, want)
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=tolerance, atol=tolerance)
    return found


X = RNG.normal(size=(5, 3))
W = RNG.normal(size=(3, 3))


# -- scan -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_scan(length: int, reverse: bool) -> None:
    def recurrent(w: Any, h: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = np.tanh(h @ w + x)
            return h, {"h": h, "sum": x.sum(), "none": None}

        return gx.scan(step, h, xs, reverse=reverse)

    agree(recurrent, W, np.ones(3), X[:length])


def test_scan_of_containers_and_python_numbers() -> None:
    def f(xs: Any, ys: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            return {"n": carry["n"] + 1, "s": carry["s"] + x[0] * carry["n"], "t": carry["t"] * 0.5}, (x[1], carry["n"])

        return gx.scan(step, {"n": 0, "s": 0.0, "t": 1.0}, (xs, ys))

    agree(f, X.astype(np.float32)[:, 0], np.arange(5))


def test_scan_without_sequences_and_results_of_tensors() -> None:
    w = gx.tensor([1.0, 2.0])
    agree(lambda x: gx.scan(lambda c, _: (c * w, c), x, length=3), np.ones(2, np.float32))
    agree(lambda x: gx.scan(lambda c, _: (c + x, None), x, None, length=4), np.ones(2))


@pytest.mark.parametrize("unroll", [2, 3, 5, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_unrolled_scan(unroll: Any, reverse: bool) -> None:
    step = lambda c, x: (c * 0.5 + x, (c, x * 2))  # noqa: E731
    agree(lambda c, xs: gx.scan(step, c, xs, reverse=reverse, unroll=unroll), np.ones(3), X)
    agree(lambda c, xs: gx.scan(step, c, xs, reverse=reverse, unroll=unroll), np.ones(3), X[:4])


def test_nested_scans_with_captures() -> None:
    def f(a: Any, b: Any) -> Any:
        def outer(total: Any, row: Any) -> Any:
            inner, _ = gx.scan(lambda c, x: (c + x * row.sum() * a[0, 0], None), total, b)
            return inner, inner * 2

        return gx.scan(outer, 0.0, a)

    agree(f, X, np.arange(4.0))


def test_random_numbers_and_state_in_a_body() -> None:
    total = gx.tensor([0.0])

    def f(xs: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            total.assign(total + gx.asarray(x))
            return c, generator.uniform((2,))

        return gx.scan(step, None, xs)[1]

    xs = np.arange(4, dtype=np.float32)
    generator = gx.random.Generator(5)
    expected = f(xs).numpy()
    assert total.item() == 6
    generator = gx.random.Generator(5)
    compiled = gx.compile(f)
    np.testing.assert_array_equal(compiled(xs).numpy(), expected)
    assert total.item() == 12
    assert not np.array_equal(compiled(xs).numpy(), expected) and total.item() == 18


def test_effects_in_a_body_keep_their_order(capfd: Any) -> None:
    @gx.compile
    def f(xs: Any) -> Any:
        gx.debug.print("first")
        total, _ = gx.scan(lambda c, x: (c + x, gx.debug.print("x {}", x)), 0.0, xs)
        gx.debug.print("last {}", total)
        return total

    f(np.array([1.0, 2.0]))
    assert capfd.readouterr().out.split() == ["first", "x", "1.0", "x", "2.0", "last", "3.0"]


def test_code_does_not_grow_with_the_trip_count() -> None:
    def code(n: int) -> int:
        f = gx.compile(lambda x: gx.fori_loop(0, n, lambda i, c: np.sin(c) + i, x))
        f(np.ones(3))
        return len(f.inspect(np.ones(3)).llvm)

    assert abs(code(10) - code(1000000)) < 200


def test_map() -> None:
    agree(lambda xs: gx.map(lambda x: np.exp(x[0]) + x[1], (xs, xs)), X)


# -- loops ----------------------------------------------------------------------------------------------------------------


def test_while_loop() -> None:
    def newton(a: Any) -> Any:
        step = lambda v: ((v[0] + a / v[0]) / 2, v[1] + 1)  # noqa: E731
        return gx.while_loop(lambda v: abs(v[0] * v[0] - a) > 1e-12, step, (a, 0))

    for a in (2.0, 1.0, 1e6):
        agree(newton, np.float64(a))


def test_while_loop_that_draws_in_its_condition() -> None:
    def f(x: Any) -> Any:
        return gx.while_loop(lambda v: generator.uniform(()) < 0.9, lambda v: v + 1, x)

    generator = gx.random.Generator(1)
    expected = [f(np.float64(0)) for _ in range(3)]
    generator = gx.random.Generator(1)
    compiled = gx.compile(f)
    assert [compiled(np.float64(0)) for _ in range(3)] == expected and max(expected) > 0


@pytest.mark.parametrize("bounds", [(0, 5), (2, 4), (3, 3), (5, 2), (-2, 1)])
def test_fori_loop(bounds: tuple[int, int]) -> None:
    body = lambda i, v: (v[0] + X[0] * i, v[1] * 2)  # noqa: E731
    agree(lambda v: gx.fori_loop(*bounds, body, (v, 1)), np.ones(3))
    agree(lambda v, lower, upper: gx.fori_loop(lower, upper, body, (v, 1)), np.ones(3), *map(np.int64, bounds))
    agree(lambda v, upper: gx.fori_loop(bounds[0], upper, body, (v, 1)), np.ones(3), np.int32(bounds[1]))


def test_an_array_is_filled_in_a_loop() -> None:
    def fibonacci(n: Any) -> Any:
        return gx.fori_loop(2, n, lambda i, a: gx.asarray(a).at[i].set(a[i - 1] + a[i - 2]), gx.ones(20, dtype="int64"))

    assert gx.compile(fibonacci)(np.int64(20)).tolist() == fibonacci(20).tolist()


# -- branches -------------------------------------------------------------------------------------------------------------


def test_cond() -> None:
    def f(x: Any, y: Any) -> Any:
        return gx.cond(x.sum() > 0, lambda a: (a * y, 1), lambda a: (np.cos(a), 2), x)

    agree(f, np.ones(3), np.full(3, 7.0))
    agree(f, -np.ones(3), np.full(3, 7.0))


def test_only_one_branch_runs_and_writes_are_merged(capfd: Any) -> None:
    state = gx.tensor([1.0])

    @gx.compile
    def f(x: Any) -> Any:
        def one() -> Any:
            state.assign(state * 2)
            gx.debug.print("one")
            return x

        return gx.cond(x > 0, one, lambda: x * 0)

    f(np.float64(1))
    f(np.float64(-1))
    assert state.item() == 2 and capfd.readouterr().out.split() == ["one"]


def test_static_predicates_choose_while_tracing() -> None:
    f = gx.compile(lambda x: gx.cond(True, lambda: x, lambda: "never"))
    assert f(np.float64(2)) == 2


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 3, 9])
def test_switch(index: int) -> None:
    branches = [np.sin, np.cos, np.exp, lambda x: x * 0]
    agree(lambda i, x: gx.switch(i, branches, x), np.int32(index), X)
    assert gx.switch(index, branches, 1.0) == branches[min(max(index, 0), 3)](1.0)


# -- associative_scan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n: int, reverse: bool) -> None:
    x = RNG.normal(size=(2, n))
    f = lambda x: gx.associative_scan(np.add, x, reverse=reverse, axis=1)  # noqa: E731
    expected = np.cumsum(x[:, ::-1], 1)[:, ::-1] if reverse else np.cumsum(x, 1)
    np.testing.assert_allclose(agree(f, x), expected)
    affine = lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1])  # noqa: E731
    linear = lambda a, b: gx.associative_scan(affine, (a, b))[1]  # noqa: E731
    y = RNG.normal(size=n)
    h, expected_h = 0.0, []
    for a, b in zip(x[0], y, strict=True):
        h = h * a + b
        expected_h.append(h)
    np.testing.assert_allclose(agree(linear, x[0], y), expected_h, atol=1e-12)


# -- errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "match", "f"),
    [
        (TraceError, r"init\['h'\] is f64\[3\] before a round and f64\[6\] after it", "grows"),
        (TraceError, r"init_val is i64\[\] before a round and f64\[\] after it", "float"),
        (StructureError, r"changes the structure of the carry", "structure"),
        (StructureError, "a pair; it gave a", "pair"),
        (ShapeError, "must have the same length", "lengths"),
        (ShapeError, "how many rounds is not known", "unknown"),
        (ShapeError, "xs has no axis", "rank"),
        (ShapeError, "the predicate is a bool of rank 0", "shape"),
        (DTypeError, "the predicate is a bool, not a number of float64", "dtype"),
        (StructureError, "the branches give different structures", "branches"),
        (TraceError, r"result\['a'\] is f64\[3\] in one and f64\[\] in the other", "types"),
        (DTypeError, "upper is an integer", "bounds"),
        (DTypeError, "switch takes an integer", "switch"),
        (ShapeError, "the same length along the axis", "associative"),
    ],
)
def test_errors(kind: type[GraphcError], match: str, f: str) -> None:
    def body(x: Any) -> Any:
        x = x * 1.0
        if f == "grows":
            return gx.scan(lambda c, _: ({"h": np.concatenate([c["h"]] * 2)}, None), {"h": x}, length=2)
        if f == "float":
            return gx.while_loop(lambda i: i < 3, lambda i: i / np.float64(2), x.astype(np.int64).sum())
        if f == "structure":
            return gx.fori_loop(0, 3, lambda i, v: (v, v), x)
        if f == "pair":
            return gx.scan(lambda c, x: c, x, x)
        if f == "lengths":
            return gx.scan(lambda c, x: (c, None), x, (x, x[1:]))
        if f == "unknown":
            return gx.scan(lambda c, x: (c, None), x)
        if f == "rank":
            return gx.scan(lambda c, x: (c, None), x, 1.0)
        if f == "shape":
            return gx.cond(x > 0, lambda: x, lambda: x)
        if f == "dtype":
            return gx.while_loop(lambda v: v.sum(), lambda v: v, x)
        if f == "branches":
            return gx.cond(x.sum() > 0, lambda: (x, x), lambda: x)
        if f == "types":
            return gx.cond(x.sum() > 0, lambda: {"a": x}, lambda: {"a": x.sum()})
        if f == "bounds":
            return gx.fori_loop(0, x.sum(), lambda i, v: v, x)
        if f == "switch":
            return gx.switch(x.sum(), [np.sin], x)
        return gx.associative_scan(lambda a, b: a, (x, x[1:]))

    with pytest.raises(kind, match=match) as info:
        gx.compile(body)(np.ones(3))
    assert "test_control.py" in str(info.value)
