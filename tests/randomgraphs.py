"""Seeded random graphs over all ops and dtypes, together with arguments on which they are well behaved.

`random_graph(seed)` builds 8 to 32 nodes and their leaves, evaluating each as it goes: a node is kept only if its values are
finite and of moderate size and, mostly, not all equal. Every value that nothing uses is an output, and some that are used are
outputs as well; effects hang on one chain of tokens, the last output. Values are chosen and adapted by
`tests/randomvalues.py`, nodes of each op are drawn by `tests/randomnodes.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from randomnodes import DRAWN, NOT_DRAWN, draw_any
from randomvalues import Maker

from graphc.ir.graph import Graph, Node
from graphc.ir.op import Op
from graphc.ir.printer import held_graphs
from graphc.ir.types import TensorType

__all__ = ["DRAWN", "NOT_DRAWN", "RandomGraph", "all_nodes", "random_graph"]

Array = np.ndarray[Any, Any]

#: What does not count as a node: literals are a constant and a broadcast.
_LEAVES = ("input", "constant", "broadcast")


@dataclass(frozen=True)
class RandomGraph:
    """A graph and arguments for it."""

    seed: int
    graph: Graph
    arrays: tuple[Array, ...]

    def coverage(self) -> Counter[tuple[str, str]]:
        """How often each op occurs with each dtype (of its first operand that is a tensor, or else its result)."""
        found: Counter[tuple[str, str]] = Counter()
        for node in all_nodes(self.graph):
            types = [v.type for v in (*node.operands, *node.results) if isinstance(v.type, TensorType)]
            found[node.op.name, types[0].dtype.name if types else ""] += 1
        return found


def random_graph(seed: int, ops: Sequence[Op] = DRAWN) -> RandomGraph:
    """The random graph of a seed over some ops; the same on every run and machine."""
    maker = Maker.seeded(seed)
    target = maker.random.randint(8, 32)
    for _ in range(20 * target):
        draw_any(maker, ops)
        if sum(n.op.name not in _LEAVES for n in maker.graph().nodes) >= target:
            break
    graph = maker.graph(f"random{seed}")
    inner = [v for v in maker.pool if v in maker.used and v.node.op.name != "input"]
    more = maker.random.sample(inner, min(len(inner), maker.random.randint(0, 2)))
    return RandomGraph(seed, Graph(graph.inputs, (*more, *graph.outputs), graph.name), maker.arguments())


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of those that they hold."""
    stack = [graph]
    while stack:
        for node in stack.pop().nodes:
            yield node
            stack += [held for _, held in held_graphs(node)]
