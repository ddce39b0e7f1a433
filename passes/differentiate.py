"""Reverse-mode differentiation of a whole graph. Layer 4, passes.

    f(x...) -> (y...)  -->  f_vjp(x..., ct...) -> (ct_x...)

The rules live with the ops and the driver is the tape's (`graphc.reverse`): inside a traced function the tape itself
becomes graph, so this pass is for graphs that are there already: text files, held graphs, exported models.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from graphc.errors import GradientError
from graphc.ir.graph import Graph, Node, Value, constant, input_value, locate, make
from graphc.ir.location import Location
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType, Type
from graphc.passes.base import Journal, Rewriter
from graphc.passes.inline import without_composites
from graphc.reverse import Cotangents, Step, backpropagate

__all__ = ["Differentiate"]


@dataclass(frozen=True)
class Differentiate(Rewriter):
    """The vector-Jacobian product of a graph: cotangents of its floating-point outputs become further inputs, and the
    outputs are the cotangents of its floating-point inputs, in order; with `values`, the old outputs come first.

    Raises
    ------
    GradientError
        If no output or no input is floating point.
    """

    name: ClassVar[str] = "differentiate"

    values: bool = False

    @property
    def preserves(self) -> Literal["nothing"]:
        return "nothing"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        if not journal.permit("differentiate"):
            return graph
        graph = without_composites(graph)
        outputs = [v for v in graph.outputs if _is_float(v.type)]
        wrt = [v for v in graph.input_values() if _is_float(v.type)]
        if not outputs or not wrt:
            raise GradientError(
                f"{graph.name!r} has no floating-point {'outputs' if wrt else 'inputs'} to differentiate"
            )
        seeds = [input_value(len(graph.inputs) + k, v.type) for k, v in enumerate(outputs)]
        b = GraphBuilder()
        cotangents = Cotangents(b)
        for output, seed in zip(outputs, seeds, strict=True):
            cotangents.add(output, seed)
        locations = dict(graph.locations)
        backpropagate(b, _steps(graph, cotangents, locations), cotangents)
        found = [cotangents.total(v) for v in wrt]
        gradients = tuple(_zero(v) if g is None else g for v, g in zip(wrt, found, strict=True))
        names = graph.names and (*graph.names, *(f"cotangent{k}" for k in range(len(seeds))))
        return Graph(
            (*graph.inputs, *(v.type for v in seeds)),
            (*graph.outputs, *gradients) if self.values else gradients,
            f"{graph.name}_vjp",
            tuple(names),
            locations,
        )


def _is_float(type_: Type) -> bool:
    return isinstance(type_, TensorType) and type_.dtype.is_inexact


def _zero(value: Value) -> Value:
    scalar = constant(np.zeros((), dtype=value.dtype.numpy))
    return make("broadcast", (scalar,), shape=value.shape).result if value.shape else scalar


def _steps(graph: Graph, cotangents: Cotangents, locations: dict[Node, tuple[Location, ...]]) -> Iterator[Step]:
    """Nodes from last to first; what the rule of a node makes gets the node's locations."""
    for node in reversed(graph.nodes):
        if node.op.name == "input":
            continue
        keys: list[Hashable] = [v if _is_float(v.type) else None for v in node.operands]
        yield Step(node.op, node.attrs, node.operands, node.results, keys, node.results)
        for value in cotangents.pending(node.operands):
            locate(value.node, graph.locations.get(node, ()), locations)
