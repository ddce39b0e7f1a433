"""The verifier: one golden fault for each invariant that its docstring lists, built with the unchecked constructor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import graphs
import numpy as np
import pytest

from graphc.dtypes import float32, float64, int32
from graphc.errors import VerifyError
from graphc.ir import dims
from graphc.ir import verify as verifier
from graphc.ir.dims import Expr
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value, make
from graphc.ir.parser import parse
from graphc.ir.printer import to_text
from graphc.ir.registry import get
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ir.verify import faults, verify

T = graphs.tensor((2,))
X, Y = graphs.inputs(T, T)


def node(name: str, operands: tuple[Value, ...], *types: Type, **attrs: Attribute) -> Node:
    return Node.unchecked(get(name), operands, attrs, types)


def graph_of(*outputs: Value, inputs: tuple[Type, ...] = (T, T), names: tuple[str, ...] = ("x", "y")) -> Graph:
    return Graph(inputs, outputs, "wrong", names)


def cyclic() -> Graph:
    return parse(
        """graph "wrong"(%x: f32[2]) -> (f32[2]) {
          %0: f32[2] = add(%x, %1)
          %1: f32[2] = tanh(%0)
          return %1
        }""",
        check=False,
    )


def unregistered() -> Graph:
    other = replace(get("tanh"), doc="another op of the same name")
    return graph_of(Node.unchecked(other, (X,), {}, (T,)).result)


def attributes() -> Graph:
    missing = node("transpose", (X,), T).result
    illegal = node("transpose", (X,), T, perm=[0], extra=1).result
    return graph_of(missing, illegal)


def not_inferable() -> Graph:
    y = graphs.inputs(T, graphs.tensor((3,)))[1]
    sizes = node("add", (X, y), T).result
    kind = node("transpose", (sizes,), T, perm=1.5).result
    return graph_of(kind, inputs=(T, graphs.tensor((3,))))


def wrong_type() -> Graph:
    return graph_of(node("tanh", (X,), TensorType(float64, (2,))).result, node("tanh", (Y,), T, T).results[1])


def wrong_input() -> Graph:
    missing = node("input", (), T, index=2, type=T).result
    other = TensorType(int32, (2,))
    retyped = node("input", (), other, index=0, type=other).result
    return graph_of(missing, retyped)


def duplicates() -> Graph:
    one, two = node("tanh", (X,), T).result, node("tanh", (X,), T).result
    return graph_of(node("add", (one, two), T).result, node("sin", (one,), T).result, node("sin", (two,), T).result)


def foreign_values() -> Graph:
    tanh = make("tanh", (X,))
    third = Value(tanh, 2, T)
    twin = Value(tanh, 0, T)
    return graph_of(node("add", (third, X), T).result, twin)


def held() -> Graph:
    z = graphs.inputs(graphs.tensor((3,)))[0]
    body = Graph((T,), (node("tanh", (z,), graphs.tensor((3,))).result,), "body")
    return graph_of(node("composite", (X,), graphs.tensor((3,)), body=body, label="bad").result)


def unbound() -> Graph:
    return graph_of(make("iota", (), shape=(graphs.N, 2), axis=0, dtype=float32).result)


def tokens() -> Graph:
    token = make("create_token").result
    one = make("debug_print", (token, X), template="x").result
    two = make("debug_print", (token, Y), template="y").result
    return graph_of(one, two, two)


def dimensions() -> Graph:
    constant = Expr((((), 3),))
    odd = TensorType(float32, (-2, constant))
    return graph_of(node("iota", (), odd, shape=(-2, constant), axis=0, dtype=float32).result)


def literals() -> Graph:
    changed, thawed = Literal(np.zeros(2)), Literal(np.zeros(3))
    changed.array = Literal(np.ones(2)).array
    thawed.array = np.zeros(3)
    types = TensorType(float64, (2,)), TensorType(float64, (3,))
    return graph_of(*(node("constant", (), t, value=v).result for t, v in zip(types, (changed, thawed), strict=True)))


def names() -> Graph:
    return graph_of(X, names=("x",))


def effect_without_token() -> Graph:
    token = make("create_token").result
    return graph_of(node("debug_print", (token, X), T, template="x").result)


FAULTS: dict[str, Callable[[], Graph]] = {
    "I1": cyclic,
    "I2": unregistered,
    "I3": attributes,
    "I4": not_inferable,
    "I5": wrong_type,
    "I6": wrong_input,
    "I7": duplicates,
    "I8": foreign_values,
    "I9": held,
    "I10": unbound,
    "I11": tokens,
    "I12": dimensions,
    "I13": literals,
    "I14": names,
    "I15": effect_without_token,
}


def test_every_listed_invariant_has_a_fault() -> None:
    listed = re.findall(r"^(I\d+)\. ", verifier.__doc__ or "", re.MULTILINE)
    assert listed == [f"I{i + 1}" for i in range(len(listed))]
    assert listed == list(FAULTS)


@pytest.mark.parametrize("invariant", FAULTS)
def test_fault(invariant: str, golden: Callable[[str], None]) -> None:
    graph = FAULTS[invariant]()
    assert invariant in {f.invariant for f in faults(graph)}
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    golden(f"{caught.value}")


@pytest.mark.parametrize("graph", graphs.named(), ids=lambda g: g.name)
def test_right_graphs_have_no_fault(graph: Graph) -> None:
    verify(graph)
    # Built again without any check they are still right: nothing depends on the interning table.
    verify(parse(to_text(graph), check=False))


@pytest.mark.parametrize("seed", range(20))
def test_right_random_graphs_have_no_fault(seed: int) -> None:
    verify(graphs.random_graph(seed))


def test_all_faults_are_reported_at_once() -> None:
    one = node("tanh", (X,), TensorType(float64, (2,))).result
    two = node("sin", (Y,), TensorType(float64, (2,))).result
    graph = graph_of(one, two, names=("x",))
    assert sorted(f.invariant for f in faults(graph)) == ["I14", "I5", "I5"]
    with pytest.raises(VerifyError, match="3 faults"):
        verify(graph)


def test_a_body_may_use_the_symbols_of_its_graph() -> None:
    scalar = graphs.tensor(())
    (s,) = graphs.inputs(scalar)
    body = Graph((scalar,), (graphs.B.broadcast(s, shape=(graphs.N,)),), "body")
    outer = graphs.inputs(scalar, graphs.tensor((graphs.N,)))
    verify(Graph((scalar, outer[1].type), make("composite", outer[:1], body=body, label="spread").results))
    assert [f.invariant for f in faults(body)] == ["I10"]


def test_one_use_of_a_token_is_right() -> None:
    token = make("debug_print", (make("create_token").result, X), template="x").result
    verify(graph_of(token))
    assert token.type == TOKEN


def test_symbolic_shapes_verify() -> None:
    t = graphs.tensor((graphs.N, dims.pos(graphs.N - 1)))
    (x,) = graphs.inputs(t)
    verify(Graph((t,), (graphs.B.tanh(x),)))
