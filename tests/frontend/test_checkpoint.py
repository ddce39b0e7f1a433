"""Checkpoints: the same values and derivatives, less memory, in compiled code and on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import StateError

MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6))
W = [RNG.normal(size=(6, 6)) / 2 for _ in range(6)]


def layer(x: Any, w: Any) -> Any:
    return np.tanh(np.exp(np.sin(x @ w)) @ w)


def loss(x: Any, ws: Any, wrap: Any = lambda f: f) -> Any:
    for w in ws:
        x = wrap(layer)(x, w)
    return (x * x).sum()


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-11, atol=1e-13)


@MODES
def test_derivatives_are_the_same(mode: Any) -> None:
    plain = gx.value_and_grad(loss, argnums=(0, 1))(X, W)
    value, (by_x, by_w) = mode(gx.value_and_grad(lambda x, ws: loss(x, ws, gx.checkpoint), argnums=(0, 1)))(X, W)
    close(value, plain[0])
    close(by_x, plain[1][0])
    for found, expected in zip(by_w, plain[1][1], strict=True):
        close(found, expected)
    close(mode(lambda x, t: gx.jvp(lambda x: loss(x, W, gx.checkpoint), (x,), (t,))[1])(X, X), np.sum(by_x * X))
    v = RNG.normal(size=X.shape)
    expected = gx.hvp(lambda x: loss(x, W), (X,), (v,))
    close(mode(lambda x, v: gx.hvp(lambda x: loss(x, W, gx.checkpoint), (x,), (v,)))(X, v), expected)
    twice = mode(gx.grad(lambda x: (gx.grad(lambda x: loss(x, W, gx.checkpoint))(x) * v).sum()))
    close(twice(X), expected)


@MODES
def test_parameters_from_outside_get_their_gradients(mode: Any) -> None:
    gx.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    x = gx.tensor(X.astype(np.float32), requires_grad=True)

    def step(wrap: Any) -> Any:
        def run(x: Any) -> None:
            (wrap(lambda x: model(x * 2))(x) ** 2).sum().backward()

        mode(run)(x)
        found = [p.grad.numpy().copy() for p in model.parameters()] + [x.grad.numpy().copy()]
        for p in [*model.parameters(), x]:
            p.grad = None
        return found

    for found, expected in zip(step(gx.checkpoint), step(lambda f: f), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@MODES
def test_kinds_containers_and_integers(mode: Any) -> None:
    f = gx.checkpoint(lambda p, n, k: {"y": p["a"] * k, "n": n + 1, "s": "text"})
    out = mode(lambda a, n: f({"a": a}, n, k=3.0))(X, np.arange(2))
    assert type(out["y"]) is np.ndarray and out["s"] == "text" and out["n"].tolist() == [1, 2]
    close(out["y"], 3 * X)


def test_the_arena_shrinks() -> None:
    """Eight layers of 12 wide intermediate values each: with checkpoints, those of one layer at a time."""
    n = 1 << 14

    def block(x: Any) -> Any:
        for _ in range(12):
            x = np.sin(np.cumsum(x) / n)
        return x

    def total(x: Any, wrap: Any) -> Any:
        for _ in range(8):
            x = wrap(block)(x)
        return x.sum()

    x = np.linspace(-1, 1, n)
    sizes = {}
    for name, wrap in (("plain", lambda f: f), ("checkpoint", gx.checkpoint)):
        f = gx.compile(gx.grad(lambda x, wrap=wrap: total(x, wrap)))
        sizes[name] = f(x), f.inspect(x).arena_bytes
    close(sizes["checkpoint"][0], sizes["plain"][0])
    assert sizes["checkpoint"][1] < 0.4 * sizes["plain"][1]


def test_the_tape_keeps_less() -> None:
    """Dynamic mode: what the function made is freed when it returns."""
    made = []

    def f(x: Any) -> Any:
        y = np.sin(x)
        made.append(__import__("weakref").ref(y._array if isinstance(y, gx.Tensor) else y))
        return np.cos(y)

    w = gx.tensor(X, requires_grad=True)
    out = gx.checkpoint(f)(w)
    assert made[0]() is None
    out.sum().backward()
    close(w.grad, -np.sin(np.sin(X)) * np.cos(X))


def test_random_numbers_are_drawn_once() -> None:
    gx.random.manual_seed(3)
    w = gx.tensor(X, requires_grad=True)
    out = gx.checkpoint(lambda x: x * gx.random.uniform(X.shape))(w)
    after = gx.random.uniform((2,)).numpy()
    out.sum().backward()
    close(w.grad, out.numpy() / X)
    gx.random.manual_seed(3)
    gx.random.uniform(X.shape)
    assert np.array_equal(gx.random.uniform((2,)).numpy(), after)
    with pytest.raises(StateError, match="draws random numbers"):
        gx.compile(gx.checkpoint(lambda x: x * gx.random.uniform(X.shape)))(X)
