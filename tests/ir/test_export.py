"""Graphs as networkx graphs and as DOT text."""

from __future__ import annotations

from collections.abc import Callable

import graphs
import networkx
import pytest

from graphc.ir.export import to_dot, to_networkx
from graphc.ir.graph import Graph


@pytest.mark.parametrize("graph", [*graphs.named(), *(graphs.random_graph(s) for s in range(5))], ids=lambda g: g.name)
def test_networkx_has_every_node_and_use(graph: Graph) -> None:
    made = to_networkx(graph)
    assert networkx.is_directed_acyclic_graph(made)
    outputs = [n for n, d in made.nodes(data=True) if d["kind"] == "output"]
    assert len(outputs) == len(graph.outputs)
    inputs = [n for n, d in made.nodes(data=True) if d["op"] == "input"]
    assert len(inputs) == len(graph.inputs)
    inner = [n for n in graph.nodes if n.op.name != "input"]
    assert made.number_of_nodes() == len(inputs) + len(inner) + len(outputs)
    assert made.number_of_edges() == sum(len(n.operands) for n in inner) + len(outputs)


def test_networkx_attributes() -> None:
    made = to_networkx(graphs.dense())
    dot = made.nodes["%0"]
    assert (dot["op"], dot["kind"], dot["types"]) == ("dot", "contraction", ["f32[s0, 4]"])
    assert dot["attributes"]["lhs_contract"] == "[1]"
    assert dot["locations"] == ["model.py:12"]
    assert made.get_edge_data("%x", "%0") == {0: {"operand": 0, "result": 0, "type": "f32[s0, 3]"}}
    held = to_networkx(graphs.composite()).nodes["%1"]["held"]["body"]
    assert {d["op"] for _, d in held.nodes(data=True)} == {"input", "composite", "tanh", "output"}


@pytest.mark.parametrize("graph", graphs.named(), ids=lambda g: g.name)
def test_dot(graph: Graph, golden: Callable[[str], None]) -> None:
    text = to_dot(graph)
    assert text.count("{") == text.count("}")
    golden(text)
