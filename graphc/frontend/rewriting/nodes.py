"""Control nodes around traced regions. Layer 5, rewriting.

The regions of one node capture different things; the node's operands are all of them, each once. What a region overwrites
becomes a result, which is written to the captured tensor after the node; effects go through on a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.errors import TraceError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Sub, assign
from graphc.frontend.tensor import Tensor, apply
from graphc.frontend.trace import Trace, Traced
from graphc.ir import registry
from graphc.ir.graph import Graph, Node, Value, input_value, make, rebuild
from graphc.ir.types import TOKEN, Type

__all__ = ["apply_cond", "apply_while"]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The operands that the regions of a node have in common, after `first` arguments of their own."""

    first: tuple[Type, ...]
    captures: tuple[Tensor, ...]
    written: tuple[Tensor, ...]
    detached: tuple[bool, ...]
    effects: bool

    @property
    def types(self) -> tuple[Type, ...]:
        """Types of all operands."""
        tokens = (TOKEN,) if self.effects else ()
        return (*self.first, *(t.type for t in self.captures), *tokens)

    def place(self, tensor: Tensor) -> int:
        """Which operand a captured tensor is."""
        return len(self.first) + next(i for i, t in enumerate(self.captures) if t is tensor)

    def fitted(self, sub: Sub) -> Graph:
        """The region's graph with these operands: its results, then the new values of all that any region overwrites,
        then the token."""
        types = self.types
        count = len(self.first)
        values = [input_value(i, t) for i, t in enumerate(self.first)]
        values += [input_value(self.place(t), t.type) for t in sub.captures]
        token = input_value(len(types) - 1, TOKEN) if self.effects else None
        if sub.effects and token is not None:
            values.append(token)
        assert len(values) == len(sub.graph.inputs), (count, sub.graph.inputs)

        def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
            return make(node.op, operands, **node.attrs).results

        graph = rebuild(sub.graph, visit, inputs=types, input_values=values)
        news = {id(sub.captures[w.capture]): graph.outputs[w.index] for w in sub.writes}
        writes = [news[id(t)] if id(t) in news else input_value(self.place(t), t.type) for t in self.written]
        last = () if token is None else (graph.outputs[-1] if sub.effects else token,)
        outputs = (*graph.outputs[: sub.outputs], *writes, *last)
        return Graph(types, outputs, sub.graph.name, (), graph.locations)

    def write_back(self, results: Sequence[Tensor]) -> None:
        """Give what regions have overwritten its new values."""
        for tensor, value, detached in zip(self.written, results, self.detached, strict=True):
            assign(tensor, value, detached=detached)


def _frame(first: tuple[Type, ...], subs: Sequence[Sub]) -> _Frame:
    captures = {id(t): t for sub in subs for t in sub.captures}
    written: dict[int, Tensor] = {}
    detached: dict[int, bool] = {}
    for sub in subs:
        for write in sub.writes:
            tensor = sub.captures[write.capture]
            written[id(tensor)] = tensor
            detached[id(tensor)] = write.detached and detached.get(id(tensor), True)
    return _Frame(
        first,
        tuple(captures.values()),
        tuple(written.values()),
        tuple(detached.values()),
        any(sub.effects for sub in subs),
    )


def _trace() -> Trace:
    trace = context.trace.get()
    assert trace is not None
    return trace


def _apply(name: str, frame: _Frame, operands: Sequence[Tensor], attrs: dict[str, Graph]) -> tuple[Tensor, ...]:
    """Apply a control op to the operands and the captures; with effects, through the trace's token."""
    op = registry.get(name)
    if not frame.effects:
        return apply(op, (*operands, *frame.captures), attrs)
    trace = _trace()
    if any(t.requires_grad for t in (*operands, *frame.captures)) and context.grad_enabled.get():
        raise TraceError(
            message(
                "a branch or loop with effects (debug.print, host calls) is differentiated",
                location=user_location(),
                hint="Take the effects out of the branch or loop, or put it under gx.no_grad().",
            )
        )
    token = make("create_token").result if trace.token is None else trace.token
    values = tuple(trace.value_of(t) for t in (*operands, *frame.captures))
    node = trace.emit(op, (*values, token), attrs)
    trace.token = node.results[-1]
    return tuple(Traced(trace, v) for v in node.results[:-1])


def apply_cond(condition: Tensor, then: Sub, orelse: Sub) -> tuple[Tensor, ...]:
    """The results of one region or the other."""
    frame = _frame((), (then, orelse))
    graphs = {"then": frame.fitted(then), "else_": frame.fitted(orelse)}
    results = _apply("cond", frame, (condition,), graphs)
    frame.write_back(results[then.outputs :])
    return results[: then.outputs]


def apply_while(body: Sub, initial: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Repeat the region as long as its first result, a bool, holds; its arguments and results are the carries `initial`."""
    frame = _frame(tuple(t.type for t in initial), (body,))
    graph = frame.fitted(body)
    count = len(initial)
    types = frame.types
    news = dict(zip(map(id, frame.written), graph.outputs[count:], strict=False))
    captures = [news.get(id(t), input_value(count + i, t.type)) for i, t in enumerate(frame.captures)]
    last = graph.outputs[-1:] if frame.effects else ()
    graph = Graph(types, (*graph.outputs[:count], *captures, *last), graph.name, (), graph.locations)
    test = Graph(types, (input_value(0, types[0]),), "condition")
    results = _apply("while_loop", frame, initial, {"cond": test, "body": graph})
    after = dict(zip(map(id, frame.captures), results[count:], strict=True))
    frame.write_back([after[id(t)] for t in frame.written])
    return results[:count]
