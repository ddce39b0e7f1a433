"""Branches and loops for many examples at once, and ops that take one example after the other. Layer 2.

Where all examples go the same way the node stays what it is, with batched graphs. Where they part, both branches are computed
and each example takes its own; a loop goes on as long as one example does, and carries of those that are done stay as they are.
The code of a way not taken must do no harm (see `Examples.active`): what cannot be kept from it (calls of Python functions,
factorisations) is run for one example after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.dtypes import int64
from graphc.ir.batching import (
    Batched,
    Examples,
    batch_graph,
    batch_values,
    is_guardable,
    mask_type,
    spread_mask,
    with_axis,
)
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, input_value
from graphc.ir.op import Builder
from graphc.ir.types import TOKEN, TensorType, Type

__all__ = ["batch_cond", "batch_scan", "batch_while", "in_turn"]

Flags = list[bool]


def _chosen(b: Builder, mask: Any, x: Any, y: Any, batched: tuple[bool, bool], size: Any) -> tuple[Any, bool]:
    """x for the examples of the mask, y for the others; what is the same for both stays as it is."""
    if x is y:
        return x, batched[0]
    x, y = with_axis(b, x, batched[0], size), with_axis(b, y, batched[1], size)
    return b.select(spread_mask(b, mask, x), x, y), True


def _guard(examples: Examples) -> list[Any]:
    return [] if examples.active is None else [examples.active]


# -- cond -----------------------------------------------------------------------------------------------------------------


def batch_cond(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, then: Graph, else_: Graph
) -> Batched:
    """The rule of `cond`: a predicate that is the same for all chooses a batched graph, else each example chooses a result."""
    predicate, *captures = operands
    if (batched[0] or examples.active is not None) and not (is_guardable(then) and is_guardable(else_)):
        return in_turn("cond")(b, operands, batched, examples, then=then, else_=else_)
    if batched[0]:
        return _both(b, predicate, captures, batched[1:], examples, then, else_)
    size, guarded = examples.size, examples.active is not None
    flags = [batch_graph(b, g, batched[1:], size, guarded=guarded)[1] for g in (then, else_)]
    joined = [x or y for x, y in zip(*flags, strict=True)]
    graphs = [batch_graph(b, g, batched[1:], size, outputs=joined, guarded=guarded)[0] for g in (then, else_)]
    results = _applied(b, "cond", (predicate, *captures, *_guard(examples)), then=graphs[0], else_=graphs[1])
    return results, joined


def _both(
    b: Builder,
    predicate: Any,
    captures: Sequence[Any],
    batched: Sequence[bool],
    examples: Examples,
    then: Graph,
    else_: Graph,
) -> Batched:
    taken, left = predicate, b.logical_not(predicate)
    if examples.active is not None:
        taken, left = (b.bitwise_and(examples.active, mask) for mask in (taken, left))
    ways = []
    for graph, mask in ((then, taken), (else_, left)):
        guard = None if is_harmless(graph) else mask
        ways.append(batch_values(b, graph, captures, batched, Examples(examples.size, guard)))
    (xs, x_flags), (ys, y_flags) = ways
    pairs = zip(xs, ys, zip(x_flags, y_flags, strict=True), strict=True)
    chosen = [_chosen(b, predicate, x, y, flags, examples.size) for x, y, flags in pairs]
    return [x for x, _ in chosen], [flag for _, flag in chosen]


def is_harmless(graph: Graph) -> bool:
    """Whether a graph may be run for examples that do not want it, without a guard."""
    return not any(node.op.fallible or node.op.effect or node.op.guards for node in graph.nodes)


def _applied(b: Builder, name: str, operands: Sequence[Any], **attrs: Any) -> list[Any]:
    results = getattr(b, name)(*operands, **attrs)
    return list(results) if isinstance(results, tuple) else [results]


# -- while_loop -----------------------------------------------------------------------------------------------------------


def batch_while(
    b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, cond: Graph, body: Graph
) -> Batched:
    """The rule of `while_loop`: a condition that is the same for all rules a batched loop, else the loop goes on as long as one
    example goes on."""
    safe = is_guardable(cond) and is_guardable(body)
    if examples.active is not None and not safe:
        return in_turn("while_loop")(b, operands, batched, examples, cond=cond, body=body)
    flags, parted = _loop_flags(b, batched, examples, cond, body)
    if parted and not safe:
        return in_turn("while_loop")(b, operands, batched, examples, cond=cond, body=body)
    begun = _with_axes(b, operands, batched, flags, examples.size)
    kept = flags[: len(body.outputs)]
    if not parted:
        going, _ = batch_graph(b, cond, flags, examples.size)
        turned, _ = batch_graph(b, body, flags, examples.size, outputs=kept)
        return _applied(b, "while_loop", begun, cond=going, body=turned), [*kept, False]
    return _parted_loop(b, begun, flags, examples, cond, body), [*kept, True]


def _with_axes(b: Builder, operands: Sequence[Any], batched: Sequence[bool], flags: Flags, size: Any) -> list[Any]:
    return [with_axis(b, x, own, size) if flag else x for x, own, flag in zip(operands, batched, flags, strict=True)]


def _loop_flags(
    b: Builder, batched: Sequence[bool], examples: Examples, cond: Graph, body: Graph
) -> tuple[Flags, bool]:
    """Which carries are batched, and whether examples end at different times: the least flags that the loop preserves. Where
    examples part, so does every carry that the body changes."""
    flags, size, guarded = list(batched), examples.size, examples.active is not None
    changed = [out is not x for out, x in zip(body.outputs, body.input_values(), strict=False)]
    constants = flags[len(body.outputs) :]
    while True:
        (apart,) = batch_graph(b, cond, flags, size, guarded=guarded)[1]
        parted = apart or guarded
        found = batch_graph(b, body, flags, size, guarded=guarded)[1]
        new = [old or out or (parted and c) for old, out, c in zip(flags, found, changed, strict=False)] + constants
        if new == flags:
            return flags, parted
        flags = new


def _parted_loop(
    b: Builder, carries: Sequence[Any], flags: Flags, examples: Examples, cond: Graph, body: Graph
) -> list[Any]:
    """The loop whose first carries are the mask of the examples that go on and how often each did."""
    size = examples.size
    going = _condition(b, cond, carries, flags, examples)
    steps = b.full((size,), 0, int64)
    types = [mask_type(size), b.type(steps), *(b.type(x) for x in carries)]
    mask, count, *inner = (input_value(i, t) for i, t in enumerate(types))
    new, new_flags = batch_values(b, body, inner, flags, Examples(size, mask))
    kept = []
    for x, y, old_flag, flag in zip(inner, new, flags, new_flags, strict=False):
        kept.append(_chosen(b, mask, y, x, (flag, old_flag), size)[0])
    constants = inner[len(kept) :]
    still = _condition(b, cond, [*kept, *constants], flags, Examples(size, mask))
    again = Graph(tuple(types), (b.any(mask, axes=(0,)),), cond.name, (), cond.locations)
    counted = b.add(count, b.convert(mask, dtype=int64))
    turned = Graph(tuple(types), (still, counted, *kept), body.name, (), body.locations)
    results = _applied(b, "while_loop", (going, steps, *carries), cond=again, body=turned)
    return [*results[2:-1], results[1]]


def _condition(b: Builder, cond: Graph, carries: Sequence[Any], flags: Flags, examples: Examples) -> Any:
    """bool[size]: the examples, of those that count, for which the condition holds."""
    guard = None if is_harmless(cond) else examples.active
    (holds,), (flag,) = batch_values(b, cond, carries, flags, Examples(examples.size, guard))
    holds = with_axis(b, holds, flag, examples.size)
    return holds if examples.active is None else b.bitwise_and(holds, examples.active)


# -- scan -------------------------------------------------------------------------------------------------------------------


def batch_scan(
    b: Builder,
    operands: Sequence[Any],
    batched: Sequence[bool],
    examples: Examples,
    body: Graph,
    carries: int,
    stacked: int,
    length: Dim,
    reverse: bool,
) -> Batched:
    """The rule of `scan`: one loop whose body does all examples; they stand behind the axis of the sequences."""
    attrs = {"carries": carries, "stacked": stacked, "length": length, "reverse": reverse}
    guarded = examples.active is not None
    if guarded and not is_guardable(body):
        return in_turn("scan")(b, operands, batched, examples, body=body, **attrs)
    flags = list(batched)
    while True:
        outward = batch_graph(b, body, flags, examples.size, guarded=guarded)[1]
        new = [old or out for old, out in zip(flags[:carries], outward[:carries], strict=True)] + flags[carries:]
        if new == flags:
            break
        flags = new
    found = [*flags[:carries], *outward[carries:]]
    turned, _ = batch_graph(b, body, flags, examples.size, outputs=found, guarded=guarded)
    begun = _with_axes(b, operands, batched, flags, examples.size)
    for k in range(carries, carries + stacked):
        begun[k] = _exchanged(b, begun[k]) if flags[k] else begun[k]
    results = _applied(b, "scan", (*begun, *_guard(examples)), body=turned, **attrs)
    for k in range(carries, len(results)):
        results[k] = _exchanged(b, results[k]) if found[k] else results[k]
    return results, found


def _exchanged(b: Builder, x: Any) -> Any:
    """The first two axes in each other's place."""
    return b.transpose(x, perm=(1, 0, *range(2, len(b.type(x).shape))))


# -- one after the other ----------------------------------------------------------------------------------------------------


def in_turn(name: str) -> Callable[..., Batched]:
    """The rule of an op that is applied to one example after the other, in order, and to those that count only: a `scan` over
    the examples. Effects keep that order."""

    def rule(b: Builder, operands: Sequence[Any], batched: Sequence[bool], examples: Examples, **attrs: Any) -> Batched:
        one = [_example(x.type, flag) for x, flag in zip(operands, batched, strict=True)]
        step = Graph(tuple(one), _results(b, name, one, attrs), name)
        # Tokens are carries, batched operands sequences, and so is the mask; the others are constants.
        tokens = [k for k, t in enumerate(one) if t == TOKEN]
        stacked = [k for k, flag in enumerate(batched) if flag]
        order = [*tokens, *stacked, *(k for k, t in enumerate(one) if t != TOKEN and not batched[k])]
        guard = _guard(examples)
        place = len(tokens) + len(stacked)
        types = [one[k] for k in order]
        types[place:place] = [TensorType(x.tensor.dtype, ()) for x in guard]
        inner = [input_value(i, t) for i, t in enumerate(types)]
        mask = [inner.pop(place) for _ in guard]
        xs = [inner[order.index(k)] for k in range(len(one))]
        ys = _applied(b, "cond", (*mask, *xs), then=step, else_=_nothing(b, step)) if mask else _given(b, step, xs)
        turned = Graph(tuple(types), tuple(sorted(ys, key=lambda y: y.type != TOKEN)), name)
        given = [operands[k] for k in order]
        given[place:place] = guard
        attributes = {"carries": len(tokens), "stacked": len(stacked) + len(guard), "length": examples.size}
        found = _applied(b, "scan", given, body=turned, reverse=False, **attributes)
        left, arrays = iter(found[: len(tokens)]), iter(found[len(tokens) :])
        is_array = [v.type != TOKEN for v in step.outputs]
        return [next(arrays) if flag else next(left) for flag in is_array], is_array

    return rule


def _example(type_: Type, batched: bool) -> Type:
    return TensorType(type_.dtype, type_.shape[1:]) if batched and isinstance(type_, TensorType) else type_


def _results(b: Builder, name: str, types: Sequence[Type], attrs: Any) -> tuple[Any, ...]:
    return tuple(_applied(b, name, [input_value(i, t) for i, t in enumerate(types)], **attrs))


def _given(b: Builder, graph: Graph, operands: Sequence[Any]) -> Sequence[Any]:
    """A graph's outputs on operands."""
    return batch_values(b, graph, operands, [False] * len(operands), Examples(1))[0]


def _nothing(b: Builder, step: Graph) -> Graph:
    """Zeros in place of a step's results; tokens pass."""
    tokens = iter([x for x in step.input_values() if x.type == TOKEN])
    kinds = [v.type for v in step.outputs]
    results = [b.full(t.shape, 0, t.dtype) if isinstance(t, TensorType) else next(tokens) for t in kinds]
    return Graph(step.inputs, tuple(results), step.name)
