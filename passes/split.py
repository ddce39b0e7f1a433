"""Complex numbers as pairs of real ones: what native code computes with. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from graphc.errors import UnsupportedError, message
from graphc.ir.graph import Graph, Node, Value, constant, input_value, locate, make
from graphc.ir.location import Location
from graphc.ir.op import Composite, Control, Fused, GraphBuilder, Host, Op, Special
from graphc.ir.printer import held_graphs
from graphc.ir.types import TensorType, Type
from graphc.passes.base import Journal, Rewriter, map_held
from graphc.passes.fold import ConstantFold
from graphc.passes.simplify import Simplify

__all__ = ["Split", "has_complex"]

B: Any = GraphBuilder()
Pair = tuple[Value, Value]
#: Kinds of nodes that hold graphs.
_HOLDING = (Control, Composite, Fused)


@dataclass(frozen=True)
class Split(Rewriter):
    """Every complex value becomes a pair of real ones:

        z = x * y  -->  re = xr * yr - xi * yi, im = xr * yi + xi * yr

    An op says what it becomes (`parts`); linear ops without a word of their own work on both parts alike, bilinear ones make
    four of themselves. Complex numbers are left at the borders only, where their memory is looked at as that of floats:
    inputs, outputs, operands and results of host calls, inputs and outputs of the graphs that control nodes hold:

        x: c64[n]  -->  reshape(slice(as_parts(x): f32[n, 2])), one for each part
        return z   -->  return from_parts(concatenate(re, im))
    """

    name: ClassVar[str] = "split"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        if not has_complex(graph):
            return graph
        split = _Splitter(self, graph, journal).run()
        return Simplify().apply(ConstantFold(inexact=False).apply(split, journal), journal)


def has_complex(graph: Graph) -> bool:
    """Whether a value of a graph is complex, or one of the graphs that it holds."""
    for node in graph.nodes:
        for type_ in node.types:
            if isinstance(type_, TensorType) and type_.dtype.kind == "c":
                return True
        if isinstance(node.op, _HOLDING) and any(has_complex(held) for _, held in held_graphs(node)):
            return True
    return False


def _is_complex(type_: Type) -> bool:
    return isinstance(type_, TensorType) and type_.dtype.is_complex


@dataclass(slots=True)
class _Number:
    """A complex value in the new graph: as a whole, in parts, or both; each is made from the other when it is asked for."""

    _whole: Value | None = None
    _pair: Pair | None = None

    @property
    def whole(self) -> Value:
        if self._whole is None:
            assert self._pair is not None
            self._whole = B.from_parts(_joined(self._pair))
        return self._whole

    @property
    def pair(self) -> Pair:
        if self._pair is None:
            assert self._whole is not None
            self._pair = _parted(self._whole)
        return self._pair


def _is_border(node: Node) -> bool:
    """Whether a node takes and gives complex numbers as they are in memory: constants, views of another dtype, what holds
    graphs or calls Python."""
    if isinstance(node.op, Special):
        return not node.operands or node.operands[0].dtype is not node.result.dtype
    return isinstance(node.op, (*_HOLDING, Host))


def _constant(x: Value) -> _Number:
    """A constant: two constants, or as a whole the view of one, for kernels write small constants."""
    array = np.ascontiguousarray(x.node.attrs["value"].array).reshape(x.shape)
    floats = array[..., None].view(array.real.dtype)
    return _Number(B.from_parts(constant(floats)), (constant(array.real.copy()), constant(array.imag.copy())))


def _parted(x: Value) -> Pair:
    """The parts of a value in memory."""
    parts = B.as_parts(x)
    shape = x.shape
    found = (
        B.slice(parts, start=(*(0,) * len(shape), k), size=(*shape, 1), step=(1,) * (len(shape) + 1)) for k in (0, 1)
    )
    real, imaginary = (B.reshape(part, shape=shape) for part in found)
    return real, imaginary


def _joined(pair: Pair) -> Value:
    """Both parts along a new last axis."""
    shape = pair[0].shape
    columns = [B.reshape(part, shape=(*shape, 1)) for part in pair]
    joined: Value = B.concatenate(*columns, axis=len(shape))
    return joined


@dataclass(slots=True)
class _Splitter:
    """One graph's rewrite."""

    owner: Split
    graph: Graph
    journal: Journal
    plain: dict[Value, Value] = field(default_factory=dict)
    numbers: dict[Value, _Number] = field(default_factory=dict)
    located: dict[Node, tuple[Location, ...]] = field(default_factory=dict)

    def run(self) -> Graph:
        graph = self.graph
        for node in graph.nodes:
            if node.op.name == "input":
                self._bind(node, [input_value(node.attrs["index"], node.types[0])])
            else:
                self._visit(node)
        outputs = tuple(self._whole(v) for v in graph.outputs)
        for old, new in zip(graph.outputs, outputs, strict=True):
            if new.node.op.name != "input":
                locate(new.node, graph.locations.get(old.node, ()), self.located)
        return Graph(graph.inputs, outputs, graph.name, graph.names, self.located)

    def _visit(self, node: Node) -> None:
        attrs: Mapping[str, Any] = node.attrs
        if isinstance(node.op, (Control, Composite)):
            attrs = map_held(node, lambda held: self.owner.apply(held, self.journal))
        complex_here = any(_is_complex(t) for t in (*node.types, *(v.type for v in node.operands)))
        if not complex_here or _is_border(node) or not self.journal.permit(f"split {node.op.name}"):
            self._bind(node, make(node.op, [self._whole(v) for v in node.operands], **attrs).results)
            return
        operands = [self.numbers[v].pair if v in self.numbers else self.plain[v] for v in node.operands]
        found = _split(node, operands)
        self._bind(node, [found])

    def _whole(self, value: Value) -> Value:
        return self.numbers[value].whole if value in self.numbers else self.plain[value]

    def _bind(self, node: Node, results: Sequence[Any]) -> None:
        """Enter what a node's results are now."""
        where = self.graph.locations.get(node, ())
        for old, new in zip(node.results, results, strict=True):
            if isinstance(new, tuple):
                self.numbers[old] = _Number(_pair=new)
            elif _is_complex(new.type):
                self.numbers[old] = _constant(new) if new.node.op.name == "constant" else _Number(_whole=new)
            else:
                self.plain[old] = new
            for value in new if isinstance(new, tuple) else (new,):
                if value.node.op.name != "input":
                    locate(value.node, where, self.located)


def _split(node: Node, operands: Sequence[Any]) -> Any:
    """The result of a node in terms of parts: a value, or a pair."""
    op, attrs = node.op, node.attrs
    if op.parts is not None:
        return op.parts(B, *operands, **attrs)
    if op.linear == "together":
        return _of_parts(op, operands, 0, attrs), _of_parts(op, operands, 1, attrs)
    if op.linear == "each" and len(operands) == 2 and all(isinstance(x, tuple) for x in operands):
        (a, b), (c, d) = operands

        def times(x: Value, y: Value) -> Value:
            return make(op, (x, y), **attrs).result

        return times(a, c) - times(b, d), times(a, d) + times(b, c)
    raise UnsupportedError(
        message(
            f"{op.name} is not compiled for complex numbers",
            operands=[(f"operand {i}", v.type) for i, v in enumerate(node.operands)],
            hint="Compute it from real and imaginary parts, or outside of the compiled function.",
        )
    )


def _of_parts(op: Op, operands: Sequence[Any], part: int, attrs: Mapping[str, Any]) -> Value:
    return make(op, [x[part] if isinstance(x, tuple) else x for x in operands], **attrs).result
