"""`gx.vmap` against loops over the examples: dynamically, compiled, differentiated, nested."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn

Array = Any
RNG = np.random.default_rng(7)
X = RNG.normal(size=(5, 3, 4))
W = RNG.normal(size=(4, 2))
V = RNG.normal(size=(5, 4))


def plain(tree: Any) -> Any:
    """Tensors as arrays, in containers of any kind."""
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [plain(v) for v in tree]
    return tree.numpy() if isinstance(tree, gx.Tensor) else tree


def stacked(trees: list[Any]) -> Any:
    first = trees[0]
    if isinstance(first, dict):
        return {k: stacked([t[k] for t in trees]) for k in first}
    if isinstance(first, list):
        return [stacked(list(column)) for column in zip(*trees, strict=True)]
    return np.stack([np.asarray(t) for t in trees])


def alike(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for k in expected:
            alike(found[k], expected[k])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for x, y in zip(found, expected, strict=True):
            alike(x, y)
    else:
        found = np.asarray(found)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def moving(x: Array) -> Array:
    y = np.concatenate([x, x[::-1]], axis=0)[1:-1:2]
    return np.moveaxis(np.pad(y, ((1, 0), (0, 2))), 0, 1) + np.tril(np.ones((x.shape[1] + 2, 1 + len(y))))


def masked_softmax(x: Array, lengths: Array) -> Array:
    mask = np.arange(x.shape[-1]) < lengths
    z = np.where(mask, x, -np.inf)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def statistics(x: Array) -> dict[str, Array]:
    return {
        "mean": x.mean(),
        "largest": (x.max(axis=0), np.argmax(x)),
        "sorted": np.sort(x, axis=0),
        "run": x.cumsum(axis=1),
    }


def gathered(x: Array, i: Array) -> Array:
    return x[i] * np.take_along_axis(x, np.argsort(x, axis=0), axis=0)[0]


def scattered(x: Array, i: Array) -> Array:
    return x.at[i].add(1.5) if hasattr(x, "at") else gx.asarray(x).at[i].add(1.5).numpy()


CASES: list[tuple[str, Callable[..., Any], tuple[Any, ...], Any]] = [
    ("elementwise", lambda x, v: np.exp(x) * v - 2, (X, V), 0),
    ("matvec", lambda x, v: x @ v, (X, V), 0),
    ("same matrix", lambda x, w: np.tanh(x @ w), (X, W), (0, None)),
    ("same vector", lambda w, v: v @ w, (W, V), (None, 0)),
    ("outer", lambda v, w: np.outer(v, w[:, 0]), (V, W), (0, None)),
    ("einsum", lambda x, v: np.einsum("ij,j,kj->ik", x, v, x), (X, V), 0),
    ("moving", moving, (X,), 0),
    ("softmax", masked_softmax, (X, np.array([1, 2, 3, 4, 2])), 0),
    ("statistics", statistics, (X,), 0),
    ("gathered", gathered, (X, np.array([0, 2, 1, -1, 0])), 0),
    ("gathered by the same index", gathered, (X, np.array([2, 0])), (0, None)),
    ("gathered from the same", gathered, (X[0], np.array([0, 2, 1, -1, 0])), (None, 0)),
    ("scattered", scattered, (X, np.array([[0, 1], [2, 2], [1, 0], [0, 0], [2, 1]])), 0),
    ("linalg", lambda a, b: np.linalg.solve(a @ a.T + 3 * np.eye(3), b[:3]), (X, V), 0),
    ("determinant", lambda a: np.linalg.slogdet(a @ a.T + np.eye(3))[1], (X,), 0),
    ("constant", lambda x: (np.ones(2), 3.5, x.sum()), (X,), 0),
]


def loop(f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any, count: int = 5) -> Any:
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
    rows = []
    for k in range(count):
        one = [x if a is None else np.take(x, k, axis=a) for x, a in zip(args, axes, strict=True)]
        rows.append(plain(f(*one)))
    return stacked(rows)


@pytest.mark.parametrize(("name", "f", "args", "in_axes"), CASES, ids=[c[0] for c in CASES])
def test_against_a_loop(name: str, f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any) -> None:
    expected = loop(f, args, in_axes)
    mapped = gx.vmap(f, in_axes)
    alike(plain(mapped(*args)), expected)
    alike(plain(gx.compile(mapped)(*args)), expected)
    alike(plain(mapped(*map(gx.asarray, args))), expected)


def total(tree: Any) -> Any:
    """A smooth scalar of all float results."""
    if isinstance(tree, dict):
        return sum(total(v) for v in tree.values())
    if isinstance(tree, (tuple, list)):
        return sum(total(v) for v in tree)
    return (np.sin(tree) * tree).sum() if np.issubdtype(np.result_type(tree), np.floating) else 0.0


@pytest.mark.parametrize(("name", "f", "args", "in_axes"), CASES, ids=[c[0] for c in CASES])
def test_gradient_of_and_in_vmap(name: str, f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any) -> None:
    """The gradient of a sum over examples is the sum (or the stack) of the examples' gradients."""
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
    rows = []
    for k in range(5):
        one = [x if a is None else np.take(x, k, axis=a) for x, a in zip(args, axes, strict=True)]
        rows.append(np.asarray(gx.grad(lambda x, *rest: total(f(x, *rest)))(*one)))
    expected = np.stack(rows) if axes[0] == 0 else np.sum(rows, axis=0)

    def of(x: Array, *rest: Array) -> Any:
        return total(gx.vmap(f, in_axes)(x, *rest))

    for transformed in (gx.grad(of), gx.compile(gx.grad(of))):
        np.testing.assert_allclose(plain(transformed(*args)), expected, rtol=1e-9, atol=1e-12)
    inside = gx.vmap(gx.grad(lambda x, *rest: total(f(x, *rest))), in_axes)
    for transformed in (inside, gx.compile(inside)):
        np.testing.assert_allclose(plain(transformed(*args)), np.stack(rows), rtol=1e-9, atol=1e-12)


# -- axes and structures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("out", [0, 1, 2, -1])
def test_axes(axis: int, out: int) -> None:
    def f(x: Array) -> Array:
        return np.outer(x[0], x.sum(axis=0))

    expected = np.stack([f(row) for row in np.moveaxis(X, axis, 0)], axis=out)
    for mode in (lambda g: g, gx.compile):
        np.testing.assert_allclose(mode(gx.vmap(f, axis, out))(X), expected, rtol=1e-12)


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


def test_containers_as_arguments_and_results() -> None:
    def f(p: dict[str, Any], pair: Pair, *, scale: Array, note: Any = None) -> Any:
        y = p["w"] @ p["x"] * scale + pair.first
        return {"y": y, "pair": Pair(y.sum(), pair.second), "none": None, "text": "as it is"}

    arguments = {"w": W.T, "x": V}, Pair(X[:, 0, :2].T, 2.0)
    keywords = {"scale": np.arange(5.0)}
    axes = ({"w": None, "x": 0}, Pair(1, None))
    found = gx.vmap(f, axes, {"y": 1, "pair": Pair(0, None), "none": None, "text": None})(*arguments, **keywords)
    y = np.stack([W.T @ V[k] * k + X[k, 0, :2] for k in range(5)])
    np.testing.assert_allclose(found["y"], y.T, rtol=1e-12)
    np.testing.assert_allclose(found["pair"].first, y.sum(axis=1), rtol=1e-12)
    assert found["pair"].second == 2.0 and found["none"] is None and found["text"] == "as it is"
    found = gx.vmap(f, ({"w": None, "x": 0}, Pair(1, None)))(*arguments, **keywords)
    np.testing.assert_array_equal(found["pair"].second, np.full(5, 2.0))


def test_kinds_dtypes_and_empty_batches() -> None:
    assert isinstance(gx.vmap(np.sin)(V), np.ndarray)
    assert isinstance(gx.vmap(np.sin)(gx.asarray(V)), gx.Tensor)
    w = gx.tensor([1.0, 2.0, 3.0, 4.0])
    assert isinstance(gx.vmap(lambda v: (v * w).sum())(V), gx.Tensor)
    assert gx.vmap(lambda x: x * 2)(V.astype(np.float32)).dtype == np.float32
    assert gx.vmap(lambda x, s: x * s, in_axes=(0, None))(V.astype(np.float32), 2.0).dtype == np.float32
    found = gx.vmap(lambda x: (x @ W, x.argmax(), np.ones(3)))(np.empty((0, 4)))
    assert [y.shape for y in found] == [(0, 2), (0,), (0, 3)]
    result = gx.vmap(lambda x: 1.0)(V)
    result[0] = 5.0
    np.testing.assert_array_equal(result, [5, 1, 1, 1, 1])
    np.testing.assert_array_equal(gx.vmap(lambda: np.arange(2), axis_size=3)(), [[0, 1]] * 3)


def test_nested() -> None:
    a, b = RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4))
    table = gx.vmap(gx.vmap(np.dot, in_axes=(None, 0)), in_axes=(0, None))
    for mode in (lambda g: g, gx.compile):
        np.testing.assert_allclose(mode(table)(a, b), a @ b.T, rtol=1e-12)
    turned = gx.vmap(gx.vmap(np.dot, in_axes=(0, None)), in_axes=(None, 0))
    np.testing.assert_allclose(turned(a, b), (a @ b.T).T, rtol=1e-12)

    def outer(x: Array) -> Array:
        return gx.vmap(lambda y: x * y + a[0, 0])(b[:, 0])

    for mode in (lambda g: g, gx.compile):
        np.testing.assert_allclose(mode(gx.vmap(outer))(a[0]), np.outer(a[0], b[:, 0]) + a[0, 0], rtol=1e-12)


def test_jacobian_and_hessian_by_vmap() -> None:
    def f(x: Array) -> Array:
        return (x**3).sum() * x[0] + np.sin(x).prod()

    x = np.array([0.3, -1.2, 2.0])
    basis = np.eye(3)

    def hessian(x: Array) -> Array:
        return gx.vmap(lambda e: gx.grad(lambda y: (gx.grad(f)(y) * e).sum())(x))(basis)

    step = 1e-5
    expected = np.stack([(gx.grad(f)(x + step * e) - gx.grad(f)(x - step * e)) / (2 * step) for e in basis])
    for mode in (lambda g: g, gx.compile):
        np.testing.assert_allclose(mode(hessian)(x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_linear_functions_made_outside(mode: Any) -> None:
    """The tape of `linearize` and `vjp` lies outside of the vmap that runs along it."""

    def f(x: Array, w: Array) -> Array:
        return np.sin(x * w) * x[0]

    def by_columns(x: Array, w: Array) -> Array:
        return gx.vmap(gx.linearize(lambda y: f(y, w), x)[1], out_axes=1)(np.eye(3))

    def by_rows(x: Array, w: Array) -> Array:
        return gx.vmap(gx.vjp(lambda y: f(y, w), x)[1])(np.eye(3))[0]

    x, w = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, -0.5])
    expected = np.diag(np.cos(x * w) * w * x[0])
    expected[:, 0] += np.sin(x * w)
    for matrix in (by_columns, by_rows):
        np.testing.assert_allclose(mode(matrix)(x, w), expected, rtol=1e-12)
        slope = mode(gx.grad(lambda w, m=matrix: (m(x, w) ** 2).sum()))(w)
        step = 1e-6 * np.eye(3)
        for k in range(3):
            difference = ((matrix(x, w + step[k]) ** 2).sum() - (matrix(x, w - step[k]) ** 2).sum()) / 2e-6
            assert abs(slope[k] - difference) < 1e-7


def test_a_linear_function_made_dynamically_in_a_compiled_one() -> None:
    linear = gx.linearize(lambda y: y**3, np.array([1.0, 2.0]))[1]
    np.testing.assert_array_equal(plain(gx.compile(linear)(np.array([1.0, 1.0]))), [3.0, 12.0])


# -- state ----------------------------------------------------------------------------------------------------------------


def test_gradients_of_captured_parameters() -> None:
    layer = nn.Linear(4, 3)
    x = RNG.normal(size=(6, 4)).astype(np.float32)

    def loss() -> Any:
        return (gx.vmap(lambda row: np.tanh(layer(row)).sum())(gx.asarray(x)) ** 2).sum()

    (np.tanh(layer(gx.asarray(x))).sum(axis=1) ** 2).sum().backward()
    expected = [p.grad.numpy().copy() for p in layer.parameters()]
    for run in (loss, gx.compile(loss)):
        layer.zero_grad()
        run().backward()
        for p, g in zip(layer.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-5, atol=1e-6)


def test_what_is_cut_off_stays_cut_off() -> None:
    def f(x: Any) -> Any:
        x = gx.asarray(x)
        with gx.no_grad():
            y = x * x
        return x * x.detach() + y

    for mode in (lambda g: g, gx.compile):
        found = mode(gx.grad(lambda x: gx.vmap(f)(x).sum()))(V)
        np.testing.assert_array_equal(plain(found), V)
        found = mode(gx.vmap(gx.grad(lambda x: f(x).sum())))(V)
        np.testing.assert_array_equal(plain(found), V)


def draws(x: Any) -> Any:
    return gx.random.normal((2,)) + x, gx.random.uniform(dtype=np.float64)


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_random_numbers_are_those_of_a_loop(mode: Any) -> None:
    x = np.arange(4, dtype=np.float32)
    gx.random.manual_seed(11)
    expected = stacked([plain(list(draws(row))) for row in x])
    after = gx.random.uniform().item()
    gx.random.manual_seed(11)
    mapped = mode(gx.vmap(draws))
    for found, y in zip(plain(mapped(x)), expected, strict=True):
        np.testing.assert_array_equal(found, y)
    assert gx.random.uniform().item() == after
    assert not np.array_equal(plain(mapped(x))[0], expected[0])


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_random_numbers_in_nested_vmap(mode: Any) -> None:
    generator = gx.random.Generator(3)

    def f(x: Any, y: Any) -> Any:
        return generator.uniform() + x * y

    table = gx.vmap(gx.vmap(f, in_axes=(None, 0)), in_axes=(0, None))
    x, y = np.zeros(2, np.float32), np.zeros(3, np.float32)
    expected = gx.random.Generator(3)
    rows = [[expected.uniform().item() for _ in y] for _ in x]
    np.testing.assert_array_equal(plain(mode(table)(x, y)), np.array(rows, np.float32))
    assert np.array_equal(generator.state.numpy(), expected.state.numpy())


KEYED: dict[str, Callable[[Any], Any]] = {
    "normal": lambda k: gx.random.normal((3,), key=k),
    "gamma": lambda k: gx.random.gamma(np.float32(2.0), (3,), key=k),
    "permutation": lambda k: gx.random.permutation(5, key=k),
    "choice": lambda k: gx.random.choice(5, (3,), key=k),
    "split": lambda k: gx.random.uniform((2,), key=gx.random.split(gx.random.fold_in(k, 3))[1]),
}


@pytest.mark.parametrize("name", KEYED)
def test_each_example_has_a_key(name: str) -> None:
    draw, keys = KEYED[name], gx.random.split(gx.random.key(3), 4)
    expected = stacked([plain(draw(k)) for k in keys])
    for mode in (lambda g: g, gx.compile):
        np.testing.assert_array_equal(plain(mode(gx.vmap(draw))(keys)), expected)
    same = plain(gx.vmap(draw, in_axes=None, axis_size=2)(keys[0]))
    np.testing.assert_array_equal(same, np.stack([expected[0]] * 2))


def test_modules_are_functions_too() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Tanh())
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    gx.random.manual_seed(2)
    expected = np.stack([model(gx.asarray(row)).numpy() for row in x])
    for mode in (lambda g: g, gx.compile):
        gx.random.manual_seed(2)
        np.testing.assert_allclose(plain(mode(gx.vmap(model))(x)), expected, rtol=1e-5, atol=1e-6)


def test_a_generator_made_inside_starts_alike_for_all() -> None:
    found = gx.vmap(lambda x: gx.random.Generator(5).uniform((2,)) + x)(np.zeros(3, np.float32))
    np.testing.assert_array_equal(found.numpy(), [gx.random.Generator(5).uniform((2,)).numpy()] * 3)


# -- calls of Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_effects_take_one_example_after_the_other(mode: Any, capfd: Any) -> None:
    def f(x: Any, s: Any) -> Any:
        gx.debug.print("x {}", x)
        y = gx.host_call(_double, gx.ShapeDtype((2,), np.float64), x)
        gx.debug.print("y {} s {}", y, s)
        return y + s

    found = mode(gx.vmap(f, in_axes=(0, None)))(np.array([[1.0, 2.0], [3.0, 4.0]]), np.float64(10))
    np.testing.assert_array_equal(plain(found), [[12, 14], [16, 18]])
    lines = capfd.readouterr().out.splitlines()
    assert lines == ["x [1. 2.]", "x [3. 4.]", "y [2. 4.] s 10.0", "y [6. 8.] s 10.0"]


def _double(x: Array) -> Array:
    assert x.shape == (2,)
    return x * 2


@gx.custom_op(result=lambda x: x)
def halved(x: Array) -> Array:
    assert x.ndim == 1
    return x / 2


@gx.custom_op(result=lambda x: x, vjp=lambda ct, y, x: ct * gx.cos(x))
def sine(x: Array) -> Array:
    assert x.ndim == 1
    return np.sin(x)


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_derivatives_of_custom_ops(mode: Any) -> None:
    found = mode(gx.grad(lambda x: gx.vmap(sine)(x).sum()))(V)
    np.testing.assert_allclose(plain(found), np.cos(V), rtol=1e-12)
    found = mode(gx.vmap(gx.grad(lambda x: sine(x).sum())))(V)
    np.testing.assert_allclose(plain(found), np.cos(V), rtol=1e-12)
    found = mode(gx.grad(lambda x: gx.vmap(gx.grad(lambda y: sine(y).sum()))(x).sum()))(V)
    np.testing.assert_allclose(plain(found), -np.sin(V), rtol=1e-12)


@gx.custom_vjp
def squared(x: Any) -> Any:
    return x * x


squared.defvjp(lambda x: (x * x, x), lambda x, ct: (7.0 * ct,))


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_stated_derivatives_stay(mode: Any) -> None:
    for f in (gx.grad(lambda x: gx.vmap(squared)(x).sum()), gx.vmap(gx.grad(lambda x: squared(x).sum()))):
        np.testing.assert_array_equal(plain(mode(f)(V)), np.full_like(V, 7.0))
    again = gx.checkpoint(lambda x: np.sin(np.sin(x)).sum())
    for f in (gx.grad(lambda x: gx.vmap(again)(x).sum()), gx.vmap(gx.grad(again))):
        np.testing.assert_allclose(plain(mode(f)(V)), np.cos(np.sin(V)) * np.cos(V), rtol=1e-12)


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_custom_ops_see_one_example(mode: Any) -> None:
    np.testing.assert_array_equal(plain(mode(gx.vmap(lambda x: halved(x) + 1))(V)), V / 2 + 1)


# -- control flow ---------------------------------------------------------------------------------------------------------


def collatz(n: Any) -> Any:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def newton(x: Any, tolerance: Any) -> Any:
    guess = x
    while abs(guess * guess - x) > tolerance:
        guess = 0.5 * (guess + x / guess)
    return guess


def guarded(x: Any, table: Any, i: Any) -> Any:
    if i >= 0 and x > 0:
        return np.sqrt(x) * table[i]
    elif x < -1:
        return table.sum()
    return -x


CONTROL: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    (collatz, (np.array([27, 1, 6, 97, 2]),), 0),
    (newton, (np.array([2.0, 9.0, 1e-3, 1e6, 1.0]), 1e-9), (0, None)),
    (newton, (np.float64(2.0), np.array([1e-1, 1e-3, 1e-6, 1e-9, 1.0])), (None, 0)),
    (guarded, (np.array([4.0, 9.0, -2.0, -0.5, 1.0]), np.arange(3.0), np.array([1, -50, 70, 0, 2])), (0, None, 0)),
]


@pytest.mark.parametrize(("f", "args", "in_axes"), CONTROL, ids=[f"{c[0].__name__}-{k}" for k, c in enumerate(CONTROL)])
def test_control_flow_of_plain_python(f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any) -> None:
    """Each example takes its own way, dynamically and compiled."""
    expected = loop(f, args, in_axes)
    mapped = gx.vmap(f, in_axes)
    for run in (
        mapped,
        gx.compile(mapped),
        gx.compile(lambda *xs: gx.vmap(f, in_axes)(*xs) + 0),
        gx.vmap(gx.compile(f), in_axes),
    ):
        np.testing.assert_allclose(plain(run(*args)), expected, rtol=1e-12)


def recurrent(h: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = np.tanh(0.5 * h + x)
        return h, h * h

    return gx.scan(step, h, xs)


def doubled(n: Any) -> Any:
    return gx.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 2), (0, 1.5))[1]


def branched(p: Any, x: Any) -> Any:
    return gx.cond(p, lambda x: x * 2, lambda x: x - 1, x)


def switched(k: Any, x: Any) -> Any:
    return gx.switch(k, [lambda x: x, lambda x: -x, lambda x: x * x], x)


LOOPS: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    (recurrent, (np.arange(5.0), V), 0),
    (recurrent, (np.arange(5.0), V[0]), (0, None)),
    (recurrent, (np.float64(1.0), V), (None, 0)),
    (doubled, (np.arange(5),), 0),
    (branched, (V[:, 0] > 0, V), 0),
    (branched, (np.bool_(True), V), (None, 0)),
    (branched, (V[:, 0] > 0, V[0]), (0, None)),
    (switched, (np.array([0, 2, 1, 1, 0]), V), 0),
    (lambda n: gx.fori_loop(0, n, lambda i, c: c + i, 0), (np.arange(5),), 0),
    (lambda x: gx.map(lambda y: y * x[0], x), (V,), 0),
    (lambda x: gx.associative_scan(lambda a, b: a * b, x), (V,), 0),
    (lambda x: gx.scan(lambda c, y: (gx.vmap(lambda a: a * y + x[0])(c), c.sum()), x, x), (V,), 0),
]


@pytest.mark.parametrize(("f", "args", "in_axes"), LOOPS, ids=[f"{c[0].__name__}-{k}" for k, c in enumerate(LOOPS)])
def test_loops_and_branches(f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any) -> None:
    expected = loop(f, args, in_axes)
    mapped = gx.vmap(f, in_axes)
    alike(plain(mapped(*args)), expected)
    alike(plain(gx.compile(mapped)(*args)), expected)


def powers(x: Any, n: Any) -> Any:
    y = x
    while abs(y) < n:
        y = y * x
    return np.sin(y) if y > 0 else y * y


SMOOTH: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    (recurrent, (np.arange(5.0), V), 0),
    (recurrent, (np.arange(5.0), V[0]), (0, None)),
    (lambda x, p: branched(p, x), (V, V[:, 0] > 0), 0),
    (lambda x, k: switched(k, x), (V, np.array([0, 2, 1, 1, 0])), 0),
    (lambda x, n: gx.fori_loop(0, 3, lambda i, c: c * x + n, x), (V[:, 0], np.arange(5.0)), 0),
    (powers, (np.array([1.5, -1.2, 3.0, -2.0, 1.1]), np.array([4.0, 3.0, 2.0, 50.0, 1.5])), 0),
]


@pytest.mark.parametrize(("f", "args", "in_axes"), SMOOTH, ids=[f"{c[0].__name__}-{k}" for k, c in enumerate(SMOOTH)])
def test_gradients_of_loops_and_branches(f: Callable[..., Any], args: tuple[Any, ...], in_axes: Any) -> None:
    """In reverse and in forward mode, inside of vmap and around it, against differences of one example at a time."""
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
    direction = RNG.normal(size=args[0].shape)
    slopes = []
    for k in range(5):
        x, *rest = (a if axis is None else np.take(a, k, axis=axis) for a, axis in zip(args, axes, strict=True))
        up, down = (float(total(f(x + h * direction[k], *rest))) for h in (1e-6, -1e-6))
        slopes.append((up - down) / 2e-6)

    def of(x: Array, *rest: Array) -> Any:
        return total(gx.vmap(f, in_axes)(x, *rest))

    def each(x: Array, *rest: Array) -> Any:
        return gx.vmap(gx.grad(lambda x, *rest: total(f(x, *rest))), in_axes)(x, *rest)

    def along(x: Array, t: Array, *rest: Array) -> Any:
        tangent = gx.vmap(lambda x, t, *rest: gx.jvp(lambda x: total(f(x, *rest)), (x,), (t,))[1], (0, 0, *axes[1:]))
        return tangent(x, t, *rest)

    for mode in (lambda g: g, gx.compile):
        for gradients in (mode(gx.grad(of))(*args), mode(each)(*args)):
            found = (np.asarray(gradients) * direction).reshape(5, -1).sum(axis=1)
            np.testing.assert_allclose(found, slopes, rtol=1e-6, atol=1e-7)
        found = mode(along)(args[0], direction, *args[1:])
        np.testing.assert_allclose(np.asarray(found), slopes, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", [lambda g: g, gx.compile], ids=["dynamic", "compiled"])
def test_random_numbers_in_loops(mode: Any) -> None:
    """As many draws as a loop over the examples makes, though the loop carries values as well; a number of draws that depends
    on values gives each example a stretch of its own."""

    def walk(x: Any) -> Any:
        return gx.scan(lambda c, t: (c + gx.random.normal(), c), x, np.arange(3))[0]

    x = np.arange(4, dtype=np.float32)
    gx.random.manual_seed(8)
    expected = stacked([plain(walk(row)) for row in x])
    after = gx.random.uniform().item()
    gx.random.manual_seed(8)
    np.testing.assert_array_equal(plain(mode(gx.vmap(walk))(x)), expected)
    assert gx.random.uniform().item() == after

    def unknown(n: Any) -> Any:
        return gx.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + gx.random.uniform()), (0, np.float32(0)))[
            1
        ]

    generator = gx.random.default_generator()
    gx.random.manual_seed(8)
    found = plain(mode(gx.vmap(unknown))(np.array([2, 0, 3])))
    assert generator.state.numpy().tolist() == [8, 0, 0, 3]
    for k, n in enumerate((2, 0, 3)):
        generator.state.assign(gx.tensor(np.array([8, 0, 0, k], np.uint32)))
        np.testing.assert_array_equal(found[k], plain(unknown(n)))


# -- quality --------------------------------------------------------------------------------------------------------------


def kernels(f: Callable[..., Any], *args: Any) -> list[str]:
    """The schedules of the kernel calls of a compiled function."""
    return sorted(k.schedule for k in gx.compile(f).inspect(*args).kernels for _ in range(k.calls))


def test_one_product_for_all_examples() -> None:
    x, w = np.ones((64, 32), np.float32), np.ones((32, 16), np.float32)
    bias = np.ones(16, np.float32)
    plain_layer = kernels(lambda x, w, b: np.maximum(x @ w + b, 0), x, w, bias)
    mapped = kernels(gx.vmap(lambda x, w, b: np.maximum(x @ w + b, 0), in_axes=(0, None, None)), x, w, bias)
    assert mapped == plain_layer and len(mapped) == 1
    turned = kernels(gx.vmap(lambda x, w: w @ x, in_axes=(0, None)), x, w.T)
    assert len(turned) == 1
    each = kernels(gx.vmap(lambda x, w: x @ w), np.ones((8, 64, 32), np.float32), np.ones((8, 32, 16), np.float32))
    assert len(each) == 1
    rows = kernels(gx.vmap(lambda x: np.exp(x) / np.exp(x).sum()), x)
    assert len(rows) == 1
