"""The table of emitters: which function writes the kernel of a node. Layer 4, codegen.

Every kernel is made from a *body*, a closed graph, and the name of a *schedule*: those of a `fused` node are its own, any
other node that needs a kernel is a body of one node. Kernels with equal bodies, schedules and aliases are one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.artifact import Failure
from graphc.codegen.actions import Check
from graphc.codegen.body import in_place
from graphc.codegen.contraction import emit_contraction
from graphc.codegen.emitted import Emitted
from graphc.codegen.loop import emit_loop
from graphc.codegen.rows import emit_cumulative, emit_sort
from graphc.codegen.scatter import emit_scatter
from graphc.dtypes import uint64
from graphc.errors import BoundsError, CompileError, message
from graphc.ir.access import is_view
from graphc.ir.graph import Graph, Node, Value, input_value, make, topological
from graphc.ir.op import (
    Contraction,
    Control,
    Cumulative,
    Elementwise,
    Fused,
    Host,
    Indexing,
    Movement,
    Random,
    Reduction,
    Sorting,
    Special,
    run_graph,
)
from graphc.ir.types import TensorType
from graphc.ops.indexing import bounds_message

__all__ = [
    "EMITTERS",
    "Emitter",
    "Job",
    "indexing_label",
    "is_control",
    "is_nothing",
    "job_of",
    "may_overwrite",
    "range_checks",
    "require_kernels",
]

Emitter = Callable[..., Emitted]
"""`emitter(name, body, aliases, target, contract=...)`."""

#: Schedule to emitter.
EMITTERS: Mapping[str, Emitter] = {
    "loop": emit_loop,
    "contraction": emit_contraction,
    "scatter": emit_scatter,
    "cumulative": emit_cumulative,
    "sort": emit_sort,
}

#: The schedule of a node that is not fused, by its kind.
_SCHEDULES: tuple[tuple[type, str], ...] = (
    (Elementwise, "loop"),
    (Movement, "loop"),
    (Reduction, "loop"),
    (Random, "loop"),
    (Special, "loop"),
    (Contraction, "contraction"),
    (Control, "control"),
    (Cumulative, "cumulative"),
    (Sorting, "sort"),
    (Host, "host"),
)


def is_control(node: Node) -> bool:
    """Whether a node holds graphs that it runs as whole functions: branches and loops."""
    return isinstance(node.op, Control) and any(isinstance(a, Graph) for a in node.attrs.values())


def is_nothing(node: Node) -> bool:
    """Whether nothing has to be done for a node: no result has an element, and there is no effect."""
    return not node.op.effect and all(t.size == 0 for t in node.types if isinstance(t, TensorType))


@dataclass(frozen=True, slots=True)
class Job:
    """A kernel to make."""

    body: Graph
    schedule: str

    def key(self, aliases: Mapping[int, int]) -> Any:
        """What equal kernels have in common."""
        return self.schedule, self.body.key, tuple(sorted(aliases.items()))


def job_of(node: Node) -> Job:
    """The kernel of a node.

    Raises
    ------
    CompileError
        If no emitter exists for such nodes.
    """
    if isinstance(node.op, Fused):
        return Job(node.attrs["body"], node.attrs["schedule"])
    schedule = _schedule(node)
    operands = [input_value(i, v.type) for i, v in enumerate(node.operands)]
    made = make(node.op, operands, **node.attrs)
    return Job(Graph(tuple(v.type for v in node.operands), made.results, node.op.name), schedule)


def _schedule(node: Node) -> str:
    if isinstance(node.op, Indexing):
        return "loop" if node.op.combine is None else "scatter"
    for kind, schedule in _SCHEDULES:
        if isinstance(node.op, kind) and (kind is not Control or is_control(node)):
            return schedule
    raise CompileError(f"there is no kernel for {node.op.name} ({node.op.kind}) yet")


def require_kernels(graph: Graph) -> None:
    """Refuse a graph with a node that no emitter takes.

    Raises
    ------
    CompileError
        With the op's name and, where it is known, the user's line.
    """
    for node in graph.nodes:
        if node.op.name in ("input", "constant") or is_view(node) or is_nothing(node):
            continue
        try:
            job_of(node)
        except CompileError as fault:
            where = graph.locations.get(node, ())
            raise CompileError(message(str(fault), location=where[0] if where else None)) from None


def may_overwrite(node: Node, operand: int, result: int) -> bool:
    """Whether the node's kernel may write `result` over the memory of `operand`, which no other operand shares. A loop's
    carries may begin where they are kept."""
    if is_control(node):
        return operand == result and result < carried(node)
    if isinstance(node.op, Host):
        return False
    job = job_of(node)
    return operand == 0 if job.schedule == "scatter" else in_place(job.body, operand, result)


def carried(node: Node) -> int:
    """How many carries a control node has."""
    if node.op.name == "while_loop":
        return len(node.results) - 1
    return int(node.attrs["carries"]) if node.op.name == "scan" else 0


def range_checks(node: Node) -> Iterable[Check]:
    """The range checks that a node's kernel needs: for each fallible indexing in it, of indices that are its operands."""
    if isinstance(node.op, Indexing):
        yield from _checks_of(node, {}, node)
    elif isinstance(node.op, Fused):
        outer = dict(enumerate(node.operands))
        for inner in node.attrs["body"].nodes:
            if isinstance(inner.op, Indexing):
                yield from _checks_of(inner, outer, node)


def _checks_of(inner: Node, outer: Mapping[int, Value], node: Node) -> Iterable[Check]:
    x, indices = inner.operands[:2]
    axis, mode = inner.attrs["axis"], inner.attrs["mode"]
    size = x.shape[axis]
    if mode != "raise" and isinstance(size, int) and size > 0:
        return
    if outer:
        if not any(n.op.name == "input" for n in topological([indices])):
            _check_constant(inner, indices)
            return
        if indices.node.op.name != "input":
            raise CompileError(f"the indices of {inner.op.name} must be an operand of its kernel")
        indices = outer[indices.node.attrs["index"]]
    detail = "{unsigned}" if indices.dtype is uint64 else "{detail}"
    text = f"{inner.op.name}: index {detail} is out of bounds for axis {axis} with size {size}"
    yield Check(indices, size, mode, Failure("BoundsError", text, indexing_label(inner)))


def _check_constant(inner: Node, indices: Value) -> None:
    """Indices that are known now are checked now."""
    (array,) = run_graph(Graph((), (indices,)), ())
    size = inner.operands[0].shape[inner.attrs["axis"]]
    if not isinstance(size, int):
        raise CompileError(f"{inner.op.name}: constant indices into an axis of unknown size {size}")
    outside = array[(array < -size) | (array >= size)] if inner.attrs["mode"] == "raise" else array[:0]
    if outside.size:
        raise BoundsError(bounds_message(int(outside.flat[0]), inner.attrs["axis"], size))


def indexing_label(node: Node) -> str:
    """What names a fallible node in an artifact's table of failures: op, operand types and axis. An artifact keeps no source
    lines; the caller finds the nodes with this label in its own trace."""
    types = " ".join(str(v.type) for v in node.operands[:2])
    return f"{node.op.name} {types} axis {node.attrs['axis']}"
