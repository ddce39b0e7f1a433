"""The define-by-run tape. Layer 5.

Each recorded application of an op is a `TapeNode`; it holds the payloads (NumPy arrays in dynamic mode, graph values
while tracing) that derivative rules may need, and refers to where its operands came from. A reference is a pair (node,
result index), or a `Leaf`. Differentiation is the shared driver of `graphc.reverse` with the builder that fits the
payloads, or, for higher orders, with a builder that records again.

A saved array that was overwritten is found by version counters: a rule that touches it gets an error, a rule that does
not need it goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphc.errors import GradientError, OverwrittenError, message
from graphc.frontend.source import user_location
from graphc.ir.graph import Attribute
from graphc.ir.location import Location
from graphc.ir.op import Op
from graphc.ir.types import TensorType
from graphc.reverse import Step

__all__ = ["Leaf", "Reference", "Stale", "TapeNode", "newest", "steps_from", "topological"]


class Leaf:
    """A tensor that the user asked gradients of, as the start of a tape. It is `closed` when it was the variable of a
    transform whose function has come to its end: what depends on it needs no record for its sake."""

    __slots__ = ("closed", "tensor")

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.closed = False


Reference = Leaf | tuple["TapeNode", int]


class Stale:
    """Stands for a saved array that was overwritten; using it raises."""

    __slots__ = ("_op", "_where", "type")

    def __init__(self, type_: TensorType, op: str, where: Location | None) -> None:
        self.type = type_
        self._op = op
        self._where = where

    def fail(self) -> OverwrittenError:
        """The error to raise on use."""
        return OverwrittenError(
            message(
                f"a value that the derivative of {self._op} needs was overwritten in place after it was used",
                operands=[("value", self.type), *_used(self._op, self._where)],
                location=user_location(),
                hint="Write to a copy, or make the in-place change after backward().",
            )
        )

    def _use(self, *_: Any, **__: Any) -> Any:
        raise self.fail()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _use
    __array__ = __pow__ = _use


def _used(op: str, where: Location | None) -> list[tuple[str, object]]:
    return [] if where is None else [(f"{op} at", where)]


#: Numbers of the nodes in the order of their making.
_SERIALS = itertools.count(1)


def newest() -> int:
    """A number that nodes made from now on exceed, and older ones do not."""
    return next(_SERIALS)


class TapeNode:
    """One recorded application. `saved` is None once the tape was freed by `backward()`."""

    __slots__ = ("attrs", "op", "parents", "saved", "serial", "types", "versions", "where")

    def __init__(
        self,
        op: Op,
        attrs: Mapping[str, Attribute],
        parents: tuple[Reference | None, ...],
        saved: tuple[tuple[Any, ...], tuple[Any, ...]],
        types: tuple[tuple[TensorType, ...], tuple[TensorType, ...]],
        versions: tuple[tuple[Any, int] | None, ...],
        where: Location | None,
    ) -> None:
        self.serial = next(_SERIALS)
        self.op = op
        self.attrs = attrs
        self.parents = parents
        self.saved: tuple[tuple[Any, ...], tuple[Any, ...]] | None = saved
        self.types = types
        self.versions = versions
        self.where = where

    def payloads(self) -> tuple[list[Any], list[Any]]:
        """Operands and results; those that were overwritten since are replaced by `Stale`."""
        if self.saved is None:
            raise GradientError(
                message(
                    f"the tape behind {self.op.name} was freed by an earlier backward()",
                    operands=_used(self.op.name, self.where),
                    location=user_location(),
                    hint="Pass retain_graph=True to the first backward() to differentiate twice.",
                )
            )
        flat = [*self.saved[0], *self.saved[1]]
        types = [*self.types[0], *self.types[1]]
        for i, entry in enumerate(self.versions):
            if entry is not None and entry[0].number != entry[1]:
                flat[i] = Stale(types[i], self.op.name, self.where)
        return flat[: len(self.saved[0])], flat[len(self.saved[0]) :]


def topological(roots: Sequence[TapeNode]) -> list[TapeNode]:
    """Nodes that `roots` depend on, operands first; iterative."""
    order: list[TapeNode] = []
    seen: set[TapeNode] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack: list[tuple[TapeNode, Iterator[Reference | None]]] = [(root, iter(root.parents))]
        while stack:
            node, parents = stack[-1]
            for parent in parents:
                if isinstance(parent, tuple) and parent[0] not in seen:
                    seen.add(parent[0])
                    stack.append((parent[0], iter(parent[0].parents)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def steps_from(nodes: Sequence[TapeNode], wrap: Any = None) -> Iterator[tuple[TapeNode, Step]]:
    """Steps for the driver, last node first. `wrap(payload, reference)` turns a payload into the builder's value."""
    for node in reversed(nodes):
        operands, results = node.payloads()
        keys: list[tuple[TapeNode, int]] = [(node, i) for i in range(len(results))]
        if wrap is not None:
            operands = [wrap(x, parent) for x, parent in zip(operands, node.parents, strict=True)]
            results = [wrap(y, key) for y, key in zip(results, keys, strict=True)]
        yield node, Step(node.op, node.attrs, operands, results, node.parents, keys)
