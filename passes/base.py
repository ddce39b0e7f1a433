"""What a pass is. Layer 4, passes.

A pass is a frozen dataclass: its fields are its options, `name` is how pipelines, `GRAPHC=` and the command line call it,
`preserves` what it keeps. `run` is pure: graph in, graph out. A pass never verifies, prints or times: the manager does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from graphc.ir.graph import Attribute, Graph, Node

__all__ = ["Journal", "Pass", "Preserves", "Rewriter", "map_held"]

Preserves = Literal["values", "interface", "nothing"]
"""`values`: outputs keep every value. `interface`: inputs and outputs keep their types. `nothing`: another function."""


@dataclass(slots=True)
class Journal:
    """What a run did: `counters` by rule or action. With `limit`, only so many rewrites are permitted; GRAPHC=check replays a
    run with growing limits to find the first that changed a value."""

    limit: int | None = None
    counters: Counter[str] = field(default_factory=Counter)
    last: str = ""

    @property
    def total(self) -> int:
        return sum(self.counters.values())

    def permit(self, action: str) -> bool:
        """Count an action; False if it is one too many and must not be done."""
        if self.limit is not None and self.total >= self.limit:
            return False
        self.counters[action] += 1
        self.last = action
        return True


class Pass(Protocol):
    """What the manager needs of a pass."""

    @property
    def name(self) -> str: ...

    @property
    def preserves(self) -> str: ...

    def run(self, graph: Graph) -> Graph: ...


@dataclass(frozen=True)
class Rewriter:
    """Base of the passes that count what they do. A subclass sets `name`, and `preserves` where it changes values, and
    writes `apply`."""

    name: ClassVar[str]

    @property
    def preserves(self) -> Preserves:
        return "values"

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph."""
        return self.apply(graph, Journal())

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        """The rewritten graph; every action is counted in `journal`, if it permits it."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.name


def map_held(node: Node, change: Callable[[Graph], Graph]) -> Mapping[str, Attribute]:
    """A node's attributes with every held graph replaced by `change(graph)`; the same object if nothing changes."""

    def mapped(value: Attribute) -> Attribute:
        if isinstance(value, Graph):
            new = change(value)
            return value if new.same_as(value) else new
        if isinstance(value, tuple) and any(isinstance(v, (Graph, tuple)) for v in value):
            items = tuple(mapped(v) for v in value)
            return value if all(i is v for i, v in zip(items, value, strict=True)) else items
        return value

    attrs = {name: mapped(value) for name, value in node.attrs.items()}
    return node.attrs if all(attrs[name] is node.attrs[name] for name in attrs) else attrs
