"""The buffer plan: lifetimes of temporaries and their places in one arena. Layer 4, codegen.

A *block* is a run of bytes that one or more values occupy one after another: a kernel may write a result over an operand
that dies (in place), and both are then one block. Blocks whose lifetimes do not meet may share bytes; `conflict` alone
decides that.

Invariants: blocks begin at multiples of 64 bytes; two blocks that conflict have no byte in common; the arena's size is
the largest end of a block. Where sizes are symbolic, blocks of equal size expressions share whole places, and offsets
are expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.codegen.actions import Action, InPlace, Layout
from graphc.ir.dims import Dim
from graphc.ir.graph import Value
from graphc.ir.types import TensorType

__all__ = ["ALIGN", "Block", "Plan", "Row", "conflict", "plan_arena", "share_blocks"]

ALIGN = 64


@dataclass(eq=False, slots=True)
class Block:
    """Bytes that are in use from action number `first` to `last`, both included."""

    size: Dim
    first: int
    last: int
    values: list[Value] = field(default_factory=list)
    offset: Dim = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the memory report: a value (or scratch) in the arena."""

    value: str
    bytes: Dim
    first: int
    last: int
    offset: Dim


@dataclass(frozen=True, slots=True)
class Plan:
    """Where temporaries are: offsets of roots, of the scratch of each action (by number), and the arena's size."""

    offsets: Mapping[Value, Dim]
    scratch: Mapping[int, Dim]
    arena_bytes: Dim
    rows: tuple[Row, ...]


def conflict(a: Block, b: Block) -> bool:
    """Whether two blocks are in use at the same time, so that they may not share bytes."""
    return a.first <= b.last and b.first <= a.last


def share_blocks(layout: Layout, in_place: InPlace) -> dict[Value, Block]:
    """The block of each arena value; where an operand dies and `in_place` allows, a result takes its block over, and the
    alias is entered into the action."""
    return _Blocks(layout, in_place).of


def plan_arena(blocks: Mapping[Value, Block], scratch: Mapping[int, Dim]) -> Plan:
    """Place all blocks, and the scratch that action i needs while it runs."""
    wanted = [b for b in dict.fromkeys(blocks.values()) if b.size != 0]
    work = {i: Block(size, i, i) for i, size in scratch.items() if size != 0}
    arena = _place([*wanted, *work.values()])
    rows = [Row(_names(b), b.size, b.first, b.last, b.offset) for b in wanted]
    rows += [Row("scratch", b.size, b.first, b.last, b.offset) for b in work.values()]
    rows.sort(key=lambda r: (r.first, r.last))
    offsets = {value: block.offset for value, block in blocks.items()}
    return Plan(offsets, {i: b.offset for i, b in work.items()}, arena, tuple(rows))


def _names(block: Block) -> str:
    return ", ".join(dict.fromkeys(f"{v.node.op.name} {v.type}" for v in block.values))


class _Blocks:
    """Makes the block of each arena value; values that replace one another in place share one."""

    def __init__(self, layout: Layout, in_place: InPlace) -> None:
        self.layout = layout
        self.in_place = in_place
        self.of: dict[Value, Block] = {}
        last_read: dict[Value, int] = {}
        for number, action in enumerate(layout.actions):
            last_read.update(dict.fromkeys(action.reads, number))
        for number, action in enumerate(layout.actions):
            for value in action.defines:
                if layout.homes[value].room == "arena" and isinstance(value.type, TensorType):
                    self._add(action, number, value, last_read.get(value, number))

    def _add(self, action: Action, number: int, value: Value, last: int) -> None:
        block = self._reused(action, number, value) or Block(value.tensor.nbytes, number, last)
        block.last = last
        block.values.append(value)
        self.of[value] = block

    def _reused(self, action: Action, number: int, value: Value) -> Block | None:
        """The block of an operand that dies here and may be overwritten with `value`."""
        if action.node is None:
            return None
        roots = [self.layout.roots[v] for v in action.node.operands]
        for place, root in enumerate(roots):
            block = self.of.get(root)
            if block is None or block.last != number or block.size != value.tensor.nbytes:
                continue
            if roots.count(root) > 1 or place in action.aliases.values() or block.values[-1] is not root:
                continue
            if self.in_place(action.node, place, value.index):
                action.aliases[value.index] = place
                return block
        return None


def _place(blocks: Sequence[Block]) -> Dim:
    """Give each block an offset; returns the arena's size."""
    end = _place_static([b for b in blocks if isinstance(b.size, int)])
    return _place_symbolic([b for b in blocks if not isinstance(b.size, int)], end)


def _place_static(blocks: Sequence[Block]) -> int:
    """Largest first, each into the smallest gap that takes it: within a few percent of optimal in practice."""
    placed: list[Block] = []
    end = 0
    for block in sorted(blocks, key=lambda b: (-_int(b.size), b.first)):
        block.offset = _best_gap(block, [p for p in placed if conflict(block, p)])
        placed.append(block)
        end = max(end, _int(block.offset) + _aligned(_int(block.size)))
    return end


def _best_gap(block: Block, neighbours: Sequence[Block]) -> int:
    """The offset of the smallest gap between conflicting blocks, or behind the last of them."""
    size = _aligned(_int(block.size))
    best: tuple[int, int] | None = None
    position = 0
    for other in sorted(neighbours, key=lambda b: _int(b.offset)):
        gap = _int(other.offset) - position
        if gap >= size and (best is None or gap < best[0]):
            best = gap, position
        position = max(position, _int(other.offset) + _aligned(_int(other.size)))
    return position if best is None else best[1]


def _place_symbolic(blocks: Sequence[Block], end: int) -> Dim:
    """Blocks of one size expression take turns in one place; places follow one another."""
    places: list[list[Block]] = []
    for block in sorted(blocks, key=lambda b: b.first):
        for place in places:
            if place[0].size == block.size and not any(conflict(block, other) for other in place):
                place.append(block)
                break
        else:
            places.append([block])
    offset: Dim = end
    for place in places:
        for block in place:
            block.offset = offset
        offset = offset + (place[0].size + (ALIGN - 1)) // ALIGN * ALIGN
    return offset


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _int(size: Dim) -> int:
    assert isinstance(size, int)
    return size
