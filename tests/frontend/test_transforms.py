"""Functional transforms: values against closed forms and finite differences, dynamically and compiled, nested in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError, NoDerivativeError, StructureError

Array = np.ndarray[Any, Any]
MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
X = np.array([0.3, 0.7, -1.2])
T = np.array([1.0, -2.0, 0.5])


def f(x: Any) -> Any:
    return np.sin(x * x) * x


def first(x: Array) -> Array:
    return 2 * x * x * np.cos(x * x) + np.sin(x * x)


def second(x: Array) -> Array:
    return 6 * x * np.cos(x * x) - 4 * x**3 * np.sin(x * x)


def third(x: Array) -> Array:
    return 6 * np.cos(x * x) - 24 * x * x * np.sin(x * x) - 8 * x**4 * np.cos(x * x)


def close(found: Any, expected: Any, **kwargs: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, **{"rtol": 1e-12, "atol": 1e-13, **kwargs})


# -- jvp, vjp, linearize -------------------------------------------------------------------------------------------------


@MODES
def test_jvp(mode: Any) -> None:
    value, tangent = mode(lambda x, t: gx.jvp(f, (x,), (t,)))(X, T)
    assert type(value) is np.ndarray and type(tangent) is np.ndarray
    close(value, f(X))
    close(tangent, first(X) * T)


@MODES
def test_vjp(mode: Any) -> None:
    def run(a: Any, b: Any, ct: Any) -> Any:
        y, pull = gx.vjp(lambda a, b: (a @ b, a.sum()), a, b)
        return y, pull((ct, 2.0)), pull((None, 1.0))

    rng = np.random.default_rng(0)
    a, b, ct = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    y, both, last = mode(run)(a, b, ct)
    close(y[0], a @ b)
    close(both[0], ct @ b.T + 2)
    close(both[1], a.T @ ct)
    close(last[0], np.ones((2, 3)))
    close(last[1], np.zeros((3, 4)))


@MODES
def test_linearize_is_used_many_times(mode: Any) -> None:
    def run(x: Any, t: Any) -> Any:
        y, push = gx.linearize(f, x)
        return y, push(t), push(2 * t)

    y, one, two = mode(run)(X, T)
    close(y, f(X))
    close(one, first(X) * T)
    close(two, 2 * first(X) * T)


@MODES
def test_containers_and_auxiliary_outputs(mode: Any) -> None:
    def g(p: Any, n: Any) -> Any:
        return {"y": p["a"] * p["b"], "n": n + 1}, (p["a"] + 1, "text")

    def run(a: Any, b: Any, n: Any) -> Any:
        forward = gx.jvp(g, ({"a": a, "b": b}, n), ({"a": b, "b": None}, None), has_aux=True)
        back = gx.vjp(g, {"a": a, "b": b}, n, has_aux=True)
        return forward, back[0], back[1]({"y": a, "n": None}), back[2]

    (y, dy, aux), z, ct, aux2 = mode(run)(X, T, np.arange(3))
    close(y["y"], X * T)
    close(dy["y"], T * T)
    assert dy["n"] is None and y["n"].tolist() == [1, 2, 3] and z["n"].tolist() == [1, 2, 3]
    close(aux[0], X + 1)
    assert aux[1] == aux2[1] == "text"
    assert type(aux[0]) is type(aux2[0]) is np.ndarray
    close(ct[0]["a"], X * T)
    close(ct[0]["b"], X * X)
    assert ct[1] is None


@MODES
def test_tangents_of_what_does_not_depend_are_zero(mode: Any) -> None:
    _, tangents = mode(lambda x, t: gx.jvp(lambda x: (x * 2, np.floor(x), x > 0, 3.0), (x,), (t,)))(X, T)
    close(tangents[0], 2 * T)
    close(tangents[1], np.zeros(3))
    assert tangents[2] is None
    assert float(tangents[3]) == 0


@MODES
def test_results_are_of_the_kind_of_the_arguments(mode: Any) -> None:
    x, t = gx.tensor(X), gx.tensor(T)
    for value in mode(lambda x, t: gx.jvp(f, (x,), (t,)))(x, t):
        assert isinstance(value, gx.Tensor) and not value.requires_grad
    for value in mode(lambda x: gx.vjp(f, x)[1](x))(x):
        assert isinstance(value, gx.Tensor) and not value.requires_grad
    value, tangent = mode(lambda x, t: gx.jvp(np.sin, (x,), (t,)))(0.5, 2.0)
    assert type(value) is type(tangent) is np.float32
    out = gx.jvp(lambda x: x, (X,), (T,))
    assert not np.shares_memory(out[1], T)


def test_numbers_take_the_dtype_of_their_primal() -> None:
    x = np.float32(2.0)
    value, tangent = gx.jvp(np.square, (x,), (3,))
    assert (float(value), float(tangent), tangent.dtype) == (4, 12, np.float32)


# -- nesting -------------------------------------------------------------------------------------------------------------


def _grad(g: Any) -> Any:
    return gx.grad(lambda x: g(x).sum())


def _jvp(g: Any) -> Any:
    return lambda x: gx.jvp(g, (x,), (np.ones(3),))[1]


def _vjp(g: Any) -> Any:
    return lambda x: gx.vjp(g, x)[1](np.ones(3))[0]


def _linearize(g: Any) -> Any:
    return lambda x: gx.linearize(g, x)[1](np.ones(3))


def _jacfwd(g: Any) -> Any:
    return lambda x: gx.jacfwd(g)(x).sum(0)


def _jacrev(g: Any) -> Any:
    return lambda x: gx.jacrev(g)(x).sum(1)


def _compile(g: Any) -> Any:
    return gx.compile(g)


DERIVATIVES = {"grad": _grad, "jvp": _jvp, "vjp": _vjp, "linearize": _linearize, "jacfwd": _jacfwd, "jacrev": _jacrev}


@MODES
@pytest.mark.parametrize("names", list(itertools.product(DERIVATIVES, repeat=2)), ids="-of-".join)
def test_any_two_nest(mode: Any, names: Any) -> None:
    """Elementwise f: each of these derivatives of it is f' (times ones)."""
    outer, inner = (DERIVATIVES[n] for n in names)
    close(mode(outer(inner(f)))(X), second(X))


@pytest.mark.parametrize("names", list(itertools.product(("grad", "jvp"), repeat=3)), ids="-of-".join)
@MODES
def test_three_nest(mode: Any, names: Any) -> None:
    g = f
    for name in names:
        g = DERIVATIVES[name](g)
    close(mode(g)(X), third(X), rtol=1e-11)


@pytest.mark.parametrize("outer", ["grad", "jvp", "vjp"])
@pytest.mark.parametrize("inner", ["grad", "jvp", "vjp"])
def test_of_compiled_functions(outer: str, inner: str) -> None:
    """A compiled function in between is one step of the tape, in forward mode too."""
    close(DERIVATIVES[inner](gx.compile(f))(X), first(X))
    close(DERIVATIVES[outer](DERIVATIVES[inner](gx.compile(f)))(X), second(X))
    close(DERIVATIVES[outer](gx.compile(DERIVATIVES[inner](f)))(X), second(X))


@MODES
def test_levels_are_not_confused(mode: Any) -> None:
    """d/dx (x * d/dy (x + y)) = 1; in all four combinations of modes."""

    def forward(g: Any) -> Any:
        return lambda x: gx.jvp(g, (x,), (1.0,))[1]

    for outer, inner in itertools.product((gx.grad, forward), repeat=2):
        assert float(mode(outer(lambda x, d=inner: x * d(lambda y: x + y)(1.0)))(2.0)) == 1
        assert float(mode(outer(lambda x, d=inner: x * d(lambda y: x * y)(1.0)))(3.0)) == 6


@MODES
def test_derivatives_by_tangents_and_cotangents(mode: Any) -> None:
    close(mode(gx.grad(lambda t: gx.jvp(f, (X,), (t,))[1].sum()))(T), first(X))
    close(mode(lambda t: gx.jvp(lambda t: gx.jvp(f, (X,), (t,))[1], (t,), (X,))[1])(T), first(X) * X)
    close(mode(gx.grad(lambda t: (gx.vjp(f, X)[1](t)[0] ** 2).sum()))(T), 2 * first(X) ** 2 * T)
    found = mode(gx.grad(lambda x: gx.jvp(f, (x,), (x,))[1].sum()))(X)
    close(found, first(X) + second(X) * X)


@MODES
def test_parameters_outside_see_through_forward_mode(mode: Any) -> None:
    """backward() goes through a jvp to a leaf that the function captured."""
    w = gx.tensor(T, requires_grad=True)

    def step(x: Any) -> Any:
        gx.jvp(lambda x: f(x) * w, (x,), (np.ones(3),))[1].sum().backward()

    mode(step)(X)
    close(w.grad, first(X))
    with gx.no_grad():
        value, tangent = mode(lambda x: gx.jvp(lambda x: x * w, (x,), (x,)))(X)
    assert not (isinstance(value, gx.Tensor) and value.requires_grad)
    close(tangent, X * T)


def test_leaves_keep_their_gradients() -> None:
    w = gx.tensor(T, requires_grad=True)
    gx.jvp(lambda x: (x * w).sum(), (gx.tensor(X),), (gx.tensor(X),))
    gx.jvp(lambda w: (w * w).sum(), (w,), (gx.tensor(X),))
    assert w.grad is None


# -- Jacobians -----------------------------------------------------------------------------------------------------------


def _two(a: Any, b: Any) -> Any:
    return {"p": a @ b, "s": (a * a).sum(), "e": np.exp(b)}


@MODES
@pytest.mark.parametrize("jacobian", [gx.jacfwd, gx.jacrev, gx.jacobian], ids=["jacfwd", "jacrev", "jacobian"])
def test_jacobians(mode: Any, jacobian: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=3)
    found = mode(jacobian(_two, argnums=(0, 1)))(a, b)
    close(found["p"][0], np.einsum("ik,j->ikj", np.eye(2), b))
    close(found["p"][1], a)
    close(found["s"][0], 2 * a)
    close(found["s"][1], np.zeros(3))
    close(found["e"][0], np.zeros((3, 2, 3)))
    close(found["e"][1], np.diag(np.exp(b)))
    assert type(found["p"][0]) is np.ndarray
    whole, aux = mode(jacobian(lambda a, b: (_two(a, b)["p"], b + 1), argnums=-1, has_aux=True))(a, b)
    close(whole, a)
    close(aux, b + 1)
    assert mode(jacobian(lambda x: x * 2))(np.zeros((0,))).shape == (0, 0)
    assert mode(jacobian(lambda x: x.sum(0)))(np.zeros((0, 2))).shape == (2, 0, 2)


@MODES
def test_hessian(mode: Any) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(4, 4))
    x = rng.normal(size=4)

    def quartic(x: Any, y: Any) -> Any:
        return (x @ a @ x) ** 2 + (x * y).sum()

    s = a + a.T
    expected = 2 * np.outer(s @ x, s @ x) + 2 * (x @ a @ x) * s
    close(mode(gx.hessian(lambda x: quartic(x, x * 0)))(x), expected, rtol=1e-10)
    found = mode(gx.hessian(quartic, argnums=(0, 1)))(x, x)
    close(found[0][0], expected, rtol=1e-10)
    close(found[0][1], np.eye(4))
    close(found[1][0], np.eye(4))
    close(found[1][1], np.zeros((4, 4)))
    v = rng.normal(size=4)
    close(mode(lambda x, v: gx.hvp(lambda x: quartic(x, x * 0), (x,), (v,)))(x, v), expected @ v, rtol=1e-10)
    close(mode(lambda x, v: gx.hvp(quartic, (x, x), (v, v)))(x, v)[1], v)


# -- gradients -----------------------------------------------------------------------------------------------------------


@MODES
def test_grad_takes_keywords_negative_numbers_and_containers(mode: Any) -> None:
    def g(a: Any, p: Any, *, k: Any) -> Any:
        return (a * p["w"] * k).sum() + (p["b"] ** 2).sum(), a + 1

    a, p = X, {"w": T, "b": np.float64(3.0)}
    by_p, aux = mode(gx.grad(g, argnums=-1, has_aux=True))(a, p, k=2.0)
    close(by_p["w"], 2 * X)
    close(by_p["b"], 6.0)
    close(aux, X + 1)
    assert type(aux) is np.ndarray
    value, (by_a, by_p2) = mode(gx.value_and_grad(lambda a, p: g(a, p, k=2.0)[0], argnums=(0, -1)))(a, p)
    close(value, 2 * (X * T).sum() + 9)
    close(by_a, 2 * T)
    close(by_p2["w"], 2 * X)


@MODES
def test_forward_mode_keeps_nan_away(mode: Any) -> None:
    x = np.array([0.0, 4.0, -1.0])
    for g in (lambda x: np.where(x > 0, np.sqrt(x), 0.0), lambda x: np.sqrt(np.where(x > 0, x, 0.0))):
        close(mode(lambda x, g=g: gx.jvp(g, (x,), (np.ones(3),))[1])(x), [0, 0.25, 0])


# -- errors --------------------------------------------------------------------------------------------------------------


@MODES
def test_functions_without_a_derivative(mode: Any) -> None:
    opaque = gx.custom_op(lambda x: x)
    with pytest.raises(NoDerivativeError, match=r"no derivative[\s\S]*test_transforms.py"):
        mode(lambda x: gx.jvp(opaque, (x,), (x,)))(X)


def test_wrong_arguments() -> None:
    with pytest.raises(GradientError, match="shape and dtype"):
        gx.jvp(np.sin, (X,), (T[:2],))
    with pytest.raises(GradientError, match="shape and dtype"):
        gx.jvp(np.sin, (X,), (T.astype(np.float32),))
    with pytest.raises(GradientError, match="shape and dtype"):
        gx.vjp(np.sin, X)[1](T[:2])
    with pytest.raises(StructureError, match="structure"):
        gx.vjp(np.sin, X)[1]((T,))
    with pytest.raises(StructureError, match="one tangent for each"):
        gx.jvp(np.sin, (X,), (T, T))
    with pytest.raises(StructureError, match="as a tuple"):
        gx.jvp(np.sin, X, T)
    with pytest.raises(GradientError, match="none among the primals"):
        gx.jvp(np.sin, (np.arange(3),), (None,))
    with pytest.raises(GradientError, match="only floating-point values have a tangent"):
        gx.jvp(lambda x, n: x * n, (X, np.arange(3)), (T, np.arange(3.0)))
    with pytest.raises(GradientError, match="results are floating point"):
        gx.jacfwd(lambda x: x > 0)(X)
    with pytest.raises(GradientError, match="values only"):
        gx.jacrev(lambda x: x)(np.arange(3))


def test_call_type() -> None:
    derivative: Callable[..., Any] = gx.jacfwd(f)
    assert derivative.__name__ == "f"
