"""Running a graph op by op through the door of all ops. Layer 5.

The tape, an enclosing trace and an enclosing transformation see its nodes as if the user had applied them.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.errors import GradientError, HostCallError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, apply
from graphc.frontend.trace import Trace, Traced
from graphc.ir.graph import Graph, Node, Value, last_uses, make
from graphc.ir.types import TOKEN, TensorType

__all__ = ["replay"]


def replay(graph: Graph, operands: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The outputs of `graph` on tensors (None for a token, here and there). Effects happen in order. For a trace that counts
    the ops of a line, all are one."""
    trace = context.trace.get()
    if trace is None or trace.patience is None:
        return _replay(trace, graph, operands)
    patience, trace.patience = trace.patience, None
    try:
        found = _replay(trace, graph, operands)
    finally:
        trace.patience = patience
    trace.count(user_location())
    return found


def _replay(trace: Trace | None, graph: Graph, operands: Sequence[Tensor | None]) -> list[Tensor | None]:
    nodes = graph.nodes
    dying = last_uses(nodes, graph.outputs)
    values: dict[Value, Tensor | None] = {}
    for node in nodes:
        if node.op.name == "input":
            values[node.result] = operands[node.attrs["index"]]
        else:
            results = _apply(trace, node, [values[v] for v in node.operands])
            values.update(zip(node.results, results, strict=True))
            if trace is not None:
                _locate(trace, graph, node, results)
        for dead in dying.get(node, ()):
            for value in dead.results:
                del values[value]
    return [values[v] for v in graph.outputs]


def _apply(trace: Trace | None, node: Node, operands: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    tensors = [t for t in operands if t is not None]
    if len(tensors) == len(operands) and TOKEN not in node.types:
        return apply(node.op, tensors, node.attrs)
    if node.op.name == "create_token":
        return [None]
    if any(t.requires_grad for t in tensors) and any(
        isinstance(t, TensorType) and t.dtype.is_float for t in node.types
    ):
        raise GradientError(
            message(
                f"{node.op.name} has effects and no derivative, and a gradient is recorded through it",
                location=user_location(),
                hint="Cut the gradient off with .detach(), or compute under gx.no_grad().",
            )
        )
    if trace is None:
        arrays = [None if t is None else t._array for t in operands]
        try:
            found = node.op.evaluate(arrays, node.attrs)
        except HostCallError as error:
            raise error.at(user_location()) from None
        return [None if y is None else Tensor(y) for y in found]
    token = make("create_token").result if trace.token is None else trace.token
    made = trace.emit(node.op, tuple(token if t is None else trace.value_of(t) for t in operands), node.attrs)
    trace.token = next(v for v in made.results if v.type == TOKEN)
    return [None if v.type == TOKEN else Traced(trace, v) for v in made.results]


def _locate(trace: Trace, graph: Graph, node: Node, results: Sequence[Tensor | None]) -> None:
    """The places of the graph's node come before the place of the call."""
    made = next((trace.value_of(t).node for t in results if t is not None), None)
    if made is not None:
        inner = graph.locations.get(node, ())
        trace.locations[made] = (*inner, *(w for w in trace.locations.get(made, ()) if w not in inner))
