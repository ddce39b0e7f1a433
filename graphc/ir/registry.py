"""The table of ops by name. Layer 1: the op modules fill it, everything else looks ops up in it."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from graphc.errors import GraphcError

if TYPE_CHECKING:
    from graphc.ir.op import Op

__all__ = ["all_ops", "get", "register"]

_OPS: dict[str, Op] = {}

OpT = TypeVar("OpT", bound="Op")


def register(op: OpT) -> OpT:
    """Enter an op; names are unique."""
    if op.name in _OPS:
        raise GraphcError(f"an op named {op.name!r} is registered already")
    _OPS[op.name] = op
    return op


def get(name: str) -> Op:
    """The op called `name`."""
    try:
        return _OPS[name]
    except KeyError:
        near = get_close_matches(name, _OPS, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise GraphcError(f"there is no op {name!r}{hint}") from None


def all_ops() -> Iterator[Op]:
    """All ops, in order of declaration."""
    return iter(_OPS.values())
