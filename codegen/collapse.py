"""Normal form of a group: no axes of extent 1, and axes that all accesses walk as one are one. Layer 4, codegen.

Two axes a (outer) and b (inner) are one axis when each node and store either varies along neither or steps along a by
exactly extent(b) times its step along b. What is decided here depends on structure only: a symbolic kernel and its
specialised twin collapse alike, so that they sum in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import permutations

from graphc.codegen.kernel import (
    Access,
    Add,
    Apply,
    Const,
    Dag,
    Group,
    Index,
    Load,
    Node,
    Reduce,
    Store,
    Terms,
    accesses,
)
from graphc.ir.dims import Dim
from graphc.ir.scalar import S, Scalar

__all__ = ["normalise"]


def normalise(group: Group) -> Group:
    """The group without unit axes and empty stores, with collapsed axes.

    A merged pair keeps the inner axis' number; the outer one's extent becomes 1.
    """
    stores = tuple(s for s in group.stores if all(group.extents[a] != 0 for a in s.domain))
    group = Group(group.extents, group.buffers, stores)
    units = frozenset(a for a, e in enumerate(group.extents) if e == 1)
    group = _rewrite(group, group.extents, units)
    while (pair := _mergeable(group)) is not None:
        outer, inner = pair
        extents = list(group.extents)
        extents[inner] = extents[outer] * extents[inner]
        extents[outer] = 1
        group = _rewrite(group, tuple(extents), frozenset({outer}))
    return group


def _mergeable(group: Group) -> tuple[int, int] | None:
    used = frozenset[int]().union(*(s.domain for s in group.stores))
    used = used.union(*(n.axes | n.domain for n in group.nodes() if isinstance(n, Reduce)))
    steps = _steps(group)
    domains = _domains(group)
    for outer, inner in permutations(sorted(used), 2):
        if all((outer in d) == (inner in d) for d in domains) and all(
            t.get(outer, 0) == t.get(inner, 0) * group.extents[inner] for t in steps
        ):
            return outer, inner
    return None


def _steps(group: Group) -> list[dict[int, Dim]]:
    """The strides of every access and index."""
    steps = [dict(access.terms) for access in accesses(group)]
    return steps + [dict(n.terms) for n in group.nodes() if isinstance(n, Index)]


def _domains(group: Group) -> list[frozenset[int]]:
    """Sets of axes that must hold both of a pair or neither."""
    domains = [s.domain for s in group.stores]
    return domains + [n.axes for n in group.nodes() if isinstance(n, Reduce)]


def _rewrite(group: Group, extents: tuple[Dim, ...], dropped: frozenset[int]) -> Group:
    """Rebuild the group without the axes `dropped`, whose index is 0 or part of another axis' index."""
    dag = Dag()
    new: dict[int, Node] = {}
    for node in group.nodes():
        new[node.id] = _rebuild(dag, node, new, dropped)
    stores: list[Store | Add] = []
    for store in group.stores:
        access = _moved(store.access, new, dropped)
        value = new[store.value.id]
        domain = store.domain - dropped
        if isinstance(store, Add):
            stores.append(Add(access, value, domain, store.add))
        else:
            other = None if store.other is None else new[store.other.id]
            stores.append(Store(access, value, domain, store.late, other))
    return Group(extents, group.buffers, tuple(stores))


def _rebuild(dag: Dag, node: Node, new: dict[int, Node], dropped: frozenset[int]) -> Node:
    if isinstance(node, Const):
        return dag.const(node.dtype, node.value)
    if isinstance(node, Index):
        return dag.index(_kept(node.terms, dropped), node.offset)
    if isinstance(node, Load):
        mask = None if node.mask is None else new[node.mask.id]
        other = None if node.other is None else dag.const(node.other.dtype, node.other.value)
        return dag.load(node.dtype, _moved(node.access, new, dropped), mask, other)
    operands = [new[x.id] for x in node.operands]
    if isinstance(node, Apply):
        # The old node's id stands for its rule and key, so that different rules of one name stay apart.
        return dag.apply(node.name, node.rule, operands, node.dtype, key=node.id, heavy=node.heavy)
    axes = node.axes - dropped
    if axes:
        return dag.reduce(node.combine, operands[0], axes, operands[1] if node.combine.arg else None)
    if node.combine.arg:
        return operands[1]
    identity = dag.const(node.dtype, node.combine.identity(node.dtype))
    return dag.apply(node.combine.name, _swapped(node.combine.combine), (identity, operands[0]), node.dtype)


def _swapped(combine: Callable[..., S]) -> Callable[..., S]:
    def rule(s: Scalar, accumulator: S, x: S) -> S:
        return combine(s, x, accumulator)

    return rule


def _moved(access: Access, new: dict[int, Node], dropped: frozenset[int]) -> Access:
    dynamic = tuple((new[n.id], s) for n, s in access.dynamic)
    return Access(access.buffer, tuple(_kept(access.terms, dropped)), access.offset, dynamic)


def _kept(terms: Terms, dropped: frozenset[int]) -> Iterable[tuple[int, Dim]]:
    return ((a, s) for a, s in terms if a not in dropped)
