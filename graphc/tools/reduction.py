"""Making a failing graph small. Layer 7.

`shrink` looks for the smallest part of a graph, with arguments, that still fails. It tries, again and again, whatever makes it
smaller: one output; an operand of the last node instead of it; inputs that hold a node's values instead of the node; an operand
instead of a node; the body of a composite, a branch or one turn of a loop instead of the node that holds it; smaller sizes.
What failing means is the caller's: results that differ, code that does not compile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.errors import GraphcError
from graphc.interp import evaluate_all
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value, input_value, make, rebuild
from graphc.ir.types import TensorType

__all__ = ["Case", "shrink"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A graph and arguments for it."""

    graph: Graph
    arrays: tuple[Array, ...]


Fails = Callable[[Case], bool]

#: What the interpreter and the constructors of nodes raise where a smaller graph has no meaning: its sizes do not fit, an index
#: is out of range, a matrix is singular.
_NO_CASE = (GraphcError, ArithmeticError, LookupError, TypeError, ValueError)


def shrink(case: Case, fails: Fails, seconds: float = 20.0) -> Case:
    """A smaller case that still fails: the same one if none is found.

    Parameters
    ----------
    case
        A graph of static sizes whose outputs are tensors or, last, tokens, with arguments that are legal for it.
    fails
        Whether a case shows the fault. It is only asked about cases that the interpreter evaluates.
    seconds
        When to stop looking.

    >>> from graphc.dtypes import float32
    >>> x = input_value(0, TensorType(float32, (8,)))
    >>> graph = Graph((x.type,), (make("exp", (make("tanh", (x,)).result * 2.0,)).result,))
    >>> found = shrink(Case(graph, (np.ones(8, np.float32),)), lambda c: any(n.op.name == "tanh" for n in c.graph.nodes))
    >>> [str(v.type) for v in found.graph.outputs], [n.op.name for n in found.graph.nodes]
    (['f32[1]'], ['input', 'tanh'])
    """
    end = time.monotonic() + seconds
    while True:
        smaller = next((c for c in _smaller(case) if time.monotonic() > end or (_is_legal(c) and fails(c))), None)
        if smaller is None or time.monotonic() > end:
            return case
        case = smaller


def _is_legal(case: Case) -> bool:
    try:
        _values(case)
    except (*_NO_CASE, AssertionError):
        return False
    return True


def _values(case: Case) -> dict[Value, Any]:
    """All values; what the graph prints is not wanted here."""
    with redirect_stdout(StringIO()):
        return evaluate_all(case.graph, case.arrays)


def _smaller(case: Case) -> Iterator[Case]:
    """Candidates, those that take most away first."""
    graph, arrays = case.graph, case.arrays
    yield from _fewer_outputs(case)
    nodes = [n for n in graph.nodes if n.op.name not in ("input", "constant") and _has_only_tensors(n)]
    ends = {v.node for v in graph.outputs}
    if len(graph.outputs) == 1:
        for operand in dict.fromkeys(v for v in graph.outputs[0].node.operands if v.node in set(nodes)):
            yield _pruned(Graph(graph.inputs, (operand,), graph.name), arrays)
    values = _values(case)
    for node in reversed(nodes):
        if node not in ends:
            yield _pruned(*_cut(graph, arrays, node, values))
    for node in reversed(nodes):
        for replacement in _replacements(node):
            yield _pruned(_replaced(graph, node, replacement), arrays)
    yield from _resized(case)


def _has_only_tensors(node: Node) -> bool:
    return all(isinstance(t, TensorType) for t in node.types)


def _fewer_outputs(case: Case) -> Iterator[Case]:
    """Each half of the outputs, then each output alone."""
    graph, outputs = case.graph, case.graph.outputs
    if len(outputs) > 1:
        half = len(outputs) // 2
        choices = [outputs[:half], outputs[half:]] if len(outputs) > 2 else []
        for chosen in (*choices, *((v,) for v in outputs)):
            yield _pruned(Graph(graph.inputs, tuple(chosen), graph.name), case.arrays)


def _cut(
    graph: Graph, arrays: Sequence[Array], node: Node, values: Mapping[Value, Any]
) -> tuple[Graph, tuple[Array, ...]]:
    """The node's results become inputs."""
    count = len(graph.inputs)
    fresh = [input_value(count + k, v.type) for k, v in enumerate(node.results)]

    def visit(old: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        return fresh if old is node else _remade(old, operands)

    inputs = (*graph.inputs, *(v.type for v in node.results))
    cut = rebuild(graph, visit, inputs=inputs, input_values=graph.input_values())
    return cut, (*arrays, *(np.ascontiguousarray(values[v]).reshape(np.shape(values[v])) for v in node.results))


def _remade(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
    return make(node.op, operands, **node.attrs).results


Replacement = Callable[[tuple[Value, ...]], Sequence[Value]]


def _replacements(node: Node) -> Iterator[Replacement]:
    """What may stand for a node, as functions of its operands: an operand of its type, and what the graphs that it holds do."""
    if len(node.results) == 1:
        for number, operand in enumerate(node.operands):
            if operand.type == node.result.type:
                yield lambda operands, number=number: [operands[number]]  # type: ignore[misc]
    for held in (a for a in node.attrs.values() if isinstance(a, Graph)):
        first = len(node.operands) - len(held.inputs)
        if [v.type for v in held.outputs] == [v.type for v in node.results]:
            yield (
                lambda operands, held=held, first=first: (  # type: ignore[misc]
                    rebuild(held, _remade, input_values=operands[first:]).outputs
                )
            )


def _replaced(graph: Graph, node: Node, replacement: Replacement) -> Graph:
    def visit(old: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        return replacement(operands) if old is node else _remade(old, operands)

    return rebuild(graph, visit)


def _pruned(graph: Graph, arrays: Sequence[Array]) -> Case:
    """Without inputs that nothing uses."""
    used = sorted({n.attrs["index"] for n in graph.nodes if n.op.name == "input"})
    inputs = tuple(graph.inputs[i] for i in used)
    values = [input_value(used.index(i) if i in used else i, t) for i, t in enumerate(graph.inputs)]
    pruned = rebuild(graph, _remade, inputs=inputs, input_values=values)
    return Case(Graph(inputs, pruned.outputs, graph.name), tuple(arrays[i] for i in used))


# -- sizes ------------------------------------------------------------------------------------------------------------

#: Attributes that hold sizes of results.
_SIZES = ("shape", "size")


def _resized(case: Case) -> Iterator[Case]:
    """One size made smaller wherever it occurs: in inputs, constants and attributes that say a result's size."""
    found = {
        d for v in (x for n in case.graph.nodes for x in n.results) if isinstance(v.type, TensorType) for d in v.shape
    }
    for old in sorted((d for d in found if isinstance(d, int) and d > 1), reverse=True):
        for new in dict.fromkeys((1, 2, old // 2, old - 1)):
            if 0 < new < old:
                try:
                    yield _pruned(_with_size(case.graph, old, new), [_part(x, old, new) for x in case.arrays])
                except _NO_CASE:
                    continue  # the sizes do not fit one another any more


def _part(array: Array, old: int, new: int) -> Array:
    return np.ascontiguousarray(array[tuple(slice(new if n == old else n) for n in array.shape)])


def _with_size(graph: Graph, old: int, new: int) -> Graph:
    def sized(attribute: Attribute) -> Attribute:
        if isinstance(attribute, Graph):
            return _with_size(attribute, old, new)
        if isinstance(attribute, TensorType):
            return TensorType(attribute.dtype, tuple(new if d == old else d for d in attribute.shape))
        return Literal(_part(attribute.array, old, new)) if isinstance(attribute, Literal) else attribute

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        attrs = {name: sized(a) for name, a in node.attrs.items()}
        for name in _SIZES:
            if isinstance(attrs.get(name), tuple):
                attrs[name] = tuple(new if d == old else d for d in attrs[name])
        return make(node.op, operands, **attrs).results

    inputs = tuple(sized(t) for t in graph.inputs)
    values = [input_value(i, t) for i, t in enumerate(inputs)]
    return rebuild(graph, visit, inputs=inputs, input_values=values)
