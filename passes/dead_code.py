"""Dead-code elimination. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from graphc.ir.graph import Attribute, Graph, Node, Value, input_value, make, rebuild
from graphc.ir.op import Composite, Control, Fused
from graphc.passes.base import Journal, Rewriter, map_held

__all__ = ["DeadCode"]


@dataclass(frozen=True)
class DeadCode(Rewriter):
    """Drops what no output needs.

    A graph's nodes are those that its outputs reach, so unused nodes are gone already; what this pass finds are the unused
    results of fused kernels, composites, branches and loops, and their operands and carries that no remaining result needs.
    The interface stays: unused inputs of the graph are kept. Effects stay too, as their tokens are outputs.
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
            attrs = map_held(node, lambda held: DeadCode().apply(held, journal))
            return _pruned(node.op, operands, attrs, [i for i, v in enumerate(node.results) if v in used], journal)
        return node.results if operands == node.operands else make(node.op, operands, **node.attrs).results

    return rebuild(graph, visit)


def _pruned(
    op: Control, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], wanted: Sequence[int], journal: Journal
) -> Sequence[Value]:
    """A branch or loop without results that nobody uses, and what only these need. Another result stands in their places."""
    made = make(op, operands, **attrs)
    left = None if op.prune is None else op.prune(wanted, **attrs)
    if left is None or (len(left.operands) == len(operands) and len(left.results) == len(made.results)):
        return made.results
    if not journal.permit(f"narrow {op.name}"):
        return made.results
    results = make(op, tuple(operands[i] for i in left.operands), **left.attrs).results
    places = {old: new for new, old in enumerate(left.results)}
    return tuple(results[places.get(i, 0)] for i in range(len(made.results)))


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
