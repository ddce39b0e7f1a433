"""Batching: from a graph of one example to one of many. Layer 1, ir.

A batched value has the examples along axis 0; all other values are the same for each of them and stay as they are. The rules
are the ops' (`Op.batch`); this module walks graphs and holds what the rules have in common. Values are graph values.

    (x: f32[3], w: f32[3]) -> (sum(x * w), 2 * w)   with x batched by 5   -->
    (x: f32[5, 3], w: f32[3]) -> (sum(x * broadcast(w), axis 1), 2 * w)

Where examples take different ways (a branch, a loop that ends at different times) code runs for all of them and a mask,
`Examples.active`, says for which ones it counts: what can fail must not fail for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc.dtypes import bool_, float32
from graphc.errors import BatchError
from graphc.ir.dims import Dim
from graphc.ir.graph import Attribute, Graph, Node, Value, input_value, locate
from graphc.ir.location import Location
from graphc.ir.types import TensorType, Type

if TYPE_CHECKING:
    from graphc.ir.op import Builder, Op

__all__ = [
    "BatchRule",
    "Batched",
    "Examples",
    "batch_graph",
    "batch_type",
    "batch_values",
    "is_guardable",
    "mask_type",
    "moved",
    "no_rule",
    "on_examples",
    "spread_mask",
    "through",
    "with_axis",
    "with_axis_all",
]

Batched = tuple[Sequence[Any], Sequence[bool]]
"""Results of a rule, and which of them are batched."""

BatchRule = Callable[..., Batched]
"""`rule(b, operands, batched, examples, **attrs)`"""


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples that a rule computes: `size` of them; `active` (bool[size], or None for all) are those that count."""

    size: Dim
    active: Any = None


# -- what rules have in common ------------------------------------------------------------------------------------------


def batch_type(type_: Type, size: Dim) -> Type:
    """The type of a batched value."""
    assert isinstance(type_, TensorType), "effects have no examples"
    return TensorType(type_.dtype, (size, *type_.shape))


def with_axis(b: Builder, x: Any, batched: bool, size: Dim) -> Any:
    """x with the examples along axis 0: repeated if it is not batched."""
    return x if batched else b.broadcast(x, shape=(size, *b.type(x).shape))


def with_axis_all(b: Builder, operands: Sequence[Any], batched: Sequence[bool], size: Dim) -> list[Any]:
    """`with_axis` of several values."""
    return [with_axis(b, x, flag, size) for x, flag in zip(operands, batched, strict=True)]


def moved(b: Builder, x: Any, source: int, target: int) -> Any:
    """x with axis `source` at place `target`, the other axes in order."""
    if source == target:
        return x
    axes = [a for a in range(b.type(x).rank) if a != source]
    axes.insert(target, source)
    return b.transpose(x, perm=tuple(axes))


def spread_mask(b: Builder, mask: Any, like: Any) -> Any:
    """bool[size] for each element of a batched value."""
    shape = b.type(like).shape
    if len(shape) == 1:
        return mask
    return b.broadcast(b.reshape(mask, shape=(shape[0], *(1,) * (len(shape) - 1))), shape=shape)


def on_examples(b: Builder, op: Op, operands: Sequence[Any], batched: Sequence[bool], attrs: Any, size: Dim) -> Batched:
    """Apply an op for which the examples' axis is one more leading axis. Every operand gets it; `op.shifted` has the
    attributes."""
    operands = with_axis_all(b, operands, batched, size)
    results = b.apply(op, tuple(operands), dict(op.shifted(attrs, size)))
    return results, (True,) * len(results)


def through(
    b: Builder,
    build: Callable[..., Any],
    operands: Sequence[Any],
    batched: Sequence[bool],
    examples: Examples,
) -> Batched:
    """Batch what `build(b, *operands)` makes of other ops for one example. 16-bit floats are computed in float32."""
    types = [_example_type(b.type(x), flag) for x, flag in zip(operands, batched, strict=True)]
    inputs = [input_value(i, t) for i, t in enumerate(types)]
    wide = [b.convert(x, dtype=float32) if x.dtype.is_short_float else x for x in inputs]
    made = build(b, *wide)
    results = made if isinstance(made, tuple) else (made,)
    if any(x is not y for x, y in zip(wide, inputs, strict=True)):
        results = tuple(b.convert(y, dtype=types[0].dtype) if y.dtype is float32 else y for y in results)
    return batch_values(b, Graph(tuple(types), results), operands, batched, examples)


def _example_type(type_: TensorType, batched: bool) -> TensorType:
    return TensorType(type_.dtype, type_.shape[1:]) if batched else type_


# -- graphs -------------------------------------------------------------------------------------------------------------


def is_guardable(graph: Graph) -> bool:
    """Whether nothing in a graph (or in the graphs that it holds) can fail or have an effect for examples that do not count."""
    return all(
        not node.op.effect and (not node.op.fallible or node.op.guards) and all(map(is_guardable, _held(node.attrs)))
        for node in graph.nodes
    )


def _held(attrs: Mapping[str, Attribute]) -> list[Graph]:
    found: list[Graph] = []
    for value in attrs.values():
        items = value if isinstance(value, tuple) else (value,)
        found += [item for item in items if isinstance(item, Graph)]
    return found


def batch_values(
    b: Builder,
    graph: Graph,
    operands: Sequence[Any],
    batched: Sequence[bool],
    examples: Examples,
    located: dict[Node, tuple[Location, ...]] | None = None,
) -> Batched:
    """The outputs of `graph` on operands of which those marked are batched, and which outputs are batched. What no batched
    value goes into is computed once. Locations are added to `located`."""
    values: dict[Value, tuple[Any, bool]] = {}
    for node in graph.nodes:
        if node.op.name == "input":
            index = node.attrs["index"]
            values[node.result] = operands[index], batched[index]
            continue
        inner = [values[v] for v in node.operands]
        results, flags = _batch_node(b, node, [x for x, _ in inner], [flag for _, flag in inner], examples)
        values.update(zip(node.results, zip(results, flags, strict=True), strict=True))
        where = graph.locations.get(node, ())
        if located is not None:
            for result in results:
                locate(result.node, where, located)
    outputs = [values[v] for v in graph.outputs]
    return [x for x, _ in outputs], [flag for _, flag in outputs]


def _batch_node(b: Builder, node: Node, operands: list[Any], batched: list[bool], examples: Examples) -> Batched:
    op = node.op
    if not any(batched) and (examples.active is None or not op.guards):
        assert examples.active is None or not op.fallible, op.name
        return b.apply(op, tuple(operands), dict(node.attrs)), (False,) * len(node.results)
    results, flags = op.batch(b, operands, batched, node.attrs, examples)
    assert len(results) == len(flags) == len(node.results), op.name
    return results, flags


def batch_graph(
    b: Builder,
    graph: Graph,
    batched: Sequence[bool],
    size: Dim,
    *,
    outputs: Sequence[bool] | None = None,
    guarded: bool = False,
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph of `size` examples at once, and which of its outputs are batched: at least those marked in `outputs`. If
    `guarded`, it has one more input, the last: bool[size], the examples that count.

    Raises
    ------
    BatchError
        If an op has no rule.
    """
    types = [batch_type(t, size) if flag else t for t, flag in zip(graph.inputs, batched, strict=True)]
    values = [input_value(i, t) for i, t in enumerate(types)]
    active = None
    if guarded:
        active = input_value(len(types), mask_type(size))
        types.append(active.type)
    located: dict[Node, tuple[Location, ...]] = {}
    results, flags = batch_values(b, graph, values, batched, Examples(size, active), located)
    wanted = [False] * len(flags) if outputs is None else outputs
    results = [with_axis(b, x, flag, size) if want else x for x, flag, want in zip(results, flags, wanted, strict=True)]
    names = graph.names and (*graph.names, *(["active"] if guarded else []))
    found = tuple(flag or want for flag, want in zip(flags, wanted, strict=True))
    return Graph(tuple(types), tuple(results), graph.name, tuple(names), located), found


def mask_type(size: Dim) -> TensorType:
    """The type of `Examples.active`."""
    return TensorType(bool_, (size,))


def no_rule(op: Op) -> BatchError:
    """The error for an op that says nothing about batches."""
    return BatchError(
        f"{op.name} (of kind {op.kind}) has no batching rule",
        hint="Apply it outside of gx.vmap, or to each example in a loop (gx.map, gx.scan).",
    )
