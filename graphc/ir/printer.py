"""Graphs as text. Layer 1.

One node a line, types on every result, the user's lines as trailing comments:

    graph "layer"(%x: f32[64, s0], %w: f32[s0, 10]) -> (f32[64, 10]) {
      %0: f32[64, 10] = dot(%x, %w) {lhs_batch = [], ...}    # model.py:12
      return %0
    }

Invariant: `parse(to_text(g))` is the same graph node for node, names included, as long as constants print in place;
larger ones print their digest, and `save` writes them to a side file. Numbers follow the topological order, so the text
depends on nothing but the graph. Nodes of several results are `%3.0, %3.1`; inputs without a name are numbered as well.

The printer never fails on a wrong graph: the verifier shows faults with it.
"""

from __future__ import annotations

import difflib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.dtypes import DType
from graphc.errors import GraphcError
from graphc.ir.dims import Expr
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value
from graphc.ir.location import Location
from graphc.ir.types import TensorType, TokenType

__all__ = [
    "INLINE_ELEMENTS",
    "attribute_text",
    "difference",
    "held_graphs",
    "large_literals",
    "save",
    "side_file",
    "to_text",
    "value_names",
]

#: Constants of at most so many elements print in place (and of any size, if all elements have equal bits).
INLINE_ELEMENTS = 16

Line = tuple[str, Node | None]
"""A line of text and the node that it begins."""

Marks = Mapping[Node | None, Sequence[str]]
"""Notes under nodes; those under None stand below the head."""

_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_NUMBERED = re.compile(r"%(\d+)")
_INDENT = "  "


def to_text(graph: Graph, *, locations: bool = True, names: bool = True, marks: Marks | None = None) -> str:
    """The graph as text.

    Without `locations` and `names` the text is canonical: it depends on the function alone. With `marks`, each line gets a
    margin, `>>>` where a node has notes, and the notes below.
    """
    printer = _Printer(locations, names)
    lines = printer.graph(graph, "")
    if marks is None:
        return "\n".join(text for text, _ in lines) + "\n"
    out: list[str] = []
    for text, node in lines:
        notes = marks.get(node, ()) if node is not None else ()
        out.append(f"{'>>>' if notes else '   '} {text}")
        indent = " " * (len(text) - len(text.lstrip()))
        out += [f">>> {indent}  {note}" for note in notes]
    head = [f">>> {note}" for note in marks.get(None, ())]
    return "\n".join(line.rstrip() for line in [*head, *out]) + "\n"


def difference(before: Graph, after: Graph) -> str:
    """What changed, as a unified diff. Nodes that both graphs share have one name in both, so that only lines of nodes that
    are new, gone or moved are shown."""
    known = value_names(before)
    old = to_text(before).splitlines()
    new = [text for text, _ in _Printer(True, True, known).graph(after, "")]
    lines = difflib.unified_diff(old, new, "before", "after", lineterm="", n=1)
    return "".join(f"{line}\n" for line in lines)


def save(graph: Graph, path: str | Path) -> None:
    """Write the text to `path` and, if there are large constants, these to `side_file(path)`."""
    path = Path(path)
    path.write_text(to_text(graph), encoding="utf-8")
    large = large_literals(graph)
    side = side_file(path)
    if large:
        np.savez(side, **{digest: literal.array for digest, literal in large.items()})  # type: ignore[arg-type]
    else:
        side.unlink(missing_ok=True)


def side_file(path: str | Path) -> Path:
    """Where the large constants of the graph at `path` are kept."""
    return Path(path).with_suffix(".npz")


def large_literals(graph: Graph) -> dict[str, Literal]:
    """The constants that print as digests, by digest; those of held graphs included."""
    found: dict[str, Literal] = {}
    graphs = [graph]
    while graphs:
        for node in graphs.pop().nodes:
            for value in node.attrs.values():
                for leaf in _leaves(value):
                    if isinstance(leaf, Graph):
                        graphs.append(leaf)
                    elif isinstance(leaf, Literal) and not _prints_in_place(leaf.array):
                        found[leaf.digest] = leaf
    return found


def held_graphs(node: Node) -> list[tuple[str, Graph]]:
    """The graphs among a node's attributes, with the attributes' names (`body`, `branches.1`), in printed order."""
    found: list[tuple[str, Graph]] = []
    for name in _ordered(node):
        value = node.attrs[name]
        if isinstance(value, Graph):
            found.append((name, value))
        elif isinstance(value, tuple):
            found += [(f"{name}.{i}", v) for i, v in enumerate(value) if isinstance(v, Graph)]
    return found


def value_names(
    graph: Graph,
    nodes: Sequence[Node] | None = None,
    *,
    names: bool = True,
    known: Mapping[Value, str] | None = None,
) -> dict[Value, str]:
    """The name of each value of a graph: `%x`, `%3`, `%4.1`. Values of nodes that are in `known` keep their names there."""
    found: dict[Value, str] = {}
    headed = _input_names(graph, names)
    number = sum(text[1:].isdigit() for text in headed)
    known = known or {}
    number = max([number, *(int(m[1]) + 1 for m in map(_NUMBERED.match, known.values()) if m is not None)])
    for node in graph.nodes if nodes is None else nodes:
        position = _position(graph, node)
        if position is not None:
            found[node.results[0]] = headed[position]
            continue
        if all(v in known for v in node.results):
            found.update((v, known[v]) for v in node.results)
            continue
        many = len(node.results) != 1
        found.update((v, f"%{number}.{i}" if many else f"%{number}") for i, v in enumerate(node.results))
        number += 1
    return found


def attribute_text(value: Attribute) -> str:
    """An attribute other than a graph as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, (int, Expr, TensorType, TokenType)):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Literal):
        return _literal_text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(attribute_text, value))}]"
    if isinstance(value, Graph):
        return f'graph "{value.name}"'
    return f"<{type(value).__name__}: not an attribute>"


class _Printer:
    """Options of one printing."""

    def __init__(self, locations: bool, names: bool, known: Mapping[Value, str] | None = None) -> None:
        self.locations = locations
        self.names = names
        self.known = known  # of the outermost graph

    def graph(self, graph: Graph, indent: str) -> list[Line]:
        """Lines with the node that each belongs to; the first line has no indentation."""
        nodes = graph.nodes
        values = value_names(graph, nodes, names=self.names, known=None if indent else self.known)
        name = json.dumps(graph.name) if self.names else '""'
        headed = zip(_input_names(graph, self.names), graph.inputs, strict=True)
        inputs = ", ".join(f"{text}: {type_}" for text, type_ in headed)
        outputs = ", ".join(str(v.type) for v in graph.outputs)
        lines: list[Line] = [(f"graph {name}({inputs}) -> ({outputs}) {{", None)]
        for node in nodes:
            if _position(graph, node) is None:
                lines += self.node(node, values, graph.locations.get(node, ()), indent + _INDENT)
        returned = ", ".join(values.get(v, _foreign(v)) for v in graph.outputs)
        lines.append((f"{indent}{_INDENT}return {returned}".rstrip(), None))
        lines.append((f"{indent}}}", None))
        return lines

    def node(self, node: Node, values: Mapping[Value, str], where: Sequence[Location], indent: str) -> list[Line]:
        results = ", ".join(f"{values[v]}: {v.type}" for v in node.results)
        operands = ", ".join(values.get(v, _foreign(v)) for v in node.operands)
        lines: list[Line] = [(f"{indent}{results} = {node.op.name}({operands})", node)]
        for i, name in enumerate(_ordered(node)):
            _join(lines, [(f"{', ' if i else ' {'}{name} = ", None)])
            _join(lines, self.attribute(node.attrs[name], indent))
        _join(lines, [(("}" if node.attrs else "") + self.comment(where), None)])
        return lines

    def attribute(self, value: Attribute, indent: str) -> list[Line]:
        if isinstance(value, Graph):
            return self.graph(value, indent)
        if not any(isinstance(v, Graph) for v in _leaves(value)):
            return [(attribute_text(value), None)]
        lines: list[Line] = [("[", None)]
        for i, item in enumerate(value):
            if i:
                _join(lines, [(", ", None)])
            _join(lines, self.attribute(item, indent))
        _join(lines, [("]", None)])
        return lines

    def comment(self, where: Sequence[Location]) -> str:
        if not self.locations or not where:
            return ""
        return "    # " + ", ".join(dict.fromkeys(str(w) for w in where))


def _join(lines: list[Line], more: Sequence[Line]) -> None:
    """Append text: the first of `more` continues the last line."""
    text, node = lines[-1]
    lines[-1] = (text + more[0][0], node)
    lines.extend(more[1:])


def _ordered(node: Node) -> list[str]:
    """Attribute names as declared, unknown ones after them, held graphs last."""
    declared = [n for n in node.op.attributes if n in node.attrs]
    others = sorted(n for n in node.attrs if n not in declared)
    return sorted([*declared, *others], key=lambda n: any(isinstance(v, Graph) for v in _leaves(node.attrs[n])))


def _leaves(value: Attribute) -> Iterator[Attribute]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(reversed(item))
        else:
            yield item


def _position(graph: Graph, node: Node) -> int | None:
    """The position of an `input` node that the head declares; None for all others, faulty inputs included."""
    if node.op.name != "input" or len(node.results) != 1:
        return None
    index = node.attrs.get("index")
    if type(index) is not int or not 0 <= index < len(graph.inputs) or node.types[0] != graph.inputs[index]:
        return None
    return index


def _input_names(graph: Graph, names: bool) -> list[str]:
    if not names or len(graph.names) != len(graph.inputs):
        return [f"%{i}" for i in range(len(graph.inputs))]
    texts: list[str] = []
    for name in graph.names:
        unique, again = name, 2
        while _quoted(unique) in texts:
            unique, again = f"{name}#{again}", again + 1
        texts.append(_quoted(unique))
    return texts


def _quoted(name: str) -> str:
    return f"%{name}" if _BARE_NAME.match(name) else f"%{json.dumps(name)}"


def _foreign(value: Value) -> str:
    """A value that is no result of a node of the graph; only wrong graphs have such."""
    return f"%?{value.node.op.name}.{value.index}"


def _float_text(value: float) -> str:
    pattern = struct.unpack("<Q", struct.pack("<d", value))[0]
    text = repr(value)
    exact = struct.unpack("<Q", struct.pack("<d", float(text)))[0] == pattern
    return text if exact else f"bits(0x{pattern:016x})"


def _prints_in_place(array: np.ndarray[Any, Any]) -> bool:
    return array.size <= INLINE_ELEMENTS or _is_splat(array)


def _is_splat(array: np.ndarray[Any, Any]) -> bool:
    if array.size < 2:
        return False
    raw = array.reshape(-1).view(np.uint8).reshape(array.size, -1)
    return bool((raw == raw[0]).all())


def _literal_text(literal: Literal) -> str:
    array = literal.array
    try:
        head = f"dense {literal.type}"
    except GraphcError:  # an array of no dtype of ours: only wrong graphs have such
        return f"<{array.dtype} array>"
    if array.size > 1 and _is_splat(array):
        return f"{head} splat({_element_text(array.reshape(-1)[0])})"
    if array.size > INLINE_ELEMENTS:
        return f"{head} <{literal.digest}>"
    return f"{head} {_nested_text(array)}"


def _nested_text(array: np.ndarray[Any, Any]) -> str:
    """Elements in nested brackets; recursion is over axes."""
    if array.ndim == 0:
        return _element_text(array[()])
    return f"[{', '.join(_nested_text(row) for row in array)}]"


def _element_text(element: Any) -> str:
    """An element so that its bits come back; a bit pattern where decimals cannot say it."""
    if element.dtype.kind == "b":
        return "true" if element else "false"
    if element.dtype.kind in "iu":
        return str(int(element))
    if element.dtype.kind == "c":
        return f"complex({_element_text(element.real)}, {_element_text(element.imag)})"
    text = str(element)
    if element.dtype.type(float(text)).tobytes() == element.tobytes():
        return text
    return f"bits(0x{int.from_bytes(element.tobytes(), 'little'):0{2 * element.itemsize}x})"


# `print(graph)` shows the text form; the class cannot import its printer.
Graph.__str__ = to_text  # type: ignore[method-assign, assignment]
