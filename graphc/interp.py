"""The reference evaluator: runs a graph by each op's NumPy definition. Layer 3.

It is what compiled code is measured by, and what GRAPHC=check runs. Graphs with symbolic sizes are specialised first, to
the sizes that the arguments have. `NumpyBuilder` applies derivative rules to plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import DTypeError, InterpreterError, ShapeError, message
from graphc.forward import Tangents, push
from graphc.ir.dims import Dim, Expr, Symbol, substitute, symbols_of
from graphc.ir.dims import evaluate as evaluate_dim
from graphc.ir.graph import Attribute, Graph, Node, Value, input_value, make, rebuild, substitute_type
from graphc.ir.op import Builder, Op, materialize, run_graph
from graphc.ir.types import Shape, TensorType, TokenType, Type
from graphc.reverse import Step

__all__ = ["NumpyBuilder", "bind_symbols", "evaluate", "evaluate_all", "jvp", "specialize", "vjp"]

Array = NDArray[Any]


def evaluate(graph: Graph, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The outputs of `graph` on `arrays` (None for a token), as arrays that share no memory with anything else.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not have the types of the graph's inputs.
    BoundsError, ...
        What the ops raise.
    """
    sizes = bind_symbols(graph, arrays)
    outputs = run_graph(specialize(graph, sizes), [None if x is None else np.asarray(x) for x in arrays])
    return tuple(None if y is None else np.array(y, order="C", copy=True) for y in outputs)


def evaluate_all(graph: Graph, arrays: Sequence[Any]) -> dict[Value, Any]:
    """Every value of `graph` (not of graphs that it holds) on `arrays`; nothing is freed."""
    sizes = bind_symbols(graph, arrays)
    values: dict[Value, Any] = {}
    for node in graph.nodes:
        if node.op.name == "input":
            array = arrays[node.attrs["index"]]
            values[node.result] = None if array is None else np.asarray(array)
            continue
        attrs = {name: _substitute(a, sizes) for name, a in node.attrs.items()} if sizes else node.attrs
        results = node.op.evaluate([values[v] for v in node.operands], attrs)
        values.update(zip(node.results, results, strict=True))
    return values


# -- arguments --------------------------------------------------------------------------------------------------------


def bind_symbols(graph: Graph, arrays: Sequence[Any]) -> dict[int, int]:
    """Check arguments against a graph's inputs and give the sizes of its symbols, by index."""
    if len(arrays) != len(graph.inputs):
        raise ShapeError(f"graph {graph.name!r} takes {len(graph.inputs)} arguments, got {len(arrays)}")
    sizes: dict[int, int] = {}
    for index, (array, type_) in enumerate(zip(arrays, graph.inputs, strict=True)):
        if isinstance(type_, TokenType) or array is None:
            if (array is None) != isinstance(type_, TokenType):
                raise DTypeError(f"argument {_name(graph, index)} must be {type_}")
            continue
        found = _type_of(array)
        if found.dtype is not type_.dtype:
            raise DTypeError(_mismatch(graph, index, "dtype", found, type_))
        if found.rank != type_.rank:
            raise ShapeError(_mismatch(graph, index, "rank", found, type_))
        for size, dim in zip(np.shape(array), type_.shape, strict=True):
            symbol = _symbol(dim)
            if symbol is not None and sizes.setdefault(symbol, size) != size:
                raise ShapeError(_mismatch(graph, index, f"size (s{symbol} is {sizes[symbol]})", found, type_))
    _check_sizes(graph, arrays, sizes)
    return sizes


def _check_sizes(graph: Graph, arrays: Sequence[Any], sizes: Mapping[int, int]) -> None:
    """Sizes that are not symbols themselves: integers and expressions over the symbols."""
    for index, (array, type_) in enumerate(zip(arrays, graph.inputs, strict=True)):
        if not isinstance(type_, TensorType):
            continue
        for size, dim in zip(np.shape(array), type_.shape, strict=True):
            if any(s.index not in sizes for s in symbols_of(dim)):
                raise InterpreterError(f"no argument of graph {graph.name!r} determines the size {dim}")
            if evaluate_dim(dim, sizes) != size:
                raise ShapeError(_mismatch(graph, index, "size", _type_of(array), type_))


def _name(graph: Graph, index: int) -> str:
    return graph.names[index] if index < len(graph.names) else f"#{index}"


def _mismatch(graph: Graph, index: int, what: str, found: Type, expected: Type) -> str:
    text = f"argument {_name(graph, index)} of graph {graph.name!r} has the wrong {what}"
    return message(text, operands=[("found", found), ("expected", expected)])


def _type_of(array: Any) -> TensorType:
    array = np.asarray(array)
    return TensorType(dtypes.from_numpy(array.dtype), tuple(array.shape))


def _symbol(dim: Dim) -> int | None:
    """The index of the symbol that a dimension is, if it is one."""
    if isinstance(dim, int) or len(dim.terms) != 1:
        return None
    monomial, coefficient = dim.terms[0]
    if coefficient != 1 or len(monomial) != 1:
        return None
    atom, power = monomial[0]
    return atom.index if power == 1 and isinstance(atom, Symbol) else None


# -- symbols ----------------------------------------------------------------------------------------------------------


def specialize(graph: Graph, sizes: Mapping[int, Dim]) -> Graph:
    """The graph with symbols replaced by sizes, in the graphs that it holds too."""
    if not sizes:
        return graph
    inputs = tuple(substitute_type(t, sizes) for t in graph.inputs)

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        attrs = {name: _substitute(a, sizes) for name, a in node.attrs.items()}
        return make(node.op, operands, **attrs).results

    values = [input_value(i, t) for i, t in enumerate(inputs)]
    return rebuild(graph, visit, inputs=inputs, input_values=values)


def _substitute(attribute: Attribute, sizes: Mapping[int, Dim]) -> Attribute:
    if isinstance(attribute, Expr):
        return substitute(attribute, sizes)
    if isinstance(attribute, tuple):
        return tuple(_substitute(a, sizes) for a in attribute)
    if isinstance(attribute, TensorType):
        return substitute_type(attribute, sizes)
    if isinstance(attribute, Graph):
        return specialize(attribute, sizes)
    return attribute


# -- derivative rules on arrays ---------------------------------------------------------------------------------------


class NumpyBuilder(Builder):
    """The builder whose values are NumPy arrays; each op is applied at once."""

    def type(self, x: Any) -> TensorType:
        return TensorType(dtypes.from_numpy(x.dtype), tuple(x.shape))

    def apply(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Attribute]) -> tuple[Any, ...]:
        return op.evaluate([np.asarray(x) for x in operands], attrs)

    def full(self, shape: Shape, value: float, dtype: DType) -> Any:
        # A view of one element: rules only read.
        return np.broadcast_to(np.asarray(value, dtype=dtype.numpy), shape)  # type: ignore[arg-type]

    def is_value(self, x: Any) -> bool:
        return isinstance(x, (np.ndarray, np.generic))


def vjp(
    op: Op, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Mapping[str, Attribute]
) -> tuple[Any, ...]:
    """The cotangents of an op's operands on arrays, masks applied; None for zero."""
    b = NumpyBuilder()
    with np.errstate(all="ignore"):
        found = op.differentiate(b, operands, results, cotangents, attrs)
        return tuple(materialize(b, ct) for ct in found)


def jvp(
    op: Op, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Mapping[str, Attribute]
) -> tuple[Any, ...]:
    """The tangents of an op's results on arrays, masks applied; None for zero."""
    b = NumpyBuilder()
    into, out = [("operand", k) for k in range(len(operands))], [("result", k) for k in range(len(results))]
    found = Tangents(b)
    for key, tangent in zip(into, tangents, strict=True):
        if tangent is not None:
            found.set(key, tangent)
    with np.errstate(all="ignore"):
        push(b, [Step(op, attrs, operands, results, into, out)], found)
        return tuple(found.plain(key) for key in out)
