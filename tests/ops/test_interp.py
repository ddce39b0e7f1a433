"""The reference evaluator: arguments, symbols, memory, depth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from graphc.dtypes import float32, float64, int64
from graphc.errors import DTypeError, GraphcError, InterpreterError, ShapeError
from graphc.interp import bind_symbols, evaluate, evaluate_all, specialize
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, constant, input_value, make
from graphc.ir.op import GraphBuilder, run_graph
from graphc.ir.types import TensorType

B = GraphBuilder()
N, M = symbol(0), symbol(1)
DOT = {"lhs_batch": (), "rhs_batch": (), "lhs_contract": (1,), "rhs_contract": (0,)}


def layer() -> Graph:
    """tanh(x @ w + b) with symbolic batch and width."""
    types = tuple(TensorType(float32, shape) for shape in ((N, M), (M, 3), (3,)))
    x, w, b = (input_value(k, t) for k, t in enumerate(types))
    y = B.tanh(B.add(B.dot(x, w, **DOT), B.broadcast(b, shape=(N, 3))))
    return Graph(types, (y,), "layer", ("x", "w", "b"))


def arrays(n: int = 4, m: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in ((n, m), (m, 3), (3,))]


@pytest.mark.parametrize(("n", "m"), [(4, 5), (1, 1), (0, 2), (3, 0)])
def test_symbolic_sizes(n: int, m: int) -> None:
    x, w, b = arrays(n, m)
    (y,) = evaluate(layer(), [x, w, b])
    assert y.dtype == np.float32 and np.allclose(y, np.tanh(x @ w + b), atol=1e-6)
    values = evaluate_all(layer(), [x, w, b])
    assert np.array_equal(values[layer().outputs[0]], y)
    assert len(values) == len(layer().nodes)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda a: a[:2], ShapeError, "takes 3 arguments, got 2"),
        (lambda a: [a[0].astype(np.float64), *a[1:]], DTypeError, r"argument x .* wrong dtype[\s\S]*f64\[4, 5\]"),
        (lambda a: [a[0][0], *a[1:]], ShapeError, "wrong rank"),
        (lambda a: [a[0], a[1][:2], a[2]], ShapeError, r"argument w .*s1 is 5[\s\S]*found: f32\[2, 3\]"),
        (lambda a: [a[0], a[1], a[2][:2]], ShapeError, "argument b .* wrong size"),
        (lambda a: [a[0], None, a[2]], DTypeError, "argument w must be f32"),
        (lambda a: [a[0], "text", a[2]], GraphcError, "not supported"),
    ],
)
def test_wrong_arguments(change: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        evaluate(layer(), change(arrays()))  # type: ignore[operator]


def test_sizes_that_are_expressions() -> None:
    types = (TensorType(float64, (N,)), TensorType(float64, (2 * N + 1,)))
    graph = Graph(types, tuple(input_value(k, t) for k, t in enumerate(types)))
    assert bind_symbols(graph, [np.zeros(3), np.zeros(7)]) == {0: 3}
    with pytest.raises(ShapeError, match="wrong size"):
        bind_symbols(graph, [np.zeros(3), np.zeros(6)])
    alone = Graph(types[1:], (input_value(0, types[1]),))
    with pytest.raises(InterpreterError, match=r"determines the size 2\*s0 \+ 1"):
        bind_symbols(alone, [np.zeros(7)])


def test_specialize_reaches_held_graphs() -> None:
    x = input_value(0, TensorType(float64, (N,)))
    body = Graph((x.type,), (B.add(B.pad(x, constant(0.0), low=(1,), high=(N,)), 1.0),), "body")
    graph = Graph((x.type,), make("fused", [x], body=body, schedule="loop").results)
    static = specialize(graph, {0: 3})
    assert static.inputs == (TensorType(float64, (3,)),)
    assert static.outputs[0].type == TensorType(float64, (7,))
    assert static.outputs[0].node.attrs["body"].inputs == static.inputs
    assert evaluate(graph, [np.zeros(3)])[0].tolist() == [1.0] * 7


def test_outputs_own_their_memory() -> None:
    x = input_value(0, TensorType(float64, (2, 3)))
    graph = Graph((x.type,), (x, x, B.reshape(x, shape=(6,)), B.transpose(x, perm=(1, 0)), constant(np.ones(3))))
    array = np.arange(6.0).reshape(2, 3)
    outputs = evaluate(graph, [array])
    for k, y in enumerate(outputs):
        assert y.flags.writeable and y.flags.c_contiguous and not np.shares_memory(y, array)
        assert all(not np.shares_memory(y, other) for other in outputs[:k])


def test_deep_graphs_and_dead_values() -> None:
    """A chain of 20,000 nodes: no recursion, and values are freed when dead."""
    x = input_value(0, TensorType(int64, ()))
    y = x
    for _ in range(20_000):
        y = B.add(y, x)
    assert evaluate(Graph((x.type,), (y,)), [np.array(2)])[0] == 2 * 20_001


def test_values_are_freed() -> None:
    """Sixty arrays of 8 MB are computed, a few at a time."""
    x = input_value(0, TensorType(float64, (1_000_000,)))
    y = x
    for _ in range(30):
        y = B.negative(B.absolute(y))
    tracemalloc.start()
    run_graph(Graph((x.type,), (y,)), [np.zeros(1_000_000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8_000_000
