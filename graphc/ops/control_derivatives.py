"""Derivatives of branches and loops. Layer 2.

All rules give graphs made of control nodes again, so derivatives of any order follow. With B the body and dB its
vector-Jacobian product:

- `cond`: a cond on the same predicate, whose branches are the products of the branches; what these need of the forward
  values they compute again, so that nothing is kept of a branch, taken or not.
- `scan`: dB is split at what depends on no cotangent. Of that the backward scan, which runs the other way, reads what
  varies from round to round as sequences: xs and ys of the forward scan itself, and *residuals*, which a forward scan
  stacks beside the ys (the same scan with further results: a pass makes one of the two). What is cheap to compute from
  these, or is the same in each round, is computed again. Cotangents of constants are summed in carries.
- `while_loop`: its number of rounds is not known beforehand, and its store of checkpoints has a fixed size: SLOTS carries on
  a stack. The backward loop takes one round at a time, last first; where the top of the stack is not that round's carry,
  the loop runs forward from there and pushes carries on its way: each of them where the slots suffice, else about half of
  the free slots at equal distances. A round is run 2 times up to about 1,000 rounds, 3 times up to 10,000, 4 to 5 times up to
  100,000. (Griewank and Walther, Algorithm 799: Revolve, ACM TOMS 26, 2000, places checkpoints optimally where the number
  of rounds is known; this is a simple online variant.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from graphc.dtypes import int64
from graphc.errors import NoDerivativeError
from graphc.forward import jvp_graph
from graphc.ir import registry
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Node, Value, input_value, make, topological
from graphc.ir.op import Builder, Elementwise, GraphBuilder, Movement
from graphc.ir.types import TensorType, Type
from graphc.reverse import Cotangents, Step, backpropagate

__all__ = ["SLOTS", "cond_jvp", "cond_vjp", "pullback", "scan_jvp", "scan_vjp", "while_jvp", "while_vjp"]

#: Checkpoints of the derivative of a while_loop.
SLOTS = 64
#: How many ops the backward pass does again rather than read a residual.
_AGAIN = 6

G = GraphBuilder()


# -- graphs ---------------------------------------------------------------------------------------------------------------


def _is_smooth(type_: Type) -> bool:
    return isinstance(type_, TensorType) and type_.dtype.is_inexact


def _check_tokens(name: str, types: Iterable[Type]) -> None:
    if any(not isinstance(t, TensorType) for t in types):
        raise NoDerivativeError(
            f"a {name} with effects has no derivative",
            hint="Take the effects (debug.print, host calls) out of it, or cut the gradient off with .detach().",
        )


def pullback(graph: Graph, active: Sequence[int]) -> list[Value | None]:
    """Cotangents of a graph's inputs, over its inputs and, after them, the cotangents of the outputs `active`."""
    cotangents = Cotangents(G)
    for k, output in enumerate(active):
        value = graph.outputs[output]
        cotangents.add(value, input_value(len(graph.inputs) + k, value.type))
    nodes = topological([graph.outputs[i] for i in active])
    backpropagate(G, _backwards(nodes), cotangents)
    return [cotangents.total(v) if _is_smooth(v.type) else None for v in graph.input_values()]


def _backwards(nodes: Sequence[Node]) -> Iterable[Step]:
    moving = {v for n in nodes if n.op.name == "input" for v in n.results if _is_smooth(v.type)}
    for node in nodes:
        if any(v in moving for v in node.operands):
            moving.update(v for v in node.results if _is_smooth(v.type))
    for node in reversed(nodes):
        if node.op.name != "input":
            keys = [v if v in moving else None for v in node.operands]
            yield Step(node.op, node.attrs, node.operands, node.results, keys, node.results)


def substituted(outputs: Sequence[Value], mapping: Mapping[Value, Value]) -> list[Value]:
    """Values with others in the places of those in `mapping`."""
    found = dict(mapping)
    stack = list(reversed(outputs))
    while stack:
        value = stack[-1]
        if value in found:
            stack.pop()
            continue
        missing = [v for v in value.node.operands if v not in found]
        if missing:
            stack.extend(missing)
            continue
        node = make(value.node.op, tuple(found[v] for v in value.node.operands), **value.node.attrs)
        found.update(zip(value.node.results, node.results, strict=True))
        stack.pop()
    return [found[v] for v in outputs]


def _graph(types: Sequence[Type], outputs: Sequence[Value], like: Graph, suffix: str) -> Graph:
    return Graph(tuple(types), tuple(outputs), f"{like.name}_{suffix}", (), like.locations)


def _settled(start: set[int], grown: Callable[[set[int]], set[int]]) -> list[int]:
    """The least set that contains `start` and is closed under `grown`, in order."""
    found = set(start)
    while True:
        new = found | grown(found)
        if new == found:
            return sorted(found)
        found = new


def _apply(b: Builder, name: str, operands: Sequence[Any], **attrs: Any) -> list[Any]:
    return list(b.apply(registry.get(name), tuple(operands), attrs))


def _or_zero(b: Builder, cotangent: Any, like: Any) -> Any:
    return b.like(like, 0.0) if cotangent is None else cotangent


# -- cond -----------------------------------------------------------------------------------------------------------------


def cond_vjp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], then: Graph, else_: Graph
) -> Sequence[Any]:
    """Cotangents of a cond's operands."""
    _check_tokens("cond", then.inputs)
    active = [i for i, ct in enumerate(cotangents) if ct is not None and _is_smooth(then.outputs[i].type)]
    found = [pullback(g, active) for g in (then, else_)]
    wanted = [i for i in range(len(then.inputs)) if any(cts[i] is not None for cts in found)]
    if not active or not wanted:
        return [None] * len(operands)
    types = [*then.inputs, *(then.outputs[i].type for i in active)]
    branches = []
    for graph, cts in zip((then, else_), found, strict=True):
        outputs = [G.like(graph.input_values()[i], 0.0) if (ct := cts[i]) is None else ct for i in wanted]
        branches.append(_graph(types, outputs, graph, "vjp"))
    given = [*operands, *(cotangents[i] for i in active)]
    gradients = iter(_apply(b, "cond", given, then=branches[0], else_=branches[1]))
    return [None, *(next(gradients) if i in wanted else None for i in range(len(then.inputs)))]


def cond_jvp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], then: Graph, else_: Graph
) -> Sequence[Any]:
    """Tangents of a cond's results."""
    _check_tokens("cond", then.inputs)
    active = [t is not None and _is_smooth(type_) for t, type_ in zip(tangents[1:], then.inputs, strict=True)]
    moving = [jvp_graph(g, active)[1] for g in (then, else_)]
    always = [x or y for x, y in zip(*moving, strict=True)]
    if not any(always):
        return [None] * len(results)
    branches = []
    for graph in (then, else_):
        joint, _ = jvp_graph(graph, active, always)
        branches.append(_graph(joint.inputs, joint.outputs[len(graph.outputs) :], graph, "jvp"))
    given = [*operands, *(t for t, on in zip(tangents[1:], active, strict=True) if on)]
    found = iter(_apply(b, "cond", given, then=branches[0], else_=branches[1]))
    return [next(found) if on else None for on in always]


# -- scan -------------------------------------------------------------------------------------------------------------------


def scan_vjp(
    b: Builder,
    operands: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Any],
    body: Graph,
    carries: int,
    stacked: int,
    length: Dim,
    reverse: bool,
) -> Sequence[Any]:
    """Cotangents of a scan's operands."""
    _check_tokens("scan", body.inputs)
    ys = [i for i in range(carries, len(results)) if cotangents[i] is not None and _is_smooth(body.outputs[i].type)]
    start = {i for i in range(carries) if cotangents[i] is not None and _is_smooth(body.inputs[i])}

    def grown(found: set[int]) -> set[int]:
        cts = pullback(body, [*sorted(found), *ys])
        return {i for i in range(carries) if cts[i] is not None}

    held = _settled(start, grown)
    cts = pullback(body, [*held, *ys])
    if not any(ct is not None for ct in cts):
        return [None] * len(operands)
    xs = [j for j in range(carries, carries + stacked) if cts[j] is not None]
    constants = [k for k in range(carries + stacked, len(operands)) if cts[k] is not None]
    inputs = body.input_values()
    wanted = [G.like(inputs[i], 0.0) if (ct := cts[i]) is None else ct for i in held]
    wanted += [ct for k in (*constants, *xs) if (ct := cts[k]) is not None]
    plan = _Residuals(body, carries, stacked, wanted)

    residuals = _residuals(b, plan, operands, results, body, carries, stacked, length, reverse)
    sequences = [*residuals, *(cotangents[i] for i in ys)]
    rest = list(operands[carries + stacked :])
    sums = [inputs[k].type for k in constants]
    types: list[Type] = [*(inputs[i].type for i in held), *sums]
    types += [v.type for v in plan.read]
    types += [body.outputs[i].type for i in ys]
    types += body.inputs[carries + stacked :]
    place = [input_value(i, t) for i, t in enumerate(types)]
    seeds = [input_value(len(body.inputs) + k, body.outputs[i].type) for k, i in enumerate([*held, *ys])]
    first = len(held) + len(sums)
    after = first + len(plan.read)
    mapping = dict(zip(seeds, [*place[: len(held)], *place[after : after + len(ys)]], strict=True))
    mapping.update(zip(plan.read, place[first:after], strict=True))
    mapping.update(zip(inputs[carries + stacked :], place[after + len(ys) :], strict=True))
    values = substituted(wanted, mapping)
    new = values[: len(held)]
    new += [G.add(place[len(held) + k], values[len(held) + k]) for k in range(len(constants))]
    outputs = [*new, *values[len(held) + len(constants) :]]
    begun = [_or_zero(b, cotangents[i], operands[i]) for i in held] + [b.like(operands[k], 0.0) for k in constants]
    found = _apply(
        b,
        "scan",
        [*begun, *sequences, *rest],
        body=_graph(types, outputs, body, "vjp"),
        carries=len(begun),
        stacked=len(sequences),
        length=length,
        reverse=not reverse,
    )
    gradients = dict(zip([*held, *constants, *xs], found, strict=True))
    return [gradients.get(i) for i in range(len(operands))]


class _Residuals:
    """What the backward scan reads of the forward one: `read`, values of the body that vary from round to round."""

    def __init__(self, body: Graph, carries: int, stacked: int, wanted: Sequence[Value]) -> None:
        inputs = body.input_values()
        self._varying: set[Node] = {v.node for v in inputs[: carries + stacked]}
        self._sequences = set(inputs[carries : carries + stacked])
        self._stacks = set(body.outputs[carries:])
        nodes = topological([*wanted, *body.outputs])
        known = len(inputs)
        seeds = {n for n in nodes if n.op.name == "input" and n.attrs["index"] >= known}
        depends = set(seeds)
        for node in nodes:
            if any(v.node in depends for v in node.operands):
                depends.add(node)
            if any(v.node in self._varying for v in node.operands):
                self._varying.add(node)
        frontier: dict[Value, None] = {}
        for node in topological(wanted):
            if node in depends:
                frontier.update((v, None) for v in node.operands if v.node not in depends)
        frontier.update((v, None) for v in wanted if v.node not in depends)
        read: dict[Value, None] = {}
        for value in frontier:
            self._add(value, read)
        self.read = list(read)

    def _add(self, value: Value, read: dict[Value, None]) -> None:
        """Note what must be read to have a value."""
        sources = self._cheap(value)
        for source in (value,) if sources is None else sources:
            read[source] = None

    def _cheap(self, value: Value) -> list[Value] | None:
        """What a value is computed from with a few light ops, if that is there anyhow; None: it is to be kept itself."""
        sources: dict[Value, None] = {}
        stack, count = [value], 0
        while stack:
            v = stack.pop()
            if v.node not in self._varying:
                continue
            if v in self._sequences or v in self._stacks:
                sources[v] = None
                continue
            light = isinstance(v.node.op, Movement) or (isinstance(v.node.op, Elementwise) and not v.node.op.heavy)
            count += 1
            if count > _AGAIN or not light:
                return self._spread(value)
            stack.extend(v.node.operands)
        return list(sources)

    def _spread(self, value: Value) -> list[Value] | None:
        """The operand of a chain of movements of one operand that is smaller than their result."""
        v = value
        while isinstance(v.node.op, Movement) and len(v.node.operands) == 1:
            v = v.node.operands[0]
        size, whole = v.tensor.size, value.tensor.size
        return [v] if v is not value and isinstance(size, int) and isinstance(whole, int) and size <= whole else None


def _residuals(
    b: Builder,
    plan: _Residuals,
    operands: Sequence[Any],
    results: Sequence[Any],
    body: Graph,
    carries: int,
    stacked: int,
    length: Dim,
    reverse: bool,
) -> list[Any]:
    """The sequences that the plan reads: operands and results of the scan where they hold them, else stacked anew."""
    known: dict[Value, Any] = dict(zip(body.outputs[carries:], results[carries:], strict=True))
    known.update(zip(body.input_values()[carries : carries + stacked], operands[carries:], strict=False))
    more = [v for v in plan.read if v not in known]
    if more:
        graph = Graph(body.inputs, (*body.outputs, *more), body.name, body.names, body.locations)
        attrs = {"carries": carries, "stacked": stacked, "length": length, "reverse": reverse}
        found = _apply(b, "scan", operands, body=graph, **attrs)
        known.update(zip(more, found[len(body.outputs) :], strict=True))
    return [known[v] for v in plan.read]


def scan_jvp(
    b: Builder,
    operands: Sequence[Any],
    results: Sequence[Any],
    tangents: Sequence[Any],
    body: Graph,
    carries: int,
    stacked: int,
    length: Dim,
    reverse: bool,
) -> Sequence[Any]:
    """Tangents of a scan's results: the scan beside that of its linearised body."""
    _check_tokens("scan", body.inputs)
    joint, active, always = _joint(body, tangents, carries)
    if not any(always):
        return [None] * len(results)
    # The joint graph takes all inputs, then the active ones' tangents; the scan wants carries, sequences, constants.
    spans = (0, carries), (carries, carries + stacked), (carries + stacked, len(body.inputs))
    order: list[int] = []
    given: list[Any] = []
    for first, last in spans:
        order += range(first, last)
        given += operands[first:last]
        for k, i in enumerate(active):
            if first <= i < last:
                order.append(len(body.inputs) + k)
                given.append(_or_zero(b, tangents[i], operands[i]))
    moving = [i for i, on in enumerate(always) if on]
    place = {i: len(body.outputs) + k for k, i in enumerate(moving)}
    leading = [*range(carries), *(place[i] for i in moving if i < carries)]
    trailing = [*range(carries, len(body.outputs)), *(place[i] for i in moving if i >= carries)]
    graph = _reordered(joint, order, [*leading, *trailing])
    found = _apply(
        b,
        "scan",
        given,
        body=graph,
        carries=len(leading),
        stacked=stacked + sum(carries <= i < carries + stacked for i in active),
        length=length,
        reverse=reverse,
    )
    by_place = dict(zip([*leading, *trailing], found, strict=True))
    return [by_place[place[i]] if i in place else None for i in range(len(results))]


def _joint(body: Graph, tangents: Sequence[Any], carries: int) -> tuple[Graph, list[int], list[bool]]:
    """The Jacobian-vector product of a loop's body, the inputs that have tangents, and the outputs that have."""
    start = {i for i, t in enumerate(tangents) if t is not None and _is_smooth(body.inputs[i])}

    def grown(found: set[int]) -> set[int]:
        _, moving = jvp_graph(body, [i in found for i in range(len(body.inputs))])
        return {i for i in range(carries) if moving[i]}

    active = _settled(start, grown)
    flags = [i in active for i in range(len(body.inputs))]
    _, moving = jvp_graph(body, flags)
    always = [on or (i < carries and i in active) for i, on in enumerate(moving)]
    return jvp_graph(body, flags, always)[0], active, always


def _reordered(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The graph with its inputs and outputs in another order."""
    mapping = {input_value(i, graph.inputs[i]): input_value(k, graph.inputs[i]) for k, i in enumerate(inputs)}
    types = [graph.inputs[i] for i in inputs]
    return _graph(types, substituted([graph.outputs[i] for i in outputs], mapping), graph, "loop")


# -- while_loop -------------------------------------------------------------------------------------------------------------


def while_jvp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], cond: Graph, body: Graph
) -> Sequence[Any]:
    """Tangents of a loop's results: the loop beside that of its linearised body."""
    _check_tokens("while_loop", body.inputs)
    carries = len(body.outputs)
    joint, active, always = _joint(body, tangents, carries)
    if not any(always):
        return [None] * len(results)
    moving = [i for i in active if i < carries]
    others = [i for i in active if i >= carries]
    number = {i: len(body.inputs) + k for k, i in enumerate(active)}
    constants = range(carries, len(body.inputs))
    order = [*range(carries), *(number[i] for i in moving), *constants, *(number[i] for i in others)]
    place = {i: carries + k for k, i in enumerate(i for i, on in enumerate(always) if on)}
    graph = _reordered(joint, order, [*range(carries), *(place[i] for i in moving)])
    mapping = {v: input_value(order.index(i), v.type) for i, v in enumerate(cond.input_values())}
    going = _graph(graph.inputs, substituted(cond.outputs, mapping), cond, "loop")
    given = [*operands[:carries], *(_or_zero(b, tangents[i], operands[i]) for i in moving)]
    given += [*operands[carries:], *(tangents[i] for i in others)]
    found = _apply(b, "while_loop", given, cond=going, body=graph)
    return [found[place[i]] if i in place else None for i in range(len(results))]


def while_vjp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], cond: Graph, body: Graph
) -> Sequence[Any]:
    """Cotangents of a loop's operands; see the module's text."""
    _check_tokens("while_loop", body.inputs)
    carries = len(body.outputs)
    start = {i for i in range(carries) if cotangents[i] is not None and _is_smooth(body.inputs[i])}

    def grown(found: set[int]) -> set[int]:
        cts = pullback(body, sorted(found))
        return {i for i in range(carries) if cts[i] is not None}

    held = _settled(start, grown)
    cts = pullback(body, held)
    constants = [k for k in range(carries, len(operands)) if cts[k] is not None]
    if not held:
        return [None] * len(operands)
    initial, rest = operands[:carries], operands[carries:]
    positions = b.full((SLOTS,), 0, int64)
    stacks = [_first_slot(b, x) for x in initial]
    begun = [results[-1], b.full((), 0, int64), positions, *stacks]
    begun += [_or_zero(b, cotangents[i], operands[i]) for i in held] + [b.like(operands[k], 0.0) for k in constants]
    types = [b.type(x) for x in (*begun, *rest)]
    again = _graph(types, (G.greater(input_value(0, types[0]), 0),), body, "left")
    back = _backward_round(body, held, constants, cts, types)
    found = _apply(b, "while_loop", [*begun, *rest], cond=again, body=back)
    after = 3 + carries
    gradients = dict(zip([*held, *constants], found[after:], strict=False))
    return [gradients.get(i) for i in range(len(operands))]


def _first_slot(b: Builder, x: Any) -> Any:
    """A stack of checkpoints whose first one is x. (The others are x as well: nobody looks at them.)"""
    return b.broadcast(x, shape=(SLOTS, *b.type(x).shape))


def _backward_round(
    body: Graph, held: Sequence[int], constants: Sequence[int], cts: Sequence[Value | None], types: Sequence[Type]
) -> Graph:
    """One round of the backward loop: rounds left, top of the stack, positions, stacks, cotangents, sums; constants."""
    carries = len(body.outputs)
    values = [input_value(i, t) for i, t in enumerate(types)]
    left, top, positions = values[:3]
    stacks, rest = values[3 : 3 + carries], values[len(values) - (len(body.inputs) - carries) :]
    states = [top, positions, *stacks]
    inner = [*(v.type for v in states), left.type, *(v.type for v in rest)]
    below = _graph(inner, (_gap(inner, carries)[0],), body, "before")
    states = _apply(G, "while_loop", [*states, left, *rest], cond=below, body=_advance(body, inner))[:-1]
    top, positions, *stacks = states
    current = [G.take(stack, top, axis=0, mode="clip") for stack in stacks]
    outward = values[3 + carries : 3 + carries + len(held)]
    sums = values[3 + carries + len(held) : 3 + carries + len(held) + len(constants)]
    mapping = dict(zip(body.input_values(), [*current, *rest], strict=True))
    mapping.update(
        (input_value(len(body.inputs) + k, body.outputs[i].type), ct)
        for k, (i, ct) in enumerate(zip(held, outward, strict=True))
    )
    wanted = [G.like(body.input_values()[i], 0.0) if (ct := cts[i]) is None else ct for i in held]
    wanted += [ct for k in constants if (ct := cts[k]) is not None]
    new = substituted(wanted, mapping)
    added = [G.add(x, y) for x, y in zip(sums, new[len(held) :], strict=True)]
    lower = G.maximum(G.subtract(top, 1), 0)
    return _graph(types, (G.subtract(left, 1), lower, positions, *stacks, *new[: len(held)], *added), body, "vjp")


def _gap(types: Sequence[Type], carries: int) -> tuple[Value, Value, Value]:
    """Of the state (top, positions, stacks, rounds left, constants): whether the carry on top is not that of the last round
    left, its round, and how many rounds are between."""
    place = 2 + carries
    top, positions = input_value(0, types[0]), input_value(1, types[1])
    left = input_value(place, types[place])
    at = G.take(positions, top, axis=0, mode="clip")
    gap = G.subtract(G.subtract(left, 1), at)
    return G.greater(gap, 0), at, gap


def _advance(body: Graph, types: Sequence[Type]) -> Graph:
    """Run the loop forward from the top of the stack, and push the carry where it comes to."""
    carries = len(body.outputs)
    top, positions, *stacks = (input_value(i, types[i]) for i in range(2 + carries))
    rest = [input_value(i, types[i]) for i in range(3 + carries, len(types))]
    _, at, gap = _gap(types, carries)
    free = G.subtract(G.like(top, SLOTS - 1), top)
    shares = G.add(G.floor_divide(free, 2), 1)
    stride = G.floor_divide(G.subtract(G.add(gap, shares), 1), shares)
    steps = G.select(G.less_equal(gap, free), G.like(gap, 1), stride)
    current = [G.take(stack, top, axis=0, mode="clip") for stack in stacks]
    inner = [steps.type, *(v.type for v in current), steps.type, *(v.type for v in rest)]
    values = [input_value(i, t) for i, t in enumerate(inner)]
    count, now, end, held = values[0], values[1 : 1 + carries], values[1 + carries], values[2 + carries :]
    outputs = substituted(body.outputs, dict(zip(body.input_values(), [*now, *held], strict=True)))
    going = _graph(inner, (G.less(count, end),), body, "steps")
    turned = _graph(inner, (G.add(count, 1), *outputs), body, "again")
    found = _apply(G, "while_loop", [G.like(steps, 0), *current, steps, *rest], cond=going, body=turned)
    above = G.add(top, 1)
    positions = G.scatter_set(positions, above, G.add(at, steps), axis=0, mode="clip")
    stacks = [
        G.scatter_set(stack, above, new, axis=0, mode="clip")
        for stack, new in zip(stacks, found[1 : 1 + carries], strict=True)
    ]
    return _graph(types, (above, positions, *stacks), body, "advance")
