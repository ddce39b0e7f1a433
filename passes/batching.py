"""Batching of a whole graph. Layer 4, passes.

    f(x...) -> (y...)  -->  f_batched(x[size, ...]...) -> (y[size, ...]...)

The rules live with the ops, the walk is `graphc.ir.batching`. `gx.vmap` uses these too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from graphc.errors import BatchError
from graphc.ir.batching import batch_graph
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType
from graphc.passes.base import Journal, Rewriter

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch(Rewriter):
    """The graph for `size` examples at once: the inputs named (or numbered) in `inputs`, or all tensors, get the examples as a
    new axis 0; so do all outputs that depend on them, and with `outputs` the others too, repeated.

    Raises
    ------
    BatchError
        If there is no such input, or an op has no batching rule.
    """

    name: ClassVar[str] = "batch"

    size: Dim = 1
    inputs: tuple[str, ...] = ()
    outputs: bool = False

    @property
    def preserves(self) -> Literal["nothing"]:
        return "nothing"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        if not journal.permit("batch"):
            return graph
        tensors = [isinstance(v.type, TensorType) for v in graph.outputs]
        wanted = tensors if self.outputs else None
        found, _ = batch_graph(GraphBuilder(), graph, self._batched(graph), self.size, outputs=wanted)
        return Graph(found.inputs, found.outputs, f"{graph.name}_batched", found.names, found.locations)

    def _batched(self, graph: Graph) -> list[bool]:
        named = set(self.inputs)
        known = [{str(i), *graph.names[i : i + 1]} for i in range(len(graph.inputs))]
        missing = named - set().union(*known)
        if missing:
            raise BatchError(
                f"{graph.name!r} has no input {sorted(missing)[0]!r}",
                hint=f"Its inputs are {', '.join(graph.names or map(str, range(len(graph.inputs))))}.",
            )
        if named:
            return [bool(named & names) for names in known]
        return [isinstance(t, TensorType) for t in graph.inputs]
