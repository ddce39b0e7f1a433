"""Reverse-mode differentiation: the one driver of the dynamic tape and of the differentiation pass. Layer 2.

The driver walks steps (applications of ops) from last to first and asks each op's rule for its operands' cotangents. A
cotangent is a pair (value, mask): the cotangent is `value` where the mask holds and exactly zero elsewhere; mask None
means everywhere. Masks come from selections (`where`, `maximum`). They travel along through elementwise ops, so that an
infinite partial derivative of the side that was not taken never meets a zero; they are resolved into a `select` before
any op of another kind, where cotangents of several uses are added, and at the end. A mask may be dropped only by
resolving it.

Source of the algorithm: Griewank and Walther, Evaluating Derivatives (SIAM, 2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.ir.graph import Attribute
from graphc.ir.op import Builder, Op

__all__ = ["Cotangents", "Step", "backpropagate"]

Key = Hashable
Pair = tuple[Any, Any]


@dataclass(slots=True)
class Step:
    """One application of `op`: operands and results as the builder's values, with the keys under which cotangents of
    them are kept. An operand's key is None when nobody asks for its cotangent."""

    op: Op
    attrs: Mapping[str, Attribute]
    operands: Sequence[Any]
    results: Sequence[Any]
    operand_keys: Sequence[Key | None]
    result_keys: Sequence[Key]


class Cotangents:
    """Accumulated cotangents by key."""

    def __init__(self, b: Builder) -> None:
        self._b = b
        self._pairs: dict[Key, list[Pair]] = {}
        self._resolved: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def add(self, key: Key, value: Any, mask: Any = None) -> None:
        """Add a contribution."""
        self._pairs.setdefault(key, []).append((value, mask))

    def pop(self, key: Key) -> Pair | None:
        """The total for `key`, removed; None when nothing contributed."""
        pairs = self._pairs.pop(key, None)
        if pairs is None:
            return None
        if len(pairs) == 1:
            return pairs[0]
        total = self.resolve(*pairs[0])
        for pair in pairs[1:]:
            total = self._b.add(total, self.resolve(*pair))
        return total, None

    def resolve(self, value: Any, mask: Any) -> Any:
        """The cotangent without a mask: zero, exactly, where the mask does not hold."""
        if mask is None:
            return value
        known = self._resolved.get((id(value), id(mask)))
        if known is None:
            plain = self._b.select(mask, value, self._b.like(value, 0.0))
            known = self._resolved[id(value), id(mask)] = (plain, value, mask)
        return known[0]

    def pending(self, keys: Iterable[Key]) -> Iterable[Any]:
        """The newest contribution for each of `keys` that has one."""
        return [self._pairs[key][-1][0] for key in keys if key in self._pairs]

    def total(self, key: Key) -> Any:
        """The total for `key` without a mask, removed, or None."""
        pair = self.pop(key)
        return None if pair is None else self.resolve(*pair)


def backpropagate(b: Builder, steps: Iterable[Step], cotangents: Cotangents) -> None:
    """Propagate cotangents through `steps`, which come last to first; they end in `cotangents` under the operands' keys.

    A step none of whose results has a cotangent is skipped.
    """
    for step in steps:
        pairs = [cotangents.pop(key) for key in step.result_keys]
        if all(pair is None for pair in pairs):
            continue
        mask = None
        if step.op.kind == "elementwise" and pairs[0] is not None:
            value, mask = pairs[0]
            plain: list[Any] = [value]
        else:
            plain = [None if pair is None else cotangents.resolve(*pair) for pair in pairs]
        outward = step.op.differentiate(b, step.operands, step.results, plain, step.attrs)
        for key, out in zip(step.operand_keys, outward, strict=True):
            if key is None or out is None:
                continue
            value, own = out if isinstance(out, tuple) else (out, None)
            cotangents.add(key, value, _both(b, mask, own))


def _both(b: Builder, x: Any, y: Any) -> Any:
    if x is None or y is None:
        return y if x is None else x
    return b.bitwise_and(x, y)
