"""Inlining of composites and of ops that are defined by others. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph, Node, Value, make, rebuild
from graphc.ir.op import Composite, Control, Expansion, GraphBuilder
from graphc.passes.base import Journal, Rewriter, map_held
from graphc.passes.widen import narrowed, widened

__all__ = ["InlineComposites", "without_composites"]


@dataclass(frozen=True)
class InlineComposites(Rewriter):
    """`composite(x, y; body) --> body(x, y)`, except for the labels in `keep`; composites inside composites too.

    Expansions likewise: `convolution(x, w) --> dot(windows(pad(x)), w)`, as the op says; those of narrow dtypes in wider ones,
    so that 16-bit floats are rounded at the end only.
    The nodes of a body get the locations of the composite: the user's line, not the library's.
    """

    name: ClassVar[str] = "inline-composites"
    keep: tuple[str, ...] = ()

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
            attrs = node.attrs
            if isinstance(node.op, (Control, Composite)):
                attrs = map_held(node, lambda held: self.apply(held, journal))
            inlined = isinstance(node.op, Composite) and attrs["label"] not in self.keep
            if inlined and journal.permit(f"inline {attrs['label']}"):
                return _inlined(attrs["body"], operands)
            if isinstance(node.op, Expansion) and journal.permit(f"expand {node.op.name}"):
                expanded = node.op.expand(GraphBuilder(), *widened(node, operands), **attrs)
                results = expanded if isinstance(expanded, tuple) else (expanded,)
                return narrowed(node, results)
            return make(node.op, operands, **attrs).results

        return rebuild(graph, visit)


def without_composites(graph: Graph) -> Graph:
    """The graph with every composite of its own replaced by its body, and nothing else: for passes whose rules are those of
    the ops that composites are made of. Those with a rule of their own stay."""

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if isinstance(node.op, Composite) and node.op.transparent:
            return _inlined(without_composites(node.attrs["body"]), operands)
        return make(node.op, operands, **node.attrs).results

    return rebuild(graph, visit) if any(isinstance(n.op, Composite) for n in graph.nodes) else graph


def _inlined(body: Graph, operands: tuple[Value, ...]) -> tuple[Value, ...]:
    """The body's outputs as values over `operands`."""
    return rebuild(body, lambda node, inner: make(node.op, inner, **node.attrs).results, input_values=operands).outputs
