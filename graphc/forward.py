"""Forward-mode differentiation: the one driver of `gx.jvp` on the tape and of the pass that does it to graphs. Layer 2.

The driver walks steps (applications of ops) from first to last and asks each op for its results' tangents. A tangent is a
pair (value, mask), as a cotangent is in `graphc.reverse`: `value` where the mask holds and exactly zero elsewhere. Masks
come from selections and travel through elementwise ops, so that an infinite partial derivative never meets the zero of a
side that was not taken; any op of another kind gets them resolved.

Rules are not written twice. Kinds derive the forward rule from what their ops declare (`Op.push_forward`); where a kind does
not, the op's reverse rule is transposed here: a vector-Jacobian product is linear in the cotangent, so its derivative by the
cotangent, taken by the reverse driver, is the Jacobian-vector product.

Source of the transposition: Griewank and Walther, Evaluating Derivatives (SIAM, 2008), section 3.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from graphc.errors import GradientError, NoDerivativeError
from graphc.ir.graph import Attribute, Graph, Node, Value, full, input_value, locate
from graphc.ir.location import Location
from graphc.ir.op import Builder, GraphBuilder, Op, apply_graph, materialize
from graphc.ir.types import TensorType, Type
from graphc.reverse import Cotangents, Step, backpropagate

__all__ = ["Tangents", "jvp_graph", "push", "transpose", "transposed", "transposed_graph"]

Key = Hashable


class Tangents:
    """Tangents by key."""

    def __init__(self, b: Builder) -> None:
        self._b = b
        self._found: dict[Key, Any] = {}

    def set(self, key: Key, tangent: Any) -> None:
        """The tangent of `key`: a value or a pair."""
        self._found[key] = tangent

    def get(self, key: Key | None) -> Any:
        """A value, a pair, or None (zero)."""
        return None if key is None else self._found.get(key)

    def plain(self, key: Key | None) -> Any:
        """The tangent without a mask, or None; resolved once."""
        tangent = self.get(key)
        if isinstance(tangent, tuple):
            tangent = self._found[key] = materialize(self._b, tangent)
        return tangent


def push(b: Builder, steps: Iterable[Step], tangents: Tangents) -> None:
    """Propagate tangents through `steps`, which come first to last; results' tangents end in `tangents` under their keys.

    A step none of whose operands has a tangent is skipped: its results have none.

    Raises
    ------
    NoDerivativeError
        If a tangent meets an op without a derivative.
    """
    for step in steps:
        if all(tangents.get(key) is None for key in step.operand_keys):
            continue
        look = tangents.get if step.op.kind == "elementwise" else tangents.plain
        inward = [look(key) for key in step.operand_keys]
        outward = step.op.push_forward(b, step.operands, step.results, inward, step.attrs)
        if outward is NotImplemented:
            outward = transposed(b, step.op, step.operands, step.results, inward, step.attrs)
        for key, out in zip(step.result_keys, outward, strict=True):
            if out is not None:
                tangents.set(key, out)


# -- transposing a reverse rule ------------------------------------------------------------------------------------------


def transposed(
    b: Builder,
    op: Op,
    operands: Sequence[Any],
    results: Sequence[Any],
    tangents: Sequence[Any],
    attrs: Mapping[str, Attribute],
) -> list[Any]:
    """Tangents of an op's results from its reverse rule alone: the rule is written down as a graph of operands, results and
    cotangents, differentiated by the cotangents, and applied with the builder.

    Raises
    ------
    NoDerivativeError
        If the rule is not linear in the cotangents, or there is none.
    """
    types = [b.type(x) for x in (*operands, *results)]
    values = [input_value(i, t) for i, t in enumerate(types)]
    xs, ys = values[: len(operands)], values[len(operands) :]
    # Integer results have no cotangent; inputs after the operands and results stand for the cotangents, then tangents.
    smooth = [i for i, y in enumerate(ys) if _is_inexact(y.type)]
    moving = [i for i, t in enumerate(tangents) if t is not None and _is_inexact(xs[i].type)]
    if not smooth or not moving:
        return [None] * len(results)
    first = len(values)
    seeds = {i: input_value(first + k, ys[i].type) for k, i in enumerate(smooth)}
    pushed = {i: input_value(first + len(smooth) + k, xs[i].type) for k, i in enumerate(moving)}
    outward = op.differentiate(GraphBuilder(), xs, ys, [seeds.get(i) for i in range(len(ys))], attrs)
    pairs = [(outward[i], pushed[i]) for i in moving if outward[i] is not None]
    found = dict(zip(smooth, transpose(pairs, [seeds[i] for i in smooth], op.name), strict=True))
    outputs = {i: v for i, v in found.items() if v is not None}
    arguments = dict(enumerate((*operands, *results)))
    arguments.update({pushed[i].node.attrs["index"]: tangents[i] for i in moving})
    applied = dict(zip(outputs, apply_graph(b, Graph((), tuple(outputs.values())), arguments), strict=True))
    return [applied.get(i) for i in range(len(results))]


def transpose(pairs: Sequence[tuple[Any, Value]], seeds: Sequence[Value], name: str) -> list[Value | None]:
    """For values (or masked pairs) that are linear in the inputs `seeds`, each paired with its own cotangent: the cotangents
    of the seeds, None where nothing depends on one.

    Raises
    ------
    NoDerivativeError
        If a value is not linear in the seeds; `name` says whose rule it is.
    """
    b = GraphBuilder()
    cotangents = Cotangents(b)
    roots: list[Value] = []
    for outward, pushed in pairs:
        value, mask = outward if isinstance(outward, tuple) else (outward, None)
        cotangents.add(value, pushed, mask)
        roots.append(value)
    backpropagate(b, _backwards(_dependent(Graph((), tuple(roots)).nodes, [v.node for v in seeds])), cotangents)
    found = [cotangents.total(seed) for seed in seeds]
    origins = {v.node for v in seeds}
    if any(node in origins for node in Graph((), tuple(v for v in found if v is not None)).nodes):
        raise NoDerivativeError(
            f"the derivative of {name} is known in reverse mode only: its rule is not linear in the cotangent",
            hint="Use reverse mode (grad, vjp) for this function.",
        )
    return found


def transposed_graph(graph: Graph, first: int) -> Graph:
    """The transpose of a graph that is linear in its inputs from number `first` on: cotangents of the outputs take their
    places, and those of these inputs are the outputs (zeros where nothing depends on one).

    Raises
    ------
    NoDerivativeError
        If the graph is not linear in these inputs.
    """
    values = graph.input_values()
    free = [input_value(len(values) + k, v.type) for k, v in enumerate(graph.outputs)]
    found = transpose(list(zip(graph.outputs, free, strict=True)), values[first:], graph.name)
    total = [full(v.shape, 0.0, v.dtype) if t is None else t for v, t in zip(values[first:], found, strict=True)]
    places = dict(enumerate(values[:first]))
    places.update((len(values) + k, input_value(first + k, v.type)) for k, v in enumerate(graph.outputs))
    outputs = apply_graph(GraphBuilder(), Graph((), tuple(total)), places)
    return Graph((*graph.inputs[:first], *(v.type for v in graph.outputs)), outputs, f"{graph.name}_transposed")


def _dependent(nodes: Sequence[Node], on: Sequence[Node]) -> list[Node]:
    """The nodes, in order, that depend on some others: only these carry cotangents back to them."""
    known = set(on)
    found = []
    for node in nodes:
        if any(v.node in known for v in node.operands):
            known.add(node)
            found.append(node)
    return found


def _backwards(nodes: Sequence[Node]) -> Iterator[Step]:
    inside = set(nodes)
    for node in reversed(nodes):
        keys: list[Hashable] = [
            v if _is_inexact(v.type) and (v.node in inside or v.node.op.name == "input") else None
            for v in node.operands
        ]
        yield Step(node.op, node.attrs, node.operands, node.results, keys, node.results)


# -- whole graphs --------------------------------------------------------------------------------------------------------


def jvp_graph(
    graph: Graph, active: Sequence[bool] | None = None, always: Sequence[bool] | None = None
) -> tuple[Graph, tuple[bool, ...]]:
    """The Jacobian-vector product of a graph: `f(x...) -> (y...)` becomes `f_jvp(x..., dx...) -> (y..., dy...)`.

    Parameters
    ----------
    active
        Which inputs have a tangent (only floating-point ones can): their tangents become further inputs, in order. By
        default all floating-point inputs.
    always
        Which outputs get a tangent output even when it is zero (only floating-point ones can). By default none.

    Returns
    -------
    The graph, and which of the old outputs have a tangent among the new ones, which follow the old outputs in order.

    Raises
    ------
    NoDerivativeError
        If a tangent meets an op without a derivative.

    >>> from graphc.ir.parser import parse
    >>> text = '''graph "f"(%x: f64[], %n: i64[]) -> (f64[], i64[]) {
    ...   %0: f64[] = sin(%x)
    ...   return %0, %n
    ... }'''
    >>> graph, moving = jvp_graph(parse(text))
    >>> [str(t) for t in graph.inputs], moving
    (['f64[]', 'i64[]', 'f64[]'], (True, False))
    """
    values = graph.input_values()
    if active is None:
        active = [_is_inexact(v.type) for v in values]
    moving = [v for v, wanted in zip(values, active, strict=True) if wanted]
    if any(not _is_inexact(v.type) for v in moving):
        raise GradientError(f"{graph.name!r}: only floating-point inputs have tangents")
    pushed = [input_value(len(values) + k, v.type) for k, v in enumerate(moving)]
    b = GraphBuilder()
    tangents = Tangents(b)
    for value, tangent in zip(moving, pushed, strict=True):
        tangents.set(value, tangent)
    locations = dict(graph.locations)
    push(b, _forwards(graph, tangents, locations), tangents)
    found = [tangents.plain(v) for v in graph.outputs]
    if always is not None:
        for k, (output, wanted) in enumerate(zip(graph.outputs, always, strict=True)):
            if wanted and found[k] is None:
                found[k] = full(output.shape, 0.0, output.dtype)
    new = tuple(t for t in found if t is not None)
    names = graph.names and (*graph.names, *(f"tangent{k}" for k in range(len(pushed))))
    out = Graph(
        (*graph.inputs, *(v.type for v in pushed)),
        (*graph.outputs, *new),
        f"{graph.name}_jvp",
        tuple(names),
        locations,
    )
    return out, tuple(t is not None for t in found)


def _forwards(graph: Graph, tangents: Tangents, locations: dict[Node, tuple[Location, ...]]) -> Iterator[Step]:
    """Nodes from first to last; what the rule of a node makes gets the node's locations."""
    for node in graph.nodes:
        if node.op.name == "input":
            continue
        yield Step(node.op, node.attrs, node.operands, node.results, node.operands, node.results)
        for value in node.results:
            tangent = tangents.get(value)
            for made in tangent if isinstance(tangent, tuple) else (tangent,):
                if isinstance(made, Value):
                    locate(made.node, graph.locations.get(node, ()), locations)


def _is_inexact(type_: Type) -> bool:
    return isinstance(type_, TensorType) and type_.dtype.is_inexact
