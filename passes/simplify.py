"""Algebraic simplification: applies the rewrite rules until none fires. Layer 4, passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from graphc.ir.graph import Graph, Node, Value, make, rebuild
from graphc.ir.op import Composite, Control
from graphc.passes.base import Journal, Preserves, Rewriter, map_held
from graphc.passes.patterns import Rule
from graphc.passes.rules import EXACT, VALUE_CHANGING

__all__ = ["Simplify", "apply_rules"]

#: Rules at one node, and sweeps over the graph. Far more than rules that end need; they stop two rules that undo each other.
_STEPS_AT_NODE = 32
_SWEEPS = 16


@dataclass(frozen=True)
class Simplify(Rewriter):
    """Apply all exact rules, and with `permit_value_changing` the others too, bottom-up until nothing changes.

    `x * 1 --> x`, `transpose(transpose(x)) --> transpose(x)`, ...: see `graphc.passes.rules`. Bodies of branches, loops and
    composites are simplified too, fused kernels are left alone.
    """

    name: ClassVar[str] = "simplify"
    permit_value_changing: bool = False

    @property
    def preserves(self) -> Preserves:
        return "interface" if self.permit_value_changing else "values"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        return apply_rules(graph, EXACT + VALUE_CHANGING if self.permit_value_changing else EXACT, journal)


def apply_rules(graph: Graph, rules: Sequence[Rule], journal: Journal) -> Graph:
    """Apply `rules` until none fires."""
    table = _table(tuple(rules))
    for _ in range(_SWEEPS):
        swept = _sweep(graph, table, journal)
        if swept.same_as(graph):
            return swept
        graph = swept
    return graph


class _Table:
    """Rules by the op at their root, in order."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.by_name: dict[str, tuple[Rule, ...]] = {}

    def at(self, name: str) -> tuple[Rule, ...]:
        found = self.by_name.get(name)
        if found is None:
            found = tuple(r for r in self.rules if r.roots is None or name in r.roots)
            self.by_name[name] = found
        return found


_table = lru_cache(maxsize=8)(_Table)


def _sweep(graph: Graph, table: _Table, journal: Journal) -> Graph:
    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        attrs = node.attrs
        if isinstance(node.op, (Control, Composite)):
            attrs = map_held(node, lambda held: apply_rules(held, table.rules, journal))
        if operands != node.operands or attrs is not node.attrs:
            node = make(node.op, operands, **attrs)
        return _simplified(node, table, journal) if len(node.results) == 1 else node.results

    return rebuild(graph, visit)


def _simplified(node: Node, table: _Table, journal: Journal) -> Sequence[Value]:
    value = node.results[0]
    for _ in range(_STEPS_AT_NODE):
        if len(value.node.results) != 1:
            break
        new = _first(value.node, table, journal)
        if new is None:
            break
        value = new
    return (value,)


def _first(node: Node, table: _Table, journal: Journal) -> Value | None:
    for rule in table.at(node.op.name):
        new = rule.apply(node)
        if new is not None:
            return new if journal.permit(rule.name) else None
    return None
