"""The partition of a graph into groups of nodes that one kernel can compute. Layer 4, passes.

A group has a *space*: the extents of its loop axes, of which some may be *reduced*. Each member walks the space in one of
three ways: *full* (its axes are all of the space's), *kept* (all but the reduced ones: a reduction's result and what is
computed from it) or *inlined* (computed under the index map of its users, not stored, not shared). Members are visited
operands first; each begins as a group of its own and is then merged with the groups that its operands are in, by

- sharing: both walk one space; any number of results may be stored; or
- inlining: the producer has no other users and vanishes into the consumer, whatever the index map.

Invariants: groups never depend on each other in a cycle; members that are not inlined walk the space's axes in order;
all reductions of a group reduce the same axes; a dot is in a group with elementwise members only, all of its shape.
Every merge that is refused is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from graphc.ir.access import foldable
from graphc.ir.dims import Dim, product
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Elementwise, Indexing, Random, Reduction
from graphc.ir.types import TensorType
from graphc.passes.fusion_trace import DOT, LINK, REAL, Plain, Roles, inner_axes

__all__ = ["Decision", "Group", "Partition", "partition"]

#: Larger groups make kernels that spill registers and take long to compile.
MAX_MEMBERS = 96
MAX_ARRAYS = 24
#: A light producer of up to this many operations may be computed again for each element of a larger consumer.
MAX_RECOMPUTED = 3
#: An epilogue is emitted once for each accumulator register, so it stays small: what would make it larger (an optimiser's
#: update of the weights) runs as a sweep of its own, which measures no slower.
MAX_EPILOGUE = 12
MAX_EPILOGUE_ARRAYS = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether `producer` and `consumer` came into one kernel, and why (not)."""

    producer: Node
    consumer: Node
    fused: bool
    reason: str


@dataclass(eq=False, slots=True)
class Group:
    """Members in order of insertion. `walks[n]` maps n's dimensions to axes (None for unit dimensions), or is None when n
    is inlined; `reads[n]` does so for a reduction's operand."""

    space: tuple[Dim, ...]
    reduced: frozenset[int] = frozenset()
    dot: Node | None = None
    walks: dict[Node, Plain | None] = field(default_factory=dict)
    reads: dict[Node, Plain] = field(default_factory=dict)

    @property
    def members(self) -> list[Node]:
        return list(self.walks)

    def operand_walk(self, node: Node) -> Plain | None:
        """How a member walks its operands' dimensions."""
        return self.reads.get(node) or self.walks[node]


class _Refused(Exception):
    """Why two groups cannot be merged."""


@dataclass(slots=True)
class Partition:
    """The groups of a graph; `group_of` has the real nodes and dots."""

    roles: Roles
    groups: list[Group]
    group_of: dict[Node, Group]
    decisions: list[Decision]


def partition(graph: Graph) -> Partition:
    """Group a graph's nodes."""
    return _Partitioner(graph).run()


class _Partitioner:
    def __init__(self, graph: Graph) -> None:
        self.roles = Roles(graph)
        self.group_of: dict[Node, Group] = {}
        self.decisions: list[Decision] = []
        self.before: dict[Node, int] = {}
        """For each unit (by any of its nodes): the nodes that must run before it, as bits."""
        self.fits: dict[Node, bool] = {}
        self.outputs = {v.node for v in graph.outputs}
        self.users: dict[Node, list[Node]] = {}
        for node in self.roles.nodes:
            if self.roles.role[node] != LINK:
                for base in self._bases(node):
                    self.users.setdefault(base, []).append(node)

    def run(self) -> Partition:
        for node in self.roles.nodes:
            role = self.roles.role[node]
            if role == LINK:
                continue
            self.before[node] = self._ancestors(node)
            if role in (REAL, DOT):
                self.group_of[node] = _seed(node, role == DOT)
            if role == REAL:
                self._merge_with_producers(node)
        groups = list(dict.fromkeys(self.group_of.values()))
        return Partition(self.roles, groups, self.group_of, self.decisions)

    def _bases(self, node: Node) -> list[Node]:
        """Nodes that `node` reads, links looked through."""
        return list(dict.fromkeys(s.base.node for v in node.operands for s in self.roles.trace(v)))

    def _merge_with_producers(self, node: Node) -> None:
        producers = [p for p in self._bases(node) if p in self.group_of]
        # The dot first: what its epilogue takes needs no pass over memory at all.
        producers.sort(key=lambda p: (self.group_of[p].dot is None, -self.roles.order[p]))
        for producer in producers:
            group, other = self.group_of[node], self.group_of[producer]
            if group is other:
                continue
            reasons = []
            for way in (self._share, self._inline):
                try:
                    merged = way(group, other)
                except _Refused as refusal:
                    reasons.append(str(refusal))
                    continue
                self._enter(merged)
                self.decisions.append(Decision(producer, node, True, way.__name__.strip("_")))
                break
            else:
                self.decisions.append(Decision(producer, node, False, "; ".join(reasons)))

    # -- the two ways to merge --------------------------------------------------------------------------------------
    def _share(self, consumer: Group, producer: Group) -> Group:
        """Both groups in one space."""
        to = self._align(consumer, producer)
        base, other = (producer, consumer) if len(to) == len(consumer.space) else (consumer, producer)
        if base is consumer:
            to = {b: a for a, b in to.items()}
        merged = _joined(base, other, to)
        self._check_members(merged)
        self._check_size(merged)
        self._check_cycle(merged)
        return merged

    def _inline(self, consumer: Group, producer: Group) -> Group:
        """The producer computed inside the consumer, under the consumer's index maps."""
        if producer.dot is not None or producer.reads:
            raise _Refused("a reduction or product is not computed twice")
        outside = self._outside_users(producer)
        if producer.walks.keys() & self.outputs or any(user not in consumer.walks for user in outside):
            raise _Refused("its value is needed elsewhere")
        uses = list(self._edges(consumer, producer))
        if any(edge.user_is_indexed for edge in uses):
            raise _Refused("it is read at indices known at run time only")
        self._check_recomputation(consumer, producer, len({(e.base, e.plain) for e in uses}))
        merged = Group(consumer.space, consumer.reduced, consumer.dot, {}, dict(consumer.reads))
        merged.walks.update(dict.fromkeys(producer.walks))
        merged.walks.update(consumer.walks)
        self._check_members(merged)
        self._check_size(merged)
        self._check_cycle(merged)
        return merged

    def _check_recomputation(self, consumer: Group, producer: Group, uses: int) -> None:
        computed = [m for m in producer.walks if isinstance(m.op, Elementwise)]
        heavy = any(m.op.heavy for m in computed if isinstance(m.op, Elementwise))
        heavy = heavy or any(isinstance(m.op, Random) for m in producer.walks)
        small, large = product(producer.space), product(consumer.space)
        if small == large:
            factor = float(uses)
        elif isinstance(small, int) and isinstance(large, int):
            factor = uses * large / max(small, 1)
        else:
            factor = float("inf")
        if not producer.space:
            return  # a scalar is computed once, before all loops
        if factor > 1.5 and (heavy or len(computed) > MAX_RECOMPUTED):
            raise _Refused("computing it again for each use costs more than a load")

    # -- alignment of two spaces --------------------------------------------------------------------------------------
    def _align(self, consumer: Group, producer: Group) -> dict[int, int]:
        """Pairs of a consumer's axis and the producer's axis that are one; the smaller space is covered entirely."""
        to: dict[int, int] = {}
        for edge in self._edges(consumer, producer):
            self._constrain(edge, to)
        if len(set(to.values())) != len(to):
            raise _Refused("it is read along a diagonal")
        open_consumer = [a for a in range(len(consumer.space)) if a not in to]
        open_producer = [a for a in range(len(producer.space)) if a not in to.values()]
        if open_consumer and open_producer:
            self._pair_open(consumer, producer, open_consumer, open_producer, to)
        elif open_producer and frozenset(open_producer) != producer.reduced:
            raise _Refused("it is read in part only")
        elif open_consumer and frozenset(open_consumer) != consumer.reduced:
            raise _Refused("it is repeated along an axis that only the consumer has")
        if any(consumer.space[a] != producer.space[b] for a, b in to.items()):
            raise _Refused("loops have different extents")
        return to

    def _pair_open(
        self, consumer: Group, producer: Group, mine: list[int], theirs: list[int], to: dict[int, int]
    ) -> None:
        """Axes that no operand ties: the loop that reduces may also be the loop that consumes the result (softmax)."""
        reducing = frozenset(theirs) == producer.reduced or frozenset(mine) == consumer.reduced
        extents = [consumer.space[a] for a in mine], [producer.space[b] for b in theirs]
        if not reducing or extents[0] != extents[1]:
            raise _Refused("it is repeated along an axis that only the consumer has")
        to.update(zip(mine, theirs, strict=True))

    def _constrain(self, edge: _Edge, to: dict[int, int]) -> None:
        """Enter the axis pairs that one read implies."""
        if edge.plain is None or edge.user_walk is None or edge.base_walk is None:
            raise _Refused("it is read under another index map")
        for own, used in zip(edge.base_walk, edge.plain, strict=True):
            if own is None or used is None:
                continue
            axis = edge.user_walk[used]
            if axis is None:
                raise _Refused("it is read at one index of an axis")
            mine, theirs = (own, axis) if edge.reverse else (axis, own)
            if to.setdefault(mine, theirs) != theirs:
                raise _Refused("it is read along two different axes")

    def _edges(self, consumer: Group, producer: Group) -> Iterator[_Edge]:
        """All reads between two groups; `reverse` ones are the producer's."""
        for a, b, reverse in ((consumer, producer, False), (producer, consumer, True)):
            for user in a.walks:
                for operand in user.operands:
                    for source in self.roles.trace(operand):
                        base = source.base.node
                        if base in b.walks:
                            walk = a.operand_walk(user)
                            indexed = isinstance(user.op, (Indexing, Random))
                            if isinstance(user.op, Elementwise) or user in a.reads:
                                yield _Edge(source.base, source.plain, walk, b.walks[base], reverse, indexed)
                            else:  # a movement that is real: its operands' dimensions are not its own
                                yield _Edge(source.base, None, None, b.walks[base], reverse, indexed)

    # -- checks ---------------------------------------------------------------------------------------------------------
    def _check_members(self, group: Group) -> None:
        axes = tuple(range(len(group.space)))
        kept = tuple(a for a in axes if a not in group.reduced)
        for walk in group.walks.values():
            walked = axes if walk is None else tuple(a for a in walk if a is not None)
            if walked not in (axes, kept):
                raise _Refused("results would be stored along other axes")
        if group.dot is not None:
            self._check_epilogue(group, group.dot)

    def _check_epilogue(self, group: Group, dot: Node) -> None:
        if group.reduced or sum(self.roles.role[n] == DOT for n in group.walks) != 1:
            raise _Refused("a kernel has one product and no reduction after it")
        if any(base in group.walks for base in self._bases(dot)):
            raise _Refused("a product reads its operands from memory")
        if not self._epilogue_fits(dot):
            raise _Refused("what follows the product is a sweep over several arrays")
        for node in group.walks:
            if node is not dot and not (isinstance(node.op, Elementwise) and self._affine(node)):
                raise _Refused("an epilogue is elementwise and loads without conditions")

    def _affine(self, node: Node) -> bool:
        """Whether a member's operands are reached without padding, joining or counting."""
        stack = list(node.operands)
        while stack:
            value = stack.pop()
            if self.roles.role[value.node] == LINK:
                if not (
                    foldable(value.node) or isinstance(value.node.op, Elementwise) or value.node.op.name == "constant"
                ):
                    return False
                stack.extend(value.node.operands)
        return True

    def _epilogue_fits(self, dot: Node) -> bool:
        """Whether all elementwise work that follows from a product is small; decided once for each product."""
        found = self.fits.get(dot)
        if found is not None:
            return found
        shape = dot.result.shape
        closure: set[Node] = set()
        stack = [dot]
        while stack and len(closure) <= MAX_EPILOGUE:
            for user in self.users.get(stack.pop(), ()):
                if user not in closure and isinstance(user.op, Elementwise) and user.result.shape == shape:
                    closure.add(user)
                    stack.append(user)
        arrays = {b for n in closure for b in self._bases(n) if b not in closure and b is not dot}
        full = sum(any(r.shape == shape for r in b.results if isinstance(r.type, TensorType)) for b in arrays)
        self.fits[dot] = len(closure) <= MAX_EPILOGUE and full <= MAX_EPILOGUE_ARRAYS
        return self.fits[dot]

    def _check_size(self, group: Group) -> None:
        arrays = {s.base for n in group.walks for v in n.operands for s in self.roles.trace(v)}
        if len(group.walks) > MAX_MEMBERS or sum(v.node not in group.walks for v in arrays) > MAX_ARRAYS:
            raise _Refused("the kernel would be too large")

    def _outside_users(self, group: Group) -> list[Node]:
        return [u for n in group.walks for u in self.users.get(n, ()) if u not in group.walks]

    # -- order between kernels --------------------------------------------------------------------------------------------
    def _unit(self, node: Node) -> list[Node]:
        """The nodes that run in one kernel with `node`."""
        group = self.group_of.get(node)
        return [node] if group is None else list(group.walks)

    def _bits(self, nodes: Iterable[Node]) -> int:
        bits = 0
        for node in nodes:
            bits |= 1 << self.roles.order[node]
        return bits

    def _ancestors(self, node: Node) -> int:
        bits = 0
        for base in self._bases(node):
            bits |= self.before[base] | self._bits(self._unit(base))
        return bits

    def _check_cycle(self, merged: Group) -> None:
        """Refuse if another kernel would have to run in between."""
        ours = self._bits(merged.walks)
        for member in merged.walks:
            for base in self._bases(member):
                if base not in merged.walks and self.before[base] & ours:
                    raise _Refused("another kernel has to run in between")

    def _enter(self, merged: Group) -> None:
        """Make a merged group the one of its members; what runs before any of them runs before all users of any."""
        ours = self._bits(merged.walks)
        before = 0
        for member in merged.walks:
            self.group_of[member] = merged
            before |= self.before[member]
        before &= ~ours
        for node, bits in self.before.items():
            if node in merged.walks:
                self.before[node] = before
            elif bits & ours:
                self.before[node] = bits | before | ours


@dataclass(frozen=True, slots=True)
class _Edge:
    """One read: `plain` maps the base's dimensions to the user's operand dimensions."""

    base: Value
    plain: Plain | None
    user_walk: Plain | None
    base_walk: Plain | None
    reverse: bool
    user_is_indexed: bool


def _seed(node: Node, dot: bool) -> Group:
    """A group of one node."""
    if isinstance(node.op, Reduction):
        (x,) = node.operands
        inner = inner_axes(x.shape)
        number = {a: i for i, a in enumerate(inner)}
        read = tuple(number.get(a) for a in range(len(x.shape)))
        removed = frozenset(node.attrs["axes"])
        walk = tuple(read[a] for a in range(len(x.shape)) if a not in removed)
        reduced = frozenset(number[a] for a in removed if a in number)
        return Group(tuple(x.shape[a] for a in inner), reduced, None, {node: walk}, {node: read})
    shape = node.result.shape
    inner = inner_axes(shape)
    number = {a: i for i, a in enumerate(inner)}
    walk = tuple(number.get(a) for a in range(len(shape)))
    return Group(tuple(shape[a] for a in inner), frozenset(), node if dot else None, {node: walk})


def _joined(base: Group, other: Group, to: dict[int, int]) -> Group:
    """`other` moved into the space of `base` by the axis map `to`."""

    def moved(walk: Plain | None) -> Plain | None:
        return None if walk is None else tuple(None if a is None else to[a] for a in walk)

    reduced = frozenset(to[a] for a in other.reduced)
    if base.reduced and reduced and base.reduced != reduced:
        raise _Refused("they reduce different axes")
    joined = Group(base.space, base.reduced | reduced, base.dot or other.dot)
    joined.walks.update(base.walks)
    joined.walks.update((n, moved(w)) for n, w in other.walks.items())
    joined.reads.update(base.reads)
    for node, read in other.reads.items():
        walk = moved(read)
        assert walk is not None
        joined.reads[node] = walk
    return joined
