"""Derivatives at the points that finite differences do not show: kinks, ties, zeros, masks, symbolic shapes."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from graphc.dtypes import bool_, float64
from graphc.errors import GradientError, NoDerivativeError
from graphc.forward import jvp_graph
from graphc.interp import evaluate, jvp, vjp
from graphc.ir import registry
from graphc.ir.dims import evaluate as evaluate_dim
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Literal, input_value, make
from graphc.ir.op import GraphBuilder, apply_graph, materialize
from graphc.ir.types import TensorType

Array = np.ndarray[Any, Any]
NAN, INF = np.nan, np.inf


def gradients(name: str, *operands: Any, ct: Any = 1.0, **attrs: Any) -> list[Any]:
    op = registry.get(name)
    arrays = [np.asarray(x) if np.asarray(x).dtype == np.bool_ else np.asarray(x, np.float64) for x in operands]
    results = op.evaluate(arrays, attrs)
    cotangent = np.broadcast_to(np.asarray(ct, np.float64), results[0].shape)
    found = vjp(op, arrays, results, [cotangent], attrs)
    return [None if c is None else c.tolist() for c in found]


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("maximum", ([1, 2, 2], [3, 0, 2]), [[0, 1, 0.5], [1, 0, 0.5]]),
        ("minimum", ([1, 2, 2], [3, 0, 2]), [[1, 0, 0.5], [0, 1, 0.5]]),
        ("absolute", ([0.0, -0.0, -2],), [[0, 0, -1]]),
        ("sqrt", ([0.0, 4.0],), [[INF, 0.25]]),
        ("sign", ([2.0, 0.0],), [None]),
        ("power", ([0.0, 0.0, 2.0], [0.0, 1.0, 0.0]), [[0, 1, 0], [0, 0, np.log(2)]]),
        ("power", ([-2.0], [3.0]), [[12.0], [NAN]]),
        ("hypot", ([0.0, 3.0], [0.0, 4.0]), [[0, 0.6], [0, 0.8]]),
        ("remainder", ([5.0, -5.0], [3.0, 3.0]), [[1, 1], [-1, 2]]),
        ("select", ([True, False], [1.0, 2.0], [3.0, 4.0]), [None, [1, 0], [0, 1]]),
    ],
)
def test_at_kinks(name: str, operands: Any, expected: Any) -> None:
    found = gradients(name, *operands)
    for f, e in zip(found, expected, strict=True):
        assert (f is None and e is None) or np.array_equal(np.array(f, float), np.array(e, float), equal_nan=True)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_the_side_not_taken_gets_exactly_zero(bad: float) -> None:
    """An infinite or NaN cotangent does not leak through a select, a maximum or a max."""
    assert gradients("select", [True, False], [1.0, 1.0], [2.0, 2.0], ct=[1.0, bad])[1] == [1.0, 0.0]
    assert gradients("maximum", [1.0, 5.0], [3.0, 3.0], ct=[bad, 1.0])[0] == [0.0, 1.0]
    assert gradients("max", [[1.0, 5.0], [2.0, 1.0]], ct=[bad, 1.0], axes=(1,))[0][0][0] == 0.0


def test_ties_share() -> None:
    assert gradients("max", [1.0, 3.0, 3.0, 2.0, 3.0], axes=(0,), ct=3.0) == [[0, 1, 1, 0, 1]]
    assert gradients("min", [[2.0, 2.0], [1.0, 5.0]], axes=(1,)) == [[[0.5, 0.5], [1, 0]]]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([2.0, 3.0, 4.0], [12, 8, 6]),
        ([2.0, 0.0, 4.0], [0, 8, 0]),
        ([0.0, 0.0, 4.0], [0, 0, 0]),
        ([0.0], [1]),
        ([], []),
    ],
)
def test_prod_with_zeros(x: Any, expected: Any) -> None:
    assert gradients("prod", x, axes=(0,)) == [expected]


def test_second_derivative_of_prod_at_zeros() -> None:
    """d2/dxi dxj of the product is the product of the rest, also where elements are zero."""
    x = np.array([2.0, 0.0, 4.0, 0.0])
    b = GraphBuilder()
    value = input_value(0, TensorType(float64, (4,)))
    node = make("prod", [value], axes=(0,))
    (first,) = node.op.differentiate(b, [value], node.results, [b.full((), 1.0, float64)], node.attrs)
    for i in range(4):
        outer = reverse(first, value, np.eye(4)[i])
        (row,) = evaluate(Graph((value.type,), (outer,)), [x])
        expected = [0.0 if i == j else float(np.prod([x[k] for k in range(4) if k not in (i, j)])) for j in range(4)]
        assert row.tolist() == expected


def reverse(output: Any, x: Any, ct: Array) -> Any:
    """A small reverse mode, to differentiate what a rule has built."""
    b = GraphBuilder()
    total: dict[Any, Any] = {output: make("constant", value=Literal(ct)).result}
    for node in reversed(Graph((x.type,), (output,)).nodes):
        cts = [total.get(v) for v in node.results]
        if node.op.name in ("input", "constant") or all(c is None for c in cts):
            continue
        for operand, c in zip(
            node.operands, node.op.differentiate(b, node.operands, node.results, cts, node.attrs), strict=True
        ):
            value = materialize(b, c)
            if value is not None:
                total[operand] = value if operand not in total else b.add(total[operand], value)
    return total[x]


# -- forward mode ---------------------------------------------------------------------------------------------------------


def tangent(name: str, *operands: Any, tangents: Any, **attrs: Any) -> Any:
    op = registry.get(name)
    arrays = [np.asarray(x) if np.asarray(x).dtype == np.bool_ else np.asarray(x, np.float64) for x in operands]
    given = [None if t is None else np.asarray(t, np.float64) for t in tangents]
    (found,) = jvp(op, arrays, op.evaluate(arrays, attrs), given, attrs)
    return None if found is None else found.tolist()


@pytest.mark.parametrize("bad", [NAN, INF])
def test_the_tangent_of_the_side_not_taken_is_not_seen(bad: float) -> None:
    assert tangent("select", [True, False], [1.0, 1.0], [2.0, 2.0], tangents=[None, [1, bad], [bad, 2]]) == [1, 2]
    assert tangent("select", [True, False], [1.0, 1.0], [2.0, 2.0], tangents=[None, [1, bad], None]) == [1, 0]
    assert tangent("maximum", [1.0, 5.0], [3.0, 3.0], tangents=[[bad, 1], [1, bad]]) == [1, 1]
    assert tangent("max", [[1.0, 5.0], [2.0, 1.0]], tangents=[[[bad, 1], [2, bad]]], axes=(1,)) == [1, 2]


def test_tangents_at_ties_are_means() -> None:
    assert tangent("max", [1.0, 3.0, 3.0], tangents=[[5, 1, 2]], axes=(0,)) == 1.5
    assert tangent("maximum", [1.0], [1.0], tangents=[[2], [4]]) == [3]


def test_masks_travel_forward() -> None:
    """sqrt(where(c, x, 0)) has slope 0 where c does not hold, in either mode, though 0 * inf is NaN."""
    b = GraphBuilder()
    c, x = input_value(0, TensorType(bool_, (2,))), input_value(1, TensorType(float64, (2,)))
    y = b.log(b.multiply(b.sqrt(b.select(c, x, 0.0)), 2.0))
    graph, _ = jvp_graph(Graph((c.type, x.type), (y,)))
    _, found = evaluate(graph, [np.array([True, False]), np.array([4.0, 4.0]), np.array([8.0, NAN])])
    assert found.tolist() == [1, 0]


def test_which_outputs_have_tangents() -> None:
    b = GraphBuilder()
    x, y = input_value(0, TensorType(float64, (2,))), input_value(1, TensorType(float64, (2,)))
    graph = Graph((x.type, y.type), (b.sin(x), b.cos(y), b.floor(x), b.greater(x, y)), "f", ("x", "y"))
    linear, flags = jvp_graph(graph, [True, False])
    assert flags == (True, False, False, False)
    assert linear.names == ("x", "y", "tangent0") and len(linear.outputs) == 5
    linear, flags = jvp_graph(graph, [False, True], [True, True, False, False])
    assert flags == (True, True, False, False)
    arrays = np.array([0.1, 0.2]), np.array([0.3, 0.4])
    *_, first, second = evaluate(linear, (*arrays, np.array([1.0, 2.0])))
    assert first.tolist() == [0, 0]
    assert np.allclose(second, -np.sin(arrays[1]) * [1, 2], rtol=1e-15)
    with pytest.raises(GradientError, match="only floating-point inputs"):
        jvp_graph(Graph((c_type := TensorType(bool_, ()),), (input_value(0, c_type),)), [True])


def test_a_rule_that_is_not_linear_cannot_be_transposed() -> None:
    op = registry.get("sort")
    crooked = dataclasses.replace(op, vjp=lambda b, xs, ys, cts, axis: [b.square(cts[0])])
    x = np.array([1.0, 2.0])
    with pytest.raises(NoDerivativeError, match="reverse mode only"):
        jvp(crooked, [x], crooked.evaluate([x], {"axis": 0}), [x], {"axis": 0})


# -- symbolic shapes --------------------------------------------------------------------------------------------------

N, M = symbol(0), symbol(1)


def _dot(lhs: tuple[int, ...], rhs: tuple[int, ...]) -> dict[str, Any]:
    return {"lhs_batch": (), "rhs_batch": (), "lhs_contract": lhs, "rhs_contract": rhs}


SYMBOLIC: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("add", [(N, M), (N, M)], {}),
    ("reshape", [(N, M)], {"shape": (N * M,)}),
    ("transpose", [(N, 2, M)], {"perm": (2, 0, 1)}),
    ("broadcast", [(N, 1)], {"shape": (M, N, 4)}),
    ("slice", [(N, M)], {"start": (1, M - 1), "size": (N - 1, M), "step": (1, -1)}),
    ("slice", [(N,)], {"start": (0,), "size": ((N + 2) // 3,), "step": (3,)}),
    ("slice", [(N,)], {"start": (N - 1,), "size": ((N + 1) // 2,), "step": (-2,)}),
    ("pad", [(N, M), ()], {"low": (1, M), "high": (0, 2)}),
    ("concatenate", [(N, M), (2, M), (N, M)], {"axis": 0}),
    ("sum", [(N, M, 3)], {"axes": (0, 2)}),
    ("prod", [(N, M)], {"axes": (1,)}),
    ("max", [(N, M)], {"axes": (0,)}),
    ("dot", [(N, M), (M, 3)], _dot((1,), (0,))),
    ("dot", [(N, M), (3, M, N)], _dot((0, 1), (2, 1))),
]


@pytest.mark.parametrize(
    ("name", "shapes", "attrs"), SYMBOLIC, ids=[f"{n}-{k}" for k, (n, _, _) in enumerate(SYMBOLIC)]
)
def test_symbolic_shapes(name: str, shapes: list[Any], attrs: dict[str, Any]) -> None:
    """A symbolic node and its derivative give, at several sizes, what static ones give."""
    b = GraphBuilder()
    first = TensorType(float64, (N, M))  # binds both symbols
    operands = [input_value(k + 1, TensorType(float64, s)) for k, s in enumerate(shapes)]
    node = make(name, operands, **attrs)
    cotangents = [
        materialize(b, c)
        for c in node.op.differentiate(b, operands, node.results, [b.like(node.result, 1.0)], node.attrs)
    ]
    for operand, ct in zip(operands, cotangents, strict=True):
        assert ct.type == operand.type
    types = (first, *(v.type for v in operands))
    linear, _ = jvp_graph(Graph(types, (node.result,)), [False] + [True] * len(operands))
    ones = [b.like(v, 1.0) for v in operands]
    (tangent,) = apply_graph(b, Graph((), linear.outputs[1:]), [None, *operands, *ones])
    graph = Graph(types, (node.result, *cotangents, tangent))
    rng = np.random.default_rng(0)
    for n, m in itertools.product((1, 2, 7), (1, 3, 4)):
        arrays = [rng.normal(size=tuple(_size(d, n, m) for d in shape)) for shape in ((N, M), *shapes)]
        found = evaluate(graph, arrays)
        static = evaluate(_static(name, arrays[1:], {k: _sizes(a, n, m) for k, a in attrs.items()}), arrays[1:])
        for f, s in zip(found, static, strict=True):
            assert f.shape == s.shape
            assert np.allclose(f, s, rtol=1e-12, atol=1e-12)


def _static(name: str, arrays: list[Array], attrs: dict[str, Any]) -> Graph:
    b = GraphBuilder()
    operands = [input_value(k, TensorType(float64, x.shape)) for k, x in enumerate(arrays)]
    node = make(name, operands, **attrs)
    cts = node.op.differentiate(b, operands, node.results, [b.like(node.result, 1.0)], node.attrs)
    types = tuple(v.type for v in operands)
    linear, _ = jvp_graph(Graph(types, (node.result,)))
    (tangent,) = apply_graph(b, Graph((), linear.outputs[1:]), [*operands, *(b.like(v, 1.0) for v in operands)])
    return Graph(types, (node.result, *(materialize(b, c) for c in cts), tangent))


def _size(dim: Any, n: int, m: int) -> int:
    return evaluate_dim(dim, {0: n, 1: m})


def _sizes(attribute: Any, n: int, m: int) -> Any:
    return tuple(_size(d, n, m) for d in attribute) if isinstance(attribute, tuple) else attribute
