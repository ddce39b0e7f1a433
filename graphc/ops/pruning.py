"""Branches and loops without what nobody needs: unused results, and the operands and carries that only these need. Layer 2.

scan(a, b, x; (a', b', y) = body(a, b, x))  with b and y unused, and a' not made of b  -->  scan(a, x; a' = body(a, x))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Value, input_value, make, rebuild, topological

__all__ = ["Pruned", "prune_cond", "prune_scan", "prune_while", "restricted"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a node: the numbers of its operands and of its results, and its attributes."""

    operands: tuple[int, ...]
    results: tuple[int, ...]
    attrs: dict[str, Any]


PruneRule = Callable[..., Pruned]
"""`rule(wanted, **attrs)`, where `wanted` are the numbers of the results that are used."""


def restricted(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The graph with only some of its inputs, which must be all that the outputs need, and outputs."""
    types = tuple(graph.inputs[i] for i in inputs)
    values: list[Value] = list(graph.input_values())
    for place, i in enumerate(inputs):
        values[i] = input_value(place, graph.inputs[i])
    names = tuple(graph.names[i] for i in inputs) if graph.names else ()
    kept = Graph(graph.inputs, tuple(graph.outputs[i] for i in outputs), graph.name, graph.names, graph.locations)
    found = rebuild(kept, lambda n, xs: make(n.op, xs, **n.attrs).results, inputs=types, input_values=values)
    return Graph(types, found.outputs, graph.name, names, found.locations)


def _reached(graph: Graph, outputs: Iterable[int]) -> set[int]:
    """The inputs that some outputs need."""
    nodes = topological([graph.outputs[i] for i in outputs])
    return {node.attrs["index"] for node in nodes if node.op.name == "input"}


def _needed_carries(body: Graph, count: int, begin: Collection[int], others: Collection[int]) -> set[int]:
    """The carries that `begin` and the outputs `others` need, in this turn or a later one."""
    needed = set(begin)
    while True:
        more = needed | {i for i in _reached(body, (*needed, *others)) if i < count}
        if more == needed:
            return needed
        needed = more


def prune_cond(wanted: Collection[int], then: Graph, else_: Graph) -> Pruned:
    """The rule of `cond`."""
    outputs = sorted(wanted)
    inputs = sorted(_reached(then, outputs) | _reached(else_, outputs))
    graphs = {"then": restricted(then, inputs, outputs), "else_": restricted(else_, inputs, outputs)}
    return Pruned((0, *(i + 1 for i in inputs)), tuple(outputs), graphs)


def prune_while(wanted: Collection[int], cond: Graph, body: Graph) -> Pruned:
    """The rule of `while_loop`. How often it ran is its last result in any case."""
    count = len(body.outputs)
    asked = _reached(cond, (0,))
    carries = _needed_carries(body, count, [i for i in (*wanted, *asked) if i < count], ())
    constants = {i for i in asked | _reached(body, carries) if i >= count}
    outputs, inputs = sorted(carries), [*sorted(carries), *sorted(constants)]
    graphs = {"cond": restricted(cond, inputs, (0,)), "body": restricted(body, inputs, outputs)}
    return Pruned(tuple(inputs), (*outputs, count), graphs)


def prune_scan(wanted: Collection[int], body: Graph, carries: int, stacked: int, length: Dim, reverse: bool) -> Pruned:
    """The rule of `scan`."""
    stacks = sorted(i for i in wanted if i >= carries)
    kept = _needed_carries(body, carries, [i for i in wanted if i < carries], stacks)
    outputs = [*sorted(kept), *stacks]
    inputs = sorted(kept | {i for i in _reached(body, outputs) if i >= carries})
    sequences = sum(carries <= i < carries + stacked for i in inputs)
    attrs = {"carries": len(kept), "stacked": sequences, "length": length, "reverse": reverse}
    return Pruned(tuple(inputs), tuple(outputs), {"body": restricted(body, inputs, outputs), **attrs})
