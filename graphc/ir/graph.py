"""Graphs, nodes and values. Layer 1.

A `Graph` is functional: input types, outputs, and the nodes that the outputs reach. A `Node` is immutable and interned:
nodes with equal op, operands and attributes are one object, so common subexpressions never exist twice and equality is
identity. A node has n results; a `Value` is one of them. Attributes are identified by type and bits: `1`, `1.0`, `True`,
`0.0` and `-0.0` all differ; arrays are identified by content digest.

Source locations are kept beside the nodes, in `Graph.locations`, as tuples without repeats.

Walks over nodes are iterative: graphs are deep.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import GraphcError
from graphc.hosts import LocalName
from graphc.ir import registry
from graphc.ir.dims import Dim, Expr, substitute, symbols_of
from graphc.ir.location import Location
from graphc.ir.types import Shape, TensorType, TokenType, Type

if TYPE_CHECKING:
    from graphc.ir.op import Op

__all__ = [
    "Attribute",
    "Graph",
    "Literal",
    "Node",
    "Value",
    "attribute_key",
    "constant",
    "full",
    "input_value",
    "last_uses",
    "locate",
    "make",
    "rebuild",
    "substitute_type",
    "topological",
]

Attribute = Any
"""int, float, bool, str, None, DType, dimension, type, Graph, Literal, or a tuple of these."""


class Literal:
    """An array as an attribute: immutable, identified by dtype, shape and content digest."""

    __slots__ = ("array", "digest")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        owned = np.array(array, dtype=dtypes.from_numpy(array.dtype).numpy, order="C", copy=True)
        owned.flags.writeable = False
        self.array = owned
        head = f"{owned.dtype.str}{owned.shape}".encode()
        self.digest = hashlib.blake2b(head + owned.tobytes(), digest_size=16).hexdigest()

    @property
    def type(self) -> TensorType:
        return TensorType(dtypes.from_numpy(self.array.dtype), tuple(self.array.shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Literal({self.type}, {self.digest})"


class Node:
    """One application of an op. Made by `make`; `unchecked` is for tests and the parser only."""

    __slots__ = ("__weakref__", "attrs", "op", "operands", "results", "types")

    op: Op
    operands: tuple[Value, ...]
    attrs: Mapping[str, Attribute]
    types: tuple[Type, ...]
    results: tuple[Value, ...]

    @classmethod
    def unchecked(
        cls, op: Op, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], types: tuple[Type, ...]
    ) -> Node:
        """A node that is neither interned nor verified: what the verifier's tests are made of."""
        node = object.__new__(cls)
        node.op = op
        node.operands = operands
        node.attrs = attrs
        node.types = types
        node.results = tuple(Value(node, i, t) for i, t in enumerate(types))
        return node

    @property
    def result(self) -> Value:
        """The only result."""
        assert len(self.results) == 1
        return self.results[0]

    def __repr__(self) -> str:
        operands = ", ".join(f"{v.node.op.name}:{v.type}" for v in self.operands)
        return f"<{self.op.name}({operands}) -> {', '.join(map(str, self.types))}>"


class Value:
    """Result `index` of `node`. Compared by identity; arithmetic operators build nodes (sugar for derivative rules)."""

    __slots__ = ("index", "node", "type")

    def __init__(self, node: Node, index: int, type_: Type) -> None:
        self.node = node
        self.index = index
        self.type = type_

    @property
    def tensor(self) -> TensorType:
        """The type, known to be a tensor's."""
        assert isinstance(self.type, TensorType), self.type
        return self.type

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    def __repr__(self) -> str:
        return f"<{self.node.op.name}.{self.index}: {self.type}>"

    def _binary(self, name: str, other: Value | float, swap: bool = False) -> Value:
        right = other if isinstance(other, Value) else full(self.shape, other, self.dtype)
        return make(name, (right, self) if swap else (self, right)).result

    def __add__(self, other: Value | float) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: float) -> Value:
        return self._binary("add", other, swap=True)

    def __sub__(self, other: Value | float) -> Value:
        return self._binary("subtract", other)

    def __rsub__(self, other: float) -> Value:
        return self._binary("subtract", other, swap=True)

    def __mul__(self, other: Value | float) -> Value:
        return self._binary("multiply", other)

    def __rmul__(self, other: float) -> Value:
        return self._binary("multiply", other, swap=True)

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary("divide", other)

    def __rtruediv__(self, other: float) -> Value:
        return self._binary("divide", other, swap=True)

    def __neg__(self) -> Value:
        return make("negative", (self,)).result


def attribute_key(value: Attribute) -> Any:
    """A hashable key that tells attributes apart by type and bits."""
    if type(value) is int or type(value) is str:
        return value
    if isinstance(value, LocalName):
        return str(value)
    if isinstance(value, tuple):
        return tuple(attribute_key(v) for v in value)
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, float):
        return (float, struct.pack("<d", value))
    if value is None or isinstance(value, (DType, Expr, TensorType, TokenType, Literal)):
        return value
    if isinstance(value, Graph):
        return (Graph, value.key)
    raise GraphcError(f"a node's attribute may not be a {type(value).__name__}: {value!r}")


_INTERNED: WeakValueDictionary[Any, Node] = WeakValueDictionary()


def make(op: Op | str, operands: Sequence[Value] = (), /, **attrs: Attribute) -> Node:
    """The interned node of `op` on `operands`; result types are inferred.

    Raises
    ------
    ShapeError, DTypeError
        If the op is not defined for operands of these types.
    """
    if isinstance(op, str):
        op = registry.get(op)
    operands = tuple(operands)
    key = (op, operands, tuple((name, attribute_key(attrs[name])) for name in sorted(attrs)))
    found = _INTERNED.get(key)
    if found is not None:
        return found
    types = op.infer(tuple(v.type for v in operands), attrs)
    return _INTERNED.setdefault(key, Node.unchecked(op, operands, attrs, types))


def input_value(index: int, type_: Type) -> Value:
    """The value that stands for a graph's input number `index`."""
    return make("input", (), index=index, type=type_).result


def constant(array: Any) -> Value:
    """A constant of an array's dtype and shape."""
    return make("constant", (), value=Literal(np.asarray(array))).result


def full(shape: Shape, value: float, dtype: DType) -> Value:
    """A literal lifted to a strict type: a constant of rank 0, broadcast."""
    scalar = constant(np.asarray(value, dtype=dtype.numpy))
    return make("broadcast", (scalar,), shape=shape).result if shape else scalar


def topological(outputs: Iterable[Value]) -> list[Node]:
    """All nodes that `outputs` reach, operands before users, in a deterministic order; iterative."""
    order: list[Node] = []
    seen: set[Node] = set()
    for output in outputs:
        if output.node in seen:
            continue
        seen.add(output.node)
        stack: list[tuple[Node, Iterator[Value]]] = [(output.node, iter(output.node.operands))]
        while stack:
            node, operands = stack[-1]
            for operand in operands:
                if operand.node not in seen:
                    seen.add(operand.node)
                    stack.append((operand.node, iter(operand.node.operands)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def last_uses(nodes: Sequence[Node], outputs: Sequence[Value]) -> dict[Node, list[Node]]:
    """For each of `nodes`, in the order in which they run, those whose results nothing needs once it has run."""
    last: dict[Node, Node | None] = {}
    for node in nodes:
        last[node] = node
        last.update((v.node, node) for v in node.operands)
    last.update((v.node, None) for v in outputs)
    dying: dict[Node, list[Node]] = {}
    for node, user in last.items():
        if user is not None:
            dying.setdefault(user, []).append(node)
    return dying


@dataclass(frozen=True, eq=False)
class Graph:
    """A closed function of tensors: `inputs` are types by position, `outputs` values over `input` nodes of these positions.

    `names` are the user's names of the inputs (or empty); `locations` maps nodes to the user's source lines.
    """

    inputs: tuple[Type, ...]
    outputs: tuple[Value, ...]
    name: str = "graph"
    names: tuple[str, ...] = ()
    locations: Mapping[Node, tuple[Location, ...]] = field(default_factory=dict, repr=False)

    @property
    def nodes(self) -> list[Node]:
        """Nodes in topological order; `input` nodes that are used are among them."""
        return topological(self.outputs)

    def input_values(self) -> tuple[Value, ...]:
        """The inputs as values."""
        return tuple(input_value(i, t) for i, t in enumerate(self.inputs))

    @property
    def key(self) -> Any:
        """Identity of the function, without names and locations."""
        return self.inputs, self.outputs

    def symbols(self) -> tuple[int, ...]:
        """Indices of the symbols of the inputs' shapes, in order of first appearance."""
        found: dict[int, None] = {}
        for type_ in self.inputs:
            if isinstance(type_, TensorType):
                for dim in type_.shape:
                    found.update((s.index, None) for s in symbols_of(dim))
        return tuple(found)

    def same_as(self, other: Graph) -> bool:
        """Whether two graphs are the same function, node for node."""
        return self.inputs == other.inputs and self.outputs == other.outputs


def substitute_type(type_: Type, sizes: Mapping[int, Dim]) -> Type:
    """Replace symbols in a type's shape."""
    if isinstance(type_, TokenType):
        return type_
    return TensorType(type_.dtype, tuple(substitute(d, sizes) for d in type_.shape))


def rebuild(
    graph: Graph,
    visit: Callable[[Node, tuple[Value, ...]], Sequence[Value]],
    *,
    inputs: tuple[Type, ...] | None = None,
    input_values: Sequence[Value] | None = None,
) -> Graph:
    """Rewrite a graph bottom-up, carrying locations.

    `visit(node, operands)` gets each node that is not an input with its rewritten operands and returns its results in the
    new graph. Every node that the rewrite of a node brings into being gets that node's locations.
    """
    values = graph.input_values() if input_values is None else tuple(input_values)
    mapping: dict[Value, Value] = {}
    located: dict[Node, tuple[Location, ...]] = {}
    for node in graph.nodes:
        if node.op.name == "input":
            mapping[node.result] = values[node.attrs["index"]]
            continue
        results = visit(node, tuple(mapping[v] for v in node.operands))
        assert len(results) == len(node.results), node
        where = graph.locations.get(node, ())
        for old, new in zip(node.results, results, strict=True):
            mapping[old] = new
            locate(new.node, where, located)
    outputs = tuple(mapping[v] for v in graph.outputs)
    return Graph(graph.inputs if inputs is None else inputs, outputs, graph.name, graph.names, located)


def locate(node: Node, where: tuple[Location, ...], located: dict[Node, tuple[Location, ...]]) -> None:
    """Add locations to a node and to its operands that are not located yet."""
    known = located.get(node)
    if known is None:
        located[node] = where
    else:
        located[node] = known + tuple(w for w in where if w not in known)
        return
    stack = [v.node for v in node.operands]
    while stack:
        inner = stack.pop()
        if inner in located or inner.op.name == "input":
            continue
        located[inner] = where
        stack.extend(v.node for v in inner.operands)
