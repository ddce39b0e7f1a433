"""Dead-code elimination. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from graphc.ir.graph import Graph, Node, Value, input_value, make, rebuild
from graphc.ir.op import Composite, Control, Fused
from graphc.passes.base import Journal, Rewriter, map_held

__all__ = ["DeadCode"]


@dataclass(frozen=True)
class DeadCode(Rewriter):
    """Drops what no output needs.

    A graph's nodes are those that its outputs reach, so unused nodes are gone already; what this pass finds are the unused
    results of fused kernels and composites, and their operands that no remaining result needs. The interface stays: unused
    inputs of the graph are kept. Effects stay too, as their tokens are outputs.
    """

    name: ClassVar[str] = "dead-code"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        while True:
            pruned = _prune(graph, journal)
            if pruned.same_as(graph):
                return pruned
            graph = pruned


def _prune(graph: Graph, journal: Journal) -> Graph:
    used = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if isinstance(node.op, (Fused, Composite)) and node.op.transparent:
            wanted = [i for i, v in enumerate(node.results) if v in used]
            return _narrowed(node, operands, wanted, journal)
        if isinstance(node.op, Control):
            return make(node.op, operands, **map_held(node, lambda held: DeadCode().apply(held, journal))).results
        return node.results if operands == node.operands else make(node.op, operands, **node.attrs).results

    return rebuild(graph, visit)


def _narrowed(node: Node, operands: tuple[Value, ...], wanted: Sequence[int], journal: Journal) -> Sequence[Value]:
    """The node with the wanted results and the operands that these need. Results that are not wanted have no users; the
    first wanted one stands in their places."""
    body = DeadCode().apply(node.attrs["body"], journal)
    kept = Graph(body.inputs, tuple(body.outputs[i] for i in wanted), body.name, body.names, body.locations)
    needed = sorted({n.attrs["index"] for n in kept.nodes if n.op.name == "input"})
    dropped = len(node.results) - len(wanted), len(operands) - len(needed)
    if any(dropped) and journal.permit(f"narrow {node.op.name}"):
        body = _renumbered(kept, needed)
        operands = tuple(operands[i] for i in needed)
        results = make(node.op, operands, **{**node.attrs, "body": body}).results
        position = {i: k for k, i in enumerate(wanted)}
        return tuple(results[position.get(i, 0)] for i in range(len(node.results)))
    return make(node.op, operands, **{**node.attrs, "body": body}).results


def _renumbered(body: Graph, needed: Collection[int]) -> Graph:
    """The body with only the inputs `needed`, renumbered."""
    types = tuple(body.inputs[i] for i in needed)
    names = tuple(body.names[i] for i in needed) if body.names else ()
    values = dict(zip(needed, (input_value(k, t) for k, t in enumerate(types)), strict=True))
    substitutes = [values.get(i, v) for i, v in enumerate(body.input_values())]
    rebuilt = rebuild(
        body, lambda node, inner: make(node.op, inner, **node.attrs).results, inputs=types, input_values=substitutes
    )
    return replace(rebuilt, names=names)
