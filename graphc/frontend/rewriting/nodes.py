"""Control nodes around traced regions. Layer 5, rewriting.

The regions of one node capture different things; the node's operands are all of them, each once. What a region overwrites
becomes a result, which is written to the captured tensor after the node; effects go through on a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.errors import TraceError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Sub, assign
from graphc.frontend.tensor import Tensor, apply
from graphc.frontend.trace import Trace, Traced
from graphc.ir import registry
from graphc.ir.dims import Dim
from graphc.ir.graph import Attribute, Graph, Node, Value, input_value, make, rebuild
from graphc.ir.types import TOKEN, TensorType, Type

__all__ = ["apply_cond", "apply_scan", "apply_while"]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The operands that the regions of a node have in common: the carries, the captures that any region overwrites, a token
    if there are effects, the elements of sequences, and the other captures."""

    carries: tuple[Type, ...]
    written: tuple[Tensor, ...]
    effects: bool
    elements: tuple[Type, ...]
    constants: tuple[Tensor, ...]
    detached: tuple[bool, ...]

    @property
    def types(self) -> tuple[Type, ...]:
        """Types of all operands."""
        tokens = (TOKEN,) if self.effects else ()
        written, constants = (tuple(t.type for t in tensors) for tensors in (self.written, self.constants))
        return (*self.carries, *written, *tokens, *self.elements, *constants)

    @property
    def kept(self) -> int:
        """How many operands come before the elements: what a loop carries."""
        return len(self.carries) + len(self.written) + self.effects

    def place(self, tensor: Tensor) -> int:
        """Which operand a captured tensor is."""
        for i, t in enumerate(self.written):
            if t is tensor:
                return len(self.carries) + i
        first = self.kept + len(self.elements)
        return first + next(i for i, t in enumerate(self.constants) if t is tensor)

    def fitted(self, sub: Sub, carried: int) -> Graph:
        """The region's graph with these operands: its first `carried` results, the new values of all that any region
        overwrites, the token, and the other results."""
        types = self.types
        values = [input_value(i, t) for i, t in enumerate(self.carries)]
        values += [input_value(self.kept + i, t) for i, t in enumerate(self.elements)]
        values += [input_value(self.place(t), t.type) for t in sub.captures]
        token = input_value(self.kept - 1, TOKEN) if self.effects else None
        if sub.effects and token is not None:
            values.append(token)
        assert len(values) == len(sub.graph.inputs), (types, sub.graph.inputs)

        def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
            return make(node.op, operands, **node.attrs).results

        graph = rebuild(sub.graph, visit, inputs=types, input_values=values)
        news = {id(sub.captures[w.capture]): graph.outputs[w.index] for w in sub.writes}
        writes = [news[id(t)] if id(t) in news else input_value(self.place(t), t.type) for t in self.written]
        last = () if token is None else (graph.outputs[-1] if sub.effects else token,)
        outputs = (*graph.outputs[:carried], *writes, *last, *graph.outputs[carried : sub.outputs])
        return Graph(types, outputs, sub.graph.name, (), graph.locations)

    def split(self, results: Sequence[Tensor | None], carried: int) -> list[Tensor]:
        """A node's results without what regions have overwritten, which gets its new values, and without the token."""
        for tensor, value, detached in zip(self.written, results[carried:], self.detached, strict=False):
            assert value is not None
            assign(tensor, value, detached=detached)
        after = carried + len(self.written) + self.effects
        return [t for t in (*results[:carried], *results[after:]) if t is not None]


def _frame(carries: tuple[Type, ...], subs: Sequence[Sub], elements: tuple[Type, ...] = ()) -> _Frame:
    captures = {id(t): t for sub in subs for t in sub.captures}
    detached: dict[int, bool] = {}
    for sub in subs:
        for write in sub.writes:
            key = id(sub.captures[write.capture])
            detached[key] = write.detached and detached.get(key, True)
    return _Frame(
        carries,
        tuple(captures[key] for key in detached),
        any(sub.effects for sub in subs),
        elements,
        tuple(t for key, t in captures.items() if key not in detached),
        tuple(detached.values()),
    )


def _trace() -> Trace:
    trace = context.trace.get()
    assert trace is not None
    return trace


def _apply(
    name: str,
    frame: _Frame,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    attrs: Mapping[str, Attribute],
) -> tuple[Tensor | None, ...]:
    """Apply a control op to the operands and the captures; with effects, through the trace's token, which is None among the
    results."""
    op = registry.get(name)
    first, last = (*before, *frame.written), (*after, *frame.constants)
    if not frame.effects:
        return apply(op, (*first, *last), attrs)
    trace = _trace()
    if any(t.requires_grad for t in (*first, *last)) and context.grad_enabled.get():
        raise TraceError(
            message(
                "a branch or loop with effects (debug.print, host calls) is differentiated",
                location=user_location(),
                hint="Take the effects out of the branch or loop, or put it under gx.no_grad().",
            )
        )
    token = make("create_token").result if trace.token is None else trace.token
    front, back = (tuple(trace.value_of(t) for t in tensors) for tensors in (first, last))
    node = trace.emit(op, (*front, token, *back), attrs)
    trace.token = next(v for v in node.results if v.type == TOKEN)
    return tuple(None if v.type == TOKEN else Traced(trace, v) for v in node.results)


def apply_cond(condition: Tensor, then: Sub, orelse: Sub) -> list[Tensor]:
    """The results of one region or the other."""
    frame = _frame((), (then, orelse))
    graphs = {"then": frame.fitted(then, then.outputs), "else_": frame.fitted(orelse, then.outputs)}
    return frame.split(_apply("cond", frame, (condition,), (), graphs), then.outputs)


def apply_while(body: Sub, initial: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the region as long as its first result, a bool, holds; its arguments and results are the carries `initial`."""
    types = tuple(t.type for t in initial)
    frame = _frame(types, (body,))
    test = Graph(frame.types, (input_value(0, types[0]),), "condition")
    graphs = {"cond": test, "body": frame.fitted(body, len(types))}
    return frame.split(_apply("while_loop", frame, initial, (), graphs)[:-1], len(types))


def apply_scan(
    body: Sub, initial: Sequence[Tensor], sequences: Sequence[Tensor], length: Dim, *, reverse: bool
) -> list[Tensor]:
    """Run the region `length` times; its arguments are the carries `initial` and an element of each sequence, its results the
    new carries and what is stacked."""
    count = len(initial)
    elements = tuple(TensorType(t.type.dtype, t.type.shape[1:]) for t in sequences)
    frame = _frame(tuple(t.type for t in initial), (body,), elements)
    attrs = {
        "body": frame.fitted(body, count),
        "carries": frame.kept,
        "stacked": len(sequences),
        "length": length,
        "reverse": reverse,
    }
    return frame.split(_apply("scan", frame, initial, sequences, attrs), count)
