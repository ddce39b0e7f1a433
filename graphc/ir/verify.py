"""The verifier. Layer 1. It reports all faults of a graph at once, with the guilty nodes marked in the printed graph.

The invariants; tests build one golden fault for each:

I1. Nodes are acyclic: every operand comes before its user.
I2. A node's op is the one that is registered under its name.
I3. A node has exactly the attributes that its op declares, each of a legal kind.
I4. The op is defined for the node's operands and attributes: inference succeeds.
I5. The node's types are those that inference gives.
I6. Each `input` node has a position of the graph's inputs and the type declared there.
I7. No two nodes are equal (same op, operands and attributes): nodes are interned.
I8. Operands and outputs are results of their nodes: `value.node.results[value.index] is value`, with the node's type.
I9. A held graph is closed and keeps all these invariants itself.
I10. Every symbol in a type is a symbol of the graph's inputs, or of those of a graph that holds it.
I11. Tokens are linear: each is used at most once, as an operand or as an output.
I12. Dimensions are integers >= 0 or canonical expressions, and none is an expression that is constant.
I13. Literals are immutable, C-contiguous, and have the digest of their content.
I14. There are no names, or one for each input.
I15. A node with an effect is ordered: it gives a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphc.errors import GraphcError, VerifyError
from graphc.ir import registry
from graphc.ir.dims import Dim, Expr, Symbol, symbols_of
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value, attribute_key, topological
from graphc.ir.printer import held_graphs, to_text
from graphc.ir.types import TensorType, TokenType, Type

__all__ = ["INFERENCE_ERRORS", "Fault", "faults", "inference_text", "verify"]

#: What an op's inference raises for operands and attributes that it is not defined for. The builtin exceptions come from
#: rules that meet an attribute of another kind than theirs; only hand-written text and the verifier's tests make such.
INFERENCE_ERRORS = (GraphcError, TypeError, ValueError, IndexError, KeyError, AttributeError)


def inference_text(name: str, error: Exception) -> str:
    """What inference raised, as text that names the op."""
    if isinstance(error, GraphcError):
        return str(error)
    return f"{name}: an attribute is of another kind than the op takes ({type(error).__name__}: {error})"


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken invariant, at a node or (None) at the graph itself."""

    invariant: str
    node: Node | None
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def verify(graph: Graph) -> None:
    """Check all invariants.

    Raises
    ------
    VerifyError
        With all faults, marked in the printed graph.
    """
    found = faults(graph)
    if not found:
        return
    marks: dict[Node | None, list[str]] = {}
    for fault in found:
        first, *rest = str(fault).split("\n")
        marks.setdefault(fault.node, []).extend([f"^ {first}", *(f"  {line}" for line in rest)])
    count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
    raise VerifyError(f"graph {graph.name!r} has {count}\n{to_text(graph, marks=marks)}")


def faults(graph: Graph, scope: frozenset[Symbol] = frozenset()) -> list[Fault]:
    """All faults of a graph whose symbols may also be those of `scope`, held graphs' faults included."""
    nodes = topological(graph.outputs)
    found = list(_head_faults(graph))
    scope = scope | {s for t in graph.inputs for s in _symbols(t)}
    found += _order_faults(nodes)
    for node in nodes:
        found += _node_faults(graph, node, scope)
    found += _duplicate_faults(nodes)
    found += _token_faults(graph, nodes)
    return found


def _head_faults(graph: Graph) -> Iterator[Fault]:
    if graph.names and len(graph.names) != len(graph.inputs):
        yield Fault("I14", None, f"{len(graph.inputs)} inputs have {len(graph.names)} names")
    for i, type_ in enumerate(graph.inputs):
        for what in _dimension_faults(type_):
            yield Fault("I12", None, f"input {i}: {what}")
    for i, value in enumerate(graph.outputs):
        if not _is_result(value):
            yield Fault("I8", value.node, f"output {i} is no result of its node {value.node.op.name!r}")


def _order_faults(nodes: list[Node]) -> Iterator[Fault]:
    done: set[Node] = set()
    for node in nodes:
        for i, operand in enumerate(node.operands):
            if operand.node not in done:
                yield Fault("I1", node, f"operand {i} depends on this node")
        done.add(node)


def _node_faults(graph: Graph, node: Node, scope: frozenset[Symbol]) -> Iterator[Fault]:
    if not _is_registered(node):
        yield Fault("I2", node, f"the op is not the registered {node.op.name!r}")
    for i, operand in enumerate(node.operands):
        if not _is_result(operand):
            yield Fault("I8", node, f"operand {i} is no result of its node {operand.node.op.name!r}")
    attribute_faults = list(_attribute_faults(node))
    yield from attribute_faults
    if not attribute_faults:
        yield from _type_faults(node)
    if node.op.name == "input":
        yield from _input_faults(graph, node)
    for type_ in node.types:
        for what in _dimension_faults(type_):
            yield Fault("I12", node, what)
    unbound = {str(s) for t in (*node.types, *_attribute_types(node)) for s in _symbols(t)} - {str(s) for s in scope}
    if unbound:
        yield Fault("I10", node, f"{', '.join(sorted(unbound))}: not a symbol of the graph's inputs")
    if node.op.effect and not any(isinstance(t, TokenType) for t in node.types):
        yield Fault("I15", node, f"{node.op.name} has an effect and gives no token")
    yield from _held_faults(node, scope)


def _is_registered(node: Node) -> bool:
    try:
        return registry.get(node.op.name) is node.op
    except GraphcError:
        return False


def _is_result(value: Value) -> bool:
    results = value.node.results
    return (
        0 <= value.index < len(results)
        and results[value.index] is value
        and value.type == value.node.types[value.index]
    )


def _attribute_faults(node: Node) -> Iterator[Fault]:
    declared, given = set(node.op.attributes), set(node.attrs)
    if declared != given:
        missing = [f"{name} is missing" for name in sorted(declared - given)]
        unknown = [f"{name} is unknown" for name in sorted(given - declared)]
        yield Fault("I3", node, f"attributes: {', '.join([*missing, *unknown])}")
    for name, value in node.attrs.items():
        try:
            attribute_key(value)
        except GraphcError as error:
            yield Fault("I3", node, f"{name}: {error}")
        for leaf in _leaves(value):
            if isinstance(leaf, Literal):
                yield from _literal_faults(node, name, leaf)


def _literal_faults(node: Node, name: str, literal: Literal) -> Iterator[Fault]:
    array = literal.array
    if array.flags.writeable or not array.flags.c_contiguous:
        yield Fault("I13", node, f"{name}: the array is not immutable and C-contiguous")
    elif Literal(array).digest != literal.digest:
        yield Fault("I13", node, f"{name}: the array has changed, its digest is another")


def _type_faults(node: Node) -> Iterator[Fault]:
    try:
        inferred = node.op.infer(tuple(v.type for v in node.operands), node.attrs)
    except INFERENCE_ERRORS as error:
        yield Fault("I4", node, inference_text(node.op.name, error))
        return
    if inferred != node.types:
        yield Fault("I5", node, f"{node.op.name} gives {_types(inferred)}, the node says {_types(node.types)}")


def _types(types: tuple[Type, ...]) -> str:
    return ", ".join(map(str, types)) or "nothing"


def _input_faults(graph: Graph, node: Node) -> Iterator[Fault]:
    index = node.attrs.get("index")
    if type(index) is not int or not 0 <= index < len(graph.inputs):
        yield Fault("I6", node, f"the graph has no input {index}, it has {len(graph.inputs)}")
    elif node.types != (graph.inputs[index],):
        yield Fault("I6", node, f"input {index} is declared as {graph.inputs[index]}, not {_types(node.types)}")


def _dimension_faults(type_: Type) -> Iterator[str]:
    if not isinstance(type_, TensorType):
        return
    for dim in type_.shape:
        if not _is_dimension(dim):
            yield f"{type_}: {dim!r} is not a dimension"


def _is_dimension(dim: Dim) -> bool:
    if type(dim) is int:
        return dim >= 0
    return isinstance(dim, Expr) and any(monomial for monomial, _ in dim.terms) and dim + 0 == dim


def _symbols(type_: Type) -> Iterator[Symbol]:
    if isinstance(type_, TensorType):
        for dim in type_.shape:
            if isinstance(dim, Expr):
                yield from symbols_of(dim)


def _attribute_types(node: Node) -> Iterator[Type]:
    """Attributes that are types, and dimensions wrapped in one."""
    for value in node.attrs.values():
        for leaf in _leaves(value):
            if isinstance(leaf, TensorType):
                yield leaf
            elif isinstance(leaf, Expr):
                yield from (TensorType(t.dtype, (leaf,)) for t in node.types[:1] if isinstance(t, TensorType))


def _leaves(value: Attribute) -> Iterator[Attribute]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(reversed(item))
        else:
            yield item


def _duplicate_faults(nodes: list[Node]) -> Iterator[Fault]:
    """Equal nodes; what stands on two equal nodes is judged as if they were one, so that the first ones are named."""
    first: dict[Any, Node] = {}
    same: dict[Node, Node] = {}
    for node in nodes:
        try:
            attrs = tuple((name, attribute_key(node.attrs[name])) for name in sorted(node.attrs))
        except GraphcError:
            continue
        key = (node.op, tuple((same.get(v.node, v.node), v.index) for v in node.operands), attrs)
        known = first.setdefault(key, node)
        if known is not node:
            same[node] = known
            yield Fault("I7", node, f"an equal {node.op.name!r} node exists")


def _token_faults(graph: Graph, nodes: list[Node]) -> Iterator[Fault]:
    used: dict[Value, str] = {}
    uses: list[tuple[Node | None, str, Value]] = [(n, n.op.name, v) for n in nodes for v in n.operands]
    uses += [(None, "an output", v) for v in graph.outputs]
    for node, user, value in uses:
        if not isinstance(value.type, TokenType):
            continue
        if value in used:
            yield Fault("I11", node or value.node, f"a token that {used[value]} uses is used again by {user}")
        used.setdefault(value, user)


def _held_faults(node: Node, scope: frozenset[Symbol]) -> Iterator[Fault]:
    for name, held in held_graphs(node):
        for fault in faults(held, scope):
            if fault.node is not None:
                yield fault
            yield Fault(
                "I9", node, f"{name}: {fault}" if fault.node is None else f"{name} has a fault, {fault.invariant}"
            )
