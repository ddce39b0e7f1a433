"""Control, effects, indexing errors and held graphs: what the registry's matrix does not show."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from samples import samples

from graphc.dtypes import bool_, float64, int32, int64
from graphc.errors import BoundsError, DTypeError, GraphcError, HostCallError, ShapeError
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.graph import Graph, constant, input_value, make
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TOKEN, TensorType
from graphc.ir.verify import verify
from graphc.ops.indexing import position, scatter_add, take
from graphc.ops.numpy_scalar import NumpyScalar
from graphc.passes.dead_code import DeadCode

X = TensorType(float64, (3,))
B = GraphBuilder()


def test_only_the_taken_branch_runs() -> None:
    """The other branch would raise."""
    x = input_value(0, X)
    bad = Graph((X,), (B.take(x, constant(np.array(9)), axis=0, mode="raise"),), "bad")
    good = Graph((X,), (B.sum(x, axes=(0,)),), "good")
    for value, then, else_ in ((True, good, bad), (False, bad, good)):
        predicate = constant(np.array(value))
        graph = Graph((X,), make("cond", [predicate, x], then=then, else_=else_).results)
        assert evaluate(graph, [np.array([1.0, 2.0, 3.0])])[0] == 6
        with pytest.raises(BoundsError, match="index 9 is out of bounds for axis 0 with size 3"):
            evaluate(Graph((X,), make("cond", [predicate, x], then=else_, else_=then).results), [np.ones(3)])


def test_branches_must_agree() -> None:
    x = input_value(0, X)
    one, two = Graph((X,), (x,), "one"), Graph((X,), (x, x), "two")
    predicate = input_value(1, TensorType(bool_, ()))
    with pytest.raises(ShapeError, match="branches give"):
        make("cond", [predicate, x], then=one, else_=two)
    with pytest.raises(ShapeError, match="predicate"):
        make("cond", [x, x], then=one, else_=one)
    with pytest.raises(ShapeError, match="`then` takes"):
        make("cond", [predicate], then=one, else_=one)
    with pytest.raises(ShapeError, match="must keep the types of the carries"):
        make("while_loop", [x], cond=Graph((X,), (constant(True),)), body=two)
    with pytest.raises(ShapeError, match=r"must give one bool\[\]"):
        make("while_loop", [x], cond=one, body=one)


def test_scans_must_agree() -> None:
    row, carry = input_value(0, TensorType(float64, (4, 3))), input_value(1, X)
    x, y = input_value(0, X), input_value(1, X)
    body = Graph((X, X), (B.add(x, y), x), "body")
    attrs = {"body": body, "carries": 1, "stacked": 1, "length": 4, "reverse": False}
    assert make("scan", [carry, row], **attrs).types == (X, TensorType(float64, (4, 3)))
    for changed, match in (
        ({"length": 5}, "must have the length 5"),
        ({"carries": 2, "stacked": 0}, "`body` takes"),
        ({"carries": 2, "stacked": 1}, "has no 2 carries and 1 sequences"),
        ({"body": Graph((X, X), (B.sum(x, axes=(0,)),))}, "must keep the types of the carries"),
        ({"body": Graph((X, X), ())}, "must keep the types of the carries"),
    ):
        with pytest.raises(ShapeError, match=match):
            make("scan", [carry, row], **{**attrs, **changed})
    with pytest.raises(ShapeError, match="must have the length 4"):
        make("scan", [carry, carry], **attrs)


def test_nested_loops() -> None:
    """Sum of i*j for i, j < n by two loops."""
    integer = TensorType(int64, ())
    types = (integer,) * 4  # inner: j, total, and the constants i, n; outer: i, total, and the constants j, n
    first, total, other, n = (input_value(k, integer) for k in range(4))
    going = Graph(types, (B.less(first, n),))
    inner = Graph(types, (B.add(first, 1), B.add(total, B.multiply(other, first))), "inner")
    loop = make("while_loop", [other, total, first, n], cond=going, body=inner)
    outer = Graph(types, (B.add(first, 1), loop.results[1]), "outer")
    node = make("while_loop", [first, total, other, n], cond=going, body=outer)
    zero = np.array(0, np.int64)
    found = evaluate(Graph(types, node.results), [zero, zero, zero, np.array(5, np.int64)])
    assert found[1] == sum(a * b for a in range(5) for b in range(5)) and found[2] == 5


def test_effects_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    x = input_value(0, X)
    token = make("create_token").result
    token = make("debug_print", [token, x], template="x = {}").result
    token, doubled = make("host_call", [token, x], function="numpy:positive", types=(X,)).results
    token = make("debug_print", [token, B.negative(doubled)], template="then {}").result
    outputs = evaluate(Graph((X,), (token, doubled)), [np.array([1.0, 2.0, 3.0])])
    assert outputs[0] is None and outputs[1].tolist() == [1, 2, 3]
    assert capsys.readouterr().out == "x = [1. 2. 3.]\nthen [-1. -2. -3.]\n"


def test_effects_are_declared() -> None:
    assert make("debug_print", [make("create_token").result, input_value(0, X)], template="").op.effect
    assert take.fallible and scatter_add.fallible


@pytest.mark.parametrize(
    ("function", "types", "match"),
    [
        ("numpy:no_such_thing", (X,), "cannot find"),
        ("no_such_module:f", (X,), "cannot find"),
        ("numpy:negative", (X, X), "gave 1 results, declared are 2"),
        ("numpy:negative", (TensorType(float64, (4,)),), r"gave float64\[3\], declared is float64\[4\]"),
    ],
)
def test_host_call_errors(function: str, types: tuple[TensorType, ...], match: str) -> None:
    node = make("host_call", [make("create_token").result, input_value(0, X)], function=function, types=types)
    with pytest.raises(HostCallError, match=match):
        evaluate(Graph((X,), node.results), [np.ones(3)])


def test_tokens_are_asked_for() -> None:
    with pytest.raises(ShapeError, match="token"):
        make("debug_print", [input_value(0, X), input_value(0, X)], template="")
    with pytest.raises(DTypeError, match="not tokens"):
        B.negative(input_value(0, TOKEN))


@pytest.mark.parametrize("index", [3, -4, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_index_out_of_bounds(index: int, dtype: type) -> None:
    x = np.arange(6.0).reshape(2, 3)
    indices = np.array([[0, 2], [index, -3]], dtype)
    with pytest.raises(BoundsError, match=rf"take: index {index} is out of bounds for axis 1 with size 3"):
        take.evaluate([x, indices], {"axis": 1, "mode": "raise"})
    with pytest.raises(IndexError, match="scatter_add: index"):
        scatter_add.evaluate([x, indices, np.ones((2, 2, 2))], {"axis": 1, "mode": "raise"})
    for mode in ("wrap", "clip"):
        (y,) = take.evaluate([x, indices], {"axis": 1, "mode": mode})
        assert np.array_equal(y, np.take(x, indices, axis=1, mode=mode))  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_empty_axis(mode: str) -> None:
    x = np.zeros((0, 2))
    with pytest.raises(BoundsError, match="size 0"):
        take.evaluate([x, np.array([0])], {"axis": 0, "mode": mode})
    (y,) = take.evaluate([x, np.zeros((0,), np.int64)], {"axis": 0, "mode": mode})
    assert y.shape == (0, 2)


def test_scatter_add_adds_repeated_indices_in_order() -> None:
    """float32: 1e8 first swallows the ones that come after it, but not those before."""
    x = np.zeros(1, np.float32)
    updates = np.array([1, 1, 1e8, 1, 1], np.float32)
    (y,) = scatter_add.evaluate([x, np.zeros(5, np.int64), updates], {"axis": 0, "mode": "raise"})
    expected = np.float32(0)
    for u in updates:
        expected = np.float32(expected + u)
    assert y[0] == expected and x[0] == 0


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
@pytest.mark.parametrize("size", [1, 5])
def test_lowered_position(mode: str, size: int) -> None:
    index = np.arange(-12, 13)
    found, legal = position(NumpyScalar(), index, np.asarray(size), mode)
    assert ((found >= 0) & (found < size)).all()
    inside = (index >= -size) & (index < size)
    if mode == "raise":
        assert legal is not None and np.array_equal(legal, inside)
    else:
        assert legal is None
        inside = np.ones_like(inside)
    expected = np.take(np.arange(size), index[inside], mode=mode)  # type: ignore[call-overload]
    assert np.array_equal(found[inside], expected)


def test_indexing_types() -> None:
    x, floats = input_value(0, X), input_value(1, X)
    with pytest.raises(DTypeError, match="indices must be integers"):
        make("take", [x, floats], axis=0, mode="raise")
    i = input_value(1, TensorType(int32, (2,)))
    with pytest.raises(ShapeError, match="mode must be one of"):
        make("take", [x, i], axis=0, mode="fill")
    with pytest.raises(ShapeError, match="axis 1"):
        make("take", [x, i], axis=1, mode="raise")
    with pytest.raises(ShapeError, match=r"updates must be f64\[2\]"):
        make("scatter_add", [x, i, x], axis=0, mode="raise")


def test_held_graphs_check_their_operands() -> None:
    x = input_value(0, X)
    body = Graph((X,), (B.exp(x),), "body")
    assert make("fused", [x], body=body, schedule="loop").types == (X,)
    other = input_value(0, TensorType(float64, (4,)))
    for name, label in (("fused", {"schedule": "loop"}), ("composite", {"label": "f"})):
        with pytest.raises(GraphcError, match="body's inputs"):
            make(name, [other], body=body, **label)


@pytest.mark.parametrize("name", ["cond", "while_loop", "scan"])
def test_without_what_nobody_needs(name: str) -> None:
    """Any choice of results has the same values when dead code is gone."""
    op = registry.get(name)
    for sample in samples(op):
        values = [input_value(i, t) for i, t in enumerate(sample.types)]
        results = make(op, values, **sample.attrs).results
        for wanted in itertools.product((False, True), repeat=len(results)):
            graph = Graph(sample.types, tuple(v for v, want in zip(results, wanted, strict=True) if want))
            pruned = DeadCode().run(graph)
            verify(pruned)
            for x, y in zip(evaluate(pruned, sample.operands), evaluate(graph, sample.operands), strict=True):
                assert np.array_equal(x, y, equal_nan=True)
