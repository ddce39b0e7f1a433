"""Functions with derivatives of their own: rules that differ from the true derivative show that they are used, everywhere."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError, NoDerivativeError, StateError, StructureError
from graphc.forward import jvp_graph
from graphc.frontend.subtrace import Argument, subtrace
from graphc.interp import evaluate
from graphc.ir.parser import parse
from graphc.ir.printer import to_text
from graphc.ops.custom import custom_call
from graphc.passes.batching import Batch
from graphc.passes.differentiate import Differentiate

MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
X = np.array([0.3, 0.7, -1.2])
T = np.array([1.0, -2.0, 0.5])


@gx.custom_vjp
def backward_rule(x: Any) -> Any:
    return np.sin(x)


backward_rule.defvjp(lambda x: (backward_rule(x), (np.cos(x), "kept")), lambda r, ct: (10 * ct * r[0],))


@gx.custom_jvp
def forward_rule(x: Any) -> Any:
    return np.sin(x)


@forward_rule.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return forward_rule(*primals), 10 * tangents[0] * np.cos(primals[0])


BOTH = pytest.mark.parametrize("f", [backward_rule, forward_rule], ids=["vjp", "jvp"])


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-13)


@MODES
@BOTH
def test_the_rule_is_used(mode: Any, f: Any) -> None:
    slope, second = 10 * np.cos(X), -10 * np.sin(X)
    value = mode(f)(X)
    assert type(value) is np.ndarray
    close(value, np.sin(X))
    close(mode(gx.grad(lambda x: f(x).sum()))(X), slope)
    value, tangent = mode(lambda x, t: gx.jvp(f, (x,), (t,)))(X, T)
    close(value, np.sin(X))
    close(tangent, slope * T)
    close(mode(gx.grad(lambda x: gx.grad(lambda x: f(x).sum())(x).sum()))(X), second)
    close(mode(lambda x, t: gx.jvp(gx.grad(lambda x: f(x).sum()), (x,), (t,))[1])(X, T), second * T)
    close(mode(lambda x, t: gx.jvp(lambda x: gx.jvp(f, (x,), (t,))[1], (x,), (t,))[1])(X, T), second * T * T)
    close(mode(gx.grad(lambda x: gx.jvp(f, (x,), (T,))[1].sum()))(X), second * T)
    close(mode(gx.jacfwd(f))(X), np.diag(slope))
    close(mode(gx.jacrev(f))(X), np.diag(slope))


@BOTH
def test_on_the_tape_and_through_compiled_calls(f: Any) -> None:
    for g in (f, gx.compile(f)):
        w = gx.tensor(X, requires_grad=True)
        (g(w) * w).sum().backward()
        close(w.grad, 10 * np.cos(X) * X + np.sin(X))
        close(gx.jvp(g, (X,), (T,))[1], 10 * np.cos(X) * T)


@BOTH
def test_in_held_graphs(f: Any) -> None:
    """Loops, branches and batches differentiate graphs: the node carries the rule there."""
    sub = subtrace(lambda x: f(x) * x, [Argument(gx.tensor(X).type)])
    (node,) = [n for n in sub.graph.nodes if n.op is custom_call]
    assert node.attrs["label"] in ("backward_rule", "forward_rule")
    slope = 10 * np.cos(X) * X + np.sin(X)
    back = Differentiate().run(sub.graph)
    close(evaluate(back, [X, T])[0], slope * T)
    forward, _ = jvp_graph(sub.graph)
    close(evaluate(forward, [X, T])[1], slope * T)
    many = Batch(size=2).run(sub.graph)
    xs, ts = np.stack([X, 2 * X]), np.stack([T, T])
    for x, row in zip(xs, evaluate(Differentiate().run(many), [xs, ts])[0], strict=True):
        close(row, (10 * np.cos(x) * x + np.sin(x)) * T)
    close(evaluate(jvp_graph(many)[0], [xs, ts])[1], (10 * np.cos(xs) * xs + np.sin(xs)) * ts)


def test_a_graph_of_another_process_has_values_only() -> None:
    sub = subtrace(backward_rule, [Argument(gx.tensor(X).type)])
    text = to_text(sub.graph)
    number = next(n.attrs["rule"] for n in sub.graph.nodes if n.op is custom_call)
    graph = parse(text.replace(f"rule = {number}", "rule = 987654321"))
    close(evaluate(graph, [X])[0], np.sin(X))
    with pytest.raises(NoDerivativeError, match="another process"):
        jvp_graph(graph)


# -- arguments -----------------------------------------------------------------------------------------------------------


@functools.partial(gx.custom_vjp, nondiff_argnums=(0, 3))
def scaled(function: Any, p: Any, n: Any, k: Any, mode: str = "plain") -> Any:
    return {"y": function(p["a"]) * p["b"] * k, "n": n + 1}


def _fwd(function: Any, p: Any, n: Any, k: Any, mode: str) -> Any:
    assert mode == "plain"
    return scaled(function, p, n, k, mode), p


def _bwd(function: Any, k: Any, p: Any, ct: Any) -> Any:
    assert ct["n"] is None
    return {"a": 7 * ct["y"] * k, "b": None}, None, None


scaled.defvjp(_fwd, _bwd)


@MODES
def test_containers_statics_and_arguments_without_a_derivative(mode: Any) -> None:
    def run(a: Any, b: Any, n: Any, k: Any) -> Any:
        y, pull = gx.vjp(lambda a, b: scaled(np.sin, {"a": a, "b": b}, n, k=k), a, b)
        return y, pull({"y": np.ones(3), "n": None})

    y, (by_a, by_b) = mode(run)(X, T, np.arange(3), np.array(2.0))
    close(y["y"], np.sin(X) * T * 2)
    assert y["n"].tolist() == [1, 2, 3]
    close(by_a, np.full(3, 14.0))
    close(by_b, np.zeros(3))


@MODES
def test_rules_for_each_argument(mode: Any) -> None:
    @gx.custom_jvp
    def product(x: Any, y: Any) -> Any:
        return x * y

    product.defjvps(lambda t, result, x, y: 3 * t * y, None)
    found = mode(lambda x, y: gx.jvp(product, (x, y), (y, y)))(X, T)
    close(found[1], 3 * T * T)
    by_x, by_y = mode(gx.grad(lambda x, y: product(x, y).sum(), argnums=(0, 1)))(X, T)
    close(by_x, 3 * T)
    close(by_y, np.zeros(3))


@MODES
def test_a_rule_that_is_not_linear_serves_reverse_mode_only(mode: Any) -> None:
    @gx.custom_vjp
    def clipped(x: Any) -> Any:
        return x * 1

    clipped.defvjp(lambda x: (x * 1, None), lambda _, ct: (np.clip(ct, -1, 1),))
    close(mode(gx.grad(lambda x: (clipped(x) * T).sum()))(X), [1, -1, 0.5])
    with pytest.raises(NoDerivativeError, match="reverse mode only"):
        mode(lambda x: gx.jvp(clipped, (x,), (x,)))(X)


def test_dynamic_rules_may_look_at_values() -> None:
    @gx.custom_vjp
    def steps(x: Any) -> Any:
        return x * 2 if float(x.sum()) > 0 else x * 3

    steps.defvjp(lambda x: (steps(x), float(x.sum())), lambda total, ct: (ct * (2 if total > 0 else 3),))
    close(gx.grad(lambda x: steps(x).sum())(X), np.full(3, 3.0))
    w = gx.tensor([1.0], requires_grad=True)
    steps(w).sum().backward()
    close(w.grad, [2.0])


def test_values_of_dynamic_mode_without_a_tape_are_the_functions() -> None:
    assert isinstance(backward_rule(gx.tensor(X)), gx.Tensor)
    with gx.no_grad():
        assert not backward_rule(gx.tensor(X, requires_grad=True)).requires_grad
    assert backward_rule.__name__ == "backward_rule"


# -- errors --------------------------------------------------------------------------------------------------------------


@MODES
def test_what_is_wrong_is_said(mode: Any) -> None:
    bare, also_bare = gx.custom_vjp(lambda x: x), gx.custom_jvp(lambda x: x)
    for f in (bare, also_bare):
        with pytest.raises(StructureError, match="no rule yet"):
            mode(f)(X)
    with pytest.raises(StructureError, match="takes a function first"):
        gx.custom_vjp(3)
    with pytest.raises(StructureError, match="counted from 0"):
        gx.custom_vjp(np.sin, nondiff_argnums=(-1,))

    def made(fwd: Any, bwd: Any) -> Any:
        f = gx.custom_vjp(lambda x: x * 2)
        f.defvjp(fwd, bwd)
        return mode(gx.grad(lambda x: f(x).sum()))

    with pytest.raises(StructureError, match=r"pair \(result, residuals\)"):
        made(lambda x: x * 2, lambda _, ct: (ct,))(X)
    with pytest.raises(StructureError, match="2 cotangents for 1 arguments"):
        made(lambda x: (x * 2, None), lambda _, ct: (ct, ct))(X)
    with pytest.raises(StructureError, match="another structure"):
        made(lambda x: (x * 2, None), lambda _, ct: ((ct, ct),))(X)
    with pytest.raises(GradientError, match=r"shape and dtype[\s\S]*cotangent args\[0\]"):
        made(lambda x: (x * 2, None), lambda _, ct: (ct.sum(),))(X)
    one = gx.custom_jvp(lambda x: x * 2)
    one.defjvp(lambda p, t: t[0])
    with pytest.raises(StructureError, match="pair"):
        mode(lambda x: gx.jvp(one, (x,), (x,)))(X)


@MODES
def test_what_requires_gradients_is_passed_in(mode: Any) -> None:
    w = gx.tensor(T, requires_grad=True)
    f = gx.custom_vjp(lambda x: x * w)
    f.defvjp(lambda x: (x * w, None), lambda _, ct: (ct,))
    with pytest.raises(GradientError, match="pass the tensor as an argument"):
        mode(gx.grad(lambda x: f(x).sum()))(X)


def test_compiled_functions_with_rules_are_pure() -> None:
    state = gx.tensor(0.0)

    def count(x: Any) -> Any:
        state.assign(state + 1)
        return x * 2

    f = gx.custom_vjp(count)
    f.defvjp(lambda x: (x, None), lambda _, ct: (ct,))
    with pytest.raises(StateError, match="writes to a tensor from outside"):
        gx.compile(f)(X)
    table = gx.tensor(np.ones(100))
    g = gx.custom_vjp(lambda x: x * table)
    g.defvjp(lambda x: (x * table, None), lambda _, ct: (ct * table,))
    close(gx.compile(g)(np.ones(100)), np.ones(100))
    with pytest.raises(StateError, match="uses tensors"):
        gx.compile(gx.grad(lambda x: g(x).sum()))(np.ones(100))


@MODES
def test_stop_gradient(mode: Any) -> None:
    tree = mode(gx.stop_gradient)({"a": X, "n": np.arange(3), "k": 3})
    close(tree["a"], X)
    assert type(tree["a"]) is np.ndarray and tree["k"] == 3
    close(mode(gx.grad(lambda x: (x * gx.stop_gradient(x)).sum()))(X), X)
    close(mode(lambda x: gx.jvp(lambda x: x * gx.stop_gradient(x), (x,), (np.ones(3),))[1])(X), X)
