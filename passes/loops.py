"""Loops and branches made small: merged, pruned, and rid of what is the same in each round. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Attribute, Graph, Node, Value, input_value, locate, make, rebuild
from graphc.ir.location import Location
from graphc.ir.op import Composite, Control, Movement
from graphc.ir.printer import held_graphs
from graphc.ir.types import TensorType, Type
from graphc.ops.control_derivatives import substituted
from graphc.passes.base import Journal, Rewriter, map_held

__all__ = ["Loops"]

#: Values with more elements than the operands that they are computed from, and than this, stay in the loop.
_SMALL = 256


@dataclass(frozen=True)
class Loops(Rewriter):
    """Smaller loops and branches, the same values:

        scan(c, x; f), scan(c, x; g)  -->  scan(c, x; f and g)    where f's carries are among g's
        loop(c, w; f)                 -->  loop(c; f)             what no result needs is dropped: carries, ys, operands
        loop(c, w; c + exp(w))        -->  loop(c, exp(w); c + e) what is the same in each round is computed once

    What can fail, or has an effect, stays where it is: a loop may not run. What only moves elements stays as well, for it
    costs nothing in a kernel. Carries that pass through unchanged become constants. A derivative makes a second scan with
    more results of the same body: the first rule makes one of both.
    """

    name: ClassVar[str] = "loops"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        graph = _held(graph, lambda g: self.apply(g, journal))
        graph = _merged(graph, journal)
        while True:
            smaller = _hoisted(_pruned(graph, journal), journal)
            if smaller.same_as(graph):
                return smaller
            graph = smaller


def _held(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        attrs = map_held(node, change) if isinstance(node.op, (Control, Composite)) else node.attrs
        return make(node.op, operands, **attrs).results

    return rebuild(graph, visit)


def _closed(graph: Graph, places: Sequence[int], outputs: Sequence[Value]) -> Graph:
    """A held graph with other inputs and outputs: old input `places[k]` is input k."""
    mapping = {graph.input_values()[i]: input_value(k, graph.inputs[i]) for k, i in enumerate(places)}
    found = substituted(outputs, mapping)
    return Graph(tuple(graph.inputs[i] for i in places), tuple(found), graph.name, (), _located(graph, outputs, found))


def _located(graph: Graph, old: Sequence[Value], new: Sequence[Value]) -> dict[Node, tuple[Location, ...]]:
    """Locations for a held graph that was written anew: of its outputs, and by them of what leads there."""
    located: dict[Node, tuple[Location, ...]] = {}
    stack = list(zip(old, new, strict=True))
    seen: set[Node] = set()
    while stack:
        before, after = stack.pop()
        if before.node in seen:
            continue
        seen.add(before.node)
        where = graph.locations.get(before.node, ())
        if where:
            located[after.node] = tuple(where)
        if len(before.node.operands) == len(after.node.operands):
            stack.extend(zip(before.node.operands, after.node.operands, strict=True))
    return located


# -- merging scans --------------------------------------------------------------------------------------------------------


def _merged(graph: Graph, journal: Journal) -> Graph:
    """One scan for two of which one does what the other does and more."""
    while True:
        pair = _pair(graph)
        if pair is None or not journal.permit("merge scans"):
            return graph
        graph = _with_pair(graph, *pair)


@dataclass(frozen=True, slots=True)
class _Union:
    """A scan that stands for two: its node's operands and attributes, and where each one's results are among its own."""

    operands: tuple[Value, ...]
    attrs: Mapping[str, Attribute]
    results: Mapping[Value, int]


def _pair(graph: Graph) -> tuple[Node, Node, _Union] | None:
    nodes = graph.nodes
    scans = [n for n in nodes if n.op.name == "scan"]
    if len(scans) < 2:
        return None
    above: dict[Node, int] = {}
    bits = {n: 1 << k for k, n in enumerate(scans)}
    for node in nodes:
        found = 0
        for v in node.operands:
            found |= above[v.node] | bits.get(v.node, 0)
        above[node] = found
    for k, first in enumerate(scans):
        for second in scans[k + 1 :]:
            if above[second] & bits[first] or above[first] & bits[second]:
                continue
            for small, large in ((first, second), (second, first)):
                union = _union(small, large)
                if union is not None:
                    return small, large, union
    return None


def _parts(node: Node) -> tuple[tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
    """Carries, sequences and constants of a scan."""
    carries, end = node.attrs["carries"], node.attrs["carries"] + node.attrs["stacked"]
    return node.operands[:carries], node.operands[carries:end], node.operands[end:]


def _union(small: Node, large: Node) -> _Union | None:
    """The scan that does both, if the carries of the small one are among those of the large one."""
    if any(small.attrs[name] != large.attrs[name] for name in ("length", "reverse")):
        return None
    if any(not isinstance(v.type, TensorType) for v in (*small.operands, *large.operands)):
        return None
    (begun, xs, constants), (carries, sequences, others) = _parts(small), _parts(large)
    places: list[int] = []
    for x in begun:
        free = (i for i, y in enumerate(carries) if y is x and i not in places)
        place = next(free, None)
        if place is None:
            return None
        places.append(place)
    more_xs = [x for x in dict.fromkeys(xs) if x not in sequences]
    more = [k for k in dict.fromkeys(constants) if k not in others]
    operands = (*carries, *sequences, *more_xs, *others, *more)
    elements = (*sequences, *more_xs)
    rest = (*others, *more)
    first, second = len(carries), len(carries) + len(elements)
    types: list[Type] = [*large.attrs["body"].inputs[: len(carries)]]
    types += [TensorType(x.dtype, x.shape[1:]) for x in elements]
    types += [k.type for k in rest]
    values = [input_value(i, t) for i, t in enumerate(types)]

    def placed(node: Node, own: Sequence[int]) -> list[Value]:
        body: Graph = node.attrs["body"]
        _, mine, kept = _parts(node)
        given = [values[i] for i in own]
        given += [values[first + elements.index(x)] for x in mine]
        given += [values[second + rest.index(k)] for k in kept]
        return substituted(body.outputs, dict(zip(body.input_values(), given, strict=True)))

    ours, theirs = placed(small, places), placed(large, range(len(carries)))
    if [theirs[i] for i in places] != ours[: len(places)]:
        return None
    outputs = [*theirs]
    results = {large.results[i]: i for i in range(len(theirs))}
    results.update((small.results[k], i) for k, i in enumerate(places))
    for k in range(len(places), len(ours)):
        if ours[k] not in outputs[len(carries) :]:
            outputs.append(ours[k])
        results[small.results[k]] = outputs.index(ours[k], len(carries))
    body: Graph = large.attrs["body"]
    locations = {**_located(small.attrs["body"], small.attrs["body"].outputs, ours)}
    locations.update(_located(body, body.outputs, theirs))
    joint = Graph(tuple(types), tuple(outputs), body.name, (), locations)
    attrs = {**large.attrs, "body": joint, "carries": len(carries), "stacked": len(elements)}
    return _Union(operands, attrs, results)


def _with_pair(graph: Graph, small: Node, large: Node, union: _Union) -> Graph:
    """The graph with one node for two."""
    values: dict[Value, Value] = {v: v for v in graph.input_values()}
    located: dict[Node, tuple[Location, ...]] = {}
    stack = [v.node for v in reversed(graph.outputs)]
    done: set[Node] = set()
    while stack:
        node = stack[-1]
        both = node in (small, large)
        needs = union.operands if both else node.operands
        missing = [v.node for v in needs if v not in values]
        if node in done or node.op.name == "input":
            stack.pop()
            continue
        if missing:
            stack.extend(missing)
            continue
        operands = tuple(values[v] for v in needs)
        made = make(node.op, operands, **(union.attrs if both else node.attrs))
        if both:
            values.update((old, made.results[i]) for old, i in union.results.items())
            done.update((small, large))
            locate(made, graph.locations.get(small, ()), located)
            locate(made, graph.locations.get(large, ()), located)
        else:
            values.update(zip(node.results, made.results, strict=True))
            done.add(node)
            locate(made, graph.locations.get(node, ()), located)
        stack.pop()
    return Graph(graph.inputs, tuple(values[v] for v in graph.outputs), graph.name, graph.names, located)


# -- pruning ----------------------------------------------------------------------------------------------------------------


def _pruned(graph: Graph, journal: Journal) -> Graph:
    """Control nodes without what no result needs."""
    used = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if node.op.name in _PRUNE and any(v in used for v in node.results):
            wanted = [v in used for v in node.results]
            found = _PRUNE[node.op.name](node, operands, wanted)
            if found is not None and journal.permit(f"prune {node.op.name}"):
                return found
        return make(node.op, operands, **node.attrs).results

    return rebuild(graph, visit)


def _read(outputs: Sequence[Value]) -> set[int]:
    """The inputs that outputs depend on."""
    graph = Graph((), tuple(outputs))
    return {n.attrs["index"] for n in graph.nodes if n.op.name == "input"}


def _live(bodies: Sequence[Value], always: Sequence[Value], wanted: Sequence[bool]) -> list[int]:
    """The carries that are needed: wanted ones, those that `always` depends on, and those that these depend on."""
    carries = len(bodies)
    found = {i for i in range(carries) if wanted[i] or not isinstance(bodies[i].type, TensorType)}
    while True:
        new = found | {i for i in _read([*always, *(bodies[i] for i in found)]) if i < carries}
        if new == found:
            return sorted(found)
        found = new


def _fill(results: Sequence[Value | None]) -> list[Value]:
    """Results that nobody uses are stood in for by any other."""
    some = next(v for v in results if v is not None)
    return [some if v is None else v for v in results]


def _scan(node: Node, operands: tuple[Value, ...], wanted: Sequence[bool]) -> list[Value] | None:
    body: Graph = node.attrs["body"]
    carries, stacked = node.attrs["carries"], node.attrs["stacked"]
    ys = [i for i in range(carries, len(body.outputs)) if wanted[i]]
    live = _live(body.outputs[:carries], [body.outputs[i] for i in ys], wanted)
    inputs = body.input_values()
    same = [i for i in live if body.outputs[i] is inputs[i] and isinstance(body.inputs[i], TensorType)]
    moving = [i for i in live if i not in same]
    read = _read([body.outputs[i] for i in (*moving, *ys)])
    xs = [i for i in range(carries, carries + stacked) if i in read]
    rest = [i for i in (*same, *range(carries + stacked, len(inputs))) if i in read]
    places = [*moving, *xs, *rest]
    if len(places) == len(inputs) and len(ys) + carries == len(body.outputs):
        return None
    kept = [*moving, *ys]
    results: list[Value | None] = [None] * len(node.results)
    if kept:
        graph = _closed(body, places, [body.outputs[i] for i in kept])
        attrs = {**node.attrs, "body": graph, "carries": len(moving), "stacked": len(xs)}
        made = make(node.op, tuple(operands[i] for i in places), **attrs)
        for i, value in zip(kept, made.results, strict=True):
            results[i] = value
    for i in same:
        results[i] = operands[i]
    return _fill(results)


def _while(node: Node, operands: tuple[Value, ...], wanted: Sequence[bool]) -> list[Value] | None:
    cond, body = node.attrs["cond"], node.attrs["body"]
    carries = len(body.outputs)
    inputs = body.input_values()
    live = _live(body.outputs, cond.outputs, wanted)
    same = [i for i in live if body.outputs[i] is inputs[i] and isinstance(body.inputs[i], TensorType)]
    moving = [i for i in live if i not in same]
    read = _read([*(body.outputs[i] for i in moving), *cond.outputs])
    places = [*moving, *(i for i in (*same, *range(carries, len(inputs))) if i in read)]
    if len(places) == len(inputs) and len(moving) == carries:
        return None
    made = make(
        node.op,
        tuple(operands[i] for i in places),
        cond=_closed(cond, places, cond.outputs),
        body=_closed(body, places, [body.outputs[i] for i in moving]),
    )
    results: list[Value | None] = [None] * len(node.results)
    for i, value in zip((*moving, carries), made.results, strict=True):
        results[i] = value
    for i in same:
        results[i] = operands[i]
    return _fill(results)


def _cond(node: Node, operands: tuple[Value, ...], wanted: Sequence[bool]) -> list[Value] | None:
    then, else_ = node.attrs["then"], node.attrs["else_"]
    predicate, captures = operands[0], operands[1:]
    inputs = then.input_values()
    results: list[Value | None] = [None] * len(node.results)
    kept = []
    for i, (x, y) in enumerate(zip(then.outputs, else_.outputs, strict=True)):
        if x is y and x in inputs and isinstance(x.type, TensorType):
            results[i] = captures[inputs.index(x)]
        elif wanted[i] or not isinstance(x.type, TensorType):
            kept.append(i)
    read = _read([g.outputs[i] for g in (then, else_) for i in kept])
    places = [i for i in range(len(inputs)) if i in read]
    if len(places) == len(inputs) and len(kept) == len(node.results):
        return None
    if kept:
        graphs = [_closed(g, places, [g.outputs[i] for i in kept]) for g in (then, else_)]
        made = make(node.op, (predicate, *(captures[i] for i in places)), then=graphs[0], else_=graphs[1])
        for i, value in zip(kept, made.results, strict=True):
            results[i] = value
    return _fill(results)


_PRUNE = {"scan": _scan, "while_loop": _while, "cond": _cond}


# -- hoisting ---------------------------------------------------------------------------------------------------------------


def _hoisted(graph: Graph, journal: Journal) -> Graph:
    """Loops whose bodies do not compute what is the same in each round."""

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if node.op.name in ("scan", "while_loop"):
            first = len(node.attrs["body"].outputs) if node.op.name == "while_loop" else _start_of_constants(node)
            frontier = _invariant([g for _, g in held_graphs(node)], first)
            if frontier and journal.permit("hoist out of a loop"):
                return _without(node, operands, first, frontier)
        return make(node.op, operands, **node.attrs).results

    return rebuild(graph, visit)


def _start_of_constants(node: Node) -> int:
    return int(node.attrs["carries"] + node.attrs["stacked"])


def _is_safe(node: Node) -> bool:
    """Whether a node may run where the loop does not."""
    if node.op.fallible or node.op.effect:
        return False
    return all(_is_safe(inner) for _, g in held_graphs(node) for inner in g.nodes)


def _invariant(graphs: Sequence[Graph], first: int) -> list[Value]:
    """Values worth computing once: of constants only, safe, and used by what varies."""
    found: dict[Value, None] = {}
    for graph in graphs:
        same: set[Node] = set()
        uses: dict[Value, None] = dict.fromkeys(graph.outputs)
        for node in graph.nodes:
            if node.op.name == "input":
                if node.attrs["index"] >= first:
                    same.add(node)
            elif _is_safe(node) and all(v.node in same for v in node.operands):
                same.add(node)
            else:
                uses.update(dict.fromkeys(node.operands))
        for value in uses:
            while isinstance(value.node.op, Movement) and value.node in same and len(value.node.operands) == 1:
                value = value.node.operands[0]
            if value.node in same and value.node.operands and _is_worth_it(value):
                found[value] = None
    return list(found)


def _is_worth_it(value: Value) -> bool:
    """Whether a value depends on inputs at all, and is not much larger than what it is made of."""
    reads = [n.result for n in Graph((), (value,)).nodes if n.op.name == "input"]
    if not reads or isinstance(value.node.op, Movement) or value.node.op.name in ("barrier", "stop_gradient"):
        return False
    size = value.tensor.size
    sizes = [v.tensor.size for v in reads]
    if not isinstance(size, int) or not all(isinstance(s, int) for s in sizes):
        return True
    return size <= max(_SMALL, *(s for s in sizes if isinstance(s, int)))


def _without(node: Node, operands: tuple[Value, ...], first: int, frontier: Sequence[Value]) -> Sequence[Value]:
    """The loop with the values of the frontier as further constants."""
    graphs = dict(held_graphs(node))
    inputs = next(iter(graphs.values())).input_values()
    outside = substituted(frontier, dict(zip(inputs[first:], operands[first:], strict=True)))
    types = [*(v.type for v in inputs), *(v.type for v in frontier)]
    new = {v: input_value(len(inputs) + k, v.type) for k, v in enumerate(frontier)}
    attrs = dict(node.attrs)
    for name, graph in graphs.items():
        found = substituted(graph.outputs, {**{v: v for v in inputs}, **new})
        locations = _located(graph, graph.outputs, found)
        attrs[name] = Graph(tuple(types), tuple(found), graph.name, (), locations)
    return make(node.op, (*operands, *outside), **attrs).results
