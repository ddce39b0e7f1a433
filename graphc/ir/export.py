"""Graphs for other tools: networkx and Graphviz's DOT. Layer 1.

Both name nodes as the printer does (`%x`, `%3`), so that a picture and a text can be read side by side. Unused inputs
are there too, and each output is a node of its own, because a value may be returned twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.printer import attribute_text, held_graphs, value_names
from graphc.lazy import networkx

__all__ = ["to_dot", "to_networkx"]

_COLOURS = {
    "special": "white",
    "elementwise": "lightblue",
    "movement": "lightgrey",
    "reduction": "lightyellow",
    "contraction": "lightsalmon",
    "indexing": "plum",
    "random": "thistle",
    "control": "lightgreen",
    "host": "lightgreen",
    "fused": "gold",
    "composite": "khaki",
}


def to_networkx(graph: Graph) -> Any:
    """A `networkx.MultiDiGraph`: one node per graph node and per output, one edge per use.

    Nodes have `op`, `kind`, `types` (text), `attributes` (name to text), `locations` and `held` (name to the MultiDiGraph of
    a held graph); edges have `operand` (position at the user), `result` (position at the producer) and `type`.
    """
    made = networkx().MultiDiGraph(name=graph.name)
    names = _node_names(graph)
    for node, name in names.items():
        made.add_node(
            name,
            op=node.op.name,
            kind=node.op.kind,
            types=[str(t) for t in node.types],
            attributes={k: attribute_text(v) for k, v in node.attrs.items()},
            locations=[str(w) for w in graph.locations.get(node, ())],
            held={k: to_networkx(held) for k, held in held_graphs(node)},
        )
    for i, value in enumerate(graph.outputs):
        made.add_node(
            f"output {i}", op="output", kind="output", types=[str(value.type)], attributes={}, locations=[], held={}
        )
    for use in _uses(graph, names):
        made.add_edge(use.source, use.target, operand=use.operand, result=use.value.index, type=str(use.value.type))
    return made


def to_dot(graph: Graph) -> str:
    """The graph in Graphviz's DOT language; held graphs are clusters inside their node's box."""
    lines = [f"digraph {_quote(graph.name)} {{", '  node [shape=box, style=filled, fontname="monospace"];']
    lines += _dot_body(graph, "", "  ")
    return "\n".join([*lines, "}"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Use:
    source: str
    target: str
    operand: int
    value: Value


def _node_names(graph: Graph) -> dict[Node, str]:
    """Names by node: inputs first, unused ones included; of several results the common part (`%3` of `%3.0`)."""
    nodes = list(dict.fromkeys([*(v.node for v in graph.input_values()), *graph.nodes]))
    values = value_names(graph, nodes)
    return {
        node: values[v].partition(".")[0] if len(node.results) > 1 else values[v]
        for node in nodes
        for v in node.results[:1]
    }


def _uses(graph: Graph, names: Mapping[Node, str]) -> Iterator[_Use]:
    for node, name in names.items():
        for i, value in enumerate(node.operands):
            yield _Use(names[value.node], name, i, value)
    for i, value in enumerate(graph.outputs):
        yield _Use(names[value.node], f"output {i}", 0, value)


def _dot_body(graph: Graph, prefix: str, indent: str) -> list[str]:
    """Statements of a graph; recursion is over held graphs, not over nodes."""
    names = _node_names(graph)
    lines: list[str] = []
    for node, name in names.items():
        colour = _COLOURS.get(node.op.kind, "white")
        lines.append(
            f"{indent}{_quote(prefix + name)} [label={_quote(_label(graph, node, name))}, fillcolor={colour}];"
        )
        for attribute, held in held_graphs(node):
            inner = f"{prefix}{name}.{attribute}."
            lines.append(f"{indent}subgraph {_quote('cluster ' + inner)} {{")
            lines.append(f"{indent}  label={_quote(f'{attribute} of {name}')};")
            lines += _dot_body(held, inner, indent + "  ")
            lines.append(f"{indent}}}")
    for i in range(len(graph.outputs)):
        lines.append(
            f"{indent}{_quote(f'{prefix}output {i}')} [shape=ellipse, fillcolor=white, label={_quote(f'output {i}')}];"
        )
    for use in _uses(graph, names):
        ends = f"{_quote(prefix + use.source)} -> {_quote(prefix + use.target)}"
        lines.append(f"{indent}{ends} [label={_quote(str(use.value.type))}];")
    return lines


def _label(graph: Graph, node: Node, name: str) -> str:
    attrs = {} if node in {v.node for v in graph.input_values()} else node.attrs
    held = {k.partition(".")[0] for k, _ in held_graphs(node)}
    shown = [f"{k} = {attribute_text(v)}" for k, v in attrs.items() if k not in held]
    places = dict.fromkeys(str(w) for w in graph.locations.get(node, ()))
    return "\n".join([f"{name} = {node.op.name}", *shown, *places])


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
