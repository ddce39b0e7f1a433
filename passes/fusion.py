"""Fusion: the graph's nodes become kernels. Layer 4, passes.

`Fusion` replaces groups of nodes (`graphc.passes.fusion_groups`) by `fused` nodes that hold the group as a closed graph:

    y = tanh(x + b)  -->  y = fused(x, b; body = {tanh(add(x, broadcast(b)))}, schedule = "loop")

Afterwards every node is an input, a constant, a view (reshape, barrier: no kernel), a `fused` node, or a node with an
emitter of its own (scatter-add, control, effects); graphs that control nodes hold are treated alike. Bodies contain
what is cheap to repeat: pure movement, iota, constants of rank 0, light elementwise ops. Values and types do not change;
the order of the reductions' summation is the code generator's and does not depend on the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphc.ir.graph import Graph, Node, Value, input_value, make
from graphc.ir.location import Location
from graphc.ir.op import Control
from graphc.passes.fusion_groups import Decision, Group, Partition, partition
from graphc.passes.fusion_trace import LINK

__all__ = ["Fusion", "explain", "fuse"]


@dataclass(frozen=True, slots=True)
class Fusion:
    """Partition the graph into kernels; see the module's text."""

    name = "fusion"
    preserves = "values"

    def run(self, graph: Graph) -> Graph:
        return fuse(graph)


def fuse(graph: Graph) -> Graph:
    """The graph in terms of kernels."""
    return _Builder(graph, partition(graph)).run()


def explain(graph: Graph) -> list[Decision]:
    """What was fused, what was not, and why; `graph` is the one before fusion."""
    return partition(graph).decisions


class _Builder:
    """Makes the new graph, unit by unit (a group or a single node), operands first."""

    def __init__(self, graph: Graph, parts: Partition) -> None:
        self.graph = graph
        self.role = parts.roles.role
        self.order = parts.roles.order
        self.group_of = parts.group_of
        self.values: dict[Value, Value] = {}
        self.locations: dict[Node, tuple[Location, ...]] = {}
        self.stored = self._stored(parts)

    def run(self) -> Graph:
        for output in self.graph.outputs:
            self._build(output)
        outputs = tuple(self.values[v] for v in self.graph.outputs)
        return Graph(self.graph.inputs, outputs, self.graph.name, self.graph.names, self.locations)

    def _stored(self, parts: Partition) -> dict[Group, list[Value]]:
        """The values of each group that someone outside of it needs."""
        stored: dict[Group, dict[Value, None]] = {group: {} for group in parts.groups}
        needed: list[tuple[Group | None, Value]] = [(None, v) for v in self.graph.outputs]
        for node in parts.roles.nodes:
            if self.role[node] != LINK:
                bases = (s.base for v in node.operands for s in parts.roles.trace(v))
                needed += [(self.group_of.get(node), base) for base in bases]
        for user, value in needed:
            group = self.group_of.get(value.node)
            if group is not None and group is not user:
                stored[group][value] = None
        return {group: sorted(values, key=lambda v: self.order[v.node]) for group, values in stored.items()}

    def _build(self, value: Value) -> None:
        """Make a value and all it needs. Iterative."""
        stack = [value]
        opened: set[Value] = set()
        while stack:
            x = stack[-1]
            if x in self.values:
                stack.pop()
                continue
            group = self.group_of.get(x.node)
            needs = list(x.node.operands) if group is None else self._frontier(self.stored[group], group)
            missing = [v for v in needs if v not in self.values]
            if missing:
                assert x not in opened, "kernels depend on one another in a cycle"
                opened.add(x)
                stack.extend(reversed(missing))
                continue
            if group is None:
                self._copy(x.node)
            else:
                self._fuse(group, needs)
            stack.pop()

    def _copy(self, node: Node) -> None:
        attrs = dict(node.attrs)
        if isinstance(node.op, Control):
            attrs.update((key, fuse(held)) for key, held in node.attrs.items() if isinstance(held, Graph))
        made = make(node.op, [self.values[v] for v in node.operands], **attrs)
        self.values.update(zip(node.results, made.results, strict=True))
        self._locate(made, [node])

    def _fuse(self, group: Group, operands: Sequence[Value]) -> None:
        outputs = self.stored[group]
        body, members = self._body(group, outputs, operands)
        schedule = "loop" if group.dot is None else "contraction"
        made = make("fused", [self.values[v] for v in operands], body=body, schedule=schedule)
        self.values.update(zip(outputs, made.results, strict=True))
        self._locate(made, members)

    def _locate(self, made: Node, sources: Iterable[Node]) -> None:
        found = dict.fromkeys(self.locations.get(made, ()))
        for node in sources:
            found.update(dict.fromkeys(self.graph.locations.get(node, ())))
        self.locations[made] = tuple(found)

    def _inside(self, value: Value, group: Group) -> bool:
        """Whether a value is part of the group's body, and not one of its inputs."""
        return self.role[value.node] == LINK or self.group_of.get(value.node) is group

    def _frontier(self, outputs: Sequence[Value], group: Group) -> list[Value]:
        """The values that a body reads, in order of first use."""
        found: dict[Value, None] = {}
        seen: set[Value] = set()
        stack = list(reversed(outputs))
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            if self._inside(value, group):
                stack.extend(reversed(value.node.operands))
            else:
                found[value] = None
        return list(found)

    def _body(self, group: Group, outputs: Sequence[Value], operands: Sequence[Value]) -> tuple[Graph, list[Node]]:
        """The closed graph of a group and the nodes that it was made from."""
        new = {v: input_value(i, v.type) for i, v in enumerate(operands)}
        locations: dict[Node, tuple[Location, ...]] = {}
        members: list[Node] = []
        stack = list(reversed(outputs))
        while stack:
            value = stack[-1]
            missing = [] if value in new else [v for v in value.node.operands if v not in new]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if value in new:
                continue
            node = value.node
            made = make(node.op, [new[v] for v in node.operands], **node.attrs)
            new.update(zip(node.results, made.results, strict=True))
            locations[made] = self.graph.locations.get(node, ())
            members.append(node)
        body = Graph(tuple(v.type for v in operands), tuple(new[v] for v in outputs), "kernel", (), locations)
        return body, members
