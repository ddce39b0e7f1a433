"""Derivatives of loops and branches: compiled against dynamic mode, whose loops are Python, and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import NoDerivativeError, TraceError

RNG = np.random.default_rng(3)
W, H, XS, V = RNG.normal(size=(3, 3)) * 0.6, RNG.normal(size=3), RNG.normal(size=(5, 3)), RNG.normal(size=3) * 0.4


def flat(x: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(leaf) for leaf in gx.frontend.pytree.flatten(x)[0]]


def same(f: Callable[..., Any], *args: Any, tolerance: float = 1e-10) -> None:
    expected, found = f(*args), gx.compile(f)(*args)
    for want, got in zip(flat(expected), flat(found), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def all_orders(f: Callable[..., Any], *args: Any, seconds: bool = True) -> None:
    """First derivatives (reverse and forward) and second ones (all pairs): compiled, dynamic and by finite differences."""
    numbers = tuple(range(len(args)))
    directions = [np.random.default_rng(k).normal(size=np.shape(x)) for k, x in enumerate(args)]
    first = gx.grad(f, argnums=numbers)
    same(first, *args)

    def forward(*xs: Any) -> Any:
        return gx.jvp(f, xs, tuple(directions))[1]

    same(forward, *args)
    step = 1e-6
    up, down = ([x + s * d for x, d in zip(args, directions, strict=True)] for s in (step, -step))
    slope = (np.asarray(f(*up)) - np.asarray(f(*down))) / (2 * step)
    np.testing.assert_allclose(np.asarray(gx.compile(forward)(*args)), slope, rtol=1e-5, atol=1e-7)
    pulled = sum(np.sum(g * d) for g, d in zip(flat(gx.compile(first)(*args)), directions, strict=True))
    np.testing.assert_allclose(pulled, slope, rtol=1e-5, atol=1e-7)
    if not seconds:
        return

    def along(*xs: Any) -> Any:
        return sum((g * d).sum() for g, d in zip(first(*xs), directions, strict=True))

    for second in (
        gx.grad(along, argnums=numbers),  # reverse over reverse
        lambda *xs: gx.jvp(first, xs, tuple(directions))[1],  # forward over reverse
        gx.grad(forward, argnums=numbers),  # reverse over forward
    ):
        same(second, *args, tolerance=1e-8)
        expected = [(a - b) / (2 * step) for a, b in zip(flat(first(*up)), flat(first(*down)), strict=True)]
        for want, got in zip(expected, flat(gx.compile(second)(*args)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def recurrent(w: Any, h: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = np.tanh(h @ w + x)
        return h, (h * x).sum()

    h, ys = gx.scan(step, h, xs)
    return (h**2).sum() + (ys * ys).sum()


def backwards_with_counter(h: Any, xs: Any) -> Any:
    step = lambda c, x: ((c[0] + 1, np.sin(c[1]) * x + c[0], c[2] * 0.5 + x), c[1] * x)  # noqa: E731
    (_, a, b), ys = gx.scan(step, (0, h, h * 2), xs, reverse=True)
    return (a * b).sum() + (ys * ys).sum()


def nested(w: Any, h: Any) -> Any:
    def outer(c: Any, x: Any) -> Any:
        inner = gx.fori_loop(0, 3, lambda i, v: np.sin(v @ w) + x * i, c)
        return inner, inner[0]

    c, ys = gx.scan(outer, h, XS)
    return c.sum() + (ys * ys).sum()


def while_with_unknown_count(x: Any, v: Any) -> Any:
    body = lambda s: (s[0] + 1, np.sin(s[1] * v) + s[1] * 0.9)  # noqa: E731
    count, x = gx.while_loop(lambda s: (s[0] < 9) & (s[1].sum() < 50), body, (0, x))
    return (x * x).sum() * count


def branches(x: Any, v: Any) -> Any:
    y = gx.cond(x.sum() > v.sum(), lambda: np.sin(x * v), lambda: x * x * v)
    return (y * gx.switch(np.int32(1), [np.sin, np.cos], y)).sum()


def branch_in_a_loop(x: Any, v: Any) -> Any:
    def step(c: Any, y: Any) -> Any:
        c = gx.cond(y[0] > 0, lambda c: c * v + y, lambda c: np.cos(c) * y, c)
        return c, c

    c, ys = gx.scan(step, x, XS)
    return (c * c).sum() + ys.sum()


def loop_in_a_branch(x: Any, v: Any) -> Any:
    return gx.cond(x[0] > v[0], lambda: gx.fori_loop(0, 4, lambda i, c: np.sin(c) * v, x), lambda: x * v).sum()


def gradient_in_a_body(x: Any, v: Any) -> Any:
    def step(c: Any, y: Any) -> Any:
        return c - 0.1 * gx.grad(lambda c: (np.sin(c * v) * y).sum())(c), None

    return (gx.scan(step, x, XS)[0] ** 2).sum()


ALL = [
    (recurrent, (W, H, XS)),
    (backwards_with_counter, (H, XS)),
    (while_with_unknown_count, (H, V)),
    (branches, (H, V)),
    (branches, (-H, V)),
    (branch_in_a_loop, (H, V)),
    (loop_in_a_branch, (H, V)),
    (loop_in_a_branch, (V - 1, V)),
]


@pytest.mark.parametrize(("f", "args"), ALL, ids=lambda x: getattr(x, "__name__", ""))
def test_first_order(f: Any, args: Any) -> None:
    all_orders(f, *args, seconds=False)


@pytest.mark.parametrize(("f", "args"), [ALL[0], ALL[1], ALL[3]], ids=lambda x: getattr(x, "__name__", ""))
def test_second_order(f: Any, args: Any) -> None:
    all_orders(f, *args)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "args"), [*ALL[4:], (nested, (W, H)), (gradient_in_a_body, (H, V))], ids=lambda x: getattr(x, "__name__", "")
)
def test_second_order_of_all(f: Any, args: Any) -> None:
    all_orders(f, *args)


def test_nested_loops_and_a_gradient_in_a_body() -> None:
    all_orders(nested, W, H, seconds=False)
    all_orders(gradient_in_a_body, H, V, seconds=False)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_loops(length: int) -> None:
    same(gx.grad(recurrent, argnums=(0, 1)), W, H, XS[:length])
    same(gx.grad(lambda x: gx.fori_loop(0, length, lambda i, c: c * x, x).sum()), H)
    same(gx.grad(lambda x, n: gx.fori_loop(0, n, lambda i, c: c * x, x).sum()), H, np.int64(length))


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 66, 200, 2500])
def test_while_loops_of_any_length(count: int) -> None:
    """Fewer rounds than checkpoints, as many, more, and many more."""

    def f(x: Any, w: Any, n: Any) -> Any:
        turn = lambda s: (s[0] + 1, np.cos(s[1] * w) + s[1] * 0.3)  # noqa: E731
        return gx.while_loop(lambda s: s[0] < n, turn, (0, x))[1]

    x, w, total = 0.4, 0.9, 0.0
    dx, dw = 1.0, 0.0
    for _ in range(count):
        slope = -np.sin(x * w)
        dw, dx = (slope * w + 0.3) * dw + slope * x, (slope * w + 0.3) * dx
        x = np.cos(x * w) + x * 0.3
    total = x
    value, (found_x, found_w) = gx.compile(gx.value_and_grad(f, argnums=(0, 1)))(
        np.float64(0.4), np.float64(0.9), np.int64(count)
    )
    np.testing.assert_allclose([value, found_x, found_w], [total, dx, dw], rtol=1e-9, atol=1e-12)


def test_gradients_of_captured_parameters_accumulate() -> None:
    def run(compiled: bool) -> list[Any]:
        w = gx.tensor(W, requires_grad=True)
        b = gx.tensor(V, requires_grad=True)

        def step(xs: Any) -> Any:
            h, _ = gx.scan(lambda h, x: (np.tanh(h @ w + x + b), None), gx.zeros(3, dtype="float64"), xs)
            loss = (h * h).sum() + (b * b).sum()
            loss.backward()
            return loss

        f = gx.compile(step) if compiled else step
        f(XS), f(XS)
        return [w.grad.numpy(), b.grad.numpy()]

    for want, got in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_a_compiled_loop_under_an_outer_tape() -> None:
    def f(w: Any, x: Any) -> Any:
        return gx.scan(lambda h, x: (np.tanh(h @ w + x), None), gx.zeros(3, dtype="float64"), x)[0]

    results = []
    for g in (f, gx.compile(f)):
        w = gx.tensor(W, requires_grad=True)
        (g(w, gx.asarray(XS)) ** 2).sum().backward()
        results.append(w.grad.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10)


def test_random_numbers_in_a_body() -> None:
    def f(w: Any) -> Any:
        step = lambda c, x: (c * w + gx.asarray(x) * generator.normal((3,), dtype="float64"), None)  # noqa: E731
        return (gx.scan(step, w * 0, XS)[0] ** 2).sum()

    found = []
    for g in (gx.grad(f), gx.compile(gx.grad(f))):
        generator = gx.random.Generator(4)
        found.append(np.asarray(g(V)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)


def test_what_is_detached_in_a_body() -> None:
    def f(x: Any, v: Any) -> Any:
        def step(c: Any, y: Any) -> Any:
            with gx.no_grad():
                fixed = c * v
            return gx.stop_gradient(c) * y + c * v + fixed, None

        return gx.scan(step, gx.asarray(x), XS)[0].sum()

    same(gx.grad(f, argnums=(0, 1)), H, V)


def test_an_lstm() -> None:
    n, m = 4, 3
    rng = np.random.default_rng(0)
    p = {
        "w": rng.normal(size=(m, 4 * n)) * 0.3,
        "u": rng.normal(size=(n, 4 * n)) * 0.3,
        "b": rng.normal(size=4 * n) * 0.1,
    }
    xs = rng.normal(size=(7, 2, m))

    def loss(p: Any, xs: Any) -> Any:
        def cell(state: Any, x: Any) -> Any:
            h, c = state
            z = x @ p["w"] + h @ p["u"] + p["b"]
            i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
            c = gx.sigmoid(f) * c + gx.sigmoid(i) * np.tanh(g)
            h = gx.sigmoid(o) * np.tanh(c)
            return (h, c), h

        zero = np.zeros((2, n))
        (h, c), hs = gx.scan(cell, (zero, zero), xs)
        return (hs * hs).sum() + (h * c).sum()

    same(gx.grad(loss, argnums=(0, 1)), p, xs)


def test_vmap_of_gradients_of_loops() -> None:
    xs = RNG.normal(size=(4, 5, 3))
    f = gx.vmap(gx.grad(lambda h, x: recurrent(W, h, x)), in_axes=(None, 0))
    expected = np.stack([np.asarray(gx.grad(lambda h, x=x: recurrent(W, h, x))(H)) for x in xs])
    np.testing.assert_allclose(np.asarray(gx.compile(f)(H, xs)), expected, rtol=1e-10)
    g = gx.vmap(gx.grad(while_with_unknown_count), in_axes=(0, None))
    expected = np.stack([np.asarray(gx.grad(while_with_unknown_count)(h, V)) for h in XS])
    np.testing.assert_allclose(np.asarray(gx.compile(g)(XS, V)), expected, rtol=1e-9)


def test_effects_have_no_derivative() -> None:
    def f(x: Any) -> Any:
        return gx.scan(lambda c, y: (c * y, gx.debug.print("{}", c)), x, XS)[0].sum()

    with pytest.raises((TraceError, NoDerivativeError), match="effects"):
        gx.compile(gx.grad(f))(H)


def test_the_forward_scan_of_a_gradient_is_one() -> None:
    """The scan of the values and the one that stacks residuals are merged; what only other gradients need is dropped."""
    f = gx.compile(gx.value_and_grad(recurrent, argnums=1))
    graph = f.inspect(W, H, XS).stages[-1].graph
    scans = [n for n in graph.nodes if n.op.name == "scan"]
    assert len(scans) == 2
    assert [n.attrs["carries"] for n in scans] == [1, 1]  # no sum for the gradient of w
